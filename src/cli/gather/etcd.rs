//! Reads from etcd: the format of the metadata, and the configuration that Milvus itself stores.

use clap::Args;
use tokio::runtime::Runtime;

use milvus_guard_core::{
    evidence::MetadataFact,
    milvus::{Release, Snapshot},
    report::InputEntry,
};
use milvus_guard_sources::etcd::{Endpoint, settings};

use crate::cli::{
    credentials::{Credentials, EtcdLogin},
    exit::Failure,
};

/// Flags that name an etcd and its credentials. It is only read.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct EtcdArgs {
    /// Read the format of the metadata from etcd (evidence for MG101), read only
    #[arg(
        short = 'e',
        long = "etcd",
        value_name = "URL[,URL]",
        value_delimiter = ',',
        help_heading = "etcd"
    )]
    endpoints: Vec<String>,

    /// Root path of Milvus in etcd [default: from the running configuration, else by-dev]
    #[arg(
        short,
        long,
        value_name = "PATH",
        requires = "endpoints",
        help_heading = "etcd"
    )]
    root_path: Option<String>,

    /// Path of the metadata below the root path
    #[arg(
        long,
        value_name = "PATH",
        default_value = "meta",
        requires = "endpoints",
        help_heading = "etcd"
    )]
    meta_sub_path: String,

    #[command(flatten)]
    login: EtcdLogin,
}

/// The etcd that `--etcd` names, with its credentials.
pub(in crate::cli) struct NamedEtcd<'a> {
    args: &'a EtcdArgs,
    credentials: Credentials,
}

impl EtcdArgs {
    /// The etcd that is named, if any.
    ///
    /// # Errors
    /// Flags that contradict each other, or a file that cannot be read.
    pub(in crate::cli) fn named(&self) -> Result<Option<NamedEtcd<'_>>, Failure> {
        match self.login.given() {
            Some(flag) if self.endpoints.is_empty() => {
                Err(Failure::usage(format!("{flag} needs --etcd")))
            }
            _ if self.endpoints.is_empty() => Ok(None),
            _ => Ok(Some(NamedEtcd {
                args: self,
                credentials: self.login.read()?,
            })),
        }
    }
}

impl NamedEtcd<'_> {
    /// Reads the format of the metadata. If it cannot be read, that is a fact too.
    pub(in crate::cli) fn inspect(
        &self,
        runtime: &Runtime,
        before: Option<&Release>,
    ) -> MetadataFact {
        let endpoint = self.endpoint(before);
        runtime.block_on(milvus_guard_metadata::executor::detect(&endpoint))
    }

    /// Reads the configuration that Milvus itself stores in etcd and applies it to both sides.
    /// Returns what was read, for the report.
    pub(in crate::cli) fn configuration(
        &self,
        runtime: &Runtime,
        before: Option<&mut Snapshot>,
        after: &mut Snapshot,
    ) -> InputEntry {
        let running = before
            .as_ref()
            .and_then(|snapshot| match snapshot.releases.as_slice() {
                [only] => Some(only),
                _ => None,
            });
        let endpoint = self.endpoint(running);
        let mut entry = InputEntry {
            role: "etcd".into(),
            source: endpoint.shown(),
            ..InputEntry::default()
        };
        match runtime.block_on(settings(&endpoint)) {
            Ok(settings) => {
                for snapshot in before.into_iter().chain([after]) {
                    snapshot.lay_dynamic(&endpoint.root_path, &settings, "etcd");
                }
                let count = milvus_guard_core::text::count(settings.len(), "setting");
                entry.read.push(format!(
                    "{count} that Milvus stores under {}/config",
                    endpoint.root_path
                ));
            }
            Err(reason) => entry
                .not_read
                .push(format!("the settings that Milvus stores in etcd: {reason}")),
        }
        entry
    }

    fn endpoint(&self, before: Option<&Release>) -> Endpoint {
        let configured = before
            .filter(|release| release.has_config())
            .map(|release| release.metadata().root_path.value.into_owned());
        let root_path = self.args.root_path.clone().or(configured);
        let (user, tls) = self.credentials.clone();
        Endpoint {
            addresses: self.args.endpoints.clone(),
            root_path: root_path.unwrap_or_else(|| "by-dev".into()),
            meta_sub_path: self.args.meta_sub_path.clone(),
            tls,
            user,
            release: before.map(|release| release.name.clone()),
        }
    }
}
