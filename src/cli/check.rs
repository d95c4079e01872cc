//! `check`: may this change be made?

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use jiff::Timestamp;

use milvus_guard_core::{
    evaluate::{Question, Verdict, judge},
    milvus::{Build, catalogue::Catalogue},
    policy::PolicySet,
    report::{InputEntry, Output, Report, Show},
};
use milvus_guard_sources::files::part::Choice;

use super::{
    exit::{Done, Exit, Failure},
    gather::{self, ClusterArgs, EtcdArgs, Gatherer, Source},
    output::{self, Screen},
    policies,
};

/// Arguments of `check`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
An input is a file, a directory, - (standard input), release:NAME[@REVISION] (Helm's storage), \
                        live (the running release) or,
for --after, version:2.5.12 (the running release with other Milvus images). Without --before the change \
                        is an installation.
A file for kubectl apply is a part: it is merged into the running release. The report says how an input \
                        was understood;
--whole and --part override that (see docs/inputs.md).

Examples:
  helm template my-release zilliztech/milvus --version 4.2.58 -n milvus | milvus-guard check \
                        --before live -n milvus --after -
  milvus-guard check -i my-release -n milvus -t 2.5.27
  milvus-guard check --before running.yaml --after wanted.yaml --format markdown

Exit codes: 0 no finding at or above --fail-on, 1 at least one, 2 wrong usage or unreadable \
                        input, 3 no verdict possible.")]
pub(super) struct Args {
    /// Current state
    #[arg(long, value_name = "IN")]
    before: Option<Source>,

    /// Desired state
    #[arg(
        long,
        value_name = "IN",
        required_unless_present = "target_version",
        conflicts_with = "target_version"
    )]
    after: Option<Source>,

    /// Check only the Milvus release with this name; RELEASE/ALIAS if an umbrella chart contains
    /// several
    #[arg(short, long, value_name = "NAME")]
    instance: Option<String>,

    /// Namespace of the release, and of objects without a namespace; objects in other namespaces
    /// are ignored [default: of the kubeconfig's context; files: all]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Check the running release (or --before) against the same manifests at this version
    #[arg(short, long, value_name = "VERSION", value_parser = version)]
    target_version: Option<Build>,

    #[command(flatten)]
    extent: ExtentArgs,

    /// The change is a rollback to an earlier revision (helm rollback): only rules that guard
    /// data apply
    #[arg(long)]
    rollback: bool,

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
    fail_on: FailOn,

    /// Which results text and SARIF show (GitHub makes an alert of every SARIF result)
    #[arg(long, value_enum, default_value_t = Show::Audit)]
    show: Show,

    /// text, json, yaml, markdown, junit, sarif or github; may be repeated as FORMAT=FILE
    #[arg(long, value_name = "FORMAT[=FILE]")]
    format: Vec<Output>,

    /// The time of the check, for exceptions (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    now: Option<Timestamp>,

    #[command(flatten)]
    etcd: EtcdArgs,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Whether what is wanted is a whole release.
#[derive(Debug, ClapArgs)]
struct ExtentArgs {
    /// The desired state is the whole release: missing objects are removed [default: detected from
    /// the input]
    #[arg(long, conflicts_with_all = ["part", "target_version"])]
    whole: bool,

    /// The desired state is a part, as for kubectl apply: missing objects stay unchanged [default:
    /// detected from the input]
    #[arg(long, requires = "before", conflicts_with = "target_version")]
    part: bool,
}

/// From which verdict on the exit code is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FailOn {
    /// Denials.
    Deny,
    /// Warnings too.
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

pub(super) fn version(text: &str) -> Result<Build, String> {
    text.parse()
        .map_err(|error: milvus_guard_core::milvus::version::VersionError| error.to_string())
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let (before, after) = sides(args)?;
    let runtime = gather::runtime()?;
    let gatherer = Gatherer {
        runtime: &runtime,
        cluster: &args.cluster,
        namespace: args.namespace.as_deref(),
        instance: args.instance.as_deref(),
    };
    let mut policies = PolicySet::default();
    let now = args.now.unwrap_or_else(Timestamp::now);
    let documents = policies::documents(&args.policy)?;
    if [before.as_ref(), Some(&after)]
        .into_iter()
        .flatten()
        .filter(|source| matches!(source, Source::File(path) if path == "-"))
        .count()
        > 1
    {
        return Err(Failure::usage(
            "only one input can come from standard input",
        ));
    }
    let facts = gather::facts(args.facts.as_ref())?;
    let own_data = gather::catalogue(&args.data)?;
    let catalogue = own_data.as_ref().unwrap_or_else(|| Catalogue::embedded());
    let mut inputs = gatherer.gather(
        before.as_ref(),
        &after,
        facts,
        choice(&args.extent, &after)?,
    )?;

    let kept = args
        .etcd
        .configuration(&runtime, inputs.before.as_mut(), &mut inputs.after);
    inputs.inputs.extend(kept);
    let running = inputs
        .before
        .as_ref()
        .and_then(|snapshot| match snapshot.releases.as_slice() {
            [only] => Some(only),
            _ => None,
        });
    if let Some(fact) = args.etcd.inspect(&runtime, running) {
        inputs.inputs.push(InputEntry {
            role: "etcd".into(),
            source: fact.source.clone(),
            read: vec![format!("metadata under {}", fact.root_path)],
            ..InputEntry::default()
        });
        inputs.facts.metadata.insert(0, fact);
    }
    if let Some(path) = &args.facts {
        let shown = path.display().to_string();
        inputs.inputs.push(InputEntry {
            role: "facts".into(),
            source: shown.clone(),
            read: vec![shown],
            ..InputEntry::default()
        });
    }
    let uses_cluster = before.as_ref().is_some_and(Source::needs_cluster) || after.needs_cluster();
    if uses_cluster && !args.no_cluster_policy {
        gatherer.cluster_policies(&mut policies, &mut inputs)?;
    }
    let from_files = policies::set(documents, now);
    policies.extend(&from_files);
    policies.now = Some(now);

    let judgement = judge(&Question {
        before: inputs.before.as_ref(),
        after: &inputs.after,
        facts: &inputs.facts,
        catalogue,
        policies: &policies,
        is_rollback: args.rollback,
        deletes: None,
        accepted: &[],
        overdue: None,
    });
    let entries = std::mem::take(&mut inputs.inputs);
    // What was read is no longer needed; a report on thousands of releases needs additional memory.
    drop(inputs);
    let mut report = Report::new(&judgement, &policies, entries);
    report.data = catalogue.as_of().map(|day| day.to_string());
    drop(judgement);
    output::report(&report, &args.format, args.show, screen)?;
    Ok(args.fail_on.exit(report.verdict))
}

/// What the flags say of the extent of what is wanted. Of the cluster and of Helm's storage it is
/// known.
fn choice(args: &ExtentArgs, after: &Source) -> Result<Choice, Failure> {
    let (flag, choice) = match (args.whole, args.part) {
        (true, _) => ("--whole", Choice::Whole),
        (_, true) => ("--part", Choice::Part),
        (false, false) => return Ok(Choice::Seen),
    };
    match after {
        Source::File(_) => Ok(choice),
        Source::Live | Source::Revision { .. } | Source::Version(_) => Err(Failure::usage(
            format!("{flag} is for files: release:, live and version: are whole releases"),
        )),
    }
}

/// Which inputs the flags mean: `-t` is short for the running state (or `--before`) against the
/// same at a version.
fn sides(args: &Args) -> Result<(Option<Source>, Source), Failure> {
    match (&args.after, &args.target_version) {
        (Some(after), _) => {
            let before = match (&args.before, after) {
                (None, Source::Version(_)) => Some(Source::Live),
                (before, _) => before.clone(),
            };
            Ok((before, after.clone()))
        }
        (None, Some(version)) => Ok((
            Some(args.before.clone().unwrap_or(Source::Live)),
            Source::Version(version.clone()),
        )),
        (None, None) => Err(Failure::usage(
            "nothing to judge: give --after, or -t with a version",
        )),
    }
}
