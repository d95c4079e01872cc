use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{MilvusStore, MilvusVersion};
use crate::daemon::Ready;
use crate::http::Client;
use crate::{Error, Etcd, Program, command};

/// How often a server is started that crashes as described at [`is_known_crash`].
pub(super) const ATTEMPTS: usize = 5;

/// A server of 2.2 and later on messages of 2.1 sometimes crashes on its first start: it loads
/// collections that were loaded before, and its query node panics over a channel for which its data
/// node has not yet written a checkpoint. The next start, as by Kubernetes, succeeds.
pub(super) fn is_known_crash(error: &Error) -> bool {
    let text = error.to_string();
    text.contains("FromDmlCPLoadDelete") && text.contains("index out of range")
}

/// How long a healthy server may take for the checkpoints of its channels. Mostly they exist at
/// once; sometimes one takes more than a minute, and only that crash depends on it.
const CHECKPOINTS_DEADLINE: Duration = Duration::from_secs(20);

/// Readiness of a server: its components are healthy, and the crash of [`is_known_crash`] is
/// unlikely.
pub(super) fn ready(
    version: MilvusVersion,
    metrics_port: u16,
    etcd: &Etcd,
) -> Result<Ready, Error> {
    let health = Client::plain(metrics_port);
    let metadata = Metadata::of(etcd)?;
    let healthy_since = OnceLock::new();
    Ok(Box::new(move |log| {
        // A server is healthy before it is ready to serve; 2.1 has only the line in its log.
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

    /// Channels that data nodes must watch and that have no checkpoint yet; `None` if etcd does not
    /// answer.
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

    /// Last parts of the keys below a path; the keys of both callers end with the channel's name.
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
