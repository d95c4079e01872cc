//! Decides by signs whether an input is a whole release or a part of it.

use milvus_guard_core::{
    manifest::object::{Meta, ObjectRef},
    milvus::{
        Component, Coordinators, Release,
        dependency::{Dependency, Family, instance},
    },
};

use super::sides::{Sides, components, owned, reads, workloads};
use crate::files::Form;

/// Whether the user called the input after a change whole or a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Neither: it is detected from the input.
    #[default]
    Seen,
    /// `--whole`.
    Whole,
    /// `--part`.
    Part,
}

/// Whether an input contains one release as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) is_part: bool,
    /// Why that was assumed; `None` if it is known, or makes no difference.
    pub(super) because: Option<String>,
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

impl Sides<'_> {
    pub(super) fn extent(
        &self,
        running: Option<&Release>,
        release: &Release,
        choice: Choice,
    ) -> Extent {
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

    /// Whether an input without a Milvus workload is a part: it changes something of the running
    /// state, and it is not the rest of a release from which Milvus was dropped.
    pub(super) fn is_part_without_milvus(&self, choice: Choice) -> bool {
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

    /// Whether Helm rendered the input. Objects read from a cluster have Helm's labels too.
    fn is_rendered(&self, release: &Release) -> bool {
        self.after.form == Form::Rendered
            || components(release).any(|workload| is_labelled_by_helm(&workload.meta))
    }

    /// Whether a rendered input has all templates of the chart.
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

    /// Whether a release's configuration still points to a dependency; `None` if unknown.
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

    /// Whether an address belongs to a workload, by its name: the name itself, also with the number
    /// of a pod or the suffix of a Service; without a namespace also the end of the name, or the
    /// name of a Service in the same input.
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
}

/// Whether a Milvus could run with these components.
fn is_complete(release: &Release) -> bool {
    release.has(Component::Standalone)
        || (release.coordinators() != Coordinators::None
            && [Component::Proxy, Component::QueryNode, Component::DataNode]
                .iter()
                .all(|component| release.has(*component)))
}

/// Whether an object is labelled as a part of a release.
fn is_of(meta: &Meta, release: &Release) -> bool {
    let says = meta
        .label("app.kubernetes.io/instance")
        .or_else(|| meta.annotation("meta.helm.sh/release-name"));
    says.is_some() && components(release).any(|workload| instance(workload) == says)
}

/// Whether an object has Helm's labels and was not read from a cluster.
fn is_labelled_by_helm(meta: &Meta) -> bool {
    meta.uid.is_none()
        && (meta.label("helm.sh/chart").is_some()
            || meta.label("app.kubernetes.io/managed-by") == Some("Helm"))
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
