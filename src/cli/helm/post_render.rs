//! `post-render`: judges the manifests that Helm rendered, before Helm sends them.
//!
//! Every failure ends with an exit code other than 0 and prints no manifest, and Helm stops
//! before it stores or sends anything.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    str::FromStr,
};

use clap::Args as ClapArgs;

use milvus_guard_core::{admission::acceptance::from_label, evaluate::Verdict, report::Report};
use milvus_guard_sources::files::{InputError, Reading, Role, load_text, part::Choice};

use super::caller::{self, Then};
use crate::cli::{
    exit::{Done, Exit, Failure},
    gather::{ClusterArgs, Source},
    helm_upgrade::{
        release::{self, Question},
        target::{HelmTarget, environment},
    },
    judging::JudgingArgs,
    output::{Screen, clean},
};

/// Arguments of `post-render`.
#[derive(Debug, ClapArgs)]
#[command(disable_version_flag = true)]
pub(super) struct Args {
    /// What to judge against: none (a new installation), a file, a directory, live or
    /// release:NAME [default: the running release, else what Helm deployed last]
    #[arg(long, value_name = "IN|none")]
    before: Option<Before>,

    /// Name of the Helm release [default: of the label app.kubernetes.io/instance]
    #[arg(short, long, value_name = "NAME")]
    instance: Option<String>,

    #[command(flatten)]
    judging: JudgingArgs,

    /// Namespace of the release [default: of Helm's command line, else `HELM_NAMESPACE`, else the
    /// one that Milvus' objects name]
    #[arg(short, long, value_name = "NAMESPACE", help_heading = "Cluster")]
    namespace: Option<String>,

    /// Kubeconfig file [default: of Helm's command line, else as kubectl finds it]
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: of Helm's command line, else `HELM_KUBECONTEXT`, else
    /// the current one]
    #[arg(long, alias = "context", value_name = "NAME", help_heading = "Cluster")]
    kube_context: Option<String>,

    /// Helm 4 runs this as a plugin, and shows nothing of its standard error
    #[arg(long, hide = true)]
    as_plugin: bool,
}

impl Args {
    /// Whether the state before is read from the cluster.
    fn asks_cluster(&self) -> bool {
        match &self.before {
            None => true,
            Some(Before::Nothing) => false,
            Some(Before::Source(source)) => source.needs_cluster(),
        }
    }
}

/// Name of the manifests in reports.
const RENDERED: &str = "the manifests that Helm rendered";

/// The value of `--before`.
#[derive(Clone, Debug)]
enum Before {
    /// A new installation.
    Nothing,
    /// A state.
    Source(Source),
}

impl FromStr for Before {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self::Nothing);
        }
        match text.parse()? {
            Source::File(path) if path == "-" => {
                Err("standard input holds the manifests that Helm rendered".into())
            }
            source => Ok(Self::Source(source)),
        }
    }
}

/// The cluster and namespace of Helm, and whether they are certain.
struct Found {
    cluster: ClusterArgs,
    namespace: String,
    /// Whether a release that was not found is certain not to exist.
    is_certain: bool,
    /// The label of the new revision with which the deployer accepts rules.
    accept: Option<String>,
}

/// Whether the manifests pass.
enum Outcome {
    /// They pass, with an optional warning.
    Pass(Option<String>),
    /// They do not pass; the reason.
    Stop(String),
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let outcome = read().and_then(|manifests| {
        let outcome = catch_unwind(AssertUnwindSafe(|| judge(args, &manifests, screen)))
            .unwrap_or_else(|_| Err(Failure::no_verdict(CRASHED)))?;
        Ok((manifests, outcome))
    });
    match outcome {
        Ok((manifests, Outcome::Pass(remark))) => {
            pass(&manifests)?;
            if let Some(remark) = remark {
                warn(args, &remark);
            }
            Ok(Exit::Clean)
        }
        Ok((_, Outcome::Stop(text))) => {
            stop(args, &text);
            Ok(Exit::Found)
        }
        Err(failure) => {
            let reason = clean(failure.message.trim_end());
            let text =
                format!("milvus-guard stops Helm, because it cannot judge the change: {reason}\n");
            stop(args, &text);
            Ok(failure.exit)
        }
    }
}

/// Prints why Helm is stopped. Helm 3 shows our standard error in this case, Helm 4 does not.
fn stop(args: &Args, text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
    if args.as_plugin {
        caller::tell(text, Then::Ends);
    }
}

/// Prints a warning about manifests that pass. Neither Helm shows our standard error in this case.
fn warn(args: &Args, text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
    let is_under_helm = args.as_plugin || caller::command_line().is_some();
    if is_under_helm && !io::stderr().is_terminal() {
        caller::tell(text, Then::Continues);
    }
}

fn read() -> Result<Vec<u8>, Failure> {
    let mut manifests = Vec::new();
    io::stdin()
        .read_to_end(&mut manifests)
        .map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
    Ok(manifests)
}

/// Prints the manifests unchanged. It is an error if Helm does not read all of them.
fn pass(manifests: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(manifests)
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::no_verdict(format!("cannot hand the manifests on: {error}")))
}

fn judge(args: &Args, manifests: &[u8], screen: &Screen) -> Result<Outcome, Failure> {
    release::only_files(&args.judging, "for the manifests")?;
    let text = std::str::from_utf8(manifests)
        .map_err(|_| Failure::usage("the manifests are not UTF-8 text"))?;
    let Some(milvus) = milvus_in(text)? else {
        return Ok(Outcome::Pass(None));
    };
    let after = Source::Text {
        name: RENDERED,
        text: text.into(),
    };
    let found = find(args, &milvus.namespaces)?;
    let mut question = Question {
        judging: &args.judging,
        cluster: &found.cluster,
        namespace: &found.namespace,
        after: &after,
        choice: Choice::Whole,
        accepted: &[],
        helm: None,
    };
    let name = args.instance.as_deref().or(milvus.name.as_deref());
    let accepted = match (&found.accept, name) {
        (Some(label), Some(name)) => from_label(label, question.next_revision(name)?),
        _ => Vec::new(),
    };
    question.accepted = &accepted;
    let report = match &args.before {
        Some(Before::Nothing) => question.against(None)?,
        Some(Before::Source(source)) => question.against(Some(source))?,
        None => {
            let report = question.against_cluster(args.instance.as_deref())?;
            refuse_doubt(&report, &found)?;
            report
        }
    };
    release::write(&report, &args.judging, screen)?;
    Ok(outcome(args, &report, screen))
}

fn outcome(args: &Args, report: &Report, screen: &Screen) -> Outcome {
    let judging = &args.judging;
    if judging.fail_on.exit(report.verdict) != Exit::Found {
        return Outcome::Pass(release::warnings(report));
    }
    let what = if report.verdict == Verdict::Deny {
        "this release"
    } else {
        "this release because of its warnings (--fail-on warn)"
    };
    Outcome::Stop(format!(
        "milvus-guard stops {what}. Helm has stored and sent nothing.\n{}",
        release::text(report, judging.show_on_stderr(), screen)
    ))
}

/// What the manifests contain of Milvus.
struct Milvus {
    /// Namespaces that its objects name.
    namespaces: Vec<String>,
    /// Name of the release, if there is only one.
    name: Option<String>,
}

/// Searches the manifests for Milvus; `None` if they contain none.
fn milvus_in(text: &str) -> Result<Option<Milvus>, Failure> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let loaded = match load_text(Role::Before, RENDERED, text, &Reading::default()) {
        Ok(loaded) => loaded,
        Err(InputError::NoObjects { .. }) => return Ok(None),
        Err(error) => return Err(Failure::usage(error)),
    };
    let releases = loaded.snapshot.releases;
    let name = match releases.as_slice() {
        [] => return Ok(None),
        [only] => Some(only.name.clone()),
        _ => None,
    };
    let namespaces: BTreeSet<String> = releases
        .into_iter()
        .filter_map(|release| release.namespace)
        .collect();
    Ok(Some(Milvus {
        namespaces: namespaces.into_iter().collect(),
        name,
    }))
}

/// Finds the namespace and the cluster that Helm uses.
fn find(args: &Args, of_milvus: &[String]) -> Result<Found, Failure> {
    let seen = caller::command_line();
    let mut target = HelmTarget::of(seen.as_deref().unwrap_or_default(), &environment);
    target.namespace = args.namespace.clone().or(target.namespace);
    target.kubeconfig = args.kubeconfig.clone().or(target.kubeconfig);
    target.context = args.kube_context.clone().or(target.context);
    if target.namespace.is_none()
        && let [only] = of_milvus
    {
        target.namespace = Some(only.clone());
    }
    if !args.asks_cluster() {
        return Ok(Found {
            cluster: ClusterArgs::default(),
            namespace: target.namespace.unwrap_or_else(|| "default".into()),
            is_certain: true,
            accept: None,
        });
    }
    // If its command line does not name a namespace, Helm uses the namespace of the context.
    if target.namespace.is_none() && seen.is_none() {
        return Err(Failure::usage(UNKNOWN_NAMESPACE));
    }
    Ok(Found {
        is_certain: seen.is_some() || target.names_cluster(),
        accept: seen.as_deref().and_then(release::acceptance),
        namespace: target.namespace()?,
        cluster: target.cluster(),
    })
}

const CRASHED: &str = "it crashed, which is a defect of milvus-guard";

const UNKNOWN_NAMESPACE: &str = "the namespace of the release is not known. Helm does not tell it \
                                 to a post-renderer, and the manifests name none. Add \
                                 --post-renderer-args --namespace=NAMESPACE, or set HELM_NAMESPACE";

/// Refuses a release that was not found if the namespace or the cluster may be a wrong one.
fn refuse_doubt(report: &Report, found: &Found) -> Result<(), Failure> {
    let Some(name) = release::newcomer(report).filter(|_| !found.is_certain) else {
        return Ok(());
    };
    Err(Failure::no_verdict(format!(
        "release {name} was not found in namespace {}, and the command line of Helm, which could \
         name another cluster, cannot be read here. Add --post-renderer-args --kube-context=NAME, \
         or --post-renderer-args --before=none for a new installation",
        found.namespace
    )))
}
