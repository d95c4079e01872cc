//! The steps as values: what a plan is made of. Pure.

use milvus_guard_core::{
    api::{RunStep, StepAction},
    milvus::{Build, Component, catalogue::Gate},
};

/// One step of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// What must be true before anything is touched.
    Check,
    /// Images, strategies and labels as they are.
    Record,
    /// What Helm changes is paused, then Helm changes it.
    Helm,
    /// Active-standby of the coordinators, for the time of the run.
    Configure,
    /// One component, as the plan has it, and its move.
    Move(RunStep, Move),
    /// No field under our name.
    HandOver,
    /// What was needed only meanwhile.
    CleanUp,
    /// Objects that the chart does not have any more.
    DeleteLeaving,
}

/// One component that moves, alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub component: Component,
    /// Its workload; nothing means every one that the component has.
    pub workload: Option<String>,
    /// What becomes of it.
    pub kind: MoveKind,
    /// What to wait for.
    pub gate: Gate,
    /// What to know.
    pub note: Option<String>,
    /// Whether the next one must follow at once.
    pub at_once_with_next: bool,
    /// Whether the way back ends with it.
    pub point_of_no_return: bool,
}

/// What becomes of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveKind {
    /// It gets the new image.
    Update,
    /// The target needs it, and the release does not have it yet.
    Create,
    /// The target does not have it any more.
    Remove,
}

impl Step {
    /// What the run's record says of it.
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
                "Give every changed field back to Helm",
                StepAction::HandOver,
            ),
            Self::CleanUp => Self::plain(
                "clean-up",
                "Put back what was changed only meanwhile",
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
    /// Its step's id; what tells several workloads of one component apart is what follows the
    /// release's name.
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

    /// What its step does.
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
