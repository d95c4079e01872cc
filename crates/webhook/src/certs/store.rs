//! A certificate with its key, and the place from which TLS takes the current one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rustls::{
    Error as TlsError, InconsistentKeys,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};

use milvus_guard_core::text::hexadecimal;

use super::{
    error::CertError,
    rotation::{Span, Step},
    x509,
};

/// A chain and the key of its first certificate, ready to serve.
pub struct Certificate {
    key: Arc<CertifiedKey>,
    span: Span,
    digest: String,
}

impl Certificate {
    /// Reads a chain (the server's certificate first) and its key. The dates are not judged here.
    ///
    /// # Errors
    /// Where either is missing or damaged, or the key belongs to another certificate.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, CertError> {
        let chain = x509::chain(cert)?;
        let span = x509::span(&chain[0], 1)?;
        let secret = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertError::NoKey)?;
        let key_of_chain = CertifiedKey::from_der(chain, secret, &aws_lc_rs::default_provider())
            .map_err(|error| match error {
                TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => CertError::Mismatch,
                other => CertError::BadKey(other.to_string()),
            })?;
        Ok(Self {
            key: Arc::new(key_of_chain),
            span,
            digest: digest(cert, key),
        })
    }

    /// Until when the server's certificate is valid.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.span.not_after
    }

    /// From when on the server's certificate is valid.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.span.not_before
    }

    /// SHA-256 over both PEM texts, in hex: tells one pair from another.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether the server's certificate is valid at this time.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.span.is_valid_at(now)
    }

    /// Refuses a certificate that no client would accept now.
    ///
    /// # Errors
    /// Where it has expired or is not valid yet.
    pub fn check_dates(&self, now: Timestamp) -> Result<(), CertError> {
        if now < self.span.not_before {
            return Err(CertError::NotYetValid(self.span.not_before));
        }
        if now > self.span.not_after {
            return Err(CertError::Expired(self.span.not_after));
        }
        Ok(())
    }
}

impl fmt::Debug for Certificate {
    // By hand, so that no key can reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("span", &self.span)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// SHA-256 over two texts, in hex. The length keeps a byte that moves from one to the other from
/// going unseen.
pub(super) fn digest(cert: &[u8], key: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(cert.len().to_le_bytes());
    hash.update(cert);
    hash.update(key);
    hexadecimal(&hash.finalize())
}

/// What happened to the certificate, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// A new certificate is served from now on.
    Loaded {
        /// Until when it is valid.
        not_after: Timestamp,
        /// Of the pair.
        digest: String,
    },
    /// Something is wrong, and what was served before still is. Said once for each cause.
    Kept {
        /// In words for people.
        reason: String,
    },
    /// This replica leads and took a step of the rotation.
    Stepped(Step),
}

/// How the certificate stands, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Until when the served certificate is valid.
    pub not_after: Option<Timestamp>,
    /// Until when the newest authority registered in the webhook configurations is valid. Known to
    /// the leading replica of the managed mode.
    pub authority_not_after: Option<Timestamp>,
    /// How often something new could not be used.
    pub reload_failures: u64,
}

/// What an offered certificate led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is served from now on.
    Taken,
    /// It was served before.
    Known,
}

#[derive(Debug, Default)]
struct Inner {
    current: ArcSwapOption<Certificate>,
    authority_not_after: ArcSwapOption<Timestamp>,
    reload_failures: AtomicU64,
}

/// Holds the current certificate; clones share it. A swap takes effect with the next handshake,
/// open connections stay.
#[derive(Clone, Debug, Default)]
pub struct CertStore(Arc<Inner>);

impl CertStore {
    /// A store without a certificate; handshakes fail until there is one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves a certificate from now on, regardless of its dates.
    pub fn put(&self, certificate: Certificate) {
        self.0.current.store(Some(Arc::new(certificate)));
    }

    /// Serves a certificate if it is another one and clients would accept it now.
    ///
    /// # Errors
    /// Where it is another one that has expired or is not valid yet; the one before is kept.
    pub fn offer(&self, certificate: Certificate, now: Timestamp) -> Result<Offer, CertError> {
        if self
            .current()
            .is_some_and(|current| current.digest == certificate.digest)
        {
            return Ok(Offer::Known);
        }
        certificate.check_dates(now)?;
        self.put(certificate);
        Ok(Offer::Taken)
    }

    /// The certificate that is served.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Certificate>> {
        self.0.current.load_full()
    }

    /// How the certificate stands.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            not_after: self.current().map(|current| current.not_after()),
            authority_not_after: self.0.authority_not_after.load().as_deref().copied(),
            reload_failures: self.0.reload_failures.load(Ordering::Relaxed),
        }
    }

    /// Notes what clients trust; `None` if that is not known.
    pub(super) fn registered(&self, authority_not_after: Option<Timestamp>) {
        self.0
            .authority_not_after
            .store(authority_not_after.map(Arc::new));
    }

    /// Counts a failure and words it for the log.
    pub(super) fn kept(&self, reason: String) -> Reload {
        self.0.reload_failures.fetch_add(1, Ordering::Relaxed);
        Reload::Kept { reason }
    }

    /// Words what is served for the log.
    pub(super) fn loaded(&self) -> Option<Reload> {
        let current = self.current()?;
        Some(Reload::Loaded {
            not_after: current.not_after(),
            digest: current.digest.clone(),
        })
    }
}

impl ResolvesServerCert for CertStore {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current.load().as_ref()?.key))
    }
}
