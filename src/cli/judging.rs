//! The flags of every verb that judges a change, and the judgement itself.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use milvus_guard_core::{
    admission::acceptance::by_order_hooks,
    evaluate::{Evaluation, EvaluationInput, GoneRelease, Verdict, judge},
    milvus::{Version, catalogue::Catalogue},
    policy::PolicySet,
    report::{InputEntry, Output, Report, Show},
};
use milvus_guard_sources::files::part::Choice;

use super::{
    completion,
    exit::{Exit, Failure},
    gather::{self, EtcdArgs, Gatherer, NamedEtcd, Source},
    output, policies,
};

/// Evidence, policies and the form of the report.
#[derive(Debug, Args)]
pub(super) struct JudgingArgs {
    /// Additional facts, as YAML or JSON (see docs/schemas/facts.json)
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,

    /// Policies and exceptions: a file or a folder; may be repeated
    #[arg(long, value_name = "FILE|DIR")]
    policy: Vec<PathBuf>,

    /// Ignore the policies and exceptions of the cluster
    #[arg(long)]
    no_cluster_policy: bool,

    /// Rows that add to or override the built-in data; may be repeated
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,

    /// Exit with code 1 at this verdict or worse
    #[arg(long, value_enum, default_value_t = FailOn::Deny)]
    pub(super) fail_on: FailOn,

    /// Which results text and SARIF show (GitHub makes an alert of every SARIF result) [default:
    /// audit; warn where the report goes to standard error]
    #[arg(long, value_enum)]
    show: Option<Show>,

    /// Form of the report; may be repeated as FORMAT=FILE
    #[arg(long, value_name = "FORMAT[=FILE]", value_parser = completion::OutputParser)]
    pub(super) format: Vec<Output>,

    /// The time of the check, for exceptions (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    now: Option<Timestamp>,

    #[command(flatten)]
    etcd: EtcdArgs,
}

/// From which verdict on the exit code is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FailOn {
    /// Denials.
    Deny,
    /// Warnings too.
    #[value(alias = "warning")]
    Warn,
    /// Nothing.
    Never,
}

impl FailOn {
    /// The exit code for a verdict.
    pub(super) fn exit(self, verdict: Verdict) -> Exit {
        let found = match self {
            Self::Deny => verdict == Verdict::Deny,
            Self::Warn => verdict >= Verdict::Warn,
            Self::Never => false,
        };
        if found { Exit::Found } else { Exit::Clean }
    }
}

/// A change that a verb judges.
#[derive(Debug)]
pub(super) struct Change<'a> {
    /// The current state; `None` for a new installation.
    pub(super) before: Option<&'a Source>,
    /// The desired state.
    pub(super) after: &'a Source,
    /// Whether the desired state is a whole release.
    pub(super) choice: Choice,
    /// Whether the change goes back to an earlier revision.
    pub(super) is_rollback: bool,
    /// Rules that the deployer accepts for this change.
    pub(super) accepted: &'a [String],
    /// Version of the Helm that makes the change, if known.
    pub(super) helm: Option<Version>,
}

/// The result of a judgement.
#[derive(Debug)]
pub(super) struct Judged {
    /// The report, for every format.
    pub(super) report: Report,
    /// Names of the releases that existed before the change.
    pub(super) running: Vec<String>,
}

/// Refuses a change that removes a Milvus release: no rule judges the removal, and the verdict on
/// the other releases would not mention it. An input may omit unrelated releases, so this counts
/// only if the input is whole, or contains another part of the same instance.
fn refuse_removals(judgement: &Evaluation, change: &Change<'_>) -> Result<(), Failure> {
    // A namespace may contain other releases than the one that changes.
    let is_all = change.choice == Choice::Whole && matches!(change.before, Some(Source::File(_)));
    let is_removed = |gone: &&GoneRelease| is_all || gone.shares_instance;
    let removed: Vec<&str> = judgement
        .gone
        .iter()
        .filter(is_removed)
        .map(|gone| gone.label.as_str())
        .collect();
    if removed.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the input after does not contain {}, which the input before contains: Milvus would be \
         removed there\n\
         next: add it to the input after; if it stays as it is, use --part, or choose another \
         release with -i",
        removed.join(", ")
    )))
}

impl JudgingArgs {
    /// What a report on standard output or in a file shows.
    pub(super) fn show(&self) -> Show {
        self.show.unwrap_or(Show::Audit)
    }

    /// What a report on standard error shows, where standard output is that of Helm.
    pub(super) fn show_on_stderr(&self) -> Show {
        self.show.unwrap_or(Show::Warn)
    }

    /// Reads both sides and judges the change.
    pub(super) fn judge(
        &self,
        gatherer: &Gatherer<'_>,
        change: &Change<'_>,
    ) -> Result<Judged, Failure> {
        let mut policies = PolicySet::default();
        let now = self.now.unwrap_or_else(Timestamp::now);
        let documents = policies::documents(&self.policy)?;
        let sides = || change.before.into_iter().chain([change.after]);
        let is_stdin = |source: &&Source| matches!(source, Source::File(path) if path == "-");
        if sides().filter(is_stdin).count() > 1 {
            return Err(Failure::usage(
                "only one input can come from standard input",
            ));
        }
        let etcd = self.etcd.named()?;
        let mut facts = gather::facts(self.facts.as_ref())?;
        facts.helm = facts.helm.or(change.helm);
        let own_data = gather::catalogue(&self.data)?;
        let catalogue = own_data.as_ref().unwrap_or_else(|| Catalogue::embedded());
        let mut inputs =
            gatherer.gather(change.before, change.after, facts, change.choice, catalogue)?;
        self.add_evidence(etcd.as_ref(), gatherer, &mut inputs);
        if sides().any(Source::needs_cluster) && !self.no_cluster_policy {
            gatherer.cluster_policies(&mut policies, &mut inputs)?;
        }
        let from_files = policies::set(documents, now);
        policies.extend(&from_files);
        policies.now = Some(now);

        let mut accepted = change.accepted.to_vec();
        if inputs.has_order_hooks() {
            accepted.extend(by_order_hooks().map(str::to_owned));
        }
        let judgement = judge(&EvaluationInput {
            before: inputs.before.as_ref(),
            after: &inputs.after,
            facts: &inputs.facts,
            catalogue,
            policies: &policies,
            is_rollback: change.is_rollback,
            deletes: None,
            accepted: &accepted,
            overdue: None,
        });
        refuse_removals(&judgement, change)?;
        let running = inputs.before.iter().flat_map(|before| &before.releases);
        let running = running.map(|release| release.name.clone()).collect();
        let entries = std::mem::take(&mut inputs.inputs);
        // Frees the input before the report: reports on thousands of releases need much memory.
        drop(inputs);
        let mut report = Report::new(&judgement, &policies, entries);
        report.data = catalogue.as_of().map(|day| day.to_string());
        report.root = output::folder();
        Ok(Judged { report, running })
    }

    /// Adds the facts from etcd and from the file of facts.
    fn add_evidence(
        &self,
        etcd: Option<&NamedEtcd<'_>>,
        gatherer: &Gatherer<'_>,
        inputs: &mut gather::Gathered,
    ) {
        if let Some(etcd) = etcd {
            let runtime = gatherer.runtime;
            let mut entry = etcd.configuration(runtime, inputs.before.as_mut(), &mut inputs.after);
            let releases = inputs.before.as_ref().map(|before| &*before.releases);
            let running = match releases {
                Some([only]) => Some(only),
                _ => None,
            };
            let fact = etcd.inspect(runtime, running);
            entry
                .read
                .push(format!("metadata under {}", fact.root_path));
            inputs.inputs.push(entry);
            inputs.facts.metadata.insert(0, fact);
        }
        if let Some(path) = &self.facts {
            let shown = path.display().to_string();
            inputs.inputs.push(InputEntry {
                role: "facts".into(),
                source: shown.clone(),
                read: vec![shown],
                ..InputEntry::default()
            });
        }
    }
}
