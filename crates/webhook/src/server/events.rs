//! Kubernetes Events, so that anyone who looks at a release sees why it was denied. In the
//! background: an answer never waits.

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

/// Events that may wait. What comes on top is in the log all the same.
const QUEUE: usize = 256;
/// The same Event is not sent again for this long: a controller that retries would fill etcd.
const QUIET: Duration = Duration::from_secs(60);
/// Different Events that are remembered for that.
const REMEMBERED: usize = 1024;
/// Bytes of a message, by the API's own rule.
const MAX_MESSAGE: usize = 1024;

/// Reason of an Event about a release that runs: the audit found a problem that it had not found
/// before.
pub const RELEASE_AT_RISK: &str = "ReleaseAtRisk";

/// Something that was denied or accepted for a reason, or a problem of a running release.
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
    /// In words.
    pub message: String,
}

/// Takes Events.
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

    /// Takes one, if there is room.
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

/// The name of an Event about a running release: the same for the same problem, so that the API server
/// keeps only one while Events live (an hour), whichever replica leads.
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
