//! Which path secrets are accepted, and so which callers are answered.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::tokens::{Tokens, has_length};

type Digest = [u8; 32];

fn digest(token: &str) -> Digest {
    Sha256::digest(token.as_bytes()).into()
}

/// The accepted secrets, and those that were in the Secret recently.
#[derive(Default)]
struct Accepted {
    digests: ArcSwap<Vec<Digest>>,
    /// When a secret that was removed from the Secret was last seen there.
    seen: Mutex<BTreeMap<Digest, Timestamp>>,
}

/// Which callers are answered; clones share it.
#[derive(Clone)]
pub enum Callers {
    /// All callers, on the plain paths: without a cluster.
    Anybody,
    /// Callers that know the secret in the path.
    Known(AcceptedSecrets),
}

/// Secrets that are accepted.
#[derive(Clone, Default)]
pub struct AcceptedSecrets(Arc<Accepted>);

impl Callers {
    /// Whether a request on this path is answered: `/validate` and `/mutate` for all callers, else
    /// these paths followed by a secret. The time that this takes reveals nothing about a secret.
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
        if !has_length(shown) {
            return false;
        }
        let shown = digest(shown);
        // Compares all bytes of digests: the first difference of two digests reveals nothing
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

    /// Accepts these from now on. Removed secrets are still accepted for `keep`: if a user deletes
    /// the Secret, the API server uses the old path until the new one is registered.
    pub fn accept(&self, tokens: &Tokens, now: Timestamp, keep: SignedDuration) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for token in tokens.all() {
            seen.insert(digest(token), now);
        }
        seen.retain(|_, last| now.duration_since(*last) < keep);
        // A jump of the clock must not make the guard refuse the API server.
        for token in tokens.all() {
            seen.insert(digest(token), now);
        }
        self.0
            .digests
            .store(Arc::new(seen.keys().copied().collect()));
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::{
        super::{
            testing::{TIMES, at},
            tokens::STATIC,
        },
        *,
    };

    fn known(tokens: &Tokens, now: Timestamp) -> AcceptedSecrets {
        let known = AcceptedSecrets::default();
        known.accept(tokens, now, TIMES.keep());
        known
    }

    fn token(tokens: &Tokens, index: usize) -> &str {
        tokens.all().nth(index).unwrap()
    }

    fn path(tokens: &Tokens, index: usize) -> String {
        format!("/validate/{}", token(tokens, index))
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
                && callers(&tokens.up_to(token(&tokens, 0))).may_ask(&path)
        );
        assert!(
            !tokens.data().contains_key(STATIC),
            "the guard writes only its own secrets"
        );
        assert!(
            tokens.choice(at(60), &TIMES, &["x"]) == Some(token(&tokens, 0)),
            "the guard never registers it"
        );
    }

    #[test]
    fn only_a_path_with_a_secret_is_answered() {
        let tokens = Tokens::default().with_another(at(0)).unwrap();
        let token = token(&tokens, 0).to_owned();
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
            "there is no secret yet: no caller is answered"
        );
        assert!(
            Callers::Anybody.may_ask("/mutate")
                && !Callers::Anybody.may_ask(&format!("/mutate/{token}"))
        );
        assert!(!format!("{tokens:?}").contains(&token[..8]));
    }

    #[test]
    fn a_removed_secret_is_accepted_until_its_time_is_over() {
        let first = Tokens::default().with_another(at(0)).unwrap();
        let both = first.with_another(at(10)).unwrap();
        let known = known(&both, at(10));
        let callers = Callers::Known(known.clone());
        assert!(callers.may_ask(&path(&both, 0)) && callers.may_ask(&path(&both, 1)));
        known.accept(&both.up_to(token(&both, 0)), at(20), TIMES.keep());
        assert!(
            callers.may_ask(&path(&both, 1)),
            "the API server may still use it"
        );
        known.accept(&both.up_to(token(&both, 0)), at(140), TIMES.keep());
        assert!(callers.may_ask(&path(&both, 0)) && !callers.may_ask(&path(&both, 1)));
        // After a jump of the clock, back or far ahead, the secrets in the Secret are accepted.
        for now in [at(-100_000), at(100_000)] {
            known.accept(&both, now, TIMES.keep());
            assert!(callers.may_ask(&path(&both, 0)) && callers.may_ask(&path(&both, 1)));
        }
    }
}
