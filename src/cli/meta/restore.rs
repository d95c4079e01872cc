//! `meta restore`.

use std::{path::PathBuf, time::Duration};

use clap::Args as ClapArgs;

use milvus_guard_metadata::{
    executor::{self, RestoreOptions},
    model::restore::RestorePlan,
};

use super::{
    super::{
        consent::Consent,
        duration::duration,
        exit::{Done, Exit},
        output::Screen,
    },
    Access, Common, changes, is_agreed, text,
};

/// Arguments of `meta restore`.
#[derive(Debug, ClapArgs)]
#[allow(clippy::struct_excessive_bools, reason = "flags")]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,

    /// The backup, made by milvus-guard or by the official tool
    #[arg(value_name = "FILE")]
    backup: PathBuf,

    /// Restore even if changes by 2.2 since the backup are lost
    #[arg(long)]
    accept_data_loss: bool,

    /// Restore to a root path that differs from the one in the backup
    #[arg(long)]
    other_root: bool,

    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// How long to wait for Milvus' sessions to end
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wait_sessions: Option<Duration>,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let target = args.common.etcd.target()?;
    let is_given = args.yes || args.dry_run;
    let is_asked = Consent::of("meta restore", "the metadata", is_given)? == Consent::Ask;
    // An invalid file is reported before the question.
    if let Err(error) = executor::readable(&args.backup) {
        return args
            .common
            .end(screen, Access::Changes, Err(error), text::restored);
    }
    let options = RestoreOptions {
        accept_data_loss: args.accept_data_loss,
        other_root: args.other_root,
        dry_run: false,
        wait_sessions: args.wait_sessions,
    };
    if args.dry_run || is_asked {
        let mut shown = None;
        let mut show = |plan: &RestorePlan<'_>| {
            if args.dry_run {
                shown = Some(changes::show(plan.diff(), args.common.format));
            }
        };
        let planned = args.common.run(screen, &target, async |events| {
            executor::preview_restore(&target, &args.backup, &options, events, &mut show).await
        })?;
        match &planned {
            Ok(planned) if is_asked => {
                if !is_agreed(&text::restored(planned), screen)? {
                    return Ok(Exit::Refused);
                }
            }
            _ => return changes::end(&args.common, screen, shown, planned, text::restored),
        }
    }
    let done = args.common.run(screen, &target, async |events| {
        executor::restore(&target, &args.backup, &options, events).await
    })?;
    args.common
        .end(screen, Access::Changes, done, text::restored)
}
