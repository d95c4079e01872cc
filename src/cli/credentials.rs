//! How to get into etcd and into Milvus: flags and environment with `--local`, the folder of a
//! mounted Secret in a Job.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Arg, Args as ClapArgs};

use milvus_guard_sources::{etcd::Tls, milvus::Login};

use super::exit::Failure;

/// Bytes of a credential; PEM bundles are larger.
const MAX_CREDENTIAL: u64 = 64 * 1024;

/// User and password, and TLS.
type Credentials = (Option<(String, String)>, Option<Tls>);

/// Headings of these flags.
const ETCD: &str = "etcd";
const MILVUS: &str = "Milvus";

/// For verbs that make a Job, which takes these from Secrets: the flags mean something with `--local`
/// only. To be used with `mut_args`.
pub(in crate::cli) fn with_local(arg: Arg) -> Arg {
    match arg.get_help_heading() {
        Some(ETCD) => arg.requires("local").help_heading("etcd, with --local"),
        Some(MILVUS) => arg.requires("local").help_heading("Milvus, with --local"),
        _ => arg,
    }
}

/// How to get into etcd.
#[allow(
    clippy::struct_field_names,
    reason = "the fields are flags, and named as these"
)]
#[derive(Clone, Debug, ClapArgs)]
pub(in crate::cli) struct EtcdLogin {
    /// User of etcd
    #[arg(
        long,
        value_name = "NAME",
        env = "MILVUS_GUARD_ETCD_USER",
        help_heading = ETCD
    )]
    etcd_user: Option<String>,

    /// Password of that user; prefer the environment variable, because arguments are visible in
    /// process listings
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "MILVUS_GUARD_ETCD_PASSWORD",
        hide_env_values = true,
        requires = "etcd_user",
        help_heading = ETCD
    )]
    etcd_password: Option<String>,

    /// Certificate authorities of etcd (PEM)
    #[arg(
        long,
        value_name = "FILE",
        help_heading = ETCD
    )]
    etcd_cacert: Option<PathBuf>,

    /// Client certificate (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "etcd_key",
        help_heading = ETCD
    )]
    etcd_cert: Option<PathBuf>,

    /// Key of the client certificate (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "etcd_cert",
        help_heading = ETCD
    )]
    etcd_key: Option<PathBuf>,

    /// Folder with the keys of `--etcd-secret`, as its Job mounts them
    #[arg(long, value_name = "DIR", hide = true, help_heading = ETCD)]
    etcd_credentials: Option<PathBuf>,
}

impl EtcdLogin {
    /// What was given.
    pub(in crate::cli) fn read(&self) -> Result<Credentials, Failure> {
        if let Some(folder) = &self.etcd_credentials {
            return mounted(folder);
        }
        let tls = tls(
            self.etcd_cacert.as_ref(),
            self.etcd_cert.as_ref(),
            self.etcd_key.as_ref(),
        );
        Ok((
            login(self.etcd_user.as_ref(), self.etcd_password.as_ref()),
            tls,
        ))
    }
}

/// How to get into Milvus.
#[allow(
    clippy::struct_field_names,
    reason = "the fields are flags, and named as these"
)]
#[derive(Clone, Debug, ClapArgs)]
pub(in crate::cli) struct MilvusLogin {
    /// User of Milvus
    #[arg(
        long,
        value_name = "NAME",
        env = "MILVUS_GUARD_MILVUS_USER",
        help_heading = MILVUS
    )]
    milvus_user: Option<String>,

    /// Password of that user; prefer the environment variable, because arguments are visible in
    /// process listings
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "MILVUS_GUARD_MILVUS_PASSWORD",
        hide_env_values = true,
        requires = "milvus_user",
        help_heading = MILVUS
    )]
    milvus_password: Option<String>,

    /// Certificate authorities of Milvus (PEM)
    #[arg(
        long,
        value_name = "FILE",
        help_heading = MILVUS
    )]
    milvus_cacert: Option<PathBuf>,

    /// Client certificate (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "milvus_key",
        help_heading = MILVUS
    )]
    milvus_cert: Option<PathBuf>,

    /// Key of the client certificate (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "milvus_cert",
        help_heading = MILVUS
    )]
    milvus_key: Option<PathBuf>,

    /// Folder with the keys of `--milvus-secret`, as its Job mounts them
    #[arg(long, value_name = "DIR", hide = true, help_heading = MILVUS)]
    milvus_credentials: Option<PathBuf>,
}

impl MilvusLogin {
    /// What was given.
    pub(in crate::cli) fn read(&self) -> Result<(Login, Option<Tls>), Failure> {
        let (user, tls) = match &self.milvus_credentials {
            Some(folder) => mounted(folder)?,
            None => (
                login(self.milvus_user.as_ref(), self.milvus_password.as_ref()),
                tls(
                    self.milvus_cacert.as_ref(),
                    self.milvus_cert.as_ref(),
                    self.milvus_key.as_ref(),
                ),
            ),
        };
        Ok((
            user.map_or(Login::None, |(user, password)| Login::Password {
                user,
                password,
            }),
            tls,
        ))
    }
}

/// A user, whose password may be empty.
pub(in crate::cli) fn login(
    user: Option<&String>,
    password: Option<&String>,
) -> Option<(String, String)> {
    user.map(|user| (user.clone(), password.cloned().unwrap_or_default()))
}

/// TLS, where any file was given for it.
pub(in crate::cli) fn tls(
    ca: Option<&PathBuf>,
    cert: Option<&PathBuf>,
    key: Option<&PathBuf>,
) -> Option<Tls> {
    let tls = Tls {
        ca: ca.cloned(),
        cert: cert.cloned(),
        key: key.cloned(),
    };
    Some(tls).filter(|tls| *tls != Tls::default())
}

/// The keys of a Secret, as files: `username`, `password`, `ca.crt`, `tls.crt`, `tls.key`, any of
/// them.
fn mounted(folder: &Path) -> Result<Credentials, Failure> {
    let file = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    let text = |name: &str| file(name).map(|path| credential(&path, "")).transpose();
    let user = text("username")?
        .map(|user| Ok::<_, Failure>((user, text("password")?.unwrap_or_default())))
        .transpose()?;
    Ok((
        user,
        tls(
            file("ca.crt").as_ref(),
            file("tls.crt").as_ref(),
            file("tls.key").as_ref(),
        ),
    ))
}

/// The content of a file, without the end of its line. Failures name the file, and `what` before
/// it.
pub(in crate::cli) fn credential(path: &Path, what: &str) -> Result<String, Failure> {
    let failed =
        |why: String| Failure::usage(format!("cannot read {what}{}: {why}", path.display()));
    let size = fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if size > MAX_CREDENTIAL {
        return Err(failed(format!("it has {size} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
