//! For a person at a terminal: groups of checks, each finding with cause, reason and command, the verdict last.

use anstyle::{AnsiColor, Style as Ansi};

use crate::{judge::Verdict, policy::Action, rules::Category};

use super::{
    FindingEntry, Outcome, Report,
    format::{Show, Style, plain},
};

/// Column at which the text of a finding begins.
const INDENT: &str = "    ";

pub(super) fn render(report: &Report, style: &Style) -> String {
    let mut page = Page { out: String::new(), style };
    page.header(report);
    for category in Category::ALL {
        page.category(report, category);
    }
    page.not_evaluated(report);
    page.exceptions(report);
    page.footer(report);
    page.out
}

struct Page<'a> {
    out: String,
    style: &'a Style,
}

impl Page<'_> {
    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn paint(&self, ansi: Ansi, text: &str) -> String {
        if self.style.color { format!("{ansi}{text}{ansi:#}") } else { text.to_owned() }
    }

    fn mark(&self, action: Option<Action>) -> String {
        let (unicode, ascii, color) = match action {
            None => ("√", "ok", AnsiColor::Green),
            Some(Action::Audit) => ("i", "i ", AnsiColor::Blue),
            Some(Action::Warn | Action::Hold) => ("‼", "! ", AnsiColor::Yellow),
            Some(Action::Deny) => ("×", "x ", AnsiColor::Red),
        };
        self.paint(color.on_default().bold(), if self.style.unicode { unicode } else { ascii })
    }

    fn header(&mut self, report: &Report) {
        let arrow = if self.style.unicode { "→" } else { "->" };
        for release in &report.releases {
            let name = match &release.namespace {
                Some(namespace) => format!("{} (namespace {})", plain(&release.name), plain(namespace)),
                None => plain(&release.name),
            };
            let unknown = "unknown".to_owned();
            let change = match (release.topology.before, &release.from) {
                (None, _) => format!("new installation of {}", release.to.as_ref().unwrap_or(&unknown)),
                (Some(_), from) if *from == release.to => from.clone().unwrap_or(unknown),
                (Some(_), from) => {
                    format!("{} {arrow} {}", from.as_ref().unwrap_or(&unknown), release.to.as_ref().unwrap_or(&unknown))
                }
            };
            let title = format!("{name}: {change}, {}", release.topology.after);
            let title = self.paint(Ansi::new().bold(), &title);
            self.line(&title);
        }
        for input in &report.inputs {
            let read = match input.read.len() {
                0 | 1 => String::new(),
                many => format!(" ({many} parts read)"),
            };
            let line = format!("  {:<7} {}{read}", input.role, plain(&input.source));
            self.line(&line);
            for note in &input.notes {
                let line = format!("          {}", plain(note));
                self.line(&line);
            }
            for missing in &input.not_read {
                let line = format!("          not read: {}", plain(missing));
                self.line(&line);
            }
        }
        if !report.policies.is_empty() {
            let line =
                format!("  {:<7} {}", "policy", report.policies.iter().map(|name| plain(name)).collect::<Vec<_>>().join(", "));
            self.line(&line);
        }
    }

    fn category(&mut self, report: &Report, category: Category) {
        let checks: Vec<_> = report.checks.iter().filter(|check| check.category == category).collect();
        let findings: Vec<&FindingEntry> = report
            .findings
            .iter()
            .filter(|finding| !finding.not_evaluated && checks.iter().any(|check| check.rule == finding.rule))
            .filter(|finding| match self.style.show {
                Show::Deny => finding.action == Action::Deny,
                Show::Warn => finding.action >= Action::Warn,
                Show::Audit | Show::All => true,
            })
            .collect();
        let passed: Vec<_> = checks.iter().filter(|check| check.outcome == Outcome::Passed).collect();
        if findings.is_empty() && (passed.is_empty() || self.style.show < Show::Audit) {
            return;
        }
        self.out.push('\n');
        let title = category.title();
        let heading = self.paint(Ansi::new().bold(), title);
        self.line(&heading);
        let rule = if self.style.unicode { "─" } else { "-" }.repeat(title.chars().count());
        self.line(&rule);
        for finding in findings {
            self.finding(report, finding);
        }
        let mark = self.mark(None);
        if self.style.show == Show::All {
            for check in passed {
                let line = format!("{mark} {} ({})", check.title, check.rule);
                self.line(&line);
            }
        } else if passed.len() == 1 {
            let line = format!("{mark} {}", passed[0].title);
            self.line(&line);
        } else if !passed.is_empty() && self.style.show == Show::Audit {
            let titles = passed.iter().map(|check| check.title.as_str()).collect::<Vec<_>>().join("; ");
            self.wrapped(&format!("{mark} "), "  ", &titles);
        }
    }

    fn finding(&mut self, report: &Report, finding: &FindingEntry) {
        let mark = self.mark(Some(finding.action));
        let several = report.releases.len() > 1;
        let release = if several { format!("{}: ", plain(&finding.release)) } else { String::new() };
        let code = self.paint(Ansi::new().bold(), &finding.rule);
        self.wrapped(&format!("{mark} {code} "), INDENT, &format!("{release}{}", plain(&finding.message)));
        if finding.action >= Action::Warn {
            self.field("why", &finding.why);
        }
        for evidence in finding.evidence.iter().filter(|evidence| evidence.before.is_some() && evidence.after.is_some()) {
            let arrow = if self.style.unicode { "→" } else { "->" };
            let (before, after) = (evidence.before.as_deref().unwrap_or_default(), evidence.after.as_deref().unwrap_or_default());
            let source = evidence.source.as_ref().map_or(String::new(), |source| format!("  ({source})"));
            self.field("seen", &format!("{}: {before} {arrow} {after}{source}", evidence.what));
        }
        if let (Some(object), true) = (&finding.object, finding.evidence.is_empty()) {
            let place = finding.location.as_ref().map_or(String::new(), |location| format!("  ({location})"));
            self.field("seen", &format!("{object}{place}"));
        }
        if finding.action >= Action::Warn {
            self.field("fix", &finding.fix.text);
        }
        if let Some(command) = &finding.fix.command {
            // Never wrapped, so that it can be copied.
            let command = self.paint(AnsiColor::Cyan.on_default(), &plain(command));
            let line = format!("{INDENT}run    {command}");
            self.line(&line);
        }
        if let Some(policy) = &finding.policy {
            self.field("policy", policy);
        }
    }

    fn field(&mut self, name: &str, text: &str) {
        self.wrapped(&format!("{INDENT}{name:<7}"), &format!("{INDENT}       "), &plain(text));
    }

    fn wrapped(&mut self, first: &str, rest: &str, text: &str) {
        // What stands first may hold colours, which take no columns, so letters hold its place while lines are cut.
        let filler = "x".repeat(columns(first));
        let options =
            textwrap::Options::new(self.style.width.max(40)).initial_indent(&filler).subsequent_indent(rest).break_words(false);
        let wrapped = textwrap::fill(text, options);
        let line = format!("{first}{}", wrapped.strip_prefix(&filler).unwrap_or(&wrapped));
        self.line(&line);
    }

    fn not_evaluated(&mut self, report: &Report) {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for finding in report.findings.iter().filter(|finding| finding.not_evaluated) {
            let reason = finding.message.trim_start_matches("not evaluated: ");
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, rules)) if !rules.contains(&&*finding.rule) => rules.push(&finding.rule),
                Some(_) => {}
                None => reasons.push((reason, vec![&finding.rule])),
            }
        }
        if reasons.is_empty() || self.style.show < Show::Audit {
            return;
        }
        self.out.push('\n');
        let heading = self.paint(Ansi::new().bold(), "Not evaluated");
        self.line(&heading);
        let rule = if self.style.unicode { "─" } else { "-" }.repeat(13);
        self.line(&rule);
        for (reason, rules) in reasons {
            self.wrapped("- ", "  ", &format!("{}: {}", rules.join(", "), plain(reason)));
        }
    }

    fn exceptions(&mut self, report: &Report) {
        if report.exceptions.is_empty() {
            return;
        }
        self.out.push('\n');
        let heading = self.paint(Ansi::new().bold(), "Exceptions in force");
        self.line(&heading);
        let rule = if self.style.unicode { "─" } else { "-" }.repeat(19);
        self.line(&rule);
        for exception in &report.exceptions {
            let text = format!(
                "{} lets {} pass for {} until {}: {} ({}). Found: {}",
                exception.name,
                exception.rule,
                exception.release,
                exception.expires,
                exception.reason,
                exception.owner,
                exception.message
            );
            self.wrapped("- ", "  ", &plain(&text));
        }
    }

    fn footer(&mut self, report: &Report) {
        let count = |test: &dyn Fn(&FindingEntry) -> bool| report.findings.iter().filter(|finding| test(finding)).count();
        let parts = [
            (count(&|finding| finding.action == Action::Deny), "denied"),
            (count(&|finding| finding.action == Action::Hold), "held"),
            (count(&|finding| finding.action == Action::Warn), "to be aware of"),
            (count(&|finding| finding.action == Action::Audit && !finding.not_evaluated), "noted"),
            (report.checks.iter().filter(|check| check.outcome == Outcome::Passed).count(), "passed"),
            (report.checks.iter().filter(|check| check.outcome == Outcome::NotEvaluated).count(), "not evaluated"),
        ];
        let counts = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect::<Vec<_>>()
            .join(", ");
        let (word, color, sentence) = match report.verdict {
            Verdict::Deny => ("deny", AnsiColor::Red, "this change is not safe"),
            Verdict::Warn => ("warn", AnsiColor::Yellow, "this change may be made; read the warnings first"),
            Verdict::Allow => ("allow", AnsiColor::Green, "nothing speaks against this change"),
        };
        self.out.push('\n');
        let verdict = self.paint(color.on_default().bold(), &format!("verdict: {word}"));
        self.line(&format!("{verdict}, {sentence} ({counts})"));
        // What guards data goes first: an ordered upgrade onto an empty queue would be no help.
        let denied = || report.findings.iter().filter(|finding| finding.action == Action::Deny);
        let guards_data = |finding: &&FindingEntry| crate::rules::find(&finding.rule).is_some_and(|rule| rule.data_loss);
        let with_command = |finding: &&FindingEntry| finding.fix.command.is_some();
        let first =
            denied().filter(guards_data).find(with_command).or_else(|| denied().find(guards_data)).or_else(|| denied().next());
        if let Some(first) = first {
            match &first.fix.command {
                Some(command) => {
                    let command = self.paint(AnsiColor::Cyan.on_default(), &plain(command));
                    self.line(&format!("next:    {command}"));
                }
                None => self.wrapped("next:    ", "         ", &plain(&first.fix.text)),
            }
        }
    }
}

/// Columns of a text that may hold colour sequences.
fn columns(text: &str) -> usize {
    let mut columns = 0;
    let mut inside = false;
    for c in text.chars() {
        match (inside, c) {
            (false, '\u{1b}') => inside = true,
            (true, 'm') => inside = false,
            (false, _) => columns += 1,
            (true, _) => {}
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(render(&super::super::sample::report(), &Style::default()));
    }

    #[test]
    fn narrow_ascii_and_everything() {
        let style = Style { unicode: false, width: 60, show: Show::All, color: false };
        let page = render(&super::super::sample::report(), &style);
        assert!(page.is_ascii() || !page.contains(['√', '×', '‼', '→', '─']), "{page}");
        insta::assert_snapshot!(page);
    }

    #[test]
    fn only_denials() {
        let page = render(&super::super::sample::report(), &Style { show: Show::Deny, ..Style::default() });
        assert!(page.contains("MG101") && !page.contains("MG104"), "{page}");
        assert!(page.contains("verdict: deny"));
    }

    #[test]
    fn input_never_steers_the_terminal() {
        for color in [false, true] {
            let page = render(&super::super::sample::report(), &Style { color, ..Style::default() });
            assert!(!page.contains("\u{1b}[31mevil") && !page.contains('\u{7}'), "{page:?}");
        }
    }
}
