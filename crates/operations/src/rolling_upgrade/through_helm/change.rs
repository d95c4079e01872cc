//! The effect of one `helm upgrade` on a release, as far as a run needs it. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{engine::ReleaseName, rolling_upgrade::standby};
use milvus_guard_core::{
    api::LeavingObject,
    manifest::{ParseError, documents},
    milvus::{
        Component, Release, Version,
        release::{ComponentWorkload, VersionRead},
    },
};

use super::{super::standby::Standby, MARK};

/// Annotation by which Helm keeps an object that its chart does not have any more. Helm 3.22 and
/// 4.3 read it from the live object (`pkg/kube/client.go`).
pub const RESOURCE_POLICY: (&str, &str) = ("helm.sh/resource-policy", "keep");

/// Kinds that pods of the old version may still need: their process, their configuration, their
/// account and their address. Helm deletes all other removed objects at once.
const NEEDED: [(&str, &str); 4] = [
    ("apps/v1", "Deployment"),
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
];

/// The effect of one `helm upgrade` on a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HelmChange {
    /// Revision that is deployed before the change.
    pub revision: u64,
    /// Version after the change.
    pub to: Version,
    /// Image of every component after the change.
    pub image: String,
    /// The Deployments of Milvus after the change.
    pub workloads: Vec<PlannedWorkload>,
    /// New Deployments, as Helm would create them, but paused.
    pub arriving: Vec<Value>,
    /// Objects that Helm would delete although pods may still need them.
    pub leaving: Vec<LeavingObject>,
    /// Whether coordinators hand over by active-standby, before and after the change.
    pub hands_over: bool,
}

/// A Deployment of Milvus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedWorkload {
    /// Its component.
    pub component: Component,
    /// Its name.
    pub name: String,
}

/// The input from which a change is read.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// Name of the release.
    pub name: &'a ReleaseName,
    /// The running release.
    pub live: &'a Release,
    /// The release as Helm rendered it.
    pub after: &'a Release,
    /// The manifest of the deployed revision.
    pub deployed: &'a str,
    /// Number of the deployed revision.
    pub revision: u64,
    /// The manifest that Helm would send.
    pub rendered: &'a str,
}

/// Why a run cannot carry out a change of Helm in order, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A component is not a Deployment, so it cannot be paused.
    #[error("the chart renders {component} as {kind} {name}; only a Deployment can be paused")]
    NotADeployment {
        /// The component.
        component: Component,
        /// Kind of its workload.
        kind: String,
        /// Name of its workload.
        name: String,
    },
    /// A Deployment without replicas gets replicas.
    #[error(
        "the change starts {component}: Deployment {name} is scaled to zero, and a paused \
         Deployment would start its old image. Start it on its present version first, or leave \
         it at zero and scale it up afterwards"
    )]
    Starts {
        /// The component.
        component: Component,
        /// The Deployment.
        name: String,
    },
    /// A Deployment loses all its replicas.
    #[error(
        "the change scales {component} to zero at once, out of order: leave the replicas of \
         {name} as they are, and change them afterwards; a component that the new version does \
         not have is turned off in the values (such as indexNode.enabled=false)"
    )]
    Stops {
        /// The component.
        component: Component,
        /// The Deployment.
        name: String,
    },
    /// The components would run several images.
    #[error("the components would not all get the same image: {}", .0.join(", "))]
    SeveralImages(Vec<String>),
    /// The version cannot be read from the tag of the image.
    #[error("the version of image {0}, which the change brings, cannot be read from its tag")]
    UnknownVersion(String),
    /// A manifest is not valid YAML.
    #[error("a manifest of Helm cannot be read: {0}")]
    Unreadable(#[from] ParseError),
}

impl HelmChange {
    /// Reads the effect of a change.
    ///
    /// # Errors
    /// Why a run cannot carry out the change in order, and what to do instead.
    pub fn of(sides: &Sides<'_>) -> Result<Self, ChangeError> {
        let Sides { live, after, .. } = *sides;
        if let Some(other) = after.components.iter().find(|one| !is_deployment(one)) {
            return Err(ChangeError::NotADeployment {
                component: other.component,
                kind: other.workload.meta.object.kind.clone(),
                name: name(other).to_owned(),
            });
        }
        check_replicas(live, after)?;
        let (to, image) = target(after)?;
        let rendered = objects(sides.rendered)?;
        let workloads: Vec<PlannedWorkload> = after
            .components
            .iter()
            .map(|one| PlannedWorkload {
                component: one.component,
                name: name(one).to_owned(),
            })
            .collect();
        let is_live = |wanted: &str| live.components.iter().any(|one| name(one) == wanted);
        let arriving = rendered
            .iter()
            .filter(|object| object["kind"] == "Deployment")
            .filter(|object| {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                !is_live(name) && workloads.iter().any(|one| one.name == name)
            })
            .map(|object| arriving(object, sides.name))
            .collect();
        let stays: BTreeSet<_> = rendered.iter().filter_map(identity).collect();
        let leaving = objects(sides.deployed)?
            .iter()
            .filter(|object| !is_kept_by_chart(object))
            .filter_map(identity)
            .filter(|one| NEEDED.contains(&(&*one.0, &*one.1)) && !stays.contains(one))
            .map(|(api_version, kind, name)| LeavingObject {
                api_version,
                kind,
                name,
            })
            .collect();
        let hands_over = |release: &Release| standby::of(release, to) == Standby::On;
        Ok(Self {
            revision: sides.revision,
            to,
            image,
            workloads,
            arriving,
            leaving,
            hands_over: hands_over(live) && hands_over(after),
        })
    }
}

fn is_deployment(one: &ComponentWorkload) -> bool {
    one.workload.meta.object.kind == "Deployment"
}

fn name(one: &ComponentWorkload) -> &str {
    &one.workload.meta.object.name
}

/// Refuses replicas that Kubernetes would change at once, although the Deployment is paused.
fn check_replicas(live: &Release, after: &Release) -> Result<(), ChangeError> {
    for new in &after.components {
        let Some(old) = live.components.iter().find(|old| name(old) == name(new)) else {
            continue;
        };
        let (component, name) = (new.component, name(new).to_owned());
        if !old.is_running() && new.is_running() {
            return Err(ChangeError::Starts { component, name });
        }
        if old.is_running() && !new.is_running() {
            return Err(ChangeError::Stops { component, name });
        }
    }
    Ok(())
}

/// The one version and the one image of all components.
fn target(after: &Release) -> Result<(Version, String), ChangeError> {
    let mut images: Vec<String> = after
        .components
        .iter()
        .map(|one| one.image().to_string())
        .collect();
    images.sort();
    images.dedup();
    let [image] = images.as_slice() else {
        return Err(ChangeError::SeveralImages(images));
    };
    let read = after.components.first().map(ComponentWorkload::version);
    let build = read.as_ref().and_then(VersionRead::build);
    let build = build.ok_or_else(|| ChangeError::UnknownVersion(image.clone()))?;
    Ok((build.version, image.clone()))
}

/// The objects of a manifest.
fn objects(manifest: &str) -> Result<Vec<Value>, ChangeError> {
    documents(manifest)
        .map(|document| Ok(document?.root.to_json()))
        .collect()
}

/// Version, kind and name of an object.
fn identity(object: &Value) -> Option<(String, String, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some((
        text(&object["apiVersion"])?,
        text(&object["kind"])?,
        text(&object["metadata"]["name"])?,
    ))
}

fn is_kept_by_chart(object: &Value) -> bool {
    object["metadata"]["annotations"][RESOURCE_POLICY.0] == RESOURCE_POLICY.1
}

/// A Deployment as Helm would own it, with Helm's marks of ownership. Paused, so that no pod starts
/// before its turn.
fn arriving(object: &Value, of: &ReleaseName) -> Value {
    let mut made = object.clone();
    let mut metadata = as_object(&made["metadata"]);
    metadata.insert("namespace".into(), of.namespace.clone().into());
    let labels = metadata.get("labels").map(as_object);
    let mut labels = labels.unwrap_or_default();
    labels.insert("app.kubernetes.io/managed-by".into(), "Helm".into());
    let annotations = metadata.get("annotations").map(as_object);
    let mut annotations = annotations.unwrap_or_default();
    annotations.insert("meta.helm.sh/release-name".into(), of.name.clone().into());
    annotations.insert(
        "meta.helm.sh/release-namespace".into(),
        of.namespace.clone().into(),
    );
    metadata.insert("labels".into(), labels.into());
    metadata.insert("annotations".into(), annotations.into());
    made["metadata"] = metadata.into();
    made["spec"]["paused"] = json!(true);
    made
}

fn as_object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// The same Deployment with the mark of a run.
#[must_use]
pub fn marked(arriving: &Value, run: &str) -> Value {
    let mut marked = arriving.clone();
    marked["metadata"]["annotations"][MARK] = run.into();
    marked
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use milvus_guard_core::{
        milvus::Component::{IndexNode, Proxy, StreamingNode},
        rules::testing::Fixture,
    };

    use super::*;

    fn document(kind: &str, name: &str) -> String {
        let version = if kind == "Deployment" {
            "apps/v1"
        } else {
            "v1"
        };
        format!("---\napiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {name}\n")
    }

    /// The change from 2.5.27 to 2.6.22, with these manifests before and after.
    fn change(deployed: &[String], rendered: &[String]) -> Result<HelmChange, ChangeError> {
        change_to(&Fixture::cluster("2.6.22").release(), deployed, rendered)
    }

    fn change_to(
        after: &Release,
        deployed: &[String],
        rendered: &[String],
    ) -> Result<HelmChange, ChangeError> {
        let name = ReleaseName {
            name: "my-release".into(),
            namespace: "milvus".into(),
        };
        HelmChange::of(&Sides {
            name: &name,
            live: &Fixture::cluster("2.5.27").release(),
            after,
            deployed: &deployed.concat(),
            revision: 3,
            rendered: &rendered.concat(),
        })
    }

    const INDEX: &str = "my-release-milvus-indexnode";
    const STREAMING: &str = "my-release-milvus-streamingnode";

    #[test]
    fn objects_that_pods_may_need_are_kept_until_the_end() {
        let kept = format!(
            "{}  annotations: {{helm.sh/resource-policy: keep}}\n",
            document("ConfigMap", "kept-by-the-chart")
        );
        let deployed = [
            document("Deployment", INDEX),
            document("Service", INDEX),
            document("Service", "my-release-milvus"),
            document("PodMonitor", INDEX),
            kept,
        ];
        let rendered = [document("Service", "my-release-milvus")];
        let change = change(&deployed, &rendered).unwrap();
        let leaving: Vec<String> = change
            .leaving
            .iter()
            .map(|one| format!("{} {} {}", one.api_version, one.kind, one.name))
            .collect();
        assert_eq!(
            leaving,
            [
                format!("apps/v1 Deployment {INDEX}"),
                format!("v1 Service {INDEX}")
            ]
        );
        assert_eq!(
            (change.revision, change.to.to_string()),
            (3, "2.6.22".into())
        );
    }

    #[test]
    fn new_deployments_are_paused_and_marked_as_owned_by_helm() {
        let rendered = [
            document("Deployment", STREAMING),
            document("Deployment", "my-release-milvus-proxy"),
            document("Deployment", "my-release-milvus-attu"),
        ];
        let change = change(&[], &rendered).unwrap();
        let [arriving] = change.arriving.as_slice() else {
            panic!("one Deployment of Milvus comes: {:?}", change.arriving)
        };
        assert_eq!(arriving["metadata"]["name"], STREAMING);
        assert_eq!(arriving["spec"]["paused"], true);
        assert_eq!(
            arriving["metadata"]["labels"]["app.kubernetes.io/managed-by"],
            "Helm"
        );
        let annotations = &arriving["metadata"]["annotations"];
        assert_eq!(annotations["meta.helm.sh/release-name"], "my-release");
        assert_eq!(annotations["meta.helm.sh/release-namespace"], "milvus");
        let marked = marked(arriving, "milvus/run");
        assert_eq!(marked["metadata"]["annotations"][MARK], "milvus/run");
    }

    #[test]
    fn replicas_that_would_change_at_once_are_refused() {
        let to_zero = Fixture::cluster("2.6.22").replicas(Proxy, 0).release();
        let why = change_to(&to_zero, &[], &[]).unwrap_err().to_string();
        assert!(why.contains("scales proxy to zero at once"), "{why}");
        let name = ReleaseName {
            name: "my-release".into(),
            namespace: "milvus".into(),
        };
        let starts = HelmChange::of(&Sides {
            name: &name,
            live: &Fixture::cluster("2.5.27").replicas(Proxy, 0).release(),
            after: &Fixture::cluster("2.6.22").release(),
            deployed: "",
            revision: 1,
            rendered: "",
        });
        let why = starts.unwrap_err().to_string();
        assert!(why.contains("the change starts proxy"), "{why}");
    }

    #[test]
    fn several_images_and_other_kinds_than_deployments_are_refused() {
        let mixed = Fixture::cluster("2.6.22")
            .tag_of(Proxy, "v2.6.20")
            .release();
        let why = change_to(&mixed, &[], &[]).unwrap_err().to_string();
        assert!(why.contains("not all get the same image"), "{why}");
        let mut set = Fixture::cluster("2.6.22").release();
        for one in &mut set.components {
            if one.component == StreamingNode {
                Arc::make_mut(&mut one.workload).meta.object.kind = "StatefulSet".into();
            }
        }
        let why = change_to(&set, &[], &[]).unwrap_err().to_string();
        assert!(why.contains("streamingnode as StatefulSet"), "{why}");
        assert!(!Fixture::cluster("2.6.22").release().has(IndexNode));
    }
}
