//! The steps as a list, and its hash.

use super::{
    order::Tier,
    settings::{Operation, Settings, StartBy},
};
use crate::engine::procedure::plan_hash;
use milvus_guard_core::api::{RunStep, StepAction};
use serde_json::json;

/// One step of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Checks the preconditions before anything is changed.
    Check,
    /// Checks a migration that another tool made.
    CheckMigrated,
    /// Records replicas and images.
    Record,
    /// Scales every component to zero.
    Stop,
    /// Waits until no session is left in etcd.
    AwaitSessions,
    /// Saves the metadata to a file.
    Backup,
    /// Migrates the metadata with milvus-guard.
    Migrate,
    /// Migrates the metadata with the official tool.
    MigrateByTool,
    /// Checks that the metadata is as planned.
    Verify,
    /// Records the evidence for the webhook.
    RecordEvidence,
    /// Starts the new version, tier by tier.
    Start(Tier),
    /// Waits for one `helm upgrade` that starts the new version.
    StartByHelm,
    /// Leaves no field owned by our field manager.
    HandOver,
    /// Removes what was needed only during the run.
    CleanUp,
}

/// The steps for these settings.
#[must_use]
pub fn steps(settings: &Settings, operation: Operation) -> Vec<Step> {
    if operation == Operation::Record {
        return vec![Step::CheckMigrated, Step::Record, Step::RecordEvidence];
    }
    let migrate = if settings.tool_image.is_some() {
        Step::MigrateByTool
    } else {
        Step::Migrate
    };
    let mut steps = vec![
        Step::Check,
        Step::Record,
        Step::Stop,
        Step::AwaitSessions,
        Step::Backup,
        migrate,
        Step::Verify,
        Step::RecordEvidence,
    ];
    match settings.start {
        StartBy::Run => steps.extend(Tier::ALL.map(Step::Start)),
        StartBy::Helm => steps.push(Step::StartByHelm),
    }
    steps.extend([Step::HandOver, Step::CleanUp]);
    steps
}

/// The steps that a recorded plan names; `None` if a later version wrote it.
#[must_use]
pub fn recorded(plan: &[RunStep]) -> Option<Vec<Step>> {
    plan.iter()
        .map(|written| Step::ALL.into_iter().find(|step| step.id() == written.id))
        .collect()
}

/// A digest of the plan and of its inputs.
#[must_use]
pub fn hash(
    settings: &Settings,
    steps: &[Step],
    image: &str,
    root: (&str, &str),
    uids: &[String],
) -> String {
    let mut uids = uids.to_vec();
    uids.sort();
    let made_from = json!({
        "release": settings.run.release.name, "namespace": settings.run.release.namespace,
        "from": settings.source.to_string(), "to": settings.target.to_string(),
        "image": image, "tool": settings.tool_image, "root": root.0, "meta": root.1,
        "steps": steps.iter().map(|step| step.id()).collect::<Vec<_>>(),
        "workloads": uids,
    });
    plan_hash(&made_from)
}

impl Step {
    /// Every step.
    const ALL: [Self; 16] = [
        Self::Check,
        Self::CheckMigrated,
        Self::Record,
        Self::Stop,
        Self::AwaitSessions,
        Self::Backup,
        Self::Migrate,
        Self::MigrateByTool,
        Self::Verify,
        Self::RecordEvidence,
        Self::Start(Tier::Coordinators),
        Self::Start(Tier::Workers),
        Self::Start(Tier::Proxies),
        Self::StartByHelm,
        Self::HandOver,
        Self::CleanUp,
    ];

    /// Id of the step in the plan.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::CheckMigrated => "check-migrated",
            Self::Record => "record",
            Self::Stop => "stop",
            Self::AwaitSessions => "await-sessions",
            Self::Backup => "backup",
            Self::Migrate => "migrate",
            Self::MigrateByTool => "migrate-by-tool",
            Self::Verify => "verify",
            Self::RecordEvidence => "attest",
            Self::Start(Tier::Coordinators) => "start-coordinators",
            Self::Start(Tier::Workers) => "start-workers",
            Self::Start(Tier::Proxies) => "start-proxies",
            Self::StartByHelm => "start-by-helm",
            Self::HandOver => "hand-over",
            Self::CleanUp => "clean-up",
        }
    }

    /// Title of the step for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Check => "Check the release and its metadata",
            Self::CheckMigrated => "Check that the metadata is migrated",
            Self::Record => "Record replicas and images",
            Self::Stop => "Stop every component of Milvus",
            Self::AwaitSessions => "Wait until no component is registered in etcd",
            Self::Backup => "Back up the metadata",
            Self::Migrate => "Migrate the metadata",
            Self::MigrateByTool => "Migrate the metadata with the official tool",
            Self::Verify => "Verify the metadata",
            Self::RecordEvidence => "Record the evidence",
            Self::Start(Tier::Coordinators) => "Start the coordinators of the new version",
            Self::Start(Tier::Workers) => "Start the nodes of the new version",
            Self::Start(Tier::Proxies) => "Start the proxies of the new version",
            Self::StartByHelm => "Wait for Helm to start the new version",
            Self::HandOver => "Return every changed field to Helm",
            Self::CleanUp => "Restore what was changed for the run",
        }
    }

    pub(super) const fn action(self) -> StepAction {
        match self {
            Self::Check | Self::CheckMigrated => StepAction::Check,
            Self::Record => StepAction::Record,
            Self::Stop => StepAction::Stop,
            Self::AwaitSessions => StepAction::AwaitSessions,
            Self::Backup => StepAction::Backup,
            Self::Migrate | Self::MigrateByTool => StepAction::Migrate,
            Self::Verify => StepAction::Verify,
            Self::RecordEvidence => StepAction::Attest,
            Self::Start(_) | Self::StartByHelm => StepAction::Start,
            Self::HandOver => StepAction::HandOver,
            Self::CleanUp => StepAction::CleanUp,
        }
    }
}
