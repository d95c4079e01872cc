//! What a change need not meet: who writes it, and whether a run plans it.

use crate::{
    evidence::RunFact,
    milvus::{Release, release::ComponentWorkload},
    policy::Action,
    rules::{Behavior, Rule},
};

/// Who writes, by the field manager of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// Helm, or a tool that has Helm built in.
    Helm,
    /// Anything else: kubectl, Argo CD, an operator, a client library.
    Other,
}

impl Writer {
    /// Field managers of Helm, of Flux' helm-controller and of Terraform's provider.
    pub(super) fn of(manager: &str) -> Self {
        // Terraform's provider is called by the name of its file, which ends with its version.
        let rest = manager.strip_prefix("terraform-provider-helm");
        let is_terraform =
            rest.is_some_and(|version| version.is_empty() || version.starts_with('_'));
        let is_helm = manager == "helm" || manager == "helm-controller" || is_terraform;
        if is_helm { Self::Helm } else { Self::Other }
    }
}

/// Whether a change is what the step plans at which a run stands: the account alone does not allow
/// it.
pub(super) fn plans(run: &RunFact, before: &Release, after: &Release) -> bool {
    let pairs = || {
        after.components.iter().filter_map(|new| {
            let same = |old: &&ComponentWorkload| {
                old.workload.meta.object.name == new.workload.meta.object.name
            };
            before.components.iter().find(same).map(|old| (old, new))
        })
    };
    let images = pairs()
        .filter(|(old, new)| old.image() != new.image())
        .all(|(_, new)| {
            let version = new.version().build().map(|build| build.version);
            // An image of one's own that says no version is planned as such.
            run.plans_images()
                .is_some_and(|planned| version.is_none_or(|version| version == planned))
        });
    let starts =
        pairs().any(|(old, new)| new.workload.wanted_replicas() > old.workload.wanted_replicas());
    images && (!starts || run.plans_starts())
}

/// What a change need not meet.
#[derive(Clone, Copy)]
pub(super) enum Leniency {
    /// Everything counts.
    None,
    /// A step of a run, by the job's account.
    Planned {
        /// Whether the run is rolled back.
        returns: bool,
    },
    /// The release gate judged this very object.
    Decided,
    /// Helm applies it and no decision is known: stopping it half-way is worse than anything but
    /// loss of data.
    Helm,
}

impl Leniency {
    pub(super) fn apply(self, rule: &Rule, action: Action) -> Option<Action> {
        match self {
            Self::Planned { .. } if rule.has(Behavior::PlannedByRun) => None,
            Self::Planned { returns: true } if rule.has(Behavior::RestoredByRollback) => None,
            Self::Decided if !rule.has(Behavior::OverridesDecisions) => None,
            Self::Helm if !rule.data_loss => Some(action.min(Action::Warn)),
            _ => Some(action),
        }
    }
}
