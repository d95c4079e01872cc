//! The systems that hold Milvus' data: how their workloads are recognised.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use aho_corasick::{AhoCorasick, packed};
use memchr::memmem;

use crate::manifest::object::{Container, Labels, VolumeSource, Workload};

use super::image::ImageRef;

/// A kind of system in addition to Milvus in the same release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// etcd: metadata.
    Etcd,
    /// `MinIO`: object storage. An image of its fork Silo in a workload of `MinIO` counts as
    /// `MinIO`: the data stays.
    Minio,
    /// Silo, the fork of `MinIO`, under its own chart: other workloads and volumes than `MinIO`'s.
    Silo,
    /// Pulsar of the 2.x chart.
    PulsarV2,
    /// Pulsar of the 3.x chart.
    PulsarV3,
    /// Kafka.
    Kafka,
    /// Zookeeper of Kafka (Pulsar's own counts as Pulsar).
    Zookeeper,
    /// Woodpecker as a separate service.
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
        matches!(
            self,
            Self::PulsarV2 | Self::PulsarV3 | Self::Kafka | Self::Woodpecker
        )
    }

    /// The name that people use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Minio => "MinIO",
            Self::Silo => "Silo",
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
    /// The image of the first container that runs the system.
    #[must_use]
    pub fn image(&self) -> Option<ImageRef> {
        self.containers()
            .first()
            .map(|container| ImageRef::parse(&container.image))
    }

    /// The containers that run the system itself, in addition to exporters, proxies and other
    /// sidecars: those with an image of the system, else those named after it, else the first.
    #[must_use]
    pub fn containers(&self) -> Vec<&Container> {
        let all = &self.workload.pod.containers;
        let own = |test: &dyn Fn(&Container) -> bool| {
            all.iter()
                .filter(|container| test(container))
                .collect::<Vec<_>>()
        };
        let by_image =
            own(&|container| image_runs(self.family, ImageRef::parse(&container.image).name()));
        if !by_image.is_empty() {
            return by_image;
        }
        let by_name = own(&|container| image_runs(self.family, &container.name));
        if by_name.is_empty() {
            all.iter().take(1).collect()
        } else {
            by_name
        }
    }

    /// Whether the workload keeps data on volumes that outlive its pods.
    #[must_use]
    pub fn holds_data(&self) -> bool {
        self.workload
            .stateful
            .as_ref()
            .is_some_and(|stateful| !stateful.claim_templates.is_empty())
            || self
                .workload
                .pod
                .volumes
                .iter()
                .any(|volume| matches!(volume.source, VolumeSource::Claim(_)))
    }
}

/// Whether an image of this name (the last element of its repository) runs the system: the name has
/// the system's word, as in `etcd`, `coreos-etcd` or `cp-kafka`, and none of a tool next to it, as
/// in `kafka-exporter`.
#[must_use]
pub fn image_runs(family: Family, name: &str) -> bool {
    let words: &[&str] = match family {
        Family::Etcd => &["etcd"],
        Family::Minio | Family::Silo => &["minio", "silo"],
        Family::PulsarV2 | Family::PulsarV3 => &["pulsar"],
        // Redpanda has Kafka's protocol and takes its place.
        Family::Kafka => &["kafka", "redpanda"],
        Family::Zookeeper => &["zookeeper"],
        Family::Woodpecker => &["woodpecker"],
        Family::Mysql => &["mysql"],
        Family::Tikv => &["tikv"],
    };
    let mut parts = name.split(['-', '_', '.']);
    parts.any(|part| words.contains(&part)) && !is_tool(name)
}

/// Whether the name of an image has a word of tools around a system.
fn is_tool(name: &str) -> bool {
    const TOOLS: [&str; 43] = [
        "agent",
        "api",
        "app",
        "backup",
        "bridge",
        "browser",
        "cli",
        "client",
        "configurator",
        "connect",
        "connector",
        "console",
        "consumer",
        "control",
        "dashboard",
        "defrag",
        "druid",
        "exporter",
        "gateway",
        "init",
        "job",
        "lag",
        "manager",
        "mc",
        "metrics",
        "migration",
        "migrator",
        "mirror",
        "monitor",
        "monitoring",
        "operator",
        "perf",
        "producer",
        "proxy",
        "registry",
        "reloader",
        "rest",
        "restore",
        "setup",
        "sidecar",
        "test",
        "tools",
        "ui",
    ];
    name.split(['-', '_', '.'])
        .any(|part| TOOLS.contains(&part))
}

/// The Helm release that a workload says it belongs to.
#[must_use]
pub fn instance(workload: &Workload) -> Option<&str> {
    let pick =
        |labels| label(labels, "app.kubernetes.io/instance").or_else(|| label(labels, "release"));
    pick(&workload.selector)
        .or_else(|| pick(&workload.meta.labels))
        .or_else(|| workload.meta.annotation("meta.helm.sh/release-name"))
}

fn label<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    labels.get(key)
}

/// Text that holds none of these words holds neither Milvus nor anything that [`family`]
/// recognises.
const WORDS: [&str; 11] = [
    "milvus",
    "etcd",
    "minio",
    "silo",
    "pulsar",
    "kafka",
    "redpanda",
    "zookeeper",
    "woodpecker",
    "mysql",
    "tikv",
];

/// Whether a text may hold Milvus or its dependencies; where it certainly does not, no tree is
/// built. An escaped letter could hide a word, so any escape of that kind is parsed first.
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

/// Recognises a dependency by the labels that its chart cannot change after installation, else by
/// its image.
#[must_use]
pub fn family(workload: &Workload) -> Option<Family> {
    let of = |key: &str| label(&workload.selector, key).or_else(|| workload.meta.label(key));
    match of("app.kubernetes.io/name") {
        Some("etcd") => return Some(Family::Etcd),
        Some("kafka") => return Some(Family::Kafka),
        Some("zookeeper") => return Some(Family::Zookeeper),
        Some("mysql") => return Some(Family::Mysql),
        Some("tikv") => return Some(Family::Tikv),
        Some("minio") => return Some(Family::Minio),
        Some("silo") => return Some(Family::Silo),
        _ => {}
    }
    match of("app") {
        Some("minio") => return Some(Family::Minio),
        Some("silo") => return Some(Family::Silo),
        Some("pulsarv3") => return Some(Family::PulsarV3),
        Some("pulsar" | "pulsarv2") => return Some(Family::PulsarV2),
        _ => {}
    }
    if of("component") == Some("woodpecker") {
        return Some(Family::Woodpecker);
    }
    let first = ImageRef::parse(&workload.pod.containers.first()?.image);
    family_of_image(&first).or_else(|| family_of_store(workload))
}

/// The systems that run in a pod of Milvus, each as the workload with the containers of the system
/// only.
#[must_use]
pub fn in_pod_of_milvus(workload: &Workload) -> Vec<Dependency> {
    let containers = &workload.pod.containers;
    let mut found: Vec<Dependency> = Vec::new();
    if containers.len() < 2 {
        return found;
    }
    // A tool of the system, such as one that makes snapshots.
    let is_tool = |container: &Container| {
        let mut words = container.command.iter().flat_map(|text| text.split(' '));
        words.any(|word| matches!(word.rsplit('/').next(), Some("etcdctl" | "etcdutl" | "mc")))
    };
    for container in containers {
        let Some(family) = family_of_image(&ImageRef::parse(&container.image)) else {
            continue;
        };
        if is_tool(container) {
            continue;
        }
        if let Some(known) = found.iter_mut().find(|known| known.family == family) {
            let view = Arc::make_mut(&mut known.workload);
            view.pod.containers.push(container.clone());
            continue;
        }
        let mut view = workload.clone();
        view.pod.containers = vec![container.clone()];
        view.pod.init_containers = Vec::new();
        found.push(Dependency {
            family,
            workload: Arc::new(view),
        });
    }
    found
}

/// The system whose own image this is.
fn family_of_image(image: &ImageRef) -> Option<Family> {
    match image.name() {
        "etcd" => Some(Family::Etcd),
        "minio" | "silo" => Some(Family::Minio),
        "kafka" => Some(Family::Kafka),
        "zookeeper" => Some(Family::Zookeeper),
        "woodpecker" => Some(Family::Woodpecker),
        "pulsar" | "pulsar-all" => Some(pulsar(image)),
        _ => None,
    }
}

fn pulsar(image: &ImageRef) -> Family {
    let third = image
        .tag
        .as_deref()
        .is_some_and(|tag| tag.starts_with('3') || tag.starts_with('4'));
    if third {
        Family::PulsarV3
    } else {
        Family::PulsarV2
    }
}

/// Recognises a workload that can hold data by the image of any container, also one that is named
/// more freely (`cp-kafka`, `etcd-hardened`), else by the label `app`. A workload without data, such
/// as one that reads from Kafka, is not taken for the system by that.
fn family_of_store(workload: &Workload) -> Option<Family> {
    const BY_IMAGE: [Family; 7] = [
        Family::Etcd,
        Family::Tikv,
        Family::Kafka,
        Family::Zookeeper,
        Family::Woodpecker,
        Family::PulsarV2,
        Family::Minio,
    ];
    let claims = || {
        let mut volumes = workload.pod.volumes.iter();
        volumes.any(|volume| matches!(volume.source, VolumeSource::Claim(_)))
    };
    if workload.stateful.is_none() && !claims() {
        return None;
    }
    let images = || {
        let containers = workload.pod.containers.iter();
        containers.map(|container| ImageRef::parse(&container.image))
    };
    let by_image = BY_IMAGE.into_iter().find_map(|family| {
        let image = images().find(|image| image_runs(family, image.name()))?;
        Some(if family == Family::PulsarV2 {
            pulsar(&image)
        } else {
            family
        })
    });
    by_image.or_else(|| {
        let family = match label(&workload.selector, "app").or_else(|| workload.meta.label("app")) {
            Some("etcd") => Family::Etcd,
            Some("kafka" | "redpanda") => Family::Kafka,
            Some("zookeeper") => Family::Zookeeper,
            Some("tikv") => Family::Tikv,
            _ => return None,
        };
        // A tool that is labelled as the system that it works on.
        let is_tool = |image: ImageRef| is_tool(image.name());
        (!images().all(is_tool)).then_some(family)
    })
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
    #[case("app.kubernetes.io/name", "minio")]
    #[case("app.kubernetes.io/name", "silo")]
    #[case("app", "minio")]
    #[case("app", "silo")]
    #[case("app", "pulsar")]
    #[case("app", "pulsarv2")]
    #[case("app", "pulsarv3")]
    #[case("component", "woodpecker")]
    fn every_recognized_text_contains_one_of_the_words(#[case] key: &str, #[case] value: &str) {
        let text = format!(
            "kind: StatefulSet\nmetadata: {{name: x}}\nspec: {{selector: {{matchLabels: {{{key}: {value}}}}}}}\n"
        );
        let document = documents(&text).next().unwrap().unwrap();
        let origin = Origin {
            source: "x".into(),
            document: 1,
            line: 0,
        };
        let Some(Object::Workload(workload)) = Object::read(&document.root, &origin, None) else {
            panic!("a workload")
        };
        assert!(family(&workload).is_some() && WORDS.iter().any(|word| text.contains(word)));
    }

    /// A workload whose containers have these images, in this order.
    fn family_of(kind: &str, app: &str, images: &[&str]) -> Option<Family> {
        let containers: String = images
            .iter()
            .enumerate()
            .map(|(at, image)| format!("        - {{name: c{at}, image: \"{image}\"}}\n"))
            .collect();
        let text = format!(
            "kind: {kind}\nmetadata: {{name: x}}\nspec:\n  selector: {{matchLabels: {{app: {app}}}}}\n  template:\n    spec:\n      containers:\n{containers}"
        );
        let objects = crate::rules::testing::objects_of(&text);
        let Some(Object::Workload(workload)) = objects.first() else {
            panic!("a workload")
        };
        assert!(may_be_ours(&text) || family(workload).is_none());
        family(workload)
    }

    #[test]
    fn systems_in_the_pod_of_milvus() {
        let pod = |last: &str| {
            format!(
                "kind: StatefulSet\nmetadata: {{name: x}}\nspec:\n  template:\n    spec:\n      containers:\n        - {{name: a, image: \"milvusdb/milvus:v2.5.27\", args: [milvus, run, standalone]}}\n        - {{name: b, image: \"quay.io/coreos/etcd:v3.5.18\"}}\n        - {{name: c, image: \"minio/minio:x\"}}\n        - {{name: d, {last}}}\n"
            )
        };
        let of = |text: &str| -> Vec<(Family, usize)> {
            let release = crate::rules::testing::release_of(text);
            let all = release.dependencies.iter();
            all.map(|one| (one.family, one.workload.pod.containers.len()))
                .collect()
        };
        let etcdctl = "image: \"quay.io/coreos/etcd:v3.5.18\", command: [sh, -c, \"etcdctl snapshot save /x\"]";
        let expected = [(Family::Etcd, 1), (Family::Minio, 1)];
        assert_eq!(of(&pod("image: \"envoyproxy/envoy:v1\"")), expected);
        assert_eq!(of(&pod(etcdctl)), expected);
    }

    #[rstest]
    #[case("etcd", &["envoyproxy/envoy:v1.30.0", "quay.io/coreos/etcd:v3.5.18"], Some(Family::Etcd))]
    #[case("x", &["envoyproxy/envoy:v1.30.0", "minio/minio:x"], Some(Family::Minio))]
    #[case("x", &["confluentinc/cp-kafka:7.5.0"], Some(Family::Kafka))]
    #[case("x", &["confluentinc/cp-zookeeper:7.5.0"], Some(Family::Zookeeper))]
    #[case("x", &["redpandadata/redpanda:v23"], Some(Family::Kafka))]
    #[case("x", &["pingcap/tikv:v7.5"], Some(Family::Tikv))]
    #[case("x", &["streamnative/sn-pulsar:2.10"], Some(Family::PulsarV2))]
    #[case("x", &["streamnative/sn-pulsar:3.0"], Some(Family::PulsarV3))]
    #[case("x", &["registry.acme.io/infra/etcd-hardened:3.5.18"], Some(Family::Etcd))]
    #[case("etcd", &["acme/kv:1"], Some(Family::Etcd))]
    #[case("kafka", &["acme/log:1"], Some(Family::Kafka))]
    #[case("zookeeper", &["acme/x:1"], Some(Family::Zookeeper))]
    #[case("tikv", &["acme/x:1"], Some(Family::Tikv))]
    // Tools, under any label.
    #[case("etcd", &["acme/etcd-exporter:1"], None)]
    #[case("kafka", &["danielqsj/kafka-exporter:1", "acme/kafka-ui:1"], None)]
    #[case("x", &["confluentinc/cp-kafka-connect:7.5.0"], None)]
    #[case("x", &["redpandadata/redpanda-operator:v2"], None)]
    #[case("x", &["acme/kafka-consumer:1"], None)]
    #[case("x", &["postgres:16"], None)]
    fn stores_by_any_container(
        #[case] app: &str,
        #[case] images: &[&str],
        #[case] expected: Option<Family>,
    ) {
        assert_eq!(family_of("StatefulSet", app, images), expected);
    }

    #[rstest]
    #[case("kafka", &["acme/reads-from-kafka:1"], None)]
    #[case("etcd", &["acme/app:1", "quay.io/coreos/etcd:v3.5.18"], None)]
    #[case("x", &["quay.io/coreos/etcd:v3.5.18"], Some(Family::Etcd))]
    fn without_data_only_the_image_of_the_system_counts(
        #[case] app: &str,
        #[case] images: &[&str],
        #[case] expected: Option<Family>,
    ) {
        assert_eq!(family_of("Deployment", app, images), expected);
    }

    #[rstest]
    #[case(Family::Etcd, "coreos-etcd", true)]
    #[case(Family::Etcd, "etcd-defrag", false)]
    #[case(Family::Kafka, "cp-kafka", true)]
    #[case(Family::Kafka, "kafka-exporter", false)]
    #[case(Family::Minio, "silo", true)]
    #[case(Family::Minio, "mc", false)]
    #[case(Family::PulsarV3, "pulsar-all", true)]
    #[case(Family::PulsarV2, "pulsar-manager", false)]
    fn images_of_the_system_and_of_its_tools(
        #[case] family: Family,
        #[case] name: &str,
        #[case] runs: bool,
    ) {
        assert_eq!(image_runs(family, name), runs);
    }
}
