//! What the command line asks for.

use std::time::Duration;

use super::through_helm::HelmTurn;
use crate::engine::{EtcdAccess, Intent, RunSettings};
use milvus_guard_core::{api::searches::MAX_SEARCHES, milvus::Version};
use milvus_guard_sources::{
    etcd::Tls,
    milvus::{CollectionName, Login, NotACollection},
};

/// What to do with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Upgrade, or resume.
    Update,
    /// Put images and strategies back as the run recorded them, in the reverse order.
    Rollback,
    /// End the run where it stands.
    Abort,
}

impl Operation {
    /// As it is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Rollback => "rollback",
            Self::Abort => "abort",
        }
    }

    /// What it does with its run.
    #[must_use]
    pub const fn intent(self) -> Intent {
        match self {
            Self::Update => Intent::Forward,
            Self::Rollback => Intent::Back,
            Self::Abort => Intent::End,
        }
    }
}

/// Where Milvus itself is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AskMilvus {
    /// At the Service of the release.
    #[default]
    AtService,
    /// At an address.
    At(String),
    /// Nowhere.
    Never,
}

impl AskMilvus {
    /// What is typed for [`Self::Never`].
    pub const NEVER: &'static str = "none";

    /// What was typed for it.
    #[must_use]
    pub fn typed_as(text: Option<&str>) -> Self {
        match text {
            None | Some("") => Self::AtService,
            Some(Self::NEVER) => Self::Never,
            Some(address) => Self::At(address.to_owned()),
        }
    }

    /// As it is typed.
    #[must_use]
    pub fn typed(&self) -> Option<&str> {
        match self {
            Self::AtService => None,
            Self::At(address) => Some(address),
            Self::Never => Some(Self::NEVER),
        }
    }
}

/// In which collections searches must find again what they found before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SearchedCollections {
    /// In some of those that are loaded.
    #[default]
    Loaded,
    /// In these, from which no rows are deleted meanwhile.
    Named(Vec<CollectionName>),
    /// In none.
    Never,
}

impl SearchedCollections {
    /// What is typed for [`Self::Never`].
    pub const NEVER: &'static str = "none";

    /// What was typed for it.
    ///
    /// # Errors
    /// What cannot be meant.
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

    /// As it is typed, one text for each time the flag is given.
    #[must_use]
    pub fn typed(&self) -> Vec<String> {
        match self {
            Self::Loaded => Vec::new(),
            Self::Named(names) => names.iter().map(ToString::to_string).collect(),
            Self::Never => vec![Self::NEVER.to_owned()],
        }
    }
}

/// Why collections to be searched cannot be taken as they were typed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchCollections {
    /// A text that names no collection.
    #[error("--probe-collection: {0}")]
    Name(#[from] NotACollection),
    /// Some, and none.
    #[error(
        "--probe-collection: '{}' together with a collection",
        SearchedCollections::NEVER
    )]
    Both,
    /// More than a run keeps.
    #[error("--probe-collection: more than {MAX_SEARCHES} collections")]
    TooMany,
}

/// How Milvus itself is asked.
#[derive(Clone, Debug, Default)]
pub struct MilvusAccess {
    /// Where (`--milvus`).
    pub ask: AskMilvus,
    /// The name in its certificate, where it is not the host of the address.
    pub server_name: Option<String>,
    /// Who asks.
    pub login: Login,
    /// TLS, where it takes more than the system's certificate authorities.
    pub tls: Option<Tls>,
    /// In which collections searches are compared (`--probe-collection`).
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

/// Where a run is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunLocation {
    /// In the cluster.
    #[default]
    Job,
    /// In the process of the person who asked (`--local`).
    Local,
}

/// What an upgrade is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What all kinds of runs are told.
    pub run: RunSettings,
    /// Version after (`-t`).
    pub target: Version,
    /// What Helm changes, where Helm brings the new templates.
    pub helm: Option<HelmTurn>,
    /// Image of the new version (`-w`); absent means the running repository at `v<target>`.
    pub image: Option<String>,
    /// How Milvus itself is asked.
    pub milvus: MilvusAccess,
    /// How its etcd is asked.
    pub etcd: EtcdAccess,
    /// Whether sessions of pods that have ended are removed from it.
    pub session_help: SessionHelp,
    /// A row of the orders that are to be measured, in place of the order that is known.
    pub candidate_order: Option<String>,
    /// Where it is made.
    pub location: RunLocation,
    /// For a pod that cannot pull its image, or crashes again and again.
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
    fn collections_are_typed(
        #[case] texts: &[&str],
        #[case] expected: Result<SearchedCollections, NoSuchCollections>,
    ) {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(SearchedCollections::typed_as(&texts), expected);
    }

    #[test]
    fn what_was_typed_can_be_typed_again() {
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
