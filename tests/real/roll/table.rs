//! The result of rolls as Markdown.

use std::fmt::Write as _;

use super::Outcome;
use super::score::{Gap, What, counts, lost, median_ms};

/// One line a roll.
pub fn rolls(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| roll | searches | failed | wrong (empty/partial) | gaps s | with errors s | inserts failed \
         | insert gaps with errors s | took s | load (mean/max) | p50 ms |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let (searches, inserts) = (outcome.gaps(What::Search), outcome.gaps(What::Insert));
        let of = counts(&outcome.requests, What::Search, &outcome.watched);
        let failed_inserts = counts(&outcome.requests, What::Insert, &outcome.watched).failed;
        let all: f64 = searches.iter().map(Gap::seconds).sum();
        let _ = writeln!(
            text,
            "| {} {} | {} | {} | {}/{} | {all:.1} | {} | {failed_inserts} | {} | {:.0} | {:.1}/{:.1} | {:.0} |",
            outcome.topology,
            outcome.way.name(),
            of.requests,
            of.failed,
            of.empty,
            of.partial,
            listed(&searches),
            listed(&inserts),
            outcome.took(),
            outcome.load.mean(),
            outcome.load.max(),
            median_ms(&outcome.requests, What::Search, &outcome.watched),
        );
    }
    text
}

/// The sum, and the parts where there are several.
fn listed(gaps: &[Gap]) -> String {
    let parts: Vec<String> = gaps
        .iter()
        .filter(|gap| gap.has_errors)
        .map(|gap| format!("{:.1}", gap.seconds()))
        .collect();
    let sum = format!("{:.1}", lost(gaps));
    if parts.len() < 2 {
        sum
    } else {
        format!("{sum} ({})", parts.join(", "))
    }
}

/// One line a step.
pub fn steps(outcome: &Outcome) -> String {
    let mut text = format!(
        "\n{} {}\n\n| step | from s | took s | failed | wrong (empty/partial) | search gap s | insert gap s |\n\
         |---|---|---|---|---|---|---|\n",
        outcome.topology,
        outcome.way.name()
    );
    let (searches, inserts) = (outcome.gaps(What::Search), outcome.gaps(What::Insert));
    for step in &outcome.steps {
        let of = counts(&outcome.requests, What::Search, step);
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} | {} | {}/{} | {:.1} | {:.1} |",
            step.name,
            step.begin - outcome.watched.begin,
            step.end - step.begin,
            of.failed,
            of.empty,
            of.partial,
            step.share(&searches),
            step.share(&inserts),
        );
    }
    text
}
