//! `helm guard check`: checks whether a `helm upgrade` is safe.

use std::ffi::OsString;

use clap::Args as ClapArgs;

use crate::cli::{
    exit::Done,
    helm_upgrade::{process::Upgrade, release::judge},
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
    upgrade.needs_chart("")?;
    let report = judge(&upgrade, &args.judging)?;
    let judging = &args.judging;
    output::report(&report, &judging.format, |_| judging.show(), screen)?;
    Ok(args.judging.fail_on.exit(report.verdict))
}
