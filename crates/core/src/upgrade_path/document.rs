//! A plan for those who read it away from the terminal: an issue, a pull request, a change ticket.

use super::Plan;

/// Digits of an id that are shown.
const ID_DIGITS: usize = 12;

/// A plan with its notes.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Digest by which a run knows its plan; `None` takes the one of the plan itself.
    pub run_hash: Option<&'a str>,
    /// What the rules warn about.
    pub warnings: &'a [String],
    /// Why it would be refused; empty if nothing is known that would refuse it.
    pub refusals: &'a [String],
}

impl<'a> Document<'a> {
    /// A plan without notes.
    #[must_use]
    pub const fn of(plan: &'a Plan) -> Self {
        Self {
            plan,
            run_hash: None,
            warnings: &[],
            refusals: &[],
        }
    }

    /// The beginning of the digest.
    pub(super) fn id(&self) -> String {
        let hash = self
            .run_hash
            .map_or_else(|| self.plan.hash(), str::to_owned);
        hash.chars().take(ID_DIGITS).collect()
    }
}
