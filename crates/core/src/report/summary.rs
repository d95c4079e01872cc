//! What several formats say of a whole report: counts, the sentence of the verdict, reasons that
//! rules share, findings by release.

use std::collections::BTreeMap;

use crate::{
    evaluate::{Subject, Verdict},
    policy::Action,
    text::count,
};

use super::{FindingEntry, Outcome, Report, WhyNot};

impl Report {
    /// How many rules came out so.
    pub(super) fn tally(&self, outcome: Outcome) -> usize {
        self.checks
            .iter()
            .filter(|check| check.outcome == outcome)
            .count()
    }

    /// Findings that do this, without those that say what was not evaluated.
    pub(super) fn acting(&self, action: Action) -> impl Iterator<Item = &FindingEntry> {
        self.findings
            .iter()
            .filter(move |finding| finding.action == action && !finding.not_evaluated)
    }

    /// The counts as text: "1 denial, 2 warnings, 25 passed, 8 not evaluated". `audit` denies
    /// nothing: it has problems.
    pub(super) fn counts(&self) -> String {
        let denial = if self.subject == Subject::State {
            "problem"
        } else {
            "denial"
        };
        let mut parts: Vec<String> = [
            (Action::Deny, denial),
            (Action::Hold, "hold"),
            (Action::Warn, "warning"),
            (Action::Audit, "note"),
        ]
        .into_iter()
        .map(|(action, noun)| (self.acting(action).count(), noun))
        .filter(|(number, _)| *number > 0)
        .map(|(number, noun)| count(number, noun))
        .collect();
        for outcome in [
            Outcome::Passed,
            Outcome::Excepted,
            Outcome::Accepted,
            Outcome::Off,
            Outcome::NotApplicable,
            Outcome::NotEvaluated,
        ] {
            let number = self.tally(outcome);
            if number > 0 {
                parts.push(format!("{number} {}", outcome.words()));
            }
        }
        parts.join(", ")
    }

    /// The verdict in a sentence, in the words of what was judged.
    pub(super) fn sentence(&self) -> &'static str {
        let warned = self
            .acting(Action::Warn)
            .chain(self.acting(Action::Hold))
            .next()
            .is_some();
        match (self.subject, self.verdict) {
            (Subject::Change, Verdict::Deny) => "this change is not safe",
            (Subject::Change, Verdict::Warn) if warned => {
                "no rule denies this change; read the warnings first"
            }
            (Subject::Change, Verdict::Warn) => {
                "no rule denies this change, but rules that guard data could not be evaluated"
            }
            (Subject::Change, Verdict::Allow) => "no rule denies this change or warns about it",
            (Subject::State, Verdict::Deny) => "the running release has problems",
            (Subject::State, Verdict::Warn) => "read the warnings",
            (Subject::State, Verdict::Allow) => "no rule found a problem",
        }
    }

    /// Reasons of one kind over all rules, those that warn first: each reason once, with the rules
    /// that share it.
    pub(super) fn reasons(&self, outcome: Outcome) -> Vec<SharedReason<'_>> {
        let mut shared: Vec<SharedReason<'_>> = Vec::new();
        let mut known: BTreeMap<(WhyNot<'_>, &[usize]), usize> = BTreeMap::new();
        for check in &self.checks {
            for reason in check
                .reasons
                .iter()
                .filter(|reason| reason.outcome == outcome)
            {
                let (provide, warns) = (reason.provide.as_deref(), reason.warns());
                let action = Some(if warns { Action::Warn } else { Action::Audit });
                let why = WhyNot {
                    outcome,
                    reason: &reason.reason,
                    provide,
                    action,
                };
                let position = *known.entry((why, &reason.at)).or_insert_with(|| {
                    shared.push(SharedReason {
                        rules: Vec::new(),
                        reason: &reason.reason,
                        provide,
                        releases: &reason.releases,
                        at: &reason.at,
                        warns,
                    });
                    shared.len() - 1
                });
                shared[position].rules.push(&check.rule);
            }
        }
        shared.sort_by_key(|reason| !reason.warns);
        shared
    }

    /// The findings of each release, in the order of [`Report::releases`].
    pub(super) fn by_release(&self) -> Vec<Vec<&FindingEntry>> {
        let mut all: Vec<Vec<&FindingEntry>> = vec![Vec::new(); self.releases.len()];
        for finding in &self.findings {
            if let Some(of) = all.get_mut(finding.at) {
                of.push(finding);
            }
        }
        all
    }
}

/// A reason that several rules may share.
pub(super) struct SharedReason<'a> {
    pub(super) rules: Vec<&'a str>,
    pub(super) reason: &'a str,
    pub(super) provide: Option<&'a str>,
    pub(super) releases: &'a [String],
    pub(super) at: &'a [usize],
    /// Whether it makes a warning.
    pub(super) warns: bool,
}

impl SharedReason<'_> {
    /// The releases that it is about, where it is not about all: " (in a/b, a/c and 3 more)".
    pub(super) fn place(&self, all: usize) -> String {
        const SHOWN: usize = 3;
        if self.at.len() == all {
            return String::new();
        }
        let names = self
            .releases
            .iter()
            .take(SHOWN)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        let more = self.at.len().saturating_sub(SHOWN);
        if more == 0 {
            format!(" (in {names})")
        } else {
            format!(" (in {names} and {more} more)")
        }
    }
}
