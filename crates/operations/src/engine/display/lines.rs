//! A run as plain lines, for logs and pipes.

use std::{
    io::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::engine::{Event, Listener};
use milvus_guard_core::{
    layout,
    text::{count, plain},
};

use super::took;

/// Shortest time between two reports of progress.
const PACE: Duration = Duration::from_secs(5);

/// Writes events as lines, each with its time.
pub struct Lines<W> {
    /// The writer, and when progress was last reported.
    out: Mutex<(W, Option<Instant>)>,
    columns: Option<usize>,
}

impl<W: Write + Send> Lines<W> {
    /// Writes to this writer.
    pub const fn new(writer: W) -> Self {
        Self {
            out: Mutex::new((writer, None)),
            columns: None,
        }
    }

    /// Wraps lines between words at this width; a terminal would break them inside words.
    #[must_use]
    pub fn in_columns(self, columns: Option<usize>) -> Self {
        Self { columns, ..self }
    }
}

impl<W: Write + Send> Listener for Lines<W> {
    fn on_event(&self, at: Timestamp, event: &Event) {
        let Some(text) = line(event) else { return };
        let (writer, paced) = &mut *self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Event::Progress { done, total, .. } = event {
            let whole = total.is_some_and(|total| *done >= total);
            if !whole && paced.is_some_and(|last| last.elapsed() < PACE) {
                return;
            }
            *paced = Some(Instant::now());
        }
        let text = format!("{at:.0}  {text}");
        let text = match self.columns {
            Some(columns) => layout::refill(columns, &text),
            None => text,
        };
        let _ = writeln!(writer, "{text}");
        let _ = writer.flush();
    }
}

/// An event in one line; `None` if it is not shown to people.
#[must_use]
pub(super) fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::RunBegan {
            run,
            title,
            steps,
            resumed,
            back,
        } => {
            let how = match (back, resumed) {
                (false, false) => "begins",
                (false, true) => "continues",
                (true, false) => "goes back",
                (true, true) => "resumes rolling back",
            };
            format!("run {run} {how}: {title} ({})", count(*steps, "step"))
        }
        Event::StepBegan {
            number,
            of,
            title,
            attempt,
            back,
            ..
        } => {
            let verb = if *back { "undoing: " } else { "" };
            let again = if *attempt > 1 {
                format!(" (attempt {attempt})")
            } else {
                String::new()
            };
            format!("[{number}/{of}] {verb}{title}{again}")
        }
        Event::Progress {
            what,
            done,
            total: Some(total),
        } => format!("       {what}: {done} of {total}"),
        Event::Progress {
            what,
            done,
            total: None,
        } => format!("       {what}: {done}"),
        Event::PartDone {
            what,
            done,
            unit,
            took: time,
        } => format!("       {what}: done, {done} {unit} in {}", took(*time)),
        Event::Waiting { on } => format!("       waiting for {}", plain(on)),
        Event::StillWaiting { on, seconds } => {
            format!("       still waiting for {} ({seconds} s)", plain(on))
        }
        Event::StepDone {
            number,
            of,
            took: time,
            back,
            ..
        } => {
            format!(
                "[{number}/{of}] {} ({})",
                if *back { "undone" } else { "done" },
                took(*time)
            )
        }
        Event::Note { text } => format!("note   {}", plain(text)),
        Event::Warning { text } => format!("warn   {}", plain(text)),
        Event::SessionReleased { session, pod, why } => format!(
            "       released {} of pod {}: {}",
            plain(session),
            plain(pod),
            plain(why)
        ),
        Event::StepFailed { step, reason } => format!("failed {step}: {}", plain(reason)),
        // The verb prints its final message itself, as its report.
        Event::RunEnded { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_shown_as_lines_and_progress_is_rate_limited() {
        let lines = Lines::new(Vec::new());
        let at: Timestamp = "2026-01-31T10:00:00.5Z".parse().unwrap();
        let began = Event::StepBegan {
            step: "stop".into(),
            number: 3,
            of: 9,
            title: "Stop all".into(),
            attempt: 2,
            back: false,
        };
        lines.on_event(at, &began);
        for done in [1, 2, 3] {
            lines.on_event(
                at,
                &Event::Progress {
                    what: "records".into(),
                    done,
                    total: Some(3),
                },
            );
        }
        lines.on_event(
            at,
            &Event::StepDone {
                step: "stop".into(),
                number: 3,
                of: 9,
                took: Duration::from_millis(61_500),
                back: false,
            },
        );
        let text = String::from_utf8(lines.out.into_inner().unwrap().0).unwrap();
        let expected = "[3/9] Stop all (attempt 2)\n       records: 1 of 3\n       records: 3 of 3\n[3/9] done (1 min 1 s)\n";
        let found: Vec<&str> = text
            .lines()
            .map(|line| line.strip_prefix("2026-01-31T10:00:00Z  ").unwrap())
            .collect();
        assert_eq!(found.join("\n") + "\n", expected);
    }
}
