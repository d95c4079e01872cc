//! Values that a shell may offer: formats, rules, versions, and what a cluster holds.

use std::{
    env,
    ffi::{OsStr, OsString},
    future::Future,
    path::PathBuf,
    time::Duration,
};

use clap::{
    Arg, Command,
    builder::{PossibleValue, StringValueParser, TypedValueParser},
};
use clap_complete::engine::{self, CompletionCandidate, PathCompleter, ValueCompleter};
use kube::config::Kubeconfig;

use milvus_guard_core::{
    milvus::catalogue::{Catalogue, TABLES},
    report::{Format, Output},
    rules,
    text::plain,
};
use milvus_guard_sources::kubernetes::{Access, Cluster};

use super::names::Name;

/// The variable by which the script of a shell asks for values.
pub(super) const VARIABLE: &str = "MILVUS_GUARD_COMPLETE";

/// Limit for requests to a cluster: the shell waits for the values.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads `FORMAT` or `FORMAT=FILE`, and offers the formats.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutputParser;

impl TypedValueParser for OutputParser {
    type Value = Output;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Output, clap::Error> {
        StringValueParser::new()
            .try_map(|text| text.parse::<Output>())
            .parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let formats = Format::ALL.into_iter().map(Format::name);
        Some(Box::new(formats.map(PossibleValue::new)))
    }
}

/// Values in the format of the library cobra, with which kubectl and Helm complete arguments of
/// plugins: one value a line, a tab and its meaning, then a number that directs the shell.
pub(super) fn for_cobra(mut command: Command, mut words: Vec<OsString>) -> String {
    // The last argument is completed; it may be empty.
    if words.len() < 2 {
        words.push(OsString::new());
    }
    let last = words.len() - 1;
    let folder = env::current_dir().ok();
    let offered =
        engine::complete(&mut command, words, last, folder.as_deref()).unwrap_or_default();
    let mut text = String::new();
    for one in offered.iter().filter(|one| !one.is_hide_set()) {
        text.push_str(&one.get_value().to_string_lossy());
        let help = one.get_help().map(ToString::to_string).unwrap_or_default();
        if let Some(line) = help.lines().next() {
            text.push_str(&format!("\t{}", plain(line)));
        }
        text.push('\n');
    }
    // Without values the shell offers files.
    let directive = if text.is_empty() { FILES } else { NO_FILES };
    format!("{text}:{directive}\n")
}

/// `ShellCompDirectiveDefault` of cobra.
const FILES: u8 = 0;
/// `ShellCompDirectiveNoFileComp` of cobra.
const NO_FILES: u8 = 4;

fn beginning<T: AsRef<str>>(
    current: &OsStr,
    all: impl IntoIterator<Item = (T, Option<String>)>,
) -> Vec<CompletionCandidate> {
    let current = current.to_str().unwrap_or_default();
    all.into_iter()
        .filter(|(value, _)| value.as_ref().starts_with(current))
        .map(|(value, help)| CompletionCandidate::new(value.as_ref()).help(help.map(Into::into)))
        .collect()
}

/// Ids of rules with what they check.
pub(super) fn rule_ids(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_ascii_uppercase();
    beginning(
        &current,
        rules::ALL
            .iter()
            .map(|rule| (rule.id, Some(rule.title.to_owned()))),
    )
}

/// Sides of a check: the words that are not files, and files.
pub(super) fn sides(current: &OsStr) -> Vec<CompletionCandidate> {
    let words = [
        ("live", "the running release"),
        (
            "release:",
            "a revision of Helm: release:NAME or release:NAME@REVISION",
        ),
        ("version:", "the running release at this version of Milvus"),
        ("-", "standard input"),
    ];
    let words = words.map(|(word, help)| (word, Some(help.to_owned())));
    let mut all = beginning(current, words);
    all.extend(PathCompleter::any().complete(current));
    all
}

/// Lines of Milvus and their recommended releases.
pub(super) fn versions(current: &OsStr) -> Vec<CompletionCandidate> {
    let landing = Catalogue::embedded().landing.iter();
    let both = landing.flat_map(|row| {
        let line = row.line.to_string();
        let recommended = format!("the recommended release of {line}");
        [
            (row.version.to_string(), Some(recommended)),
            (line, Some("a line: its recommended release".to_owned())),
        ]
    });
    beginning(current, both)
}

/// Tables of the data.
pub(super) fn tables(current: &OsStr) -> Vec<CompletionCandidate> {
    beginning(
        current,
        TABLES
            .into_iter()
            .map(|(name, holds)| (name, Some(holds.to_owned()))),
    )
}

/// Contexts of the kubeconfig.
pub(super) fn contexts(current: &OsStr) -> Vec<CompletionCandidate> {
    let words = Words::of_process();
    let kubeconfig = match words.kubeconfig() {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let contexts = kubeconfig
        .map(|kubeconfig| kubeconfig.contexts)
        .unwrap_or_default();
    beginning(
        current,
        contexts.into_iter().map(|context| (context.name, None)),
    )
}

/// Namespaces of the cluster.
pub(super) fn namespaces(current: &OsStr) -> Vec<CompletionCandidate> {
    let words = Words::of_process();
    let found = asked(async {
        let cluster = Cluster::connect(&words.access()).await.ok()?;
        cluster.namespaces().await.ok()
    });
    beginning(current, found.into_iter().map(|name| (name, None)))
}

/// Milvus releases of the namespace that the command names, else that of the context.
pub(super) fn releases(current: &OsStr) -> Vec<CompletionCandidate> {
    let words = Words::of_process();
    let found = asked(async {
        let cluster = Cluster::connect(&words.access()).await.ok()?;
        let namespace = words
            .value(&["-n", "--namespace"])
            .unwrap_or_else(|| cluster.default_namespace().to_owned());
        let reading = cluster.read(&namespace, false).await.ok()?;
        let releases = reading.snapshot.releases.into_iter();
        Some(
            releases
                .map(|release| {
                    let version = release.lowest().map(|build| format!("runs {build}"));
                    (release.name, version)
                })
                .collect(),
        )
    });
    beginning(current, found)
}

/// The answer of a cluster; empty if it fails or takes too long.
fn asked<T>(question: impl Future<Output = Option<Vec<T>>>) -> Vec<T> {
    let Ok(runtime) = super::runtime::runtime() else {
        return Vec::new();
    };
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, question).await });
    // A request that is not answered must not delay the shell.
    runtime.shutdown_background();
    answer.ok().flatten().unwrap_or_default()
}

/// The arguments that were typed so far.
struct Words(Vec<OsString>);

impl Words {
    /// The shell passes them after `--`; kubectl and Helm pass only them.
    fn of_process() -> Self {
        let mut words = env::args_os();
        let program = words.next();
        Self(match Name::of(program.as_ref()) {
            Name::Completes(_) => words.collect(),
            _ => words.skip_while(|word| word != "--").skip(1).collect(),
        })
    }

    /// The value of a flag that was typed before.
    fn value(&self, flags: &[&str]) -> Option<String> {
        let mut words = self.0.iter().filter_map(|word| word.to_str());
        while let Some(word) = words.next() {
            if flags.contains(&word) {
                return words
                    .next()
                    .filter(|value| !value.is_empty())
                    .map(str::to_owned);
            }
            let long = word
                .split_once('=')
                .filter(|(flag, _)| flags.contains(flag));
            if let Some((_, value)) = long {
                return Some(value.to_owned());
            }
        }
        None
    }

    fn kubeconfig(&self) -> Option<PathBuf> {
        self.value(&["--kubeconfig"]).map(PathBuf::from)
    }

    fn access(&self) -> Access {
        Access {
            kubeconfig: self.kubeconfig(),
            context: self.value(&["--context"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(candidates: &[CompletionCandidate]) -> Vec<&str> {
        candidates
            .iter()
            .filter_map(|candidate| candidate.get_value().to_str())
            .collect()
    }

    #[test]
    fn the_value_of_a_flag_is_found_after_a_space_and_after_an_equals_sign() {
        let line = "milvus-guard check -n milvus --context=a --kubeconfig";
        let words = Words(line.split(' ').map(OsString::from).collect());
        assert_eq!(
            words.value(&["-n", "--namespace"]).as_deref(),
            Some("milvus")
        );
        assert_eq!(words.access().context.as_deref(), Some("a"));
        assert_eq!(words.kubeconfig(), None);
    }

    #[test]
    fn rules_and_versions_are_offered() {
        assert!(names(&rule_ids(OsStr::new("mg30"))).contains(&"MG301"));
        let versions = versions(OsStr::new("2.5"));
        assert_eq!(names(&versions).len(), 2, "{versions:?}");
        assert_eq!(names(&tables(OsStr::new("landi"))), ["landing"]);
    }
}
