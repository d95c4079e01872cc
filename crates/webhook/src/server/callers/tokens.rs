//! The path secrets in a Secret, and which of them must be registered at what time. Pure.

use std::{collections::BTreeMap, fmt};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use rustls::crypto::aws_lc_rs;
use serde::{Deserialize, Serialize};

use milvus_guard_core::text::hexadecimal;

/// Key of the Secret.
const KEY: &str = "tokens";
/// Key for a separate secret of an administrator: for a registration in files of the API server,
/// which the guard cannot change. The guard never replaces this secret.
pub(super) const STATIC: &str = "static";
/// Bytes of a secret: 256 random bits.
const BYTES: usize = 32;
/// Most secrets that are valid at once. Frequent changes of the leader must not fill the Secret.
const MAX_TOKENS: usize = 4;

/// The system provided no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system did not provide random numbers for a secret path")]
pub struct NoRandomness;

/// Durations of the phases of a secret.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Time after which a new secret is made.
    pub life: SignedDuration,
    /// How long replicas have to read a new one before it is registered.
    pub settle: SignedDuration,
    /// How long an old one is still accepted after the new one was registered: API servers get a
    /// new registration within a second through their watch, and within 30 seconds after a broken
    /// watch.
    pub grace: SignedDuration,
}

impl Times {
    /// How long replicas accept a secret that was removed from the Secret: if a user deletes the
    /// Secret, until the next secret is registered.
    #[must_use]
    pub fn keep(&self) -> SignedDuration {
        self.settle * 2
    }
}

/// A secret and when it was made. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Issued {
    token: String,
    made: Timestamp,
}

/// The secrets in the Secret: those of the guard, the newest first, and that of an administrator.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tokens(Vec<Issued>, Option<String>);

impl fmt::Debug for Tokens {
    // Not derived, so that no secret can reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} of them)", self.0.len())
    }
}

impl Tokens {
    pub(super) fn of(data: &BTreeMap<String, ByteString>) -> Self {
        // Damaged data counts as missing: a new secret is made.
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
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .map(|issued| &*issued.token)
            .chain(self.1.as_deref())
    }

    /// Whether the guard made one of them.
    pub(super) const fn has_own(&self) -> bool {
        !self.0.is_empty()
    }

    /// The data that the guard writes; the secret of an administrator is not changed.
    pub(super) fn data(&self) -> BTreeMap<String, ByteString> {
        let text = serde_json::to_vec(&self.0).unwrap_or_default();
        [(KEY.to_owned(), ByteString(text))].into()
    }

    /// Whether a new secret must be made: there is none, or the newest is too old, or older than
    /// `not_before`, or from a clock that is far ahead.
    #[must_use]
    pub fn is_due(&self, now: Timestamp, times: &Times, not_before: Option<Timestamp>) -> bool {
        let Some(newest) = self.0.first() else {
            return true;
        };
        let age = now.duration_since(newest.made);
        let old = age >= times.life
            || not_before.is_some_and(|limit| newest.made < limit)
            || age < -times.life;
        // The registered secret must stay until a newer one is registered.
        old && self.0.len() < MAX_TOKENS
    }

    pub(super) fn with_another(&self, now: Timestamp) -> Result<Self, NoRandomness> {
        let mut all = vec![Issued {
            token: make()?,
            made: now,
        }];
        all.extend(self.0.iter().take(MAX_TOKENS - 1).cloned());
        Ok(Self(all, self.1.clone()))
    }

    /// The secret to register if these are `registered`: the newest that every replica knows.
    /// `None` if replicas do not know it yet: the registered secrets are still accepted.
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
        // There are no callers yet, and each ready replica has read the Secret.
        let first = || self.0.last().filter(|_| registered.is_empty());
        newest
            .or_else(known)
            .or_else(first)
            .map(|issued| &*issued.token)
    }

    /// This secret and the newer ones, without the older ones.
    pub(super) fn up_to(&self, token: &str) -> Self {
        let count = self
            .0
            .iter()
            .position(|issued| issued.token == token)
            .map_or(self.0.len(), |at| at + 1);
        Self(self.0.iter().take(count).cloned().collect(), self.1.clone())
    }
}

/// Whether a text has the length of a secret. The length itself is public.
pub(super) const fn has_length(text: &str) -> bool {
    text.len() == BYTES * 2
}

fn is_token(text: &str) -> bool {
    has_length(text) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn make() -> Result<String, NoRandomness> {
    let mut bytes = [0; BYTES];
    aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| NoRandomness)?;
    Ok(hexadecimal(&bytes))
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{TIMES, at},
        *,
    };

    #[test]
    fn a_new_secret_is_registered_after_it_settled_and_replaces_the_old_one() {
        let first = Tokens::default().with_another(at(0)).unwrap();
        assert!(
            Tokens::default().is_due(at(0), &TIMES, None) && !first.is_due(at(3599), &TIMES, None)
        );
        assert!(
            first.is_due(at(3600), &TIMES, None),
            "the secret is too old"
        );
        assert!(
            first.is_due(at(5), &TIMES, Some(at(1))),
            "another replica leads now"
        );
        let only = first.0[0].token.as_str();
        assert!(
            first.choice(at(0), &TIMES, &[]) == Some(only),
            "there are no callers yet"
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
    fn frequent_changes_of_the_leader_do_not_fill_the_secret() {
        let mut tokens = Tokens::default();
        for second in 0..100 {
            if tokens.is_due(at(second), &TIMES, Some(at(second))) {
                tokens = tokens.with_another(at(second)).unwrap();
            }
        }
        assert_eq!(tokens.0.len(), MAX_TOKENS);
        // The first secret is registered, and stays until a later one has settled.
        let first = tokens.0.last().unwrap().token.clone();
        assert!(tokens.choice(at(30), &TIMES, &[&first]) == Some(&first));
    }

    #[test]
    fn invalid_secrets_of_an_administrator_are_ignored() {
        let own = "a".repeat(64);
        let held = |text: &str| {
            Tokens::of(&[(STATIC.to_owned(), ByteString(text.as_bytes().to_vec()))].into())
        };
        assert!(held(&own).all().eq([own.as_str()]));
        for wrong in ["", "/", &own[..63], &format!("{own}a")] {
            assert!(held(wrong) == Tokens::default(), "{wrong}");
        }
    }
}
