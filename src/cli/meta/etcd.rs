//! Which etcd, and how to get in.

use std::time::Duration;

use clap::Args;

use milvus_guard_metadata::executor::Target;
use milvus_guard_sources::etcd::{Endpoint, connection::PATIENCE};

use super::super::{credentials::EtcdLogin, exit::Failure};

/// Which etcd, and how to get in.
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
    #[arg(long, value_name = "TIME", value_parser = time, default_value_t = Time(PATIENCE), help_heading = "etcd")]
    etcd_timeout: Time,
}

impl EtcdArgs {
    /// The metadata that is meant.
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

    /// The flags that the next command needs to mean the same metadata; nothing secret is among
    /// them.
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

/// A span of time as it is written: `120s`, `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub(super) Duration);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}s", self.0.as_secs())
    }
}

pub(super) fn time(text: &str) -> Result<Time, String> {
    let wrong = || format!("'{text}' is not a valid duration; write 90s, 2m or 1h");
    if let Ok(seconds) = text.parse() {
        return Ok(Time(Duration::from_secs(seconds)));
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).map(Time).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("120s", Some(120))]
    #[case("2m", Some(120))]
    #[case("90", Some(90))]
    #[case("1h", Some(3600))]
    #[case("-5s", None)]
    #[case("soon", None)]
    fn times(#[case] text: &str, #[case] seconds: Option<u64>) {
        assert_eq!(
            time(text).ok(),
            seconds.map(|seconds| Time(Duration::from_secs(seconds)))
        );
    }
}
