//! What is read out of certificates.

use std::net::IpAddr;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate};

use super::{error::CertError, rotation::Span};

/// The certificates of a PEM text, in its order.
///
/// # Errors
/// Where there is none, or one of them is not a certificate.
pub(super) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let mut chain = Vec::new();
    for (index, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let bad = |reason: String| CertError::BadCertificate {
            position: index + 1,
            reason,
        };
        let der = der.map_err(|error| bad(error.to_string()))?;
        parsed(&der).map_err(bad)?;
        chain.push(der);
    }
    if chain.is_empty() {
        Err(CertError::NoCertificate)
    } else {
        Ok(chain)
    }
}

/// When a certificate is valid.
///
/// # Errors
/// Where it cannot be parsed; `position` is for the message.
pub(super) fn span(der: &CertificateDer<'_>, position: usize) -> Result<Span, CertError> {
    let bad = |reason| CertError::BadCertificate { position, reason };
    let certificate = parsed(der).map_err(bad)?;
    let time =
        |seconds: i64| Timestamp::from_second(seconds).map_err(|error| bad(error.to_string()));
    let validity = certificate.validity();
    Ok(Span {
        not_before: time(validity.not_before.timestamp())?,
        not_after: time(validity.not_after.timestamp())?,
    })
}

/// The first common name of a certificate's subject.
pub(super) fn common_name(der: &CertificateDer<'_>) -> Option<String> {
    let certificate = parsed(der).ok()?;
    let name = certificate
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()?;
    Some(name.to_owned())
}

/// Whether one certificate was signed by another; the signature is checked, not only the name.
pub(super) fn is_issued_by(leaf: &CertificateDer<'_>, authority: &CertificateDer<'_>) -> bool {
    let (Ok(leaf), Ok(authority)) = (parsed(leaf), parsed(authority)) else {
        return false;
    };
    leaf.issuer() == authority.subject()
        && leaf.verify_signature(Some(authority.public_key())).is_ok()
}

/// Whether a certificate's public key is this one.
pub(super) fn has_key(der: &CertificateDer<'_>, public_key: &[u8]) -> bool {
    parsed(der).is_ok_and(|certificate| {
        certificate.public_key().subject_public_key.data.as_ref() == public_key
    })
}

/// Whether a certificate is good for each of these names, DNS or IP.
pub(super) fn has_names(der: &CertificateDer<'_>, names: &[String]) -> bool {
    let Ok(certificate) = parsed(der) else {
        return false;
    };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return names.is_empty();
    };
    names.iter().all(|name| {
        extension
            .value
            .general_names
            .iter()
            .any(|held| match (held, name.parse::<IpAddr>()) {
                (GeneralName::IPAddress(held), Ok(IpAddr::V4(name))) => *held == name.octets(),
                (GeneralName::IPAddress(held), Ok(IpAddr::V6(name))) => *held == name.octets(),
                (GeneralName::DNSName(held), Err(_)) => held.eq_ignore_ascii_case(name),
                _ => false,
            })
    })
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("bytes follow its end".into()),
        Err(error) => Err(error.to_string()),
    }
}
