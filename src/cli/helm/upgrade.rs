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
    override_usage = "helm guard upgrade RELEASE CHART [FLAGS OF helm upgrade] [OPTIONS]",
    after_help = "\
Flags that are not listed here are passed on to Helm, as they are. The report goes to standard \
                 error; standard output is that of Helm. A denial can be accepted as with the \
                 webhook: --labels guard.milvus.io/accept=MG201-r8, where 8 is the revision about \
                 to be made; or by an UpgradeException.

Example:
  helm guard upgrade my-release zilliztech/milvus --version 4.2.58 -n milvus \
                        --reset-then-reuse-values --wait

Exit codes: Helm's own if Helm was run; else 1 the change reaches --fail-on, 2 wrong usage or \
                 unreadable input, 3 no verdict could be formed, and standard error ends with \
                 'Helm was not run, nothing was changed'."
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
