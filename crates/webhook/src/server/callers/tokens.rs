//! The secrets that a Secret holds, and which of them is to be registered when. Pure.

use std::{collections::BTreeMap, fmt};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use rustls::crypto::aws_lc_rs;
use serde::{Deserialize, Serialize};

use milvus_guard_core::text::hexadecimal;

/// Key of the Secret.
const KEY: &str = "tokens";
/// Key under which an administrator puts a separate secret into the Secret: for a registration
/// in files of the API server, which the guard cannot change. The guard never replaces it.
pub(super) const STATIC: &str = "static";
/// Bytes of a secret: 256 bits that no one guesses.
const BYTES: usize = 32;
/// Secrets that hold at once. Leaders that take turns every minute must not fill the Secret.
const MAX_TOKENS: usize = 4;

/// The system has no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system did not provide random numbers for a secret path")]
pub struct NoRandomness;

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

impl Times {
    /// How long replicas accept a secret that was removed from the Secret: until its successor
    /// is registered, if someone deleted the Secret.
    #[must_use]
    pub fn keep(&self) -> SignedDuration {
        self.settle * 2
    }
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
    pub(super) fn of(data: &BTreeMap<String, ByteString>) -> Self {
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

    /// What the guard writes; the secret of an administrator stays where it is.
    pub(super) fn data(&self) -> BTreeMap<String, ByteString> {
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

    pub(super) fn with_another(&self, now: Timestamp) -> Result<Self, NoRandomness> {
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
    pub(super) fn up_to(&self, token: &str) -> Self {
        let count = self
            .0
            .iter()
            .position(|issued| issued.token == token)
            .map_or(self.0.len(), |at| at + 1);
        Self(self.0.iter().take(count).cloned().collect(), self.1.clone())
    }
}

/// Whether it has the length of a secret, which is not a secret itself.
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
    fn what_is_not_a_secret_of_an_administrator_is_left_out() {
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
