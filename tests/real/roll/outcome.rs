//! What the load saw of a roll.

use super::{
    load::Load,
    score::{Gap, Request, Span, What, gaps, lost},
    ways::Way,
};

/// A roll and what the load saw of it.
pub struct Outcome {
    pub topology: &'static str,
    pub way: Way,
    pub requests: Vec<Request>,
    pub before: Span,
    pub roll: Span,
    pub after: Span,
    /// The parts of `roll`.
    pub steps: Vec<Span>,
    pub load: Load,
    /// What went wrong besides, if anything did: the upgrade failed, or data is lost.
    pub failure: Option<String>,
}

impl Outcome {
    /// All that was watched.
    pub fn watched(&self) -> Span {
        Span {
            name: "all".into(),
            begin: self.before.begin,
            end: self.after.end,
        }
    }

    pub fn gaps(&self, what: What) -> Vec<Gap> {
        gaps(&self.requests, what, &self.watched())
    }

    /// Seconds without a right answer, where something failed or was wrong.
    pub fn lost(&self, what: What) -> f64 {
        lost(&self.gaps(what))
    }
}
