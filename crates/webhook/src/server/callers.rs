//! Who may ask: anyone who knows the secret in the webhook's path. The guard makes it, keeps it in
//! a Secret, and writes it into the registration; every replica accepts what the Secret holds.
//!
//! The API server names the whole path in its own error where no replica answers, so anyone who
//! asks for a change then sees the secret. That is why it lives for an hour only, and why a replica
//! that takes the lead makes another one.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use rustls::crypto::aws_lc_rs;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use crate::certs::api::{Answer, answer, words};
use milvus_guard_core::text::hexadecimal;
use milvus_guard_sources::kubernetes::ClusterError;

use super::MANAGER;

/// Key of the Secret.
const KEY: &str = "tokens";
/// Key under which an administrator puts a separate secret into the Secret: for a registration
/// in files of the API server, which the guard cannot change. The guard never replaces it.
const STATIC: &str = "static";
/// Bytes of a secret: 256 bits that no one guesses.
const BYTES: usize = 32;
/// Secrets that hold at once. Leaders that take turns every minute must not fill the Secret.
const MAX_TOKENS: usize = 4;
/// Tries against others who write the Secret at the same time.
const TRIES: usize = 8;
/// How often replicas read the Secret at least.
const POLL: Duration = Duration::from_secs(10);
/// The same after a reading that failed.
const RETRY: Duration = Duration::from_secs(1);
/// For one reading. An API server that is slow answers within this time.
const DEADLINE: Duration = Duration::from_secs(15);

/// What can go wrong with the Secret.
#[derive(Debug, thiserror::Error)]
pub enum CallersError {
    /// The system has no randomness.
    #[error("the system did not provide random numbers for a secret path")]
    NoRandomness,
    /// Others change the Secret as fast as it is read.
    #[error("Secret {0} was changed by others each time it was read")]
    Contended(String),
    /// The cluster says no.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// How long the phases of a secret last.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// After which time another one is made.
    pub life: SignedDuration,
    /// How long replicas have to read a new one before it is registered.
    pub settle: SignedDuration,
    /// How long an old one is still accepted after the new one was registered: API servers see a
    /// registration within a second over their watch, and within half a minute where the watch
    /// broke.
    pub grace: SignedDuration,
}

/// A secret and when it was made. Not printed by anything.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Issued {
    token: String,
    made: Timestamp,
}

/// The secrets that the Secret holds: those that the guard made, the newest first, and that of an
/// administrator.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens(Vec<Issued>, Option<String>);

impl fmt::Debug for Tokens {
    // By hand, so that no secret can reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} of them)", self.0.len())
    }
}

impl Tokens {
    fn of(data: &BTreeMap<String, ByteString>) -> Self {
        // What is damaged counts as missing: another one is made.
        let held: Vec<Issued> = data
            .get(KEY)
            .and_then(|bytes| serde_json::from_slice(&bytes.0).ok())
            .unwrap_or_default();
        let held = held
            .into_iter()
            .filter(|issued| is_token(&issued.token))
            .take(MAX_TOKENS)
            .collect();
        let fixed = data
            .get(STATIC)
            .and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
        // An editor may have added an end of line.
        Self(
            held,
            fixed
                .map(str::trim_end)
                .filter(|token| is_token(token))
                .map(str::to_owned),
        )
    }

    /// Each secret that is accepted.
    fn all(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .map(|issued| &*issued.token)
            .chain(self.1.as_deref())
    }

    /// What the guard writes; the secret of an administrator stays where it is.
    fn data(&self) -> BTreeMap<String, ByteString> {
        let text = serde_json::to_vec(&self.0).unwrap_or_default();
        [(KEY.to_owned(), ByteString(text))].into()
    }

    /// Whether another secret is to be made: there is none, or the newest is old, or older than
    /// this time, or was made by a clock that is far ahead.
    #[must_use]
    pub fn is_due(&self, now: Timestamp, times: &Times, not_before: Option<Timestamp>) -> bool {
        let Some(newest) = self.0.first() else {
            return true;
        };
        let age = now.duration_since(newest.made);
        let old = age >= times.life
            || not_before.is_some_and(|limit| newest.made < limit)
            || age < -times.life;
        // The one that is registered must stay until a successor is.
        old && self.0.len() < MAX_TOKENS
    }

    fn with_another(&self, now: Timestamp) -> Result<Self, CallersError> {
        let mut all = vec![Issued {
            token: make()?,
            made: now,
        }];
        all.extend(self.0.iter().take(MAX_TOKENS - 1).cloned());
        Ok(Self(all, self.1.clone()))
    }

    /// Which of them is to be registered, where these are: the newest that every replica knows.
    /// `None` if the API server still has to wait for that: what is registered is accepted a
    /// little longer.
    #[must_use]
    pub fn choice(&self, now: Timestamp, times: &Times, registered: &[&str]) -> Option<&str> {
        let newest = self
            .0
            .iter()
            .find(|issued| now.duration_since(issued.made) >= times.settle);
        let known = || {
            self.0
                .iter()
                .find(|issued| registered.contains(&&*issued.token))
        };
        // No one asks yet, and each replica that is ready has read the Secret.
        let first = || self.0.last().filter(|_| registered.is_empty());
        newest
            .or_else(known)
            .or_else(first)
            .map(|issued| &*issued.token)
    }

    /// Only those up to and including this one: the older ones are forgotten.
    fn up_to(&self, token: &str) -> Self {
        let count = self
            .0
            .iter()
            .position(|issued| issued.token == token)
            .map_or(self.0.len(), |at| at + 1);
        Self(self.0.iter().take(count).cloned().collect(), self.1.clone())
    }
}

fn is_token(text: &str) -> bool {
    text.len() == BYTES * 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn make() -> Result<String, CallersError> {
    let mut bytes = [0; BYTES];
    aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| CallersError::NoRandomness)?;
    Ok(hexadecimal(&bytes))
}

type Digest = [u8; 32];

fn digest(token: &str) -> Digest {
    Sha256::digest(token.as_bytes()).into()
}

/// What is accepted, and what was held in the Secret lately.
#[derive(Default)]
struct Accepted {
    digests: ArcSwap<Vec<Digest>>,
    /// When a secret that was removed from the Secret was last seen there.
    seen: Mutex<BTreeMap<Digest, Timestamp>>,
}

/// Who is answered; clones share it.
#[derive(Clone)]
pub enum Callers {
    /// Anybody, on the plain paths: without a cluster.
    Anybody,
    /// Anyone who knows the secret in the path.
    Known(AcceptedSecrets),
}

/// Secrets that are accepted.
#[derive(Clone, Default)]
pub struct AcceptedSecrets(Arc<Accepted>);

/// When the Secret was last read; clones share it.
#[derive(Clone)]
pub struct LastRead {
    at: Arc<Mutex<Instant>>,
    limit: Duration,
}

/// The secrets of the path were read too long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret path was not read for {seconds} s")]
pub struct Stale {
    /// How long ago.
    pub seconds: u64,
}

impl LastRead {
    fn now(limit: Duration) -> Self {
        Self {
            at: Arc::new(Mutex::new(Instant::now())),
            limit,
        }
    }

    fn note(&self, at: Instant) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Whether each secret that may be registered now was read. A replica that watches nothing
    /// either has less time: it can only judge by what was.
    ///
    /// # Errors
    /// If the last reading is so old that another secret may be registered soon.
    pub fn check(&self, is_unwatched: bool) -> Result<(), Stale> {
        let age = self
            .at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed();
        let limit = if is_unwatched {
            self.limit.min(POLL + POLL / 2)
        } else {
            self.limit
        };
        let seconds = age.as_secs();
        if age < limit {
            Ok(())
        } else {
            Err(Stale { seconds })
        }
    }
}

impl Callers {
    /// Whether a request on this path is answered: `/validate` and `/mutate` for anybody, else the
    /// same with a secret behind it. The time that this takes tells nothing about a secret.
    #[must_use]
    pub fn may_ask(&self, path: &str) -> bool {
        let rest = ["/validate", "/mutate"]
            .iter()
            .find_map(|prefix| path.strip_prefix(prefix));
        match (self, rest) {
            (_, None) => false,
            (Self::Anybody, Some(rest)) => rest.is_empty(),
            (Self::Known(known), Some(rest)) => rest
                .strip_prefix('/')
                .is_some_and(|shown| known.accepts(shown)),
        }
    }
}

impl AcceptedSecrets {
    fn accepts(&self, shown: &str) -> bool {
        // The length is not a secret.
        if shown.len() != BYTES * 2 {
            return false;
        }
        let shown = digest(shown);
        // Digests are compared, and all bytes of them: where two begin to differ tells nothing
        // about the secret.
        self.0.digests.load().iter().fold(false, |found, held| {
            found
                | (held
                    .iter()
                    .zip(&shown)
                    .fold(0, |differs, (one, other)| differs | (one ^ other))
                    == 0)
        })
    }

    /// Accepts these from now on. One that no longer exists is still accepted for `keep`: someone
    /// deleted the Secret, and the API server asks on the old path until the new one is registered.
    pub fn accept(&self, tokens: &Tokens, now: Timestamp, keep: SignedDuration) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for token in tokens.all() {
            seen.insert(digest(token), now);
        }
        seen.retain(|_, last| now.duration_since(*last) < keep);
        // A clock that jumped must not lock the API server out.
        for token in tokens.all() {
            seen.insert(digest(token), now);
        }
        self.0
            .digests
            .store(Arc::new(seen.keys().copied().collect()));
    }
}

/// Where the secrets are kept.
#[derive(Clone)]
pub struct PathSecret {
    /// The cluster.
    pub client: Client,
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
    /// How long phases last.
    pub times: Times,
}

impl PathSecret {
    /// The secrets; one is made where there is none. Of several replicas that start at once, one
    /// wins.
    ///
    /// # Errors
    /// Where the Secret may not be read or written.
    pub async fn ensure(&self, now: Timestamp) -> Result<Tokens, CallersError> {
        self.renewed(now, |tokens| tokens.0.is_empty()).await
    }

    /// The same, with a new one where that is due: the newest is old, or older than this time.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub async fn rotated(
        &self,
        now: Timestamp,
        not_before: Option<Timestamp>,
    ) -> Result<Tokens, CallersError> {
        self.renewed(now, |tokens| tokens.is_due(now, &self.times, not_before))
            .await
    }

    async fn renewed(
        &self,
        now: Timestamp,
        is_due: impl Fn(&Tokens) -> bool,
    ) -> Result<Tokens, CallersError> {
        for _ in 0..TRIES {
            let (version, tokens) = self.read().await?;
            if !is_due(&tokens) {
                return Ok(tokens);
            }
            let tokens = tokens.with_another(now)?;
            if self.write(version.as_deref(), &tokens).await? == Answer::Written {
                return Ok(tokens);
            }
        }
        Err(CallersError::Contended(self.name.clone()))
    }

    /// Forgets what is older than this one, which has been registered for long enough.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub async fn forget_before(&self, token: &str) -> Result<(), CallersError> {
        let (version, tokens) = self.read().await?;
        let kept = tokens.up_to(token);
        if kept != tokens && version.is_some() {
            // Where someone was faster, the next look comes back here.
            self.write(version.as_deref(), &kept).await?;
        }
        Ok(())
    }

    /// Accepts what the Secret holds, until the process ends. What fails is tried again; what was
    /// accepted before stays.
    pub async fn follow(self, known: AcceptedSecrets, last: LastRead) {
        let settle = Duration::try_from(self.times.settle).unwrap_or(POLL);
        let every = POLL.min(settle / 6).max(Duration::from_millis(50));
        let mut complaint = None;
        loop {
            tokio::time::sleep(if complaint.is_none() {
                every
            } else {
                every.min(RETRY)
            })
            .await;
            let (now, begun) = (Timestamp::now(), Instant::now());
            let read = timeout(DEADLINE, self.ensure(now)).await;
            if matches!(
                read,
                Ok(Err(CallersError::Cluster(ClusterError::Forbidden { .. })))
            ) {
                // The cluster answers. All replicas have the same rights, so no one makes another
                // secret.
                last.note(begun);
            }
            match read.map_or_else(
                |_| Err("no answer in time".to_owned()),
                |read| read.map_err(|error| error.to_string()),
            ) {
                Ok(tokens) => {
                    known.accept(&tokens, now, self.times.keep());
                    last.note(begun);
                    complaint = None;
                }
                Err(reason) => {
                    if complaint.as_ref() != Some(&reason) {
                        tracing::warn!(
                            reason,
                            "the secret path could not be read; the previous paths remain accepted"
                        );
                        complaint = Some(reason);
                    }
                }
            }
        }
    }

    fn what(&self) -> String {
        format!("Secret {} in namespace {}", self.name, self.namespace)
    }

    fn api(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Version and content; no version where the Secret does not exist.
    async fn read(&self) -> Result<(Option<String>, Tokens), ClusterError> {
        let found = self
            .api()
            .get_opt(&self.name)
            .await
            .map_err(|error| words(&error, "get", &self.what()))?;
        Ok(match found {
            None => (None, Tokens::default()),
            Some(found) => (
                found.metadata.resource_version,
                Tokens::of(&found.data.unwrap_or_default()),
            ),
        })
    }

    async fn write(&self, version: Option<&str>, tokens: &Tokens) -> Result<Answer, ClusterError> {
        let Some(version) = version else {
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    labels: Some([("app.kubernetes.io/managed-by".into(), MANAGER.into())].into()),
                    ..ObjectMeta::default()
                },
                data: Some(tokens.data()),
                ..Secret::default()
            };
            let params = PostParams {
                field_manager: Some(MANAGER.into()),
                ..PostParams::default()
            };
            let created = self.api().create(&params, &secret).await;
            return answer(created.map(|_| ()), "create", &self.what());
        };
        let patch = json!({"metadata": {"resourceVersion": version}, "data": tokens.data()});
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        let patched = self
            .api()
            .patch(&self.name, &params, &Patch::Merge(patch))
            .await;
        answer(patched.map(|_| ()), "patch", &self.what())
    }
}

impl Times {
    /// How long replicas accept a secret that was removed from the Secret: until its successor
    /// is registered, if someone deleted the Secret.
    #[must_use]
    pub fn keep(&self) -> SignedDuration {
        self.settle * 2
    }

    /// How old the last reading of the Secret may be. A secret is registered once it has settled:
    /// until then, kubelets and the Service have the other half of that time to take a replica
    /// away that does not know it.
    #[must_use]
    fn stale(&self) -> Duration {
        Duration::try_from(self.settle / 2)
            .unwrap_or_default()
            .max(RETRY)
    }

    /// A reading of this moment.
    #[must_use]
    pub fn read_now(&self) -> LastRead {
        LastRead::now(self.stale())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        life: SignedDuration::from_secs(3600),
        settle: SignedDuration::from_secs(60),
        grace: SignedDuration::from_secs(300),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn known(tokens: &Tokens, now: Timestamp) -> AcceptedSecrets {
        let known = AcceptedSecrets::default();
        known.accept(tokens, now, TIMES.keep());
        known
    }

    fn path(tokens: &Tokens, index: usize) -> String {
        format!("/validate/{}", tokens.0[index].token)
    }

    #[test]
    fn a_secret_is_made_settles_and_is_replaced() {
        let first = Tokens::default().with_another(at(0)).unwrap();
        assert!(
            Tokens::default().is_due(at(0), &TIMES, None) && !first.is_due(at(3599), &TIMES, None)
        );
        assert!(first.is_due(at(3600), &TIMES, None), "it is old");
        assert!(
            first.is_due(at(5), &TIMES, Some(at(1))),
            "another replica leads now"
        );
        let only = first.0[0].token.as_str();
        assert!(
            first.choice(at(0), &TIMES, &[]) == Some(only),
            "no one asks yet"
        );
        assert!(
            first.choice(at(0), &TIMES, &["x", only]) == Some(only),
            "it is registered already"
        );
        assert!(
            first.choice(at(59), &TIMES, &["x"]).is_none(),
            "the Secret was deleted: replicas must learn of the new one"
        );
        assert!(first.choice(at(60), &TIMES, &["x"]) == Some(only));
        let second = first.with_another(at(3600)).unwrap();
        assert_ne!(second.0[0].token, second.0[1].token);
        assert!(
            second.choice(at(3659), &TIMES, &[only]) == Some(only),
            "not all replicas know the new one"
        );
        assert!(second.choice(at(3660), &TIMES, &[only]) == Some(&second.0[0].token));
        assert_eq!(second.up_to(&second.0[0].token).0.len(), 1);
        assert!(second.up_to(&first.0[0].token) == second && second.up_to("unknown") == second);
        assert!(Tokens::of(&second.data()) == second);
        assert!(
            Tokens::of(&[(KEY.to_owned(), ByteString(b"garbage".to_vec()))].into())
                == Tokens::default()
        );
    }

    #[test]
    fn a_replica_that_reads_nothing_is_known_before_another_secret_can_be_registered() {
        assert!(TIMES.stale() < Duration::try_from(TIMES.settle).unwrap());
        let last = TIMES.read_now();
        assert_eq!(last.check(true), Ok(()));
        last.note(Instant::now().checked_sub(TIMES.stale() / 2).unwrap());
        assert_eq!(last.check(false), Ok(()));
        assert_eq!(last.check(true), Err(Stale { seconds: 15 }));
        last.note(Instant::now().checked_sub(TIMES.stale()).unwrap());
        assert_eq!(last.check(false), Err(Stale { seconds: 30 }));
        assert!(
            Times {
                settle: SignedDuration::ZERO,
                ..TIMES
            }
            .stale()
                >= RETRY,
            "a replica can become ready"
        );
    }

    #[test]
    fn the_secret_of_an_administrator_is_accepted_and_stays() {
        let own = "a".repeat(64);
        let held = |text: &str| {
            Tokens::of(&[(STATIC.to_owned(), ByteString(text.as_bytes().to_vec()))].into())
        };
        let tokens = held(&format!("{own}\n")).with_another(at(0)).unwrap();
        let callers = |tokens: &Tokens| Callers::Known(known(tokens, at(0)));
        let path = format!("/validate/{own}");
        assert!(
            callers(&tokens).may_ask(&path)
                && callers(&tokens.up_to(&tokens.0[0].token)).may_ask(&path)
        );
        assert!(
            !tokens.data().contains_key(STATIC),
            "the guard writes its own"
        );
        assert!(
            tokens.choice(at(60), &TIMES, &["x"]) == Some(&tokens.0[0].token),
            "it is never registered by the guard"
        );
        for wrong in ["", "/", &own[..63], &format!("{own}a")] {
            assert!(held(wrong) == Tokens::default(), "{wrong}");
        }
    }

    #[test]
    fn leaders_that_take_turns_do_not_fill_the_secret() {
        let mut tokens = Tokens::default();
        for second in 0..100 {
            if tokens.is_due(at(second), &TIMES, Some(at(second))) {
                tokens = tokens.with_another(at(second)).unwrap();
            }
        }
        assert_eq!(tokens.0.len(), MAX_TOKENS);
        // The first one is registered, and stays until a later one has settled.
        let first = tokens.0.last().unwrap().token.clone();
        assert!(tokens.choice(at(30), &TIMES, &[&first]) == Some(&first));
    }

    #[test]
    fn only_a_path_with_a_secret_is_answered() {
        let tokens = Tokens::default().with_another(at(0)).unwrap();
        let token = tokens.0[0].token.clone();
        let callers = Callers::Known(known(&tokens, at(0)));
        assert!(
            callers.may_ask(&format!("/validate/{token}"))
                && callers.may_ask(&format!("/mutate/{token}"))
        );
        let near = format!(
            "{}{}",
            &token[..63],
            if token.ends_with('0') { '1' } else { '0' }
        );
        for path in [
            "/validate".to_owned(),
            "/validate/".to_owned(),
            format!("/validate{token}"),
            format!("/validate//{token}"),
            format!("/validate/{near}"),
            format!("/validate/{}", &token[..63]),
            format!("/validate/{token}0"),
            format!("/validate/{token}/"),
            format!(
                "/validate/{}",
                token.to_uppercase().replace(char::is_numeric, "A")
            ),
            format!("/other/{token}"),
            format!("/{token}"),
            "/validate/%00".to_owned(),
        ] {
            assert!(!callers.may_ask(&path), "{path}");
        }
        assert!(
            !Callers::Known(AcceptedSecrets::default()).may_ask("/validate"),
            "no secret yet: no one is answered"
        );
        assert!(
            Callers::Anybody.may_ask("/mutate")
                && !Callers::Anybody.may_ask(&format!("/mutate/{token}"))
        );
        assert!(!format!("{tokens:?}").contains(&token[..8]));
    }

    #[test]
    fn an_old_secret_is_refused_and_a_deleted_one_a_little_later() {
        let first = Tokens::default().with_another(at(0)).unwrap();
        let both = first.with_another(at(10)).unwrap();
        let known = known(&both, at(10));
        let callers = Callers::Known(known.clone());
        assert!(callers.may_ask(&path(&both, 0)) && callers.may_ask(&path(&both, 1)));
        known.accept(&both.up_to(&both.0[0].token), at(20), TIMES.keep());
        assert!(
            callers.may_ask(&path(&both, 1)),
            "the API server may have it still"
        );
        known.accept(&both.up_to(&both.0[0].token), at(140), TIMES.keep());
        assert!(callers.may_ask(&path(&both, 0)) && !callers.may_ask(&path(&both, 1)));
        // A clock that goes back, or far ahead, leaves what the Secret holds.
        for now in [at(-100_000), at(100_000)] {
            known.accept(&both, now, TIMES.keep());
            assert!(callers.may_ask(&path(&both, 0)) && callers.may_ask(&path(&both, 1)));
        }
    }
}
