//! Kubernetes Events that show at a release why it was denied. They are sent in the background: an
//! answer never waits for them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{Api, Client, api::PostParams};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use milvus_guard_core::text::shortened;

/// Most Events that may wait. Further ones are only in the log.
const QUEUE: usize = 256;
/// The same Event is not sent again for this long: a controller that retries would fill etcd.
const QUIET: Duration = Duration::from_secs(60);
/// Most different Events that are remembered for this.
const REMEMBERED: usize = 1024;
/// Most bytes of a message, by the rule of the API.
const MAX_MESSAGE: usize = 1024;

/// Reason of an Event about a running release: the audit found a new problem.
pub const RELEASE_AT_RISK: &str = "ReleaseAtRisk";

/// A denial, an acceptance, or a problem of a running release.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Denial {
    /// Namespace of the object.
    pub namespace: String,
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// `UpgradeDenied`, `UpgradeAccepted` or [`RELEASE_AT_RISK`].
    pub reason: &'static str,
    /// The message for people.
    pub message: String,
}

/// Receives Events.
#[derive(Clone)]
pub struct EventSink(mpsc::Sender<Denial>);

impl EventSink {
    /// Sends Events to a cluster from now on.
    #[must_use]
    pub fn start(client: Client) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(send(client, receiver));
        Self(sender)
    }

    /// Queues an Event; drops it if the queue is full.
    pub fn send(&self, denial: Denial) {
        let _ = self.0.try_send(denial);
    }
}

async fn send(client: Client, mut receiver: mpsc::Receiver<Denial>) {
    let mut sent: HashMap<Denial, Instant> = HashMap::new();
    while let Some(denial) = receiver.recv().await {
        sent.retain(|_, at| at.elapsed() < QUIET);
        if sent.contains_key(&denial) || sent.len() >= REMEMBERED {
            continue;
        }
        let api: Api<Event> = Api::namespaced(client.clone(), &denial.namespace);
        if let Err(error) = api.create(&PostParams::default(), &event(&denial)).await {
            tracing::debug!(
                reason = milvus_guard_core::error_text::chain(&error),
                "an Event could not be written"
            );
        }
        sent.insert(denial, Instant::now());
    }
}

/// The name of an Event about a running release: the same for the same problem and in all replicas,
/// so that the API server keeps only one until it expires (after an hour).
fn lasting_name(denial: &Denial) -> Option<String> {
    let parts = [denial.kind, &denial.name, denial.reason, &denial.message];
    (denial.reason == RELEASE_AT_RISK).then(|| {
        let digest = Sha256::digest(parts.join("\n"));
        let digits: String = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("milvus-guard-{digits}")
    })
}

fn event(denial: &Denial) -> Event {
    let now = Time(Timestamp::now());
    Event {
        metadata: ObjectMeta {
            name: lasting_name(denial),
            generate_name: Some("milvus-guard-".into()),
            namespace: Some(denial.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(
                if matches!(denial.kind, "Deployment" | "StatefulSet") {
                    "apps/v1"
                } else {
                    "v1"
                }
                .into(),
            ),
            kind: Some(denial.kind.into()),
            name: Some(denial.name.clone()),
            namespace: Some(denial.namespace.clone()),
            ..ObjectReference::default()
        },
        reason: Some(denial.reason.into()),
        message: Some(shortened(&denial.message, MAX_MESSAGE)),
        type_: Some(
            if denial.reason == "UpgradeAccepted" {
                "Normal"
            } else {
                "Warning"
            }
            .into(),
        ),
        source: Some(EventSource {
            component: Some("milvus-guard".into()),
            ..EventSource::default()
        }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        reporting_component: Some("guard.milvus.io/webhook".into()),
        ..Event::default()
    }
}
