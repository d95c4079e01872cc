//! The flags that name an etcd and its credentials.

use std::time::Duration;

use clap::Args;

use milvus_guard_metadata::executor::Target;
use milvus_guard_sources::etcd::{Endpoint, connection::PATIENCE};

use super::super::{credentials::EtcdLogin, duration::duration, exit::Failure};

/// Flags that name an etcd and its credentials.
#[derive(Clone, Debug, Args)]
pub(super) struct EtcdArgs {
    /// Addresses of one etcd cluster; the first that answers is used
    #[arg(
        short = 'e',
        long = "etcd",
        value_name = "URL[,URL]",
        value_delimiter = ',',
        required = true,
        help_heading = "etcd"
    )]
    endpoints: Vec<String>,

    /// Root path of Milvus in etcd (etcd.rootPath; the chart sets it to the release's name)
    #[arg(
        short,
        long,
        value_name = "PATH",
        default_value = "by-dev",
        help_heading = "etcd"
    )]
    root_path: String,

    /// Path of the metadata below the root path (etcd.metaSubPath)
    #[arg(
        long,
        value_name = "PATH",
        default_value = "meta",
        help_heading = "etcd"
    )]
    meta_sub_path: String,

    #[command(flatten)]
    login: EtcdLogin,

    /// How long to wait for a response of etcd before the command stops
    #[arg(long, value_name = "TIME", value_parser = |text: &str| duration(text).map(Time), default_value_t = Time(PATIENCE), help_heading = "etcd")]
    etcd_timeout: Time,
}

impl EtcdArgs {
    /// The metadata that the flags name.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        let (user, tls) = self.login.read()?;
        let endpoint = Endpoint {
            addresses: self.endpoints.clone(),
            root_path: self.root_path.clone(),
            meta_sub_path: self.meta_sub_path.clone(),
            tls,
            user,
            release: None,
        };
        Ok(Target {
            patience: self.etcd_timeout.0,
            ..Target::new(endpoint)
        })
    }

    /// The flags that the next command needs to name the same metadata, without secrets.
    pub(super) fn flags(&self) -> String {
        let mut flags = format!(
            "--etcd {} --root-path {}",
            self.endpoints.join(","),
            self.root_path
        );
        if self.meta_sub_path != "meta" {
            flags.push_str(&format!(" --meta-sub-path {}", self.meta_sub_path));
        }
        flags.push_str(&self.login.flags());
        flags
    }
}

/// A duration that clap can print as a default value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Time(Duration);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}s", self.0.as_secs())
    }
}
