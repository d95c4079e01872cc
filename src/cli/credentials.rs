//! Credentials of etcd and of Milvus: from flags and environment, or in a Job from the folder of a
//! mounted Secret.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Arg, Args as ClapArgs};

use milvus_guard_sources::{etcd::Tls, milvus::Login};

use super::exit::Failure;

/// Largest file of a credential, in bytes; PEM bundles may be larger.
const MAX_CREDENTIAL: u64 = 64 * 1024;

/// User and password, and TLS.
pub(in crate::cli) type Credentials = (Option<(String, String)>, Option<Tls>);

/// Heading of the flags for Milvus.
const MILVUS: &str = "Milvus";

/// Adds to the help of a flag for Milvus that it needs `--local`: a Job takes the login of Milvus
/// from a Secret. To be used with `mut_args`.
pub(in crate::cli) fn with_local(arg: Arg) -> Arg {
    match arg.get_help_heading() {
        Some(MILVUS) => arg.requires("local").help_heading("Milvus, with --local"),
        _ => arg,
    }
}

/// How to get into etcd: the same flags in every verb. A Job takes these from `--etcd-secret`.
#[allow(
    clippy::struct_field_names,
    reason = "the fields are flags, and named as these"
)]
#[derive(Clone, Debug, Default, ClapArgs)]
pub(in crate::cli) struct EtcdLogin {
    /// User of etcd
    #[arg(
        long,
        alias = "user",
        value_name = "NAME",
        env = "MILVUS_GUARD_ETCD_USER",
        help_heading = "etcd"
    )]
    etcd_user: Option<String>,

    /// File with the password of that user [default: the variable `MILVUS_GUARD_ETCD_PASSWORD`]
    #[arg(
        long,
        alias = "password-file",
        value_name = "FILE",
        requires = "etcd_user",
        help_heading = "etcd"
    )]
    etcd_password_file: Option<PathBuf>,

    /// Password of that user. Arguments are visible in process listings, so this flag is not shown
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "MILVUS_GUARD_ETCD_PASSWORD",
        hide_env_values = true,
        hide = true,
        help_heading = "etcd"
    )]
    etcd_password: Option<String>,

    /// Certificate authorities of etcd (PEM) [default: those of the system]
    #[arg(long, alias = "cacert", value_name = "FILE", help_heading = "etcd")]
    etcd_cacert: Option<PathBuf>,

    /// Client certificate (PEM)
    #[arg(
        long,
        alias = "cert",
        value_name = "FILE",
        requires = "etcd_key",
        help_heading = "etcd"
    )]
    etcd_cert: Option<PathBuf>,

    /// Key of the client certificate (PEM)
    #[arg(
        long,
        alias = "key",
        value_name = "FILE",
        requires = "etcd_cert",
        help_heading = "etcd"
    )]
    etcd_key: Option<PathBuf>,

    /// Folder with the keys of `--etcd-secret`, as its Job mounts them
    #[arg(long, value_name = "DIR", hide = true)]
    etcd_credentials: Option<PathBuf>,
}

/// The variable that names the user of etcd.
const ETCD_USER: &str = "MILVUS_GUARD_ETCD_USER";

impl EtcdLogin {
    /// Reads the credentials that were given.
    ///
    /// # Errors
    /// A file that cannot be read, or a user without a password.
    pub(in crate::cli) fn read(&self) -> Result<Credentials, Failure> {
        if let Some(folder) = &self.etcd_credentials {
            return mounted(folder);
        }
        let user = match &self.etcd_user {
            Some(user) => Some((user.clone(), self.password()?)),
            None => None,
        };
        let tls = tls(
            self.etcd_cacert.as_ref(),
            self.etcd_cert.as_ref(),
            self.etcd_key.as_ref(),
        );
        Ok((user, tls))
    }

    fn password(&self) -> Result<String, Failure> {
        match (&self.etcd_password_file, &self.etcd_password) {
            (Some(path), _) => credential(path, "the password from "),
            (None, Some(password)) => Ok(password.clone()),
            (None, None) => Err(Failure::usage(
                "--etcd-user needs a password: give --etcd-password-file, or set \
                 MILVUS_GUARD_ETCD_PASSWORD",
            )),
        }
    }

    /// The first of the flags that was given; the environment does not count.
    pub(in crate::cli) fn given(&self) -> Option<&'static str> {
        let by_variable = std::env::var(ETCD_USER).ok();
        let is_flag = self.etcd_user.is_some() && self.etcd_user != by_variable;
        is_flag.then_some("--etcd-user").or_else(|| {
            self.files()
                .find_map(|(flag, file)| file.is_some().then_some(flag))
        })
    }

    /// The flags that name files.
    fn files(&self) -> impl Iterator<Item = (&'static str, Option<&PathBuf>)> {
        [
            ("--etcd-cacert", self.etcd_cacert.as_ref()),
            ("--etcd-cert", self.etcd_cert.as_ref()),
            ("--etcd-key", self.etcd_key.as_ref()),
            ("--etcd-password-file", self.etcd_password_file.as_ref()),
        ]
        .into_iter()
    }

    /// The flags that the next command needs to log in to the same etcd, without secrets.
    pub(in crate::cli) fn flags(&self) -> String {
        let mut flags = String::new();
        for (flag, file) in self.files() {
            if let Some(file) = file {
                flags.push_str(&format!(" {flag} {}", file.display()));
            }
        }
        if let Some(user) = &self.etcd_user {
            flags.push_str(&format!(" --etcd-user {user}"));
        }
        flags
    }

    /// Reads the credentials for a verb whose Job takes them from a Secret.
    ///
    /// # Errors
    /// As [`Self::read`], and flags that a Job would not get.
    pub(in crate::cli) fn read_here(&self, is_local: bool) -> Result<Credentials, Failure> {
        match self.given() {
            Some(flag) if !is_local => Err(Failure::usage(format!(
                "{flag} is for --local: a Job gets the user and the certificates of etcd from \
                 --etcd-secret"
            ))),
            _ if is_local => self.read(),
            _ => Ok((None, None)),
        }
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

    /// File with the password of that user [default: the variable `MILVUS_GUARD_MILVUS_PASSWORD`]
    #[arg(
        long,
        value_name = "FILE",
        requires = "milvus_user",
        help_heading = MILVUS
    )]
    milvus_password_file: Option<PathBuf>,

    /// Password of that user. Arguments are visible in process listings, so this flag is not shown
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "MILVUS_GUARD_MILVUS_PASSWORD",
        hide_env_values = true,
        hide = true,
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
    /// User and password; the password may be empty.
    fn user(&self) -> Result<Option<(String, String)>, Failure> {
        let Some(user) = &self.milvus_user else {
            return Ok(None);
        };
        let password = match &self.milvus_password_file {
            Some(path) => credential(path, "the password from ")?,
            None => self.milvus_password.clone().unwrap_or_default(),
        };
        Ok(Some((user.clone(), password)))
    }

    /// Reads the credentials that were given.
    pub(in crate::cli) fn read(&self) -> Result<(Login, Option<Tls>), Failure> {
        let (user, tls) = match &self.milvus_credentials {
            Some(folder) => mounted(folder)?,
            None => (
                self.user()?,
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

/// TLS, if any file was given for it.
fn tls(ca: Option<&PathBuf>, cert: Option<&PathBuf>, key: Option<&PathBuf>) -> Option<Tls> {
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

/// The content of a file, without the line feed at its end. Failures name `what` and the file.
fn credential(path: &Path, what: &str) -> Result<String, Failure> {
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
