//! Files that are not objects: charts, values, kustomizations, compose files, configuration.

use milvus_guard_core::{manifest::Tree, milvus::Build};

use super::{Foreign, shown};

/// Keys in values of the Milvus chart. A file with two of them, with mappings, is a values file.
const VALUE_KEYS: [&str; 33] = [
    "attu",
    "cluster",
    "dataCoordinator",
    "dataNode",
    "etcd",
    "externalEtcd",
    "externalKafka",
    "externalPulsar",
    "externalS3",
    "extraConfigFiles",
    "heaptrack",
    "image",
    "indexCoordinator",
    "indexNode",
    "ingress",
    "kafka",
    "log",
    "metrics",
    "minio",
    "mixCoordinator",
    "mq",
    "persistence",
    "proxy",
    "pulsar",
    "pulsarv3",
    "queryCoordinator",
    "queryNode",
    "rootCoordinator",
    "service",
    "standalone",
    "streaming",
    "streamingNode",
    "woodpecker",
];
/// Sections of Milvus' own configuration that no values file has.
const CONFIG_KEYS: [&str; 7] = [
    "rootCoord",
    "queryCoord",
    "dataCoord",
    "localStorage",
    "quotaAndLimits",
    "grpc",
    "mixCoord",
];

/// A kustomization at this path, with the command that builds it.
pub(super) fn kustomization(path: &str) -> Foreign {
    let folder = match path.rsplit_once('/') {
        Some((folder, _)) => shown(folder),
        None => ".".into(),
    };
    Foreign::new(
        "it is a kustomization",
        format!("Build it: kustomize build {folder}, or: kubectl kustomize {folder}"),
    )
}

/// Files that are not objects.
pub(super) fn of_file(node: &Tree<'_>, path: &str) -> Option<Foreign> {
    let mappings = |keys: &[&str]| {
        keys.iter()
            .filter(|key| node.get(key).is_some_and(Tree::is_mapping))
            .count()
    };
    let holds = |key: &str| node.get(key).is_some();
    let list = |key: &str| node.items_at(&[key]).next().is_some();
    if holds("apiVersion") && holds("name") && holds("version") {
        let name = node.text_at(&["name"]).map(shown).unwrap_or_default();
        let folder = path
            .rsplit_once('/')
            .map_or_else(|| ".".into(), |(folder, _)| shown(folder));
        return Some(Foreign::new(
            format!("it is the Chart.yaml of the Helm chart {name}"),
            format!("Render the chart: helm template NAME {folder} -n NAMESPACE -f values.yaml"),
        ));
    }
    if let Some(services) = node
        .get("services")
        .filter(|services| services.is_mapping())
        && services
            .entries()
            .any(|(_, service)| service.get("image").is_some() || service.get("build").is_some())
    {
        return Some(compose(services));
    }
    if list("releases")
        && node
            .items_at(&["releases"])
            .any(|release| release.get("chart").is_some())
    {
        return Some(Foreign::new(
            "it is a helmfile",
            format!("Render it: helmfile template -f {}", shown(path)),
        ));
    }
    if [
        "resources",
        "bases",
        "patches",
        "patchesStrategicMerge",
        "images",
        "helmCharts",
        "components",
        "configMapGenerator",
    ]
    .iter()
    .any(|key| list(key))
        && !holds("items")
    {
        return Some(kustomization(path));
    }
    if mappings(&CONFIG_KEYS) > 0 {
        return Some(Foreign::new(
            "it is Milvus' own configuration (milvus.yaml)",
            "Use the manifests that mount it, with the file in its ConfigMap: kubectl create \
             configmap NAME --from-file=milvus.yaml --dry-run=client -o yaml",
        ));
    }
    let is_values = |node: &Tree<'_>| {
        VALUE_KEYS
            .iter()
            .filter(|key| node.get(key).is_some_and(Tree::is_mapping))
            .count()
            >= 2
            || node.at(&["image", "all"]).is_some()
            || node.at(&["cluster", "enabled"]).is_some()
            || node.at(&["image", "repository"]).is_some()
    };
    if is_values(node) {
        return Some(values(path, "zilliztech/milvus"));
    }
    if node.entries().any(|(_, below)| is_values(below)) {
        return Some(values(path, "CHART"));
    }
    None
}

fn values(path: &str, chart: &str) -> Foreign {
    Foreign::new(
        "it is a file of Helm values, not rendered manifests",
        format!(
            "Render the chart with it: helm template NAME {chart} --version VERSION -n NAMESPACE \
             -f {}",
            if path == "stdin" {
                "values.yaml".into()
            } else {
                shown(path)
            }
        ),
    )
}

/// A compose file: this program does not upgrade Milvus in Docker, but the path of versions is the
/// same.
fn compose(services: &Tree<'_>) -> Foreign {
    let version = services.entries().find_map(|(_, service)| {
        let image = service
            .text_at(&["image"])
            .filter(|image| image.contains("milvus"))?;
        Build::of_image(image)
    });
    let from = version.map_or_else(|| "VERSION".into(), |build| build.to_string());
    Foreign::new(
        "it is a Docker Compose file; milvus-guard checks Milvus on Kubernetes",
        format!("For the upgrade path alone: milvus-guard plan --from {from} --to WANTED"),
    )
}
