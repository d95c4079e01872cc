//! Keeps the cache up to date: one watch for each kind, each object is reduced immediately.
//!
//! A watch resumes from the version at which the previous one ended, so no event is lost. A dead
//! connection without an error is only detected by starting another watch, so watches are short:
//! those of kinds that decide what is allowed are renewed every 30 seconds. The next watch begins
//! before the last one ends, so there is no gap even with a slow API server.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, future::OptionFuture};
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ListParams, WatchParams},
    core::{ApiResource, DynamicObject, WatchEvent},
};
use serde_json::Value;
use tokio::time::{sleep_until, timeout, timeout_at};

use milvus_guard_core::{api, error_text};
use milvus_guard_sources::kubernetes::client::REQUEST_DEADLINE;

use super::watch_cache::{WatchCache, Watched};

/// Objects in one page of a listing; a whole page is held in memory.
const PAGE: u32 = 50;
/// The same for `ConfigMaps`, which may have 1 MiB each.
const LARGE_PAGE: u32 = 20;
/// Longest watch of kinds that decide what is allowed. A dead connection is detected after this
/// time at the latest.
const DECISIVE_TIMEOUT: Duration = Duration::from_secs(30);
/// An API server sends a bookmark every minute. If two are missing, the connection counts as
/// dead.
const SILENCE: Duration = Duration::from_secs(150);
/// How long to wait after the time at which the API server should have ended a watch.
const OVERTIME: Duration = Duration::from_secs(5);
/// Limit for a watch to begin. The API server answers immediately, before any event.
const BEGIN_DEADLINE: Duration = Duration::from_secs(10);
/// If a watch ends normally before this time, there is a pause before the next one, which could
/// end as soon.
const SOON: Duration = Duration::from_millis(500);
/// A watch of this duration was healthy: its end does not count as a repeated failure.
const HEALTHY: Duration = Duration::from_secs(5);
/// Pauses between two attempts: the first one and the longest one.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(3)];
/// Attempts to resume from a version before everything is listed again.
const TRIES: u32 = 3;

/// Watches every kind until the process ends. The client must not have a read timeout: a watch may
/// be silent for a minute.
pub fn start(client: &Client, store: &Arc<WatchCache>, namespace: &str, lasts: Duration) {
    for kind in Watched::ALL {
        let follower = Follower {
            kind,
            api: api(kind, client.clone(), namespace),
            store: Arc::clone(store),
            lasts: lasts_for(kind, lasts),
        };
        tokio::spawn(follower.follow());
    }
}

fn lasts_for(kind: Watched, lasts: Duration) -> Duration {
    if Watched::DECISIVE.contains(&kind) {
        lasts.min(DECISIVE_TIMEOUT)
    } else {
        lasts
    }
}

fn resource(kind: Watched) -> ApiResource {
    let (group, version, plural) = match kind {
        Watched::Deployments => ("apps", "v1", "deployments"),
        Watched::StatefulSets => ("apps", "v1", "statefulsets"),
        Watched::ConfigMaps => ("", "v1", "configmaps"),
        Watched::Claims => ("", "v1", "persistentvolumeclaims"),
        Watched::Services => ("", "v1", "services"),
        Watched::Namespaces => ("", "v1", "namespaces"),
        Watched::Autoscalers => ("autoscaling", "v2", "horizontalpodautoscalers"),
        Watched::Policies => (api::GROUP, api::VERSION, api::UPGRADE_POLICY.plural),
        Watched::Exceptions => (api::GROUP, api::VERSION, api::UPGRADE_EXCEPTION.plural),
        Watched::Runs => (api::GROUP, api::VERSION, api::UPGRADE_RUN.plural),
        Watched::Decisions => (api::GROUP, api::VERSION, api::RELEASE_DECISION.plural),
    };
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version,
        kind: kind.kind().into(),
        plural: plural.into(),
    }
}

fn api(kind: Watched, client: Client, namespace: &str) -> Api<DynamicObject> {
    let resource = resource(kind);
    match kind {
        // Runs and decisions in other namespaces do not count: other users can write them.
        Watched::Runs | Watched::Decisions => Api::namespaced_with(client, namespace, &resource),
        _ => Api::all_with(client, &resource),
    }
}

type Events = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + Send>>;

/// How long before the end of a watch the next one is requested.
fn overlap(lasts: Duration) -> Duration {
    BEGIN_DEADLINE.min(lasts * 2 / 3)
}

/// A resource version as a number. Kubernetes compares versions of one kind as numbers (KEP-5504).
fn number(version: &str) -> Option<u128> {
    version.parse().ok()
}

/// Follows one kind.
struct Follower {
    kind: Watched,
    api: Api<DynamicObject>,
    store: Arc<WatchCache>,
    lasts: Duration,
}

/// Why a watch or a listing failed.
enum Halt {
    /// The API server no longer knows what happened since: everything must be listed again.
    Gone,
    /// The API server does not know the kind.
    Absent,
    /// Another reason, as text.
    Trouble(String),
}

impl From<kube::Error> for Halt {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 410 => Self::Gone,
            kube::Error::Api(status) if status.code == 404 => Self::Absent,
            other => Self::Trouble(error_text::chain(&other)),
        }
    }
}

impl Follower {
    async fn follow(self) {
        let mut backoff = Backoff::default();
        let mut version = None;
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let done = match &mut version {
                None => match self.list().await {
                    Ok(listed) => {
                        version = Some(listed);
                        continue;
                    }
                    Err(halt) => Err(halt),
                },
                Some(version) => self.watch(version).await,
            };
            let lasted = begun.elapsed();
            if lasted >= HEALTHY || (done.is_ok() && lasted >= SOON) {
                backoff = Backoff::default();
                failures = 0;
            }
            match done {
                Ok(()) if lasted >= SOON => continue,
                Ok(()) => {}
                Err(Halt::Gone) => version = None,
                Err(Halt::Absent) => {
                    version = None;
                    self.store.absent(self.kind);
                }
                Err(Halt::Trouble(reason)) => {
                    tracing::warn!(kind = self.kind.kind(), reason, "the watch is in trouble");
                    self.store.broken(self.kind, reason);
                    failures += 1;
                    if failures >= TRIES {
                        version = None;
                        failures = 0;
                    }
                }
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Leaves out Helm's own records: they are large, change often and are not needed here.
    fn labels(&self) -> Option<String> {
        (self.kind == Watched::ConfigMaps).then(|| "owner!=helm".to_owned())
    }

    /// Lists every object. Returns the version from which a watch continues.
    async fn list(&self) -> Result<String, Halt> {
        let page = if self.kind == Watched::ConfigMaps {
            LARGE_PAGE
        } else {
            PAGE
        };
        let mut params = ListParams {
            label_selector: self.labels(),
            limit: Some(page),
            ..ListParams::default()
        };
        self.store.begin(self.kind);
        loop {
            let page = timeout(REQUEST_DEADLINE, self.api.list(&params)).await;
            let page = page.map_err(|_| Halt::Trouble("no answer to a listing".into()))??;
            for object in page.items {
                self.put(object);
            }
            if let Some(next) = page.metadata.continue_.filter(|next| !next.is_empty()) {
                params.continue_token = Some(next);
                continue;
            }
            let version = page
                .metadata
                .resource_version
                .filter(|version| !version.is_empty());
            let version =
                version.ok_or_else(|| Halt::Trouble("a listing has no version".into()))?;
            self.store.finish(self.kind);
            return Ok(version);
        }
    }

    /// Watches from a version, and updates it with each event, until a watch ends before the next
    /// one has begun.
    async fn watch(&self, version: &mut String) -> Result<(), Halt> {
        let mut events = self.open(version.clone()).await?;
        self.store.connected(self.kind);
        let done = loop {
            match self.take_until_renewed(&mut events, version).await {
                Ok(Some(next)) => {
                    events = next;
                    self.store.connected(self.kind);
                }
                Ok(None) => break Ok(()),
                Err(halt) => break Err(halt),
            }
        };
        self.store.ended(self.kind);
        done
    }

    async fn open(&self, version: String) -> Result<Events, Halt> {
        let seconds = u32::try_from(self.lasts.as_secs())
            .unwrap_or(u32::MAX)
            .max(1);
        let params = WatchParams {
            label_selector: self.labels(),
            timeout: Some(seconds),
            bookmarks: true,
            ..WatchParams::default()
        };
        let stream = timeout(BEGIN_DEADLINE, self.api.watch(&params, &version)).await;
        Ok(stream
            .map_err(|_| Halt::Trouble("no answer to a watch".into()))??
            .boxed())
    }

    /// Processes the events of a watch until the next watch has begun; `None` if the watch ends
    /// earlier, normally or by silence.
    async fn take_until_renewed(
        &self,
        events: &mut Events,
        version: &mut String,
    ) -> Result<Option<Events>, Halt> {
        let renewal = Instant::now() + self.lasts.saturating_sub(overlap(self.lasts));
        let mut is_due = true;
        let mut next = OptionFuture::default();
        let silence = SILENCE.min(self.lasts + OVERTIME);
        let mut quiet_until = Instant::now() + silence;
        loop {
            tokio::select! {
                event = timeout_at(quiet_until.into(), events.next()) => match event {
                    Ok(Some(event)) => {
                        self.take(event?, version)?;
                        quiet_until = Instant::now() + silence;
                    }
                    // Starting a watch costs one request and shows whether the connection is dead.
                    Ok(None) | Err(_) => return Ok(None),
                },
                () = sleep_until(renewal.into()), if is_due => {
                    is_due = false;
                    // The next watch repeats events. To skip them, versions must be comparable.
                    if number(version).is_some() {
                        next = Some(Box::pin(self.open(version.clone()))).into();
                    }
                }
                Some(opened) = &mut next => match opened {
                    Ok(events) => return Ok(Some(events)),
                    Err(Halt::Gone) => return Err(Halt::Gone),
                    // This watch continues. When it ends, the next one is tried again.
                    Err(_) => next = OptionFuture::default(),
                },
            }
        }
    }

    fn take(&self, event: WatchEvent<DynamicObject>, version: &mut String) -> Result<(), Halt> {
        self.store.contact(self.kind);
        let seen = match &event {
            WatchEvent::Added(object)
            | WatchEvent::Modified(object)
            | WatchEvent::Deleted(object) => object.metadata.resource_version.clone(),
            WatchEvent::Bookmark(bookmark) => Some(bookmark.metadata.resource_version.clone()),
            WatchEvent::Error(_) => None,
        };
        // The previous watch has shown this event, and newer ones.
        if seen
            .as_deref()
            .and_then(number)
            .is_some_and(|seen| number(version).is_some_and(|version| seen <= version))
        {
            return Ok(());
        }
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => self.put(object),
            WatchEvent::Deleted(object) => {
                let metadata = object.metadata;
                self.store.delete(
                    self.kind,
                    &metadata.namespace.unwrap_or_default(),
                    &metadata.name.unwrap_or_default(),
                );
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(kube::Error::Api(status.boxed()).into()),
        }
        if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
            *version = seen;
        }
        Ok(())
    }

    fn put(&self, object: DynamicObject) {
        if let Some(value) = value(object) {
            self.store.put(self.kind, value, Timestamp::now());
        }
    }
}

fn value(object: DynamicObject) -> Option<Value> {
    let metadata = serde_json::to_value(object.metadata).ok()?;
    let mut value = object.data;
    if let Value::Object(fields) = &mut value {
        fields.insert("metadata".into(), metadata);
        return Some(value);
    }
    None
}

/// Pauses between attempts, each about twice as long as the previous one.
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(PAUSES[0])
    }
}

impl Backoff {
    /// The next pause: a random part of it, at least half, so that replicas do not return at the
    /// same time.
    fn pause(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSES[1]);
        // Each hasher of the standard library has other random keys.
        let random = RandomState::new().build_hasher().finish();
        pause / 2 + pause.mul_f64(f64::from(u16::try_from(random & 0x7fff).unwrap_or(0)) / 65_536.0)
    }
}

#[cfg(test)]
mod tests;
