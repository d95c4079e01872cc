//! Documents that are read but are not the running state: what they are, and which command makes
//! manifests of them.

use std::fmt;

use milvus_guard_core::{manifest::Tree, milvus::Build};

/// Texts that are quoted from a document (names, versions) are cut here.
const MAX_WORD: usize = 100;
/// Keys of Helm values of the Milvus chart; two of them with mappings below make a values file.
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

/// A document of another kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What it is, with its name.
    pub what: String,
    /// What to do instead, with the command where there is one.
    pub instead: String,
    /// Whether the document adds facts where workloads stand next to it (Argo CD, Flux).
    pub is_used: bool,
}

impl Foreign {
    fn new(what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            instead: instead.into(),
            is_used: false,
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.what, self.instead)
    }
}

/// What a whole text is, where its first words say so: web pages, messages of tools, other
/// languages. Nothing of the text is quoted: messages of tools may hold values.
pub(super) fn of_text(text: &str, path: &str) -> Option<Foreign> {
    let start = text.trim_start();
    let head: String = start
        .chars()
        .take(64)
        .collect::<String>()
        .to_ascii_lowercase();
    let begins = |words: &[&str]| words.iter().any(|word| head.starts_with(word));
    Some(if start.is_empty() {
        Foreign::new(
            "it is empty",
            "The command that wrote it most likely failed; run it again and read its messages",
        )
    } else if begins(&["<!doctype html", "<html", "<?xml"]) {
        Foreign::new(
            "it is an HTML or XML page",
            "Most likely the error page or login page of a web server was saved; download the raw \
             file",
        )
    } else if begins(&["no resources found"]) {
        Foreign::new(
            "it is kubectl's message 'No resources found'",
            "Name the namespace (-n) and write only stdout to the file",
        )
    } else if begins(&[
        "error from server",
        "error:",
        "unable to connect to the server",
    ]) {
        Foreign::new(
            "it is an error message of kubectl or Helm, not the output",
            "Run the command again and read the message",
        )
    } else if is_template(start) {
        Foreign::new(
            "it is a Helm template that is not rendered",
            "Render the chart: helm template NAME CHART --version VERSION -n NAMESPACE -f \
             values.yaml",
        )
    } else if is_hcl(start) {
        Foreign::new(
            "it is a Terraform configuration",
            "Plan it and use the plan as JSON: terraform plan -out=tf.plan && terraform show \
             -json tf.plan",
        )
    } else if head.contains("name:")
        && super::helm_output::read(text).is_some_and(|output| output.manifest.is_none())
    {
        Foreign::new(
            "it is the output of helm status, which does not contain a manifest",
            "Use the output of: helm get all NAME -n NAMESPACE, or of: helm get manifest NAME -n \
             NAMESPACE",
        )
    } else if start
        .lines()
        .next()
        .is_some_and(|line| line.split_whitespace().next() == Some("NAME") && !line.contains(':'))
    {
        Foreign::new(
            format!("{} is a table for human readers", shown(path)),
            "Request the objects: add -o yaml to the command",
        )
    } else {
        return None;
    })
}

/// Whether a text holds expressions of Helm's templates.
fn is_template(text: &str) -> bool {
    text.contains("{{")
        && [".Values", "include \"", ".Release."]
            .iter()
            .any(|word| text.contains(word))
}

fn is_hcl(text: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        matches!(
            words.next(),
            Some("resource" | "provider" | "module" | "terraform")
        ) && line.trim_end().ends_with('{')
            && !line.contains(':')
    })
}

/// What a document is, where it is of a kind that brings forth Milvus' workloads or configures
/// them.
pub(super) fn of_document(node: &Tree<'_>, path: &str) -> Option<Foreign> {
    let kind = node.text_at(&["kind"]);
    let api = node.text_at(&["apiVersion"]);
    match (api, kind) {
        (Some(api), Some(kind)) => of_object(node, api, kind, path),
        (_, None) => of_file(node, path),
        (None, Some(_)) => None,
    }
}

/// Names of an object, cut and free of control characters.
struct Named {
    name: String,
    namespace: String,
}

fn named(node: &Tree<'_>) -> Named {
    let text = |key: &str| node.text_at(&["metadata", key]).map(shown);
    Named {
        name: text("name").unwrap_or_else(|| "NAME".into()),
        namespace: text("namespace").unwrap_or_else(|| "NAMESPACE".into()),
    }
}

/// The command that lists the running workloads.
fn listing(namespace: &str, more: &str) -> String {
    format!(
        "kubectl get {more}deployments,statefulsets,configmaps,services,persistentvolumeclaims -n \
         {namespace} -o yaml"
    )
}

fn of_object(node: &Tree<'_>, api: &str, kind: &str, path: &str) -> Option<Foreign> {
    let group = api.rsplit_once('/').map_or("", |(group, _)| group);
    let Named { name, namespace } = named(node);
    let what = |of: &str| format!("{} {name} is {of}", shown(kind));
    Some(match (group, kind) {
        ("milvus.io", "Milvus" | "MilvusCluster") => {
            let version = node
                .text_at(&["spec", "components", "image"])
                .and_then(Build::of_image);
            let judge = match version {
                Some(build) => {
                    format!(
                        "To check this version against the running release: milvus-guard check -i \
                         {name} -n {namespace} -t {build}. "
                    )
                }
                None => String::new(),
            };
            Foreign::new(
                what("a custom resource of milvus-operator"),
                format!(
                    "{judge}To check the workloads that the operator created, use: {}",
                    listing(&namespace, "")
                ),
            )
        }
        ("milvus.io", _) => Foreign::new(
            what("an object of milvus-operator"),
            format!(
                "Use the workloads that the operator created: {}",
                listing(&namespace, "")
            ),
        ),
        (group, _) if group == "kubedb.com" || group.ends_with(".kubedb.com") => Foreign::new(
            what("a custom resource of KubeDB"),
            format!(
                "Use the workloads that KubeDB created: {}",
                listing(&namespace, "petsets.apps.k8s.appscode.com,")
            ),
        ),
        (group, _) if group == "kubeblocks.io" || group.ends_with(".kubeblocks.io") => {
            if kind == "InstanceSet" {
                return None;
            }
            Foreign::new(
                what("a custom resource of KubeBlocks"),
                format!(
                    "Use the workloads that KubeBlocks created: {}",
                    listing(&namespace, "instancesets.workloads.kubeblocks.io,")
                ),
            )
        }
        ("argoproj.io", "Application") => argo_application(node, &name),
        ("argoproj.io", "ApplicationSet") => Foreign::new(
            what("an Argo CD ApplicationSet"),
            format!(
                "List its Applications: argocd appset generate {}, and render each one: argocd \
                 app manifests NAME",
                shown(path)
            ),
        ),
        ("helm.toolkit.fluxcd.io", "HelmRelease") => flux_release(node, &name, &namespace),
        ("kustomize.toolkit.fluxcd.io", "Kustomization") => Foreign::new(
            what("a Flux Kustomization"),
            format!(
                "Render it: flux build kustomization {name} -n {namespace} --path DIRECTORY \
                 --kustomization-file {}",
                shown(path)
            ),
        ),
        ("kustomize.config.k8s.io", _) => kustomization(path),
        ("helm.cattle.io", "HelmChart") => Foreign::new(
            what("a HelmChart of the k3s Helm controller"),
            format!(
                "Use the installed manifest: helm get manifest {name} -n {}",
                node.text_at(&["spec", "targetNamespace"])
                    .map_or(namespace, shown)
            ),
        ),
        ("guard.milvus.io", _) => Foreign::new(
            what("an object of milvus-guard"),
            "Use --policy for policies and exceptions",
        ),
        ("", "Status") => Foreign::new(
            "it is an error response of the API server",
            "Run the command again and read its message",
        ),
        _ => return None,
    })
}

/// An Argo CD Application, with the command that renders its chart where it names one.
fn argo_application(node: &Tree<'_>, name: &str) -> Foreign {
    let mut instead = format!("Render it: argocd app manifests {name}");
    let single = node.at(&["spec", "source"]);
    let source = single.or_else(|| {
        node.items_at(&["spec", "sources"])
            .find(|source| source.get("chart").is_some())
    });
    if let Some(source) = source
        && let (Some(chart), Some(repository)) =
            (source.text_at(&["chart"]), source.text_at(&["repoURL"]))
    {
        let release = source
            .text_at(&["helm", "releaseName"])
            .map_or_else(|| name.to_owned(), shown);
        let namespace = node.text_at(&["spec", "destination", "namespace"]);
        let version = source.text_at(&["targetRevision"]);
        instead = format!(
            "{instead}, or, with its values in a file: {}",
            template(&release, chart, Some(repository), version, namespace)
        );
    }
    Foreign::new(
        format!("Application {name} is an Argo CD Application"),
        instead,
    )
}

/// A Flux `HelmRelease`: Flux puts its values together, Helm renders them.
fn flux_release(node: &Tree<'_>, name: &str, namespace: &str) -> Foreign {
    let release = node
        .text_at(&["spec", "releaseName"])
        .map_or_else(|| name.to_owned(), shown);
    let target = node.text_at(&["spec", "targetNamespace"]);
    let chart = node
        .text_at(&["spec", "chart", "spec", "chart"])
        .unwrap_or("CHART");
    let version = node.text_at(&["spec", "chart", "spec", "version"]);
    Foreign::new(
        format!("HelmRelease {name} is a Flux HelmRelease"),
        format!(
            "Render it: flux debug helmrelease {name} -n {namespace} --show-values > values.yaml \
             && {}",
            template(
                &release,
                chart,
                Some("REPOSITORY"),
                version,
                target.or(Some(namespace))
            )
        ),
    )
}

/// `helm template` with what is known. A repository that is not a web address is a registry; one
/// with a login in its address is not shown.
fn template(
    release: &str,
    chart: &str,
    repository: Option<&str>,
    version: Option<&str>,
    namespace: Option<&str>,
) -> String {
    let repository = repository.map(|address| {
        if address.contains('@') {
            "REPOSITORY"
        } else {
            address
        }
    });
    let is_registry = |address: &str| address != "REPOSITORY" && !address.starts_with("http");
    let (chart, repository) = match repository {
        Some(address) if is_registry(address) => (
            format!(
                "oci://{}/{chart}",
                address.trim_start_matches("oci://").trim_end_matches('/')
            ),
            None,
        ),
        other => (chart.to_owned(), other),
    };
    let mut command = format!("helm template {release} {}", shown(&chart));
    for (flag, value) in [
        ("--repo", repository),
        ("--version", version),
        ("-n", namespace),
    ] {
        if let Some(value) = value {
            command.push_str(&format!(" {flag} {}", shown(value)));
        }
    }
    command.push_str(" -f values.yaml");
    command
}

fn kustomization(path: &str) -> Foreign {
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
fn of_file(node: &Tree<'_>, path: &str) -> Option<Foreign> {
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

/// A compose file: Milvus in Docker is not what this program upgrades, but the path of versions is
/// the same.
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

/// A word of a document or a path as a message and a command show it: cut, without control
/// characters, and quoted where a shell would read more than a word in it.
pub(super) fn shown(text: &str) -> String {
    let word: String = text
        .chars()
        .take(MAX_WORD)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._/:@%+=,-".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
