//! Reads just enough of etcd to tell the format of Milvus' metadata.
//!
//! Only range requests and, with a user, `Authenticate` are sent. All ranges are linearizable and at one revision, so
//! that what is judged existed at one moment. Every failure becomes [`MetadataState::Unreadable`] with its reason.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use etcd_client::{Certificate, Client, ConnectOptions, Error, GetOptions, Identity, KvClient, TlsOptions};
use tokio::time::{Instant, timeout_at};

use crate::{
    facts::{MetadataFact, MetadataState},
    migration::{
        Root,
        format::{AREAS, Area, Depth, Evidence},
        keys::{SESSIONS, TOMBSTONE, after},
    },
    reason,
};

/// For everything together. A verdict that waits longer has lost its reader; webhooks never come here.
pub const TOTAL_DEADLINE: Duration = Duration::from_secs(15);
/// For one endpoint to answer its first request, so that two dead ones leave time for a third.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Keys in one page.
pub const PAGE: i64 = 500;
/// Bytes of one page. A page of collection records with 4096 partitions each is about 150 MB and is then read in
/// smaller pages; one single record cannot be larger than etcd's request limit (1.5 MiB unless raised).
pub const MAX_PAGE_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of a PEM file. A bundle of all public roots is about 200 kB.
const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;

/// gRPC's code for a message above the decoding limit.
const OUT_OF_RANGE: i32 = 11;
const PERMISSION_DENIED: i32 = 7;

/// Where the metadata is and how to get in.
#[derive(Clone, Default)]
pub struct Endpoint {
    /// Addresses (`host:2379`, `http://...` or `https://...`) of one etcd cluster. The first that answers is read.
    pub addresses: Vec<String>,
    /// `etcd.rootPath` as written. A leading slash is part of the key.
    pub root_path: String,
    /// `etcd.metaSubPath` as written.
    pub meta_sub_path: String,
    /// TLS, where it takes more than an `https://` address and the system's certificate authorities.
    pub tls: Option<Tls>,
    /// User and password.
    pub user: Option<(String, String)>,
    /// Release that the fact is about.
    pub release: Option<String>,
}

/// PEM files for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authorities; the system's where absent.
    pub ca: Option<PathBuf>,
    /// Client certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("addresses", &self.addresses.iter().map(|address| public(address)).collect::<Vec<_>>())
            .field("root_path", &self.root_path)
            .field("meta_sub_path", &self.meta_sub_path)
            .field("tls", &self.tls)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .finish_non_exhaustive()
    }
}

/// Reads the format of the metadata.
pub async fn inspect(endpoint: &Endpoint) -> MetadataFact {
    let state = match read(endpoint).await {
        Ok(state) => state,
        Err(reason) => MetadataState::Unreadable(endpoint.without_password(reason)),
    };
    MetadataFact {
        release: endpoint.release.clone(),
        root_path: endpoint.root_path.clone(),
        state,
        source: endpoint.addresses.iter().map(|address| public(address)).collect::<Vec<_>>().join(","),
    }
}

impl Endpoint {
    /// Servers do not repeat passwords; a broken proxy may.
    fn without_password(&self, reason: String) -> String {
        match &self.user {
            Some((_, password)) if !password.is_empty() => reason.replace(password.as_str(), "(hidden)"),
            _ => reason,
        }
    }
}

/// An address without user and password.
fn public(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

async fn read(endpoint: &Endpoint) -> Result<MetadataState, String> {
    let root = Root::new(&endpoint.root_path, &endpoint.meta_sub_path).map_err(|error| error.to_string())?;
    if endpoint.addresses.is_empty() {
        return Err("no etcd endpoint was given".into());
    }
    if endpoint.addresses.iter().any(|address| *address != public(address)) {
        return Err("an etcd address must not hold user and password; give them on their own".into());
    }
    let tls = endpoint.tls.as_ref().map(load_tls).transpose()?;
    let deadline = Instant::now() + TOTAL_DEADLINE;
    let mut failures = Vec::new();
    for address in &endpoint.addresses {
        let attempt = attempt(endpoint, address, tls.as_ref(), root.prefix(), deadline);
        match timeout_at(deadline, attempt).await {
            Ok(Ok(state)) => return Ok(state),
            Ok(Err(Failure { reason, elsewhere })) => {
                failures.push(format!("{address}: {reason}"));
                if !elsewhere {
                    break;
                }
            }
            Err(_) => {
                failures.push(format!("{address}: not done within {} seconds", TOTAL_DEADLINE.as_secs()));
                break;
            }
        }
    }
    Err(failures.join("; "))
}

/// Why one endpoint could not be read, and whether another one of the cluster may answer better.
struct Failure {
    reason: String,
    elsewhere: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let Error::GRpcStatus(status) = &error else {
            return Self { reason: reason::chain(&error), elsewhere: true };
        };
        let (code, message) = (i32::from(status.code()), status.message());
        if message.contains("authentication failed") || message.contains("invalid auth token") {
            return Self { reason: "etcd refused the user or its password".into(), elsewhere: false };
        }
        if message.contains("user name is empty") {
            return Self { reason: "etcd asks for a user and a password".into(), elsewhere: false };
        }
        if code == PERMISSION_DENIED {
            return Self { reason: "this user may not read the metadata under that root path".into(), elsewhere: false };
        }
        let cause = std::error::Error::source(status).map(reason::chain).unwrap_or_default();
        let reason = match (message.trim(), cause.as_str()) {
            ("", "") => format!("gRPC code {code}"),
            (message, "") => reason::line(message),
            ("", cause) => cause.to_owned(),
            (message, cause) if cause.contains(message) => cause.to_owned(),
            (message, cause) => reason::line(&format!("{message}: {cause}")),
        };
        Self { reason: hinted(reason), elsewhere: code != OUT_OF_RANGE }
    }
}

/// Adds what to do to reasons that libraries word for themselves only.
fn hinted(reason: String) -> String {
    let hint = if reason.contains("UnknownIssuer") {
        "; its certificate is not signed by a known authority: give its CA"
    } else if reason.contains("NotValidForName") {
        "; its certificate is for another host name"
    } else if reason.contains("CertificateRequired") || reason.contains("BadCertificate") {
        "; it asks for a client certificate that it knows"
    } else if reason.contains("InvalidContentType") || reason.contains("tls handshake eof") {
        "; it does not speak TLS: use http://"
    } else if reason.contains("frame with invalid size") || reason.contains("broken pipe") || reason.contains("GoAway") {
        "; it may want TLS: use https://"
    } else if reason.contains("connection closed") {
        "; it may ask for a client certificate"
    } else {
        ""
    };
    reason + hint
}

async fn attempt(
    endpoint: &Endpoint,
    address: &str,
    tls: Option<&TlsOptions>,
    prefix: &str,
    deadline: Instant,
) -> Result<MetadataState, Failure> {
    let connect = deadline.min(Instant::now() + CONNECT_DEADLINE);
    let silent = |_| Failure { reason: format!("no answer within {} seconds", CONNECT_DEADLINE.as_secs()), elsewhere: true };
    let mut reader = timeout_at(connect, open(endpoint, address, tls, prefix)).await.map_err(silent)??;
    let mut evidence = Evidence::default();
    for area in AREAS {
        if !(area.late && evidence.is_old()) {
            reader.area(&area, &mut evidence).await?;
        }
    }
    if !evidence.is_anything() {
        reader.anything_else(&mut evidence).await?;
    }
    Ok(evidence.state())
}

/// Connects and pins the revision at which everything is read.
async fn open<'a>(endpoint: &Endpoint, address: &str, tls: Option<&TlsOptions>, prefix: &'a str) -> Result<Reader<'a>, Failure> {
    let mut options = ConnectOptions::new().with_connect_timeout(CONNECT_DEADLINE);
    if let Some(tls) = tls {
        options = options.with_tls(tls.clone());
    } else if address.starts_with("https://") {
        options = options.with_tls(TlsOptions::new().with_enabled_roots());
    }
    let with_user = match &endpoint.user {
        Some((name, password)) => options.clone().with_user(name, password),
        None => options.clone(),
    };
    let client = match Client::connect([address], Some(with_user)).await {
        Err(Error::GRpcStatus(status)) if status.message().contains("authentication is not enabled") => {
            Client::connect([address], Some(options)).await
        }
        other => other,
    }?;
    let mut kv = client.kv_client().max_decoding_message_size(MAX_PAGE_BYTES);
    let answer = kv.get(prefix, Some(GetOptions::new().with_keys_only().with_limit(1))).await?;
    let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
    Ok(Reader { kv, prefix, revision })
}

struct Reader<'a> {
    kv: KvClient,
    prefix: &'a str,
    revision: i64,
}

impl Reader<'_> {
    async fn area(&mut self, area: &Area, evidence: &mut Evidence) -> Result<(), Failure> {
        let from = format!("{}{}", self.prefix, area.path).into_bytes();
        let to = if area.path.ends_with('/') { after(&from) } else { [&from[..], &[0]].concat() };
        self.range(from, &to, area.depth, evidence).await
    }

    /// Looks for any live key beside sessions, in no area at all.
    async fn anything_else(&mut self, evidence: &mut Evidence) -> Result<(), Failure> {
        let all = self.prefix.as_bytes().to_vec();
        let sessions = format!("{}{SESSIONS}", self.prefix).into_bytes();
        self.range(all.clone(), &sessions, Depth::AnyLive, evidence).await?;
        if evidence.is_anything() {
            return Ok(());
        }
        self.range(after(&sessions), &after(&all), Depth::AnyLive, evidence).await
    }

    async fn range(&mut self, mut from: Vec<u8>, to: &[u8], depth: Depth, evidence: &mut Evidence) -> Result<(), Failure> {
        let mut page = if depth == Depth::AnyKey { 1 } else { PAGE };
        loop {
            let mut options = GetOptions::new().with_range(to).with_limit(page).with_revision(self.revision);
            if depth == Depth::AnyKey {
                options = options.with_keys_only();
            }
            let answer = match self.kv.get(from.clone(), Some(options)).await {
                Err(Error::GRpcStatus(status))
                    if i32::from(status.code()) == OUT_OF_RANGE && too_large(status.message()) && page > 1 =>
                {
                    page /= 2;
                    continue;
                }
                other => other?,
            };
            for record in answer.kvs() {
                let key = record.key().strip_prefix(self.prefix.as_bytes()).unwrap_or(record.key());
                evidence.add(key, (depth != Depth::AnyKey).then(|| record.value()));
                let enough = depth == Depth::AnyKey || (depth == Depth::AnyLive && record.value() != TOMBSTONE);
                if enough {
                    return Ok(());
                }
            }
            match answer.kvs().last() {
                Some(last) if answer.more() => from = [last.key(), &[0]].concat(),
                _ => return Ok(()),
            }
        }
    }
}

/// tonic's own words; etcd uses the same code for a revision from the future.
fn too_large(message: &str) -> bool {
    message.contains("message length too large")
}

fn load_tls(tls: &Tls) -> Result<TlsOptions, String> {
    let mut options = TlsOptions::new();
    options = match &tls.ca {
        Some(path) => options.ca_certificate(Certificate::from_pem(pem(path, "certificate authorities", "CERTIFICATE")?)),
        None => options.with_enabled_roots(),
    };
    match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let cert = pem(cert, "client certificate", "CERTIFICATE")?;
            Ok(options.identity(Identity::from_pem(cert, pem(key, "client key", "PRIVATE KEY")?)))
        }
        (None, None) => Ok(options),
        _ => Err("a client certificate and its key belong together; only one was given".into()),
    }
}

fn pem(path: &Path, what: &str, label: &str) -> Result<Vec<u8>, String> {
    let failed = |why: String| format!("{what} in {}: {why}", path.display());
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > MAX_PEM_BYTES {
        return Err(failed(format!("larger than {MAX_PEM_BYTES} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&bytes);
    if !text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(label)) {
        return Err(failed(format!("no PEM block with a {}", label.to_lowercase())));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn endpoint(address: &str) -> Endpoint {
        Endpoint {
            addresses: vec![address.into()],
            root_path: "by-dev".into(),
            meta_sub_path: "meta".into(),
            ..Endpoint::default()
        }
    }

    async fn reason(endpoint: &Endpoint) -> String {
        match inspect(endpoint).await.state {
            MetadataState::Unreadable(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[rstest]
    #[case("etcd:2379", "etcd:2379")]
    #[case("http://root:p@ss@etcd:2379", "http://etcd:2379")]
    #[case("root:pw@etcd:2379", "etcd:2379")]
    fn addresses_are_shown_without_credentials(#[case] address: &str, #[case] expected: &str) {
        assert_eq!(public(address), expected);
    }

    // The words of the libraries as a real etcd 3.7 provoked them.
    #[rstest]
    #[case("transport error: invalid peer certificate: UnknownIssuer", "give its CA")]
    #[case("transport error: tls handshake eof", "use http://")]
    #[case("connection error: stream closed because of a broken pipe", "use https://")]
    #[case("operation was canceled: connection closed", "client certificate")]
    #[case("dns error: failed to lookup address information", "information")]
    fn reasons_say_what_to_do(#[case] reason: &str, #[case] end: &str) {
        assert!(hinted(reason.to_owned()).ends_with(end));
    }

    #[tokio::test]
    async fn a_closed_port_is_a_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let reason = reason(&endpoint(&address)).await;
        assert!(reason.contains(&address) && reason.to_lowercase().contains("refused"), "{reason}");
    }

    #[tokio::test]
    async fn a_silent_port_is_a_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let reason = reason(&endpoint(&listener.local_addr().unwrap().to_string())).await;
        assert!(reason.contains("no answer within 5 seconds"), "{reason}");
    }

    #[tokio::test]
    async fn credentials_never_show() {
        let mut secret = endpoint("http://root:hunter2@127.0.0.1:1");
        secret.user = Some(("root".into(), "hunter2".into()));
        let fact = inspect(&secret).await;
        assert!(!format!("{fact:?}{secret:?}").contains("hunter2"), "{fact:?}");
        assert_eq!(secret.without_password("login with hunter2 failed".into()), "login with (hidden) failed");
    }

    #[tokio::test]
    async fn tls_files_are_checked_first() {
        let mut broken = endpoint("https://127.0.0.1:1");
        broken.tls = Some(Tls { ca: Some("/does/not/exist".into()), ..Tls::default() });
        assert!(reason(&broken).await.contains("certificate authorities in /does/not/exist"));
        let file = tempfile::NamedTempFile::new().unwrap();
        broken.tls = Some(Tls { ca: Some(file.path().into()), ..Tls::default() });
        assert!(reason(&broken).await.contains("no PEM block"));
        broken.tls = Some(Tls { cert: Some(file.path().into()), ..Tls::default() });
        assert!(reason(&broken).await.contains("belong together"));
    }
}
