use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{MilvusStore, MilvusVersion};
use crate::daemon::Ready;
use crate::http::Client;
use crate::{Error, Etcd, Program, command};

/// How often a server is started that crashes as [`is_known_crash`] says.
pub(super) const ATTEMPTS: usize = 5;

/// A server of 2.2 and later on the messages of 2.1 crashes now and then on its first start: it
/// loads what was left loaded, and its query node panics over a channel for which its data node has
/// not yet written a checkpoint. Started again, as on Kubernetes, it does well.
pub(super) fn is_known_crash(error: &Error) -> bool {
    let text = error.to_string();
    text.contains("FromDmlCPLoadDelete") && text.contains("index out of range")
}

/// How long a healthy server is given for the checkpoints of its channels. Mostly they are there at
/// once; now and then one comes a minute or more later, and all but that crash goes well without
/// it.
const CHECKPOINTS_DEADLINE: Duration = Duration::from_secs(20);

/// When a server does its work: its components are healthy, and what [`is_known_crash`] means can
/// hardly happen any more.
pub(super) fn ready(
    version: MilvusVersion,
    metrics_port: u16,
    etcd: &Etcd,
) -> Result<Ready, Error> {
    let health = Client::plain(metrics_port);
    let metadata = Metadata::of(etcd)?;
    let healthy_since = OnceLock::new();
    Ok(Box::new(move |log| {
        // A server answers for its health before it is ready to serve, and an old one has only this
        // to say about itself.
        if !log.contains("ready to serve") || !health.is_ok("/healthz") {
            return false;
        }
        let since = healthy_since.get_or_init(Instant::now);
        version == MilvusVersion::V2_1_0
            || metadata
                .without_checkpoint()
                .is_some_and(|channels| channels.is_empty())
            || since.elapsed() > CHECKPOINTS_DEADLINE
    }))
}

/// Keys of a store.
pub(super) struct Metadata {
    etcdctl: PathBuf,
    endpoint: String,
}

impl Metadata {
    pub(super) fn of(etcd: &Etcd) -> Result<Self, Error> {
        Ok(Self {
            etcdctl: Program::Etcdctl.try_path()?,
            endpoint: etcd.endpoint(),
        })
    }

    /// Channels that data nodes are to watch and that have no checkpoint yet; nothing if etcd does
    /// not answer.
    pub(super) fn without_checkpoint(&self) -> Option<Vec<String>> {
        let checkpoints = self.names("datacoord-meta/channel-cp")?;
        let channels = self.names("channelwatch")?;
        Some(
            channels
                .into_iter()
                .filter(|channel| !checkpoints.contains(channel))
                .collect(),
        )
    }

    /// Last parts of the keys below a path; both kinds of keys asked for end with the channel's
    /// name.
    fn names(&self, path: &str) -> Option<Vec<String>> {
        let mut get = Command::new(&self.etcdctl);
        command::only_neutral_environment(&mut get);
        get.env("ETCDCTL_API", "3").args([
            "--endpoints",
            &self.endpoint,
            "get",
            "--prefix",
            "--keys-only",
        ]);
        get.arg(format!("{}/meta/{path}/", MilvusStore::ROOT_PATH));
        let keys = command::expect_output(&mut get).ok()?;
        Some(
            keys.split_whitespace()
                .filter_map(|key| key.rsplit('/').next())
                .map(str::to_owned)
                .collect(),
        )
    }
}
