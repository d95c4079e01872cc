//! `helm guard check`: would `helm upgrade` be safe?

use std::ffi::OsString;

use clap::Args as ClapArgs;
use serde_json::Value;

use milvus_guard_core::report::Report;
use milvus_guard_sources::files::part::Choice;

use super::{
    process::{RENDERED, Upgrade},
    release::{Question, accepted},
    target::{HelmTarget, environment},
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
    override_usage = "helm guard check RELEASE CHART [HELM FLAGS] [OPTIONS]"
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
    let target = HelmTarget::of(&upgrade.words(), &environment);
    // A target that cannot be found is reported before Helm runs.
    target.namespace()?;
    let printed = upgrade.render()?;
    judge_rendered(upgrade, &target, judging, &printed)
}

/// Judges what Helm printed against the release in the cluster.
pub(super) fn judge_rendered(
    upgrade: &Upgrade,
    target: &HelmTarget,
    judging: &JudgingArgs,
    printed: &str,
) -> Result<Report, Failure> {
    let (cluster, namespace) = (target.cluster(), target.namespace()?);
    let release: Value = serde_json::from_str(printed).map_err(|error| {
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
        accepted: &accepted(&upgrade.words(), revision),
        helm: upgrade.version(),
    };
    question.against_cluster(release["name"].as_str())
}
