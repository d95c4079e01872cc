//! `helm guard check`: would `helm upgrade` be safe?

use std::ffi::OsString;

use clap::Args as ClapArgs;
use serde_json::Value;

use milvus_guard_core::report::Report;
use milvus_guard_sources::files::part::Choice;

use super::{
    place::{Place, environment},
    process::{RENDERED, Upgrade},
    release::{Question, accepted},
};
use crate::cli::{
    exit::{Done, Failure},
    gather::Source,
    judging::JudgingArgs,
    output::{self, Screen},
};

/// Arguments of `helm guard check`.
#[derive(Debug, ClapArgs)]
#[command(
    disable_version_flag = true,
    override_usage = "helm guard check RELEASE CHART [FLAGS OF helm upgrade] [OPTIONS]",
    after_help = "\
Flags that are not listed here are passed on to Helm, as they are: --version, -f, --set, \
                 --reuse-values, --reset-then-reuse-values, --repo, -n, --kube-context ... Helm \
                 renders with --dry-run=server, so the values of the release are reused as in the \
                 upgrade itself. Nothing is changed. Helm 3.13 or later is needed.

Examples:
  helm guard check my-release zilliztech/milvus --version 4.2.58 -n milvus --reset-then-reuse-values
  helm guard check my-release zilliztech/milvus -n milvus -f values.yaml --format markdown

Exit codes: 0 nothing at or above --fail-on, 1 something, 2 wrong usage or unreadable input, 3 no \
                        verdict could be formed."
)]
pub(super) struct Args {
    #[command(flatten)]
    judging: JudgingArgs,

    /// Release, chart and flags of `helm upgrade`
    #[arg(last = true, value_name = "RELEASE CHART FLAGS")]
    helm: Vec<OsString>,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let upgrade = Upgrade::new(&args.helm)?;
    let report = judge(&upgrade, &args.judging)?;
    let judging = &args.judging;
    output::report(&report, &judging.format, |_| judging.show, screen)?;
    Ok(args.judging.fail_on.exit(report.verdict))
}

/// Renders an upgrade and judges it against the release in the cluster.
pub(super) fn judge(upgrade: &Upgrade, judging: &JudgingArgs) -> Result<Report, Failure> {
    let words = upgrade.words();
    let place = Place::of(&words, &environment);
    let (cluster, namespace) = (place.cluster(), place.namespace()?);
    let printed = upgrade.render()?;
    let release: Value = serde_json::from_str(&printed).map_err(|error| {
        Failure::no_verdict(format!("what Helm printed is not a release: {error}"))
    })?;
    let revision = release["version"].as_u64().unwrap_or_default();
    let after = Source::Text {
        name: RENDERED,
        text: printed.into(),
    };
    let question = Question {
        judging,
        cluster: &cluster,
        namespace: &namespace,
        after: &after,
        choice: Choice::Seen,
        accepted: &accepted(&words, revision),
        helm: upgrade.version(),
    };
    question.against_cluster(release["name"].as_str())
}
