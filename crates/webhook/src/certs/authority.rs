//! Makes authorities and certificates. The clock is a parameter; the randomness of keys is all that
//! comes from outside.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use sha2::{Digest, Sha256};

use milvus_guard_core::text::hexadecimal;

use super::{error::CertError, x509};

const DAY: i64 = 24 * 60 * 60;
/// Seconds that an authority lives: a year. It is replaced after two thirds, so an installation
/// that was switched off for four months still comes back with an authority that clients trust.
pub const AUTHORITY_LIFE: i64 = 365 * DAY;
/// Seconds that a certificate lives: 30 days. It is replaced after 20, so a fault may last ten days
/// before anybody notices.
pub const LEAF_LIFE: i64 = 30 * DAY;
/// Seconds by which certificates are older than they are, for clients whose clock is behind. An
/// hour covers what is left where someone confuses summer time with winter time; NTP keeps the
/// others within a second.
pub const BACKDATE: i64 = 60 * 60;

// An authority that is not yet due must outlive each certificate that it signs.
const _: () = assert!(AUTHORITY_LIFE / 3 > LEAF_LIFE + BACKDATE);

/// Last second of the year 9998: X.509 ends a year later.
const END_OF_TIME: i64 = 253_370_764_799;

/// A certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// Its key, PEM.
    pub key_pem: String,
}

impl fmt::Debug for Pair {
    // By hand, so that no key can reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

/// A certificate authority of the guard's own, on ECDSA P-256.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
}

impl Authority {
    /// Makes an authority for [`AUTHORITY_LIFE`].
    ///
    /// # Errors
    /// Where the clock shows a time that no certificate can hold, or there is no randomness.
    pub fn make(now: Timestamp) -> Result<Self, CertError> {
        Self::make_for(now, AUTHORITY_LIFE)
    }

    fn make_for(now: Timestamp, seconds: i64) -> Result<Self, CertError> {
        let key = KeyPair::generate().map_err(making)?;
        let mut params = CertificateParams::default();
        // Two authorities exist side by side while one replaces the other. Different names keep
        // clients from trying the wrong one first.
        params.distinguished_name = name(&format!("milvus-guard CA {}", fingerprint(&key)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut params, now, seconds)?;
        let cert_pem = params.self_signed(&key).map_err(making)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            cert_pem,
        })
    }

    /// Takes up an authority that was made before.
    ///
    /// # Errors
    /// Where the certificate or the key is damaged, or the two do not belong together.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self, CertError> {
        let chain = x509::chain(cert_pem.as_bytes())?;
        let key =
            KeyPair::from_pem(key_pem).map_err(|error| CertError::BadKey(error.to_string()))?;
        if !x509::has_key(&chain[0], key.der_bytes()) {
            return Err(CertError::Mismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&chain[0], key).map_err(making)?;
        Ok(Self {
            issuer,
            cert_pem: cert_pem.to_owned(),
        })
    }

    /// Makes a server certificate for these names, DNS or IP, for [`LEAF_LIFE`].
    ///
    /// # Errors
    /// Where there is no name or one is none, or the clock shows a time that no certificate can
    /// hold.
    pub fn leaf(&self, names: &[String], now: Timestamp) -> Result<Pair, CertError> {
        self.leaf_for(names, now, LEAF_LIFE)
    }

    fn leaf_for(&self, names: &[String], now: Timestamp, seconds: i64) -> Result<Pair, CertError> {
        if names.is_empty() {
            return Err(CertError::NoNames);
        }
        let key = KeyPair::generate().map_err(making)?;
        let mut params = CertificateParams::new(names).map_err(making)?;
        params.distinguished_name = name("milvus-guard");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, now, seconds)?;
        let cert_pem = params.signed_by(&key, &self.issuer).map_err(making)?.pem();
        Ok(Pair {
            cert_pem,
            key_pem: key.serialize_pem(),
        })
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The authority's key, PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }
}

/// A server certificate of an authority that exists for it alone; the authority's key is forgotten.
#[derive(Clone, PartialEq, Eq)]
pub struct SelfSigned {
    /// What clients are to trust, PEM.
    pub ca_pem: String,
    /// The server's certificate, PEM.
    pub cert_pem: String,
    /// Its key, PEM.
    pub key_pem: String,
}

impl fmt::Debug for SelfSigned {
    // By hand, so that no key can reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfSigned")
            .field("ca_pem", &self.ca_pem)
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

/// Makes a certificate for development, valid for [`LEAF_LIFE`].
///
/// # Errors
/// As [`Authority::leaf`].
pub fn self_signed(names: &[String], now: Timestamp) -> Result<SelfSigned, CertError> {
    self_signed_for(names, now, LEAF_LIFE)
}

/// Makes a certificate for development, valid for this number of seconds from now.
///
/// # Errors
/// As [`Authority::leaf`].
pub fn self_signed_for(
    names: &[String],
    now: Timestamp,
    seconds: i64,
) -> Result<SelfSigned, CertError> {
    let authority = Authority::make_for(now, seconds)?;
    let leaf = authority.leaf_for(names, now, seconds)?;
    Ok(SelfSigned {
        ca_pem: authority.cert_pem,
        cert_pem: leaf.cert_pem,
        key_pem: leaf.key_pem,
    })
}

fn set_life(params: &mut CertificateParams, now: Timestamp, seconds: i64) -> Result<(), CertError> {
    let begin = u64::try_from(now.as_second() - BACKDATE).map_err(|_| CertError::Clock(now))?;
    let end = now.as_second().saturating_add(seconds);
    let end = u64::try_from(end)
        .ok()
        .filter(|_| end <= END_OF_TIME)
        .ok_or(CertError::Clock(now))?;
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(begin);
    params.not_after = epoch + Duration::from_secs(end);
    Ok(())
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// Eight hex digits that tell keys apart for people.
fn fingerprint(key: &KeyPair) -> String {
    hexadecimal(&Sha256::digest(key.der_bytes())[..4])
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn making(error: rcgen::Error) -> CertError {
    CertError::Making(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::Certificate;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_leaf_belongs_to_its_authority_also_after_a_restart() {
        let now = at("2026-03-01T00:00:00Z");
        let made = Authority::make(now).unwrap();
        let loaded = Authority::load(made.cert_pem(), &made.key_pem()).unwrap();
        let other = Authority::make(now).unwrap();
        let leaf = loaded.leaf(&names(&["a.b.svc", "::1"]), now).unwrap();
        let der = |pem: &str| x509::chain(pem.as_bytes()).unwrap().remove(0);
        assert!(x509::is_issued_by(
            &der(&leaf.cert_pem),
            &der(made.cert_pem())
        ));
        assert!(!x509::is_issued_by(
            &der(&leaf.cert_pem),
            &der(other.cert_pem())
        ));
        assert!(x509::has_names(
            &der(&leaf.cert_pem),
            &names(&["A.b.svc", "::1"])
        ));
        assert!(!x509::has_names(
            &der(&leaf.cert_pem),
            &names(&["a.b.svc", "127.0.0.1"])
        ));
        assert_eq!(
            Authority::load(other.cert_pem(), &made.key_pem()).unwrap_err(),
            CertError::Mismatch
        );
    }

    #[test]
    fn lives_are_counted_from_now() {
        let now = at("2026-03-01T00:00:00Z");
        let made = self_signed(&names(&["localhost"]), now).unwrap();
        let pair =
            Certificate::from_pem(made.cert_pem.as_bytes(), made.key_pem.as_bytes()).unwrap();
        assert_eq!(
            (pair.not_before(), pair.not_after()),
            (at("2026-02-28T23:00:00Z"), at("2026-03-31T00:00:00Z"))
        );
        assert!(pair.is_valid_at(now) && !pair.is_valid_at(at("2026-03-31T00:00:01Z")));
        assert!(
            !format!("{made:?} {pair:?}").contains("PRIVATE"),
            "no key is printed"
        );
    }

    #[test]
    fn what_cannot_be_made_is_said() {
        let now = at("2026-03-01T00:00:00Z");
        assert_eq!(self_signed(&[], now).unwrap_err(), CertError::NoNames);
        assert!(matches!(
            self_signed(&names(&["ä.example"]), now),
            Err(CertError::Making(_))
        ));
        for clock in ["1970-01-01T00:00:00Z", "9999-06-01T00:00:00Z"] {
            assert_eq!(
                Authority::make(at(clock)).unwrap_err(),
                CertError::Clock(at(clock))
            );
        }
    }
}
