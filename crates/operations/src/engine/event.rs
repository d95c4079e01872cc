//! The events of a run, and their listeners.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// An event. In JSON (`--format json`) its name is in the field `event`; fields may be added, never
/// renamed.
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
        /// Whether the run is rolled back.
        back: bool,
    },
    /// A step began.
    StepBegan {
        /// Id of the step.
        step: String,
        /// Position of the step in the plan, from 1.
        number: usize,
        /// Number of steps in the plan.
        of: usize,
        /// What the step does.
        title: String,
        /// How often the step was begun, including this time.
        attempt: u32,
        /// Whether it is being undone.
        back: bool,
    },
    /// Progress within a step.
    Progress {
        /// What is counted.
        what: String,
        /// How many are done.
        done: u64,
        /// How many there are, if known.
        total: Option<u64>,
    },
    /// A part of a step is done: the metadata is read, the backup is written ...
    PartDone {
        /// Name of the part.
        what: String,
        /// How many items it had.
        done: u64,
        /// Unit of the items.
        unit: &'static str,
        /// How long it took.
        #[serde(rename = "tookMs", serialize_with = "milliseconds")]
        took: Duration,
    },
    /// A step begins to wait for something, or for something else than before.
    Waiting {
        /// What it waits for.
        on: String,
    },
    /// A step still waits; sent every 30 seconds.
    StillWaiting {
        /// What it waits for.
        on: String,
        /// How long it has waited, in seconds.
        seconds: u64,
    },
    /// A step is done.
    StepDone {
        /// Id of the step.
        step: String,
        /// Position of the step in the plan, from 1.
        number: usize,
        /// Number of steps in the plan.
        of: usize,
        /// How long it took.
        #[serde(rename = "tookMs", serialize_with = "milliseconds")]
        took: Duration,
        /// Whether the step was undone.
        back: bool,
    },
    /// Information for the user.
    Note {
        /// The text.
        text: String,
    },
    /// Something that may need attention.
    Warning {
        /// The text.
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
        /// Id of the step.
        step: String,
        /// Why it failed.
        reason: String,
    },
    /// The run ended or stopped.
    RunEnded {
        /// Phase of the run, as in the `UpgradeRun`.
        phase: &'static str,
        /// The state of the data and the next command.
        message: String,
    },
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Event {
    /// The name in the JSON format.
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

/// Receives the events of a run. Must not block: the run itself calls it.
pub trait Listener: Send + Sync {
    /// Receives an event.
    fn on_event(&self, at: Timestamp, event: &Event);
}

/// Passes events to all listeners; cheap to clone.
#[derive(Clone, Default)]
pub struct Reporter(Arc<[Box<dyn Listener>]>);

impl Reporter {
    /// With these listeners.
    #[must_use]
    pub fn new(listeners: Vec<Box<dyn Listener>>) -> Self {
        Self(listeners.into())
    }

    /// The same listeners and one more.
    #[must_use]
    pub fn and(&self, listener: impl Listener + 'static) -> Self {
        Self::new(vec![Box::new(self.clone()), Box::new(listener)])
    }

    /// Reports an event at the current time.
    pub fn emit(&self, event: &Event) {
        self.on_event(Timestamp::now(), event);
    }

    /// Reports information.
    pub fn note(&self, text: impl Into<String>) {
        self.emit(&Event::Note { text: text.into() });
    }

    /// Reports a warning.
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
