//! `rules list` and `rules explain`.

use anstyle::{AnsiColor, Style as Ansi};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use milvus_guard_core::{
    layout, project,
    report::{Show, Style},
    rules::{self, ALL, Category, DefaultAction, Rule, docs},
};

use super::{
    completion,
    exit::{Done, Exit, Failure},
    output::{Screen, print},
    structured::Structured,
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
        #[arg(add = ArgValueCompleter::new(completion::rule_ids))]
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
    /// The same as YAML
    Yaml,
    /// For documents
    Markdown,
}

pub(super) fn run(args: Args, screen: &Screen) -> Done {
    let text = match args.action {
        Action::List { format } => {
            let entries = || ALL.iter().map(|rule| docs::entry(rule)).collect::<Vec<_>>();
            match format {
                ListFormat::Text => list(&screen.style(Show::All)),
                ListFormat::Json => Structured::Json.render(&entries())?,
                ListFormat::Yaml => Structured::Yaml.render(&entries())?,
                ListFormat::Markdown => docs::table("docs/rules/"),
            }
        }
        Action::Explain { rule, format } => {
            let found = rules::find(&rule).ok_or_else(|| Failure::usage(unknown(&rule)))?;
            match format {
                ListFormat::Text => explain(found, &screen.style(Show::All)),
                ListFormat::Json => Structured::Json.render(&docs::entry(found))?,
                ListFormat::Yaml => Structured::Yaml.render(&docs::entry(found))?,
                ListFormat::Markdown => docs::page(found),
            }
        }
    };
    print(&text)?;
    Ok(Exit::Clean)
}

fn unknown(rule: &str) -> String {
    let near = rules::nearest(rule).map_or(String::new(), |near| format!("; did you mean {near}?"));
    format!("rule '{rule}' does not exist{near} (milvus-guard rules list shows all)")
}

fn list(style: &Style) -> String {
    let mut out = String::new();
    for category in Category::ALL {
        out += &format!("{}\n", style.paint(Ansi::new().bold(), category.title()));
        for rule in ALL.iter().filter(|rule| rule.category == category) {
            let id = style.paint(Ansi::new().bold(), rule.id);
            let default = format!("{:<13}", docs::default_text(rule));
            let default = style.paint(color(rule.default).on_default(), &default);
            let cells = format!("  {id}  {:<28} {default} ", rule.name);
            out += &layout::row(style.width, &cells, rule.title);
            out.push('\n');
        }
    }
    out
}

/// The colour of an action, as findings have it.
const fn color(action: DefaultAction) -> AnsiColor {
    match action {
        DefaultAction::Deny | DefaultAction::DenyOrWarn => AnsiColor::Red,
        DefaultAction::Warn => AnsiColor::Yellow,
        DefaultAction::Audit => AnsiColor::Blue,
    }
}

fn explain(rule: &Rule, style: &Style) -> String {
    let bold = |text: &str| style.paint(Ansi::new().bold(), text);
    let wrap = |text: &str| layout::fill(style.width, "  ", "  ", text);
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
        rule.sources
            .iter()
            .map(|source| wrap(&project::source_text(source)))
            .collect::<Vec<_>>()
            .join("\n")
    );
    out += &format!("\n{}\n  {}\n", bold("More"), project::rule_page(rule.id));
    out
}
