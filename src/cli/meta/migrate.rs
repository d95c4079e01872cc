//! `meta migrate`.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use clap::Args as ClapArgs;

use crate::{
    meta::{self, MetaError, MigrateOptions, Migrated},
    migration::Plan,
};

use super::{
    super::{
        exit::{Done, Exit, Failure},
        output::{Screen, print},
    },
    Common, ask, block_on, can_ask,
    etcd::{Time, time},
    json, not_asked, text,
};

/// Arguments of `meta migrate`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  milvus-guard meta migrate -s 2.1.4 -t 2.2.16 --etcd http://etcd:2379 -r my-release --dry-run
  milvus-guard meta migrate -s 2.1.4 -t 2.2.16 --etcd http://etcd:2379 -r my-release --yes

A backup is always made first. Old records are deleted last, after the new ones were read back.
Whatever comes in between, the same command goes on; `meta restore FILE` goes back.

Exit codes: 0 migrated and verified, or nothing to do, 1 refused and nothing changed,
2 wrong usage, 3 stopped (the same command goes on), 5 another run holds the lock.")]
pub(super) struct Args {
    /// Version of Milvus that wrote the metadata
    #[arg(short, long, value_name = "VERSION")]
    source_version: String,

    /// Version of Milvus that will read it
    #[arg(short, long, value_name = "VERSION")]
    target_version: String,

    #[command(flatten)]
    common: Common,

    /// The backup to make [default: a new file in the current folder; going on: the one that the run made]
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,

    /// Print every key that would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// Wait that long for Milvus' sessions to end
    #[arg(long, value_name = "TIME", value_parser = time)]
    wait_sessions: Option<Time>,

    /// End exactly as the official tool does, its defects included
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
            wait_sessions: self.wait_sessions.map(|time| time.0),
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
        let planned = block_on(&target.stop, &*events, meta::preview(&target, &options, &*events, &mut |_| {}))?;
        match &planned {
            Ok(Migrated { plan: Some(plan), .. }) => {
                eprint!("{}", text::plan(plan));
                options.approved_plan = Some(plan.digest.clone());
            }
            // Going on, what was approved is recorded.
            Err(MetaError::Stopped { .. }) => {}
            _ => return args.common.end(screen, planned, |migrated| text::migrated(migrated, &args.common.etcd.flags())),
        }
        if !ask("This changes the metadata in etcd.")? {
            screen.error("not confirmed\nNothing was changed.");
            return Ok(Exit::Refused);
        }
    }
    let done = block_on(&target.stop, &*events, meta::migrate(&target, &options, &*events))?;
    args.common.end(screen, done, |migrated| text::migrated(migrated, &args.common.etcd.flags()))
}

/// Prints the plan key by key while it is at hand; a million of them need no memory.
fn dry_run(args: &Args, screen: &Screen) -> Done {
    let target = args.common.etcd.target()?;
    let events = args.common.events();
    let options = args.options();
    let is_json = args.common.is_json();
    let mut printed = Ok(());
    let mut show = |plan: &Plan<'_>| printed = print_changes(plan, is_json);
    let done = block_on(&target.stop, &*events, meta::preview(&target, &options, &*events, &mut show))?;
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Failure::usage(format!("cannot write to standard output: {error}")));
        }
        _ => {}
    }
    match done {
        // The list of changes is open; the rest of the report closes it.
        Ok(migrated) if is_json && migrated.plan.is_some() => {
            let report = json(&migrated)?;
            print(&format!("\n],\n{}", report.trim_start_matches("{\n")))?;
            Ok(Exit::Reached)
        }
        other => args.common.end(screen, other, |migrated| text::migrated(migrated, &args.common.etcd.flags())),
    }
}

fn print_changes(plan: &Plan<'_>, is_json: bool) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    if is_json {
        write!(out, "{{\n\"changes\": [")?;
    }
    for (position, change) in plan.diff().enumerate() {
        if is_json {
            writeln!(out, "{}", if position == 0 { "" } else { "," })?;
            serde_json::to_writer(&mut out, &change)?;
        } else {
            writeln!(out, "{change}")?;
        }
    }
    out.flush()
}
