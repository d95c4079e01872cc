//! `meta restore`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use crate::meta::{self, RestoreOptions};

use super::{
    super::{
        exit::{Done, Exit},
        output::Screen,
    },
    Common, ask, block_on, can_ask,
    etcd::{Time, time},
    not_asked, text,
};

/// Arguments of `meta restore`.
#[derive(Debug, ClapArgs)]
#[allow(clippy::struct_excessive_bools, reason = "flags")]
#[command(after_help = "\
Afterwards exactly the records of the backup stand under the root path; what 2.2 has left is
removed. Sessions, and the allocators of timestamps and ids, are never touched. The whole file is
checked before anything is written.

Exit codes: 0 restored and verified, 1 refused and nothing changed, 2 wrong usage,
3 stopped (the same command goes on), 5 another run holds the lock.")]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,

    /// The backup, ours or the official tool's
    #[arg(value_name = "FILE")]
    backup: PathBuf,

    /// Lose what 2.2 has served since the backup
    #[arg(long)]
    accept_data_loss: bool,

    /// Restore to another root path than the one that was backed up
    #[arg(long)]
    other_root: bool,

    /// Only say what would change
    #[arg(long)]
    dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// Wait that long for Milvus' sessions to end
    #[arg(long, value_name = "TIME", value_parser = time)]
    wait_sessions: Option<Time>,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let target = args.common.etcd.target()?;
    let is_asked = !args.yes && !args.dry_run;
    if is_asked && !can_ask() {
        return Err(not_asked("restore"));
    }
    let events = args.common.events();
    let mut options = RestoreOptions {
        accept_data_loss: args.accept_data_loss,
        other_root: args.other_root,
        dry_run: args.dry_run || is_asked,
        wait_sessions: args.wait_sessions.map(|time| time.0),
    };
    let restore = |options: &RestoreOptions| {
        let options = options.clone();
        block_on(&target.stop, &*events, async { meta::restore(&target, &args.backup, &options, &*events).await })
    };
    let mut done = restore(&options)?;
    if is_asked && let Ok(planned) = &done {
        eprint!("{}", text::restored(planned));
        if !ask("This changes the metadata in etcd.")? {
            screen.error("not confirmed\nNothing was changed.");
            return Ok(Exit::Refused);
        }
        options.dry_run = false;
        done = restore(&options)?;
    }
    args.common.end(screen, done, text::restored)
}
