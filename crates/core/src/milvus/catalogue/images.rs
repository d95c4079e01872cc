//! Repositories of images: mirrors of Milvus, and images of dependencies that their
//! publishers removed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::{
    image::ImageRef,
    queue_kind::QueueKind,
    version::{Line, Range},
};

/// Known forms of Milvus' repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirrors {
    /// Whole repositories.
    pub mirrors: Vec<Mirror>,
    /// Last path elements that mark a mirror (`milvusdb/milvus`).
    pub suffixes: Vec<String>,
    /// Repositories of development builds.
    #[serde(default)]
    pub dev_repositories: Vec<String>,
}

/// One known repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirror {
    /// Repository as written in a manifest.
    pub repository: String,
    /// Where it was seen.
    pub source: Vec<String>,
}

impl Mirrors {
    /// Whether a repository is a known form of Milvus' own.
    #[must_use]
    pub fn knows(&self, image: &ImageRef) -> bool {
        self.mirrors
            .iter()
            .any(|mirror| mirror.repository == image.repository)
            || self.suffixes.iter().any(|suffix| {
                image.repository == *suffix
                    || image
                        .repository
                        .strip_suffix(suffix.as_str())
                        .is_some_and(|rest| rest.ends_with('/'))
            })
    }
}

/// Facts about dependency images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DependencyFacts {
    /// `MinIO`'s release from which on the filesystem backend no longer exists
    /// (`RELEASE.2022-10-29...` as a date).
    pub minio_filesystem_cutoff: String,
    /// Where that is known from.
    pub minio_source: Vec<String>,
    /// etcd's minor lines in their order. etcd moves one line at a time.
    #[serde(default)]
    pub etcd_lines: Vec<Line>,
    /// Where that is known from.
    #[serde(default)]
    pub etcd_source: Vec<String>,
    /// From when on Kafka runs without `ZooKeeper`.
    #[serde(default)]
    pub kafka_raft: Option<KafkaRaft>,
    /// Queues that not every version of Milvus has.
    #[serde(default)]
    pub queues: Vec<QueueVersions>,
    /// Where images keep their data by default.
    #[serde(default)]
    pub data_folders: Vec<ImageFolders>,
    /// Repositories that are no longer published.
    pub vanished: Vec<VanishedImage>,
    /// Service names whose injected variables break Milvus' configuration.
    pub shadowing_services: Vec<String>,
    /// Where that is known from.
    pub shadowing_source: Vec<String>,
}

/// The versions of Milvus that have a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueVersions {
    /// The queue.
    pub queue: QueueKind,
    /// Which versions.
    pub versions: Range,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// The lines of Kafka in which it can, or must, keep its metadata itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaRaft {
    /// The first line that cannot use `ZooKeeper`.
    pub only: Line,
    /// The same in the numbers of the Confluent Platform.
    pub only_confluent: Line,
    /// The first line that does not need `ZooKeeper`.
    pub since: Line,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// Where an image keeps its data if neither its command line nor a variable names a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageFolders {
    /// Paths of repositories, without the registry host and what a mirror puts before them.
    pub images: Vec<String>,
    /// One of these, by the version; the working folder if there are none.
    pub folders: Vec<String>,
    /// Where that is known from.
    pub source: Vec<String>,
}

impl ImageFolders {
    /// Whether an image is one of these.
    #[must_use]
    pub fn describes(&self, image: &ImageRef) -> bool {
        let path = image.path();
        self.images.iter().any(|known| {
            path.strip_suffix(known.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        })
    }
}

/// A repository that is no longer published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VanishedImage {
    /// Path of a repository on Docker Hub, without the registry host; with `/` at its end, the
    /// beginning of one.
    pub prefix: String,
    /// Where the images went, with a registry host where that is another one. It takes the place
    /// of `prefix`.
    pub moved_to: Option<String>,
    /// Tags below this one went nowhere: no registry has them any more.
    #[serde(default)]
    pub lost_before: Option<String>,
    /// Where that is known from.
    pub source: Vec<String>,
}

impl VanishedImage {
    /// Whether an image comes from this repository.
    #[must_use]
    pub fn describes(&self, image: &ImageRef) -> bool {
        let on_docker_hub = image
            .registry()
            .is_none_or(|registry| registry == "docker.io" || registry.ends_with(".docker.io"));
        let path = image.path();
        on_docker_hub
            && if self.prefix.ends_with('/') {
                path.starts_with(&self.prefix)
            } else {
                path == self.prefix
            }
    }

    /// The same image at its new place. `None` if there is none for this tag.
    #[must_use]
    pub fn at_new_place(&self, image: &ImageRef) -> Option<ImageRef> {
        let lost = self
            .lost_before
            .as_deref()
            .zip(image.tag.as_deref())
            .is_some_and(|(first, tag)| tag < first);
        let moved = self.moved_to.as_deref().filter(|_| !lost)?;
        let rest = image.path().strip_prefix(&self.prefix)?;
        Some(ImageRef {
            repository: format!("{moved}{rest}"),
            ..image.clone()
        })
    }
}
