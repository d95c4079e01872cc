//! Runs a command and shows its output meanwhile.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::Command,
    thread,
    time::Duration,
};

use milvus_guard_testbed::wait_until;
use serde_json::Value;

use crate::common::migration_cluster::Running;

/// For an upgrade of any kind. The slowest of them took six minutes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(1200);

/// Runs a command to its end, and prints its output.
///
/// # Errors
/// The output, if the command failed.
pub fn follow(command: Command) -> Result<(), String> {
    let name = format!("{command:?}");
    let mut running = Running::spawn(command);
    let readers = [
        shown(running.0.stdout.take().unwrap()),
        shown(running.0.stderr.take().unwrap()),
    ];
    let mut status = None;
    let has_ended = wait_until(DEADLINE, || {
        status = running.0.try_wait().unwrap();
        status.is_some()
    });
    if !has_ended {
        running.0.kill().unwrap();
    }
    let said = readers.map(|reader| reader.join().unwrap()).concat();
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{name}: {status}: {said}")),
        None => Err(format!("{name}: it did not end: {said}")),
    }
}

/// Prints lines as they arrive; returns all of them at the end.
fn shown(from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut all = String::new();
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            match serde_json::from_str::<Value>(&line) {
                Ok(event) if event["event"].is_string() => show_event(&event),
                _ => eprintln!("    {line}"),
            }
            all.push_str(&line);
            all.push('\n');
        }
        all
    })
}

/// Prints the parts of an event that the table does not have.
fn show_event(event: &Value) {
    if matches!(
        event["event"].as_str(),
        Some(
            "StepBegan"
                | "StepFailed"
                | "Waiting"
                | "Warning"
                | "Note"
                | "SessionReleased"
                | "RunEnded"
        )
    ) {
        let words = [
            "step", "text", "reason", "message", "on", "session", "pod", "why",
        ]
        .map(|key| event[key].as_str());
        let text = words.into_iter().flatten().collect::<Vec<_>>().join(": ");
        eprintln!(
            "    {} {} {text}",
            event["time"].as_str().unwrap_or_default(),
            event["event"].as_str().unwrap_or_default(),
        );
    }
}
