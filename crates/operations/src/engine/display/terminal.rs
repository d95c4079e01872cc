//! A run on a terminal: finished steps stay, the current step is updated in a separate line, and
//! the line below it shows what it waits for.

use std::{
    io::{self, Write as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use crate::engine::{Event, Listener};
use milvus_guard_core::{layout, text::plain};

use super::{lines::line, took};

/// Interval at which the current line is redrawn.
const TICK: Duration = Duration::from_millis(120);

/// Draws on stderr.
pub struct Terminal {
    marks: Marks,
    live: Mutex<Live>,
    /// Columns; `None` if the terminal does not report them.
    columns: Option<usize>,
}

/// The part of the screen that is redrawn.
#[derive(Default)]
struct Live {
    /// The current line; `None` while no step is in progress, so that others may write.
    bar: Option<ProgressBar>,
    /// The current step.
    step: Option<String>,
}

/// Symbols of the outcomes and of the moving line.
#[derive(Clone, Copy)]
struct Marks {
    done: &'static str,
    failed: &'static str,
    ticks: &'static str,
}

impl Terminal {
    /// `unicode` allows characters outside ASCII; lines are wrapped at `columns`.
    #[must_use]
    pub fn new(unicode: bool, color: bool, columns: Option<usize>) -> Self {
        let marks = match (unicode, color) {
            (true, true) => Marks {
                done: "\u{1b}[32m✓\u{1b}[0m",
                failed: "\u{1b}[31m✗\u{1b}[0m",
                ticks: "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ",
            },
            (true, false) => Marks {
                done: "✓",
                failed: "✗",
                ticks: "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ",
            },
            (false, true) => Marks {
                done: "\u{1b}[32mok\u{1b}[0m",
                failed: "\u{1b}[31mfailed\u{1b}[0m",
                ticks: "|/-\\ ",
            },
            (false, false) => Marks {
                done: "ok",
                failed: "failed",
                ticks: "|/-\\ ",
            },
        };
        Self {
            marks,
            live: Mutex::default(),
            columns,
        }
    }

    fn lines(&self, text: &str) -> String {
        self.columns
            .map_or_else(|| text.to_owned(), |columns| layout::refill(columns, text))
    }

    /// Prints lines that stay, wrapped between words.
    fn println(&self, live: &Live, text: &str) {
        let text = self.lines(text);
        match &live.bar {
            Some(bar) => bar.println(text),
            // Progress that cannot be shown must not stop a run.
            None => drop(writeln!(io::stderr().lock(), "{text}")),
        }
    }

    /// Shows a text in a separate line below the step, because a long title leaves no room.
    fn below(&self, live: &mut Live, text: &str) {
        let text = format!("\n{}", self.lines(&format!("  {text}")));
        live.bar(self.marks).set_message(text);
    }

    fn ended(&self, live: &mut Live, mark: &str, how: &str) {
        let step = live.step.take().unwrap_or_default();
        self.println(live, &format!("{mark} {step}{how}"));
        live.clear();
    }
}

impl Live {
    fn bar(&mut self, marks: Marks) -> &ProgressBar {
        self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            // Not `wide_msg`, which is cut at the width of the terminal: the text must be shown in
            // full.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed}{msg}") {
                bar.set_style(style.tick_chars(marks.ticks));
            }
            bar.enable_steady_tick(TICK);
            bar
        })
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Listener for Terminal {
    fn on_event(&self, _at: Timestamp, event: &Event) {
        let live = &mut *self.live.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::StepBegan { .. } => {
                let text = line(event).unwrap_or_default();
                live.clear();
                live.bar(self.marks).set_prefix(text.clone());
                live.step = Some(text);
            }
            Event::StepDone { took: time, .. } => {
                self.ended(live, self.marks.done, &format!(" ({})", took(*time)));
            }
            Event::StepFailed { reason, .. } => {
                self.ended(live, self.marks.failed, &format!(": {}", plain(reason)));
            }
            Event::Progress { .. } => {
                self.below(live, line(event).unwrap_or_default().trim_start());
            }
            Event::PartDone { .. } => {
                let text = line(event).unwrap_or_default();
                self.println(live, &format!("  {}", text.trim_start()));
                match (&live.step, &live.bar) {
                    (Some(_), Some(bar)) => bar.set_message(""),
                    _ => live.clear(),
                }
            }
            Event::Waiting { on } | Event::StillWaiting { on, .. } => {
                self.below(live, &format!("waiting for {}", plain(on)));
            }
            Event::RunEnded { .. } => live.clear(),
            Event::RunBegan { .. }
            | Event::Note { .. }
            | Event::Warning { .. }
            | Event::SessionReleased { .. } => {
                self.println(live, &line(event).unwrap_or_default());
            }
        }
    }
}
