//! A roll step by step, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::outcome::Outcome;
use super::score::{Answer, Request, What};

/// Number of error messages that are shown, the most frequent first.
const MESSAGES: usize = 6;
const MESSAGE_LENGTH: usize = 150;

/// One line for each step, and the messages of failed requests.
pub fn steps(outcome: &Outcome) -> String {
    let roll = outcome.record();
    let mut text = format!(
        "\n{} {}\n\n| step | from s | took s | failed | wrong | search gap s | insert gap s |\n\
         |---|---|---|---|---|---|---|\n",
        roll.topology, roll.way
    );
    for step in &roll.steps {
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} | {} | {} | {:.1} | {:.1} |",
            step.name,
            step.begin,
            step.seconds,
            step.failed,
            step.wrong,
            step.search_gap,
            step.insert_gap,
        );
    }
    text + &messages(outcome)
}

/// The messages of failed requests, with their counts.
fn messages(outcome: &Outcome) -> String {
    let mut times: BTreeMap<(What, String), usize> = BTreeMap::new();
    let failed = |one: &&Request| one.result == Answer::Failed;
    for request in outcome.requests.iter().filter(failed) {
        // Milvus appends the position in its source code to an error.
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
