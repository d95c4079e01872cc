//! Man pages: the sections of clap, and those of the pages of help.

use std::{collections::BTreeMap, fs, io, path::Path};

use clap::{Arg, Command, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use milvus_guard_core::project;

use super::{Page, page};
use crate::cli::Cli;

/// Variables that every verb reads.
const VARIABLES: [(&str, &str); 4] = [
    (
        "NO_COLOR",
        "Any value: no colours. It goes before the other two.",
    ),
    (
        "CLICOLOR_FORCE, FORCE_COLOR",
        "Any value but 0: colours even if the output is not a terminal.",
    ),
    (
        "COLUMNS",
        "Width of the output [default: the width of the terminal].",
    ),
    (
        "LC_ALL, LC_CTYPE, LANG",
        "A locale without UTF-8: ASCII characters only.",
    ),
];

/// Variables of verbs that read a cluster.
const CLUSTER_VARIABLES: [(&str, &str); 1] = [(
    "KUBECONFIG",
    "Kubeconfig files, separated by colons [default: ~/.kube/config, or the account of the pod].",
)];

/// The page of the program.
pub(in crate::cli) fn main_page() -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut command = Cli::command();
    command.build();
    write_page(&command, "", &[], &mut text)?;
    Ok(text)
}

/// Writes a page for the program and for each verb into a folder.
pub(in crate::cli) fn write_pages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    write_tree(&command, "", &[], folder)
}

fn write_tree(command: &Command, verb: &str, above: &[String], folder: &Path) -> io::Result<()> {
    let mut text = Vec::new();
    write_page(command, verb, above, &mut text)?;
    let name = name(verb);
    fs::write(folder.join(format!("{name}.1")), text)?;
    let above: Vec<String> = above.iter().cloned().chain([name]).collect();
    for inner in command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
    {
        let verb = format!("{verb} {}", inner.get_name());
        write_tree(inner, verb.trim(), &above, folder)?;
    }
    Ok(())
}

/// The name of the page of a verb.
fn name(verb: &str) -> String {
    format!("{} {verb}", project::NAME).trim().replace(' ', "-")
}

fn write_page(
    command: &Command,
    verb: &str,
    above: &[String],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    // A flag that only `--help` explains has its text here as well.
    let command = command.clone().mut_args(|arg| {
        let help = arg.get_long_help().or(arg.get_help()).cloned();
        match help {
            Some(help) => arg.long_help(help).hide_short_help(false),
            None => arg,
        }
    });
    let man = Man::new(command.clone())
        .title(name(verb))
        .manual("milvus-guard Manual");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(out)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(out)?;
    }
    let mut roff = Roff::new();
    if let Some(page) = page(verb) {
        own_sections(page, &mut roff);
    }
    environment(&command, &mut roff);
    see_also(&command, verb, above, &mut roff);
    roff.to_writer(out)?;
    man.render_version_section(out)
}

fn section(roff: &mut Roff, title: &str) {
    roff.control("SH", [title]);
}

/// A term and what it means.
fn term(roff: &mut Roff, term: &str, meaning: &str) {
    roff.control("TP", []);
    roff.text([bold(term)]);
    roff.text([roman(meaning)]);
}

fn own_sections(page: &Page, roff: &mut Roff) {
    if !page.notes.is_empty() {
        section(roff, "NOTES");
        for note in page.notes {
            roff.control("PP", []);
            roff.text([roman(*note)]);
        }
    }
    if !page.examples.is_empty() {
        section(roff, "EXAMPLES");
        for (what, command) in page.examples {
            roff.control("PP", []);
            roff.text([roman(format!("{what}:"))]);
            roff.control("PP", []);
            roff.control("RS", ["4"]);
            roff.control("nf", []);
            roff.text([roman(*command)]);
            roff.control("fi", []);
            roff.control("RE", []);
        }
    }
    section(roff, "EXIT STATUS");
    for (code, meaning) in page.exit {
        term(roff, code, meaning);
    }
}

fn environment(command: &Command, roff: &mut Roff) {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    let mut add = |names: &[(&str, &str)]| {
        for (name, meaning) in names {
            variables.insert((*name).to_owned(), (*meaning).to_owned());
        }
    };
    add(&VARIABLES);
    if command
        .get_arguments()
        .any(|arg| arg.get_long() == Some("kubeconfig"))
    {
        add(&CLUSTER_VARIABLES);
    }
    for arg in command.get_arguments() {
        if let Some(variable) = arg.get_env().and_then(|variable| variable.to_str()) {
            let meaning = match arg.get_help() {
                // A hidden flag is not in the page.
                Some(help) if arg.is_hide_set() => {
                    let help = help.to_string();
                    help.split(". ").next().unwrap_or_default().to_owned() + "."
                }
                _ => format!("The same as {}.", flag(arg)),
            };
            variables.insert(variable.to_owned(), meaning);
        }
    }
    section(roff, "ENVIRONMENT");
    for (name, meaning) in variables {
        term(roff, &name, &meaning);
    }
}

fn flag(arg: &Arg) -> String {
    arg.get_long()
        .map_or_else(|| arg.get_id().to_string(), |long| format!("--{long}"))
}

fn see_also(command: &Command, verb: &str, above: &[String], roff: &mut Roff) {
    let below = command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
        .map(|inner| name(format!("{verb} {}", inner.get_name()).trim()));
    let pages: Vec<String> = above
        .iter()
        .cloned()
        .chain(below)
        .map(|page| format!("{page}(1)"))
        .collect();
    section(roff, "SEE ALSO");
    if !pages.is_empty() {
        roff.text([roman(pages.join(", "))]);
        roff.control("PP", []);
    }
    let docs = page(verb).map_or("README.md", |page| page.docs);
    roff.text([roman(project::page(docs))]);
}
