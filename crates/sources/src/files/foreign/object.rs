//! Objects of operators and deployers, which create the workloads of Milvus.

use milvus_guard_core::{manifest::Tree, milvus::Build};

use super::{Foreign, file::kustomization, shown};

/// Names of an object, truncated and without control characters.
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

/// Describes an object of this API group and kind; `None` if it is a part of the running state.
pub(super) fn of_object(node: &Tree<'_>, api: &str, kind: &str, path: &str) -> Option<Foreign> {
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

/// An Argo CD Application, with the command that renders its chart if it names one.
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

/// A Flux `HelmRelease`: Flux merges its values, Helm renders them.
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

/// `helm template` with the known arguments. A repository that is not a web address is a registry;
/// an address with a login is not shown.
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
