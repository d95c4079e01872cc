//! The steps of a plan, as values. Pure.

use milvus_guard_core::{
    api::{RunStep, StepAction},
    milvus::{Build, Component, catalogue::Gate},
};

/// One step of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Checks the preconditions before anything is changed.
    Check,
    /// Records images, strategies and labels.
    Record,
    /// Pauses what Helm changes, then waits until Helm has changed it.
    Helm,
    /// Turns on active-standby of the coordinators, for the time of the run.
    Configure,
    /// Moves one component.
    Move(RunStep, Move),
    /// Leaves no field owned by our field manager.
    HandOver,
    /// Removes what was needed only during the run.
    CleanUp,
    /// Deletes objects that the chart no longer has.
    DeleteLeaving,
}

/// The change of one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The component.
    pub component: Component,
    /// Its workload; `None` means all workloads of the component.
    pub workload: Option<String>,
    /// What is done with it.
    pub kind: MoveKind,
    /// What to wait for.
    pub gate: Gate,
    /// A note for the user.
    pub note: Option<String>,
    /// Whether the next component must follow at once.
    pub at_once_with_next: bool,
    /// Whether no rollback is possible after it.
    pub point_of_no_return: bool,
}

/// What is done with a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveKind {
    /// It gets the new image.
    Update,
    /// The target needs it, and the release does not have it yet.
    Create,
    /// The target no longer has it.
    Remove,
}

impl Step {
    /// The step in the record of a run.
    #[must_use]
    pub fn describe(&self) -> RunStep {
        match self {
            Self::Check => {
                Self::plain("check", "Check the release and the path", StepAction::Check)
            }
            Self::Record => {
                Self::plain("record", "Record images and strategies", StepAction::Record)
            }
            Self::Helm => Self::plain(
                "helm",
                "Pause every component, then let Helm apply its change",
                StepAction::Hold,
            ),
            Self::Configure => Self::plain(
                "configure",
                "Turn active-standby on until the end",
                StepAction::Configure,
            ),
            Self::Move(step, _) => step.clone(),
            Self::HandOver => Self::plain(
                "hand-over",
                "Return every changed field to Helm",
                StepAction::HandOver,
            ),
            Self::CleanUp => Self::plain(
                "clean-up",
                "Restore what was changed for the run",
                StepAction::CleanUp,
            ),
            Self::DeleteLeaving => Self::plain(
                "delete-leaving",
                "Delete what the chart does not have any more",
                StepAction::CleanUp,
            ),
        }
    }

    fn plain(id: &str, title: &str, action: StepAction) -> RunStep {
        RunStep {
            id: id.into(),
            title: title.into(),
            component: None,
            workload: None,
            action,
        }
    }
}

impl Move {
    /// The id of its step. Workloads of one component are distinguished by the part of their name
    /// after the name of the release.
    #[must_use]
    pub fn id(&self, fullname: &str) -> String {
        let verb = match self.kind {
            MoveKind::Update => "update",
            MoveKind::Create => "create",
            MoveKind::Remove => "remove",
        };
        let workload = self
            .workload
            .as_deref()
            .and_then(|name| name.strip_prefix(fullname)?.strip_prefix('-'));
        format!(
            "{verb}-{}",
            workload.unwrap_or_else(|| self.component.name())
        )
    }

    /// The title of its step.
    #[must_use]
    pub fn title(&self, to: &Build) -> String {
        let Self { component, .. } = self;
        match self.kind {
            MoveKind::Update => format!("Move {component} to {to}"),
            MoveKind::Create => format!("Add {component} at {to}"),
            MoveKind::Remove => format!("Stop {component}, which {to} does not have"),
        }
    }

    /// What its step does, for programs.
    #[must_use]
    pub const fn action(&self) -> StepAction {
        match self.kind {
            MoveKind::Update => StepAction::Update,
            MoveKind::Create => StepAction::Start,
            MoveKind::Remove => StepAction::Stop,
        }
    }
}
