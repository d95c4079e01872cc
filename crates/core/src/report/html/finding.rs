//! One finding: what was seen, why it matters, what to do, and what was compared.

use maud::{Markup, html};

use crate::{evaluate::Subject, page::entry, policy::Action, rules::Evidence, text::plain};

use super::super::{self as report, FindingEntry};

pub(super) fn article(subject: Subject, finding: &FindingEntry) -> Markup {
    let (class, word) = match (finding.action, subject) {
        (Action::Deny, Subject::Change) => ("deny", "Denied"),
        (Action::Deny, Subject::State) => ("deny", "Problem"),
        (Action::Hold, _) => ("hold", "Held"),
        (Action::Warn, _) => ("warn", "Warning"),
        (Action::Audit, _) => ("audit", "Note"),
    };
    let of = report::label(finding.namespace.as_deref(), &finding.release);
    html! {
        article class=(class) {
            h3 {
                span.kind { (word) } " " (finding.rule) " " (finding.name)
                span.soft { " · " (plain(&of)) }
            }
            p { (plain(&finding.message)) }
            dl {
                (entry("Why", &finding.why))
                (entry("Fix", &finding.fix.text))
                @if let Some(command) = &finding.fix.command {
                    dt { "Command" } dd { pre { (plain(command)) } }
                }
                @if !finding.evidence.is_empty() {
                    dt { "Evidence" } dd { (evidence(subject, &finding.evidence)) }
                }
                @if let Some(component) = finding.component {
                    (entry("Component", component.name()))
                }
                @if let Some(object) = &finding.object { (entry("Object", &object.to_string())) }
                @if let Some(location) = &finding.location {
                    (entry("Location", &location.to_string()))
                }
                @if let Some(policy) = &finding.policy { (entry("Policy", policy)) }
                dt { "Rule" } dd { (page(&finding.docs_url)) }
            }
        }
    }
}

/// The page of the rule: a link where it has an address, because a file on a ticket
/// has no folder with other files.
fn page(docs: &str) -> Markup {
    html! {
        @if docs.starts_with("https://") { a href=(plain(docs)) rel="noreferrer" { (plain(docs)) } }
        @else { code { (plain(docs)) } }
    }
}

fn evidence(subject: Subject, rows: &[Evidence]) -> Markup {
    let (first, second) = match subject {
        Subject::Change => ("Before", "After"),
        Subject::State => ("Seen", "Expected or stated"),
    };
    let value = |text: Option<&String>| text.map_or_else(|| "–".to_owned(), |text| plain(text));
    html! {
        div.wide {
            table {
                thead {
                    tr {
                        th scope="col" { "What" }
                        th scope="col" { (first) }
                        th scope="col" { (second) }
                        th scope="col" { "Source" }
                    }
                }
                tbody {
                    @for row in rows {
                        tr {
                            th scope="row" { (plain(&row.what)) }
                            td { (value(row.before.as_ref())) }
                            td { (value(row.after.as_ref())) }
                            td { (value(row.source.as_ref())) }
                        }
                    }
                }
            }
        }
    }
}
