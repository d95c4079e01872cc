//! What happens in a run, as data, and those who are told.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// Something that happened. The JSON form (`--format json`) has the name in `event`; fields may be
/// added, never renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all_fields = "camelCase")]
pub enum Event {
    /// A run began, or continues.
    RunBegan {
        /// `namespace/name` of the `UpgradeRun`.
        run: String,
        /// What it does, in one line.
        title: String,
        /// Number of its steps.
        steps: usize,
        /// Whether it continues after an interruption.
        resumed: bool,
        /// Whether it goes back.
        back: bool,
    },
    /// A step began.
    StepBegan {
        /// Its id.
        step: String,
        /// Its place, from 1.
        number: usize,
        /// Number of steps.
        of: usize,
        /// What it does.
        title: String,
        /// How often it was begun, this time included.
        attempt: u32,
        /// Whether it is being undone.
        back: bool,
    },
    /// So much of a step is done.
    Progress {
        /// Of what.
        what: String,
        /// How many.
        done: u64,
        /// Of how many, where that is known.
        total: Option<u64>,
    },
    /// A part of a step is done: the metadata is read, the backup is written ...
    PartDone {
        /// Which.
        what: String,
        /// How many.
        done: u64,
        /// Of what.
        unit: &'static str,
        /// How long it took.
        #[serde(rename = "tookMs", serialize_with = "milliseconds")]
        took: Duration,
    },
    /// A step waits for something else than a moment ago.
    Waiting {
        /// For what.
        on: String,
    },
    /// It still waits; every 30 seconds.
    StillWaiting {
        /// For what.
        on: String,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// A step is done.
    StepDone {
        /// Its id.
        step: String,
        /// Its place, from 1.
        number: usize,
        /// Number of steps.
        of: usize,
        /// How long it took.
        #[serde(rename = "tookMs", serialize_with = "milliseconds")]
        took: Duration,
        /// Whether it was undone.
        back: bool,
    },
    /// Something to know.
    Note {
        /// What.
        text: String,
    },
    /// Something that may need attention.
    Warning {
        /// What.
        text: String,
    },
    /// A session of Milvus was removed from etcd, because its pod has ended.
    SessionReleased {
        /// Key, below the root path of the metadata.
        session: String,
        /// Name of the pod.
        pod: String,
        /// Why, in a few words.
        why: String,
    },
    /// A step failed.
    StepFailed {
        /// Its id.
        step: String,
        /// Why.
        reason: String,
    },
    /// The run ended or stopped.
    RunEnded {
        /// Its phase, as the `UpgradeRun` has it.
        phase: &'static str,
        /// The state of the data and the next command.
        message: String,
    },
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Event {
    /// The name, as programs read it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RunBegan { .. } => "RunBegan",
            Self::StepBegan { .. } => "StepBegan",
            Self::Progress { .. } => "Progress",
            Self::PartDone { .. } => "PartDone",
            Self::Waiting { .. } => "Waiting",
            Self::StillWaiting { .. } => "StillWaiting",
            Self::StepDone { .. } => "StepDone",
            Self::Note { .. } => "Note",
            Self::Warning { .. } => "Warning",
            Self::SessionReleased { .. } => "SessionReleased",
            Self::StepFailed { .. } => "StepFailed",
            Self::RunEnded { .. } => "RunEnded",
        }
    }
}

/// Receives the events of a run. Must not block: events are told from within the run.
pub trait Listener: Send + Sync {
    /// Hears of an event.
    fn on_event(&self, at: Timestamp, event: &Event);
}

/// Tells everybody; cheap to clone.
#[derive(Clone, Default)]
pub struct Reporter(Arc<[Box<dyn Listener>]>);

impl Reporter {
    /// For these.
    #[must_use]
    pub fn new(listeners: Vec<Box<dyn Listener>>) -> Self {
        Self(listeners.into())
    }

    /// The same, and one more.
    #[must_use]
    pub fn and(&self, listener: impl Listener + 'static) -> Self {
        Self::new(vec![Box::new(self.clone()), Box::new(listener)])
    }

    /// Tells of an event, now.
    pub fn emit(&self, event: &Event) {
        self.on_event(Timestamp::now(), event);
    }

    /// Tells something to know.
    pub fn note(&self, text: impl Into<String>) {
        self.emit(&Event::Note { text: text.into() });
    }

    /// Tells something that may need attention.
    pub fn warn(&self, text: impl Into<String>) {
        self.emit(&Event::Warning { text: text.into() });
    }
}

impl Listener for Reporter {
    fn on_event(&self, at: Timestamp, event: &Event) {
        for listener in self.0.iter() {
            listener.on_event(at, event);
        }
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reporter").field(&self.0.len()).finish()
    }
}
