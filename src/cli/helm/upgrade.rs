//! `helm guard upgrade`: judges, then runs `helm upgrade` with the same flags.

use std::ffi::OsString;

use clap::Args as ClapArgs;

use super::{check::judge, process::Upgrade, release};
use crate::cli::{
    exit::{Done, Exit},
    judging::JudgingArgs,
    output::Screen,
};

/// Arguments of `helm guard upgrade`.
#[derive(Debug, ClapArgs)]
#[command(
    disable_version_flag = true,
    override_usage = "helm guard upgrade RELEASE CHART [HELM FLAGS] [OPTIONS]"
)]
pub(super) struct Args {
    #[command(flatten)]
    judging: JudgingArgs,

    /// Release, chart and flags of `helm upgrade`
    #[arg(last = true, value_name = "RELEASE CHART FLAGS")]
    helm: Vec<OsString>,
}

/// What ends a message where the upgrade was not made.
const NOT_RUN: &str = "Helm was not run, nothing was changed.";

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let judging = &args.judging;
    release::only_files(judging, "Helm's")?;
    let upgrade = Upgrade::new(&args.helm)?;
    let judged = judge(&upgrade, judging).and_then(|report| {
        release::write(&report, judging, screen)?;
        Ok(report)
    });
    let report = judged.map_err(|mut failure| {
        failure.message = format!("{}\n{NOT_RUN}", failure.message.trim_end());
        failure
    })?;
    if judging.fail_on.exit(report.verdict) == Exit::Found {
        eprint!("{}", release::text(&report, judging.show, screen));
        screen.error(NOT_RUN);
        return Ok(Exit::Found);
    }
    if let Some(warnings) = release::warnings(&report) {
        eprint!("{warnings}");
    }
    upgrade.run()
}
