//! Checks the server with connections to its own port.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    callers::LastRead,
    gauges::Gauges,
    lifecycle::{Condition, Lifecycle},
    watch_cache::Watched,
};

/// How often conditions are checked, before and after the server is ready.
const EVERY: Duration = Duration::from_millis(200);
const EVERY_WHEN_READY: Duration = Duration::from_secs(1);
/// How often it connects to its own port when it is ready.
const DIAL_EVERY: Duration = Duration::from_secs(5);
/// How long a kind may be without a watch: with an API server that takes 5 s to answer, the next
/// watch begins after this time.
const UNWATCHED: Duration = Duration::from_secs(5);
/// Limit for a handshake with the own port.
const DEADLINE: Duration = Duration::from_secs(3);

/// Updates the state of each condition, until the process ends.
pub async fn follow(
    life: Arc<Lifecycle>,
    known: Gauges,
    address: SocketAddr,
    last: Option<LastRead>,
) {
    let mut synced = known.store.is_none();
    let mut dialled: Option<Instant> = None;
    loop {
        let certificate = match known.certificates.current() {
            None => Err("there is none".to_owned()),
            Some(current) if !current.is_valid_at(Timestamp::now()) => {
                Err(format!("it is valid until {}", current.not_after()))
            }
            Some(_) => Ok(()),
        };
        life.set(Condition::Certificate, certificate);
        if let Some(store) = &known.store {
            let missing = store.missing();
            // During a later listing, the cache still serves its previous content.
            synced |= missing.is_empty();
            let filled = if synced {
                Ok(())
            } else {
                Err(format!("not read yet: {}", missing.join(", ")))
            };
            life.set(Condition::Policies, filled.clone());
            life.set(Condition::Caches, filled);
            let is_unwatched = store.unwatched_for(&Watched::ALL, UNWATCHED).is_some();
            life.set(
                Condition::Cluster,
                last.as_ref()
                    .map_or(Ok(()), |last| last.check(is_unwatched))
                    .map_err(|stale| stale.to_string()),
            );
        }
        if !life.is_ready() || dialled.is_none_or(|at| at.elapsed() >= DIAL_EVERY) {
            life.set(Condition::Port, dial(address).await);
            dialled = Some(Instant::now());
        }
        let pause = if life.is_ready() {
            EVERY_WHEN_READY
        } else {
            EVERY
        };
        tokio::time::sleep(pause).await;
    }
}

/// One TLS handshake with the own port.
async fn dial(address: SocketAddr) -> Result<(), String> {
    let mut local = address;
    if address.ip().is_unspecified() {
        local.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    let handshake = async {
        let stream = TcpStream::connect(local)
            .await
            .map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(Arc::new(config()?));
        let name = ServerName::from(local.ip());
        connector
            .connect(name, stream)
            .await
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    timeout(DEADLINE, handshake)
        .await
        .unwrap_or_else(|_| Err("no answer".into()))
}

fn config() -> Result<ClientConfig, String> {
    let provider = aws_lc_rs::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Ourselves(algorithms)))
        .with_no_client_auth())
}

/// Accepts every certificate on the own port; its dates are checked separately.
#[derive(Debug)]
struct Ourselves(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Ourselves {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
