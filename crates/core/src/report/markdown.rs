//! For a comment on a pull request.

use std::fmt::Write;

use crate::{
    evaluate::{Subject, Verdict},
    policy::Action,
};

use super::{FindingEntry, Outcome, Report, inventory};
use crate::text::plain;

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    let mark = match report.verdict {
        Verdict::Deny => "❌",
        Verdict::Warn => "⚠️",
        Verdict::Allow => "✅",
    };
    let answer = match (report.health, report.verdict) {
        (Some(health), _) => format!(" audit: {}", health.words()),
        (None, Verdict::Deny) => ": deny".into(),
        (None, Verdict::Warn) => ": warn".into(),
        (None, Verdict::Allow) => ": allow".into(),
    };
    let _ = writeln!(out, "## {mark} milvus-guard{answer}\n");
    releases(&mut out, report);
    let denied = if report.subject == Subject::State {
        "Problems"
    } else {
        "Denied"
    };
    for (action, title) in [
        (Action::Deny, denied),
        (Action::Hold, "Held"),
        (Action::Warn, "Warnings"),
        (Action::Audit, "Notes"),
    ] {
        let findings: Vec<&FindingEntry> = report.acting(action).collect();
        if findings.is_empty() {
            continue;
        }
        if action == Action::Audit {
            let _ = writeln!(
                out,
                "<details><summary>{title} ({})</summary>\n",
                findings.len()
            );
            for finding in findings {
                let release = if report.releases.len() > 1 {
                    format!(" ({})", escape(&of(finding)))
                } else {
                    String::new()
                };
                let _ = writeln!(
                    out,
                    "- **[{}]({})**{release} {}",
                    finding.rule,
                    finding.docs_url,
                    escape(&finding.message)
                );
            }
            out.push_str("\n</details>\n\n");
            continue;
        }
        let _ = writeln!(out, "### {title}\n");
        for finding in findings {
            entry(&mut out, finding);
        }
    }
    if !report.exceptions.is_empty() {
        out.push_str("### Exceptions in force\n\n");
        for exception in &report.exceptions {
            let _ = writeln!(
                out,
                "- {} allows **{}** for {} until {}: {} ({})",
                escape(&exception.name),
                exception.rule,
                escape(&super::label(
                    exception.namespace.as_deref(),
                    &exception.release
                )),
                exception.expires,
                escape(&exception.reason),
                escape(&exception.owner)
            );
        }
        out.push('\n');
    }
    reasons(&mut out, report);
    let data = report
        .data
        .as_ref()
        .map_or_else(String::new, |day| format!(", data of {}", escape(day)));
    let _ = writeln!(
        out,
        "{}: {}.\n\n<sub>milvus-guard {}{data}</sub>",
        if report.subject == Subject::State {
            "Audit"
        } else {
            "Checks"
        },
        report.counts(),
        report.tool.version
    );
    out
}

fn releases(out: &mut String, report: &Report) {
    if report.releases.is_empty() {
        return;
    }
    if report.subject == Subject::State {
        inventory(out, report);
        return;
    }
    out.push_str("| release | namespace | from | to | topology |\n|---|---|---|---|---|\n");
    for release in &report.releases {
        let or_dash =
            |text: &Option<String>| text.as_ref().map_or("–".to_owned(), |text| escape(text));
        let versions = match release.topology.before {
            None => format!("new | {}", or_dash(&release.to)),
            Some(_) => format!("{} | {}", or_dash(&release.from), or_dash(&release.to)),
        };
        let _ = writeln!(
            out,
            "| {} | {} | {versions} | {} |",
            escape(&release.name),
            or_dash(&release.namespace),
            release.topology.after
        );
    }
    out.push('\n');
}

/// The releases of an audit.
fn inventory(out: &mut String, report: &Report) {
    let columns = inventory::COLUMNS.map(str::to_lowercase).join(" | ");
    let _ = writeln!(
        out,
        "| release | namespace | topology | {columns} |\n|---|---|---|{}",
        "---|".repeat(inventory::COLUMNS.len())
    );
    for release in &report.releases {
        let namespace = release
            .namespace
            .as_ref()
            .map_or("–".into(), |text| escape(text));
        let _ = writeln!(
            out,
            "| {} | {namespace} | {} | {} |",
            escape(&release.name),
            release.topology.after,
            inventory::cells(release)
                .map(|cell| escape(&cell))
                .join(" | ")
        );
    }
    out.push('\n');
}

/// What could not be evaluated, then what passed and what does not apply, folded.
fn reasons(out: &mut String, report: &Report) {
    let lacking = report.reasons(Outcome::NotEvaluated);
    if !lacking.is_empty() {
        out.push_str("### Not evaluated\n\n");
        for reason in &lacking {
            let mark = if reason.warns { "⚠️ " } else { "" };
            let place = reason.place(report.releases.len());
            let text = format!("{}{place}", reason.reason);
            let provide = reason
                .provide
                .map_or_else(String::new, |provide| format!(" {}", escape(provide)));
            let _ = writeln!(
                out,
                "- {mark}**{}**: {}.{provide}",
                reason.rules.join(", "),
                escape(&text)
            );
        }
        out.push('\n');
    }
    let not_applicable = report.reasons(Outcome::NotApplicable);
    if !not_applicable.is_empty() {
        let _ = writeln!(
            out,
            "<details><summary>Not applicable ({})</summary>\n",
            report.tally(Outcome::NotApplicable)
        );
        for reason in not_applicable {
            let text = format!("{}{}", reason.reason, reason.place(report.releases.len()));
            let _ = writeln!(out, "- {}: {}", reason.rules.join(", "), escape(&text));
        }
        out.push_str("\n</details>\n\n");
    }
    let passed = report.tally(Outcome::Passed);
    if passed > 0 {
        let _ = writeln!(out, "<details><summary>Passed ({passed})</summary>\n");
        for check in report
            .checks
            .iter()
            .filter(|check| check.outcome == Outcome::Passed)
        {
            let _ = writeln!(out, "- {}: {}", check.rule, escape(&check.title));
        }
        out.push_str("\n</details>\n\n");
    }
}

fn of(finding: &FindingEntry) -> String {
    super::label(finding.namespace.as_deref(), &finding.release)
}

fn entry(out: &mut String, finding: &FindingEntry) {
    let _ = writeln!(
        out,
        "- **[{} {}]({})** ({}): {}  ",
        finding.rule,
        finding.name,
        finding.docs_url,
        escape(&of(finding)),
        escape(&finding.message)
    );
    if let Some(location) = &finding.location {
        let _ = writeln!(
            out,
            "  at `{}`  ",
            plain(&location.to_string()).replace('`', "'")
        );
    }
    let _ = writeln!(out, "  {}  ", escape(&finding.why));
    let _ = writeln!(out, "  **Fix:** {}", escape(&finding.fix.text));
    if let Some(command) = &finding.fix.command {
        let _ = writeln!(
            out,
            "\n  ```sh\n  {}\n  ```",
            plain(command).replace("```", "'''")
        );
    }
    out.push('\n');
}

/// Text that cannot end a table cell, begin HTML or mention an account.
pub(crate) fn escape(text: &str) -> String {
    plain(text)
        .chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            match c {
                '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' => {
                    out.push('\\');
                    out.push(c);
                }
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '&' => out.push_str("&amp;"),
                '@' => out.push_str("&#64;"),
                c => out.push(c),
            }
            out
        })
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
    fn text_stays_text() {
        assert_eq!(
            super::escape("a|b <img src=x> `c` @all"),
            "a\\|b &lt;img src=x&gt; \\`c\\` &#64;all"
        );
    }
}
