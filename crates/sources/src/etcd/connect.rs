//! Addresses and credentials of an etcd cluster.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};

use super::failure::{Failure, without_certificate};

/// Limit for the first request to one endpoint: after two dead endpoints there is time for a third.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Largest PEM file in bytes. A bundle of all public roots has about 200 kB.
const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;

/// Location and credentials of the metadata.
#[derive(Clone, Default)]
pub struct Endpoint {
    /// Addresses (`host:2379`, `http://...` or `https://...`) of one etcd cluster. The first that answers is used.
    pub addresses: Vec<String>,
    /// `etcd.rootPath` as written. A leading slash is part of the key.
    pub root_path: String,
    /// `etcd.metaSubPath` as written.
    pub meta_sub_path: String,
    /// TLS, if it needs more than an `https://` address and the system's certificate authorities.
    pub tls: Option<Tls>,
    /// User and password.
    pub user: Option<(String, String)>,
    /// Release that the fact is about.
    pub release: Option<String>,
}

/// PEM files for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authorities; `None` for those of the system.
    pub ca: Option<PathBuf>,
    /// Client certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// Why no request to etcd is possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No address.
    #[error("no etcd endpoint was given")]
    NoAddress,
    /// An address with user and password: messages would print them.
    #[error("an etcd address must not hold user and password; give them on their own")]
    Credentials,
    /// An invalid PEM file.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
}

/// Why the files for TLS cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFileError {
    /// A certificate without its key, or a key without its certificate.
    #[error("a client certificate and its key belong together; only one was given")]
    Alone,
    /// A file that cannot be read, or lacks the expected content.
    #[error("{what} in {path}: {reason}")]
    File {
        /// What the file is for.
        what: &'static str,
        /// Where it is.
        path: String,
        /// Why it cannot be used.
        reason: String,
    },
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field(
                "addresses",
                &self
                    .addresses
                    .iter()
                    .map(|address| public(address))
                    .collect::<Vec<_>>(),
            )
            .field("root_path", &self.root_path)
            .field("meta_sub_path", &self.meta_sub_path)
            .field("tls", &self.tls)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The addresses as they may be printed.
    #[must_use]
    pub fn shown(&self) -> String {
        self.addresses
            .iter()
            .map(|address| public(address))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// A reason for messages: without the password, which a broken proxy may repeat, and without
    /// the hint to use TLS if it is used.
    #[must_use]
    pub fn told(&self, reason: String) -> String {
        let reason = match &self.user {
            Some((_, password)) if !password.is_empty() => {
                reason.replace(password.as_str(), "(hidden)")
            }
            _ => reason,
        };
        let has_certificate = self.tls.as_ref().is_some_and(|tls| tls.cert.is_some());
        let speaks_tls = |address: &String| address.starts_with("https://");
        if !has_certificate && self.addresses.iter().all(speaks_tls) {
            without_certificate(&reason)
        } else {
            reason
        }
    }

    /// Checks what can be checked without a connection, and reads the PEM files.
    ///
    /// # Errors
    /// No address, credentials inside an address, a PEM file that cannot be used.
    pub fn prepare(&self) -> Result<Option<TlsOptions>, EndpointError> {
        if self.addresses.is_empty() {
            return Err(EndpointError::NoAddress);
        }
        if self
            .addresses
            .iter()
            .any(|address| *address != public(address))
        {
            return Err(EndpointError::Credentials);
        }
        Ok(self.tls.as_ref().map(load_tls).transpose()?)
    }

    /// Connects to one of the addresses. Sends nothing yet, except the authentication if there is a
    /// user.
    ///
    /// # Errors
    /// Why the connection or the authentication failed.
    pub async fn dial(&self, address: &str, tls: Option<&TlsOptions>) -> Result<Client, Failure> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_DEADLINE)
            .with_auto_token_refresh(true);
        if let Some(tls) = tls {
            options = options.with_tls(tls.clone());
        } else if address.starts_with("https://") {
            options = options.with_tls(TlsOptions::new().with_enabled_roots());
        }
        let with_user = match &self.user {
            Some((name, password)) => options.clone().with_user(name, password),
            None => options.clone(),
        };
        let client = match Client::connect([address], Some(with_user)).await {
            Err(Error::GRpcStatus(status))
                if status.message().contains("authentication is not enabled") =>
            {
                Client::connect([address], Some(options)).await
            }
            other => other,
        };
        Ok(client?)
    }
}

/// An address without user and password.
#[must_use]
pub fn public(address: &str) -> String {
    let (scheme, rest) = address
        .split_once("://")
        .map_or(("", address), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() {
        host.to_owned()
    } else {
        format!("{scheme}://{host}")
    }
}

/// The files of `tls`, read for the client of etcd.
///
/// # Errors
/// A file that cannot be read or is not PEM, or a certificate without its key.
pub fn load_tls(tls: &Tls) -> Result<TlsOptions, TlsFileError> {
    let mut options = TlsOptions::new();
    options = match &tls.ca {
        Some(path) => options.ca_certificate(Certificate::from_pem(pem(
            path,
            "certificate authorities",
            "CERTIFICATE",
        )?)),
        None => options.with_enabled_roots(),
    };
    match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let cert = pem(cert, "client certificate", "CERTIFICATE")?;
            Ok(options.identity(Identity::from_pem(
                cert,
                pem(key, "client key", "PRIVATE KEY")?,
            )))
        }
        (None, None) => Ok(options),
        _ => Err(TlsFileError::Alone),
    }
}

fn pem(path: &Path, what: &'static str, label: &str) -> Result<Vec<u8>, TlsFileError> {
    let failed = |reason: String| TlsFileError::File {
        what,
        path: path.display().to_string(),
        reason,
    };
    let size = std::fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if size > MAX_PEM_BYTES {
        return Err(failed(format!("larger than {MAX_PEM_BYTES} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&bytes);
    if !text
        .lines()
        .any(|line| line.starts_with("-----BEGIN ") && line.contains(label))
    {
        return Err(failed(format!(
            "no PEM block with a {}",
            label.to_lowercase()
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("etcd:2379", "etcd:2379")]
    #[case("http://root:p@ss@etcd:2379", "http://etcd:2379")]
    #[case("root:pw@etcd:2379", "etcd:2379")]
    fn addresses_are_shown_without_credentials(#[case] address: &str, #[case] expected: &str) {
        assert_eq!(public(address), expected);
    }

    #[test]
    fn credentials_in_addresses_are_refused() {
        let endpoint = Endpoint {
            addresses: vec!["http://root:hunter2@etcd:2379".into()],
            ..Endpoint::default()
        };
        let refused = endpoint.prepare().unwrap_err().to_string();
        assert!(
            refused.contains("on their own") && !refused.contains("hunter2"),
            "{refused}"
        );
        assert!(!format!("{endpoint:?}").contains("hunter2"));
    }
}
