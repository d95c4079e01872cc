//! `rules list` and `rules explain`.

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use milvus_guard_core::{
    report::{Show, Style},
    rules::{self, ALL, Category, Rule, docs},
};

use super::{
    exit::{Done, Exit, Failure},
    output::{Screen, print},
};

/// Arguments of `rules`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all rules
    List {
        /// How to print the list
        #[arg(long, value_enum, default_value_t = ListFormat::Text)]
        format: ListFormat,
    },
    /// Explain one rule: what it checks, why, and what to do
    Explain {
        /// Id or name, such as MG101 or message-queue-changed
        rule: String,
        /// How to print it
        #[arg(long, value_enum, default_value_t = ListFormat::Text)]
        format: ListFormat,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    /// For a person
    Text,
    /// For programs
    Json,
    /// For documents
    Markdown,
}

pub(super) fn run(args: Args, screen: &Screen) -> Done {
    let text = match args.action {
        Action::List {
            format: ListFormat::Text,
        } => list(),
        Action::List {
            format: ListFormat::Json,
        } => json(&ALL.iter().map(|rule| docs::entry(rule)).collect::<Vec<_>>()),
        Action::List {
            format: ListFormat::Markdown,
        } => docs::table("docs/rules/"),
        Action::Explain { rule, format } => {
            let found = rules::find(&rule).ok_or_else(|| Failure::usage(unknown(&rule)))?;
            match format {
                ListFormat::Text => explain(found, &screen.style(Show::All)),
                ListFormat::Json => json(&docs::entry(found)),
                ListFormat::Markdown => docs::page(found),
            }
        }
    };
    print(&text)?;
    Ok(Exit::Clean)
}

fn json(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

fn unknown(rule: &str) -> String {
    let near = rules::nearest(rule).map_or(String::new(), |near| format!("; did you mean {near}?"));
    format!("rule '{rule}' does not exist{near} (milvus-guard rules list shows all)")
}

fn list() -> String {
    let mut out = String::new();
    for category in Category::ALL {
        out += &format!("{}\n", category.title());
        for rule in ALL.iter().filter(|rule| rule.category == category) {
            out += &format!(
                "  {:<6} {:<28} {:<13} {}\n",
                rule.id,
                rule.name,
                docs::default_text(rule),
                rule.title
            );
        }
    }
    out
}

fn explain(rule: &Rule, style: &Style) -> String {
    let bold = |text: &str| {
        if style.color {
            format!("\u{1b}[1m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    };
    let wrap = |text: &str| {
        textwrap::fill(
            text,
            textwrap::Options::new(style.width.max(40))
                .initial_indent("  ")
                .subsequent_indent("  ")
                .word_splitter(textwrap::WordSplitter::NoHyphenation)
                .break_words(false),
        )
    };
    let mut out = format!("{} {}\n", bold(rule.id), bold(rule.name));
    out += &format!(
        "{}\n",
        wrap(&format!(
            "{} by default, since {}{}",
            docs::default_text(rule),
            rule.since,
            docs::loss_text(rule)
        ))
    );
    for (title, text) in [
        ("What it checks", rule.what),
        ("Why it matters", rule.why),
        ("Example", rule.example),
        ("What to do", rule.fix),
    ] {
        out += &format!("\n{}\n{}\n", bold(title), wrap(text));
    }
    let gates: Vec<String> = rule
        .behavior
        .iter()
        .map(|behavior| wrap(behavior.text()))
        .collect();
    if !gates.is_empty() {
        out += &format!(
            "\n{}\n{}\n",
            bold("At the gates and in a run"),
            gates.join("\n")
        );
    }
    out += &format!(
        "\n{}\n{}\n",
        bold("Known from"),
        wrap(&rule.sources.join(", "))
    );
    out
}
