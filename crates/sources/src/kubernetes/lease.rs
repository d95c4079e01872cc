//! A Lease with one holder at a time, as in Kubernetes' own controllers.
//!
//! Clocks of machines differ, so times that other clients wrote are not compared. A Lease is free
//! if it has not changed for its duration, measured with the clock of the client that watches
//! it.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};

/// One Lease, for a client that wants to hold it.
#[derive(Clone)]
pub struct Slot {
    api: Api<Lease>,
    name: String,
    identity: String,
    holds: Duration,
    /// Annotation that the holder writes: key and value.
    note: Option<(&'static str, String)>,
    /// Smallest number of transitions.
    floor: i32,
}

/// The holder of a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// This client, with the number of changes of the holder.
    Mine {
        /// Transitions, ours included.
        transitions: i64,
    },
    /// Another client.
    Theirs(Holder),
    /// Another client wrote it at the same time; the next attempt shows the holder.
    Contended,
}

/// Another client that holds a Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Its identity.
    pub identity: String,
    /// Since when, by its own clock.
    pub since: Option<Timestamp>,
    /// Its annotation.
    pub note: Option<String>,
    /// How long it remains the holder without a renewal.
    pub left: Duration,
    /// Whether it renewed the Lease twice while we watched: the last renewal of a killed process
    /// may arrive after its end, so one renewal is not enough.
    pub renewed: bool,
}

/// Renewals that prove that the holder is alive.
const SIGNS: u32 = 2;

/// The last seen version of a Lease, and since when by our own clock.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    version: Option<(String, Instant)>,
    /// Number of changes since we began to watch.
    signs: u32,
}

impl Seen {
    /// Since when the Lease has this version, by our own clock. `now` is the time at which it was
    /// read.
    pub fn since(&mut self, version: &str, now: Instant) -> Instant {
        match &self.version {
            Some((known, since)) if known == version => *since,
            known => {
                self.signs += u32::from(known.is_some());
                self.version = Some((version.to_owned(), now));
                now
            }
        }
    }
}

/// The duration of a Lease; `None` if it has none.
#[must_use]
pub fn holds(spec: &LeaseSpec) -> Option<Duration> {
    spec.lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(Duration::from_secs)
}

impl Slot {
    /// A Lease of this name, for a client with this identity.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        holds: Duration,
    ) -> Self {
        let (name, identity) = (name.to_owned(), identity.to_owned());
        Self {
            api: Api::namespaced(client, namespace),
            name,
            identity,
            holds,
            note: None,
            floor: 0,
        }
    }

    /// Writes an annotation with every claim.
    #[must_use]
    pub fn noting(mut self, key: &'static str, value: &str) -> Self {
        self.note = Some((key, value.to_owned()));
        self
    }

    /// Sets the smallest number of transitions. If the Lease was deleted, they would begin at 0
    /// again, and a record with a fence would reject the new holder as an old one.
    #[must_use]
    pub fn from(mut self, floor: i64) -> Self {
        self.floor = i32::try_from(floor).unwrap_or(i32::MAX);
        self
    }

    /// How long a claim holds without renewal.
    #[must_use]
    pub const fn holds(&self) -> Duration {
        self.holds
    }

    /// The identity of this client.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Renews or takes the Lease, if it is ours or free.
    ///
    /// # Errors
    /// If the API server does not answer, or refuses.
    pub async fn attempt(&self, seen: &mut Seen) -> Result<Claim, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            };
            let mut lease = Lease {
                metadata,
                spec: None,
            };
            self.claim(&mut lease, None, self.floor.max(1));
            return written(self.api.create(&PostParams::default(), &lease).await);
        };
        let old = lease.spec.take().unwrap_or_default();
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = seen.since(&version, Instant::now());
        let holder = old.holder_identity.as_deref().unwrap_or_default();
        let (mine, nobodys) = (holder == self.identity, holder.is_empty());
        let holds = holds(&old).unwrap_or(self.holds);
        let left = holds.saturating_sub(since.elapsed());
        if !mine && !nobodys && !left.is_zero() {
            let note = self
                .note
                .as_ref()
                .and_then(|(key, _)| lease.metadata.annotations.as_ref()?.get(*key).cloned());
            let since = old.acquire_time.map(|time| time.0);
            return Ok(Claim::Theirs(Holder {
                identity: holder.to_owned(),
                since,
                note,
                left,
                renewed: seen.signs >= SIGNS,
            }));
        }
        let transitions = old.lease_transitions.unwrap_or(0);
        let transitions = if mine {
            transitions
        } else {
            transitions.saturating_add(1).max(self.floor)
        };
        self.claim(&mut lease, Some(old).filter(|_| mine), transitions);
        written(
            self.api
                .replace(&self.name, &PostParams::default(), &lease)
                .await,
        )
    }

    /// Releases the Lease, if it is still ours. The object stays, so that the count of transitions
    /// continues.
    ///
    /// # Errors
    /// If the API server does not answer, or refuses.
    pub async fn give_back(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return Ok(());
        };
        let Some(spec) = lease
            .spec
            .as_mut()
            .filter(|spec| spec.holder_identity.as_deref() == Some(&*self.identity))
        else {
            return Ok(());
        };
        spec.holder_identity = None;
        spec.renew_time = None;
        if let (Some((key, _)), Some(annotations)) = (&self.note, &mut lease.metadata.annotations) {
            annotations.remove(*key);
        }
        written(
            self.api
                .replace(&self.name, &PostParams::default(), &lease)
                .await,
        )
        .map(|_| ())
    }

    fn claim(&self, lease: &mut Lease, mine: Option<LeaseSpec>, transitions: i32) {
        let now = MicroTime(Timestamp::now());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            // Rounded up: other clients must never consider it expired before we do.
            lease_duration_seconds: i32::try_from(self.holds.as_millis().div_ceil(1000)).ok(),
            acquire_time: mine
                .and_then(|mine| mine.acquire_time)
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        });
        if let Some((key, value)) = &self.note {
            lease
                .metadata
                .annotations
                .get_or_insert_default()
                .insert((*key).to_owned(), value.clone());
        }
    }
}

/// A conflict is not an error: another client was first.
fn written(answer: Result<Lease, kube::Error>) -> Result<Claim, kube::Error> {
    match answer {
        Ok(lease) => {
            let transitions = lease
                .spec
                .and_then(|spec| spec.lease_transitions)
                .unwrap_or(0);
            Ok(Claim::Mine {
                transitions: transitions.into(),
            })
        }
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Claim::Contended),
        Err(error) => Err(error),
    }
}
