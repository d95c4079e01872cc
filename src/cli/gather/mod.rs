//! Reads the inputs of the command line: files, the running state, Helm's storage, a version.
//!
//! | module | holds |
//! |---|---|
//! | `source` | one side of a change, as the command line names it |
//! | `cluster` | reads from a cluster |
//! | `etcd` | reads from etcd |
//! | `files` | `--facts` and `--data` |
//! | `instance` | the releases that `-i` names |

mod cluster;
mod etcd;
mod files;
mod instance;
mod source;

use std::sync::Arc;

use tokio::runtime::Runtime;

use milvus_guard_core::{
    evidence::Facts,
    helm::order_hooks,
    manifest::object::Workload,
    milvus::{
        Snapshot,
        catalogue::{Catalogue, Situation, Wanted},
    },
    report::InputEntry,
};
use milvus_guard_sources::files::{
    Loaded, Reading, Role, evidence, load, load_text,
    part::{self, Choice},
};

use super::exit::Failure;

pub(super) use cluster::{ClusterArgs, namespace, namespaces};
pub(super) use etcd::{EtcdArgs, NamedEtcd};
pub(super) use files::{catalogue, facts};
pub(super) use instance::choices;
pub(super) use source::Source;

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) before: Option<Snapshot>,
    pub(super) after: Snapshot,
    /// Workloads that are hooks of Helm in the desired state.
    pub(super) hooks: Vec<Arc<Workload>>,
    pub(super) facts: Facts,
    pub(super) inputs: Vec<InputEntry>,
}

impl Gathered {
    /// Whether each release of the desired state has hooks that roll it in order.
    pub(super) fn has_order_hooks(&self) -> bool {
        let mut releases = self.after.releases.iter();
        releases.all(|release| order_hooks::order(&self.hooks, release.helm_name()))
    }
}

/// Reads both sides and adds the facts of the cluster.
pub(super) struct Gatherer<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) cluster: &'a ClusterArgs,
    pub(super) namespace: Option<&'a str>,
    pub(super) instance: Option<&'a str>,
}

impl Gatherer<'_> {
    /// Reads both sides of a change. `choice` states whether the desired state is a whole release;
    /// `None` if the user did not say so.
    pub(super) fn gather(
        &self,
        before: Option<&Source>,
        after: &Source,
        facts: Facts,
        choice: Choice,
        catalogue: &Catalogue,
    ) -> Result<Gathered, Failure> {
        let mut gathered = Gathered {
            facts,
            ..Gathered::default()
        };
        // The desired state is read first: if it patches objects, their documents are needed.
        let wanted = match after {
            Source::Version(_) => None,
            source => Some(self.load_source(Role::After, source, Vec::new(), &mut gathered)?),
        };
        let running = match before {
            Some(before) => {
                let patches = wanted
                    .as_ref()
                    .map(|wanted| wanted.content.patches())
                    .unwrap_or_default();
                let loaded = self.load(Role::Before, before, patches, &mut gathered)?;
                gathered.inputs.push(loaded.entry.clone());
                Some((before, loaded))
            }
            None => None,
        };
        let wanted = match (wanted, after) {
            (Some(mut wanted), source) => {
                match &running {
                    Some((_, running)) => {
                        part::settle(running, &mut wanted, choice).map_err(Failure::usage)?;
                    }
                    None => wanted.snapshot = wanted.content.builder().build(),
                }
                Self::readable(source, &mut wanted)?;
                gathered.inputs.push(wanted.entry.clone());
                Some(wanted)
            }
            (None, _) => None,
        };
        if let Some((source, mut loaded)) = running {
            let snapshot = self.only_instance(&mut loaded);
            // A cluster without Milvus means a new installation. A file without Milvus is most
            // likely the wrong file, and a version needs a running release.
            let is_needed = *source != Source::Live || matches!(after, Source::Version(_));
            if snapshot.releases.is_empty() && is_needed {
                return Err(self.no_milvus(source, Some("before"), &loaded));
            }
            gathered.before = Some(snapshot).filter(|snapshot| !snapshot.releases.is_empty());
        }
        gathered.after = match (wanted, after) {
            (Some(mut wanted), source) => {
                gathered.hooks = std::mem::take(&mut wanted.content.hooks);
                let snapshot = self.only_instance(&mut wanted);
                if snapshot.releases.is_empty() {
                    return Err(self.no_milvus(source, Some("after"), &wanted));
                }
                snapshot
            }
            (None, Source::Version(wanted)) => Self::at_version(wanted, catalogue, &mut gathered)?,
            (None, _) => Snapshot::default(),
        };
        Ok(gathered)
    }

    /// The running state, with Milvus' images at another version.
    fn at_version(
        wanted: &Wanted,
        catalogue: &Catalogue,
        gathered: &mut Gathered,
    ) -> Result<Snapshot, Failure> {
        let Some(running) = &gathered.before else {
            return Err(Failure::usage(
                "version: needs a running release: give --before, or -i and -n of a release in \
                 the cluster",
            ));
        };
        let (moved, chosen) = at_version(running, wanted, catalogue)?;
        gathered.inputs.push(InputEntry {
            role: Role::After.name().into(),
            source: format!("version:{chosen}"),
            read: vec!["the running manifests with Milvus' images moved".into()],
            ..InputEntry::default()
        });
        Ok(moved)
    }

    /// The running state, for verbs that need nothing else.
    pub(super) fn running(&self, source: &Source, facts: Facts) -> Result<Snapshot, Failure> {
        let mut gathered = Gathered {
            facts,
            ..Gathered::default()
        };
        let mut loaded = self.load(Role::Before, source, Vec::new(), &mut gathered)?;
        let snapshot = self.only_instance(&mut loaded);
        if snapshot.releases.is_empty() {
            return Err(self.no_milvus(source, None, &loaded));
        }
        Ok(snapshot)
    }

    /// The running state, with the facts about it and what was read.
    pub(super) fn state(
        &self,
        source: &Source,
        gathered: &mut Gathered,
    ) -> Result<Snapshot, Failure> {
        let mut loaded = self.load(Role::Before, source, Vec::new(), gathered)?;
        let snapshot = self.only_instance(&mut loaded);
        if snapshot.releases.is_empty() && matches!(source, Source::File(_)) {
            return Err(self.no_milvus(source, None, &loaded));
        }
        gathered.inputs.push(std::mem::take(&mut loaded.entry));
        Ok(snapshot)
    }

    fn load(
        &self,
        role: Role,
        source: &Source,
        keep: Vec<(String, String)>,
        gathered: &mut Gathered,
    ) -> Result<Loaded, Failure> {
        let mut loaded = self.load_source(role, source, keep, gathered)?;
        Self::readable(source, &mut loaded)?;
        Ok(loaded)
    }

    /// Checks that every configuration can be read: otherwise it would look like a configuration
    /// without settings.
    fn readable(source: &Source, loaded: &mut Loaded) -> Result<(), Failure> {
        for release in &loaded.snapshot.releases {
            for (origin, reason) in release.config.unreadable() {
                let place = format!(
                    "{origin}: the configuration of {} cannot be read: {reason}",
                    release.label()
                );
                if *source != Source::Live {
                    return Err(Failure::usage(place));
                }
                loaded.entry.not_read.push(place);
            }
        }
        Ok(())
    }

    fn load_source(
        &self,
        role: Role,
        source: &Source,
        keep: Vec<(String, String)>,
        gathered: &mut Gathered,
    ) -> Result<Loaded, Failure> {
        match source {
            Source::File(path) => {
                let how = Reading {
                    namespace: self.namespace,
                    keep,
                };
                let loaded = load(role, path, &how).map_err(Failure::usage)?;
                if role == Role::Before {
                    evidence::complete(&loaded.snapshot, &mut gathered.facts);
                }
                Ok(loaded)
            }
            Source::Text { name, text } => {
                let how = Reading {
                    namespace: self.namespace,
                    keep,
                };
                load_text(role, name, text, &how).map_err(Failure::usage)
            }
            Source::Live => self.live(role, &keep, gathered),
            Source::Revision { name, revision } => self.revision(role, name, *revision),
            Source::Version(_) => Err(Failure::usage(
                "version: is for the desired state only (--after)",
            )),
        }
    }
}

/// A state with Milvus' images at another version, and that version.
///
/// # Errors
/// A version that is not in the data.
pub(super) fn at_version(
    running: &Snapshot,
    wanted: &Wanted,
    catalogue: &Catalogue,
) -> Result<(Snapshot, String), Failure> {
    let mut chosen: Vec<String> = Vec::new();
    let mut releases = Vec::new();
    for release in &running.releases {
        let from = release.lowest();
        let to = catalogue
            .choose(wanted, from.as_ref(), &Situation::of(release))
            .map_err(Failure::usage)?;
        let shown = match wanted {
            Wanted::Build(_) => to.to_string(),
            Wanted::Line(_) | Wanted::Latest => {
                format!("{to}, the recommended release of {}", to.version.line())
            }
        };
        if !chosen.contains(&shown) {
            chosen.push(shown);
        }
        releases.push(release.at_version(&to));
    }
    let moved = Snapshot {
        releases,
        ..running.clone()
    };
    Ok((moved, chosen.join("; ")))
}
