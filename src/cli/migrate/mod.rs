//! `migrate`: metadata and all from 2.1 to 2.2.

mod flags;

use std::io::{self, IsTerminal as _};

use serde_json::json;

use crate::{
    cluster::Cluster,
    migrate::{perform, remote},
    run::{
        End, Halting, Link, Listener, Reporter,
        display::{Json, Lines, Terminal},
        store::History,
    },
};

use super::{
    exit::{Done, Failure},
    output::{Screen, print},
};

pub(super) use flags::Args;
pub(in crate::cli) use flags::FormatArg;
use flags::ProgressArg;

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let settings = args.settings()?;
    let job = if args.place.local { None } else { Some(args.place.job(args.storage_class.clone(), args.delete_migration_pod)?) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::no_verdict(format!("cannot start the runtime: {error}")))?;
    let end = runtime.block_on(async {
        let cluster = Cluster::connect(&args.cluster.access()).await.map_err(Failure::no_verdict)?;
        let halting = Halting::on_signals().map_err(|error| Failure::no_verdict(format!("cannot listen to signals: {error}")))?;
        let history = History::default();
        let own: Box<dyn Listener> = Box::new(history.clone());
        let reporter = Reporter::new(display(args.progress, screen).into_iter().chain([own]).collect());
        let link = Link::new(cluster, reporter, halting);
        let operation = args.operation();
        Ok::<_, Failure>(match &job {
            None => perform(&link, settings, operation, history).await,
            Some(options) => remote(&link, settings, operation, options).await,
        })
    })?;
    // A request that hangs must not keep the process.
    runtime.shutdown_background();
    if let Some(file) = &args.place.end_file {
        // Whoever follows the Job reads the run where this is not there.
        let _ = std::fs::write(file, last_word(&end).to_string());
    }
    say(&end, args.format, screen)
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
fn say(end: &End, format: FormatArg, screen: &Screen) -> Done {
    let reached = matches!(end, End::Reached(_) | End::Waits(_));
    match format {
        FormatArg::Text if reached => print(&format!("{}\n", end.text()))?,
        FormatArg::Text => screen.error(end.text()),
        FormatArg::Json => print(&format!(
            "{:#}
",
            last_word(end)
        ))?,
    }
    Ok(end.exit())
}
