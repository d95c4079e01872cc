//! Documentation of the rules, generated from what they declare.

use serde::Serialize;

use crate::project;

use super::{ALL, Behavior, Category, DefaultAction, Need, Rule};

/// A rule as programs get it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    id: &'static str,
    name: &'static str,
    title: &'static str,
    category: Category,
    default: DefaultAction,
    data_loss: bool,
    behavior: &'static [Behavior],
    since: &'static str,
    needs: &'static [Need],
    what: &'static str,
    why: &'static str,
    example: &'static str,
    fix: &'static str,
    sources: &'static [&'static str],
    docs_url: String,
}

/// A rule as programs get it.
#[must_use]
pub fn entry(rule: &Rule) -> Entry {
    Entry {
        id: rule.id,
        name: rule.name,
        title: rule.title,
        category: rule.category,
        default: rule.default,
        data_loss: rule.data_loss,
        behavior: rule.behavior,
        since: rule.since,
        needs: rule.needs,
        what: rule.what,
        why: rule.why,
        example: rule.example,
        fix: rule.fix,
        sources: rule.sources,
        docs_url: project::rule_page(rule.id),
    }
}

/// The default action as text.
#[must_use]
pub const fn default_text(rule: &Rule) -> &'static str {
    match rule.default {
        DefaultAction::Deny => "deny",
        DefaultAction::DenyOrWarn => "deny or warn",
        DefaultAction::Warn => "warn",
        DefaultAction::Audit => "audit",
    }
}

/// What to add where a rule guards data.
#[must_use]
pub const fn loss_text(rule: &Rule) -> &'static str {
    if rule.data_loss {
        "; guards data: it also applies to rollbacks, and deployers cannot accept it"
    } else {
        ""
    }
}

/// How the rule behaves at the gates and in a run: one line each.
#[must_use]
pub fn behavior_text(rule: &Rule) -> String {
    rule.behavior
        .iter()
        .map(|behavior| format!("- {}\n", behavior.text()))
        .collect()
}

/// The table of all rules as Markdown, with links into `folder`.
#[must_use]
pub fn table(folder: &str) -> String {
    let mut out = String::from("| rule | name | default | checks that |\n|---|---|---|---|\n");
    for rule in ALL {
        let id = rule.id;
        out += &format!(
            "| [{id}]({folder}{id}.md) | {} | {} | {} |\n",
            rule.name,
            default_text(rule),
            rule.title
        );
    }
    out
}

/// The page of one rule as Markdown.
#[must_use]
pub fn page(rule: &Rule) -> String {
    let gates = behavior_text(rule);
    let gates = if gates.is_empty() {
        gates
    } else {
        format!("\n## At the gates and in a run\n\n{gates}")
    };
    let sources = rule
        .sources
        .iter()
        .map(|source| match project::issue(source) {
            Some(url) => format!("- [{source}]({url})\n"),
            None => format!("- {source}\n"),
        })
        .collect::<String>();
    format!(
        "# {id} {name}\n\n{title_first}.\n\n| default | guards data | since | group \
         |\n|---|---|---|---|\n| {default} | {loss} | {since} | {group} |\n\n## What it \
         checks\n\n{what}\n\n## Why it matters\n\n{why}\n\n## Example\n\n{example}\n\n## What to \
         do\n\n{fix}\n{gates}\n## Known from\n\n{sources}",
        id = rule.id,
        name = rule.name,
        title_first = capital(rule.title),
        default = default_text(rule),
        loss = if rule.data_loss { "yes" } else { "no" },
        since = rule.since,
        group = rule.category.title(),
        what = rule.what,
        why = rule.why,
        example = rule.example,
        fix = rule.fix,
    )
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}
