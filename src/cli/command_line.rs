//! The command line under each name by which the program is called.

use std::ffi::OsString;

use clap::{Command, CommandFactory};

use milvus_guard_core::project::NAME;

use super::{Cli, HelmCli, helm, help, names::Name};

/// The commands under a name.
pub(super) fn command(name: Name) -> Command {
    match name {
        Name::Guard | Name::PostRenderer => help::complete(Cli::command(), "", NAME),
        Name::Kubectl => {
            let called = "kubectl guard";
            help::complete(Cli::command().bin_name(called), "", called)
        }
        Name::Helm => help::complete(HelmCli::command(), "helm", NAME),
        Name::Completes(plugin) => command(plugin.name()),
    }
}

/// The arguments as clap expects them under a name.
pub(super) fn arguments(name: Name, mut args: Vec<OsString>, command: &Command) -> Vec<OsString> {
    match name {
        Name::Completes(_) => args,
        Name::Helm => helm::arrange(args, 1, command),
        Name::PostRenderer => {
            let program = ["milvus-guard", "helm", "post-render"].map(OsString::from);
            args.splice(..1, program);
            args
        }
        Name::Guard | Name::Kubectl => {
            let at = args.iter().position(|arg| arg == "helm");
            match (at, command.find_subcommand("helm")) {
                // Flags of the program itself may come before.
                (Some(at), Some(helm)) if at == 1 || before(&args[1..at]) => {
                    helm::arrange(args, at + 1, helm)
                }
                _ => args,
            }
        }
    }
}

/// Whether these arguments are only flags that every verb has.
fn before(args: &[OsString]) -> bool {
    args.first()
        .and_then(|arg| arg.to_str())
        .is_some_and(|arg| arg.starts_with("--color"))
        && args.len() <= 2
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::cli::names::Plugin;

    #[test]
    fn clap_accepts_the_command_of_every_name() {
        for name in [
            Name::Guard,
            Name::Kubectl,
            Name::Helm,
            Name::Completes(Plugin::Helm),
        ] {
            command(name).debug_assert();
        }
    }

    #[test]
    fn flags_may_come_before_the_verb() {
        let command = command(Name::Guard);
        let arranged = |line: &str| {
            let args = line.split(' ').map(OsString::from).collect();
            let args = arguments(Name::Guard, args, &command);
            args.join(OsStr::new(" ")).into_string().unwrap()
        };
        assert_eq!(
            arranged("g --color never helm check r c --version 1"),
            "g --color never helm check -- r c --version 1"
        );
        assert_eq!(
            arranged("g helm plan r --to 2.5"),
            "g helm plan --to 2.5 -- r"
        );
        assert_eq!(
            arranged("g rules explain helm check r"),
            "g rules explain helm check r"
        );
    }
}
