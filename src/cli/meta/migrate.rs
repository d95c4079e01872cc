//! `meta migrate`.

use std::{path::PathBuf, time::Duration};

use clap::Args as ClapArgs;

use milvus_guard_metadata::{
    executor::{self, MetaError, MigrateOptions, Migrated},
    model::Plan,
};

use super::{
    super::{
        duration::duration,
        exit::{Done, Exit},
        output::Screen,
    },
    Access, Common, ask, block_on, can_ask, changes, not_asked, text,
};

/// Arguments of `meta migrate`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Version of Milvus that wrote the metadata
    #[arg(short, long, value_name = "VERSION")]
    source_version: String,

    /// Version of Milvus that will read it
    #[arg(short, long, value_name = "VERSION")]
    target_version: String,

    #[command(flatten)]
    common: Common,

    /// File of the backup [default: a new file in the current folder; when resuming: the backup of
    /// the run]
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,

    /// Print every key that would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// How long to wait for Milvus' sessions to end
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wait_sessions: Option<Duration>,

    /// Produce exactly the result of the official tool, including its defects
    #[arg(long)]
    strict_upstream: bool,
}

impl Args {
    fn options(&self) -> MigrateOptions {
        MigrateOptions {
            source: self.source_version.clone(),
            target: self.target_version.clone(),
            backup: self.backup.clone(),
            strict_upstream: self.strict_upstream,
            dry_run: self.dry_run,
            wait_sessions: self.wait_sessions,
            approved_plan: None,
        }
    }
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    if args.dry_run {
        return dry_run(args, screen);
    }
    let target = args.common.etcd.target()?;
    let events = args.common.events();
    let mut options = args.options();
    if !args.yes {
        if !can_ask() {
            return Err(not_asked("migrate"));
        }
        let planned = block_on(
            &target.stop,
            &*events,
            executor::preview(&target, &options, &*events, &mut |_| {}),
        )?;
        match &planned {
            Ok(Migrated {
                plan: Some(plan), ..
            }) => {
                eprint!("{}", screen.lines_stderr(&text::plan(plan)));
                options.approved_plan = Some(plan.digest.clone());
            }
            // Going on, what was approved is recorded.
            Err(MetaError::Stopped { .. }) => {}
            _ => {
                return args
                    .common
                    .end(screen, Access::Changes, planned, |migrated| {
                        text::migrated(migrated, &args.common.etcd.flags())
                    });
            }
        }
        if !ask("This changes the metadata in etcd.")? {
            screen.error("not confirmed\nNothing was changed.");
            return Ok(Exit::Refused);
        }
    }
    let done = block_on(
        &target.stop,
        &*events,
        executor::migrate(&target, &options, &*events),
    )?;
    args.common.end(screen, Access::Changes, done, |migrated| {
        text::migrated(migrated, &args.common.etcd.flags())
    })
}

fn dry_run(args: &Args, screen: &Screen) -> Done {
    let target = args.common.etcd.target()?;
    let events = args.common.events();
    let options = args.options();
    let mut shown = None;
    let mut show = |plan: &Plan<'_>| shown = Some(changes::show(plan.diff(), args.common.format));
    let done = block_on(
        &target.stop,
        &*events,
        executor::preview(&target, &options, &*events, &mut show),
    )?;
    changes::end(&args.common, screen, shown, done, |migrated| {
        text::migrated(migrated, &args.common.etcd.flags())
    })
}
