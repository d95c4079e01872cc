//! For annotations in GitHub Actions: workflow commands, one a finding.

use std::fmt::Write;

use crate::{evaluate::Verdict, policy::Action};

use super::{Outcome, Report};
use crate::text::plain;

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    for finding in report
        .findings
        .iter()
        .filter(|finding| !finding.not_evaluated)
    {
        let command = match finding.action {
            Action::Deny => "error",
            Action::Hold | Action::Warn => "warning",
            Action::Audit => "notice",
        };
        let mut properties = Vec::new();
        if let Some(location) = finding
            .location
            .as_ref()
            .filter(|location| location.line > 0)
        {
            properties.push(format!("file={}", property(&location.source)));
            properties.push(format!("line={}", location.line));
        }
        properties.push(format!(
            "title={}",
            property(&format!("{} {}", finding.rule, finding.name))
        ));
        let mut text = finding.message.clone();
        if finding.action > Action::Audit {
            text = format!("{text}\n{}", finding.fix.text);
        }
        if let Some(run) = &finding.fix.command {
            text = format!("{text}\n{run}");
        }
        text = format!("{text}\n{}", finding.docs_url);
        let _ = writeln!(out, "::{command} {}::{}", properties.join(","), data(&text));
    }
    // GitHub shows ten annotations of a kind for a step, so only what warns takes one. The rest are
    // lines of the log.
    for reason in report.reasons(Outcome::NotEvaluated) {
        let place = reason.place(report.releases.len());
        let provide = reason.provide.unwrap_or_default();
        if reason.warns {
            let text = format!(
                "{}: {}{place}\n{provide}",
                reason.rules.join(", "),
                reason.reason
            );
            let _ = writeln!(out, "::warning title=Not evaluated::{}", data(&text));
        } else {
            let text = format!(
                "{} ({}{place}). {provide}",
                reason.rules.join(", "),
                reason.reason
            );
            let _ = writeln!(out, "not evaluated: {}", plain(&text));
        }
    }
    for reason in report.reasons(Outcome::NotApplicable) {
        let place = reason.place(report.releases.len());
        let _ = writeln!(
            out,
            "not applicable: {} ({}{place})",
            reason.rules.join(", "),
            plain(reason.reason)
        );
    }
    let passed: Vec<&str> = report
        .checks
        .iter()
        .filter(|check| check.outcome == Outcome::Passed)
        .map(|check| check.rule.as_str())
        .collect();
    if !passed.is_empty() {
        let _ = writeln!(out, "passed: {}", passed.join(", "));
    }
    let answer = match (report.health, report.verdict) {
        (Some(health), _) => format!(" audit: {}", health.words()),
        (None, Verdict::Deny) => ": deny".into(),
        (None, Verdict::Warn) => ": warn".into(),
        (None, Verdict::Allow) => ": allow".into(),
    };
    let _ = writeln!(out, "milvus-guard{answer} ({})", report.counts());
    out
}

/// The data of a workflow command; line feeds survive, nothing ends it.
fn data(text: &str) -> String {
    text.split('\n')
        .map(|line| plain(line).replace('%', "%25"))
        .collect::<Vec<_>>()
        .join("%0A")
}

/// A property of a workflow command.
fn property(text: &str) -> String {
    plain(text)
        .replace('%', "%25")
        .replace(':', "%3A")
        .replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    #[test]
    fn snapshot_of_an_audit() {
        insta::assert_snapshot!(super::render(&super::super::sample::audit()));
    }

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(super::render(&super::super::sample::report()));
    }

    #[test]
    fn nothing_begins_another_command() {
        let text = super::render(&super::super::sample::report());
        let commands = text.lines().filter(|line| line.starts_with("::")).count();
        let report = super::super::sample::report();
        let findings = report
            .findings
            .iter()
            .filter(|finding| !finding.not_evaluated)
            .count();
        let warned = report
            .reasons(super::Outcome::NotEvaluated)
            .iter()
            .filter(|reason| reason.warns)
            .count();
        assert_eq!(commands, findings + warned);
    }
}
