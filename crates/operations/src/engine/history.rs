//! The history of a run: its events, until the record holds them.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use milvus_guard_core::api::RunEvent;

use super::{Event, Listener};

/// The events that the next write of the record appends to its history. Clones share them.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Vec<RunEvent>>>);

impl Listener for History {
    fn on_event(&self, at: Timestamp, event: &Event) {
        let (step, message) = match event {
            Event::RunBegan { title, resumed, .. } => (
                None,
                format!("{title}{}", if *resumed { " (resumed)" } else { "" }),
            ),
            Event::StepBegan {
                step,
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
                (Some(step), format!("{verb}{title}{again}"))
            }
            Event::StepDone { step, took, .. } => {
                (Some(step), format!("after {} ms", took.as_millis()))
            }
            Event::StepFailed { step, reason } => (Some(step), reason.clone()),
            Event::Note { text } | Event::Warning { text } => (None, text.clone()),
            Event::SessionReleased { session, pod, why } => {
                (None, format!("{session} of pod {pod}: {why}"))
            }
            Event::RunEnded { message, .. } => (None, message.clone()),
            // There can be hundreds of them, and the cursor has what the step waits for.
            Event::Progress { .. }
            | Event::PartDone { .. }
            | Event::Waiting { .. }
            | Event::StillWaiting { .. } => return,
        };
        let event = RunEvent {
            time: at,
            reason: event.name().into(),
            step: step.cloned(),
            message,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event);
    }
}

impl History {
    pub(super) fn take(&self) -> Vec<RunEvent> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn give_back(&self, mut events: Vec<RunEvent>) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.append(&mut pending);
        *pending = events;
    }
}
