//! The result of a roll, as the load measured it.

use super::{
    load::Load,
    rolls::{Requests, Roll, Step},
    score::{Request, Span, What, median_ms, requests},
    topology::Topology,
    ways::Way,
};

/// A roll, and what the load measured.
pub struct Outcome {
    pub topology: &'static Topology,
    pub way: Way,
    pub requests: Vec<Request>,
    pub before: Span,
    pub roll: Span,
    pub after: Span,
    /// The steps of the run, or the whole upgrade as one step.
    pub steps: Vec<Span>,
    pub load: Load,
    /// Why the roll failed: the upgrade failed, or data was lost. `None` if it succeeded.
    pub failure: Option<String>,
}

impl Outcome {
    /// The whole period that was recorded.
    fn watched(&self) -> Span {
        Span {
            name: "all".into(),
            begin: self.before.begin,
            end: self.after.end,
        }
    }

    /// Requests of that period; gaps are relative to the beginning of the roll.
    fn counted(&self, what: What) -> Requests {
        let mut counted = requests(&self.requests, what, &self.watched());
        for gap in &mut counted.gaps {
            gap.begin -= self.roll.begin;
        }
        counted
    }

    /// The entry for the file of results.
    pub fn record(&self) -> Roll {
        let of = |what, span: &Span| requests(&self.requests, what, span);
        let (all_searches, all_inserts) = (
            of(What::Search, &self.watched()).gaps,
            of(What::Insert, &self.watched()).gaps,
        );
        let step = |span: &Span| {
            let searches = of(What::Search, span);
            Step {
                name: span.name.clone(),
                begin: span.begin - self.roll.begin,
                seconds: span.seconds(),
                failed: searches.failed,
                wrong: searches.empty + searches.partial,
                search_gap: span.share(&all_searches),
                insert_gap: span.share(&all_inserts),
            }
        };
        let parts = [&self.before].into_iter().chain(&self.steps);
        let began_at = jiff::SignedDuration::from_secs_f64(self.roll.begin);
        let began_at = jiff::Timestamp::from_duration(began_at).unwrap();
        Roll {
            began_at: format!("{began_at:.0}"),
            topology: self.topology.name.to_owned(),
            from: self.topology.from.name().to_owned(),
            to: self.topology.to.name().to_owned(),
            way: self.way.name().to_owned(),
            took: self.roll.seconds(),
            searches: self.counted(What::Search),
            inserts: self.counted(What::Insert),
            median_ms: median_ms(&self.requests, What::Search, &self.watched()),
            load: (self.load.mean(), self.load.max()),
            steps: parts.chain([&self.after]).map(step).collect(),
            failure: self.failure.clone(),
        }
    }
}
