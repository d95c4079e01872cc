//! Progress on stderr: a bar on a terminal, lines elsewhere, JSON lines for programs.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;

use milvus_guard_core::text::plain;
use milvus_guard_metadata::executor::{Event, Events, Stage};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Progress {
    /// A bar on a terminal, lines elsewhere
    Auto,
    /// A bar
    Bar,
    /// One line an event, and one every ten seconds
    Plain,
    /// One JSON object a line
    Json,
    /// Nothing
    None,
}

/// Between two lines about the same stage.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Between two frames of the bar.
const TICK: Duration = Duration::from_millis(100);

/// What `--progress` and `--format` ask for.
pub(super) fn display(progress: Progress, is_json_report: bool) -> Box<dyn Events> {
    match progress {
        Progress::None => Box::new(milvus_guard_metadata::executor::events::NullSink),
        Progress::Json => Box::new(Json),
        Progress::Auto if is_json_report => Box::new(Json),
        Progress::Auto if io::stderr().is_terminal() => Box::new(Bar::default()),
        Progress::Bar => Box::new(Bar::default()),
        Progress::Auto | Progress::Plain => Box::new(Plain::default()),
    }
}

fn line(text: &str) {
    // Progress that cannot be shown must not stop a migration.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Json;

impl Events for Json {
    fn event(&self, event: Event) {
        #[derive(Serialize)]
        struct Line {
            time: String,
            #[serde(flatten)]
            event: Event,
        }
        if let Ok(text) = serde_json::to_string(&Line {
            time: format!("{:.3}", Timestamp::now()),
            event,
        }) {
            line(&text);
        }
    }
}

#[derive(Default)]
struct Plain {
    said: Mutex<Option<Instant>>,
}

impl Plain {
    fn say(&self, text: &str) {
        *locked(&self.said) = Some(Instant::now());
        line(&format!("{:.0} {}", Timestamp::now(), plain(text)));
    }
}

impl Events for Plain {
    fn event(&self, event: Event) {
        match event {
            Event::StageBegan { stage, total } => self.say(&began(stage, total)),
            Event::Progress { stage, done, total } => {
                let is_due = locked(&self.said).is_none_or(|said| said.elapsed() >= HEARTBEAT);
                if is_due {
                    self.say(&so_far(stage, done, total));
                }
            }
            Event::StageDone { stage, done, took } => self.say(&over(stage, done, took)),
            Event::Waiting { what } => self.say(&format!("waiting for {what}")),
            Event::Warning { note } => self.say(&format!("warning: {note}")),
            Event::Note { note } => self.say(&note),
        }
    }
}

#[derive(Default)]
struct Bar {
    bar: Mutex<Option<ProgressBar>>,
}

impl Bar {
    fn say(&self, text: &str) {
        match &*locked(&self.bar) {
            Some(bar) => bar.println(plain(text)),
            None => line(&plain(text)),
        }
    }
}

impl Events for Bar {
    fn event(&self, event: Event) {
        match event {
            Event::StageBegan { stage, total } => {
                let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
                let template = if total.is_some() {
                    "{spinner} {msg:26} [{bar:30}] {human_pos}/{human_len} {elapsed}"
                } else {
                    "{spinner} {msg:26} {human_pos} {elapsed}"
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_message(stage.title());
                bar.enable_steady_tick(TICK);
                *locked(&self.bar) = Some(bar);
            }
            Event::Progress { done, .. } => {
                if let Some(bar) = &*locked(&self.bar) {
                    bar.set_position(done);
                }
            }
            Event::StageDone { stage, done, took } => {
                if let Some(bar) = locked(&self.bar).take() {
                    bar.finish_and_clear();
                }
                line(&format!("  {}", over(stage, done, took)));
            }
            Event::Waiting { what } => self.say(&format!("  waiting for {what}")),
            Event::Warning { note } => self.say(&format!("  warning: {note}")),
            Event::Note { note } => self.say(&format!("  {note}")),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = locked(&self.bar).take() {
            bar.finish_and_clear();
        }
    }
}

fn began(stage: Stage, total: Option<u64>) -> String {
    match total {
        Some(total) => format!("{stage}: {total} {}", stage.unit()),
        None => format!("{stage}"),
    }
}

fn so_far(stage: Stage, done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => format!("{stage}: {done} of {total} {}", stage.unit()),
        None => format!("{stage}: {done} {}", stage.unit()),
    }
}

fn over(stage: Stage, done: u64, took: Duration) -> String {
    format!(
        "{stage}: done, {done} {} in {:.1} s",
        stage.unit(),
        took.as_secs_f64()
    )
}
