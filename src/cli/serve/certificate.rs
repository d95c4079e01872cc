//! The certificate of the server: from files, or made and rotated in a Secret.

use jiff::Timestamp;
use milvus_guard_sources::kubernetes::Cluster;
use milvus_guard_webhook::{
    certs::{
        CertFiles, CertStore, Certificate, Managed, POLL, Reload,
        authority::self_signed,
        managed::{Registers, service_names},
    },
    server::{leader::Leader, registration::Authority},
};

use super::args::Args;
use crate::cli::exit::Failure;

/// Names for which a self-signed certificate is made.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Loads or makes the first certificate, and keeps it up to date.
pub(super) async fn certificate(
    args: &Args,
    cluster: Option<&Cluster>,
    store: &CertStore,
    leader: &Leader,
) -> Result<(), Failure> {
    let log = |event: Reload| match event {
        Reload::Loaded { not_after, .. } => {
            tracing::info!(%not_after, "a new certificate is in use");
        }
        Reload::Kept { reason } => tracing::warn!(
            reason,
            "a new certificate cannot be used; the previous one is kept"
        ),
        Reload::Stepped(step) => tracing::info!(?step, "certificate rotation advanced"),
    };
    if let (Some(cert), Some(key)) = (&args.tls_cert_file, &args.tls_key_file) {
        let files = CertFiles {
            cert: cert.clone(),
            key: key.clone(),
        };
        store.put(files.load().map_err(Failure::usage)?);
        tokio::spawn(files.follow(store.clone(), POLL, log));
        return Ok(());
    }
    if let (true, Some(cluster)) = (args.tls_managed, cluster) {
        let managed = Managed {
            client: cluster.client().clone(),
            namespace: args.namespace.clone(),
            secret: args.tls_secret.clone(),
            names: service_names(&args.service_name, &args.namespace),
            webhook_configuration: args.webhook_configuration.clone(),
            registers: Registers::Another,
        };
        store.put(
            managed
                .ensure(Timestamp::now())
                .await
                .map_err(Failure::no_verdict)?,
        );
        let leader = leader.clone();
        tokio::spawn(managed.follow(store.clone(), move || leader.is_me(), POLL, log));
        return Ok(());
    }
    if args.tls_self_signed {
        let names: Vec<String> = LOCAL_NAMES
            .iter()
            .map(ToString::to_string)
            .chain(service_names(&args.service_name, &args.namespace))
            .collect();
        let made = self_signed(&names, Timestamp::now()).map_err(Failure::no_verdict)?;
        if let Some(path) = &args.tls_ca_out {
            std::fs::write(path, &made.ca_pem)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        }
        let certificate = Certificate::from_pem(made.cert_pem.as_bytes(), made.key_pem.as_bytes())
            .map_err(Failure::no_verdict)?;
        store.put(certificate);
        return Ok(());
    }
    Err(Failure::usage(
        "the webhook needs a certificate: --tls-cert-file and --tls-key-file, --tls-managed in a \
         cluster, or --tls-self-signed to try it",
    ))
}

/// The certificate authority that API servers must trust.
pub(super) fn authority(args: &Args) -> Authority {
    match &args.webhook_ca_file {
        _ if args.tls_managed => Authority::Secret(args.tls_secret.clone()),
        Some(path) => Authority::File(path.clone()),
        None => Authority::Template,
    }
}
