//! The answer of a gate that cannot judge.

use milvus_guard_core::admission::{Gate, Response, Ruling};

use super::Answerer;

/// How a gate answers if it cannot judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FailurePolicy {
    /// Allow it, with a warning.
    #[value(name = "Ignore")]
    Ignore,
    /// Deny it.
    #[value(name = "Fail")]
    Fail,
}

/// How each gate answers if it cannot judge. The documents gate always denies.
#[derive(Clone, Copy, Debug)]
pub struct FailurePolicies {
    /// The release gate.
    pub release: FailurePolicy,
    /// The workload gate.
    pub workload: FailurePolicy,
}

impl Answerer {
    /// The ruling of a gate that cannot judge.
    pub(super) fn unjudged(&self, gate: Gate, reason: &str) -> Ruling {
        let response = match self.failure(gate) {
            FailurePolicy::Ignore => {
                Response::warn(format!("milvus-guard did not check this change: {reason}"))
            }
            FailurePolicy::Fail => Response::deny(format!(
                "milvus-guard could not check this change: {reason}. Try again."
            )),
        };
        Ruling {
            verdict: None,
            ..Ruling::of(response)
        }
    }

    /// The same if a retry cannot help: the request is damaged or too large.
    pub(super) fn unread(&self, gate: Gate, reason: &str) -> Ruling {
        let response = match self.failure(gate) {
            FailurePolicy::Ignore => Response::warn(format!("{reason}, so it was not checked")),
            FailurePolicy::Fail => Response::deny(reason),
        };
        Ruling {
            verdict: None,
            ..Ruling::of(response)
        }
    }

    const fn failure(&self, gate: Gate) -> FailurePolicy {
        match gate {
            Gate::Release => self.failure.release,
            Gate::Workload => self.failure.workload,
            Gate::Documents => FailurePolicy::Fail,
            Gate::Mutate => FailurePolicy::Ignore,
        }
    }
}
