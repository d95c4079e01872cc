//! A minimal HTTP client: readiness checks of the parts of the test bed, and JSON to and from the
//! API server.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::Error;
use crate::certs::{Authority, Identity};

/// Timeout of connecting and of each read or write. Long, because several control planes may start
/// at the same time on few cores.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Headers of every request.
const HEADERS: &str = "Host: localhost\r\nAccept: application/json, */*\r\n";

/// The response of a server.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Body, as text.
    pub body: String,
}

impl Answer {
    /// The message of the `Status` with which an API server refuses a request; otherwise empty.
    #[must_use]
    pub fn message(&self) -> String {
        let status: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        let is_status = status["kind"] == "Status";
        let message = status["message"].as_str().filter(|_| is_status);
        message.unwrap_or_default().to_owned()
    }
}

/// A client for one address, without or with TLS; on loopback unless an address is given.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    pub(crate) fn plain(port: u16) -> Self {
        Self {
            address: loopback(port),
            tls: None,
        }
    }

    /// For a server that is not on loopback.
    pub(crate) fn plain_at(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    pub(crate) fn tls(
        port: u16,
        authority: &Authority,
        identity: &Identity,
    ) -> Result<Self, Error> {
        Self::tls_at(loopback(port), authority, identity)
    }

    pub(crate) fn tls_at(
        address: SocketAddr,
        authority: &Authority,
        identity: &Identity,
    ) -> Result<Self, Error> {
        let failed = |e: &dyn std::fmt::Display| Error::doing("setting up TLS", e);
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).map_err(|e| failed(&e))?)
            .map_err(|e| failed(&e))?;
        let chain = vec![
            CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).map_err(|e| failed(&e))?,
        ];
        let key =
            PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|e| failed(&e))?;
        // The provider is explicit, so that a test that installs another process-wide one does not
        // affect this client.
        let config = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| failed(&e))?;
        Ok(Self {
            address,
            tls: Some(Arc::new(config)),
        })
    }

    pub(crate) fn get(&self, path: &str) -> io::Result<Answer> {
        self.ask(&format!("GET {path} HTTP/1.0\r\n{HEADERS}\r\n"))
    }

    /// Sends a document of this type.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> io::Result<Answer> {
        self.ask(&format!(
            "{method} {path} HTTP/1.0\r\n{HEADERS}Content-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn ask(&self, request: &str) -> io::Result<Answer> {
        let stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        match &self.tls {
            None => exchange(stream, request),
            Some(config) => {
                let name = ServerName::from(self.address.ip());
                let connection =
                    ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                exchange(StreamOwned::new(connection, stream), request)
            }
        }
    }

    /// Whether `path` answers 200.
    pub(crate) fn is_ok(&self, path: &str) -> bool {
        self.get(path).is_ok_and(|answer| answer.status == 200)
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// HTTP/1.0 on purpose: the server then sends no chunks and closes after the body, so reading to
/// the end is enough.
fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Answer> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    parse(&String::from_utf8_lossy(&raw))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

fn parse(raw: &str) -> Option<Answer> {
    let (head, body) = raw.split_once("\r\n\r\n")?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(Answer {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_answer_has_status_and_body() {
        let answer = parse("HTTP/1.0 403 Forbidden\r\nContent-Type: application/json\r\n\r\n{}")
            .expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (403, "{}"));
        assert!(parse("SSH-2.0-x\r\n\r\n").is_none());
    }
}
