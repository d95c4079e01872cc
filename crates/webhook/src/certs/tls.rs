//! The TLS settings of the server, and the name of a client.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::CertificateDer,
    server::{ServerConfig as Config, WebPkiClientVerifier},
};

use super::{error::CertError, store::CertStore, x509};

/// Protocols offered above TLS. API servers speak HTTP/2 with webhooks, kubelet's probes HTTP/1.1.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS 1.2 and 1.3 with the store's certificate. With a client authority, a client that shows a
/// certificate must show one of that authority; one without a certificate is let in, because
/// kubelet's probes have none. Which path demands a name is for the server to decide.
///
/// # Errors
/// Where the client authority cannot be used.
pub fn server_config(
    store: CertStore,
    client_ca_pem: Option<&[u8]>,
) -> Result<ServerConfig, CertError> {
    // Named here, because a process-wide default would depend on who came first.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = Config::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| CertError::Tls(error.to_string()))?;
    let builder = match client_ca_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem)?), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| CertError::ClientAuthority(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(store));
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

fn roots(pem: &[u8]) -> Result<RootCertStore, CertError> {
    let mut roots = RootCertStore::empty();
    for authority in
        x509::chain(pem).map_err(|error| CertError::ClientAuthority(error.to_string()))?
    {
        roots
            .add(authority)
            .map_err(|error| CertError::ClientAuthority(error.to_string()))?;
    }
    Ok(roots)
}

/// The common name of a client whose certificate was verified: the first of what it showed.
#[must_use]
pub fn client_name(certs: &[CertificateDer<'_>]) -> Option<String> {
    x509::common_name(certs.first()?)
}
