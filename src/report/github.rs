//! For annotations in GitHub Actions: workflow commands, one a finding.

use std::fmt::Write;

use crate::policy::Action;

use super::{Report, format::plain};

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    for finding in report.findings.iter().filter(|finding| !finding.not_evaluated) {
        let command = match finding.action {
            Action::Deny => "error",
            Action::Hold | Action::Warn => "warning",
            Action::Audit => "notice",
        };
        let mut properties = Vec::new();
        if let Some(location) = finding.location.as_ref().filter(|location| location.line > 0) {
            properties.push(format!("file={}", property(&location.source)));
            properties.push(format!("line={}", location.line));
        }
        properties.push(format!("title={}", property(&format!("{} {}", finding.rule, finding.name))));
        let mut text = finding.message.clone();
        if finding.action > Action::Audit {
            text = format!("{text}\n{}", finding.fix.text);
        }
        if let Some(run) = &finding.fix.command {
            text = format!("{text}\n{run}");
        }
        let _ = writeln!(out, "::{command} {}::{}", properties.join(","), data(&text));
    }
    let verdict =
        serde_json::to_value(report.verdict).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let _ = writeln!(out, "milvus-guard: {verdict}");
    out
}

/// The data of a workflow command; line feeds survive, nothing ends it.
fn data(text: &str) -> String {
    text.split('\n').map(|line| plain(line).replace('%', "%25")).collect::<Vec<_>>().join("%0A")
}

/// A property of a workflow command.
fn property(text: &str) -> String {
    plain(text).replace('%', "%25").replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    #[test]
    fn snapshot() {
        insta::assert_snapshot!(super::render(&super::super::sample::report()));
    }

    #[test]
    fn nothing_begins_another_command() {
        let text = super::render(&super::super::sample::report());
        let commands = text.lines().filter(|line| line.starts_with("::")).count();
        let findings = super::super::sample::report().findings.iter().filter(|finding| !finding.not_evaluated).count();
        assert_eq!(commands, findings);
    }
}
