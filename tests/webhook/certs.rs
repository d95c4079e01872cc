//! Certificates in files: reloaded as kubelet replaces them, served over TLS, created by the
//! command `certs`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use crate::common::{self, guard, run};
use jiff::{SignedDuration, Timestamp};
use milvus_guard_webhook::certs::{
    CertError, CertFiles, CertStore, Certificate, Reload,
    authority::{Pair, SelfSigned, self_signed},
    client_name,
    files::Follower,
    server_config,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const DEADLINE: Duration = Duration::from_secs(30);
const DAY: i64 = 24 * 60 * 60;

fn made_at(now: Timestamp) -> SelfSigned {
    self_signed(&["localhost".to_owned()], now).unwrap()
}

fn days(now: Timestamp, days: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(days * DAY))
        .unwrap()
}

fn digest(made: &SelfSigned) -> String {
    Certificate::from_pem(made.cert_pem.as_bytes(), made.key_pem.as_bytes())
        .unwrap()
        .digest()
        .to_owned()
}

/// A mounted Secret: `tls.crt` is a link to `..data/tls.crt`, and `..data` is a link to a folder
/// that is replaced as a whole.
struct Mount {
    folder: tempfile::TempDir,
    generation: usize,
}

impl Mount {
    fn new(made: &SelfSigned) -> Self {
        let mut mount = Self {
            folder: tempfile::tempdir().unwrap(),
            generation: 0,
        };
        mount.swap(made);
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), mount.path(name)).unwrap();
        }
        mount
    }

    fn swap(&mut self, made: &SelfSigned) {
        let old = self.path(&format!("..{}", self.generation));
        self.generation += 1;
        let new = format!("..{}", self.generation);
        fs::create_dir(self.path(&new)).unwrap();
        fs::write(self.path(&new).join("tls.crt"), &made.cert_pem).unwrap();
        fs::write(self.path(&new).join("tls.key"), &made.key_pem).unwrap();
        symlink(&new, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        let _ = fs::remove_dir_all(old);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn files(&self) -> CertFiles {
        CertFiles {
            cert: self.path("tls.crt"),
            key: self.path("tls.key"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_three_swaps_is_loaded() {
    let now = Timestamp::now();
    let first = made_at(now);
    let mut mount = Mount::new(&first);
    let (store, (said, heard)) = (CertStore::new(), mpsc::channel());
    let follower = tokio::spawn(mount.files().follow(
        store.clone(),
        Duration::from_millis(10),
        move |event| {
            let _ = said.send(event);
        },
    ));
    let expect = |made: &SelfSigned| {
        let event = tokio::task::block_in_place(|| heard.recv_timeout(DEADLINE)).unwrap();
        assert!(
            matches!(&event, Reload::Loaded { digest: seen, .. } if *seen == digest(made)),
            "{event:?}"
        );
        assert_eq!(store.current().unwrap().digest(), digest(made));
    };
    expect(&first);
    for _ in 0..3 {
        let made = made_at(now);
        mount.swap(&made);
        expect(&made);
    }
    follower.abort();
    assert_eq!(
        store.status().reload_failures,
        0,
        "a swap must never be read in part"
    );
}

/// Plain files; the test triggers each poll.
struct Plain {
    _folder: tempfile::TempDir,
    files: CertFiles,
    store: CertStore,
    follower: Follower,
    now: Timestamp,
}

impl Plain {
    fn new(now: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = CertFiles {
            cert: folder.path().join("a.pem"),
            key: folder.path().join("b.pem"),
        };
        let store = CertStore::new();
        let follower = Follower::new(files.clone(), store.clone());
        Self {
            _folder: folder,
            files,
            store,
            follower,
            now,
        }
    }

    fn write(&self, cert: &str, key: &str) {
        fs::write(&self.files.cert, cert).unwrap();
        fs::write(&self.files.key, key).unwrap();
    }

    fn loads(&mut self, made: &SelfSigned) {
        let event = self.follower.poll(self.now);
        assert!(
            matches!(&event, Some(Reload::Loaded { digest: seen, .. }) if *seen == digest(made)),
            "{event:?}"
        );
        assert_eq!(
            self.follower.poll(self.now),
            None,
            "an unchanged file must not be reported"
        );
    }

    /// The last valid certificate stays in use, and the reason is reported once.
    fn keeps(&mut self, kept: &SelfSigned, reason: &str) {
        let event = self.follower.poll(self.now);
        assert!(
            matches!(&event, Some(Reload::Kept { reason: said }) if said.contains(reason)),
            "{event:?}"
        );
        assert_eq!(self.follower.poll(self.now), None);
        assert_eq!(self.store.current().unwrap().digest(), digest(kept));
    }
}

fn spring() -> Timestamp {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

#[test]
fn files_are_reloaded_when_rewritten_or_replaced() {
    let now = spring();
    let mut plain = Plain::new(now);
    let [first, second, third] = [made_at(now), made_at(now), made_at(now)];
    assert!(
        matches!(plain.follower.poll(now), Some(Reload::Kept { .. })),
        "there is no file yet"
    );
    assert!(plain.store.current().is_none());
    plain.write(&first.cert_pem, &first.key_pem);
    plain.loads(&first);
    plain.write(&second.cert_pem, &second.key_pem);
    plain.loads(&second);
    fs::remove_file(&plain.files.cert).unwrap();
    plain.keeps(&second, "a.pem: No such file");
    plain.write(&third.cert_pem, &third.key_pem);
    plain.loads(&third);
    plain.write(&second.cert_pem, &second.key_pem);
    plain.loads(&second);
    assert_eq!(plain.store.status().reload_failures, 2);
}

#[test]
fn an_incomplete_pair_is_retried() {
    let now = spring();
    let mut plain = Plain::new(now);
    let [first, second] = [made_at(now), made_at(now)];
    plain.write(&first.cert_pem, &first.key_pem);
    plain.loads(&first);
    plain.write(&second.cert_pem, &first.key_pem);
    plain.keeps(
        &first,
        "the private key does not belong to the first certificate",
    );
    plain.write(&second.cert_pem[..100], &second.key_pem);
    plain.keeps(&first, "a.pem and");
    plain.write(&second.cert_pem, &second.key_pem);
    plain.loads(&second);
    plain.write(&second.cert_pem, &"x".repeat(2 << 20));
    plain.keeps(&second, "larger than 1 MiB");
}

#[test]
fn validity_is_checked_against_the_wall_clock() {
    let now = spring();
    let mut plain = Plain::new(now);
    let (good, expired, early) = (made_at(now), made_at(days(now, -31)), made_at(days(now, 3)));
    plain.write(&good.cert_pem, &good.key_pem);
    plain.loads(&good);
    plain.write(&expired.cert_pem, &expired.key_pem);
    plain.keeps(&good, "expired at 2026-02-28T00:00:00Z");
    plain.write(&early.cert_pem, &early.key_pem);
    plain.keeps(&good, "not valid before 2026-03-03T23:00:00Z");
    plain.now = days(now, 3);
    plain.loads(&early);
}

/// A root CA, an intermediate CA, and the server's certificate.
fn chain_of_three() -> (String, Pair) {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let root =
        CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap()).unwrap();
    let between =
        CertifiedIssuer::signed_by(authority("between"), KeyPair::generate().unwrap(), &root)
            .unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &between)
        .unwrap();
    let cert_pem = format!("{}{}{}", leaf.pem(), between.pem(), root.pem());
    (
        root.pem(),
        Pair {
            cert_pem,
            key_pem: key.serialize_pem(),
        },
    )
}

/// A client: the CA that it trusts, its certificate, its TLS version.
struct Caller<'a> {
    trusts: &'a str,
    shows: Option<&'a Pair>,
    speaks: &'static SupportedProtocolVersion,
}

/// Makes a handshake; returns the protocol above TLS (ALPN), and the client's name.
async fn shake(
    store: &CertStore,
    client_ca: Option<&str>,
    caller: &Caller<'_>,
) -> Result<(String, Option<String>), String> {
    let acceptor = TlsAcceptor::from(Arc::new(
        server_config(store.clone(), client_ca.map(str::as_bytes)).unwrap(),
    ));
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(caller.trusts.as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[caller.speaks])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match caller.shows {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = CertificateDer::pem_slice_iter(pair.cert_pem.as_bytes())
                .map(Result::unwrap)
                .collect();
            builder
                .with_client_auth_cert(
                    chain,
                    PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap(),
                )
                .unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (here, there) = tokio::io::duplex(1 << 16);
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    let (server, client) = tokio::join!(acceptor.accept(there), connector.connect(name, here));
    let (server, _client) = (
        server.map_err(|error| error.to_string())?,
        client.map_err(|error| error.to_string())?,
    );
    let connection = server.get_ref().1;
    let protocol =
        String::from_utf8_lossy(connection.alpn_protocol().unwrap_or_default()).into_owned();
    Ok((
        protocol,
        connection.peer_certificates().and_then(client_name),
    ))
}

fn client_of(issuer: &CertifiedIssuer<'_, KeyPair>, name: &str) -> Pair {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Pair {
        cert_pem: params.signed_by(&key, issuer).unwrap().pem(),
        key_pem: key.serialize_pem(),
    }
}

#[tokio::test]
async fn a_chain_of_three_is_served_and_replaced_without_a_restart() {
    let (root, pair) = chain_of_three();
    let store = CertStore::new();
    let caller = Caller {
        trusts: &root,
        shows: None,
        speaks: &TLS13,
    };
    assert!(
        shake(&store, None, &caller).await.is_err(),
        "there is no certificate yet"
    );
    store.put(Certificate::from_pem(pair.cert_pem.as_bytes(), pair.key_pem.as_bytes()).unwrap());
    assert_eq!(shake(&store, None, &caller).await, Ok(("h2".into(), None)));
    assert_eq!(
        shake(
            &store,
            None,
            &Caller {
                speaks: &TLS12,
                ..caller
            }
        )
        .await,
        Ok(("h2".into(), None))
    );
    let other = made_at(Timestamp::now());
    store.put(Certificate::from_pem(other.cert_pem.as_bytes(), other.key_pem.as_bytes()).unwrap());
    assert!(
        shake(
            &store,
            None,
            &Caller {
                trusts: &root,
                shows: None,
                speaks: &TLS13
            }
        )
        .await
        .is_err()
    );
    assert!(
        shake(
            &store,
            None,
            &Caller {
                trusts: &other.ca_pem,
                shows: None,
                speaks: &TLS13
            }
        )
        .await
        .is_ok()
    );
}

#[tokio::test]
async fn a_client_needs_a_certificate_of_the_ca_or_none() {
    let made = made_at(Timestamp::now());
    let store = CertStore::new();
    store.put(Certificate::from_pem(made.cert_pem.as_bytes(), made.key_pem.as_bytes()).unwrap());
    let authority = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, theirs) = (authority(), authority());
    let (known, stranger) = (
        client_of(&ours, "kube-apiserver"),
        client_of(&theirs, "kube-apiserver"),
    );
    let ca = ours.pem();
    let caller = |shows| Caller {
        trusts: &made.ca_pem,
        shows,
        speaks: &TLS13,
    };
    let named = shake(&store, Some(&ca), &caller(Some(&known)))
        .await
        .unwrap();
    assert_eq!(named.1.as_deref(), Some("kube-apiserver"));
    assert_eq!(
        shake(&store, Some(&ca), &caller(None)).await.unwrap().1,
        None,
        "a client without a certificate, as a kubelet's probe, must be accepted"
    );
    assert!(
        shake(&store, Some(&ca), &caller(Some(&stranger)))
            .await
            .is_err()
    );
    let error = server_config(store, Some(b"nothing")).unwrap_err();
    assert!(matches!(error, CertError::ClientAuthority(_)), "{error}");
}

#[test]
fn the_command_certs_creates_a_pair_that_can_be_served() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("deep/local");
    let call = |args: &[&str]| run(guard().arg("certs").arg("--out").arg(&out).args(args));
    let (code, stdout, stderr) = call(&["--name", "guard.example", "--name", "::1", "--days", "7"]);
    assert_eq!(code, 0, "{stderr}");
    for part in [
        "guard.example, ::1",
        "--tls-cert-file",
        "curl --cacert",
        "ca.crt",
    ] {
        assert!(stdout.contains(part), "{stdout}");
    }
    let mode = |name: &str| fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("tls.key"), mode("tls.crt"), mode("ca.crt")),
        (0o600, 0o644, 0o644)
    );
    assert_eq!(
        fs::read_dir(&out).unwrap().count(),
        3,
        "no temporary file may remain"
    );
    let files = CertFiles {
        cert: out.join("tls.crt"),
        key: out.join("tls.key"),
    };
    let first = files.load().unwrap();
    assert!(
        first.is_valid_at(Timestamp::now()) && stdout.contains(&first.not_after().to_string()),
        "{stdout}"
    );

    let (code, _, stderr) = call(&[]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("tls.key exists") && stderr.contains("--force"),
        "{stderr}"
    );
    assert_eq!(files.load().unwrap().digest(), first.digest());
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(call(&["--force"]).0, 0);
    assert_ne!(files.load().unwrap().digest(), first.digest());
    assert_eq!(mode("tls.key"), 0o600);
}

#[test]
fn invalid_usage_of_the_command_certs_gives_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = common::file(folder.path(), "file", "");
    let (out, under_a_file) = (folder.path().join("out"), format!("{file}/x"));
    let out = out.to_str().unwrap();
    for (args, reason) in [
        (["--out", out, "--days", "0"], "0 is not in 1..=825"),
        (["--out", out, "--days", "826"], "826 is not in 1..=825"),
        (
            ["--out", out, "--name", "a b"],
            "'a b' is neither a DNS name nor an IP address",
        ),
        (["--out", out, "--name", ""], "'' is neither"),
        (["--out", &under_a_file, "--days", "1"], "cannot write"),
    ] {
        let (code, stdout, stderr) = run(guard().arg("certs").args(args));
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(reason), "{stderr}");
    }
    assert!(!folder.path().join("out").exists());
}
