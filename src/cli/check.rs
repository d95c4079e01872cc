//! `check`: judges a change.

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;

use milvus_guard_core::milvus::{Build, catalogue::Wanted};
use milvus_guard_sources::files::part::Choice;

use super::{
    completion,
    exit::{Done, Failure},
    gather::{ClusterArgs, Gatherer, Source},
    judging::{Change, Judged, JudgingArgs},
    output::{self, Screen},
    runtime,
};

/// Arguments of `check`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Current state
    #[arg(long, value_name = "IN", add = ArgValueCompleter::new(completion::sides))]
    before: Option<Source>,

    /// Desired state
    #[arg(
        long,
        value_name = "IN",
        conflicts_with = "target_version",
        add = ArgValueCompleter::new(completion::sides)
    )]
    after: Option<Source>,

    /// Check only the Milvus release with this name; RELEASE/ALIAS if an umbrella chart contains
    /// several
    #[arg(short, long, value_name = "NAME", add = ArgValueCompleter::new(completion::releases))]
    instance: Option<String>,

    /// Namespace of the release, and of objects without a namespace; objects in other namespaces
    /// are ignored [default: of the kubeconfig's context; files: all]
    #[arg(short, long, value_name = "NAMESPACE", add = ArgValueCompleter::new(completion::namespaces))]
    namespace: Option<String>,

    /// Check the running release (or --before) against the same manifests at this version: a
    /// release (2.5.27), a line (2.5: its recommended release) or latest
    #[arg(short, long, value_name = "VERSION", add = ArgValueCompleter::new(completion::versions))]
    target_version: Option<Wanted>,

    #[command(flatten)]
    extent: ExtentArgs,

    /// The change is a rollback to an earlier revision (helm rollback): only rules that guard
    /// data apply
    #[arg(long)]
    rollback: bool,

    #[command(flatten)]
    judging: JudgingArgs,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Whether the desired state is a whole release.
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

pub(super) fn version(text: &str) -> Result<Build, String> {
    text.parse()
        .map_err(|error: milvus_guard_core::milvus::version::VersionError| error.to_string())
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let (before, after) = sides(args)?;
    if args.rollback && before.is_none() {
        return Err(Failure::usage(
            "--rollback needs the running state to compare with: give --before\n\
             next: milvus-guard check --before live --after FILE --rollback -i RELEASE -n NAMESPACE",
        ));
    }
    let runtime = runtime::runtime()?;
    let gatherer = Gatherer {
        runtime: &runtime,
        cluster: &args.cluster,
        namespace: args.namespace.as_deref(),
        instance: args.instance.as_deref(),
    };
    let change = Change {
        before: before.as_ref(),
        after: &after,
        choice: choice(&args.extent, &after)?,
        is_rollback: args.rollback,
        accepted: &[],
        helm: None,
    };
    let judging = &args.judging;
    let Judged { report, .. } = judging.judge(&gatherer, &change)?;
    output::report(&report, &judging.format, |_| judging.show(), screen)?;
    Ok(judging.fail_on.exit(report.verdict))
}

/// Whether the desired state is a whole release, by the flags. A state from the cluster or from
/// Helm's storage is always whole.
fn choice(args: &ExtentArgs, after: &Source) -> Result<Choice, Failure> {
    let (flag, choice) = match (args.whole, args.part) {
        (true, _) => ("--whole", Choice::Whole),
        (_, true) => ("--part", Choice::Part),
        (false, false) => return Ok(Choice::Seen),
    };
    match after {
        Source::File(_) => Ok(choice),
        _ => Err(Failure::usage(format!(
            "{flag} is for files: release:, live and version: are whole releases"
        ))),
    }
}

/// The two sides that the flags name. `-t` means: the running state (or `--before`) against the
/// same manifests at a version.
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
            "the desired state is missing: give a version with -t, or manifests with --after\n\
             next: milvus-guard check -i RELEASE -n NAMESPACE -t 2.5, or milvus-guard check --help",
        )),
    }
}
