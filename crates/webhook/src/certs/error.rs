//! What can be wrong with a certificate, as messages for the person who provides it.

use jiff::Timestamp;

use milvus_guard_sources::kubernetes::ClusterError;

/// A certificate that cannot be read, used or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// PEM without a certificate.
    #[error(
        "it does not contain a certificate; expected PEM with the server's certificate first, then \
         its chain"
    )]
    NoCertificate,
    /// A certificate that cannot be parsed.
    #[error("certificate {position} of the chain cannot be read: {reason}")]
    BadCertificate {
        /// `NamespaceState` in the chain, from 1.
        position: usize,
        /// What is wrong.
        reason: String,
    },
    /// PEM without a key.
    #[error(
        "it does not contain a private key; expected PEM that is not encrypted (PKCS#8, PKCS#1 or \
         SEC1)"
    )]
    NoKey,
    /// A key that cannot be used.
    #[error("the private key cannot be used: {0}")]
    BadKey(String),
    /// A key of another certificate.
    #[error("the private key does not belong to the first certificate of the chain")]
    Mismatch,
    /// Too late.
    #[error("the certificate expired at {0}")]
    Expired(Timestamp),
    /// Too early.
    #[error("the certificate is not valid before {0}")]
    NotYetValid(Timestamp),
    /// The file system says no.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// Path as it was named.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// Files that hold no pair to serve.
    #[error("{cert} and {key}: {source}")]
    InFiles {
        /// Path of the chain.
        cert: String,
        /// Path of the key.
        key: String,
        /// What is wrong.
        source: Box<CertError>,
    },
    /// A client authority that cannot be used.
    #[error("the client authority cannot be used: {0}")]
    ClientAuthority(String),
    /// TLS settings that rustls refuses.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// A certificate without a name would fit no server.
    #[error("at least one DNS name or IP address is required")]
    NoNames,
    /// A certificate that cannot be made.
    #[error("cannot make a certificate: {0}")]
    Making(String),
    /// A clock that no certificate can hold.
    #[error("the clock shows {0}, for which a certificate cannot be made")]
    Clock(Timestamp),
    /// A Secret of another client.
    #[error(
        "Secret {secret} in namespace {namespace} contains a certificate that the guard did not \
         make (tls.crt without ca.key); delete it, name another Secret, or serve it with \
         --tls-cert-file"
    )]
    ForeignSecret {
        /// Its name.
        secret: String,
        /// Its namespace.
        namespace: String,
    },
    /// An object that others change as fast as it is read.
    #[error("{0} was changed by others each time it was read; the guard retries")]
    Contended(String),
    /// An API server that hangs.
    #[error("{0} could not be read within {1} seconds; the guard retries")]
    Slow(String, u64),
    /// The cluster says no.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}
