//! `completions` and `man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::{Shell, env::Shells};

use milvus_guard_core::project::NAME;

use super::{
    completion,
    exit::{Done, Exit, Failure},
    help,
    output::print,
};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionArgs {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write a page for each verb into this folder, instead of printing the main page
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints the script that asks this program for values. It calls the program by its name, so that
/// it also works after an update.
pub(super) fn completions(args: &CompletionArgs) -> Done {
    let name = args.shell.to_string();
    let shell = Shells::builtins();
    let shell = shell
        .completer(&name)
        .ok_or_else(|| Failure::usage(format!("{name} is not supported")))?;
    let mut text = Vec::new();
    shell
        .write_registration(completion::VARIABLE, NAME, NAME, NAME, &mut text)
        .map_err(Failure::usage)?;
    print(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Clean)
}

pub(super) fn man(args: &ManArgs) -> Done {
    if let Some(folder) = &args.out {
        help::write_pages(folder).map_err(|error| {
            Failure::usage(format!(
                "cannot write man pages into {}: {error}",
                folder.display()
            ))
        })?;
    } else {
        let text = help::main_page().map_err(Failure::usage)?;
        print(&String::from_utf8_lossy(&text))?;
    }
    Ok(Exit::Clean)
}
