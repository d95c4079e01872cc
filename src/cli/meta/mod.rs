//! `meta`: the metadata migration on etcd alone.

mod back_up;
mod changes;
mod etcd;
mod inspect;
mod migrate;
mod progress;
mod restore;
mod text;
mod verify;

use std::{
    future::Future,
    io::{self, IsTerminal as _, Write as _},
};

use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;

use milvus_guard_metadata::executor::{Event, Events, MetaError, Stop};

use super::{
    consent::{QUESTION, is_yes},
    exit::{Done, Exit, Failure},
    output::{Screen, print},
    structured::FormatArg,
};
use etcd::EtcdArgs;
use progress::Progress;

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

/// What all verbs share.
#[derive(Clone, Debug, ClapArgs)]
struct Common {
    #[command(flatten)]
    etcd: EtcdArgs,

    /// How to print the report
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    format: FormatArg,

    /// How to show progress, on stderr [auto: a bar on a terminal, JSON lines with --format json,
    /// else lines]
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    progress: Progress,
}

/// What a verb does to the metadata, which decides what it means that etcd cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// It judges: there is no verdict.
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
    fn events(&self) -> Box<dyn Events> {
        progress::display(self.progress, self.format.structured().is_some())
    }

    /// Prints how it ended: a report, or why there is none.
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

/// An end other than planned, for programs.
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

/// Runs to the end. The first interrupt asks to stop at the next safe point, the second ends the
/// process.
fn block_on<T>(
    stop: &Stop,
    events: &dyn Events,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(async {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return Ok(done),
            () = interrupted() => {}
        }
        stop.ask();
        events.event(Event::Note {
            note: "stopping after the current transactions; interrupt again to end immediately"
                .into(),
        });
        tokio::select! {
            done = &mut work => Ok(done),
            // As a shell reports the signal.
            () = interrupted() => std::process::exit(130),
        }
    })
}

#[cfg(unix)]
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

#[cfg(not(unix))]
async fn interrupted() {
    let _ = tokio::signal::ctrl_c().await;
}

/// Whether a person can be asked.
fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a person, in the words of every other verb.
fn ask(question: &str) -> Result<bool, Failure> {
    let failed = |error: io::Error| Failure::usage(format!("cannot ask: {error}"));
    write!(io::stderr(), "{question}\n{QUESTION}").map_err(failed)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(is_yes(&answer))
}

fn not_asked(verb: &str) -> Failure {
    Failure::usage(format!(
        "meta {verb} changes the metadata: without a terminal, give --yes (or try --dry-run first)"
    ))
}
