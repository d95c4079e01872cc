//! `meta migrate`.

use std::{path::PathBuf, time::Duration};

use clap::Args as ClapArgs;

use milvus_guard_metadata::{
    executor::{self, MetaError, MigrateOptions, Migrated},
    model::Plan,
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
    let mut options = args.options();
    if Consent::of("meta migrate", "the metadata", args.yes)? == Consent::Ask {
        let planned = args.common.run(screen, &target, async |events| {
            executor::preview(&target, &options, events, &mut |_| {}).await
        })?;
        let question = match &planned {
            Ok(Migrated {
                plan: Some(plan), ..
            }) => {
                options.approved_plan = Some(plan.digest.clone());
                text::plan(plan)
            }
            // The run that resumes has recorded the consent.
            Err(MetaError::Stopped { .. }) => String::new(),
            _ => {
                return args
                    .common
                    .end(screen, Access::Changes, planned, |migrated| {
                        text::migrated(migrated, &args.common.etcd.flags())
                    });
            }
        };
        if !is_agreed(&question, screen)? {
            return Ok(Exit::Refused);
        }
    }
    let done = args.common.run(screen, &target, async |events| {
        executor::migrate(&target, &options, events).await
    })?;
    args.common.end(screen, Access::Changes, done, |migrated| {
        text::migrated(migrated, &args.common.etcd.flags())
    })
}

fn dry_run(args: &Args, screen: &Screen) -> Done {
    let target = args.common.etcd.target()?;
    let options = args.options();
    let mut shown = None;
    let mut show = |plan: &Plan<'_>| shown = Some(changes::show(plan.diff(), args.common.format));
    let done = args.common.run(screen, &target, async |events| {
        executor::preview(&target, &options, events, &mut show).await
    })?;
    changes::end(&args.common, screen, shown, done, |migrated| {
        text::migrated(migrated, &args.common.etcd.flags())
    })
}
