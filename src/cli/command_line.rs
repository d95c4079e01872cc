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
    use std::{
        ffi::OsStr,
        fs,
        path::{Path, PathBuf},
    };

    use super::*;
    use crate::cli::names::Plugin;

    /// All files with such an ending below a folder.
    fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, ending, found);
            } else if path.extension().is_some_and(|known| known == ending) {
                found.push(path);
            }
        }
    }

    /// The verb of a command line, and the words behind it up to the end of the command.
    fn words(after: &str) -> Vec<&str> {
        let ends = ['`', '"', '|', ';', '>', '\n', '&', '(', ')', '<'];
        let command = after.split(ends).next().unwrap_or_default();
        // What follows `--` is for Helm.
        command
            .split_whitespace()
            .take_while(|word| *word != "--")
            .collect()
    }

    /// What is wrong with a printed command: a verb or a flag that does not exist.
    fn fault(program: &Command, line: &str) -> Option<String> {
        let mut verb = program;
        let mut words = words(line).into_iter().peekable();
        let is_verb = |word: &str| word.chars().all(|sign| sign.is_ascii_lowercase());
        while let Some(next) = words.peek().filter(|word| is_verb(word))
            && let Some(found) = verb.find_subcommand(next)
        {
            verb = found;
            words.next();
        }
        if std::ptr::eq(verb, program) {
            return None;
        }
        // The flags for Helm are not known here.
        if ["check", "plan", "upgrade", "post-render"].contains(&verb.get_name())
            && line.starts_with("helm ")
        {
            return None;
        }
        let names = || verb.get_arguments().chain(program.get_arguments());
        words.find_map(|word| {
            let end = |sign: char| !(sign.is_ascii_alphanumeric() || sign == '-');
            let flag = word.split(end).next().unwrap_or_default();
            let is_known = if let Some(long) = flag.strip_prefix("--") {
                long == "help"
                    || names().any(|arg| {
                        arg.get_long() == Some(long)
                            || arg
                                .get_all_aliases()
                                .is_some_and(|aliases| aliases.contains(&long))
                    })
            } else if let Some(short) = flag.strip_prefix('-') {
                let mut signs = short.chars();
                match (signs.next(), signs.next()) {
                    (Some(sign), None) if sign.is_ascii_alphabetic() => {
                        sign == 'h' || names().any(|arg| arg.get_short() == Some(sign))
                    }
                    _ => true,
                }
            } else {
                true
            };
            (!is_known).then(|| flag.to_owned())
        })
    }

    #[test]
    fn a_command_with_an_unknown_flag_is_a_fault() {
        let program = command(Name::Guard);
        let of = |line| fault(&program, line);
        assert_eq!(
            of("status --no-such-flag -n milvus"),
            Some("--no-such-flag".into())
        );
        assert_eq!(of("data show --etcd x"), Some("--etcd".into()));
        assert_eq!(of("status -i {} -n {} --wait"), None);
        assert_eq!(of("upgrade -i r -- helm upgrade r c --install"), None);
    }

    /// Every command in a message and in the documentation has only flags of its verb.
    #[test]
    fn printed_commands_have_flags_that_exist() {
        let program = command(Name::Guard);
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut read = vec![root.join("README.md")];
        for (folder, ending) in [
            ("src", "rs"),
            ("crates", "rs"),
            ("charts", "txt"),
            ("docs", "md"),
        ] {
            files(&root.join(folder), ending, &mut read);
        }
        let (mut seen, mut faults) = (0, Vec::new());
        for path in read {
            // Strings that continue on the next line are one line.
            let text = fs::read_to_string(&path).unwrap().replace("\\\n", " ");
            // An escaped line break and a comma end a command.
            let text = text.replace("\\n", "\n").replace(", ", "\n");
            for name in ["milvus-guard ", "kubectl guard "] {
                for (at, _) in text.match_indices(name) {
                    seen += 1;
                    if let Some(flag) = fault(&program, &text[at + name.len()..]) {
                        let line: String = text[at..].chars().take(100).collect();
                        faults.push(format!("{}: {flag} in {line}", path.display()));
                    }
                }
            }
        }
        assert!(seen > 100, "only {seen} commands were found");
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

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
