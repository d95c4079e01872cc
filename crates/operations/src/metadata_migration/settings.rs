//! The settings that the command line gives.

use std::path::PathBuf;

use crate::engine::{EtcdAccess, Intent, RunLocation, RunSettings};
use milvus_guard_core::milvus::Version;
use milvus_guard_metadata::model::versions::{Transition, VersionsError, transition};

pub use crate::engine::release::image_fits as image;

/// What a command does with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Migrate, or resume migrating.
    Migrate,
    /// Restore metadata, images and replicas as the run recorded them.
    Rollback,
    /// End the run at its current step.
    Abort,
    /// Check a migration that another tool made, and record the evidence.
    Record,
}

impl Operation {
    /// The value of the flag.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Migrate => "migrate",
            Self::Rollback => "rollback",
            Self::Abort => "abort",
            Self::Record => "record",
        }
    }

    /// The intent for the life cycle of the run.
    #[must_use]
    pub const fn intent(self) -> Intent {
        match self {
            Self::Migrate | Self::Record => Intent::Forward,
            Self::Rollback => Intent::Back,
            Self::Abort => Intent::End,
        }
    }
}

/// Who starts the new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartBy {
    /// The run, in order.
    Run,
    /// One `helm upgrade`, made by a person or a pipeline.
    Helm,
}

/// The settings of a migration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The settings that all kinds of runs share.
    pub run: RunSettings,
    /// Version before the migration (`-s`).
    pub source: Version,
    /// Version after the migration (`-t`).
    pub target: Version,
    /// Root path of the metadata (`-r`); absent means that of the configuration.
    pub root_path: Option<String>,
    /// Image of the new version (`-w`); absent means the running repository at `v<target>`.
    pub image: Option<String>,
    /// Image of the official tool (`-m`); absent means our own migration.
    pub tool_image: Option<String>,
    /// How to connect to the etcd of the release.
    pub etcd: EtcdAccess,
    /// Who starts the new version.
    pub start: StartBy,
    /// Whether a rollback may lose data that was written to 2.2 since the backup.
    pub accept_data_loss: bool,
    /// Folder of the backup.
    pub backup_dir: PathBuf,
    /// The claim that is mounted at this folder, in a Job.
    pub backup_claim: Option<String>,
    /// Where the run is carried out.
    pub location: RunLocation,
}

/// Why no migration exists from one version to the other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// There is no such migration, or a text is not a version.
    #[error(transparent)]
    Transition(#[from] VersionsError),
    /// The metadata need not change.
    #[error(
        "{from} and {to} have the same metadata format: a migration is not needed, upgrade Milvus \
         directly"
    )]
    SameFormat {
        /// Version before the migration, as given.
        from: String,
        /// Version after the migration, as given.
        to: String,
    },
    /// A version that is not the name of a release.
    #[error("'{0}' is not a release of Milvus, such as 2.1.4")]
    NotARelease(String),
}

/// Parses the pair of versions, and refuses a pair without a migration.
///
/// # Errors
/// What is wrong with the pair.
pub fn versions(source: &str, target: &str) -> Result<(Version, Version), PairError> {
    let plain = |text: &str| text.trim().trim_start_matches('v').to_owned();
    let (from, to) = (plain(source), plain(target));
    if transition(&from, &to)? == Transition::Compatible {
        return Err(PairError::SameFormat { from, to });
    }
    let read = |text: &str| {
        text.parse::<Version>()
            .map_err(|_| PairError::NotARelease(text.to_owned()))
    };
    Ok((read(&from)?, read(&to)?))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2.1.4", "2.2.16", Ok(()))]
    #[case("v2.1.0", "v2.2.0", Ok(()))]
    #[case("2.2.3", "2.2.16", Err("2.2.3 already has the metadata of 2.2"))]
    #[case("2.1.4", "2.3.0", Err("migrated to 2.2 only, not to 2.3.0"))]
    #[case("2.0.2", "2.2.16", Err("upgrade Milvus to 2.1.4 first"))]
    #[case("2.1.0", "2.1.4", Err("a migration is not needed"))]
    #[case("2.2.16", "2.1.4", Err("lower than the source"))]
    #[case("latest", "2.2.16", Err("is not a version"))]
    fn pairs_of_versions_are_checked(
        #[case] source: &str,
        #[case] target: &str,
        #[case] expected: Result<(), &str>,
    ) {
        match (versions(source, target), expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => {
                let text = error.to_string();
                assert!(text.contains(part), "{text}");
            }
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }
}
