use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::certs::{Authority, Identity};
use crate::daemon::{Daemon, Ready};
use crate::error::or_panic;
use crate::http::Client;
use crate::ports::with_free_ports;
use crate::programs::Program;
use crate::scratch::Scratch;
use crate::{Error, command};

/// Options of an [`Etcd`]; the default is without TLS, users and limits.
#[derive(Debug, Clone, Default)]
pub struct EtcdOptions {
    /// TLS, with a server certificate for 127.0.0.1 and localhost; every client must present a
    /// certificate.
    pub tls: bool,
    /// Authentication by user and password. Both this user and `root`, which etcd requires, get the
    /// role `root` and this password.
    pub auth: Option<(String, String)>,
    /// Limit of the size of the database, in bytes; etcd's default is 2 GiB. Above it the NOSPACE
    /// alarm blocks writes.
    pub quota_bytes: Option<u64>,
    /// Further flags for etcd, in the form `--flag=value`.
    pub args: Vec<String>,
    /// The data directory of another etcd, which must be stopped meanwhile: its content is copied.
    pub data: Option<PathBuf>,
}

/// One etcd server with a separate data directory, on free loopback ports. It never syncs to disk.
///
/// It is stopped when this value is dropped; [`Self::stop`], [`Self::restart`], [`Self::pause`] and
/// [`Self::resume`] simulate an outage.
#[derive(Debug)]
pub struct Etcd {
    daemon: Daemon,
    port: u16,
    tls: Option<Tls>,
    auth: Option<(String, String)>,
    scratch: Scratch,
}

#[derive(Debug)]
struct Tls {
    authority: Authority,
    server: Identity,
    client: Identity,
}

impl Etcd {
    /// Starts an etcd with the default options and waits until it is healthy.
    ///
    /// # Panics
    /// When it does not start; the message contains the end of its log.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&EtcdOptions::default())
    }

    /// Starts an etcd with these options and waits until it is healthy and authentication, if
    /// requested, is enabled.
    ///
    /// # Panics
    /// When it does not start; the message contains the end of its log.
    #[must_use]
    #[track_caller]
    pub fn start_with(options: &EtcdOptions) -> Self {
        or_panic(Self::try_start_with(options))
    }

    /// [`Self::start_with`] without the panic.
    ///
    /// # Errors
    /// When it does not start; the error contains the end of its log.
    pub fn try_start_with(options: &EtcdOptions) -> Result<Self, Error> {
        let mut etcd = with_free_ports(|ports| Self::start_on(ports, options))?;
        if let Some((user, password)) = &options.auth {
            etcd.enable_auth(user, password)?;
            etcd.auth = Some((user.clone(), password.clone()));
        }
        Ok(etcd)
    }

    fn start_on([port, peer_port]: [u16; 2], options: &EtcdOptions) -> Result<Self, Error> {
        let scratch = Scratch::new("etcd")?;
        let tls = options.tls.then(|| Tls::new(&scratch)).transpose()?;
        let (client_url, peer_url) = (url(tls.is_some(), port), url(false, peer_port));
        let mut args: Vec<OsString> = [
            "--name=testbed".to_owned(),
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=testbed={peer_url}"),
            // The data need not survive a power failure, and the disk is the slowest part of a test
            // machine.
            "--unsafe-no-fsync".to_owned(),
            // A single member waits for no other: with these values it is ready in a tenth of the
            // default second.
            "--heartbeat-interval=10".to_owned(),
            "--election-timeout=100".to_owned(),
        ]
        .map(OsString::from)
        .to_vec();
        let data_dir = scratch.join("data");
        if let Some(source) = &options.data {
            command::expect_output(Command::new("cp").arg("-R").arg(source).arg(&data_dir))?;
        }
        args.push(command::flag("--data-dir", &data_dir));
        if let Some(tls) = &tls {
            args.push("--client-cert-auth".into());
            args.push(command::flag("--trusted-ca-file", &tls.authority.path));
            args.push(command::flag("--cert-file", &tls.server.cert_path));
            args.push(command::flag("--key-file", &tls.server.key_path));
        }
        args.extend(
            options
                .quota_bytes
                .map(|bytes| format!("--quota-backend-bytes={bytes}").into()),
        );
        args.extend(options.args.iter().map(OsString::from));
        let client = match &tls {
            None => Client::plain(port),
            Some(tls) => Client::tls(port, &tls.authority, &tls.client)?,
        };
        // The log first: another plain etcd on the same port would answer as well.
        let ready: Ready =
            Box::new(move |log| log.contains("serving client traffic") && client.is_ok("/health"));
        let daemon = Daemon::start(Program::Etcd, args, &scratch, ready)?;
        Ok(Self {
            daemon,
            port,
            tls,
            auth: None,
            scratch,
        })
    }

    fn enable_auth(&self, user: &str, password: &str) -> Result<(), Error> {
        let run = |args: &[&str]| -> Result<(), Error> {
            let output = command::run(self.try_etcdctl_command()?.args(args), "")?;
            if output.status.success() {
                return Ok(());
            }
            Err(Error::doing(
                format_args!("etcdctl {}", args[..2].join(" ")),
                String::from_utf8_lossy(&output.stderr),
            ))
        };
        run(&["role", "add", "root"])?;
        let other = (user != "root").then_some(user);
        for name in ["root"].into_iter().chain(other) {
            run(&["user", "add", &format!("{name}:{password}")])?;
            run(&["user", "grant-role", name, "root"])?;
        }
        run(&["auth", "enable"])
    }

    /// Where clients connect: `http://127.0.0.1:<port>`, or `https://` with TLS.
    #[must_use]
    pub fn endpoint(&self) -> String {
        url(self.tls.is_some(), self.port)
    }

    /// The client port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.scratch.join("data")
    }

    /// Certificate of the authority that signed the server's certificate, PEM.
    ///
    /// # Panics
    /// When this etcd was started without TLS.
    #[must_use]
    #[track_caller]
    pub fn ca_path(&self) -> &Path {
        &self.tls().authority.path
    }

    /// A client certificate that the server accepts, PEM.
    ///
    /// # Panics
    /// When this etcd was started without TLS.
    #[must_use]
    #[track_caller]
    pub fn client_cert_path(&self) -> &Path {
        &self.tls().client.cert_path
    }

    /// The key of [`Self::client_cert_path`], PEM (PKCS #8).
    ///
    /// # Panics
    /// When this etcd was started without TLS.
    #[must_use]
    #[track_caller]
    pub fn client_key_path(&self) -> &Path {
        &self.tls().client.key_path
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    #[track_caller]
    fn tls(&self) -> &Tls {
        match &self.tls {
            Some(tls) => tls,
            None => panic!("test bed: this etcd was started without TLS"),
        }
    }

    /// Runs etcdctl against this server, with its certificates and credentials, and returns its
    /// output.
    ///
    /// # Panics
    /// When etcdctl cannot be started.
    #[track_caller]
    pub fn etcdctl(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        or_panic(
            self.try_etcdctl_command()
                .and_then(|mut etcdctl| command::run(etcdctl.args(args), "")),
        )
    }

    fn try_etcdctl_command(&self) -> Result<Command, Error> {
        let mut etcdctl = Command::new(Program::Etcdctl.try_path()?);
        command::only_neutral_environment(&mut etcdctl);
        etcdctl
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.endpoint()));
        if let Some(tls) = &self.tls {
            etcdctl.arg(command::flag("--cacert", &tls.authority.path));
            etcdctl
                .arg(command::flag("--cert", &tls.client.cert_path))
                .arg(command::flag("--key", &tls.client.key_path));
        }
        if let Some((user, password)) = &self.auth {
            etcdctl.arg(format!("--user={user}:{password}"));
        }
        Ok(etcdctl)
    }

    /// The process of the server, for its pid and its log.
    #[must_use]
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// See [`Daemon::stop`].
    pub fn stop(&self) {
        self.daemon.stop();
    }

    /// See [`Daemon::restart`].
    ///
    /// # Panics
    /// When it does not become healthy again.
    #[track_caller]
    pub fn restart(&self) {
        self.daemon.restart();
    }

    /// See [`Daemon::pause`].
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn pause(&self) {
        self.daemon.pause();
    }

    /// See [`Daemon::resume`].
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn resume(&self) {
        self.daemon.resume();
    }
}

impl Tls {
    fn new(scratch: &Scratch) -> Result<Self, Error> {
        let authority = Authority::new(scratch)?;
        let server = authority.server(scratch, "server", &["localhost"])?;
        let client = authority.client(scratch, "client", "testbed-client", None)?;
        Ok(Self {
            authority,
            server,
            client,
        })
    }
}

fn url(tls: bool, port: u16) -> String {
    format!("{}://127.0.0.1:{port}", if tls { "https" } else { "http" })
}
