//! Help of every verb: notes, examples, exit codes, and where to read more. `--help` and the man
//! pages are made of the same pages.
//!
//! | module | job |
//! |---|---|
//! | `pages` | the page of each verb |
//! | `man` | the man pages |

mod man;
mod pages;

use std::env;

use anstyle::Style as Ansi;
use clap::Command;

use milvus_guard_core::{layout, project};

pub(super) use man::{main_page, write_pages};
use pages::{GROUPS, PAGES};

/// Lines of help longer than this are hard to read.
const MAX_WIDTH: usize = 110;

/// Columns if the terminal does not report its size.
const DEFAULT_WIDTH: usize = 100;

/// The content of `--help` beyond the flags.
pub(super) struct Page {
    /// The verb and its subcommand, such as `policy lint`; empty for the program.
    verb: &'static str,
    /// Paragraphs.
    notes: &'static [&'static str],
    /// Examples: description and command.
    examples: &'static [(&'static str, &'static str)],
    /// Exit codes and what they mean, as in [`super::exit::Exit`].
    exit: &'static [(&'static str, &'static str)],
    /// The page of the documentation, as a file in `docs`.
    docs: &'static str,
}

/// The page of a verb.
fn page(verb: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.verb == verb)
}

/// Adds to each command the content of its page. `verb` is the verb of `command`, empty for the
/// program; `program` is what a user types instead of `milvus-guard`.
pub(super) fn complete(command: Command, verb: &str, program: &str) -> Command {
    let width = width();
    let command = with_page(command, verb, program, width).term_width(width);
    if verb.is_empty() {
        let groups = groups(&command, width);
        command.help_template(format!(
            "{{about-with-newline}}\nFirst command:  {}\nDocumentation:  {}\n\n{{usage-heading}} \
             {{usage}}\n\n{groups}\nOptions:\n{{options}}{{after-help}}",
            called("milvus-guard audit -n milvus", program),
            project::page("README.md")
        ))
    } else {
        command
    }
}

fn with_page(command: Command, verb: &str, program: &str, width: usize) -> Command {
    let command = match page(verb) {
        Some(page) => command.after_help(page.text(program, width)),
        None => command,
    };
    command.mut_subcommands(|inner| {
        let name = inner.get_name();
        let path = if verb.is_empty() {
            name.to_owned()
        } else {
            format!("{verb} {name}")
        };
        with_page(inner, &path, program, width)
    })
}

/// The columns of the terminal, else of the variable `COLUMNS`, else the default.
fn width() -> usize {
    let columns = env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    let terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    columns
        .filter(|columns| *columns > 0)
        .or_else(terminal)
        .map_or(DEFAULT_WIDTH, |width| width.min(MAX_WIDTH))
}

/// The verbs in groups, each with what it does.
fn groups(command: &Command, width: usize) -> String {
    let longest = |verbs: &[&str]| {
        verbs
            .iter()
            .map(|verb| verb.len())
            .max()
            .unwrap_or_default()
    };
    let column = GROUPS
        .iter()
        .map(|(_, verbs)| longest(verbs))
        .max()
        .unwrap_or_default();
    let mut out = String::new();
    for (title, verbs) in GROUPS {
        out.push_str(&format!("{title}:\n"));
        for verb in verbs {
            let about = command
                .find_subcommand(verb)
                .and_then(Command::get_about)
                .map(ToString::to_string)
                .unwrap_or_default();
            out.push_str(&layout::row(width, &format!("  {verb:<column$}  "), &about));
            out.push('\n');
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

impl Page {
    /// The text below the flags, wrapped at `width`.
    fn text(&self, program: &str, width: usize) -> String {
        let mut parts: Vec<String> = self
            .notes
            .iter()
            .map(|note| layout::fill(width, "", "", note))
            .collect();
        if !self.examples.is_empty() {
            let mut part = "Examples:".to_owned();
            for (what, command) in self.examples {
                let what = layout::fill(width, "  # ", "  # ", what);
                let command = called(command, program);
                let command = layout::command(Some(width), "  ", &command, Ansi::new());
                part.push_str(&format!("\n{what}\n{command}"));
            }
            parts.push(part);
        }
        let mut part = "Exit codes:".to_owned();
        for (code, meaning) in self.exit {
            part.push('\n');
            part.push_str(&layout::hang(width, &format!("  {code:<3}"), meaning));
        }
        parts.push(part);
        if !self.verb.is_empty() {
            let address = layout::fill(width, "  ", "  ", &project::page(self.docs));
            parts.push(format!("Documentation:\n{address}"));
        }
        parts.join("\n\n")
    }
}

/// A command as a user types it under another name of the program.
fn called(command: &str, program: &str) -> String {
    let named = format!("{program} ");
    match command.strip_prefix("milvus-guard ") {
        Some(rest) => format!("{named}{rest}"),
        None => command.replace("| milvus-guard ", &format!("| {named}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    /// Collects each verb with its path, without the program itself.
    fn verbs(command: &Command, path: &str, found: &mut Vec<(String, bool)>) {
        for inner in command.get_subcommands() {
            let path = format!("{path} {}", inner.get_name()).trim().to_owned();
            found.push((path.clone(), inner.has_subcommands()));
            verbs(inner, &path, found);
        }
    }

    #[test]
    fn each_verb_has_a_page_and_each_page_a_verb() {
        let mut found = Vec::new();
        verbs(&Cli::command(), "", &mut found);
        for (verb, is_group) in &found {
            let page = page(verb).unwrap_or_else(|| panic!("{verb} has no page"));
            assert!(!page.examples.is_empty(), "{verb} has no example");
            assert!(*is_group || page.exit.len() > 1, "{verb} has no exit codes");
        }
        let unknown: Vec<&str> = PAGES
            .iter()
            .map(|page| page.verb)
            .filter(|verb| !verb.is_empty() && !found.iter().any(|(known, _)| known == verb))
            .collect();
        assert!(unknown.is_empty(), "pages without a verb: {unknown:?}");
    }

    #[test]
    fn each_verb_is_in_one_group() {
        let mut grouped: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, verbs)| *verbs)
            .copied()
            .collect();
        grouped.sort_unstable();
        let command = Cli::command();
        let mut verbs: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        verbs.sort_unstable();
        assert_eq!(grouped, verbs);
    }

    #[test]
    fn no_line_of_help_is_longer_than_the_terminal() {
        for width in [60, 80, 110] {
            for page in &PAGES {
                for line in page.text("kubectl guard", width).lines() {
                    let word = line
                        .split_whitespace()
                        .map(str::len)
                        .max()
                        .unwrap_or_default();
                    assert!(
                        layout::columns(line) <= width || word + 14 > width,
                        "{}: {line}",
                        page.verb
                    );
                }
            }
        }
    }

    #[test]
    fn examples_have_the_name_by_which_the_program_was_called() {
        assert_eq!(
            called("milvus-guard plan", "kubectl guard"),
            "kubectl guard plan"
        );
        assert_eq!(
            called("helm template a | milvus-guard check", "kubectl guard"),
            "helm template a | kubectl guard check"
        );
        assert_eq!(
            called("helm guard check a", "kubectl guard"),
            "helm guard check a"
        );
    }
}
