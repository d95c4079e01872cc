//! The result of rolls as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::outcome::Outcome;
use super::score::{Answer, Gap, Request, What, counts, lost, median_ms};

/// Messages of failed requests that are shown, the most frequent ones, and how much of each.
const MESSAGES: usize = 6;
const MESSAGE_LENGTH: usize = 150;

/// One line a roll.
pub fn rolls(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| roll | searches | failed | wrong (empty/partial) | gaps s | with errors s | inserts failed \
         | insert gaps with errors s | took s | load (mean/max) | p50 ms |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let watched = outcome.watched();
        let (searches, inserts) = (outcome.gaps(What::Search), outcome.gaps(What::Insert));
        let of = counts(&outcome.requests, What::Search, &watched);
        let failed_inserts = counts(&outcome.requests, What::Insert, &watched).failed;
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
            outcome.roll.seconds(),
            outcome.load.mean(),
            outcome.load.max(),
            median_ms(&outcome.requests, What::Search, &watched),
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
    let all = [&outcome.before].into_iter().chain(&outcome.steps);
    for step in all.chain([&outcome.after]) {
        let of = counts(&outcome.requests, What::Search, step);
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} | {} | {}/{} | {:.1} | {:.1} |",
            step.name,
            step.begin - outcome.before.begin,
            step.seconds(),
            of.failed,
            of.empty,
            of.partial,
            step.share(&searches),
            step.share(&inserts),
        );
    }
    text + &messages(outcome)
}

/// What failed requests were told.
fn messages(outcome: &Outcome) -> String {
    let mut times: BTreeMap<(What, String), usize> = BTreeMap::new();
    let failed = |one: &&Request| one.result == Answer::Failed;
    for request in outcome.requests.iter().filter(failed) {
        // Milvus adds where in its sources an error came from.
        let cause = request.detail.split("stack trace").next().unwrap_or("");
        let line = cause.split_whitespace().collect::<Vec<_>>().join(" ");
        let message: String = line.chars().take(MESSAGE_LENGTH).collect();
        *times.entry((request.what, message)).or_default() += 1;
    }
    let mut sorted: Vec<_> = times.into_iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown = sorted.iter().take(MESSAGES);
    shown.fold(String::from("\n"), |mut text, ((what, message), count)| {
        let _ = writeln!(text, "- {count} times, {what:?}: `{message}`");
        text
    })
}
