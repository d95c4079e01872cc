//! One side of a change, as the command line names it.

use std::{str::FromStr, sync::Arc};

use milvus_guard_core::milvus::catalogue::Wanted;

/// One side of a change, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Source {
    /// A file, a directory, or `-`.
    File(String),
    /// A revision in Helm's storage.
    Revision { name: String, revision: Option<u64> },
    /// The running state.
    Live,
    /// The current state, at another version.
    Version(Wanted),
    /// Manifests in memory, rendered by Helm.
    Text {
        /// Its name in reports.
        name: &'static str,
        text: Arc<str>,
    },
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "live" {
            return Ok(Self::Live);
        }
        if let Some(version) = text.strip_prefix("version:") {
            return version
                .parse()
                .map(Self::Version)
                .map_err(|error| error.to_string());
        }
        if let Some(release) = text.strip_prefix("release:") {
            let (name, revision) = match release.split_once('@') {
                Some((name, revision)) => {
                    let number = revision
                        .parse()
                        .map_err(|_| format!("'{revision}' is not a revision number"))?;
                    (name, Some(number))
                }
                None => (release, None),
            };
            if name.is_empty() {
                return Err("release: needs a name, as in release:my-release or \
                            release:my-release@3"
                    .into());
            }
            return Ok(Self::Revision {
                name: name.to_owned(),
                revision,
            });
        }
        if text.is_empty() {
            Err("an input must not be empty".into())
        } else {
            Ok(Self::File(text.to_owned()))
        }
    }
}

impl Source {
    /// Whether a cluster must be asked.
    pub(in crate::cli) fn needs_cluster(&self) -> bool {
        matches!(self, Self::Live | Self::Revision { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_parsed() {
        assert_eq!("live".parse(), Ok(Source::Live));
        assert_eq!(
            "release:a@3".parse(),
            Ok(Source::Revision {
                name: "a".into(),
                revision: Some(3)
            })
        );
        assert_eq!(
            "release:a".parse(),
            Ok(Source::Revision {
                name: "a".into(),
                revision: None
            })
        );
        assert_eq!("a.yaml".parse(), Ok(Source::File("a.yaml".into())));
        assert!("release:a@x".parse::<Source>().is_err());
        assert_eq!(
            "version:latest".parse(),
            Ok(Source::Version(Wanted::Latest))
        );
        assert!("version:newest".parse::<Source>().is_err());
        assert!("release:".parse::<Source>().is_err());
    }
}
