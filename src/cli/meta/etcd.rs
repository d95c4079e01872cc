//! Which etcd, and how to get in.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use milvus_guard_metadata::executor::Target;
use milvus_guard_sources::etcd::{Endpoint, store::PATIENCE};

use super::super::{
    credentials::{credential, tls},
    exit::Failure,
};

/// Which etcd, and how to get in.
#[derive(Clone, Debug, Args)]
pub(super) struct EtcdArgs {
    /// Addresses of one etcd cluster; the first that answers is used
    #[arg(
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

    /// Certificate authorities of etcd (PEM) [default: those of the system]
    #[arg(
        long = "etcd-cacert",
        alias = "cacert",
        value_name = "FILE",
        help_heading = "etcd"
    )]
    cacert: Option<PathBuf>,

    /// Client certificate (PEM)
    #[arg(
        long = "etcd-cert",
        alias = "cert",
        value_name = "FILE",
        requires = "key",
        help_heading = "etcd"
    )]
    cert: Option<PathBuf>,

    /// Key of the client certificate (PEM)
    #[arg(
        long = "etcd-key",
        alias = "key",
        value_name = "FILE",
        requires = "cert",
        help_heading = "etcd"
    )]
    key: Option<PathBuf>,

    /// User of etcd
    #[arg(
        long = "etcd-user",
        alias = "user",
        value_name = "NAME",
        env = "MILVUS_GUARD_ETCD_USER",
        help_heading = "etcd"
    )]
    user: Option<String>,

    /// File with the password of that user [default: the environment variable
    /// `MILVUS_GUARD_ETCD_PASSWORD`]
    #[arg(
        long = "etcd-password-file",
        alias = "password-file",
        value_name = "FILE",
        requires = "user",
        help_heading = "etcd"
    )]
    password_file: Option<PathBuf>,

    /// How long to wait for a response of etcd before the command stops
    #[arg(long, value_name = "TIME", value_parser = time, default_value_t = Time(PATIENCE), help_heading = "etcd")]
    etcd_timeout: Time,
}

impl EtcdArgs {
    /// The metadata that is meant.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        let user = match &self.user {
            Some(user) => Some((user.clone(), self.password()?)),
            None => None,
        };
        let endpoint = Endpoint {
            addresses: self.endpoints.clone(),
            root_path: self.root_path.clone(),
            meta_sub_path: self.meta_sub_path.clone(),
            tls: tls(self.cacert.as_ref(), self.cert.as_ref(), self.key.as_ref()),
            user,
            release: None,
        };
        Ok(Target {
            patience: self.etcd_timeout.0,
            ..Target::new(endpoint)
        })
    }

    fn password(&self) -> Result<String, Failure> {
        let Some(path) = &self.password_file else {
            return std::env::var("MILVUS_GUARD_ETCD_PASSWORD").map_err(|_| {
                Failure::usage(
                    "--etcd-user needs a password: give --etcd-password-file, or set \
                     MILVUS_GUARD_ETCD_PASSWORD",
                )
            });
        };
        credential(path, "the password from ")
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
        let files = [
            ("--etcd-cacert", &self.cacert),
            ("--etcd-cert", &self.cert),
            ("--etcd-key", &self.key),
            ("--etcd-password-file", &self.password_file),
        ];
        for (flag, file) in files {
            if let Some(file) = file {
                flags.push_str(&format!(" {flag} {}", file.display()));
            }
        }
        if let Some(user) = &self.user {
            flags.push_str(&format!(" --etcd-user {user}"));
        }
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
