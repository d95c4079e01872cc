//! The template of a pod and its containers, without their variables and volumes.

use std::borrow::Cow;

use super::{
    config_map::{SourceKind, SourceRef},
    meta::{Labels, annotations, labels},
    variables::{ValueFrom, Variables},
    volume::{Volume, VolumeSource},
};
use crate::manifest::{quantity, view::DocumentValue};

/// The pod template of a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodTemplate {
    /// Labels of the pods.
    pub labels: Labels,
    /// Hash annotations (`checksum/...`) and those that tools of this field set.
    pub annotations: Labels,
    /// `terminationGracePeriodSeconds`.
    pub termination_grace_seconds: Option<i64>,
    /// Pod `securityContext.fsGroup`.
    pub fs_group: Option<i64>,
    /// Pod `securityContext.runAsUser`.
    pub run_as_user: Option<i64>,
    /// Containers.
    pub containers: Vec<Container>,
    /// Init containers.
    pub init_containers: Vec<Container>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// The node on which the pods must run: `nodeName`, or the host name in `nodeSelector` or in the
    /// required node affinity.
    pub node: Option<Box<str>>,
}

/// A container.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Image reference as written.
    pub image: String,
    /// `command` and `args`, one after the other.
    pub command: Vec<String>,
    /// Environment.
    pub env: Variables,
    /// `envFrom`, lowest first.
    pub env_from: Vec<EnvFrom>,
    /// `securityContext.runAsUser`.
    pub run_as_user: Option<i64>,
    /// Which probes it has.
    pub probes: Probes,
    /// Whether it has a `preStop` hook.
    pub pre_stop: bool,
    /// `volumeMounts`.
    pub mounts: Vec<Mount>,
    /// Whether an init container keeps running (`restartPolicy: Always`): a sidecar.
    pub restarts: bool,
    /// What it asks of its node and what it may use.
    pub resources: Resources,
}

/// A volume where a container sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Name of the volume.
    pub volume: String,
    /// `mountPath`.
    pub path: String,
    /// `subPath`; empty means the whole volume.
    pub sub_path: String,
    /// Whether `subPathExpr` decides, whose value is not in the manifest.
    pub is_computed: bool,
}

/// One entry of `envFrom`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFrom {
    /// What every key is prefixed with.
    pub prefix: String,
    /// Where the variables come from.
    pub source: SourceRef,
}

/// `resources` of a container, as far as rules compare it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// `requests`. Where it is absent, Kubernetes takes the limit.
    pub requests: Amounts,
    /// `limits`.
    pub limits: Amounts,
}

/// Processor time and memory; `None` if absent or unreadable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a CPU.
    pub cpu: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
}

/// Which probes a container has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// `livenessProbe`.
    pub liveness: bool,
    /// `readinessProbe`.
    pub readiness: bool,
    /// `startupProbe`.
    pub startup: bool,
}

/// The grace period that Kubernetes sets where none is written.
const GRACE_SECONDS: i64 = 30;

impl PodTemplate {
    /// Whether both make the same pods: what the API server adds does not count.
    #[must_use]
    pub fn makes_same_pods(&self, other: &Self) -> bool {
        let grace = |pod: &Self| pod.termination_grace_seconds.unwrap_or(GRACE_SECONDS);
        let Self {
            labels,
            annotations,
            termination_grace_seconds: _,
            fs_group,
            run_as_user,
            containers,
            init_containers,
            volumes,
            node,
        } = self;
        grace(self) == grace(other)
            && *labels == other.labels
            && *annotations == other.annotations
            && *fs_group == other.fs_group
            && *run_as_user == other.run_as_user
            && *containers == other.containers
            && *init_containers == other.init_containers
            && *volumes == other.volumes
            && *node == other.node
    }

    /// Every `ConfigMap` and `Secret` to which the pods refer: volumes and variables of all
    /// containers, those of init containers too. One may come more than once.
    pub fn sources(&self) -> impl Iterator<Item = &SourceRef> {
        let mounts = self.volumes.iter().flat_map(|volume| {
            let files = match &volume.source {
                VolumeSource::Files(files) => files.as_slice(),
                _ => &[],
            };
            files.iter().map(|one| &one.source)
        });
        let containers = || self.containers.iter().chain(&self.init_containers);
        let imports = containers().flat_map(|container| &container.env_from);
        let keys = containers().flat_map(|container| container.env.references());
        mounts
            .chain(imports.map(|entry| &entry.source))
            .chain(keys.filter_map(|reference| match reference {
                ValueFrom::Key(source, _) => Some(source),
                ValueFrom::Field(_) => None,
            }))
    }

    pub(super) fn read<'t>(node: impl DocumentValue<'t>) -> Self {
        Self {
            labels: labels(node.at(&["metadata", "labels"])),
            annotations: annotations(node.at(&["metadata", "annotations"])),
            termination_grace_seconds: node.i64_at(&["spec", "terminationGracePeriodSeconds"]),
            fs_group: node.i64_at(&["spec", "securityContext", "fsGroup"]),
            run_as_user: node.i64_at(&["spec", "securityContext", "runAsUser"]),
            containers: node
                .items_at(&["spec", "containers"])
                .map(Container::read)
                .collect(),
            init_containers: node
                .items_at(&["spec", "initContainers"])
                .map(Container::read)
                .collect(),
            volumes: node
                .items_at(&["spec", "volumes"])
                .map(Volume::read)
                .collect(),
            node: node
                .text_at(&["spec", "nodeName"])
                .or_else(|| node.text_at(&["spec", "nodeSelector", HOST_NAME]))
                .or_else(|| required_node(node))
                .filter(|name| !name.is_empty() && name.len() <= MAX_NODE_NAME)
                .map(|name| name.as_ref().into()),
        }
    }
}

/// The only node that a required affinity allows.
fn required_node<'t>(pod: impl DocumentValue<'t>) -> Option<Cow<'t, str>> {
    let mut terms = pod.items_at(&[
        "spec",
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ]);
    // Several terms are alternatives.
    let (term, None) = (terms.next()?, terms.next()) else {
        return None;
    };
    let only_value = |list: &str, key: &str| {
        let mut requirements = term.get(list).into_iter().flat_map(DocumentValue::items);
        requirements.find_map(|one| {
            let is_named = one.text_at(&["key"]).as_deref() == Some(key)
                && one.text_at(&["operator"]).as_deref() == Some("In");
            let mut values = one.items_at(&["values"]).filter(|_| is_named);
            match (values.next(), values.next()) {
                (Some(only), None) => only.as_text(),
                _ => None,
            }
        })
    };
    only_value("matchExpressions", HOST_NAME).or_else(|| only_value("matchFields", "metadata.name"))
}

/// The label by which a node is chosen by its name.
const HOST_NAME: &str = "kubernetes.io/hostname";
/// Characters of a node's name. Kubernetes allows as many.
const MAX_NODE_NAME: usize = 253;

impl Container {
    fn read<'t>(node: impl DocumentValue<'t>) -> Self {
        let text = |key: &str| node.text_at(&[key]).unwrap_or_default().into_owned();
        let mut command = words(node, "command");
        command.extend(words(node, "args"));
        Self {
            name: text("name"),
            image: text("image"),
            command,
            env: Variables::read(node.get("env")),
            run_as_user: node.i64_at(&["securityContext", "runAsUser"]),
            probes: Probes {
                liveness: node.get("livenessProbe").is_some(),
                readiness: node.get("readinessProbe").is_some(),
                startup: node.get("startupProbe").is_some(),
            },
            pre_stop: node.at(&["lifecycle", "preStop"]).is_some(),
            env_from: node
                .items_at(&["envFrom"])
                .filter_map(EnvFrom::read)
                .collect(),
            mounts: node
                .items_at(&["volumeMounts"])
                .filter_map(Mount::read)
                .collect(),
            restarts: node.text_at(&["restartPolicy"]).as_deref() == Some("Always"),
            resources: node
                .get("resources")
                .map(|resources| Resources {
                    requests: Amounts::read(resources.get("requests")),
                    limits: Amounts::read(resources.get("limits")),
                })
                .unwrap_or_default(),
        }
    }
}

impl EnvFrom {
    fn read<'t>(node: impl DocumentValue<'t>) -> Option<Self> {
        let source = |field: &str, kind| {
            Some(SourceRef {
                kind,
                name: node.text_at(&[field, "name"])?.into_owned(),
            })
        };
        let source = source("configMapRef", SourceKind::ConfigMap)
            .or_else(|| source("secretRef", SourceKind::Secret))?;
        Some(Self {
            prefix: node.text_at(&["prefix"]).unwrap_or_default().into_owned(),
            source,
        })
    }
}

impl Mount {
    fn read<'t>(node: impl DocumentValue<'t>) -> Option<Self> {
        let text = |key: &str| node.text_at(&[key]).map(Cow::into_owned);
        Some(Self {
            volume: text("name")?,
            path: text("mountPath")?,
            sub_path: text("subPath").unwrap_or_default(),
            is_computed: node
                .text_at(&["subPathExpr"])
                .is_some_and(|path| path.contains("$(")),
        })
    }
}

impl Amounts {
    fn read<'t>(node: Option<impl DocumentValue<'t>>) -> Self {
        let amount = |key: &str| {
            node.and_then(|node| node.text_at(&[key]))
                .and_then(|text| quantity::thousandths(&text))
        };
        Self {
            cpu: amount("cpu"),
            memory: amount("memory").map(|amount| amount / 1000),
        }
    }
}

fn words<'t>(node: impl DocumentValue<'t>, key: &str) -> Vec<String> {
    node.items_at(&[key])
        .filter_map(DocumentValue::as_text)
        .map(Cow::into_owned)
        .collect()
}
