//! Whether the input after a change is a whole release or a part of one, and what a part makes of
//! the running state.
//!
//! `helm upgrade` and a build of kustomize bring a whole release: what they lack is removed.
//! `kubectl apply -f FILE`, `helm template --show-only` and a patch bring a part: what they lack
//! stays. An input does not say which it is, so this module looks for signs, release by release.
//! Where a sign is only likely, the report says what was assumed and names the flag (`--whole`,
//! `--part`) that says otherwise.
//!
//! 1. *Known.* Helm's record, `helm upgrade --dry-run`, `helm get all`, a Terraform plan,
//!    `release:`, `live` and `version:` are whole. A workload without a selector, where the running
//!    one has it, is a patch and so a part.
//! 2. *Nothing is missing.* If every workload of the release before is there after, both readings
//!    are the same.
//! 3. *Nothing in common.* If the input holds a complete Milvus and none of the workloads that run,
//!    it is another release or another topology, and whole.
//! 4. *Rendered by Helm* (`# Source:` comments, or Helm's labels on objects that were not read from
//!    a cluster). A chart of Milvus renders its configuration and its Services each time, so an
//!    input with them is whole: a component or a dependency that is missing was dropped. Without
//!    them it is a selection (`--show-only`), a part.
//! 5. *No Milvus workload.* An input that holds some of the objects that run is a part, unless it
//!    holds more than half of the workloads, or is rendered by Helm and holds all dependencies:
//!    then Milvus was dropped, and there is nothing to judge.
//! 6. *Other files.* One with a Milvus that could not run alone is a part unless it holds more than
//!    half of the components. One with a complete Milvus is whole if it brings any of its
//!    dependencies, or if its configuration points to other hosts than the missing ones; else the
//!    dependencies are in other files, and it is a part.

use std::collections::{BTreeSet, HashMap};

use milvus_guard_core::{
    manifest::{
        Object,
        object::{Meta, ObjectRef, SourceRef, Workload},
    },
    milvus::{
        Component, Coordinators, Release, Snapshot,
        dependency::{Dependency, Family, instance},
        snapshot::Builder,
    },
};

use super::{
    Form, InputError, Loaded,
    objects::Content,
    patch::{self, is_same},
};

/// Objects that a remark names.
const MAX_NAMED: usize = 5;

/// What the user says of the input after a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Nothing: it is seen from the input.
    #[default]
    Seen,
    /// `--whole`.
    Whole,
    /// `--part`.
    Part,
}

/// What an input holds of one release.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extent {
    is_part: bool,
    /// Why that was assumed; `None` if it is known, or makes no difference.
    because: Option<String>,
}

impl Extent {
    const WHOLE: Self = Self {
        is_part: false,
        because: None,
    };
    const PART: Self = Self {
        is_part: true,
        because: None,
    };

    fn assumed(is_part: bool, because: impl Into<String>) -> Self {
        Self {
            is_part,
            because: Some(because.into()),
        }
    }
}

/// Groups the input after a change as it would be in place of what is before it, and says in its
/// entry how it was understood.
///
/// # Errors
/// Where it holds a patch of a workload whose document is not at hand.
pub fn settle(before: &Loaded, after: &mut Loaded, choice: Choice) -> Result<(), InputError> {
    let patches = patch::lay(&before.content, &mut after.content)?;
    let alone = after.content.builder().build_over(&before.content.objects);
    let sides = Sides {
        before,
        after: &after.content,
        patches: &patches,
        known: Index::of(&before.content),
        wanted: Index::of(&after.content),
    };
    let extents: Vec<(&Release, Option<&Release>, Extent)> = alone
        .releases
        .iter()
        .map(|release| {
            let running = sides.running(release, &alone);
            (release, running, sides.extent(running, release, choice))
        })
        .collect();
    let is_part = if alone.releases.is_empty() {
        sides.is_part_without_milvus(choice)
    } else {
        extents.iter().any(|(.., extent)| extent.is_part)
    };
    if !is_part {
        let notes = extents
            .iter()
            .filter_map(|(_, running, extent)| sides.note_whole((*running)?, extent))
            .collect();
        let staying: Vec<Object> = extents
            .iter()
            .flat_map(|(_, running, _)| sides.staying(*running))
            .collect();
        let snapshot = if staying.is_empty() {
            alone
        } else {
            let mut builder = after.content.builder();
            for object in staying {
                builder.add(object);
            }
            builder.build_over(&before.content.objects)
        };
        after.entry.notes.extend::<Vec<String>>(notes);
        if snapshot.releases.is_empty() && choice == Choice::Seen {
            after
                .entry
                .notes
                .push("If it is one of several files for kubectl apply: --part".to_owned());
        }
        after.snapshot = snapshot;
        return Ok(());
    }
    // Of a release that is whole, what the input lacks no longer exists.
    let gone: BTreeSet<&ObjectRef> = extents
        .iter()
        .filter(|(.., extent)| !extent.is_part)
        .filter_map(|(_, running, _)| *running)
        .flat_map(owned)
        .collect();
    let because = extents
        .iter()
        .filter(|(.., extent)| extent.is_part)
        .find_map(|(.., extent)| extent.because.clone());
    let laid = after.content.objects.len();
    let (snapshot, stays) = sides.merged(&gone);
    let mut note = format!(
        "after is a part: {} merged into the state before; {stays} stay unchanged",
        counted(laid)
    );
    if let Some(because) = because.filter(|_| choice == Choice::Seen) {
        note.push_str(&format!(
            " (assumed, because {because}; if missing objects are to be removed, use --whole)"
        ));
    }
    after.entry.notes.push(note);
    after.snapshot = snapshot;
    Ok(())
}

/// Both inputs.
struct Sides<'a> {
    before: &'a Loaded,
    after: &'a Content,
    patches: &'a BTreeSet<ObjectRef>,
    known: Index<'a>,
    wanted: Index<'a>,
}

/// The objects of an input by kind and name, each with its namespaces.
struct Index<'a>(HashMap<(&'a str, &'a str), Vec<Option<&'a str>>>);

impl<'a> Index<'a> {
    fn of(content: &'a Content) -> Self {
        let mut index: HashMap<_, Vec<_>> = HashMap::new();
        for ObjectRef {
            kind,
            name,
            namespace,
        } in content.metas().map(|meta| &meta.object)
        {
            index
                .entry((&**kind, &**name))
                .or_default()
                .push(namespace.as_deref());
        }
        Self(index)
    }

    /// Whether the object is there; a namespace that is not named may be any.
    fn holds(&self, object: &ObjectRef) -> bool {
        let Some(namespaces) = self.0.get(&(&*object.kind, &*object.name)) else {
            return false;
        };
        namespaces
            .iter()
            .any(|namespace| match (namespace, &object.namespace) {
                (Some(one), Some(other)) => one == other,
                _ => true,
            })
    }
}

impl Sides<'_> {
    fn holds(&self, object: &ObjectRef) -> bool {
        self.wanted.holds(object)
    }

    fn was(&self, object: &ObjectRef) -> bool {
        self.known.holds(object)
    }

    /// The running state of a release: that with the same workloads, else that of the same name,
    /// else the only one that is left.
    fn running(&self, release: &Release, alone: &Snapshot) -> Option<&Release> {
        let all = &self.before.snapshot.releases;
        let shares = |running: &&Release| {
            components(running).any(|one| {
                components(release).any(|other| is_same(&one.meta.object, &other.meta.object))
            })
        };
        let is_named = |running: &&Release| {
            running.name == release.name
                && running.app_name == release.app_name
                && (running.namespace.is_none()
                    || release.namespace.is_none()
                    || running.namespace == release.namespace)
        };
        let only = || match (&all[..], &alone.releases[..]) {
            ([only], [_]) => Some(only),
            _ => None,
        };
        all.iter()
            .find(shares)
            .or_else(|| all.iter().find(is_named))
            .or_else(only)
    }

    fn extent(&self, running: Option<&Release>, release: &Release, choice: Choice) -> Extent {
        match choice {
            Choice::Whole => return Extent::WHOLE,
            Choice::Part => return Extent::PART,
            Choice::Seen => {}
        }
        let Some(running) = running else {
            return Extent::WHOLE;
        };
        if components(release).any(|workload| self.patches.contains(&workload.meta.object)) {
            return Extent::PART;
        }
        if self.after.form == Form::Whole || self.missing(running).next().is_none() {
            return Extent::WHOLE;
        }
        let common = components(running)
            .filter(|workload| self.holds(&workload.meta.object))
            .count();
        if common == 0 && is_complete(release) {
            return Extent::WHOLE;
        }
        if self.is_rendered(release) {
            self.of_render(running, release, common)
        } else {
            self.of_files(running, release, common)
        }
    }

    /// The workloads of a running release that the input lacks.
    fn missing<'r>(&'r self, running: &'r Release) -> impl Iterator<Item = &'r Workload> {
        workloads(running).filter(|workload| !self.holds(&workload.meta.object))
    }

    /// Whether an input without a Milvus workload is a part: it changes something of the running
    /// state, and it is not the rest of a release from which Milvus was dropped.
    fn is_part_without_milvus(&self, choice: Choice) -> bool {
        let all = &self.before.snapshot.releases;
        if all.is_empty()
            || choice == Choice::Whole
            || !self.after.metas().any(|meta| self.was(&meta.object))
        {
            return false;
        }
        let held: Vec<&Release> = all
            .iter()
            .filter(|release| owned(release).any(|object| self.holds(object)))
            .collect();
        let (total, common) = held.iter().flat_map(|release| workloads(release)).fold(
            (0, 0),
            |(total, common), workload| {
                (
                    total + 1,
                    common + usize::from(self.holds(&workload.meta.object)),
                )
            },
        );
        let holds_the_rest = held.iter().any(|release| {
            !release.dependencies.is_empty()
                && release
                    .dependencies
                    .iter()
                    .all(|dependency| self.holds(&dependency.workload.meta.object))
        });
        let is_rendered =
            || self.after.form == Form::Rendered || self.after.metas().any(is_labelled_by_helm);
        choice == Choice::Part
            || (self.after.form != Form::Whole
                && common * 2 <= total
                && !(holds_the_rest && is_rendered()))
    }

    /// Whether Helm made the input. Objects that were read from a cluster bear Helm's labels too.
    fn is_rendered(&self, release: &Release) -> bool {
        self.after.form == Form::Rendered
            || components(release).any(|workload| is_labelled_by_helm(&workload.meta))
    }

    /// Whether a render is that of all templates.
    fn of_render(&self, running: &Release, release: &Release, common: usize) -> Extent {
        let is_service = |meta: &Meta| meta.object.kind == "Service";
        let is_other = |meta: &Meta| !WORKLOADS.contains(&meta.object.kind.as_str());
        if !self.after.metas().any(is_other) {
            // If both inputs are lists of workloads, that proves nothing.
            let had_other = self
                .before
                .content
                .metas()
                .any(|meta| is_other(meta) && is_of(meta, running));
            return if had_other {
                Extent::assumed(true, "it contains only workloads")
            } else {
                self.of_files(running, release, common)
            };
        }
        let lacks = self.before.content.metas().find(|meta| {
            reads(release, &meta.object) && is_of(meta, running) && !self.holds(&meta.object)
        });
        if let Some(meta) = lacks {
            return Extent::assumed(
                true,
                format!("it mounts {}, but does not contain it", meta.object),
            );
        }
        let had_service = self
            .before
            .content
            .metas()
            .any(|meta| is_service(meta) && is_of(meta, running));
        if had_service && !self.after.metas().any(is_service) {
            return Extent::assumed(true, "it does not contain a Service of the release");
        }
        Extent::WHOLE
    }

    fn of_files(&self, running: &Release, release: &Release, common: usize) -> Extent {
        let total = components(running).count();
        if !is_complete(release) && common < total {
            return if common * 2 > total {
                Extent::assumed(
                    false,
                    format!("it contains {common} of the {total} components"),
                )
            } else {
                Extent::assumed(
                    true,
                    format!("it contains {common} of the {total} components"),
                )
            };
        }
        let missing: Vec<&Dependency> = running
            .dependencies
            .iter()
            .filter(|dependency| !self.holds(&dependency.workload.meta.object))
            .collect();
        if missing.is_empty() {
            return Extent::assumed(
                false,
                "it contains a complete Milvus with all its dependencies",
            );
        }
        if !release.dependencies.is_empty() {
            return Extent::assumed(false, "it also contains dependencies of Milvus");
        }
        if missing
            .iter()
            .all(|dependency| self.is_used(release, dependency) == Some(false))
        {
            return Extent::assumed(
                false,
                "its configuration points to other hosts than the missing workloads",
            );
        }
        Extent::assumed(true, "it contains Milvus without its dependencies")
    }

    /// Whether a release's configuration still points to a dependency; `None` if it does not say.
    fn is_used(&self, release: &Release, dependency: &Dependency) -> Option<bool> {
        let key = match dependency.family {
            Family::Etcd => "etcd.endpoints",
            Family::Minio | Family::Silo => "minio.address",
            Family::PulsarV2 | Family::PulsarV3 => "pulsar.address",
            Family::Kafka | Family::Zookeeper => "kafka.brokerList",
            Family::Tikv => "tikv.endpoints",
            Family::Mysql | Family::Woodpecker => return None,
        };
        let addresses = release.config.value(key)?;
        let mut hosts = addresses
            .split([',', ' ', '[', ']', '"'])
            .filter(|address| !address.is_empty());
        Some(hosts.any(|address| self.is_host_of(address, &dependency.workload.meta.object)))
    }

    /// Whether an address is that of a workload, as far as names tell: its own, with a pod's number
    /// or a Service's suffix; without a namespace also the end of its name, or the name of a
    /// Service next to it.
    fn is_host_of(&self, address: &str, workload: &ObjectRef) -> bool {
        let address = address.rsplit_once("://").map_or(address, |(_, rest)| rest);
        let mut labels = address
            .split([':', '/'])
            .next()
            .unwrap_or_default()
            .split('.');
        let host = labels.next().unwrap_or_default();
        let domain: Vec<&str> = labels.collect();
        if host.is_empty() {
            return false;
        }
        let begins = |long: &str, short: &str| {
            long.strip_prefix(short)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let name = &*workload.name;
        let is_named = begins(host, name) || begins(name, host);
        if domain.is_empty() {
            return is_named
                || name
                    .strip_suffix(host)
                    .is_some_and(|rest| rest.ends_with('-'))
                || self
                    .before
                    .content
                    .metas()
                    .any(|meta| meta.object.kind == "Service" && meta.object.name == host);
        }
        is_named
            && workload
                .namespace
                .as_deref()
                .is_none_or(|namespace| domain.contains(&namespace) || begins(domain[0], name))
    }

    /// Dependencies of a running release that another owner keeps: a change of the release does not
    /// remove them.
    fn staying(&self, running: Option<&Release>) -> Vec<Object> {
        let Some(running) = running else {
            return Vec::new();
        };
        let Some(owner) = components(running).find_map(|workload| owner(&workload.meta)) else {
            return Vec::new();
        };
        let others = running
            .dependencies
            .iter()
            .map(|dependency| &dependency.workload)
            .filter(|workload| {
                self::owner(&workload.meta).as_ref() != Some(&owner)
                    && !self.holds(&workload.meta.object)
            });
        others
            .map(|workload| Object::Workload(workload.clone()))
            .collect()
    }

    /// A remark on a release that was taken as whole by assumption, though something is missing.
    fn note_whole(&self, running: &Release, extent: &Extent) -> Option<String> {
        let because = extent.because.as_ref()?;
        let missing: Vec<String> = self
            .missing(running)
            .map(|workload| workload.meta.object.to_string())
            .collect();
        let more = missing.len().saturating_sub(MAX_NAMED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let named = missing.get(..missing.len().min(MAX_NAMED))?.join(", ");
        Some(format!(
            "after is taken as the whole release, because {because}; {named}{more} is not in it \
             and counts as removed (if it is one of several files for kubectl apply: --part)"
        ))
    }

    /// The running state with the input's objects merged in, without what no longer exists: only
    /// the releases that the input changes. Also how many objects stay as they are.
    fn merged(&self, gone: &BTreeSet<&ObjectRef>) -> (Snapshot, usize) {
        let kept: Vec<&Object> = self
            .before
            .content
            .objects
            .iter()
            .filter(|object| {
                let object = &object.meta().object;
                !gone.contains(object) && !self.holds(object)
            })
            .collect();
        let namespace = self.namespace();
        let placed = |object: &Object| {
            let mut object = object.clone();
            if object.meta().object.namespace.is_none() && namespace.is_some() {
                object.meta_mut().object.namespace.clone_from(&namespace);
            }
            object
        };
        let mut builder = Builder::default();
        for object in self.after.objects.iter().chain(kept.iter().copied()) {
            builder.add(placed(object));
        }
        self.before.content.describe_to(&mut builder);
        self.after.describe_to(&mut builder);
        let mut snapshot = builder.build();
        let is_touched = |release: &Release| {
            owned(release).any(|object| self.holds(object))
                || self.after.metas().any(|meta| reads(release, &meta.object))
        };
        snapshot.releases.retain(is_touched);
        (snapshot, kept.len())
    }

    /// The namespace of objects that name none: the only one that both inputs name.
    fn namespace(&self) -> Option<String> {
        let releases = self
            .before
            .snapshot
            .releases
            .iter()
            .filter_map(|release| release.namespace.as_deref());
        let objects = self
            .after
            .metas()
            .filter_map(|meta| meta.object.namespace.as_deref());
        let of_release: BTreeSet<&str> = releases.collect();
        let all: BTreeSet<&str> = if of_release.is_empty() {
            objects.collect()
        } else {
            of_release
        };
        let only = all.first().filter(|_| all.len() == 1)?;
        Some((*only).to_owned())
    }
}

fn components(release: &Release) -> impl Iterator<Item = &Workload> {
    release
        .components
        .iter()
        .map(|component| &*component.workload)
}

fn workloads(release: &Release) -> impl Iterator<Item = &Workload> {
    components(release).chain(
        release
            .dependencies
            .iter()
            .map(|dependency| &*dependency.workload),
    )
}

fn owned(release: &Release) -> impl Iterator<Item = &ObjectRef> {
    workloads(release)
        .map(|workload| &workload.meta.object)
        .chain(release.claims.iter().map(|claim| &claim.meta.object))
        .chain(
            release
                .autoscalers
                .iter()
                .map(|autoscaler| &autoscaler.meta.object),
        )
}

/// Whether a Milvus could run with these components.
fn is_complete(release: &Release) -> bool {
    release.has(Component::Standalone)
        || (release.coordinators() != Coordinators::None
            && [Component::Proxy, Component::QueryNode, Component::DataNode]
                .iter()
                .all(|component| release.has(*component)))
}

/// Whether an object says that it belongs to a release.
fn is_of(meta: &Meta, release: &Release) -> bool {
    let says = meta
        .label("app.kubernetes.io/instance")
        .or_else(|| meta.annotation("meta.helm.sh/release-name"));
    says.is_some() && components(release).any(|workload| instance(workload) == says)
}

/// Whether an object bears Helm's labels and was not read from a cluster.
fn is_labelled_by_helm(meta: &Meta) -> bool {
    meta.uid.is_none()
        && (meta.label("helm.sh/chart").is_some()
            || meta.label("app.kubernetes.io/managed-by") == Some("Helm"))
}

/// Who keeps an object: a Helm release, or an object of Argo CD or Flux.
fn owner(meta: &Meta) -> Option<String> {
    let helm = || {
        let name = meta.annotation("meta.helm.sh/release-name")?;
        Some(format!(
            "helm {}/{name}",
            meta.annotation("meta.helm.sh/release-namespace")
                .unwrap_or_default()
        ))
    };
    let argo = || {
        let app = meta
            .annotation("argocd.argoproj.io/tracking-id")?
            .split(':')
            .next()?;
        Some(format!("argocd {app}"))
    };
    let label = |key: &str| Some(format!("{key} {}", meta.label(key)?));
    helm()
        .or_else(argo)
        .or_else(|| label("argocd.argoproj.io/instance"))
        .or_else(|| label("kustomize.toolkit.fluxcd.io/name"))
        .or_else(|| label("helm.toolkit.fluxcd.io/name"))
}

fn counted(objects: usize) -> String {
    if objects == 1 {
        "1 object".into()
    } else {
        format!("{objects} objects")
    }
}

/// Kinds of workloads that charts render.
const WORKLOADS: [&str; 6] = [
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
    "Pod",
];

/// Whether a release reads an object as files or as variables.
fn reads(release: &Release, object: &ObjectRef) -> bool {
    SourceRef::of(object).is_some_and(|source| release.reads(&source))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::files::{Role, objects::Collector};

    /// A workload; the labels are those of a Helm release where one is named.
    fn workload(kind: &str, name: &str, image: &str, more: &str, helm: Option<&str>) -> String {
        let labels = match helm {
            Some(release) => {
                format!(
                    "app.kubernetes.io/instance: {release}, app.kubernetes.io/managed-by: Helm, \
                     helm.sh/chart: x-4.2.57"
                )
            }
            None => format!("app: {name}"),
        };
        format!(
            "---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec:\n  selector: {{matchLabels: {{{labels}, name: {name}}}}}\n  template:\n    spec:\n      containers: [{{name: main, image: '{image}'{more}}}]\n      volumes: [{{name: c, configMap: {{name: r-config}}}}]\n"
        )
    }

    fn other(kind: &str, name: &str, helm: Option<&str>, more: &str) -> String {
        let labels = helm
            .map(|release| format!("app.kubernetes.io/instance: {release}"))
            .unwrap_or_default();
        format!(
            "---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n{more}"
        )
    }

    fn config(helm: Option<&str>, etcd: &str) -> String {
        other(
            "ConfigMap",
            "r-config",
            helm,
            &format!(
                "data:\n  milvus.yaml: |\n    etcd: {{endpoints: '{etcd}:2379'}}\n    minio: {{address: r-minio}}\n"
            ),
        )
    }

    fn milvus(component: &str, tag: &str, helm: Option<&str>) -> String {
        let name = format!("r-milvus-{component}");
        workload(
            "Deployment",
            &name,
            &format!("milvusdb/milvus:{tag}"),
            &format!(", args: [milvus, run, {component}]"),
            helm,
        )
    }

    fn etcd(name: &str, helm: Option<&str>) -> String {
        workload("StatefulSet", name, "quay.io/coreos/etcd:v3.5.18", "", helm)
    }

    fn minio(helm: Option<&str>) -> String {
        workload(
            "Deployment",
            "r-minio",
            "minio/minio:RELEASE.2023-03-20T20-16-18Z",
            "",
            helm,
        )
    }

    fn cluster(tag: &str, without: &str, helm: Option<&str>) -> String {
        let all = [
            "proxy",
            "rootcoord",
            "querycoord",
            "datacoord",
            "indexcoord",
            "querynode",
            "datanode",
            "indexnode",
        ];
        all.iter()
            .filter(|component| !without.split(' ').any(|gone| gone == **component))
            .map(|component| milvus(component, tag, helm))
            .collect()
    }

    fn source(text: &str) -> String {
        text.replace("---\n", "---\n# Source: milvus/templates/x.yaml\n")
    }

    fn loaded(role: Role, text: &str) -> Loaded {
        let mut collector = Collector::new(role, None);
        collector.add_text(text, "x.yaml").unwrap();
        let content = collector.content("x.yaml").unwrap();
        Loaded {
            snapshot: content.builder().build(),
            content,
            ..Loaded::default()
        }
    }

    /// What a change makes of the running state: whether it is a part, the remark, and the state
    /// after it.
    fn settled(before: &str, after: &str, choice: Choice) -> (bool, String, Snapshot) {
        let before = loaded(Role::Before, before);
        let mut after = loaded(Role::After, after);
        settle(&before, &mut after, choice).unwrap();
        let note = after.entry.notes.join("\n");
        (note.starts_with("after is a part"), note, after.snapshot)
    }

    fn raw_stack() -> String {
        [
            milvus("standalone", "v2.6.1", None),
            config(None, "r-etcd"),
            other("Service", "r-milvus", None, ""),
            etcd("r-etcd", None),
            minio(None),
        ]
        .concat()
    }

    fn helm_stack() -> String {
        let helm = Some("r");
        [
            milvus("standalone", "v2.6.1", helm),
            config(helm, "r-etcd"),
            other("Service", "r-milvus", helm, ""),
            etcd("r-etcd", helm),
            minio(helm),
        ]
        .concat()
    }

    #[rstest]
    #[case::one_deployment(milvus("standalone", "v2.6.22", None), true)]
    #[case::milvus_in_a_file_of_its_own([milvus("standalone", "v2.6.22", None), config(None, "r-etcd"), other("Service", "r-milvus", None, "")].concat(), true)]
    #[case::one_dependency(etcd("r-etcd", None), true)]
    #[case::only_the_configuration(config(None, "r-etcd"), true)]
    #[case::all([milvus("standalone", "v2.6.22", None), etcd("r-etcd", None), minio(None)].concat(), false)]
    #[case::milvus_forgotten([etcd("r-etcd", None), minio(None)].concat(), false)]
    #[case::etcd_forgotten([milvus("standalone", "v2.6.22", None), config(None, "r-etcd"), minio(None)].concat(), false)]
    #[case::etcd_elsewhere_and_minio([milvus("standalone", "v2.6.22", None), config(None, "etcd.infra.svc"), minio(None)].concat(), false)]
    #[case::another_topology([cluster("v2.6.22", "", None), config(None, "r-etcd")].concat(), false)]
    fn files_against_a_stack_of_files(#[case] after: String, #[case] expected: bool) {
        let (is_part, note, snapshot) = settled(&raw_stack(), &after, Choice::Seen);
        assert_eq!(is_part, expected, "{note}");
        if expected {
            let release = &snapshot.releases[0];
            assert!(release.has(Component::Standalone), "{note}");
            assert_eq!(
                release.families().len(),
                2,
                "a part removes nothing: {note}"
            );
            assert_eq!(release.config.value("etcd.endpoints"), Some("r-etcd:2379"));
        }
    }

    #[rstest]
    #[case::both_elsewhere("etcd.infra", "minio.infra", false)]
    #[case::both_here("r-etcd", "r-minio", true)]
    #[case::one_here("r-etcd", "minio.infra", true)]
    fn the_configuration_says_whether_dependencies_stay(
        #[case] etcd: &str,
        #[case] minio: &str,
        #[case] expected: bool,
    ) {
        let config = config(None, etcd).replace("address: r-minio", &format!("address: {minio}"));
        let after = [milvus("standalone", "v2.6.22", None), config].concat();
        let (is_part, note, _) = settled(&raw_stack(), &after, Choice::Seen);
        assert_eq!(is_part, expected, "{note}");
        assert!(
            note.contains(if expected { "--whole" } else { "--part" }),
            "{note}"
        );
    }

    #[rstest]
    #[case::whole(source(&helm_stack().replace("v2.6.1", "v2.6.22")), false)]
    #[case::etcd_dropped(source(&[milvus("standalone", "v2.6.22", Some("r")), config(Some("r"), "r-etcd"), other("Service", "r-milvus", Some("r"), ""), minio(Some("r"))].concat()), false)]
    #[case::all_dependencies_dropped(source(&[milvus("standalone", "v2.6.22", Some("r")), config(Some("r"), "r-etcd"), other("Service", "r-milvus", Some("r"), "")].concat()), false)]
    #[case::labels_tell_a_render([milvus("standalone", "v2.6.22", Some("r")), config(Some("r"), "r-etcd"), other("Service", "r-milvus", Some("r"), "")].concat(), false)]
    #[case::show_only(source(&milvus("standalone", "v2.6.22", Some("r"))), true)]
    #[case::show_only_two(source(&[milvus("standalone", "v2.6.22", Some("r")), config(Some("r"), "r-etcd")].concat()), true)]
    #[case::show_only_etcd(source(&etcd("r-etcd", Some("r"))), true)]
    #[case::copied_from_the_cluster(milvus("standalone", "v2.6.22", Some("r")).replace("metadata: {name: r", "metadata: {uid: a-b, name: r"), true)]
    fn renders_against_a_chart(#[case] after: String, #[case] expected: bool) {
        let (is_part, note, snapshot) = settled(&helm_stack(), &after, Choice::Seen);
        assert_eq!(is_part, expected, "{note}");
        assert_eq!(snapshot.releases.len(), 1);
        assert!(
            !expected || snapshot.releases[0].families().len() == 2,
            "a part removes nothing"
        );
    }

    #[test]
    fn a_render_without_milvus_is_not_a_part() {
        let helm = Some("r");
        let before = [
            cluster("v2.5.10", "", helm),
            config(helm, "r-etcd"),
            etcd("r-etcd", helm),
            minio(helm),
        ]
        .concat();
        let rest = source(&[etcd("r-etcd", helm), minio(helm)].concat());
        let (is_part, note, snapshot) = settled(&before, &rest, Choice::Seen);
        assert!(
            !is_part && snapshot.releases.is_empty() && note.contains("--part"),
            "{note}"
        );
        assert!(settled(&before, &rest, Choice::Part).0);
    }

    #[rstest]
    #[case::etcd_dropped(&["r-milvus-standalone", "r-minio"], false)]
    #[case::only_milvus(&["r-milvus-standalone"], true)]
    fn lists_of_workloads_alone(#[case] held: &[&str], #[case] expected: bool) {
        let helm = Some("r");
        let all = [
            milvus("standalone", "v2.6.1", helm),
            etcd("r-etcd", helm),
            minio(helm),
        ];
        let after: String = all
            .iter()
            .filter(|text| {
                held.iter()
                    .any(|name| text.contains(&format!("{{name: {name},")))
            })
            .cloned()
            .collect();
        let (is_part, note, _) = settled(&all.concat(), &after, Choice::Seen);
        assert_eq!(is_part, expected, "{note}");
        assert!(
            note.contains(if expected { "--whole" } else { "--part" }),
            "{note}"
        );
    }

    #[rstest]
    #[case::querynode_dropped("querynode", false)]
    #[case::index_node_dropped("indexnode", false)]
    #[case::one_of_eight(
        "rootcoord querycoord datacoord indexcoord querynode datanode indexnode",
        true
    )]
    #[case::half("proxy rootcoord querycoord datacoord", true)]
    #[case::five_of_eight("proxy rootcoord querycoord", false)]
    fn files_with_some_components(#[case] without: &str, #[case] expected: bool) {
        let before = [cluster("v2.5.10", "", None), config(None, "etcd.infra")].concat();
        let (is_part, note, snapshot) =
            settled(&before, &cluster("v2.5.11", without, None), Choice::Seen);
        assert_eq!(is_part, expected, "{note}");
        let missing = without.split(' ').count();
        assert_eq!(
            snapshot.releases[0].components.len(),
            if expected { 8 } else { 8 - missing }
        );
    }

    #[test]
    fn the_user_has_the_last_word() {
        let one = milvus("standalone", "v2.6.22", None);
        let (is_part, note, snapshot) = settled(&raw_stack(), &one, Choice::Whole);
        assert!(
            !is_part && snapshot.releases[0].dependencies.is_empty(),
            "{note}"
        );
        let render = source(
            &[
                milvus("standalone", "v2.6.22", Some("r")),
                config(Some("r"), "r-etcd"),
                other("Service", "r-milvus", Some("r"), ""),
            ]
            .concat(),
        );
        let (is_part, note, snapshot) = settled(&helm_stack(), &render, Choice::Part);
        assert!(
            is_part && snapshot.releases[0].dependencies.len() == 2,
            "{note}"
        );
        assert_eq!(
            note,
            "after is a part: 3 objects merged into the state before; 2 stay unchanged"
        );
    }

    #[test]
    fn what_stays_is_counted() {
        let (_, note, _) = settled(
            &raw_stack(),
            &milvus("standalone", "v2.6.22", None),
            Choice::Seen,
        );
        assert!(
            note.starts_with(
                "after is a part: 1 object merged into the state before; 4 stay unchanged \
                 (assumed, because "
            ),
            "{note}"
        );
    }

    #[test]
    fn releases_that_the_part_does_not_touch_are_not_judged() {
        let second = helm_stack()
            .replace("r-", "s-")
            .replace("instance: r", "instance: s");
        let before = format!("{}{second}", helm_stack());
        let copy = milvus("standalone", "v2.6.22", Some("r"))
            .replace("metadata: {name: r", "metadata: {uid: a-b, name: r");
        let (is_part, note, snapshot) = settled(&before, &copy, Choice::Seen);
        assert!(is_part, "{note}");
        assert_eq!(
            snapshot
                .releases
                .iter()
                .map(|release| release.name.as_str())
                .collect::<Vec<_>>(),
            ["r"]
        );
        assert_eq!(snapshot.releases[0].dependencies.len(), 2);
    }

    #[test]
    fn a_patch_without_its_object_is_an_error() {
        let patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: r-milvus-standalone}\nspec: {replicas: 0}\n";
        let mut after = loaded(Role::After, patch);
        let error = settle(
            &loaded(Role::Before, &raw_stack()),
            &mut after,
            Choice::Seen,
        )
        .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("Deployment/r-milvus-standalone is a patch"),
            "{error}"
        );
    }

    #[test]
    fn a_namespace_may_be_named_on_one_side_only() {
        let in_namespace =
            |text: &str| text.replace("metadata: {name", "metadata: {namespace: search, name");
        let one = milvus("standalone", "v2.6.22", None);
        for (before, after) in [
            (in_namespace(&raw_stack()), one.clone()),
            (raw_stack(), in_namespace(&one)),
        ] {
            let (is_part, note, snapshot) = settled(&before, &after, Choice::Seen);
            assert!(is_part, "{note}");
            assert_eq!(
                (
                    snapshot.releases.len(),
                    snapshot.releases[0].dependencies.len()
                ),
                (1, 2),
                "{note}"
            );
        }
    }

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let before = [milvus("standalone", "v2.6.1", None), etcd("r-etcd", None)].concat();
        let patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: r-milvus-standalone}\nspec:\n  template:\n    spec:\n      containers: [{name: main, image: 'milvusdb/milvus:v2.6.22'}]\n";
        let mut after = loaded(Role::After, patch);
        let mut collector = Collector::new(Role::Before, None).keep(after.content.patches());
        collector.add_text(&before, "before.yaml").unwrap();
        let content = collector.content("before.yaml").unwrap();
        let before = Loaded {
            snapshot: content.builder().build(),
            content,
            ..Loaded::default()
        };
        settle(&before, &mut after, Choice::Seen).unwrap();
        assert_eq!(
            after.entry.notes,
            ["after is a part: 1 object merged into the state before; 1 stay unchanged"]
        );
        let release = &after.snapshot.releases[0];
        assert_eq!(release.lowest().unwrap().to_string(), "2.6.22");
        assert_eq!(
            release.components[0].workload.pod.containers[0].command,
            ["milvus", "run", "standalone"]
        );
        assert_eq!(release.dependencies.len(), 1);
    }

    #[test]
    fn what_another_owner_keeps_stays() {
        let live = |text: &str, owner: &str| {
            text.replace(
                "metadata: {name",
                &format!("metadata: {{annotations: {{meta.helm.sh/release-name: {owner}}}, name"),
            )
        };
        let before = [
            live(&milvus("standalone", "v2.6.1", Some("r")), "r"),
            live(&config(Some("r"), "r-etcd"), "r"),
            live(&etcd("r-etcd", Some("data")), "data"),
            live(&minio(Some("r")), "r"),
        ]
        .concat();
        let after = source(
            &[
                milvus("standalone", "v2.6.22", Some("r")),
                config(Some("r"), "r-etcd"),
            ]
            .concat(),
        );
        let (is_part, note, snapshot) = settled(&before, &after, Choice::Whole);
        assert!(!is_part, "{note}");
        let names: Vec<&str> = snapshot.releases[0]
            .dependencies
            .iter()
            .map(|dependency| &*dependency.workload.meta.object.name)
            .collect();
        assert_eq!(names, ["r-etcd"], "MinIO is of the same release and goes");
    }

    #[test]
    fn helms_and_terraforms_inputs_are_whole() {
        let one = milvus("standalone", "v2.6.22", Some("r"));
        let printed = format!(
            "NAME: r\nNAMESPACE: milvus\nSTATUS: pending-upgrade\nREVISION: 2\nHOOKS:\nMANIFEST:\n{}",
            source(&one)
        );
        let document = milvus_guard_core::manifest::documents(&one)
            .next()
            .unwrap()
            .unwrap()
            .root
            .to_json();
        let map = serde_json::json!({"deployment.apps/apps/v1/r": document}).to_string();
        for whole in [printed, map] {
            let (is_part, note, snapshot) = settled(&helm_stack(), &whole, Choice::Seen);
            assert!(
                !is_part && snapshot.releases[0].dependencies.is_empty(),
                "{note}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_part_of_the_running_state_changes_nothing(chosen in proptest::collection::vec(any::<bool>(), 13), rendered in any::<bool>()) {
            let helm = rendered.then_some("r");
            let before = [cluster("v2.5.10", "", helm), config(helm, "r-etcd"), other("Service", "r-milvus", helm, ""), etcd("r-etcd", helm), minio(helm)].concat();
            let documents: Vec<&str> = before.split_inclusive("---\n").collect();
            let after: String = documents.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(text, _)| format!("---\n{text}")).collect();
            let running = loaded(Role::Before, &before);
            let mut collector = Collector::new(Role::After, None);
            collector.add_text(&after, "x").unwrap();
            if let Ok(content) = collector.content("x") {
                let touches = content.metas().any(|meta| meta.object.kind != "Service");
                let mut after = Loaded { snapshot: content.builder().build(), content, ..Loaded::default() };
                settle(&running, &mut after, Choice::Part).unwrap();
                prop_assert_eq!(after.snapshot.releases.len(), usize::from(touches));
                for release in &after.snapshot.releases {
                    let known = &running.snapshot.releases[0];
                    prop_assert_eq!(release.components.len(), known.components.len());
                    prop_assert_eq!(release.dependencies.len(), known.dependencies.len());
                    prop_assert_eq!(release.builds(), known.builds());
                    prop_assert_eq!(release.config.value("etcd.endpoints"), known.config.value("etcd.endpoints"));
                }
            }
        }
    }
}
