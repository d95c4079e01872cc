//! Kubernetes Events on the `UpgradeRun`, so that `kubectl describe` shows the course of the run.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event as NewEvent, EventType, Recorder as Publisher, Reporter as Source},
};
use tokio::sync::mpsc;

use milvus_guard_core::{api::UpgradeRun, error_text, text::shortened};

use super::{Event, Listener, RetryingClient, RunRecord};

/// Events that are queued while the API server is unavailable. Further ones are dropped; the run's
/// history has them too.
const QUEUE: usize = 256;
/// Maximum bytes of an Event's note, a limit of the API.
const MAX_NOTE: usize = 1024;

/// Publishes Events in the background.
struct Recorder(mpsc::Sender<NewEvent>);

/// A client that also writes the events of this run as Kubernetes Events.
#[must_use]
pub fn recording(client: &RetryingClient, record: &RunRecord) -> RetryingClient {
    let mut client = client.clone();
    client.reporter = client
        .reporter
        .and(Recorder::start(client.kube(), &record.run()));
    client
}

impl Recorder {
    fn start(client: Client, run: &UpgradeRun) -> Self {
        let about = ObjectReference {
            api_version: Some(run.api_version.clone()),
            kind: Some(run.kind.clone()),
            name: Some(run.metadata.name.clone()),
            namespace: run.metadata.namespace.clone(),
            uid: run.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        let source = Source {
            controller: "milvus-guard".into(),
            instance: std::env::var("HOSTNAME").ok(),
        };
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let publisher = Publisher::new(client, source);
            while let Some(told) = receiver.recv().await {
                if let Err(error) = publisher.publish(&told, &about).await {
                    tracing::debug!(
                        reason = error_text::chain(&error),
                        "an Event could not be written"
                    );
                }
            }
        });
        Self(sender)
    }
}

impl Listener for Recorder {
    fn on_event(&self, _at: Timestamp, event: &Event) {
        let (warning, note) = match event {
            Event::StepDone { step, back, .. } => (
                false,
                format!("{step} {}", if *back { "undone" } else { "done" }),
            ),
            Event::StepFailed { step, reason } => (true, format!("{step}: {reason}")),
            Event::Warning { text } => (true, text.clone()),
            Event::SessionReleased { session, pod, why } => {
                (false, format!("{session} of pod {pod}: {why}"))
            }
            Event::RunBegan { title, .. } => (false, title.clone()),
            Event::RunEnded { message, .. } => (false, message.clone()),
            Event::StepBegan { .. }
            | Event::Note { .. }
            | Event::Progress { .. }
            | Event::PartDone { .. }
            | Event::Waiting { .. }
            | Event::StillWaiting { .. } => return,
        };
        let told = NewEvent {
            type_: if warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: event.name().into(),
            note: Some(shortened(&note, MAX_NOTE)),
            action: "Run".into(),
            secondary: None,
        };
        let _ = self.0.try_send(told);
    }
}
