//! For a person at a terminal: groups of checks, each finding with cause, reason and command, the
//! verdict last.

use anstyle::{AnsiColor, Style as Ansi};

use crate::{
    evaluate::{Subject, Verdict},
    layout,
    policy::Action,
    rules::{Category, Evidence},
    text::{count, plain},
};

use super::{
    FindingEntry, Health, InputEntry, Outcome, Report,
    format::{Show, Style},
    inventory,
};

/// Column at which the text of a finding begins.
const INDENT: &str = "    ";

pub(super) fn render(report: &Report, style: &Style) -> String {
    let mut page = Page {
        out: String::new(),
        style,
    };
    page.header(report);
    for category in Category::ALL {
        page.category(report, category);
    }
    page.not_applicable(report);
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

    fn paint(&self, look: Ansi, text: &str) -> String {
        self.style.paint(look, text)
    }

    fn mark(&self, action: Option<Action>) -> String {
        let (unicode, ascii, color) = match action {
            None => ("√", "ok", AnsiColor::Green),
            Some(Action::Audit) => ("i", "i ", AnsiColor::Blue),
            Some(Action::Warn | Action::Hold) => ("‼", "! ", AnsiColor::Yellow),
            Some(Action::Deny) => ("×", "x ", AnsiColor::Red),
        };
        self.paint(
            color.on_default().bold(),
            if self.style.unicode { unicode } else { ascii },
        )
    }

    fn header(&mut self, report: &Report) {
        let arrow = if self.style.unicode { "→" } else { "->" };
        if report.subject == Subject::State {
            let table = inventory::text(&report.releases, self.style);
            self.out.push_str(&table);
        }
        for release in report
            .releases
            .iter()
            .filter(|_| report.subject == Subject::Change)
        {
            let name = match &release.namespace {
                Some(namespace) => {
                    format!("{} (namespace {})", plain(&release.name), plain(namespace))
                }
                None => plain(&release.name),
            };
            let unknown = "unknown".to_owned();
            let change = match (release.topology.before, &release.from) {
                (None, _) => format!(
                    "new installation of {}",
                    release.to.as_ref().unwrap_or(&unknown)
                ),
                (Some(_), from) if *from == release.to => from.clone().unwrap_or(unknown),
                (Some(_), from) => {
                    format!(
                        "{} {arrow} {}",
                        from.as_ref().unwrap_or(&unknown),
                        release.to.as_ref().unwrap_or(&unknown)
                    )
                }
            };
            let title = format!("{name}: {change}, {}", release.topology.after);
            for line in layout::fill(self.style.width, "", "  ", &title).lines() {
                let line = self.paint(Ansi::new().bold(), line);
                self.line(&line);
            }
        }
        let missing = |input: &&InputEntry| !input.not_read.is_empty();
        let is_short = self.style.show == Show::Releases;
        for input in report
            .inputs
            .iter()
            .filter(|input| !is_short || missing(input))
        {
            let read = match input.read.len() {
                0 | 1 => String::new(),
                many => format!(" ({} read)", count(many, "part")),
            };
            self.about(&input.role, &format!("{}{read}", plain(&input.source)));
            for note in &input.notes {
                self.about("", &plain(note));
            }
            for missing in &input.not_read {
                self.about("", &format!("not read: {}", plain(missing)));
            }
        }
        if let Some(day) = &report.data {
            self.about("data", &format!("of {}", plain(day)));
        }
        if !report.policies.is_empty() {
            let names = report.policies.iter().map(|name| plain(name));
            self.about("policy", &names.collect::<Vec<_>>().join(", "));
        }
    }

    /// A line of the header.
    fn about(&mut self, name: &str, text: &str) {
        let line = layout::hang(self.style.width, &format!("  {name:<7} "), text);
        self.line(&line);
    }

    fn category(&mut self, report: &Report, category: Category) {
        let checks: Vec<_> = report
            .checks
            .iter()
            .filter(|check| check.category == category)
            .collect();
        let findings: Vec<&FindingEntry> = report
            .findings
            .iter()
            .filter(|finding| {
                !finding.not_evaluated && checks.iter().any(|check| check.rule == finding.rule)
            })
            .filter(|finding| match self.style.show {
                Show::Releases => false,
                Show::Deny => finding.action == Action::Deny,
                Show::Warn => finding.action >= Action::Warn,
                Show::Audit | Show::All => true,
            })
            .collect();
        let passed: Vec<_> = checks
            .iter()
            .filter(|check| check.outcome == Outcome::Passed)
            .collect();
        if findings.is_empty() && (passed.is_empty() || self.style.show < Show::Audit) {
            return;
        }
        self.heading(category.title());
        for finding in findings {
            self.finding(report, finding);
        }
        let mark = self.mark(None);
        if self.style.show == Show::All {
            for check in passed {
                self.wrapped(
                    &format!("{mark} "),
                    "  ",
                    &format!("{} ({})", check.title, check.rule),
                );
            }
        } else if passed.len() == 1 {
            self.wrapped(&format!("{mark} "), "  ", &passed[0].title);
        } else if !passed.is_empty() && self.style.show == Show::Audit {
            let titles = passed
                .iter()
                .map(|check| check.title.as_str())
                .collect::<Vec<_>>()
                .join("; ");
            self.wrapped(&format!("{mark} "), "  ", &titles);
        }
    }

    fn heading(&mut self, title: &str) {
        self.out.push('\n');
        let heading = self.paint(Ansi::new().bold(), title);
        self.line(&heading);
        let rule = if self.style.unicode { "─" } else { "-" }.repeat(title.chars().count());
        self.line(&rule);
    }

    fn finding(&mut self, report: &Report, finding: &FindingEntry) {
        let mark = self.mark(Some(finding.action));
        let several = report.releases.len() > 1;
        let of = super::label(finding.namespace.as_deref(), &finding.release);
        let release = if several {
            format!("{}: ", plain(&of))
        } else {
            String::new()
        };
        let code = self.paint(Ansi::new().bold(), &finding.rule);
        self.wrapped(
            &format!("{mark} {code} "),
            INDENT,
            &format!("{release}{}", plain(&finding.message)),
        );
        if finding.action >= Action::Warn {
            self.field("why", &finding.why);
        }
        let both = |evidence: &&Evidence| evidence.before.is_some() && evidence.after.is_some();
        for evidence in finding.evidence.iter().filter(both) {
            let arrow = if self.style.unicode { "→" } else { "->" };
            let (before, after) = (
                evidence.before.as_deref().unwrap_or_default(),
                evidence.after.as_deref().unwrap_or_default(),
            );
            let source = evidence.source.as_deref().unwrap_or("what is expected");
            // A state has no arrow: the one is the running state, the other what someone says of
            // it.
            self.field(
                "seen",
                &match (report.subject, &evidence.source) {
                    (Subject::State, _) => {
                        format!("{}: {before}; {source}: {after}", evidence.what)
                    }
                    (Subject::Change, Some(source)) => {
                        format!("{}: {before} {arrow} {after}  ({source})", evidence.what)
                    }
                    (Subject::Change, None) => {
                        format!("{}: {before} {arrow} {after}", evidence.what)
                    }
                },
            );
        }
        if let (Some(object), true) = (
            &finding.object,
            !finding.evidence.iter().any(|evidence| both(&evidence)),
        ) {
            let place = finding
                .location
                .as_ref()
                .map_or(String::new(), |location| format!("  ({location})"));
            self.field("seen", &format!("{object}{place}"));
        }
        if finding.action >= Action::Warn {
            self.field("fix", &finding.fix.text);
        }
        if let Some(command) = &finding.fix.command {
            self.command(&format!("{INDENT}run    "), command);
        }
        self.field("docs", &finding.docs_url);
        if let Some(policy) = &finding.policy {
            self.field("policy", policy);
        }
    }

    fn field(&mut self, name: &str, text: &str) {
        self.wrapped(
            &format!("{INDENT}{name:<7}"),
            &format!("{INDENT}       "),
            &plain(text),
        );
    }

    fn wrapped(&mut self, first: &str, rest: &str, text: &str) {
        let line = layout::fill(self.style.width, first, rest, text);
        self.line(&line);
    }

    fn command(&mut self, first: &str, command: &str) {
        let line = self.style.command(first, &plain(command));
        self.line(&line);
    }

    fn not_applicable(&mut self, report: &Report) {
        let reasons = report.reasons(Outcome::NotApplicable);
        if reasons.is_empty() || self.style.show < Show::Audit {
            return;
        }
        self.heading("Not applicable");
        for reason in reasons {
            let text = format!(
                "{}: {}{}",
                reason.rules.join(", "),
                reason.reason,
                reason.place(report.releases.len())
            );
            self.wrapped("- ", "  ", &plain(&text));
        }
    }

    fn not_evaluated(&mut self, report: &Report) {
        let mut reasons = report.reasons(Outcome::NotEvaluated);
        reasons.retain(|reason| {
            self.style.show >= Show::Audit || (reason.warns && self.style.show == Show::Warn)
        });
        if reasons.is_empty() {
            return;
        }
        self.heading("Not evaluated");
        for reason in reasons {
            let mark = if reason.warns {
                self.mark(Some(Action::Warn))
            } else {
                "-".to_owned()
            };
            let mut text = format!(
                "{}: {}{}",
                reason.rules.join(", "),
                reason.reason,
                reason.place(report.releases.len())
            );
            if let Some(provide) = reason.provide.filter(|_| !reason.warns) {
                text = format!("{text}. {provide}");
            }
            self.wrapped(
                &format!("{mark} "),
                if reason.warns { INDENT } else { "  " },
                &plain(&text),
            );
            if let Some(provide) = reason.provide.filter(|_| reason.warns) {
                self.field("do", provide);
            }
        }
    }

    fn exceptions(&mut self, report: &Report) {
        if report.exceptions.is_empty() || self.style.show == Show::Releases {
            return;
        }
        self.heading("Exceptions in force");
        for exception in &report.exceptions {
            let text = format!(
                "{} allows {} for {} until {}: {} ({}). Found: {}",
                exception.name,
                exception.rule,
                super::label(exception.namespace.as_deref(), &exception.release),
                exception.expires,
                exception.reason,
                exception.owner,
                exception.message
            );
            self.wrapped("- ", "  ", &plain(&text));
        }
    }

    fn footer(&mut self, report: &Report) {
        let color = match report.verdict {
            Verdict::Deny => AnsiColor::Red,
            Verdict::Warn => AnsiColor::Yellow,
            Verdict::Allow => AnsiColor::Green,
        };
        let answer = match (report.health, report.verdict) {
            (Some(health), _) => format!("audit: {}", Health::words(health)),
            (None, Verdict::Deny) => "verdict: deny".into(),
            (None, Verdict::Warn) => "verdict: warn".into(),
            (None, Verdict::Allow) => "verdict: allow".into(),
        };
        self.out.push('\n');
        let answer = self.paint(color.on_default().bold(), &answer);
        self.wrapped(
            &answer,
            "         ",
            &format!(", {} ({})", report.sentence(), report.counts()),
        );
        if self.style.show == Show::Releases {
            if !report.findings.is_empty() {
                self.wrapped(
                    "next:    ",
                    "         ",
                    "the same command with --show warn, for the findings",
                );
            }
            return;
        }
        // What guards data goes first: an ordered upgrade onto an empty queue would be no help.
        let denied = || {
            report
                .findings
                .iter()
                .filter(|finding| finding.action == Action::Deny)
        };
        let guards_data = |finding: &&FindingEntry| {
            crate::rules::find(&finding.rule).is_some_and(|rule| rule.data_loss)
        };
        let with_command = |finding: &&FindingEntry| finding.fix.command.is_some();
        let first = denied()
            .filter(guards_data)
            .find(with_command)
            .or_else(|| denied().find(guards_data))
            .or_else(|| denied().next());
        if let Some(first) = first {
            match &first.fix.command {
                Some(command) => self.command("next:    ", command),
                None => self.wrapped("next:    ", "         ", &plain(&first.fix.text)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_of_an_audit() {
        insta::assert_snapshot!(render(&super::super::sample::audit(), &Style::default()));
    }

    #[test]
    fn no_width_cuts_a_word() {
        for report in [
            super::super::sample::report_by_every_rule(),
            super::super::sample::audit_by_every_rule(),
        ] {
            for width in [40, 60, 80, 100, 120] {
                let page = render(
                    &report,
                    &Style {
                        width,
                        ..Style::default()
                    },
                );
                let whole: std::collections::BTreeSet<&str> = page.split_whitespace().collect();
                let mut texts: Vec<String> = Vec::new();
                for finding in report
                    .findings
                    .iter()
                    .filter(|finding| finding.action > Action::Audit)
                {
                    texts.extend([plain(&finding.message), plain(&finding.fix.text)]);
                    if let Some(command) = finding
                        .fix
                        .command
                        .as_ref()
                        .filter(|_| !finding.not_evaluated)
                    {
                        let joined = page.replace(" \\\n", " ");
                        let joined = joined.split_whitespace().collect::<Vec<_>>().join(" ");
                        assert!(
                            joined.contains(&plain(command)),
                            "{command} is cut at {width}"
                        );
                    }
                }
                for word in texts
                    .iter()
                    .flat_map(|text| text.split_whitespace())
                    .filter(|word| *word != "evaluated:" && *word != "not")
                {
                    assert!(
                        whole.iter().any(|token| token.starts_with(word)),
                        "{word} is cut at {width}:\n{page}"
                    );
                }
            }
        }
    }

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(render(&super::super::sample::report(), &Style::default()));
    }

    #[test]
    fn narrow_ascii_and_everything() {
        let style = Style {
            unicode: false,
            width: 60,
            show: Show::All,
            ..Style::default()
        };
        let page = render(&super::super::sample::report(), &style);
        assert!(
            page.is_ascii() || !page.contains(['√', '×', '‼', '→', '─']),
            "{page}"
        );
        insta::assert_snapshot!(page);
    }

    #[test]
    fn only_denials() {
        let page = render(
            &super::super::sample::report(),
            &Style {
                show: Show::Deny,
                ..Style::default()
            },
        );
        assert!(page.contains("MG101") && !page.contains("MG104"), "{page}");
        assert!(page.contains("verdict: deny"));
    }

    #[test]
    fn input_never_steers_the_terminal() {
        for color in [false, true] {
            let page = render(
                &super::super::sample::report_by_every_rule(),
                &Style {
                    color,
                    ..Style::default()
                },
            );
            assert!(
                !page.contains("\u{1b}[31mevil") && !page.contains('\u{7}'),
                "{page:?}"
            );
        }
    }
}
