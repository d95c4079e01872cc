//! A run on a terminal: finished steps stay, the current one is alive in a separate line, with
//! what it waits for in the next.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use crate::engine::{Event, Listener};
use milvus_guard_core::{layout, text::plain};

use super::{lines::line, took};

/// How often the live line moves.
const TICK: Duration = Duration::from_millis(120);

/// Draws on stderr.
pub struct Terminal {
    bar: ProgressBar,
    marks: Marks,
    step: Mutex<String>,
    /// Columns; `None` if the terminal does not say.
    columns: Option<usize>,
}

/// How outcomes look.
#[derive(Clone, Copy)]
struct Marks {
    done: &'static str,
    failed: &'static str,
    ticks: &'static str,
}

impl Terminal {
    /// With or without characters beyond ASCII, and colours; in lines of a width.
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
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // Not `wide_msg`: it is cut at the width of the terminal, and what is waited for must be
        // seen whole.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed}{msg}") {
            bar.set_style(style.tick_chars(marks.ticks));
        }
        bar.enable_steady_tick(TICK);
        Self {
            bar,
            marks,
            step: Mutex::default(),
            columns,
        }
    }

    /// Lines that stay, broken between words.
    fn println(&self, text: &str) {
        self.bar.println(self.lines(text));
    }

    fn lines(&self, text: &str) -> String {
        self.columns
            .map_or_else(|| text.to_owned(), |columns| layout::refill(columns, text))
    }

    fn step(&self) -> String {
        self.step
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Shows this in a separate line below the step, so that a long title leaves it room.
    fn below(&self, text: &str) {
        self.bar
            .set_message(format!("\n{}", self.lines(&format!("  {text}"))));
    }
}

impl Listener for Terminal {
    fn on_event(&self, _at: Timestamp, event: &Event) {
        match event {
            Event::StepBegan { .. } => {
                let text = line(event).unwrap_or_default();
                self.step
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone_from(&text);
                self.bar.reset_elapsed();
                self.bar.set_prefix(text);
                self.bar.set_message("");
            }
            Event::StepDone { took_ms, .. } => {
                self.println(&format!(
                    "{} {} ({})",
                    self.marks.done,
                    self.step(),
                    took(*took_ms)
                ));
                self.bar.set_prefix("");
                self.bar.set_message("");
            }
            Event::StepFailed { reason, .. } => {
                self.println(&format!(
                    "{} {}: {}",
                    self.marks.failed,
                    self.step(),
                    plain(reason)
                ));
            }
            Event::Progress { what, done, total } => self.below(&match total {
                Some(total) => format!("{what}: {done} of {total}"),
                None => format!("{what}: {done}"),
            }),
            Event::Waiting { on } | Event::StillWaiting { on, .. } => {
                self.below(&format!("waiting for {}", plain(on)));
            }
            Event::RunEnded { .. } => self.bar.finish_and_clear(),
            Event::RunBegan { .. }
            | Event::Note { .. }
            | Event::Warning { .. }
            | Event::SessionReleased { .. } => {
                self.println(&line(event).unwrap_or_default());
            }
        }
    }
}
