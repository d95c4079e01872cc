//! Under which name the program was called: `kubectl guard` and `helm guard` are the same file
//! under another name.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use clap::{Command, CommandFactory};

use milvus_guard_core::project::NAME;

use super::{Cli, HelmCli, helm, help};

/// Who called, as the first argument tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// `milvus-guard`, or any name that is not one of the others.
    Guard,
    /// `kubectl-guard`: kubectl runs it for `kubectl guard`.
    Kubectl,
    /// `helm-guard`: the Helm plugin runs it for `helm guard`.
    Helm,
    /// `helm-guard-post-render`: a post-renderer by its path.
    PostRenderer,
    /// Asked for values by the program that runs the plugin.
    Completes(Plugin),
}

/// A plugin whose values another program offers to a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    /// `kubectl_complete-guard`: kubectl runs it where a shell completes `kubectl guard`.
    Kubectl,
    /// `plugin.complete` in the folder of the plugin: Helm runs it for `helm guard`.
    Helm,
}

impl Plugin {
    /// The name under which the plugin itself is called.
    const fn name(self) -> Name {
        match self {
            Self::Kubectl => Name::Kubectl,
            Self::Helm => Name::Helm,
        }
    }
}

impl Name {
    pub(super) fn of(program: Option<&OsString>) -> Self {
        let name = program
            .map(Path::new)
            .and_then(Path::file_name)
            .and_then(OsStr::to_str)
            .map(|name| name.strip_suffix(".exe").unwrap_or(name));
        match name {
            Some("kubectl_complete-guard") => Self::Completes(Plugin::Kubectl),
            Some("plugin.complete") => Self::Completes(Plugin::Helm),
            Some("kubectl-guard") => Self::Kubectl,
            Some("helm-guard") => Self::Helm,
            Some("helm-guard-post-render") => Self::PostRenderer,
            _ => Self::Guard,
        }
    }

    /// The commands under this name.
    pub(super) fn command(self) -> Command {
        match self {
            Self::Guard | Self::PostRenderer => help::complete(Cli::command(), "", NAME),
            Self::Kubectl => {
                let name = "kubectl guard";
                help::complete(Cli::command().bin_name(name), "", name)
            }
            Self::Helm => help::complete(HelmCli::command(), "helm", NAME),
            Self::Completes(plugin) => plugin.name().command(),
        }
    }

    /// The arguments as clap expects them under this name.
    pub(super) fn arguments(self, mut args: Vec<OsString>, command: &Command) -> Vec<OsString> {
        match self {
            Self::Completes(_) => args,
            Self::Helm => helm::arrange(args, 1, command),
            Self::PostRenderer => {
                let program = ["milvus-guard", "helm", "post-render"].map(OsString::from);
                args.splice(..1, program);
                args
            }
            Self::Guard | Self::Kubectl => {
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
}

/// Whether these are only the flags that every verb takes.
fn before(args: &[OsString]) -> bool {
    args.first()
        .and_then(|arg| arg.to_str())
        .is_some_and(|arg| arg.starts_with("--color"))
        && args.len() <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides() {
        let of = |name: &str| Name::of(Some(&OsString::from(name)));
        assert_eq!(of("/usr/local/bin/kubectl-guard"), Name::Kubectl);
        assert_eq!(of("helm-guard"), Name::Helm);
        assert_eq!(of("bin/helm-guard-post-render"), Name::PostRenderer);
        assert_eq!(of("bin/kubectl-guard.exe"), Name::Kubectl);
        let completes = Name::Completes(Plugin::Kubectl);
        assert_eq!(of("/bin/kubectl_complete-guard"), completes);
        assert_eq!(of("x/plugin.complete"), Name::Completes(Plugin::Helm));
        assert_eq!(of("milvus-guard"), Name::Guard);
        assert_eq!(of("guard-of-mine"), Name::Guard);
        assert_eq!(Name::of(None), Name::Guard);
    }

    #[test]
    fn every_name_has_a_sound_command() {
        for name in [
            Name::Guard,
            Name::Kubectl,
            Name::Helm,
            Name::Completes(Plugin::Helm),
        ] {
            name.command().debug_assert();
        }
    }

    #[test]
    fn flags_may_stand_before_the_verb() {
        let command = Name::Guard.command();
        let arranged = |line: &str| {
            let args = line.split(' ').map(OsString::from).collect();
            let args = Name::Guard.arguments(args, &command);
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
