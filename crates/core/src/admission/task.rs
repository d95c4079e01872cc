//! Which gate a review belongs to, and what it holds. Reviews that no gate needs end here.

use super::gate::Gate;
use super::{
    documents_gate::DocumentTask,
    release_gate::{RecordError, ReleaseTask},
    review::{Response, Review},
    review_state::ReviewState,
    ruling::Ruling,
    workload_gate::WorkloadTask,
};
use crate::manifest::Budget;

/// What is left to judge.
#[derive(Debug)]
pub enum Task<'a> {
    /// Nothing: the review is of no interest, or answered already.
    Done(Gate, Box<Ruling>),
    /// A release of Helm.
    Release(Box<ReleaseTask>),
    /// A single object.
    Workload(Box<WorkloadTask<'a>>),
    /// A document of the guard.
    Documents(Box<DocumentTask>),
    /// It cannot be judged, because.
    Unjudged(Gate, String),
    /// It is larger than the budget for small inputs: read it again with the whole one.
    NeedsRoom(Gate),
}

impl<'a> Task<'a> {
    /// Reads a review as far as its gate needs.
    #[must_use]
    pub fn of(review: &Review<'a>) -> Self {
        Self::within(review, &Budget::default())
    }

    /// The same, where no more is built than the budget allows.
    #[must_use]
    pub fn within(review: &Review<'a>, budget: &Budget<'_>) -> Self {
        let gate = Gate::of(review);
        let nothing = || Self::Done(gate, Box::new(Ruling::pass()));
        match gate {
            Gate::Documents => match DocumentTask::of(review) {
                Ok(Some(task)) => Self::Documents(Box::new(task)),
                Ok(None) => nothing(),
                Err(error) => Self::Unjudged(gate, error.to_string()),
            },
            Gate::Release => match ReleaseTask::of(review, budget) {
                Ok(Some(task)) => Self::Release(Box::new(task)),
                Ok(None) => nothing(),
                Err(RecordError::NeedsRoom) => Self::NeedsRoom(gate),
                Err(error @ RecordError::Disagrees { .. }) => Self::Done(
                    gate,
                    Box::new(Ruling::of(Response::deny(format!(
                        "milvus-guard: {error}."
                    )))),
                ),
                Err(RecordError::Unreadable(reason)) => Self::Unjudged(
                    gate,
                    format!("milvus-guard could not read this Helm release: {reason}"),
                ),
            },
            Gate::Workload if may_hold_workload(review) => match WorkloadTask::of(review) {
                Ok(Some(task)) => Self::Workload(Box::new(task)),
                Ok(None) => nothing(),
                Err(error) => Self::Unjudged(gate, error.to_string()),
            },
            Gate::Workload | Gate::Mutate => nothing(),
        }
    }

    /// The gate.
    #[must_use]
    pub const fn gate(&self) -> Gate {
        match self {
            Self::Done(gate, _) | Self::Unjudged(gate, _) | Self::NeedsRoom(gate) => *gate,
            Self::Release(_) => Gate::Release,
            Self::Workload(_) => Gate::Workload,
            Self::Documents(_) => Gate::Documents,
        }
    }

    /// The namespace whose state is needed; `None` if none is.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Done(..) | Self::Unjudged(..) | Self::NeedsRoom(_) => None,
            Self::Release(task) => Some(&task.namespace),
            Self::Workload(task) => Some(&task.namespace),
            Self::Documents(_) => Some(""),
        }
    }

    /// The ruling, with what is known.
    #[must_use]
    pub fn judge(&self, state: &ReviewState<'_>) -> Ruling {
        match self {
            Self::Done(_, ruling) => Ruling::clone(ruling),
            // Anyone who asks for a ruling all the same gets the safe one; the door knows its
            // failure policy.
            Self::Unjudged(_, reason) => Ruling::of(Response::deny(reason.as_str())),
            Self::NeedsRoom(_) => Ruling::of(Response::deny("it needs too much memory")),
            Self::Release(task) => task.judge(state),
            Self::Workload(task) => task.judge(state),
            Self::Documents(task) => task.judge(state),
        }
    }
}

/// Whether an object of this kind can be judged by the workload gate.
fn may_hold_workload(review: &Review<'_>) -> bool {
    match (&*review.resource.group, &*review.resource.resource) {
        (
            "",
            "secrets" | "configmaps" | "persistentvolumeclaims" | "pods" | "replicationcontrollers",
        )
        | ("apps" | "batch", _) => true,
        // Custom kinds with a pod template, such as InstanceSet or Rollout.
        (group, _) => group.contains('.'),
    }
}
