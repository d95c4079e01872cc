//! What happens during a run, for anyone who shows it: a bar, plain lines, JSON.

use std::{fmt, time::Duration};

/// Takes events in. Called from one task at a time, but possibly from several threads.
pub trait Events: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stage began.
    StageBegan {
        /// Which.
        stage: Stage,
        /// How much there is to do, if known.
        total: Option<u64>,
    },
    /// A stage is so far.
    Progress {
        /// Which.
        stage: Stage,
        /// Done so far.
        done: u64,
        /// Of how many, if known.
        total: Option<u64>,
    },
    /// A stage is over.
    StageDone {
        /// Which.
        stage: Stage,
        /// How many.
        done: u64,
        /// How long it took.
        took: Duration,
    },
    /// Nothing moves until this happens.
    Waiting {
        /// What is waited for: "waiting for ...".
        what: String,
    },
    /// Something worth knowing that stops nothing.
    Warning {
        /// What.
        note: String,
    },
    /// Something that went as it should.
    Note {
        /// What.
        note: String,
    },
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the metadata.
    Read,
    /// Working out what will change.
    Plan,
    /// Writing the backup.
    Backup,
    /// Reading the backup again and comparing it.
    CheckBackup,
    /// Writing records.
    Write,
    /// Reading what was written again and comparing it, before anything is deleted.
    CheckWritten,
    /// Deleting records.
    Delete,
    /// Comparing all of it with what was planned.
    Verify,
}

impl Stage {
    /// What is done, for a person: "reading metadata".
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

    /// What is counted.
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

/// Events that no one looks at.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl Events for NullSink {
    fn event(&self, _: Event) {}
}

/// A stage in progress: says that it began, how far it is (not more often than eyes can follow) and
/// how long it took.
pub(super) struct Running<'e> {
    events: &'e dyn Events,
    stage: Stage,
    total: Option<u64>,
    done: u64,
    began: std::time::Instant,
    /// When a word about progress was last said; the first record says one at once.
    told: Option<std::time::Instant>,
}

/// Between two words about progress.
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
