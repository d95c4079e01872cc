//! `helm guard upgrade my-release CHART --version 4.2.58 --policy ours.yaml --set a=b`: some flags
//! are ours, all others are for Helm, in any order. The flags for Helm are passed on unchanged, so
//! that flags of a later Helm work too.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// Verbs that pass arguments on to Helm.
const PASSING: [&str; 3] = ["check", "plan", "upgrade"];

/// Moves the arguments for Helm behind a `--`, as clap expects them. The subcommands of `command`
/// are the verbs; `at` is the position of the verb in `args`.
pub(in crate::cli) fn arrange(
    mut args: Vec<OsString>,
    at: usize,
    command: &Command,
) -> Vec<OsString> {
    let verb = args
        .get(at)
        .and_then(|verb| verb.to_str())
        .filter(|verb| PASSING.contains(verb))
        .and_then(|verb| command.find_subcommand(verb));
    let Some(verb) = verb else { return args };
    let mut rest = args.split_off(at + 1).into_iter();
    let (mut ours, mut helms) = (Vec::new(), Vec::new());
    while let Some(arg) = rest.next() {
        // With the separator in the command line, the arguments are sorted already.
        if arg == "--" {
            helms.extend(rest.by_ref());
        } else if let Some(takes_value) = own_flag(&arg, verb, command) {
            ours.push(arg);
            ours.extend(takes_value.then(|| rest.next()).flatten());
        } else {
            helms.push(arg);
        }
    }
    args.extend(ours);
    args.push("--".into());
    args.extend(helms);
    args
}

/// Whether an argument is one of our flags, and then whether its value is the next argument.
fn own_flag(arg: &OsStr, verb: &Command, parent: &Command) -> Option<bool> {
    let arg = arg.to_str()?;
    if ["-h", "--help"].contains(&arg) {
        return Some(false);
    }
    let flag = arg.strip_prefix("--")?;
    let (name, value) = match flag.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (flag, None),
    };
    let has_name = |known: &&Arg| known.get_long() == Some(name);
    let global = parent.get_arguments().filter(|known| known.is_global_set());
    let known = verb.get_arguments().chain(global).find(has_name)?;
    Some(value.is_none() && known.get_action().takes_values())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::HelmCli;

    fn arranged(line: &str) -> String {
        let args = line.split(' ').map(OsString::from).collect();
        let args = arrange(args, 1, &HelmCli::command());
        let words: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn our_flags_are_distinguished_from_those_of_helm() {
        assert_eq!(
            arranged(
                "g check r c --version 1 --policy p.yaml -f a.yaml --format=json --fail-on warn"
            ),
            "g check --policy p.yaml --format=json --fail-on warn -- r c --version 1 -f a.yaml"
        );
        assert_eq!(
            arranged("g upgrade r c --no-cluster-policy --set a=b --color never"),
            "g upgrade --no-cluster-policy --color never -- r c --set a=b"
        );
        assert_eq!(arranged("g check --help"), "g check --help --");
        assert_eq!(
            arranged("g check --show all -- r --show x"),
            "g check --show all -- r --show x"
        );
    }

    #[test]
    fn no_argument_of_the_post_renderer_is_passed_to_helm() {
        assert_eq!(
            arranged("g post-render --namespace milvus"),
            "g post-render --namespace milvus"
        );
        assert_eq!(arranged("g"), "g");
    }

    #[test]
    fn clap_parses_the_arranged_arguments() {
        let args = ["g", "check", "r", "c", "--version", "1", "--show", "all"];
        let args = arrange(args.map(OsString::from).to_vec(), 1, &HelmCli::command());
        HelmCli::try_parse_from(args).unwrap();
    }
}
