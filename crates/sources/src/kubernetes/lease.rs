//! A Lease: one holder at a time, as Kubernetes' own controllers have it.
//!
//! Clocks of machines differ, so no one compares the times that others wrote: a Lease is free when
//! it has not changed for as long as its holder said it holds, by the clock of anyone who watches
//! it.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};

/// One Lease, as one would-be holder sees it.
#[derive(Clone)]
pub struct Slot {
    api: Api<Lease>,
    name: String,
    identity: String,
    holds: Duration,
    /// Annotation that the holder writes: key and value.
    note: Option<(&'static str, String)>,
    /// Transitions count from here at least.
    floor: i32,
}

/// Who holds a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// We do; how often the holder has changed so far.
    Mine {
        /// Transitions, ours included.
        transitions: i64,
    },
    /// Another client does.
    Theirs(Holder),
    /// Another client wrote it at the same time; another attempt will tell.
    Contended,
}

/// Another client who holds a Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Its identity.
    pub identity: String,
    /// Since when, by its own clock.
    pub since: Option<Timestamp>,
    /// What it noted.
    pub note: Option<String>,
    /// How long it may still be the holder without a renewal.
    pub left: Duration,
    /// Whether it gave signs of life while we watched: two, since the last renewal of a process
    /// that was killed may arrive after its end.
    pub renewed: bool,
}

/// Signs of life that prove one.
const SIGNS: u32 = 2;

/// What was last seen of a Lease, and since when by our own clock.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    version: Option<(String, Instant)>,
    /// How often it changed since.
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

/// How long a Lease says that it holds; `None` if it does not say.
#[must_use]
pub fn holds(spec: &LeaseSpec) -> Option<Duration> {
    spec.lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(Duration::from_secs)
}

impl Slot {
    /// A Lease of this name, striven for under this identity.
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

    /// Lets transitions count from this number at least: where the Lease was deleted they would
    /// begin again, and what they fence would take the new holder for an old one.
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

    /// Under which identity.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Renews or takes the Lease, if it is ours or free.
    ///
    /// # Errors
    /// Where the API server cannot be asked, or refuses.
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

    /// Gives the Lease back, where it is still ours. The object stays, so that transitions go on
    /// counting.
    ///
    /// # Errors
    /// Where the API server cannot be asked, or refuses.
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
            // Rounded up: others must never think that it ran out before we do.
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

/// A write that came too late is not an error: another client was first.
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
