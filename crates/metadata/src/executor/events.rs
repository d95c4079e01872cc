//! Events of a run, for any display: a progress bar, plain lines, JSON.

use std::{fmt, time::Duration};

/// Receives events. Called from one task at a time, but possibly from several threads.
pub trait Events: Send + Sync {
    /// Receives an event.
    fn event(&self, event: Event);
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stage began.
    StageBegan {
        /// The stage.
        stage: Stage,
        /// How many items there are, if known.
        total: Option<u64>,
    },
    /// Progress of a stage.
    Progress {
        /// The stage.
        stage: Stage,
        /// Done so far.
        done: u64,
        /// How many items there are, if known.
        total: Option<u64>,
    },
    /// A stage is over.
    StageDone {
        /// The stage.
        stage: Stage,
        /// Number of items.
        done: u64,
        /// How long it took.
        took: Duration,
    },
    /// The run waits for something.
    Waiting {
        /// What it waits for: "waiting for ...".
        what: String,
    },
    /// A warning that does not stop the run.
    Warning {
        /// The text.
        note: String,
    },
    /// Information.
    Note {
        /// The text.
        note: String,
    },
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the metadata.
    Read,
    /// Planning the changes.
    Plan,
    /// Writing the backup.
    Backup,
    /// Reading the backup again and comparing it with the dump.
    CheckBackup,
    /// Writing records.
    Write,
    /// Reading again what was written and comparing it, before anything is deleted.
    CheckWritten,
    /// Deleting records.
    Delete,
    /// Comparing everything with the plan.
    Verify,
}

impl Stage {
    /// The stage for people: "reading metadata".
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Read => "reading metadata",
            Self::Plan => "planning",
            Self::Backup => "writing backup",
            Self::CheckBackup => "checking backup",
            Self::Write => "writing records",
            Self::CheckWritten => "checking what was written",
            Self::Delete => "deleting old records",
            Self::Verify => "verifying",
        }
    }

    /// Unit of the items.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Plan => "changes",
            _ => "records",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

/// Discards events.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl Events for NullSink {
    fn event(&self, _: Event) {}
}

/// A stage in progress: reports its begin, its progress (not more often than people can read) and
/// its duration.
pub(super) struct Running<'e> {
    events: &'e dyn Events,
    stage: Stage,
    total: Option<u64>,
    done: u64,
    began: std::time::Instant,
    /// When progress was last reported; the first record is reported at once.
    told: Option<std::time::Instant>,
}

/// Shortest interval between two reports of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

impl<'e> Running<'e> {
    pub(super) fn begin(events: &'e dyn Events, stage: Stage, total: Option<u64>) -> Self {
        events.event(Event::StageBegan { stage, total });
        Self {
            events,
            stage,
            total,
            done: 0,
            began: std::time::Instant::now(),
            told: None,
        }
    }

    pub(super) fn advance(&mut self, by: u64) {
        self.done += by;
        if self
            .told
            .is_none_or(|told| told.elapsed() >= PROGRESS_EVERY)
        {
            self.told = Some(std::time::Instant::now());
            self.events.event(Event::Progress {
                stage: self.stage,
                done: self.done,
                total: self.total,
            });
        }
    }

    /// Starts counting again.
    pub(super) fn restart(&mut self) {
        self.done = 0;
    }

    pub(super) fn finish_at(mut self, done: u64) {
        self.done = done;
        self.finish();
    }

    pub(super) fn finish(self) {
        self.events.event(Event::StageDone {
            stage: self.stage,
            done: self.done,
            took: self.began.elapsed(),
        });
    }
}
