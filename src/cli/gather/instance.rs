//! The releases that `-i` names, and the message if it finds none.

use milvus_guard_core::milvus::{Release, Snapshot};
use milvus_guard_sources::files::{Loaded, error::list};

use super::{Gatherer, Source};
use crate::cli::exit::Failure;

/// The largest number of objects that a message names.
const MAX_NAMED: usize = 12;

impl Gatherer<'_> {
    /// The releases that `-i` names: by name, by name and alias (`RELEASE/ALIAS`), or with their
    /// namespace.
    pub(super) fn only_instance(&self, loaded: &mut Loaded) -> Snapshot {
        let Some(instance) = self.instance else {
            return std::mem::take(&mut loaded.snapshot);
        };
        let mut snapshot = loaded.snapshot.clone();
        snapshot
            .releases
            .retain(|release| is_named(release, instance));
        snapshot
    }

    /// Why an input cannot be judged: what it contains instead of Milvus. `None` as role means that
    /// there is only one input.
    pub(super) fn no_milvus(
        &self,
        source: &Source,
        role: Option<&str>,
        loaded: &Loaded,
    ) -> Failure {
        let named = match source {
            Source::File(path) if path == "-" => "standard input".to_owned(),
            Source::File(path) => path.clone(),
            Source::Revision { name, .. } => format!("release {name}"),
            Source::Live => loaded.entry.source.clone(),
            Source::Version(wanted) => wanted.to_string(),
            Source::Text { name, .. } => (*name).to_owned(),
        };
        let input = match (source, role) {
            (Source::Live, _) => named,
            (_, Some(role)) => format!("the input {role} ({named})"),
            (_, None) => format!("the input ({named})"),
        };
        let content = &loaded.content;
        if let Some(instance) = self.instance
            && !loaded.snapshot.releases.is_empty()
        {
            let all = &loaded.snapshot.releases;
            let message = format!(
                "{input} does not contain a Milvus release '{instance}'. It contains: {}",
                choices(all)
            );
            return if source.needs_cluster() {
                Failure::no_verdict(message)
            } else {
                Failure::usage(message)
            };
        }
        if let Some(namespace) = self.namespace
            && !content.left_out.is_empty()
            && content.objects.is_empty()
        {
            let all: Vec<String> = content
                .left_out
                .iter()
                .take(MAX_NAMED)
                .map(|(namespace, objects)| format!("{namespace} ({objects} objects)"))
                .collect();
            let more = more(content.left_out.len());
            return Failure::usage(format!(
                "{input} does not contain objects in namespace {namespace}. It contains: {}{more}",
                all.join(", ")
            ));
        }
        let mut message = format!(
            "{input} does not contain Milvus: no workload runs 'milvus run' or has a Milvus image"
        );
        if !content.objects.is_empty() {
            let objects: Vec<String> = content
                .metas()
                .take(MAX_NAMED)
                .map(|meta| meta.object.to_string())
                .collect();
            message.push_str(&format!(
                ". It contains: {}{}",
                objects.join(", "),
                more(content.objects.len())
            ));
        }
        if !content.foreign.is_empty() {
            message.push_str(&format!(". {}", list(&content.foreign)));
        }
        for remark in loaded.entry.notes.iter().chain(
            loaded
                .entry
                .not_read
                .iter()
                .filter(|text| text.contains("left out by -n")),
        ) {
            message.push_str(&format!(". {remark}"));
        }
        match source {
            // The cluster was read, and there is nothing to judge: no verdict, not a wrong command
            // line.
            Source::Live | Source::Revision { .. } => Failure::no_verdict(format!(
                "{message}\nnext: milvus-guard audit --all-namespaces"
            )),
            Source::File(_) | Source::Version(_) | Source::Text { .. } => Failure::usage(message),
        }
    }
}

/// Whether `-i` names this release.
fn is_named(release: &Release, instance: &str) -> bool {
    let Release { name, app_name, .. } = release;
    instance == name
        || instance == release.label()
        || instance == format!("{name}/{app_name}")
        || instance == format!("{}/{app_name}", release.label())
}

/// The possible values of `-i`: releases of one umbrella chart with their alias.
pub(in crate::cli) fn choices(releases: &[Release]) -> String {
    let names = releases.iter().map(|release| {
        let twins = releases
            .iter()
            .filter(|other| other.name == release.name && other.namespace == release.namespace);
        if twins.count() > 1 {
            format!("{}/{}", release.label(), release.app_name)
        } else {
            release.label()
        }
    });
    let shown: Vec<String> = names.take(MAX_NAMED).collect();
    format!("{}{}", shown.join(", "), more(releases.len()))
}

/// "and N more", if there are more objects than a message names.
fn more(all: usize) -> String {
    match all.saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}
