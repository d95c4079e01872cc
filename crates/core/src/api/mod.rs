//! The objects of the API group `guard.milvus.io`: what a run records, what the release gate
//! allowed, and the guard's status of policies. Pure: they are read and written elsewhere.
//!
//! Documents of people (policies, exceptions) are strict, because a field that is misspelt must not
//! be ignored; they are in [`policy`]. What the guard itself writes is read tolerantly: a later
//! version may have written it, and an object that cannot be read must never look like one that is
//! not there. Write such objects by patches of what changed: a whole object that was read by an
//! older version lacks the fields that it did not know.

#![allow(
    clippy::duplicated_attributes,
    reason = "columns of one type look like one attribute twice"
)]

mod constraints;
pub mod crd;
pub mod decision;
pub mod loaded;
pub mod meta;
pub mod policy;
pub mod progress;
pub mod run;
pub mod searches;
pub mod status;
pub mod structural;

pub use decision::{
    AcceptedBy, AcceptedRule, DecisionSpec, DecisionVerdict, HelmDriver, JudgedObject,
    ReleaseDecision,
};
pub use loaded::LoadedBefore;
pub use meta::{Condition, ConditionStatus, ObjectMeta, OwnerReference};
pub use progress::{
    Backup, ContainerImage, Evidence, HelmRecord, LeavingObject, Original, OriginalField,
    PODS_LIMIT, RunEvent, RunPhase, RunStatus, SeenPod, StepCursor, StepStage, SuspendedNode,
};
pub use run::{RunKind, RunSpec, RunStep, StepAction, UpgradeRun};
pub use searches::SearchBefore;
pub use status::{LintEntry, LintSeverity, PolicyStatus};

pub use policy::API_VERSION;

/// The API group.
pub const GROUP: &str = "guard.milvus.io";
/// The version in which all kinds are served and stored.
pub const VERSION: &str = "v1alpha1";

/// Whether objects of a kind belong to a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One set of names for the whole cluster.
    Cluster,
    /// One set of names for each namespace.
    Namespaced,
}

/// How a kind is called in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// `UpgradeRun`.
    pub kind: &'static str,
    /// `upgraderuns`, as in paths and RBAC.
    pub plural: &'static str,
    /// `upgraderun`.
    pub singular: &'static str,
    /// What may be typed instead.
    pub short: &'static str,
    /// Where its objects live.
    pub scope: Scope,
}

/// Policies.
pub const UPGRADE_POLICY: Kind = Kind {
    kind: "UpgradePolicy",
    plural: "upgradepolicies",
    singular: "upgradepolicy",
    short: "upol",
    scope: Scope::Cluster,
};

/// Exceptions.
pub const UPGRADE_EXCEPTION: Kind = Kind {
    kind: "UpgradeException",
    plural: "upgradeexceptions",
    singular: "upgradeexception",
    short: "uex",
    scope: Scope::Cluster,
};

/// Runs.
pub const UPGRADE_RUN: Kind = Kind {
    kind: "UpgradeRun",
    plural: "upgraderuns",
    singular: "upgraderun",
    short: "urun",
    scope: Scope::Namespaced,
};

/// Decisions of the release gate.
pub const RELEASE_DECISION: Kind = Kind {
    kind: "ReleaseDecision",
    plural: "releasedecisions",
    singular: "releasedecision",
    short: "udec",
    scope: Scope::Namespaced,
};

/// Every kind, in the order in which they are installed.
pub const KINDS: [Kind; 4] = [
    UPGRADE_POLICY,
    UPGRADE_EXCEPTION,
    UPGRADE_RUN,
    RELEASE_DECISION,
];
