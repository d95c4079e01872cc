//! `meta`: the metadata migration on etcd alone.

mod back_up;
mod changes;
mod etcd;
mod inspect;
mod migrate;
mod restore;
mod text;
mod verify;

use std::future::Future;

use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;

use milvus_guard_metadata::executor::{Events, MetaError, Stop, Target};
use milvus_guard_operations::{engine::Reporter, metadata_migration::events::MetadataEvents};

use super::{
    consent,
    exit::{Done, Exit, Failure},
    output::{Screen, print},
    progress::{ProgressArg, display},
    runtime,
    structured::FormatArg,
};
use etcd::EtcdArgs;

/// Arguments of `meta`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show format, sessions, lock, and what a migration would do; changes nothing
    Inspect(Box<inspect::Args>),
    /// Save the metadata of one revision to a new file
    Backup(Box<back_up::Args>),
    /// Migrate the metadata of 2.1 to 2.2; the same command resumes after an interruption
    Migrate(Box<migrate::Args>),
    /// Prove that etcd holds exactly what the plan made from a backup says; changes nothing
    Verify(Box<verify::Args>),
    /// Restore a backup; the same command resumes after an interruption
    Restore(Box<restore::Args>),
}

/// Flags that all verbs share.
#[derive(Clone, Debug, ClapArgs)]
struct Common {
    #[command(flatten)]
    etcd: EtcdArgs,

    /// How to print the report
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    format: FormatArg,

    /// How to show progress, on stderr [auto: a live line on a terminal, JSON lines with --format
    /// json, else lines]
    #[arg(long, value_enum, default_value_t = ProgressArg::Auto)]
    progress: ProgressArg,
}

/// How a verb uses the metadata. It decides the exit code if etcd cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// It reads and judges: there is no verdict.
    Reads,
    /// It changes something: it is refused.
    Changes,
}

pub(super) fn run(args: Args, screen: &Screen) -> Done {
    match args.verb {
        Verb::Inspect(args) => inspect::run(&args, screen),
        Verb::Backup(args) => back_up::run(&args, screen),
        Verb::Migrate(args) => migrate::run(&args, screen),
        Verb::Verify(args) => verify::run(&args, screen),
        Verb::Restore(args) => restore::run(&args, screen),
    }
}

impl Common {
    /// Does the work on a runtime, and shows its progress.
    fn run<T>(
        &self,
        screen: &Screen,
        target: &Target,
        work: impl AsyncFnOnce(&dyn Events) -> T,
    ) -> Result<T, Failure> {
        let progress = match self.progress {
            ProgressArg::Auto if self.format.structured().is_some() => ProgressArg::Json,
            progress => progress,
        };
        let reporter = Reporter::new(display(progress, screen).into_iter().collect());
        let events = MetadataEvents::new(&reporter);
        let work = work(&events);
        runtime::of_two_threads()?.block_on(attended(&target.stop, &reporter, work))
    }

    /// Prints the result: a report, or why there is none.
    fn end<T: Serialize>(
        &self,
        screen: &Screen,
        access: Access,
        done: Result<T, MetaError>,
        text: impl FnOnce(&T) -> String,
    ) -> Done {
        match done {
            Ok(report) => {
                print(&match self.format.structured() {
                    Some(structured) => structured.render(&report)?,
                    None => screen.lines(&text(&report)),
                })?;
                Ok(Exit::Reached)
            }
            Err(error) => {
                if let Some(structured) = self.format.structured() {
                    print(&structured.render(&Ended::of(&error))?)?;
                }
                screen.error(&error.to_string());
                Ok(exit(&error, access))
            }
        }
    }
}

/// The result of a verb that did not succeed, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ended {
    outcome: &'static str,
    message: String,
    data: String,
    next: String,
}

impl Ended {
    fn of(error: &MetaError) -> Self {
        Self {
            outcome: error.outcome(),
            message: error.why(),
            data: error.data().to_owned(),
            next: error.next(),
        }
    }
}

fn exit(error: &MetaError, access: Access) -> Exit {
    match error {
        MetaError::Usage(_) => Exit::Usage,
        MetaError::Unread { .. } if access == Access::Reads => Exit::NoVerdict,
        MetaError::Refused { .. } | MetaError::Unread { .. } => Exit::Refused,
        MetaError::Stopped { .. } => Exit::Stopped,
        MetaError::Locked(_) => Exit::Locked,
    }
}

/// Does the work. The first signal requests a stop at the next safe point, the second one ends
/// the process.
async fn attended<T>(
    stop: &Stop,
    reporter: &Reporter,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let signals = runtime::on_signals()?;
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return Ok(done),
        _ = signals.cancelled() => {}
    }
    stop.ask();
    reporter.note("stopping after the current transactions; interrupt again to end immediately");
    let again = runtime::on_signals()?;
    tokio::select! {
        done = &mut work => Ok(done),
        // The code with which a shell reports SIGINT.
        _ = again.cancelled() => std::process::exit(130),
    }
}

/// Shows the plan and asks; whether the answer is yes.
fn is_agreed(plan: &str, screen: &Screen) -> Result<bool, Failure> {
    let question = screen.lines_stderr(&format!("{plan}This changes the metadata in etcd."));
    let runtime = runtime::runtime()?;
    let asked =
        runtime.block_on(async { Ok(consent::ask(&question, &runtime::on_signals()?).await) });
    // A question that is not answered must not delay the end of the process.
    runtime.shutdown_background();
    if let Err(end) = &asked? {
        screen.error(end.text());
        return Ok(false);
    }
    Ok(true)
}
