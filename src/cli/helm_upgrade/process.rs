//! Runs Helm: once to render what an upgrade would send, once to perform the upgrade.

use std::{
    env,
    ffi::OsString,
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde::Deserialize;

use milvus_guard_core::{milvus::Version, rules::advice, text::plain};

use super::target::long_value;
use crate::cli::exit::{Exit, Failure};

/// Name of the manifests of a dry run in reports.
pub(in crate::cli) const RENDERED: &str = "helm upgrade --dry-run=server";

/// Exit code if a signal ended Helm, without the number of the signal, as shells have it.
const BY_SIGNAL: i32 = 128;

/// A requested `helm upgrade`.
#[derive(Debug)]
pub(in crate::cli) struct Upgrade {
    program: OsString,
    /// Release, chart and flags, as they were written.
    args: Vec<OsString>,
    /// The values for `-f -`. Helm runs twice, and standard input can be read only once.
    stdin: Option<Vec<u8>>,
    /// Variables that Helm gets in addition.
    variables: Vec<(&'static str, OsString)>,
}

impl Upgrade {
    /// Takes arguments of `helm upgrade`. In a plugin, `HELM_BIN` names the program of Helm.
    pub(in crate::cli) fn new(args: &[OsString]) -> Result<Self, Failure> {
        Self::by(program(), args)
    }

    /// The same with this program as Helm.
    pub(in crate::cli) fn by(program: OsString, args: &[OsString]) -> Result<Self, Failure> {
        let stdin = reads_stdin(args).then(|| {
            let mut content = Vec::new();
            io::stdin().read_to_end(&mut content).map(|_| content)
        });
        let stdin = stdin.transpose().map_err(|error| {
            Failure::usage(format!("cannot read values from standard input: {error}"))
        })?;
        Ok(Self {
            program,
            args: args.to_owned(),
            stdin,
            variables: Vec::new(),
        })
    }

    /// Checks that RELEASE and CHART are both given: Helm's own message about a missing argument
    /// names no command to try next.
    ///
    /// # Errors
    /// Wrong usage if one is missing; `hint` is what else the verb accepts.
    pub(in crate::cli) fn needs_chart(&self, hint: &str) -> Result<(), Failure> {
        let words = self.words();
        match positionals(&words).as_slice() {
            [] => Err(Failure::usage(format!(
                "RELEASE and CHART are missing: give them, with the flags of helm upgrade{hint}"
            ))),
            [release] => Err(Failure::usage(format!(
                "CHART is missing after {release}: give RELEASE and CHART, as in {release} \
                 zilliztech/milvus{hint}"
            ))),
            _ => Ok(()),
        }
    }

    /// Variables that Helm gets in addition, such as its namespace.
    pub(in crate::cli) fn set_variables(&mut self, variables: Vec<(&'static str, OsString)>) {
        self.variables = variables;
    }

    /// Helm, with its variables.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let variables = self.variables.iter();
        command.envs(variables.map(|(name, value)| (name, value)));
        command
    }

    /// The arguments as text, to search for flags in them.
    pub(in crate::cli) fn words(&self) -> Vec<String> {
        let words = self.args.iter();
        words
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect()
    }

    /// The chart as a later command can name it: `REPOSITORY/NAME`, an OCI address, or a name with
    /// `--repo`; `None` for a folder or an archive, which holds one version of the chart only.
    pub(in crate::cli) fn published_chart(&self) -> Option<String> {
        published_chart(&self.words(), &|path| Path::new(path).exists())
    }

    /// What the upgrade would send, as Helm prints a release in JSON. Values of the release are
    /// reused, and `lookup` asks the API server, exactly as in the upgrade itself.
    ///
    /// # Errors
    /// If Helm cannot be run, or refuses; the message contains Helm's own.
    pub(in crate::cli) fn render(&self) -> Result<String, Failure> {
        let mut command = self.command();
        // The last one of a flag wins, so these replace the user's.
        command
            .arg("upgrade")
            .args(&self.args)
            .args(["--dry-run=server", "--output=json"]);
        if self.args.iter().any(|arg| arg == "--hide-secret") {
            command.arg("--hide-secret=false");
        }
        let output = self.output(&mut command)?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(Failure::no_verdict(format!(
                "Helm cannot render the upgrade ({}). It said:\n{}",
                output.status,
                said.trim_end()
            )));
        }
        for line in said.lines() {
            eprintln!("{}", plain(line));
        }
        let printed = String::from_utf8(output.stdout)
            .map_err(|_| Failure::no_verdict("what Helm printed is not text"))?;
        // Lines of `--dependency-update` come first.
        let start = if printed.starts_with('{') {
            Some(0)
        } else {
            printed.find("\n{").map(|at| at + 1)
        };
        start
            .map(|start| printed[start..].to_owned())
            .ok_or_else(|| Failure::no_verdict("Helm printed no release for the dry run"))
    }

    /// The revision of a release that is deployed, and its manifest. Helm compares with it, even
    /// if later revisions failed.
    pub(in crate::cli) fn deployed(&self, release: &str) -> Result<(u64, String), Failure> {
        let history = self.ask(&["history", release, "--max=256", "--output=json"])?;
        let revisions: Vec<Revision> = serde_json::from_str(&history).map_err(|error| {
            Failure::no_verdict(format!(
                "the history that Helm printed is not JSON: {error}"
            ))
        })?;
        let deployed = revisions.iter().rfind(|one| one.status == "deployed");
        let of = deployed.or(revisions.last()).map(|one| one.revision);
        let revision =
            of.ok_or_else(|| Failure::no_verdict(format!("Helm knows no revision of {release}")))?;
        let number = format!("--revision={revision}");
        Ok((revision, self.ask(&["get", "manifest", release, &number])?))
    }

    /// The output of another command of Helm.
    fn ask(&self, args: &[&str]) -> Result<String, Failure> {
        let mut command = self.command();
        command.args(args).stdin(Stdio::null());
        let output = command.output().map_err(|error| self.lost(&error))?;
        if !output.status.success() {
            return Err(Failure::no_verdict(format!(
                "helm {} failed ({}). It said:\n{}",
                args[0],
                output.status,
                String::from_utf8_lossy(&output.stderr).trim_end()
            )));
        }
        String::from_utf8(output.stdout)
            .map_err(|_| Failure::no_verdict("what Helm printed is not text"))
    }

    /// Runs the upgrade. Helm writes to the same standard output and standard error.
    pub(in crate::cli) fn run(&self) -> Result<Exit, Failure> {
        self.run_with(self.command()).map(Exit::OfProgram)
    }

    /// Runs the upgrade with all of its output on standard error; the exit code.
    pub(in crate::cli) fn run_to_stderr(&self) -> Result<u8, Failure> {
        let mut command = self.command();
        command.stdout(io::stderr());
        self.run_with(command)
    }

    fn run_with(&self, mut command: Command) -> Result<u8, Failure> {
        command.arg("upgrade").args(&self.args);
        if self.stdin.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = self.spawn(&mut command)?;
        self.feed(&mut child);
        let status = child.wait().map_err(|error| self.lost(&error))?;
        let code = status
            .code()
            .unwrap_or_else(|| BY_SIGNAL + status.signal().unwrap_or_default());
        Ok(u8::try_from(code).unwrap_or(u8::MAX))
    }

    /// The version of Helm; `None` if its output has none.
    pub(in crate::cli) fn version(&self) -> Option<Version> {
        let mut command = self.command();
        command.args(["version", "--template={{.Version}}"]);
        let output = command.stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.trim().trim_start_matches('v').parse().ok()
    }

    fn output(&self, command: &mut Command) -> Result<Output, Failure> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        let mut child = self.spawn(command)?;
        self.feed(&mut child);
        child.wait_with_output().map_err(|error| self.lost(&error))
    }

    fn spawn(&self, command: &mut Command) -> Result<Child, Failure> {
        command.spawn().map_err(|error| self.lost(&error))
    }

    /// Writes the values to Helm. Helm reads them before it prints anything; if it ends earlier,
    /// its own message states the reason.
    fn feed(&self, child: &mut Child) {
        if let (Some(content), Some(mut stdin)) = (&self.stdin, child.stdin.take()) {
            let _ = stdin.write_all(content);
        }
    }

    fn lost(&self, error: &io::Error) -> Failure {
        Failure::no_verdict(format!(
            "cannot run Helm ({}): {error}. HELM_BIN names another one",
            self.program.to_string_lossy()
        ))
    }
}

/// The program of Helm: the one that runs this plugin, else the one in the search path.
pub(in crate::cli) fn program() -> OsString {
    env::var_os("HELM_BIN")
        .filter(|program| !program.is_empty())
        .unwrap_or_else(|| "helm".into())
}

/// A revision, as `helm history` prints it.
#[derive(Deserialize)]
struct Revision {
    revision: u64,
    status: String,
}

/// Flags of `helm upgrade` whose value is the next argument. Rare flags are left out: their value
/// counts as a positional argument, and Helm itself reports a missing RELEASE or CHART.
const WITH_VALUE: [&str; 24] = [
    "-f",
    "--values",
    "--set",
    "--set-file",
    "--set-json",
    "--set-literal",
    "--set-string",
    "-n",
    "--namespace",
    "--version",
    "--repo",
    "--timeout",
    "--history-max",
    "--description",
    "--kubeconfig",
    "--kube-context",
    "--kube-apiserver",
    "--kube-ca-file",
    "--kube-token",
    "--kube-as-user",
    "--kube-as-group",
    "--username",
    "--password",
    "--post-renderer",
];

/// Arguments that may be RELEASE and CHART.
fn positionals(words: &[String]) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = words.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        if WITH_VALUE.contains(&word) {
            rest.next();
        } else if word == "--" {
            found.extend(rest.by_ref());
        } else if !word.starts_with('-') {
            found.push(word);
        }
    }
    found
}

/// See [`Upgrade::published_chart`].
fn published_chart(words: &[String], exists: &dyn Fn(&str) -> bool) -> Option<String> {
    let positionals = positionals(words);
    let chart = *positionals.get(1)?;
    if let Some(address) = long_value(words, "--repo") {
        return advice::command(&[chart.to_owned(), "--repo".to_owned(), address]);
    }
    let is_oci = chart.starts_with("oci://");
    let in_repository = chart.split('/').count() == 2 && !chart.starts_with(['.', '/', '~']);
    (is_oci || (in_repository && !exists(chart)))
        .then(|| advice::command(&[chart.to_owned()]))
        .flatten()
}

/// Whether a flag takes its value from standard input: `-f -`, `--values=-`, `--set-file a=-`.
fn reads_stdin(args: &[OsString]) -> bool {
    args.iter().filter_map(|arg| arg.to_str()).any(|arg| {
        arg == "-" || arg == "-f-" || (arg.ends_with("=-") && !arg.starts_with("--set="))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_and_chart_are_distinguished_from_values_of_flags() {
        let found = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            positionals(&words).join(" ")
        };
        assert_eq!(found(""), "");
        assert_eq!(found("my-release"), "my-release");
        assert_eq!(found("my-release -f a.yaml --set a=b -n x"), "my-release");
        assert_eq!(
            found("-i my-release ./chart --version=4.2.58"),
            "my-release ./chart"
        );
        assert_eq!(
            found("--reuse-values my-release ./chart"),
            "my-release ./chart"
        );
    }

    #[test]
    fn only_a_chart_of_a_repository_is_named_in_later_commands() {
        let chart = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            published_chart(&words, &|path| path == "charts/milvus").unwrap_or_default()
        };
        assert_eq!(
            chart("r mirror/milvus -n x --version 4.2.58"),
            "mirror/milvus"
        );
        assert_eq!(chart("r oci://host/a/milvus"), "oci://host/a/milvus");
        assert_eq!(
            chart("r milvus --repo https://charts.example.com"),
            "milvus --repo https://charts.example.com"
        );
        for local in [
            "charts/milvus",
            "./milvus",
            "/srv/milvus",
            "../milvus",
            "milvus",
            "",
        ] {
            assert_eq!(chart(&format!("r {local}")), "", "{local}");
        }
    }

    #[test]
    fn flags_that_read_standard_input_are_detected() {
        let reads = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            reads_stdin(&args)
        };
        assert!(reads("r c -f -"));
        assert!(reads("r c --values=-"));
        assert!(reads("r c -f-"));
        assert!(reads("r c --set-file a=-"));
        assert!(!reads("r c -f values.yaml --set a=b --set=a=-"));
    }
}
