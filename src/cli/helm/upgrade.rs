//! `helm guard upgrade`: judges, then runs `helm upgrade` with the same flags.

use std::ffi::OsString;

use clap::Args as ClapArgs;

use milvus_guard_core::report::Report;

use crate::cli::{
    exit::{Done, Exit, Failure},
    helm_upgrade::{
        NOT_RUN, not_run,
        process::{self, Upgrade},
        release::{self, judge},
    },
    judging::JudgingArgs,
    output::Screen,
    upgrade,
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

    /// Pause every component, let Helm apply its change, and roll in order afterwards: the same as
    /// milvus-guard upgrade -- helm upgrade
    #[arg(long, conflicts_with_all = ["policy", "facts", "data", "format", "fail_on"], help_heading = "In order")]
    in_order: bool,

    /// Do not ask; needed where there is no terminal
    #[arg(long, requires = "in_order", help_heading = "In order")]
    yes: bool,

    /// Do it in this process, and not in a Job
    #[arg(long, requires = "in_order", help_heading = "In order")]
    local: bool,

    /// Release, chart and flags of `helm upgrade`
    #[arg(last = true, value_name = "RELEASE CHART FLAGS")]
    helm: Vec<OsString>,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    if args.in_order {
        return upgrade::in_order(line(args), screen);
    }
    let judging = &args.judging;
    let (upgrade, report) = judged(args, screen).map_err(not_run)?;
    if judging.fail_on.exit(report.verdict) == Exit::Found {
        eprint!(
            "{}",
            release::text(&report, judging.show_on_stderr(), screen)
        );
        screen.error(NOT_RUN);
        return Ok(Exit::Found);
    }
    if let Some(warnings) = release::warnings(&report) {
        eprint!("{warnings}");
    }
    upgrade.run()
}

/// The upgrade that Helm would make, and the report about it.
fn judged(args: &Args, screen: &Screen) -> Result<(Upgrade, Report), Failure> {
    let judging = &args.judging;
    release::only_files(judging, "Helm's")?;
    let upgrade = Upgrade::new(&args.helm)?;
    upgrade.needs_chart("")?;
    let report = judge(&upgrade, judging)?;
    release::write(&report, judging, screen)?;
    Ok((upgrade, report))
}

/// The equivalent command line of `milvus-guard upgrade`.
fn line(args: &Args) -> Vec<OsString> {
    let flags = [(args.yes, "--yes"), (args.local, "--local")];
    let given = flags.into_iter().filter(|(is_given, _)| *is_given);
    let mut line: Vec<OsString> = given.map(|(_, flag)| flag.into()).collect();
    line.extend(["--".into(), process::program(), "upgrade".into()]);
    line.extend(args.helm.iter().cloned());
    line
}
