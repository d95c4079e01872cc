//! The systems that hold Milvus' data: how their workloads are recognised.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use aho_corasick::{AhoCorasick, packed};
use memchr::memmem;

use crate::manifest::object::{Labels, Workload};

use super::image::ImageRef;

/// A kind of system beside Milvus in the same release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// etcd: metadata.
    Etcd,
    /// `MinIO`: object storage.
    Minio,
    /// Pulsar of the 2.x chart.
    PulsarV2,
    /// Pulsar of the 3.x chart.
    PulsarV3,
    /// Kafka.
    Kafka,
    /// Zookeeper of Kafka (Pulsar's own counts as Pulsar).
    Zookeeper,
    /// Woodpecker as a service of its own.
    Woodpecker,
    /// `MySQL`, the optional metastore of charts 3.1.1 to 4.1.7.
    Mysql,
    /// `TiKV`.
    Tikv,
}

impl Family {
    /// Whether this is a message queue.
    #[must_use]
    pub const fn is_queue(self) -> bool {
        matches!(self, Self::PulsarV2 | Self::PulsarV3 | Self::Kafka | Self::Woodpecker)
    }

    /// The name that people use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Minio => "MinIO",
            Self::PulsarV2 => "Pulsar v2",
            Self::PulsarV3 => "Pulsar v3",
            Self::Kafka => "Kafka",
            Self::Zookeeper => "ZooKeeper",
            Self::Woodpecker => "Woodpecker",
            Self::Mysql => "MySQL",
            Self::Tikv => "TiKV",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A workload of a dependency.
#[derive(Clone, Debug, PartialEq)]
pub struct Dependency {
    /// What it is.
    pub family: Family,
    /// Its workload.
    pub workload: Arc<Workload>,
}

impl Dependency {
    /// The image of the main container.
    #[must_use]
    pub fn image(&self) -> Option<ImageRef> {
        self.workload.pod.containers.first().map(|container| ImageRef::parse(&container.image))
    }

    /// Whether the workload keeps data on volumes that outlive its pods.
    #[must_use]
    pub fn holds_data(&self) -> bool {
        use crate::manifest::object::VolumeSource;
        self.workload.stateful.as_ref().is_some_and(|stateful| !stateful.claim_templates.is_empty())
            || self.workload.pod.volumes.iter().any(|volume| matches!(volume.source, VolumeSource::Claim(_)))
    }
}

/// The Helm release that a workload says it belongs to.
#[must_use]
pub fn instance(workload: &Workload) -> Option<&str> {
    let pick = |labels| label(labels, "app.kubernetes.io/instance").or_else(|| label(labels, "release"));
    pick(&workload.selector)
        .or_else(|| pick(&workload.meta.labels))
        .or_else(|| workload.meta.annotation("meta.helm.sh/release-name"))
}

fn label<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    labels.get(key)
}

/// Text that holds none of these words holds neither Milvus nor anything that [`family`] recognises.
const WORDS: [&str; 9] = ["milvus", "etcd", "minio", "pulsar", "kafka", "zookeeper", "woodpecker", "mysql", "tikv"];

/// Whether a text may hold Milvus or what it stands on; where it certainly does not, no tree is built. An escaped letter
/// could hide a word, so any escape of that kind goes the long way.
#[must_use]
pub fn may_be_ours(text: &str) -> bool {
    /// The fast search where the processor has it, and the one that always is.
    static SEARCH: LazyLock<(Option<packed::Searcher>, Option<AhoCorasick>)> =
        LazyLock::new(|| (packed::Searcher::new(WORDS), AhoCorasick::new(WORDS).ok()));
    let holds_word = match &*SEARCH {
        (Some(search), _) => search.find(text).is_some(),
        (None, Some(search)) => search.is_match(text),
        (None, None) => true,
    };
    holds_word || memmem::find(text.as_bytes(), b"\\u").is_some()
}

/// Recognises a dependency by the labels that its chart cannot change after installation, else by its image.
#[must_use]
pub fn family(workload: &Workload) -> Option<Family> {
    let of = |key: &str| label(&workload.selector, key).or_else(|| workload.meta.label(key));
    match of("app.kubernetes.io/name") {
        Some("etcd") => return Some(Family::Etcd),
        Some("kafka") => return Some(Family::Kafka),
        Some("zookeeper") => return Some(Family::Zookeeper),
        Some("mysql") => return Some(Family::Mysql),
        Some("tikv") => return Some(Family::Tikv),
        _ => {}
    }
    match of("app") {
        Some("minio") => return Some(Family::Minio),
        Some("pulsarv3") => return Some(Family::PulsarV3),
        Some("pulsar" | "pulsarv2") => return Some(Family::PulsarV2),
        _ => {}
    }
    if of("component") == Some("woodpecker") {
        return Some(Family::Woodpecker);
    }
    let image = ImageRef::parse(&workload.pod.containers.first()?.image);
    match image.name() {
        "etcd" => Some(Family::Etcd),
        "minio" => Some(Family::Minio),
        "kafka" => Some(Family::Kafka),
        "zookeeper" => Some(Family::Zookeeper),
        "woodpecker" => Some(Family::Woodpecker),
        "pulsar" | "pulsar-all" => {
            let third = image.tag.as_deref().is_some_and(|tag| tag.starts_with('3') || tag.starts_with('4'));
            Some(if third { Family::PulsarV3 } else { Family::PulsarV2 })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::manifest::{Object, Origin, documents};

    #[rstest]
    #[case("app.kubernetes.io/name", "etcd")]
    #[case("app.kubernetes.io/name", "kafka")]
    #[case("app.kubernetes.io/name", "zookeeper")]
    #[case("app.kubernetes.io/name", "mysql")]
    #[case("app.kubernetes.io/name", "tikv")]
    #[case("app", "minio")]
    #[case("app", "pulsar")]
    #[case("app", "pulsarv2")]
    #[case("app", "pulsarv3")]
    #[case("component", "woodpecker")]
    fn whatever_is_recognised_is_among_the_words(#[case] key: &str, #[case] value: &str) {
        let text = format!("kind: StatefulSet\nmetadata: {{name: x}}\nspec: {{selector: {{matchLabels: {{{key}: {value}}}}}}}\n");
        let document = documents(&text).next().unwrap().unwrap();
        let origin = Origin { source: "x".into(), document: 1, line: 0 };
        let Some(Object::Workload(workload)) = Object::read(&document.root, &origin, None) else { panic!("a workload") };
        assert!(family(&workload).is_some() && WORDS.iter().any(|word| text.contains(word)));
    }
}
