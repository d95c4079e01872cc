mod config;
mod ready;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

pub(crate) use config::Config;

use crate::build::say;
use crate::daemon::Daemon;
use crate::error::or_panic;
use crate::ports::with_free_ports;
use crate::scratch::Scratch;
use crate::{Bundle, Error, Etcd, EtcdOptions, command, expect_success, wait_until};

/// Sessions of a killed server remain until their TTL ends, which is at most 60 s.
const SESSIONS_DEADLINE: Duration = Duration::from_secs(90);
/// Components of a standalone server that listen on a separate port, by their section of the
/// configuration.
const COMPONENTS: [&str; 8] = [
    "rootCoord",
    "proxy",
    "queryCoord",
    "queryNode",
    "indexCoord",
    "indexNode",
    "dataCoord",
    "dataNode",
];

/// The Milvus versions that have a wheel, and so can run as a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MilvusVersion {
    /// 2.1.0, the only 2.1.
    V2_1_0,
    /// 2.2.16, the last 2.2.
    V2_2_16,
    /// 2.3.2, the first 2.3 whose wheel can use object storage.
    V2_3_2,
    /// 2.3.5.
    V2_3_5,
}

impl MilvusVersion {
    /// The version as Milvus writes it, for example `2.2.16`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V2_1_0 => "2.1.0",
            Self::V2_2_16 => "2.2.16",
            Self::V2_3_2 => "2.3.2",
            Self::V2_3_5 => "2.3.5",
        }
    }

    /// Also the name of its log.
    fn daemon(self) -> &'static str {
        match self {
            Self::V2_1_0 => "milvus-2.1.0",
            Self::V2_2_16 => "milvus-2.2.16",
            Self::V2_3_2 => "milvus-2.3.2",
            Self::V2_3_5 => "milvus-2.3.5",
        }
    }
}

/// All data of a Milvus: metadata in a separate etcd, objects and messages in a folder. No server
/// runs on it; [`Self::serve`] starts one.
#[derive(Debug)]
pub struct MilvusStore {
    etcd: Etcd,
    scratch: Scratch,
    authorization: bool,
}

/// A real standalone Milvus server from a Python wheel: plain processes on free ports, without
/// root.
///
/// It reads and writes its [`MilvusStore`] until it is [stopped](Self::stop); then another version
/// can serve the store.
#[derive(Debug)]
pub struct Milvus {
    daemon: Daemon,
    version: MilvusVersion,
    port: u16,
    store: MilvusStore,
}

impl MilvusStore {
    /// `etcd.rootPath` of all servers: Milvus's own default.
    pub const ROOT_PATH: &'static str = "by-dev";

    /// An empty store.
    ///
    /// # Panics
    /// When etcd does not start.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        or_panic(Self::try_new(&EtcdOptions::default()))
    }

    fn try_new(options: &EtcdOptions) -> Result<Self, Error> {
        let etcd = Etcd::try_start_with(options)?;
        let scratch = Scratch::new("milvus")?;
        fs::create_dir(scratch.join("data"))
            .map_err(|e| Error::doing("making a folder for Milvus's data", e))?;
        Ok(Self {
            etcd,
            scratch,
            authorization: false,
        })
    }

    /// Its servers require user and password; the initial password of `root` is `Milvus`.
    #[must_use]
    pub fn with_authorization(mut self) -> Self {
        self.authorization = true;
        self
    }

    /// The etcd with the metadata.
    #[must_use]
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// Another store with a copy of the content. The etcd of this one is stopped meanwhile.
    ///
    /// # Panics
    /// When the content cannot be copied or an etcd does not start.
    #[must_use]
    #[track_caller]
    pub fn twin(&self) -> Self {
        self.etcd.stop();
        let mut twin = or_panic(Self::try_new(&EtcdOptions {
            data: Some(self.etcd.data_dir()),
            ..EtcdOptions::default()
        }));
        twin.authorization = self.authorization;
        self.etcd.restart();
        // Folders of the servers contain only configurations, which each start writes again.
        let mut copy = Command::new("cp");
        copy.arg("-R")
            .args(["data", "messages", "messages_meta_kv"].map(|name| self.scratch.join(name)));
        expect_success(or_panic(command::run(copy.arg(twin.scratch.path()), "")));
        twin
    }

    /// Starts a server on this store and waits until all its components are healthy.
    ///
    /// # Panics
    /// When it does not start; the message contains the end of its log.
    #[must_use]
    #[track_caller]
    pub fn serve(self, version: MilvusVersion) -> Milvus {
        or_panic(self.try_serve(version))
    }

    fn try_serve(self, version: MilvusVersion) -> Result<Milvus, Error> {
        let wheels = Bundle::Milvus.try_dir()?;
        let cleanup = format!("alias='{}'\n{}", self.alias(), include_str!("end.sh"));
        let start = |ports: [u16; 10]| {
            let [port, metrics, ..] = ports;
            let args = self.prepare(version, &wheels, ports)?;
            let ready = ready::ready(version, metrics, &self.etcd)?;
            let daemon = Daemon::start_other(
                version.daemon(),
                "env".into(),
                args,
                &self.scratch,
                cleanup.clone(),
                ready,
            )?;
            Ok((daemon, port))
        };
        let mut attempt = 1;
        let (daemon, port) = loop {
            match with_free_ports(start) {
                Err(error) if ready::is_known_crash(&error) && attempt < ready::ATTEMPTS => {
                    let without = ready::Metadata::of(&self.etcd)?
                        .without_checkpoint()
                        .unwrap_or_default()
                        .len();
                    let name = version.name();
                    say(format_args!(
                        "Milvus {name} crashed, {without} channels being without a checkpoint; \
                         starting it again"
                    ));
                    attempt += 1;
                }
                result => break result?,
            }
        };
        Ok(Milvus {
            daemon,
            version,
            port,
            store: self,
        })
    }

    /// Writes the configuration and returns the arguments of `env` that start the server.
    fn prepare(
        &self,
        version: MilvusVersion,
        wheels: &Path,
        ports: [u16; 10],
    ) -> Result<Vec<OsString>, Error> {
        let [port, metrics, internal, others @ ..] = ports;
        let (server, own) = (
            wheels.join(version.name()),
            self.scratch.join(version.name()),
        );
        let failed = |e: std::io::Error| {
            Error::doing(format_args!("preparing Milvus {}", version.name()), e)
        };
        let data = self.scratch.join("data");
        let (template, config_dir, local, working_dir) = match version {
            MilvusVersion::V2_1_0 => (
                server.join("configs/embedded-milvus.yaml"),
                own.join("configs"),
                data.clone(),
                own,
            ),
            // 2.1 writes objects to `files` in its storage folder, and stores paths relative to the
            // storage folder.
            _ => (server.join("milvus.yaml"), own, data.join("files"), data),
        };
        fs::create_dir_all(&config_dir).map_err(failed)?;
        let mut config = Config::new(&fs::read_to_string(&template).map_err(failed)?);
        let mut set = |path: &str, value: &str| config.set(path, value);
        set("etcd.endpoints", &format!("127.0.0.1:{}", self.etcd.port()))?;
        set("etcd.use.embed", "false")?;
        set("localStorage.path", &format!("{}/", local.display()))?;
        set(
            "rocksmq.path",
            &self.scratch.join("messages").display().to_string(),
        )?;
        set("log.level", "warn")?;
        set("log.file.rootPath", "\"\"")?;
        let component_ports = [others[0], port]
            .into_iter()
            .chain(others[1..].iter().copied());
        for (component, port) in COMPONENTS.iter().zip(component_ports) {
            set(&format!("{component}.port"), &port.to_string())?;
        }
        set("proxy.internalPort", &internal.to_string())?;
        set(
            "common.security.authorizationEnabled",
            &self.authorization.to_string(),
        )?;
        let mut args: Vec<OsString> = vec![
            "-C".into(),
            working_dir.into(),
            format!("METRICS_PORT={metrics}").into(),
        ];
        if version == MilvusVersion::V2_1_0 {
            fs::write(config_dir.join("embedded-milvus.yaml"), config.text()).map_err(failed)?;
            fs::copy(
                server.join("configs/easylogging.yaml"),
                config_dir.join("easylogging.yaml"),
            )
            .map_err(failed)?;
            let libraries = server.join("lib");
            let library = libraries.join("embd-milvus.so");
            args.extend([
                variable("LD_LIBRARY_PATH", &libraries),
                variable("LD_PRELOAD", &library),
            ]);
            args.push(wheels.join("python").into());
            let start = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).startEmbedded()";
            args.extend(["-c".into(), start.into(), library.into()]);
        } else {
            set("log.stdout", "true")?;
            // Sessions of a killed server end sooner.
            set("common.session.ttl", "10")?;
            fs::write(config_dir.join("milvus.yaml"), config.text()).map_err(failed)?;
            // 2.3 does not start without this file.
            fs::write(
                config_dir.join("glog.conf"),
                "--logtostderr=true\n--minloglevel=1\n",
            )
            .map_err(failed)?;
            args.extend([
                variable("LD_LIBRARY_PATH", &server),
                variable("MILVUSCONF", &config_dir),
            ]);
            args.push("DEPLOY_MODE=STANDALONE".into());
            args.extend([
                server.join("milvus").into(),
                "run".into(),
                "standalone".into(),
            ]);
            args.extend(["-alias".into(), self.alias().into()]);
        }
        Ok(args)
    }

    /// Name of the server in its command line and its files outside the store.
    fn alias(&self) -> String {
        self.scratch
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Keys of the sessions of live servers, without the ID counter.
    fn sessions(&self) -> String {
        let prefix = format!("{}/meta/session/", Self::ROOT_PATH);
        let keys = expect_success(
            self.etcd
                .etcdctl(["get", "--prefix", &prefix, "--keys-only"]),
        );
        let live = keys
            .split_whitespace()
            .filter(|key| *key != format!("{prefix}id"));
        live.collect::<Vec<_>>().join(" ")
    }
}

impl Default for MilvusStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Milvus {
    /// The version of the server.
    #[must_use]
    pub fn version(&self) -> MilvusVersion {
        self.version
    }

    /// The proxy's port on loopback: gRPC without TLS, and without users unless
    /// [requested](MilvusStore::with_authorization).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where gRPC clients connect: `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The store that the server reads and writes.
    #[must_use]
    pub fn store(&self) -> &MilvusStore {
        &self.store
    }

    /// The process of the server, for its pid and its log.
    #[must_use]
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Runs a Python script that can import `pymilvus`, and returns its output. It is stopped with
    /// the test.
    ///
    /// # Panics
    /// When Python cannot be run at all.
    #[track_caller]
    pub fn python<A: AsRef<OsStr>>(
        &self,
        script: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Output {
        or_panic(python(script, args))
    }

    /// Stops the server, by SIGKILL after 10 s (newer versions retry for minutes what can no longer
    /// succeed), and waits until etcd has no session of it.
    ///
    /// # Panics
    /// When its sessions remain.
    #[must_use]
    #[track_caller]
    pub fn stop(self) -> MilvusStore {
        self.daemon.stop();
        let gone = wait_until(SESSIONS_DEADLINE, || self.store.sessions().is_empty());
        assert!(
            gone,
            "sessions of Milvus {} stay in etcd: {}",
            self.version.name(),
            self.store.sessions()
        );
        self.store
    }
}

pub(crate) fn python<A: AsRef<OsStr>>(
    script: &Path,
    args: impl IntoIterator<Item = A>,
) -> Result<Output, Error> {
    let failed = |e: std::io::Error| Error::doing(format_args!("running {}", script.display()), e);
    let wheels = Bundle::Milvus.try_dir()?;
    let mut python = Command::new(wheels.join("python"));
    command::only_neutral_environment(&mut python);
    python
        .env("PYTHONPATH", wheels.join("client"))
        .env("PYTHONNOUSERSITE", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    python
        .args(["-c", include_str!("../../python/milvus/run.py")])
        .arg(script)
        .args(args);
    let mut child = python
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Open until the script has ended. The script exits when this closes, which also happens when
    // the test is killed.
    let held = child.stdin.take();
    let output = child.wait_with_output().map_err(failed);
    drop(held);
    output
}

fn variable(name: &str, value: &PathBuf) -> OsString {
    let mut variable = OsString::from(name);
    variable.push("=");
    variable.push(value);
    variable
}
