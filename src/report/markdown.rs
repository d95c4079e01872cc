//! For a comment on a pull request.

use std::fmt::Write;

use crate::{judge::Verdict, policy::Action};

use super::{FindingEntry, Outcome, Report, format::plain};

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    let headline = match report.verdict {
        Verdict::Deny => "❌ milvus-guard: deny",
        Verdict::Warn => "⚠️ milvus-guard: warn",
        Verdict::Allow => "✅ milvus-guard: allow",
    };
    let _ = writeln!(out, "## {headline}\n");
    if !report.releases.is_empty() {
        out.push_str("| release | namespace | from | to | topology |\n|---|---|---|---|---|\n");
        for release in &report.releases {
            let or_dash = |text: &Option<String>| text.as_ref().map_or("–".to_owned(), |text| escape(text));
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} |",
                escape(&release.name),
                or_dash(&release.namespace),
                release.topology.before.map_or("new".to_owned(), |_| or_dash(&release.from)),
                or_dash(&release.to),
                release.topology.after
            );
        }
        out.push('\n');
    }
    for (action, title) in
        [(Action::Deny, "Denied"), (Action::Hold, "Held"), (Action::Warn, "To be aware of"), (Action::Audit, "Noted")]
    {
        let findings: Vec<&FindingEntry> =
            report.findings.iter().filter(|finding| finding.action == action && !finding.not_evaluated).collect();
        if findings.is_empty() {
            continue;
        }
        if action == Action::Audit {
            let _ = writeln!(out, "<details><summary>{title} ({})</summary>\n", findings.len());
            for finding in findings {
                let _ = writeln!(out, "- **{}** {}", finding.rule, escape(&finding.message));
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
                "- {} lets **{}** pass for {} until {}: {} ({})",
                escape(&exception.name),
                exception.rule,
                escape(&exception.release),
                exception.expires,
                escape(&exception.reason),
                escape(&exception.owner)
            );
        }
        out.push('\n');
    }
    let passed = report.checks.iter().filter(|check| check.outcome == Outcome::Passed).count();
    let skipped: Vec<&str> =
        report.checks.iter().filter(|check| check.outcome == Outcome::NotEvaluated).map(|check| check.rule.as_str()).collect();
    let _ = write!(out, "{passed} checks passed");
    if !skipped.is_empty() {
        let _ = write!(out, "; not evaluated for lack of facts: {}", skipped.join(", "));
    }
    let _ = writeln!(out, ".\n\n<sub>milvus-guard {}</sub>", report.tool.version);
    out
}

fn entry(out: &mut String, finding: &FindingEntry) {
    let _ =
        writeln!(out, "- **{} {}** ({}): {}  ", finding.rule, finding.name, escape(&finding.release), escape(&finding.message));
    if let Some(location) = &finding.location {
        let _ = writeln!(out, "  at `{}`  ", plain(&location.to_string()).replace('`', "'"));
    }
    let _ = writeln!(out, "  {}  ", escape(&finding.why));
    let _ = writeln!(out, "  **Fix:** {}", escape(&finding.fix.text));
    if let Some(command) = &finding.fix.command {
        let _ = writeln!(out, "\n  ```sh\n  {}\n  ```", plain(command).replace("```", "'''"));
    }
    out.push('\n');
}

/// Text that cannot end a table cell, begin HTML or mention anybody.
fn escape(text: &str) -> String {
    plain(text).chars().fold(String::with_capacity(text.len()), |mut out, c| {
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
    fn snapshot() {
        insta::assert_snapshot!(super::render(&super::super::sample::report()));
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(super::escape("a|b <img src=x> `c` @all"), "a\\|b &lt;img src=x&gt; \\`c\\` &#64;all");
    }
}
