//! What the Secret of the managed mode holds, and how a step of the rotation changes it. Pure:
//! reading and writing is done elsewhere.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;

use super::{
    authority::{Authority, BACKDATE, Pair},
    error::CertError,
    rotation::{Leaf, Names, Registration, Signing, Span, State, Step},
    store::Certificate,
    x509,
};

const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The authorities that clients are to trust, the newest first.
const AUTHORITIES: &str = "ca.crt";
/// The key of the newest of them.
const AUTHORITY_KEY: &str = "ca.key";

const END: &str = "-----END CERTIFICATE-----";

/// What the Secret holds.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    authorities: Vec<String>,
    authority_key: String,
    pair: Option<Pair>,
}

/// The data of a Secret.
pub(super) type Data = BTreeMap<String, ByteString>;

impl Content {
    /// Reads a Secret's data. What is damaged counts as missing: it is made again.
    pub(super) fn of(data: &Data) -> Self {
        let text = |key: &str| {
            data.get(key)
                .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
                .unwrap_or_default()
        };
        let (cert_pem, key_pem) = (text(CERT), text(KEY));
        let is_pair = Certificate::from_pem(cert_pem.as_bytes(), key_pem.as_bytes()).is_ok();
        Self {
            authorities: text(AUTHORITIES)
                .split_inclusive(END)
                .map(|pem| format!("{}\n", pem.trim()))
                .filter(|pem| x509::chain(pem.as_bytes()).is_ok())
                .collect(),
            authority_key: text(AUTHORITY_KEY),
            pair: is_pair.then_some(Pair { cert_pem, key_pem }),
        }
    }

    /// Whether another client's certificate lies there, which must not be overwritten.
    pub(super) fn is_foreign(data: &Data) -> bool {
        let holds = |key: &str| data.get(key).is_some_and(|bytes| !bytes.0.is_empty());
        (holds(CERT) || holds(KEY)) && !holds(AUTHORITY_KEY)
    }

    /// As a Secret's data.
    pub(super) fn data(&self) -> Data {
        let (cert, key) = self
            .pair
            .as_ref()
            .map_or(("", ""), |pair| (&pair.cert_pem, &pair.key_pem));
        let authorities = self.bundle();
        [
            (CERT, cert),
            (KEY, key),
            (AUTHORITIES, &authorities),
            (AUTHORITY_KEY, &self.authority_key),
        ]
        .map(|(name, text)| (name.to_owned(), ByteString(text.as_bytes().to_vec())))
        .into()
    }

    /// What clients are to trust, PEM.
    pub(super) fn bundle(&self) -> String {
        self.authorities.concat()
    }

    /// The certificate to serve, where there is one.
    pub(super) fn certificate(&self) -> Option<Certificate> {
        let pair = self.pair.as_ref()?;
        Certificate::from_pem(pair.cert_pem.as_bytes(), pair.key_pem.as_bytes()).ok()
    }

    /// Until when the newest authority is valid.
    pub(super) fn authority_not_after(&self) -> Option<Timestamp> {
        Some(span(self.authorities.first()?)?.not_after)
    }

    /// What the decision needs of it.
    pub(super) fn state(&self, names: &[String], registration: Registration) -> State {
        let signing = match self
            .authorities
            .first()
            .map(|newest| Authority::load(newest, &self.authority_key))
        {
            Some(Ok(_)) => Signing::Ready,
            Some(Err(_)) | None => Signing::Lost,
        };
        let authorities = self
            .authorities
            .iter()
            .filter_map(|pem| span(pem))
            .collect();
        State {
            authorities,
            signing,
            leaf: self.leaf(names),
            registration,
        }
    }

    fn leaf(&self, names: &[String]) -> Option<Leaf> {
        let der = x509::chain(self.pair.as_ref()?.cert_pem.as_bytes())
            .ok()?
            .into_iter()
            .next()?;
        let span = x509::span(&der, 1).ok()?;
        let signed = |pem: &String| {
            x509::chain(pem.as_bytes()).is_ok_and(|chain| x509::is_issued_by(&der, &chain[0]))
        };
        Some(Leaf {
            span,
            made: span
                .not_before
                .checked_add(SignedDuration::from_secs(BACKDATE))
                .unwrap_or(span.not_before),
            issuer: self.authorities.iter().position(signed),
            names: if x509::has_names(&der, names) {
                Names::Complete
            } else {
                Names::Missing
            },
        })
    }

    /// What it is after a step; the same where the step does not concern it.
    ///
    /// # Errors
    /// Where a certificate cannot be made.
    pub(super) fn after(
        &self,
        step: Step,
        names: &[String],
        now: Timestamp,
    ) -> Result<Self, CertError> {
        Ok(match step {
            Step::Create => {
                let authority = Authority::make(now)?;
                Self {
                    authorities: vec![authority.cert_pem().to_owned()],
                    authority_key: authority.key_pem(),
                    pair: Some(authority.leaf(names, now)?),
                }
            }
            Step::AddAuthority => {
                let authority = Authority::make(now)?;
                // An expired one is trusted by no one.
                let still = |pem: &&String| span(pem).is_some_and(|span| now <= span.not_after);
                let mut authorities = vec![authority.cert_pem().to_owned()];
                authorities.extend(self.authorities.iter().filter(still).cloned());
                Self {
                    authorities,
                    authority_key: authority.key_pem(),
                    pair: self.pair.clone(),
                }
            }
            Step::RenewLeaf => {
                let newest = self.authorities.first().map_or("", String::as_str);
                let pair = Authority::load(newest, &self.authority_key)?.leaf(names, now)?;
                Self {
                    pair: Some(pair),
                    ..self.clone()
                }
            }
            Step::DropAuthorities => Self {
                authorities: self.authorities.iter().take(1).cloned().collect(),
                ..self.clone()
            },
            Step::Register | Step::Wait => self.clone(),
        })
    }
}

fn span(pem: &str) -> Option<Span> {
    x509::span(x509::chain(pem.as_bytes()).ok()?.first()?, 1).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::certs::rotation::next;

    const NAMES: [&str; 2] = ["milvus-guard.milvus-guard.svc", "milvus-guard.milvus-guard"];

    fn names() -> Vec<String> {
        NAMES.map(str::to_owned).to_vec()
    }

    /// What there is outside of a replica: the Secret, what clients trust, the time.
    struct ServerState {
        data: Data,
        trusted: String,
        now: Timestamp,
    }

    impl ServerState {
        fn new() -> Self {
            Self {
                data: Data::new(),
                trusted: String::new(),
                now: "2026-03-01T00:00:00Z".parse().unwrap(),
            }
        }

        fn later(&mut self, seconds: i64) {
            self.now = self
                .now
                .checked_add(SignedDuration::from_secs(seconds))
                .unwrap();
        }

        /// Does the next step, `most` steps at most, as a replica that knows since when clients
        /// trust what they do.
        fn work(&mut self, since: Timestamp, most: usize) -> Vec<Step> {
            let mut steps = Vec::new();
            while steps.len() < most {
                let content = Content::of(&self.data);
                let carried = content.bundle() == self.trusted;
                let registration = if carried {
                    Registration::Carried { since }
                } else {
                    Registration::Differs
                };
                let step = next(&content.state(&names(), registration), self.now);
                match step {
                    Step::Wait => break,
                    Step::Register => self.trusted = content.bundle(),
                    _ => self.data = content.after(step, &names(), self.now).unwrap().data(),
                }
                steps.push(step);
            }
            steps
        }

        /// Whether clients accept what is served.
        fn works(&self) -> bool {
            let leaf = x509::chain(&self.data["tls.crt"].0).unwrap().remove(0);
            let valid = |der| x509::span(der, 1).is_ok_and(|span| span.is_valid_at(self.now));
            let trusted = x509::chain(self.trusted.as_bytes()).unwrap_or_default();
            valid(&leaf)
                && trusted
                    .iter()
                    .any(|authority| valid(authority) && x509::is_issued_by(&leaf, authority))
        }
    }

    #[test]
    fn the_first_steps() {
        let mut world = ServerState::new();
        let now = world.now;
        assert_eq!(world.work(now, 9), [Step::Create, Step::Register]);
        assert!(world.works());
        assert_eq!(
            world.data.keys().collect::<Vec<_>>(),
            ["ca.crt", "ca.key", "tls.crt", "tls.key"]
        );
        assert!(
            !Content::is_foreign(&world.data) && Content::of(&world.data).certificate().is_some()
        );
    }

    /// A replica that dies after each `most`th step and forgets, looked at over two years.
    #[rstest]
    #[case::never(9)]
    #[case::after_each_step(1)]
    #[case::after_two_steps(2)]
    fn clients_always_trust_what_is_served(#[case] most: usize) {
        let mut world = ServerState::new();
        let begin = world.now;
        world.work(begin, 9);
        let (mut since, mut added, mut widest) = (begin, 0, 0);
        while world.now.duration_since(begin).as_hours() < 2 * 365 * 24 {
            let steps = world.work(since, most);
            assert!(world.works(), "{} after {steps:?}", world.now);
            assert!(!steps.contains(&Step::Create), "{}", world.now);
            added += steps
                .iter()
                .filter(|step| **step == Step::AddAuthority)
                .count();
            let content = Content::of(&world.data);
            widest = widest.max(content.authorities.len());
            if steps.contains(&Step::Register) {
                since = world.now;
            }
            // In the middle of something the next looks follow closely, else a day passes.
            world.later(if steps.is_empty() && content.authorities.len() == 1 {
                24 * 60 * 60
            } else {
                30
            });
        }
        assert_eq!(
            (added, widest),
            (2, 2),
            "two rotations, each with two authorities side by side"
        );
    }

    #[test]
    fn what_is_damaged_is_made_again() {
        let mut world = ServerState::new();
        let now = world.now;
        world.work(now, 9);
        let healthy = world.data.clone();
        world
            .data
            .insert(KEY.into(), ByteString(b"garbage".to_vec()));
        assert_eq!(world.work(now, 9), [Step::RenewLeaf]);
        assert!(world.works());
        world.data = healthy.clone();
        world
            .data
            .insert(AUTHORITY_KEY.into(), ByteString(b"garbage".to_vec()));
        assert_eq!(
            world.work(world.now, 2),
            [Step::AddAuthority, Step::Register]
        );
        assert!(world.works());
        world.data = healthy;
        world
            .data
            .insert(AUTHORITIES.into(), ByteString(b"garbage".to_vec()));
        assert_eq!(world.work(world.now, 9), [Step::Create, Step::Register]);
        assert!(world.works());
    }

    #[test]
    fn a_certificate_of_another_issuer_is_known() {
        let mut world = ServerState::new();
        let now = world.now;
        world.work(now, 9);
        world
            .data
            .insert(AUTHORITY_KEY.into(), ByteString(Vec::new()));
        assert!(Content::is_foreign(&world.data), "as cert-manager's");
        assert!(!Content::is_foreign(&Data::new()), "as the chart makes it");
        assert!(
            !Content::is_foreign(&[(CERT.to_owned(), ByteString::default())].into()),
            "type kubernetes.io/tls needs keys"
        );
    }
}
