//! Reads from a cluster: the flags that name it, the running state, Helm's storage, policies.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use tokio::runtime::Runtime;

use milvus_guard_core::{
    evidence::Facts, helm::order_hooks, inventory::LastRun, policy::PolicySet, report::InputEntry,
};
use milvus_guard_sources::{
    files::{Content, Form, Loaded, Role, objects::RawObject},
    kubernetes::{Access, Cluster, ClusterError, Overrides, live::SOURCE as CLUSTER},
};

use super::{Gathered, Gatherer};
use crate::cli::{completion, exit::Failure, runtime};

/// Which cluster.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct ClusterArgs {
    /// Kubeconfig file [default: as kubectl finds it]
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub(in crate::cli) kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: the current one]
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "Cluster",
        add = ArgValueCompleter::new(completion::contexts)
    )]
    pub(in crate::cli) context: Option<String>,

    /// Helm's settings in addition to the kubeconfig.
    #[arg(skip)]
    pub(in crate::cli) overrides: Overrides,
}

impl ClusterArgs {
    pub(in crate::cli) fn access(&self) -> Access {
        Access {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
        }
    }
}

/// The namespace that `-n` names, else that of the kubeconfig's context. A cluster that cannot be
/// found is reported by the connection that follows.
pub(in crate::cli) fn namespace(
    cluster: &ClusterArgs,
    named: Option<&str>,
) -> Result<String, Failure> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let found = runtime::runtime()?.block_on(Cluster::namespace_of(&cluster.access()));
    found.map_err(Failure::no_verdict)
}

/// The namespaces of the cluster.
pub(in crate::cli) fn namespaces(
    runtime: &Runtime,
    cluster: &ClusterArgs,
) -> Result<Vec<String>, Failure> {
    let cluster = runtime
        .block_on(Cluster::connect(&cluster.access()))
        .map_err(Failure::no_verdict)?;
    runtime
        .block_on(cluster.namespaces())
        .map_err(Failure::no_verdict)
}

impl Gatherer<'_> {
    /// Adds the policies and exceptions of the cluster. If this account may not read them, the
    /// report states it.
    pub(in crate::cli) fn cluster_policies(
        &self,
        policies: &mut PolicySet,
        gathered: &mut Gathered,
    ) -> Result<(), Failure> {
        let (cluster, _) = self.connect()?;
        let mut entry = InputEntry {
            role: "policy".into(),
            source: format!("cluster {}", cluster.server()),
            ..InputEntry::default()
        };
        match self.runtime.block_on(cluster.policies()) {
            Ok((documents, unusable)) => {
                if !documents.is_empty() {
                    let read = match documents.len() {
                        1 => "1 policy or exception".to_owned(),
                        more => format!("{more} policies and exceptions"),
                    };
                    entry.read.push(read);
                }
                entry.not_read = unusable;
                for document in documents {
                    policies.add(document);
                }
            }
            Err(error) => entry.not_read.push(error.to_string()),
        }
        match self.runtime.block_on(cluster.holding()) {
            Ok(holding) => {
                if holding.by_default {
                    entry.read.push("where changes are held".into());
                }
                policies.holding = holding;
            }
            Err(error) => entry.not_read.push(error.to_string()),
        }
        if !entry.read.is_empty() || !entry.not_read.is_empty() {
            gathered.inputs.push(entry);
        }
        Ok(())
    }

    /// The last run of each release. If they cannot be read, the input of the running state states
    /// the reason.
    pub(in crate::cli) fn last_runs(&self) -> Result<Vec<LastRun>, Failure> {
        let (cluster, _) = self.connect()?;
        let runs = self.runtime.block_on(cluster.all_runs());
        Ok(LastRun::of_each_release(&runs.unwrap_or_default()))
    }

    fn connect(&self) -> Result<(Cluster, String), Failure> {
        let cluster = self
            .runtime
            .block_on(Cluster::connect_with(
                &self.cluster.access(),
                &self.cluster.overrides,
            ))
            .map_err(Failure::no_verdict)?;
        let namespace = self
            .namespace
            .map_or_else(|| cluster.default_namespace().to_owned(), str::to_owned);
        Ok((cluster, namespace))
    }

    pub(super) fn live(
        &self,
        role: Role,
        keep: &[(String, String)],
        gathered: &mut Gathered,
    ) -> Result<Loaded, Failure> {
        let (cluster, namespace) = self.connect()?;
        let reading = self
            .runtime
            .block_on(cluster.read(&namespace, true))
            .map_err(Failure::no_verdict)?;
        if role == Role::Before {
            fill(&mut gathered.facts, reading.facts);
        }
        let runs = self.runtime.block_on(cluster.runs());
        let mut not_read: Vec<String> = reading
            .not_read
            .iter()
            .map(|missing| format!("{}: {}", missing.what, missing.reason))
            .collect();
        match runs {
            Ok(runs) if role == Role::Before => fill(&mut gathered.facts, runs),
            Ok(_) => {}
            Err(error) => not_read.push(format!("upgrade runs: {error}")),
        }
        let entry = InputEntry {
            role: role.name().into(),
            source: format!("live, namespace {namespace} at {}", cluster.server()),
            read: reading.read,
            not_read,
            notes: Vec::new(),
        };
        let mut content = Content {
            objects: reading.objects,
            form: Form::Whole,
            ..Content::default()
        };
        if !keep.is_empty() {
            let documents = self
                .runtime
                .block_on(cluster.workload_documents(&namespace, keep))
                .map_err(Failure::no_verdict)?;
            content.raw = documents
                .iter()
                .filter_map(|document| RawObject::live(document, CLUSTER))
                .collect();
        }
        Ok(Loaded {
            content,
            snapshot: reading.snapshot,
            entry,
        })
    }

    /// Whether Helm's storage in the cluster has a deployed revision of a release.
    pub(in crate::cli) fn is_deployed(&self, name: &str) -> Result<bool, Failure> {
        let (cluster, namespace) = self.connect()?;
        let found = cluster.helm_release(&namespace, name, None);
        match self.runtime.block_on(found) {
            Ok(_) => Ok(true),
            Err(ClusterError::NotFound(_) | ClusterError::NoRelease { .. }) => Ok(false),
            Err(error) => Err(Failure::no_verdict(error)),
        }
    }

    /// The number of the next revision in Helm.
    pub(in crate::cli) fn next_revision(&self, name: &str) -> Result<u64, Failure> {
        let (cluster, namespace) = self.connect()?;
        let newest = cluster.newest_revision(&namespace, name);
        let newest = self.runtime.block_on(newest).map_err(Failure::no_verdict)?;
        Ok(newest.unwrap_or_default() + 1)
    }

    pub(super) fn revision(
        &self,
        role: Role,
        name: &str,
        revision: Option<u64>,
    ) -> Result<Loaded, Failure> {
        let (cluster, namespace) = self.connect()?;
        let stored = self
            .runtime
            .block_on(cluster.helm_release(&namespace, name, revision))
            .map_err(|error| match error {
                unreadable @ ClusterError::Codec { .. } => Failure::usage(unreadable),
                other => Failure::no_verdict(other),
            })?;
        let source = format!("release:{}@{}", stored.name, stored.revision);
        let budget = milvus_guard_core::manifest::Budget::default();
        let objects = stored
            .objects(stored.namespace.as_deref(), &budget)
            .collect::<Result<Vec<_>, _>>();
        let objects = objects.map_err(|error| Failure::usage(format!("{source}: {error}")))?;
        let entry = InputEntry {
            role: role.name().into(),
            source: format!("{source} ({}) in namespace {namespace}", stored.status),
            read: vec!["Helm's storage".into()],
            ..InputEntry::default()
        };
        let content = Content {
            hooks: objects.iter().filter_map(order_hooks::as_hook).collect(),
            objects,
            helm: vec![stored],
            form: Form::Whole,
            ..Content::default()
        };
        Ok(Loaded {
            snapshot: content.builder().build(),
            content,
            entry,
        })
    }
}

/// Adds the facts of the cluster; facts that are present already stay.
fn fill(facts: &mut Facts, seen: Facts) {
    facts.kubernetes = facts.kubernetes.or(seen.kubernetes);
    facts.helm = facts.helm.or(seen.helm);
    facts.metadata.extend(seen.metadata);
    facts.migrations = facts.migrations.take().or(seen.migrations);
    facts.rollouts = facts.rollouts.take().or(seen.rollouts);
    facts.runs = facts.runs.take().or(seen.runs);
    facts.autoscalers = facts.autoscalers.take().or(seen.autoscalers);
    facts.room = facts.room.take().or(seen.room);
    facts.deployers = facts.deployers.take().or(seen.deployers);
    facts.drift = facts.drift.take().or(seen.drift);
}
