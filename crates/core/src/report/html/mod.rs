//! For a change ticket: a [`page`](crate::page) for a browser and for paper.

mod finding;
#[cfg(test)]
mod hostile;

use maud::{Markup, html};

use crate::{
    evaluate::{Subject, Verdict},
    page::page,
    policy::Action,
    text::{capitalized, plain},
};

use super::{ExceptionEntry, InputEntry, Outcome, ReleaseEntry, Report, inventory};

pub(super) fn render(report: &Report) -> String {
    let title = format!("milvus-guard: {} {}", answer(report), subject(report));
    let body = html! {
        (heading(report))
        main {
            (releases(report))
            (findings(report))
            (not_evaluated(report))
            (exceptions(report))
            (passed(report))
            (not_applicable(report))
            (basis(report))
        }
        (origin(report))
    };
    page(&title, &body)
}

/// The verdict in one or two words.
fn answer(report: &Report) -> &'static str {
    match (report.health, report.verdict) {
        (Some(health), _) => health.words(),
        (None, Verdict::Deny) => "deny",
        (None, Verdict::Warn) => "warn",
        (None, Verdict::Allow) => "allow",
    }
}

/// What was judged, for the title of the window: the release where it is one.
fn subject(report: &Report) -> String {
    match report.releases.as_slice() {
        [only] => plain(&only.label()),
        releases => crate::text::count(releases.len(), "release"),
    }
}

fn heading(report: &Report) -> Markup {
    let (class, mark) = match report.verdict {
        Verdict::Deny => ("deny", "✕"),
        Verdict::Warn => ("warn", "⚠"),
        Verdict::Allow => ("allow", "✓"),
    };
    let kind = match report.subject {
        Subject::Change => "Verdict",
        Subject::State => "Audit",
    };
    html! {
        header class=(class) {
            h1 { (kind) ": " span.verdict { (mark) " " (answer(report)) } }
            p { (capitalized(report.sentence())) "." }
            p.soft { (report.counts()) }
        }
    }
}

fn releases(report: &Report) -> Markup {
    let state = report.subject == Subject::State;
    html! {
        section {
            h2 { "Releases" }
            div.wide {
                table.releases {
                    thead {
                        tr {
                            th scope="col" { "Release" }
                            th scope="col" { "Namespace" }
                            th scope="col" { "Topology" }
                            @if state {
                                @for column in inventory::COLUMNS { th scope="col" { (column) } }
                            }
                            @else { th scope="col" { "From" } th scope="col" { "To" } }
                        }
                    }
                    tbody {
                        @for release in &report.releases {
                            tr {
                                th scope="row" { (plain(&release.name)) }
                                td { (known(release.namespace.as_deref())) }
                                td { (release.topology.after) }
                                @if state {
                                    @for cell in inventory::cells(release) { td { (cell) } }
                                }
                                @else { td { (before(release)) } td { (known(release.to.as_deref())) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The version before a change.
fn before(release: &ReleaseEntry) -> String {
    if release.topology.before.is_none() {
        "new installation".into()
    } else {
        known(release.from.as_deref())
    }
}

fn known(text: Option<&str>) -> String {
    text.map_or_else(|| "unknown".to_owned(), plain)
}

fn findings(report: &Report) -> Markup {
    let denied = match report.subject {
        Subject::Change => "Denied",
        Subject::State => "Problems",
    };
    let groups = [
        (Action::Deny, denied),
        (Action::Hold, "Held"),
        (Action::Warn, "Warnings"),
        (Action::Audit, "Notes"),
    ];
    html! {
        @for (action, title) in groups {
            @let of_group: Vec<_> = report.acting(action).collect();
            @if !of_group.is_empty() {
                section {
                    h2 { (title) " (" (of_group.len()) ")" }
                    @for found in of_group { (finding::article(report.subject, found)) }
                }
            }
        }
    }
}

fn not_evaluated(report: &Report) -> Markup {
    let reasons = report.reasons(Outcome::NotEvaluated);
    html! {
        @if !reasons.is_empty() {
            section {
                h2 { "Not evaluated (" (report.tally(Outcome::NotEvaluated)) ")" }
                ul {
                    @for reason in &reasons {
                        li {
                            @if reason.warns { strong { "Warning: " } }
                            b { (reason.rules.join(", ")) } ": "
                            (plain(reason.reason)) (plain(&reason.place(report.releases.len()))) "."
                            @if let Some(provide) = reason.provide { " " (plain(provide)) }
                        }
                    }
                }
            }
        }
    }
}

fn exceptions(report: &Report) -> Markup {
    let row = |exception: &ExceptionEntry| {
        let of = super::label(exception.namespace.as_deref(), &exception.release);
        html! {
            tr {
                th scope="row" { (plain(&exception.name)) }
                td { (plain(&exception.rule)) }
                td { (plain(&of)) }
                td { (plain(&exception.expires)) }
                td { (plain(&exception.reason)) }
                td { (plain(&exception.owner)) }
                td { (plain(&exception.message)) }
            }
        }
    };
    let columns = [
        "Exception",
        "Rule",
        "Release",
        "Until",
        "Reason",
        "Owner",
        "What the rule found",
    ];
    html! {
        @if !report.exceptions.is_empty() {
            section {
                h2 { "Exceptions in force (" (report.exceptions.len()) ")" }
                div.wide {
                    table {
                        thead { tr { @for column in columns { th scope="col" { (column) } } } }
                        tbody { @for exception in &report.exceptions { (row(exception)) } }
                    }
                }
            }
        }
    }
}

fn passed(report: &Report) -> Markup {
    let passed = report
        .checks
        .iter()
        .filter(|check| check.outcome == Outcome::Passed);
    html! {
        @if report.tally(Outcome::Passed) > 0 {
            section {
                h2 { "Passed (" (report.tally(Outcome::Passed)) ")" }
                ul { @for check in passed { li { b { (check.rule) } " " (check.title) } } }
            }
        }
    }
}

fn not_applicable(report: &Report) -> Markup {
    html! {
        @if report.tally(Outcome::NotApplicable) > 0 {
            section {
                h2 { "Not applicable (" (report.tally(Outcome::NotApplicable)) ")" }
                ul {
                    @for reason in report.reasons(Outcome::NotApplicable) {
                        li {
                            b { (reason.rules.join(", ")) } ": "
                            (plain(reason.reason)) (plain(&reason.place(report.releases.len())))
                        }
                    }
                }
            }
        }
    }
}

/// The basis of the verdict: inputs, what was not read of them, and policies.
fn basis(report: &Report) -> Markup {
    let row = |input: &InputEntry| {
        html! {
            tr {
                th scope="row" { (plain(&input.role)) }
                td {
                    (plain(&input.source))
                    @for note in &input.notes { p.soft { (plain(note)) } }
                }
                td { (list(&input.read, "nothing")) }
                td { (list(&input.not_read, "–")) }
            }
        }
    };
    html! {
        section {
            h2 { "Inputs" }
            @if report.inputs.is_empty() { p { "No input is recorded." } }
            @else {
                div.wide {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Input" }
                                th scope="col" { "Source" }
                                th scope="col" { "Read" }
                                th scope="col" { "Not read" }
                            }
                        }
                        tbody { @for input in &report.inputs { (row(input)) } }
                    }
                }
            }
        }
        section {
            h2 { "Policies" }
            @if report.policies.is_empty() { p { "No policy: each rule has its default action." } }
            @else { ul { @for policy in &report.policies { li { (plain(policy)) } } } }
        }
    }
}

fn list(items: &[String], without: &str) -> Markup {
    html! {
        @match items {
            [] => (without),
            [only] => (plain(only)),
            several => { ul { @for item in several { li { (plain(item)) } } } }
        }
    }
}

fn origin(report: &Report) -> Markup {
    html! {
        footer {
            p {
                (report.tool.name) " " (report.tool.version)
                @if let Some(day) = &report.data { ", data about Milvus releases of " (plain(day)) }
                ". Report format " code { (report.schema_version) } "."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, render};
    use crate::page::testing::without_style;

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(without_style(&render(&sample::report())));
    }

    #[test]
    fn snapshot_of_an_audit() {
        insta::assert_snapshot!(without_style(&render(&sample::audit())));
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_nothing_runs() {
        for page in [render(&sample::report()), render(&sample::audit())] {
            for word in [
                "<script", "<img", "<link", "<iframe", "src=", "url(", "@import", "onload",
            ] {
                assert!(!page.contains(word), "{word}");
            }
        }
    }
}
