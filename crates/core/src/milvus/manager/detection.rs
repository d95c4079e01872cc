//! Who manages a release, as labels, annotations and the objects next to it tell.

use std::{collections::BTreeSet, sync::LazyLock};

use crate::{
    manifest::object::{Deployer, DeployerTool, Labels, Meta},
    milvus::{chart_ref::ChartRef, component_workload::ComponentWorkload},
};

use super::{
    ChartSource, Manager, Source, Tool, Vendor,
    chart_place::{ChartPlace, ChartPlaces, comes_with_milvus},
};

/// What stands next to a release in the same input and tells who manages it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    /// Charts of other objects that belong to the same Helm release.
    pub neighbours: &'a Neighbours,
    /// Charts of the objects, as Helm's comments tell.
    pub places: &'a ChartPlaces,
    /// Name and version of the chart in Helm's storage.
    pub stored: Option<&'a (String, String)>,
    /// Argo CD Applications and Flux `HelmReleases` of the input.
    pub deployers: &'a [Deployer],
}

/// Charts by namespace and Helm release, apart from Milvus' own and those of its dependencies.
/// Bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours(BTreeSet<(Option<String>, String, String)>);

/// Entries of [`Neighbours`]: one is enough to know an umbrella.
const MAX_NEIGHBOURS: usize = 256;

impl Neighbours {
    /// Notes the chart of an object.
    pub fn add(&mut self, meta: &Meta) {
        let Some(chart) = chart_label(&meta.labels) else {
            return;
        };
        let Some(release) = release_of(meta) else {
            return;
        };
        if self.0.len() < MAX_NEIGHBOURS && !comes_with_milvus(chart) {
            self.0.insert((
                meta.object.namespace.clone(),
                release.to_owned(),
                chart.to_owned(),
            ));
        }
    }

    /// The charts of a release, in alphabetical order. A namespace that no one names is any.
    fn of<'a>(
        &'a self,
        namespace: Option<&'a str>,
        release: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(move |(place, name, chart)| {
            let same = place.is_none() || namespace.is_none() || place.as_deref() == namespace;
            (same && name == release).then_some(chart.as_str())
        })
    }
}

impl Default for &ChartPlaces {
    fn default() -> Self {
        static NONE: LazyLock<ChartPlaces> = LazyLock::new(ChartPlaces::default);
        &NONE
    }
}

impl Default for &Neighbours {
    fn default() -> Self {
        static NONE: Neighbours = Neighbours(BTreeSet::new());
        &NONE
    }
}

fn release_of(meta: &Meta) -> Option<&str> {
    meta.annotation("meta.helm.sh/release-name")
        .or_else(|| meta.label("app.kubernetes.io/instance"))
        .or_else(|| meta.label("release"))
}

/// The name of the chart in the labels `helm.sh/chart` or `chart`, without its version.
fn chart_label(labels: &Labels) -> Option<&str> {
    let label = labels
        .get("helm.sh/chart")
        .or_else(|| labels.get("chart"))?;
    // A version may hold its own dashes (`5.0.0-rc.1`): it begins at the first digit behind a
    // dash.
    let version = label
        .match_indices('-')
        .find(|(at, _)| label[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    version.map(|(at, _)| &label[..at])
}

/// Who manages the release of these components.
#[must_use]
pub fn detect(
    name: &str,
    namespace: Option<&str>,
    components: &[ComponentWorkload],
    chart: Option<&ChartRef>,
    around: Surroundings<'_>,
) -> Manager {
    let metas = || components.iter().map(|component| &component.workload.meta);
    let managed_by = |who: &str| {
        metas().any(|meta| {
            meta.label("app.kubernetes.io/managed-by")
                .is_some_and(|label| label.eq_ignore_ascii_case(who))
        })
    };
    if managed_by("milvus-operator")
        || metas().any(|meta| meta.owner_kind.as_deref() == Some("Milvus"))
    {
        return Manager::operator(name);
    }
    let by_helm = metas().any(|meta| meta.annotation("meta.helm.sh/release-name").is_some())
        || around.stored.is_some();
    let source = if managed_by("Helm") || by_helm {
        Source::Chart(chart_source(name, namespace, components, chart, around))
    } else {
        Source::Manifests
    };
    let is_live = metas().any(|meta| meta.uid.is_some());
    let tool = applied_by(name, namespace, components, around.deployers).unwrap_or(match &source {
        Source::Chart(_) if by_helm => Tool::Helm,
        Source::Chart(_) if is_live => Tool::Applied,
        Source::Chart(_) => Tool::Rendered,
        _ if metas().any(|meta| {
            meta.label("app.kubernetes.io/managed-by")
                .is_some_and(|label| label.to_ascii_lowercase().starts_with("kustomize"))
        }) =>
        {
            Tool::Kustomize
        }
        _ if managed_by("terraform") => Tool::Terraform,
        _ => Tool::Unknown,
    });
    Manager { source, tool }
}

fn chart_source(
    name: &str,
    namespace: Option<&str>,
    components: &[ComponentWorkload],
    chart: Option<&ChartRef>,
    around: Surroundings<'_>,
) -> ChartSource {
    let own = chart.map_or("milvus", |chart| chart.name.as_str());
    let is_bitnami = components.iter().any(|component| {
        let path = component.image();
        path.path().starts_with("bitnami")
            || component.workload.meta.label("app.kubernetes.io/part-of") == Some("milvus")
    });
    // Helm names a dependency with an alias after the alias, in its labels too.
    let place = components
        .iter()
        .find_map(|one| around.places.of(&one.workload.meta.object));
    let (alias, umbrella) = match around.stored {
        // The templates of the objects are certain; the rest is a guess.
        _ if place.is_some() => (
            place.and_then(ChartPlace::alias).map(str::to_owned),
            place.and_then(ChartPlace::umbrella).map(str::to_owned),
        ),
        Some((stored, _)) if stored == own => (None, None),
        Some((stored, _)) if chart.is_some() => (Some(own.to_owned()), Some(stored.clone())),
        _ if own != "milvus"
            || around
                .neighbours
                .of(namespace, name)
                .any(|other| other != own) =>
        {
            (Some(own.to_owned()), None)
        }
        _ => (None, None),
    };
    let vendor = match (is_bitnami, own, &alias) {
        (true, ..) => Vendor::Bitnami,
        (false, "milvus", _) | (false, _, Some(_)) => Vendor::Zilliz,
        (false, _, None) => Vendor::Other,
    };
    ChartSource {
        vendor,
        alias,
        between: place.and_then(ChartPlace::between),
        umbrella,
    }
}

/// The tool that a mark on the workloads or an object of the input names.
fn applied_by(
    name: &str,
    namespace: Option<&str>,
    components: &[ComponentWorkload],
    deployers: &[Deployer],
) -> Option<Tool> {
    let metas = || components.iter().map(|component| &component.workload.meta);
    let label = |key: &str| metas().find_map(|meta| meta.label(key)).map(str::to_owned);
    if let Some(tracking) =
        metas().find_map(|meta| meta.annotation("argocd.argoproj.io/tracking-id"))
    {
        // [namespace_]application:group/Kind:namespace/name
        let application = tracking.split(':').next().unwrap_or_default();
        let application = application
            .split_once('_')
            .map_or(application, |(_, name)| name);
        return Some(Tool::ArgoCd {
            application: Some(application.to_owned()).filter(|name| !name.is_empty()),
        });
    }
    if let Some(application) = label("argocd.argoproj.io/instance") {
        return Some(Tool::ArgoCd {
            application: Some(application),
        });
    }
    if let Some(name) = label("helm.toolkit.fluxcd.io/name") {
        return Some(Tool::FluxHelm { name });
    }
    let named = deployers.iter().find(|deployer| {
        deployer.release.as_deref() == Some(name)
            && (deployer.target_namespace.is_none()
                || namespace.is_none()
                || deployer.target_namespace.as_deref() == namespace)
    });
    if let Some(deployer) = named {
        let name = deployer.meta.object.name.clone();
        return Some(match deployer.tool {
            DeployerTool::ArgoCd => Tool::ArgoCd {
                application: Some(name),
            },
            DeployerTool::Flux => Tool::FluxHelm { name },
        });
    }
    label("kustomize.toolkit.fluxcd.io/name").map(|name| Tool::FluxKustomize { name })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::milvus::manager::SUB_CHARTS;
    use crate::{
        manifest::{Object, Origin, documents},
        milvus::{Release, Snapshot, snapshot::Builder},
    };

    fn workload(name: &str, labels: &str, more: &str) -> String {
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n  namespace: db\n  labels: {{app.kubernetes.io/instance: r, {labels}}}\n{more}spec:\n  selector:\n    matchLabels: {{app.kubernetes.io/instance: r, name: {name}}}\n  template:\n    spec:\n      containers:\n        - {{name: standalone, image: 'milvusdb/milvus:v2.5.27', args: [milvus, run, standalone]}}\n"
        )
    }

    fn read(text: &str, stored: Option<&str>) -> Snapshot {
        let mut builder = Builder::default();
        for document in documents(text) {
            let document = document.unwrap();
            let origin = Origin {
                source: "x.yaml".into(),
                document: document.index,
                line: 1,
            };
            builder.add(Object::read(&document.root, &origin, None).unwrap());
        }
        if let Some(chart) = stored {
            builder.add_chart("r", Some("db"), &(chart.to_owned(), "1.0.0".to_owned()));
        }
        builder.build()
    }

    fn release(text: &str, stored: Option<&str>) -> Release {
        read(text, stored).releases.remove(0)
    }

    const HELM: &str = "app.kubernetes.io/managed-by: Helm, helm.sh/chart: milvus-5.0.14";
    const API: &str = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api, namespace: db, labels: {app.kubernetes.io/instance: r, helm.sh/chart: internal-stack-0.1.0}}\nspec: {}\n";
    const ETCD: &str = "---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: r-etcd, namespace: db, labels: {app.kubernetes.io/instance: r, helm.sh/chart: etcd-8.12.0}}\nspec: {}\n";
    const OTHER_RELEASE: &str = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api, namespace: db, labels: {app.kubernetes.io/instance: other, helm.sh/chart: internal-stack-0.1.0}}\nspec: {}\n";

    #[rstest]
    #[case::alone(HELM, "", None, None)]
    #[case::with_its_own_dependency(HELM, ETCD, None, None)]
    #[case::beside_another_release(HELM, OTHER_RELEASE, None, None)]
    #[case::beside_another_chart(HELM, API, None, Some("milvus"))]
    #[case::storage_says_umbrella(HELM, "", Some("platform"), Some("milvus"))]
    #[case::storage_says_alone(HELM, API, Some("milvus"), None)]
    #[case::alias(
        "app.kubernetes.io/managed-by: Helm, helm.sh/chart: vectors-5.0.14",
        "",
        None,
        Some("vectors")
    )]
    #[case::fork(
        "app.kubernetes.io/managed-by: Helm, helm.sh/chart: our-milvus-1.2.0",
        "",
        Some("our-milvus"),
        None
    )]
    fn a_dependency_of_an_umbrella_is_known(
        #[case] labels: &str,
        #[case] more: &str,
        #[case] stored: Option<&str>,
        #[case] alias: Option<&str>,
    ) {
        let release = release(
            &(workload("r-milvus-standalone", labels, "") + more),
            stored,
        );
        assert_eq!(release.manager.alias(), alias, "{:?}", release.manager);
    }

    const TEI: &str = "---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: r-tei, namespace: db, labels: {app.kubernetes.io/instance: r, helm.sh/chart: tei-1.6.0}}\nspec: {}\n";

    #[test]
    fn what_milvus_brings_makes_no_umbrella() {
        for chart in SUB_CHARTS.into_iter().chain(["attu", "tikv"]) {
            let one = TEI.replace("tei", chart);
            let release = release(&(workload("r-milvus-standalone", HELM, "") + &one), None);
            assert_eq!(release.manager.alias(), None, "{chart}");
        }
    }

    #[rstest]
    #[case::thin("p/charts/milvus/templates/a.yaml", "", Some("milvus"), Some("milvus"))]
    #[case::nested(
        "p/charts/q/charts/milvus/templates/a.yaml",
        "",
        Some("milvus"),
        Some("q.milvus")
    )]
    #[case::beside_what_a_fork_brings("milvus/templates/a.yaml", API, None, None)]
    #[case::another_form("what made this", API, Some("milvus"), Some("milvus"))]
    fn helms_comments_tell_the_chart(
        #[case] template: &str,
        #[case] more: &str,
        #[case] alias: Option<&str>,
        #[case] key: Option<&str>,
    ) {
        let mut builder = Builder::default();
        let text = workload("r-milvus-standalone", HELM, "") + more;
        for document in documents(&text) {
            let document = document.unwrap();
            let origin = Origin {
                source: "x.yaml".into(),
                document: document.index,
                line: 1,
            };
            let object = Object::read(&document.root, &origin, None).unwrap();
            if matches!(&object, Object::Workload(one) if one.meta.object.name.starts_with("r-")) {
                let mut places = ChartPlaces::default();
                places.add(&object.meta().object, template);
                builder.add_places(&places);
            }
            builder.add(object);
        }
        let manager = builder.build().releases.remove(0).manager;
        assert_eq!(manager.alias(), alias);
        assert_eq!(manager.values_key().as_deref(), key);
        assert_eq!(manager.chart().unwrap().vendor, Vendor::Zilliz);
    }

    #[rstest]
    #[case::fork(
        "app.kubernetes.io/managed-by: Helm, helm.sh/chart: our-milvus-1.2.0",
        Some("our-milvus"),
        Vendor::Other
    )]
    #[case::alias(
        "app.kubernetes.io/managed-by: Helm, helm.sh/chart: vectors-5.0.14",
        None,
        Vendor::Zilliz
    )]
    #[case::bitnami(
        "app.kubernetes.io/managed-by: Helm, helm.sh/chart: milvus-8.2.2, \
         app.kubernetes.io/part-of: milvus",
        None,
        Vendor::Bitnami
    )]
    fn vendors_are_told_apart(
        #[case] labels: &str,
        #[case] stored: Option<&str>,
        #[case] vendor: Vendor,
    ) {
        let release = release(&workload("r-milvus-standalone", labels, ""), stored);
        assert_eq!(release.manager.chart().unwrap().vendor, vendor);
    }

    #[rstest]
    #[case::rendered(HELM, "", Tool::Rendered)]
    #[case::installed(HELM, "  annotations: {meta.helm.sh/release-name: r}\n", Tool::Helm)]
    #[case::applied(HELM, "  uid: u-1\n", Tool::Applied)]
    #[case::argo(HELM, "  annotations: {argocd.argoproj.io/tracking-id: 'argo_vec:apps/Deployment:db/x'}\n", Tool::ArgoCd { application: Some("vec".into()) })]
    #[case::argo_label("app.kubernetes.io/managed-by: Helm, argocd.argoproj.io/instance: vec", "", Tool::ArgoCd { application: Some("vec".into()) })]
    #[case::flux_helm("app.kubernetes.io/managed-by: Helm, helm.toolkit.fluxcd.io/name: vec", "  annotations: {meta.helm.sh/release-name: r}\n", Tool::FluxHelm { name: "vec".into() })]
    #[case::flux_kustomize("kustomize.toolkit.fluxcd.io/name: apps", "", Tool::FluxKustomize { name: "apps".into() })]
    #[case::kustomize("app.kubernetes.io/managed-by: kustomize-v5.4.2", "", Tool::Kustomize)]
    #[case::terraform("app.kubernetes.io/managed-by: terraform", "", Tool::Terraform)]
    #[case::by_hand("team: search", "", Tool::Unknown)]
    fn tools_are_told_apart(#[case] labels: &str, #[case] more: &str, #[case] tool: Tool) {
        assert_eq!(
            release(&workload("r-milvus-standalone", labels, more), None)
                .manager
                .tool,
            tool
        );
    }

    #[test]
    fn an_application_in_the_input_names_itself() {
        let argo = "---\napiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: vec, namespace: argocd}\nspec: {source: {helm: {releaseName: r}}, destination: {namespace: db}}\n";
        let found = release(&(workload("r-milvus-standalone", HELM, "") + argo), None)
            .manager
            .tool;
        assert_eq!(
            found,
            Tool::ArgoCd {
                application: Some("vec".into())
            }
        );
        let elsewhere = argo.replace("namespace: db", "namespace: other");
        assert_eq!(
            release(
                &(workload("r-milvus-standalone", HELM, "") + &elsewhere),
                None
            )
            .manager
            .tool,
            Tool::Rendered
        );
    }

    #[rstest]
    #[case("app.kubernetes.io/managed-by: milvus-operator", "")]
    #[case(
        "team: search",
        "  ownerReferences: [{kind: Milvus, name: r, controller: true}]\n"
    )]
    fn the_operator_is_known(#[case] labels: &str, #[case] more: &str) {
        let release = release(&workload("r-milvus-standalone", labels, more), None);
        assert_eq!(release.manager, Manager::operator("r"));
        assert!(release.is_operated());
    }

    #[test]
    fn two_aliases_of_one_umbrella_have_names_of_their_own() {
        let one = workload(
            "r-logs-standalone",
            "app.kubernetes.io/managed-by: Helm, helm.sh/chart: logs-4.2.58, \
             app.kubernetes.io/name: logs",
            "",
        );
        let two = workload(
            "r-vectors-standalone",
            "app.kubernetes.io/managed-by: Helm, helm.sh/chart: vectors-4.2.58, \
             app.kubernetes.io/name: vectors",
            "",
        );
        let labels: Vec<String> = read(&(one + &two), None)
            .releases
            .iter()
            .map(Release::label)
            .collect();
        assert_eq!(labels, ["db/r/logs", "db/r/vectors"]);
    }

    #[rstest]
    #[case("milvus-5.0.14", Some("milvus"))]
    #[case("internal-stack-0.1.0-rc-1", Some("internal-stack"))]
    #[case("milvus", None)]
    fn chart_labels_are_read(#[case] label: &str, #[case] name: Option<&str>) {
        assert_eq!(
            chart_label(&[("helm.sh/chart", label)].into_iter().collect()),
            name
        );
    }
}
