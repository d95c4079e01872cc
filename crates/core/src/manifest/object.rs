//! What the brain takes from a Kubernetes object; everything else of the document is dropped at
//! once.

use std::{borrow::Cow, collections::HashMap, fmt, mem, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use schemars::JsonSchema;
use serde::Serialize;

use super::{quantity, view::View};

/// Where something was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Origin {
    /// A file, `stdin`, `cluster` or a Helm revision, as the user would name it.
    pub source: Arc<str>,
    /// Position of the document in the source, from 1.
    pub document: u32,
    /// Line in the source, from 1; 0 where the source has no lines.
    pub line: u32,
}

impl Origin {
    /// The same document, another line.
    #[must_use]
    pub fn at_line(&self, line: u32) -> Self {
        Self {
            line,
            ..self.clone()
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.source),
            line => write!(f, "{}:{line}", self.source),
        }
    }
}

/// An object's identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub struct ObjectRef {
    /// `Deployment`, `ConfigMap` ...
    pub kind: String,
    /// The namespace, where the document or the input names one.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// An object that may matter to a Milvus release. What is large is shared: the same workload is
/// in the picture of the running state and in those of what would be.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// Anything with a pod template, or a bare Pod.
    Workload(Arc<Workload>),
    /// A `ConfigMap` or a `Secret`: Milvus may read it as files or as variables.
    Config(Arc<ConfigMap>),
    /// A `PersistentVolumeClaim`.
    Claim(Claim),
    /// A `Service`.
    Service(Meta),
    /// A `HorizontalPodAutoscaler` or a KEDA `ScaledObject`.
    Autoscaler(Autoscaler),
    /// An Argo CD `Application` or a Flux `HelmRelease`.
    Deployer(Deployer),
    /// Anything else, known by name only.
    Other(Meta),
}

/// Metadata that every object has.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// Identity.
    pub object: ObjectRef,
    /// Where it was read.
    pub origin: Origin,
    /// All labels.
    pub labels: Labels,
    /// The annotations that tools of this field set (ours, Helm's, Argo CD's, Milvus').
    pub annotations: Labels,
    /// `metadata.uid` of a live object.
    pub uid: Option<String>,
    /// The kind of the controlling owner, such as `Milvus` of milvus-operator.
    pub owner_kind: Option<String>,
    /// The name of the controlling owner.
    pub owner_name: Option<String>,
}

/// Labels or annotations, ordered by key. Clusters hold thousands of objects with a handful each,
/// so they are kept without the spare room of a map.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let position = self
            .0
            .binary_search_by(|(name, _)| (**name).cmp(key))
            .ok()?;
        self.0.get(position).map(|(_, value)| &**value)
    }

    /// Keys and values, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl<T: AsRef<str>> FromIterator<(T, T)> for Labels {
    fn from_iter<I: IntoIterator<Item = (T, T)>>(pairs: I) -> Self {
        let mut ordered: Vec<(Box<str>, Box<str>)> = pairs
            .into_iter()
            .map(|(key, value)| (key.as_ref().into(), value.as_ref().into()))
            .collect();
        ordered.sort_by(|(one, _), (other, _)| one.cmp(other));
        // Of equal keys the last counts.
        ordered.dedup_by(|later, kept| {
            later.0 == kept.0 && {
                mem::swap(&mut later.1, &mut kept.1);
                true
            }
        });
        Self(ordered.into())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// An object with a pod template: a built-in kind, a bare Pod, or a custom kind such as
/// `InstanceSet` or `Rollout`.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Metadata.
    pub meta: Meta,
    /// `spec.replicas`; absent means 1, or that an autoscaler decides.
    pub replicas: Option<i64>,
    /// `spec.paused`.
    pub paused: bool,
    /// `spec.strategy.type` or `spec.updateStrategy.type`.
    pub strategy: Option<String>,
    /// `spec.selector.matchLabels`.
    pub selector: Labels,
    /// What only a StatefulSet has.
    pub stateful: Option<Stateful>,
    /// The pod template.
    pub pod: PodTemplate,
    /// `status`, where the object is live.
    pub status: Option<Status>,
}

/// The immutable part of a StatefulSet.
#[derive(Clone, Debug, PartialEq)]
pub struct Stateful {
    /// `spec.serviceName`.
    pub service_name: Option<String>,
    /// `spec.podManagementPolicy`, with the API's default filled in.
    pub pod_management_policy: String,
    /// `spec.volumeClaimTemplates`.
    pub claim_templates: Vec<ClaimTemplate>,
    /// `spec.persistentVolumeClaimRetentionPolicy`.
    pub retention: Retention,
}

/// Whether a StatefulSet's claims are deleted with what made them. The API's default is to keep
/// them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// `whenDeleted: Delete`: the claims go with the StatefulSet.
    pub delete_with_set: bool,
    /// `whenScaled: Delete`: a claim goes when its pod is scaled away.
    pub delete_when_scaled: bool,
}

/// One volume claim template, as far as the API compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTemplate {
    /// Name.
    pub name: String,
    /// `accessModes`, sorted.
    pub access_modes: Vec<String>,
    /// Requested size as written.
    pub storage: Option<String>,
    /// Storage class as written.
    pub storage_class: Option<String>,
}

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

/// A `ConfigMap` or a `Secret`, by name, in the namespace of the pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceRef {
    /// Which kind.
    pub kind: SourceKind,
    /// Name.
    pub name: String,
}

/// Kinds of objects that hold files and variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are Kubernetes' own")]
pub enum SourceKind {
    ConfigMap,
    Secret,
}

impl SourceKind {
    /// The kind as manifests write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

impl SourceRef {
    /// How pods refer to an object; `None` if it is neither a `ConfigMap` nor a Secret.
    #[must_use]
    pub fn of(object: &ObjectRef) -> Option<Self> {
        let kind = [SourceKind::ConfigMap, SourceKind::Secret]
            .into_iter()
            .find(|kind| kind.name() == object.kind)?;
        Some(Self {
            kind,
            name: object.name.clone(),
        })
    }
}

impl fmt::Display for SourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}

/// `valueFrom` of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueFrom {
    /// A key of a `ConfigMap` or a `Secret`.
    Key(SourceRef, String),
    /// A field of the pod or a resource of the container, such as `metadata.name`.
    Field(String),
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

/// Variables of a container in their order. Charts write hundreds of them, so all texts are in
/// one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables {
    text: Box<str>,
    entries: Box<[Variable]>,
    /// `valueFrom`, with the position of the variable; ordered by position.
    references: Box<[(u32, ValueFrom)]>,
}

/// Where one variable ends; it begins where the one before ends.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Variable {
    name_end: u32,
    /// Absent where the value comes from elsewhere.
    value_end: Option<u32>,
}

impl Variables {
    /// Names and values; a value that comes from elsewhere is absent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        (0..self.entries.len()).filter_map(|at| self.get(at))
    }

    /// Whether the same names are in the same places, with values known in the same of them.
    #[must_use]
    pub fn has_names_of(&self, other: &Self) -> bool {
        self.entries.len() == other.entries.len()
            && self
                .iter()
                .zip(other.iter())
                .all(|((old, held), (new, holds))| old == new && held.is_some() == holds.is_some())
    }

    /// The variable at a position.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<(&str, Option<&str>)> {
        let end = |entry: &Variable| entry.value_end.unwrap_or(entry.name_end) as usize;
        let entry = self.entries.get(at)?;
        let start = at
            .checked_sub(1)
            .and_then(|before| self.entries.get(before))
            .map_or(0, end);
        let name_end = entry.name_end as usize;
        let value = entry
            .value_end
            .and_then(|end| self.text.get(name_end..end as usize));
        Some((self.text.get(start..name_end)?, value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that they take, give or take some.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len() + self.entries.len() * 12 + self.references.len() * 160
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every `valueFrom`.
    pub fn references(&self) -> impl Iterator<Item = &ValueFrom> {
        self.references.iter().map(|(_, reference)| reference)
    }

    /// `valueFrom` of the variable at a position.
    #[must_use]
    pub fn reference(&self, at: usize) -> Option<&ValueFrom> {
        let at = u32::try_from(at).ok()?;
        let found = self
            .references
            .binary_search_by_key(&at, |(position, _)| *position)
            .ok()?;
        self.references.get(found).map(|(_, reference)| reference)
    }

    fn read<'t>(list: Option<impl View<'t>>) -> Self {
        let count = list.map_or(0, |list| list.items().count());
        let mut references = Vec::new();
        let mut position = 0;
        let variables = list
            .into_iter()
            .flat_map(View::items)
            .filter_map(|variable| {
                let [name, value, from] = variable.fields(["name", "value", "valueFrom"]);
                let name = name?.as_text()?;
                let reference = from.and_then(ValueFrom::read);
                // The API server refuses both at once. `value` without `valueFrom` may be absent:
                // then it is empty.
                let value = match &reference {
                    Some(_) => None,
                    None => Some(value.and_then(View::as_text).unwrap_or_default()),
                };
                references.extend(reference.map(|reference| (position, reference)));
                position += 1;
                Some((name, value))
            });
        let mut all = Self::collect(variables, count);
        all.references = references.into();
        all
    }

    fn collect<T: AsRef<str>>(
        variables: impl Iterator<Item = (T, Option<T>)>,
        expected: usize,
    ) -> Self {
        // No input is larger than 4 GiB (see the limits of its reader).
        let end = |text: &String| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let (mut text, mut entries) = (
            String::with_capacity(expected * 32),
            Vec::with_capacity(expected),
        );
        for (name, value) in variables {
            text.push_str(name.as_ref());
            let name_end = end(&text);
            let value_end = value.map(|value| {
                text.push_str(value.as_ref());
                end(&text)
            });
            entries.push(Variable {
                name_end,
                value_end,
            });
        }
        Self {
            text: text.into(),
            entries: entries.into(),
            references: Box::default(),
        }
    }
}

impl ValueFrom {
    fn read<'t>(node: impl View<'t>) -> Option<Self> {
        let key = |field: &str, kind| {
            let reference = node.get(field)?;
            let name = reference.text_at(&["name"])?.into_owned();
            Some(Self::Key(
                SourceRef { kind, name },
                reference.text_at(&["key"])?.into_owned(),
            ))
        };
        key("configMapKeyRef", SourceKind::ConfigMap)
            .or_else(|| key("secretKeyRef", SourceKind::Secret))
            .or_else(|| {
                node.text_at(&["fieldRef", "fieldPath"])
                    .map(|path| Self::Field(path.into_owned()))
            })
            .or_else(|| {
                node.text_at(&["resourceFieldRef", "resource"])
                    .map(|path| Self::Field(path.into_owned()))
            })
            .or_else(|| {
                node.entries()
                    .next()
                    .map(|(kind, _)| Self::Field(kind.into_owned()))
            })
    }
}

impl<T: AsRef<str>> FromIterator<(T, Option<T>)> for Variables {
    fn from_iter<I: IntoIterator<Item = (T, Option<T>)>>(variables: I) -> Self {
        Self::collect(variables.into_iter(), 0)
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
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

/// A volume and what holds its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Name.
    pub name: String,
    /// What is behind it.
    pub source: VolumeSource,
}

/// What holds a volume's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A claim, by name.
    Claim(String),
    /// Files of a `ConfigMap`, a `Secret`, or several of them (`projected`; a later one wins).
    Files(Vec<Files>),
    /// An `emptyDir`, or a volume that is made for the pod: deleted with the pod.
    EmptyDir,
    /// A path of the node.
    HostPath(String),
    /// Anything else, by the field that defines it, such as `nfs` or `csi`.
    Other(String),
}

/// The files that one `ConfigMap` or `Secret` puts into a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Which object.
    pub source: SourceRef,
    /// `items` as key and path; empty means every key under its own name.
    pub items: Vec<(String, String)>,
}

impl VolumeSource {
    /// The names of the `ConfigMap`s behind a volume.
    pub fn config_maps(&self) -> impl Iterator<Item = &str> {
        let files = match self {
            Self::Files(files) => files.as_slice(),
            _ => &[],
        };
        files
            .iter()
            .filter(|one| one.source.kind == SourceKind::ConfigMap)
            .map(|one| one.source.name.as_str())
    }
}

impl Files {
    /// The key that is seen at a path of the volume; `None` if no key is.
    #[must_use]
    pub fn key_at<'a>(&'a self, path: &'a str) -> Option<&'a str> {
        if self.items.is_empty() {
            return (!path.contains('/')).then_some(path);
        }
        self.items
            .iter()
            .find(|(_, at)| at.trim_start_matches("./") == path)
            .map(|(key, _)| key.as_str())
    }

    fn read<'t>(node: impl View<'t>, kind: SourceKind) -> Option<Self> {
        // A Secret volume says `secretName`, a projected one `name`.
        let name = node
            .text_at(&["secretName"])
            .or_else(|| node.text_at(&["name"]))?
            .into_owned();
        let items = node
            .items_at(&["items"])
            .filter_map(|item| {
                Some((
                    item.text_at(&["key"])?.into_owned(),
                    item.text_at(&["path"])?.into_owned(),
                ))
            })
            .collect();
        Some(Self {
            source: SourceRef { kind, name },
            items,
        })
    }
}

/// Live state of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed_generation: i64,
    /// `status.replicas`.
    pub replicas: i64,
    /// `status.updatedReplicas`.
    pub updated: i64,
    /// `status.readyReplicas`.
    pub ready: i64,
    /// `status.availableReplicas`.
    pub available: i64,
}

/// A `ConfigMap` or a `Secret` with what Milvus may read of it.
#[derive(Clone, PartialEq)]
pub struct ConfigMap {
    /// Metadata.
    pub meta: Meta,
    /// Which of the two. The content of a Secret is compared and never shown.
    pub kind: SourceKind,
    /// `immutable: true`.
    pub is_immutable: bool,
    /// Every key, in the order of the object.
    pub files: Vec<ConfigFile>,
}

/// One key of a `ConfigMap` or a `Secret`.
#[derive(Clone, PartialEq)]
pub struct ConfigFile {
    /// The key.
    pub key: String,
    /// The text, or why it is not there.
    pub text: Result<Box<str>, NoText>,
    /// Line of the key's value in the source; 0 where there are no lines.
    pub line: u32,
}

/// Why the text of a key is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoText {
    /// The content is not UTF-8 text.
    #[error("which is not text")]
    Binary,
    /// There was no room to keep it.
    #[error("which was too large to keep")]
    LeftOut,
}

impl fmt::Debug for ConfigMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigMap")
            .field("object", &self.meta.object)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// Only the key: the content may be secret.
impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigFile")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl ConfigMap {
    /// How pods refer to it.
    #[must_use]
    pub fn reference(&self) -> SourceRef {
        SourceRef {
            kind: self.kind,
            name: self.meta.object.name.clone(),
        }
    }

    /// The content of a key; `None` if it has no such key.
    #[must_use]
    pub fn file(&self, key: &str) -> Option<&ConfigFile> {
        self.files.iter().rev().find(|file| file.key == key)
    }

    /// Whether it has one of the names that Milvus' own configuration files have.
    #[must_use]
    pub fn is_milvus_configuration(&self) -> bool {
        self.files
            .iter()
            .any(|file| CONFIG_KEYS.contains(&file.key.as_str()))
    }
}

/// A `PersistentVolumeClaim`.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Metadata.
    pub meta: Meta,
    /// Requested size as written.
    pub storage: Option<String>,
    /// Storage class as written.
    pub storage_class: Option<String>,
    /// `accessModes`, sorted.
    pub access_modes: Vec<String>,
    /// `volumeName`: the volume behind it.
    pub volume_name: Option<String>,
}

impl Claim {
    /// Whether two states want the same: everything that a rule looks at but metadata.
    #[must_use]
    pub fn has_same_spec(&self, other: &Self) -> bool {
        let Self {
            meta: _,
            storage,
            storage_class,
            access_modes,
            volume_name,
        } = self;
        *storage == other.storage
            && *storage_class == other.storage_class
            && *access_modes == other.access_modes
            && *volume_name == other.volume_name
    }
}

/// An autoscaler and its target.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoscaler {
    /// Metadata.
    pub meta: Meta,
    /// Kind of the target.
    pub target_kind: String,
    /// Name of the target.
    pub target_name: String,
    /// `minReplicas`, 1 where absent.
    pub min: i64,
}

/// A tool that applies Milvus and may revert other people's changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployer {
    /// Metadata.
    pub meta: Meta,
    /// Which tool.
    pub tool: DeployerTool,
    /// Helm release that it makes, where it says so.
    pub release: Option<String>,
    /// Namespace that it deploys into, where it says so.
    pub target_namespace: Option<String>,
    /// Whether it puts back what others change (`selfHeal`, drift correction).
    pub self_heal: bool,
    /// How often it retries; -1 is without end, absent is the tool's default.
    pub retry_limit: Option<i64>,
}

/// Tools that keep a cluster equal to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeployerTool {
    /// Argo CD.
    ArgoCd,
    /// Flux.
    Flux,
}

/// Keys of a `ConfigMap` that make it Milvus' configuration.
pub const CONFIG_KEYS: [&str; 3] = ["milvus.yaml", "default.yaml", "user.yaml"];

/// Prefixes of annotations worth keeping. Others (such as kubectl's copy of the whole object) are
/// large or may hold secrets.
const ANNOTATIONS: [&str; 6] = [
    "guard.milvus.io/",
    "milvus.io/",
    "meta.helm.sh/",
    "helm.sh/",
    "argocd.argoproj.io/",
    "checksum/",
];

impl Object {
    /// Reads one object; `None` if the document is not a Kubernetes object.
    #[must_use]
    pub fn read<'t>(
        node: impl View<'t>,
        origin: &Origin,
        default_namespace: Option<&str>,
    ) -> Option<Self> {
        let kind = node.text_at(&["kind"])?;
        let api = node.text_at(&["apiVersion"]).unwrap_or_default();
        let meta = Meta::read(node, &kind, origin, default_namespace)?;
        Some(match &*kind {
            "Deployment" | "StatefulSet" => {
                Self::Workload(Arc::new(Workload::read(node, meta, template(node, &kind))))
            }
            "ConfigMap" => ConfigMap::read(node, meta, SourceKind::ConfigMap),
            "Secret" => ConfigMap::read(node, meta, SourceKind::Secret),
            "PersistentVolumeClaim" => {
                let template = ClaimTemplate::read(node);
                Self::Claim(Claim {
                    meta,
                    storage: template.storage,
                    storage_class: template.storage_class,
                    access_modes: template.access_modes,
                    volume_name: node
                        .text_at(&["spec", "volumeName"])
                        .map(Cow::into_owned)
                        .filter(|name| !name.is_empty()),
                })
            }
            "Service" => Self::Service(meta),
            "HorizontalPodAutoscaler" | "ScaledObject" => Self::Autoscaler(Autoscaler {
                meta,
                target_kind: node
                    .text_at(&["spec", "scaleTargetRef", "kind"])
                    .map_or_else(|| "Deployment".into(), Cow::into_owned),
                target_name: node
                    .text_at(&["spec", "scaleTargetRef", "name"])
                    .unwrap_or_default()
                    .into_owned(),
                min: ["minReplicas", "minReplicaCount"]
                    .iter()
                    .find_map(|key| node.at(&["spec", key]).and_then(View::as_i64))
                    .unwrap_or(1),
            }),
            "Application" if api.starts_with("argoproj.io/") => {
                Self::Deployer(Deployer::argo(node, meta))
            }
            "HelmRelease" if api.starts_with("helm.toolkit.fluxcd.io/") => {
                Self::Deployer(Deployer::flux(node, meta))
            }
            _ => match template(node, &kind) {
                Some(pod) if has_containers(pod) => {
                    Self::Workload(Arc::new(Workload::read(node, meta, Some(pod))))
                }
                _ => Self::Other(meta),
            },
        })
    }

    /// The metadata.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Workload(workload) => &workload.meta,
            Self::Config(config) => &config.meta,
            Self::Claim(claim) => &claim.meta,
            Self::Autoscaler(autoscaler) => &autoscaler.meta,
            Self::Deployer(deployer) => &deployer.meta,
            Self::Service(meta) | Self::Other(meta) => meta,
        }
    }

    /// The metadata, to be changed.
    pub fn meta_mut(&mut self) -> &mut Meta {
        match self {
            Self::Workload(workload) => &mut Arc::make_mut(workload).meta,
            Self::Config(config) => &mut Arc::make_mut(config).meta,
            Self::Claim(claim) => &mut claim.meta,
            Self::Autoscaler(autoscaler) => &mut autoscaler.meta,
            Self::Deployer(deployer) => &mut deployer.meta,
            Self::Service(meta) | Self::Other(meta) => meta,
        }
    }
}

impl Meta {
    fn read<'t>(
        node: impl View<'t>,
        kind: &str,
        origin: &Origin,
        default_namespace: Option<&str>,
    ) -> Option<Self> {
        let metadata = node.get("metadata")?;
        let name = metadata.text_at(&["name"])?;
        let owner = metadata.items_at(&["ownerReferences"]).find(|owner| {
            owner
                .get("controller")
                .and_then(View::as_bool)
                .unwrap_or(false)
        });
        Some(Self {
            object: ObjectRef {
                kind: kind.to_owned(),
                namespace: metadata
                    .text_at(&["namespace"])
                    .map(Cow::into_owned)
                    .or_else(|| default_namespace.map(str::to_owned)),
                name: name.into_owned(),
            },
            origin: origin.at_line(node.line()),
            labels: labels(metadata.get("labels")),
            annotations: annotations(metadata.get("annotations")),
            uid: metadata.text_at(&["uid"]).map(Cow::into_owned),
            owner_kind: owner
                .and_then(|owner| owner.text_at(&["kind"]))
                .map(Cow::into_owned),
            owner_name: owner
                .and_then(|owner| owner.text_at(&["name"]))
                .map(Cow::into_owned),
        })
    }

    /// A label's value.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key)
    }

    /// A kept annotation's value.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key)
    }
}

fn labels<'t>(node: Option<impl View<'t>>) -> Labels {
    node.into_iter()
        .flat_map(View::entries)
        .filter_map(|(key, value)| Some((key, value.as_text()?)))
        .collect()
}

/// Whether an annotation is worth keeping.
#[must_use]
pub fn is_kept_annotation(key: &str) -> bool {
    ANNOTATIONS.iter().any(|prefix| key.starts_with(prefix))
}

fn annotations<'t>(node: Option<impl View<'t>>) -> Labels {
    node.into_iter()
        .flat_map(View::entries)
        .filter(|(key, _)| is_kept_annotation(key))
        .filter_map(|(key, value)| Some((key, value.as_text()?)))
        .collect()
}

fn words<'t>(node: impl View<'t>, key: &str) -> Vec<String> {
    node.items_at(&[key])
        .filter_map(View::as_text)
        .map(Cow::into_owned)
        .collect()
}

fn number<'t>(node: impl View<'t>, path: &[&str]) -> Option<i64> {
    node.at(path).and_then(View::as_i64)
}

/// Where an object keeps the template of its pods: the mapping with `metadata` and `spec`.
fn template<'t, V: View<'t>>(node: V, kind: &str) -> Option<V> {
    match kind {
        "Pod" => Some(node),
        "PodTemplate" => node.get("template"),
        "CronJob" => node.at(&["spec", "jobTemplate", "spec", "template"]),
        "Deployment"
        | "StatefulSet"
        | "DaemonSet"
        | "ReplicaSet"
        | "ReplicationController"
        | "Job" => node.at(&["spec", "template"]),
        // Lists of permissions, settings and similar ones; the search below would only cost time.
        "CustomResourceDefinition" | "Role" | "ClusterRole" | "ServiceAccount" | "Ingress" => None,
        _ => node
            .get("spec")
            .and_then(|spec| find_template(spec, MAX_TEMPLATE_DEPTH)),
    }
}

/// How deep below `spec` the template of a custom kind is searched:
/// `spec.leaderWorkerTemplate.workerTemplate` and similar ones.
const MAX_TEMPLATE_DEPTH: u8 = 4;

/// The first mapping below a custom kind's specification whose `spec` lists containers with images.
fn find_template<'t, V: View<'t>>(node: V, depth: u8) -> Option<V> {
    if has_containers(node) {
        return Some(node);
    }
    if depth == 0 {
        return None;
    }
    node.entries()
        .filter(|(_, value)| value.is_mapping())
        .find_map(|(_, value)| find_template(value, depth - 1))
}

fn has_containers<'t>(pod: impl View<'t>) -> bool {
    ["containers", "initContainers"].iter().any(|list| {
        pod.items_at(&["spec", list])
            .any(|container| container.text_at(&["image"]).is_some())
    })
}

impl Workload {
    fn read<'t, V: View<'t>>(node: V, meta: Meta, pod: Option<V>) -> Self {
        let text = |path: &[&str]| node.text_at(path).map(Cow::into_owned);
        let deletes = |when: &str| {
            node.text_at(&["spec", "persistentVolumeClaimRetentionPolicy", when])
                .as_deref()
                == Some("Delete")
        };
        // Custom kinds that replace StatefulSets have templates of claims too.
        let is_stateful = meta.object.kind == "StatefulSet"
            || node.at(&["spec", "volumeClaimTemplates"]).is_some();
        let stateful = is_stateful.then(|| Stateful {
            service_name: text(&["spec", "serviceName"]).filter(|name| !name.is_empty()),
            pod_management_policy: text(&["spec", "podManagementPolicy"])
                .unwrap_or_else(|| "OrderedReady".into()),
            claim_templates: node
                .items_at(&["spec", "volumeClaimTemplates"])
                .map(ClaimTemplate::read)
                .collect(),
            retention: Retention {
                delete_with_set: deletes("whenDeleted"),
                delete_when_scaled: deletes("whenScaled"),
            },
        });
        let status = node
            .get("status")
            .filter(|status| status.entries().next().is_some())
            .map(|_| Status {
                generation: number(node, &["metadata", "generation"]).unwrap_or(0),
                observed_generation: number(node, &["status", "observedGeneration"]).unwrap_or(0),
                replicas: number(node, &["status", "replicas"]).unwrap_or(0),
                updated: number(node, &["status", "updatedReplicas"]).unwrap_or(0),
                ready: number(node, &["status", "readyReplicas"]).unwrap_or(0),
                available: number(node, &["status", "availableReplicas"]).unwrap_or(0),
            });
        Self {
            replicas: number(node, &["spec", "replicas"]),
            paused: node
                .at(&["spec", "paused"])
                .and_then(View::as_bool)
                .unwrap_or(false),
            strategy: text(&["spec", "strategy", "type"])
                .or_else(|| text(&["spec", "updateStrategy", "type"])),
            selector: labels(node.at(&["spec", "selector", "matchLabels"])),
            stateful,
            pod: pod.map(PodTemplate::read).unwrap_or_default(),
            status,
            meta,
        }
    }

    /// Whether two states want the same: everything that a rule looks at but metadata and status.
    /// A field that is added does not compile before it stands here.
    #[must_use]
    pub fn has_same_spec(&self, other: &Self) -> bool {
        let Self {
            meta: _,
            status: _,
            pod,
            replicas,
            selector,
            stateful,
            strategy,
            paused,
        } = self;
        *pod == other.pod
            && *replicas == other.replicas
            && *selector == other.selector
            && *stateful == other.stateful
            && *strategy == other.strategy
            && *paused == other.paused
    }

    /// Whether another object makes this one, so that it is judged by that.
    #[must_use]
    pub fn is_made_by_a_controller(&self) -> bool {
        let made = matches!(
            self.meta.object.kind.as_str(),
            "Pod" | "ReplicaSet" | "Job" | "ReplicationController"
        );
        made && self.meta.owner_kind.as_deref().is_some_and(|owner| {
            matches!(
                owner,
                "ReplicaSet"
                    | "Deployment"
                    | "StatefulSet"
                    | "DaemonSet"
                    | "Job"
                    | "CronJob"
                    | "ReplicationController"
                    | "Node"
            )
        })
    }

    /// How many pods are wanted; absent means one.
    #[must_use]
    pub fn wanted_replicas(&self) -> i64 {
        self.replicas.unwrap_or(1)
    }
}

impl PodTemplate {
    fn read<'t>(node: impl View<'t>) -> Self {
        Self {
            labels: labels(node.at(&["metadata", "labels"])),
            annotations: annotations(node.at(&["metadata", "annotations"])),
            termination_grace_seconds: number(node, &["spec", "terminationGracePeriodSeconds"]),
            fs_group: number(node, &["spec", "securityContext", "fsGroup"]),
            run_as_user: number(node, &["spec", "securityContext", "runAsUser"]),
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
        }
    }
}

impl Container {
    fn read<'t>(node: impl View<'t>) -> Self {
        let text = |key: &str| node.text_at(&[key]).unwrap_or_default().into_owned();
        let mut command = words(node, "command");
        command.extend(words(node, "args"));
        Self {
            name: text("name"),
            image: text("image"),
            command,
            env: Variables::read(node.get("env")),
            run_as_user: number(node, &["securityContext", "runAsUser"]),
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
    fn read<'t>(node: impl View<'t>) -> Option<Self> {
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
    fn read<'t>(node: impl View<'t>) -> Option<Self> {
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
    fn read<'t>(node: Option<impl View<'t>>) -> Self {
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

impl Volume {
    fn read<'t>(node: impl View<'t>) -> Self {
        let files = |node: Option<_>, kind| node.and_then(|node| Files::read(node, kind));
        let source = if let Some(claim) = node.text_at(&["persistentVolumeClaim", "claimName"]) {
            VolumeSource::Claim(claim.into_owned())
        } else if let Some(files) = files(node.get("configMap"), SourceKind::ConfigMap)
            .or_else(|| files(node.get("secret"), SourceKind::Secret))
        {
            VolumeSource::Files(vec![files])
        } else if let Some(projected) = node.get("projected") {
            let of = |source| {
                files(View::get(source, "configMap"), SourceKind::ConfigMap)
                    .or_else(|| files(View::get(source, "secret"), SourceKind::Secret))
            };
            VolumeSource::Files(projected.items_at(&["sources"]).filter_map(of).collect())
        } else if node.get("emptyDir").is_some() || node.get("ephemeral").is_some() {
            VolumeSource::EmptyDir
        } else if let Some(host) = node.get("hostPath") {
            let path = host.text_at(&["path"]).unwrap_or_default();
            VolumeSource::HostPath(normal_path(&path))
        } else {
            // The definition counts too: the same share under another path is another place.
            let kind = node.entries().find(|(key, _)| key != "name");
            VolumeSource::Other(
                kind.map(|(key, value)| described(&key, value))
                    .unwrap_or_default(),
            )
        };
        Self {
            name: node.text_at(&["name"]).unwrap_or_default().into_owned(),
            source,
        }
    }
}

/// A path without doubled and trailing slashes.
#[must_use]
pub fn normal_path(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

/// A volume source of another kind, with the scalars that define it (`nfs server=a path=/b`),
/// bounded.
fn described<'t>(kind: &str, value: impl View<'t>) -> String {
    let mut text = kind.to_owned();
    for (key, value) in value.entries().take(8) {
        if let Some(value) = value.as_text().filter(|value| value.len() <= 256) {
            text.push_str(&format!(" {key}={value}"));
        }
    }
    text
}

impl ClaimTemplate {
    fn read<'t>(node: impl View<'t>) -> Self {
        let mut access_modes: Vec<_> = node
            .items_at(&["spec", "accessModes"])
            .filter_map(View::as_text)
            .map(Cow::into_owned)
            .collect();
        access_modes.sort();
        Self {
            name: node
                .text_at(&["metadata", "name"])
                .unwrap_or_default()
                .into_owned(),
            access_modes,
            storage: node
                .text_at(&["spec", "resources", "requests", "storage"])
                .map(Cow::into_owned),
            storage_class: node
                .text_at(&["spec", "storageClassName"])
                .map(Cow::into_owned),
        }
    }
}

impl ConfigMap {
    /// Reads the keys of a `ConfigMap` or a `Secret`; an object without any is of no interest.
    fn read<'t>(node: impl View<'t>, meta: Meta, kind: SourceKind) -> Object {
        let mut files: Vec<ConfigFile> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        let is_secret = kind == SourceKind::Secret;
        for (section, is_encoded) in [
            ("data", is_secret),
            ("binaryData", true),
            ("stringData", false),
        ] {
            for (key, value) in node.get(section).into_iter().flat_map(View::entries) {
                let Some(written) = value.as_text() else {
                    continue;
                };
                let text = if is_encoded {
                    decoded(&written)
                } else {
                    Some(written.as_ref().into())
                };
                let file = ConfigFile {
                    key: key.into_owned(),
                    text: text.ok_or(NoText::Binary),
                    line: value.line(),
                };
                // `stringData` wins over `data`, as in the API server.
                if let Some(old) = known.get(&file.key).and_then(|at| files.get_mut(*at)) {
                    *old = file;
                } else {
                    known.insert(file.key.clone(), files.len());
                    files.push(file);
                }
            }
        }
        if files.is_empty() {
            return Object::Other(meta);
        }
        let is_immutable = node
            .get("immutable")
            .and_then(View::as_bool)
            .unwrap_or(false);
        Object::Config(Arc::new(Self {
            meta,
            kind,
            is_immutable,
            files,
        }))
    }
}

/// The text behind base64; `None` if it is not base64 or not UTF-8.
fn decoded(text: &str) -> Option<Box<str>> {
    let compact: String = text
        .chars()
        .filter(|letter| !letter.is_ascii_whitespace())
        .collect();
    let bytes = BASE64_STANDARD.decode(compact).ok()?;
    String::from_utf8(bytes).ok().map(Into::into)
}

impl Deployer {
    fn argo<'t>(node: impl View<'t>, meta: Meta) -> Self {
        let flag = |path: &[&str]| node.at(path).and_then(View::as_bool).unwrap_or(false);
        let text = |path: &[&str]| node.text_at(path).map(Cow::into_owned);
        Self {
            tool: DeployerTool::ArgoCd,
            release: text(&["spec", "source", "helm", "releaseName"])
                .or_else(|| Some(meta.object.name.clone())),
            target_namespace: text(&["spec", "destination", "namespace"]),
            self_heal: flag(&["spec", "syncPolicy", "automated", "selfHeal"]),
            retry_limit: number(node, &["spec", "syncPolicy", "retry", "limit"]),
            meta,
        }
    }

    fn flux<'t>(node: impl View<'t>, meta: Meta) -> Self {
        let text = |path: &[&str]| node.text_at(path).map(Cow::into_owned);
        Self {
            tool: DeployerTool::Flux,
            release: text(&["spec", "releaseName"]).or_else(|| Some(meta.object.name.clone())),
            target_namespace: text(&["spec", "targetNamespace"])
                .or_else(|| meta.object.namespace.clone()),
            self_heal: node.text_at(&["spec", "driftDetection", "mode"]).as_deref()
                == Some("enabled"),
            retry_limit: number(node, &["spec", "upgrade", "remediation", "retries"]),
            meta,
        }
    }
}
