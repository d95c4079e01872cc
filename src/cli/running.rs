//! What the verbs that run something share: who shows the run, its last word, and the flags for both.

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    time::Duration,
};

use clap::ValueEnum;
use serde_json::json;

use crate::{
    cluster::Cluster,
    run::{
        End, Halting, Link, Listener, Reporter,
        display::{Json, Lines, Terminal},
        store::History,
    },
};

use super::{
    exit::{Done, Failure},
    gather::ClusterArgs,
    output::{Screen, print},
};

/// `--on-failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnFailure {
    /// Stop and say how things stand
    Stop,
    /// Take everything back at once
    Rollback,
}

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum FormatArg {
    /// For a person at a terminal
    Text,
    /// For programs
    Json,
}

/// `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressArg {
    /// A live line on a terminal, lines elsewhere
    Auto,
    /// A live line
    Bar,
    /// Lines with their time
    Plain,
    /// One JSON object a line
    Json,
    /// Nothing
    None,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no time; write 90s, 2m or 1h");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    span.try_into().map_err(|_| wrong())
}

/// Connects, and does the work with somebody who shows it.
pub(super) fn run<T>(
    cluster: &ClusterArgs,
    progress: ProgressArg,
    screen: &Screen,
    work: impl AsyncFnOnce(Link, History) -> T,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::no_verdict(format!("cannot start the runtime: {error}")))?;
    let done = runtime.block_on(async {
        let cluster = Cluster::connect(&cluster.access()).await.map_err(Failure::no_verdict)?;
        let halting = Halting::on_signals().map_err(|error| Failure::no_verdict(format!("cannot listen to signals: {error}")))?;
        let history = History::default();
        let own: Box<dyn Listener> = Box::new(history.clone());
        let reporter = Reporter::new(display(progress, screen).into_iter().chain([own]).collect());
        Ok(work(Link::new(cluster, reporter, halting), history).await)
    });
    // A request that hangs must not keep the process.
    runtime.shutdown_background();
    done
}

/// How it ended, for programs.
fn last_word(end: &End) -> serde_json::Value {
    json!({
        "schemaVersion": "guard.milvus.io/run-end/v1",
        "outcome": end.name(), "exitCode": end.exit().code(), "message": end.text(),
    })
}

/// Whoever shows the run on stderr; nobody where nobody looks.
fn display(progress: ProgressArg, screen: &Screen) -> Option<Box<dyn Listener>> {
    Some(match progress {
        ProgressArg::None => return None,
        ProgressArg::Json => Box::new(Json::new(io::stderr())),
        ProgressArg::Auto if !io::stderr().is_terminal() => Box::new(Lines::new(io::stderr())),
        ProgressArg::Auto | ProgressArg::Bar => Box::new(Terminal::new(screen.unicode(), screen.colors_stderr())),
        ProgressArg::Plain => Box::new(Lines::new(io::stderr())),
    })
}

/// The last word: what was reached is the report, anything else is said as an error too.
pub(super) fn say(end: &End, format: FormatArg, file: Option<&Path>, screen: &Screen) -> Done {
    if let Some(file) = file {
        // Whoever follows the Job reads the run where this is not there.
        let _ = std::fs::write(file, last_word(end).to_string());
    }
    let reached = matches!(end, End::Reached(_) | End::Waits(_));
    match format {
        FormatArg::Text if reached => print(&format!("{}\n", end.text()))?,
        FormatArg::Text => screen.error(end.text()),
        FormatArg::Json => print(&format!("{:#}\n", last_word(end)))?,
    }
    Ok(end.exit())
}
