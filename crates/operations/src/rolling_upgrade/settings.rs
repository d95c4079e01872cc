//! The settings that the command line gives.

use std::time::Duration;

use super::through_helm::HelmTurn;
use crate::engine::{EtcdAccess, Intent, RunLocation, RunSettings};
use milvus_guard_core::{api::searches::MAX_SEARCHES, milvus::Version};
use milvus_guard_sources::{
    etcd::Tls,
    milvus::{CollectionName, Login, NotACollection},
};

/// What a command does with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Upgrade, or resume.
    Update,
    /// Put images and strategies back as the run recorded them, in the reverse order.
    Rollback,
    /// End the run at its current step.
    Abort,
}

impl Operation {
    /// The value of the flag.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Rollback => "rollback",
            Self::Abort => "abort",
        }
    }

    /// The intent for the life cycle of the run.
    #[must_use]
    pub const fn intent(self) -> Intent {
        match self {
            Self::Update => Intent::Forward,
            Self::Rollback => Intent::Back,
            Self::Abort => Intent::End,
        }
    }
}

/// At which address Milvus is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AskMilvus {
    /// At the Service of the release.
    #[default]
    AtService,
    /// At an address.
    At(String),
    /// Milvus is not asked.
    Never,
}

impl AskMilvus {
    /// The value of the flag for [`Self::Never`].
    pub const NEVER: &'static str = "none";

    /// From the value of the flag.
    #[must_use]
    pub fn typed_as(text: Option<&str>) -> Self {
        match text {
            None | Some("") => Self::AtService,
            Some(Self::NEVER) => Self::Never,
            Some(address) => Self::At(address.to_owned()),
        }
    }

    /// The value of the flag.
    #[must_use]
    pub fn typed(&self) -> Option<&str> {
        match self {
            Self::AtService => None,
            Self::At(address) => Some(address),
            Self::Never => Some(Self::NEVER),
        }
    }
}

/// The collections in which searches must find again what they found before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SearchedCollections {
    /// Some of the loaded collections.
    #[default]
    Loaded,
    /// These collections, from which no rows are deleted during the run.
    Named(Vec<CollectionName>),
    /// No collections.
    Never,
}

impl SearchedCollections {
    /// The value of the flag for [`Self::Never`].
    pub const NEVER: &'static str = "none";

    /// From the values of the flag.
    ///
    /// # Errors
    /// If the values name no valid collections.
    pub fn typed_as(texts: &[String]) -> Result<Self, NoSuchCollections> {
        match texts {
            [] => Ok(Self::Loaded),
            [one] if one == Self::NEVER => Ok(Self::Never),
            texts if texts.iter().any(|text| text == Self::NEVER) => Err(NoSuchCollections::Both),
            texts if texts.len() > MAX_SEARCHES => Err(NoSuchCollections::TooMany),
            texts => {
                let names = texts.iter().map(|text| text.parse());
                Ok(Self::Named(names.collect::<Result<_, _>>()?))
            }
        }
    }

    /// The values of the flag, one for each time that it is given.
    #[must_use]
    pub fn typed(&self) -> Vec<String> {
        match self {
            Self::Loaded => Vec::new(),
            Self::Named(names) => names.iter().map(ToString::to_string).collect(),
            Self::Never => vec![Self::NEVER.to_owned()],
        }
    }
}

/// Why the given collections cannot be searched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchCollections {
    /// A text that is not the name of a collection.
    #[error("--probe-collection: {0}")]
    Name(#[from] NotACollection),
    /// `none` together with a collection.
    #[error(
        "--probe-collection: '{}' together with a collection",
        SearchedCollections::NEVER
    )]
    Both,
    /// More collections than a run stores.
    #[error("--probe-collection: more than {MAX_SEARCHES} collections")]
    TooMany,
}

/// How to connect to Milvus.
#[derive(Clone, Debug, Default)]
pub struct MilvusAccess {
    /// The address (`--milvus`).
    pub ask: AskMilvus,
    /// The name in its certificate, if it is not the host of the address.
    pub server_name: Option<String>,
    /// User and password, or a token.
    pub login: Login,
    /// TLS settings, if the system's certificate authorities are not enough.
    pub tls: Option<Tls>,
    /// The collections in which searches are compared (`--probe-collection`).
    pub searched: SearchedCollections,
}

/// Whether sessions of pods that have ended are removed from etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionHelp {
    /// As soon as the pod is proven to have ended.
    #[default]
    On,
    /// Never: they end with their lease (`--no-session-help`).
    Off,
}

/// The settings of an upgrade.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The settings that all kinds of runs share.
    pub run: RunSettings,
    /// Version after the upgrade (`-t`). `None` for a rollback or an end of the run that takes it
    /// from the record of the run.
    pub target: Option<Version>,
    /// What Helm changes, if Helm brings the new templates.
    pub helm: Option<HelmTurn>,
    /// Image of the new version (`-w`); absent means the running repository at `v<target>`.
    pub image: Option<String>,
    /// How to connect to Milvus.
    pub milvus: MilvusAccess,
    /// How to connect to its etcd.
    pub etcd: EtcdAccess,
    /// Whether sessions of pods that have ended are removed from etcd.
    pub session_help: SessionHelp,
    /// A row of the orders that are still to be measured, in place of the known order.
    pub candidate_order: Option<String>,
    /// Where the run is carried out.
    pub location: RunLocation,
    /// How long to wait for a pod that cannot pull its image, or crashes repeatedly.
    pub hopeless: Duration,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[], Ok(SearchedCollections::Loaded))]
    #[case(&["none"], Ok(SearchedCollections::Never))]
    #[case(&["none", "books"], Err(NoSuchCollections::Both))]
    #[case(&["a"; 17], Err(NoSuchCollections::TooMany))]
    fn collections_are_parsed_from_flag_values(
        #[case] texts: &[&str],
        #[case] expected: Result<SearchedCollections, NoSuchCollections>,
    ) {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(SearchedCollections::typed_as(&texts), expected);
    }

    #[test]
    fn flag_values_are_kept() {
        let texts = ["books".to_owned(), "shop/books".to_owned()];
        let named = SearchedCollections::typed_as(&texts).unwrap();
        assert_eq!(named.typed(), texts);
        let wrong = SearchedCollections::typed_as(&["a b".into()]).unwrap_err();
        assert!(
            wrong.to_string().contains("'a b' is not the name"),
            "{wrong}"
        );
    }
}
