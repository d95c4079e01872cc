//! `certs`: a certificate for local development.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use clap::Args as ClapArgs;
use jiff::Timestamp;
use rustls::pki_types::ServerName;

use milvus_guard_webhook::certs::authority::{SelfSigned, self_signed_for};

use super::{
    exit::{Done, Exit, Failure},
    output::print,
};

/// Names of a server on this machine, and of the Service in the chart.
const NAMES: [&str; 4] = [
    "localhost",
    "127.0.0.1",
    "::1",
    "milvus-guard.milvus-guard.svc",
];
/// The longest validity that Apple's clients accept, also from private authorities.
const MAX_DAYS: i64 = 825;
const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// Who may read a file.
#[derive(Clone, Copy, Debug)]
enum Mode {
    /// All users.
    Public = 0o644,
    /// Its owner.
    Private = 0o600,
}

/// Arguments of `certs`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = "certs/local")]
    out: PathBuf,

    /// Name or address of the server; may be repeated
    #[arg(long, value_name = "HOST", value_parser = host, default_values = NAMES)]
    name: Vec<String>,

    /// Validity of the certificate in days
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(i64).range(1..=MAX_DAYS))]
    days: i64,

    /// Overwrite existing files
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args) -> Done {
    let now = Timestamp::now();
    let made =
        self_signed_for(&args.name, now, args.days * SECONDS_A_DAY).map_err(Failure::usage)?;
    let files = Files::of(&args.out, made);
    if !args.force {
        files.refuse_existing()?;
    }
    files.write()?;
    print(&report(
        &args.out,
        &args.name,
        now.as_second() + args.days * SECONDS_A_DAY,
    ))?;
    Ok(Exit::Clean)
}

fn host(text: &str) -> Result<String, String> {
    // A wildcard is not the name of a server, but a certificate may contain it.
    match ServerName::try_from(text.strip_prefix("*.").unwrap_or(text)) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("'{text}' is neither a DNS name nor an IP address")),
    }
}

/// The files to write, the key first: a reader of the new certificate then finds its key.
struct Files(Vec<(PathBuf, String, Mode)>);

impl Files {
    fn of(out: &Path, made: SelfSigned) -> Self {
        Self(vec![
            (out.join("tls.key"), made.key_pem, Mode::Private),
            (out.join("tls.crt"), made.cert_pem, Mode::Public),
            (out.join("ca.crt"), made.ca_pem, Mode::Public),
        ])
    }

    fn refuse_existing(&self) -> Result<(), Failure> {
        match self
            .0
            .iter()
            .find(|(path, ..)| path.symlink_metadata().is_ok())
        {
            None => Ok(()),
            Some((path, ..)) => Err(Failure::usage(format!(
                "{} exists; overwrite it with --force, or choose another folder with --out",
                path.display()
            ))),
        }
    }

    fn write(&self) -> Result<(), Failure> {
        for (path, text, mode) in &self.0 {
            replace(path, text, *mode).map_err(|error| {
                Failure::usage(format!("cannot write {}: {error}", path.display()))
            })?;
        }
        Ok(())
    }
}

/// Writes a file under a temporary name and renames it, so that no reader sees a part of it.
fn replace(path: &Path, text: &str, mode: Mode) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let part = path.with_extension("part");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode as u32)
        .open(&part)?;
    // A file that an earlier attempt left behind, or an unusual umask, may have another mode.
    file.set_permissions(Permissions::from_mode(mode as u32))?;
    file.write_all(text.as_bytes())?;
    fs::rename(part, path)
}

fn report(out: &Path, names: &[String], until: i64) -> String {
    let file = |name: &str| out.join(name).display().to_string();
    let (ca, cert, key) = (file("ca.crt"), file("tls.crt"), file("tls.key"));
    let until =
        Timestamp::from_second(until).map_or_else(|_| String::new(), |until| until.to_string());
    let first = names.first().map_or("localhost", |name| name.as_str());
    let address = if first.contains(':') {
        format!("[{first}]")
    } else {
        first.to_owned()
    };
    format!(
        "Made a certificate for {}\nvalid until {until}:\n  {ca}   for clients to trust\n  {cert}  for the server\n  {key}  its key, readable by you only\n\n\
         Use it:\n  milvus-guard serve --no-cluster --tls-cert-file {cert} --tls-key-file {key}\n  curl --cacert {ca} https://{address}:8443/healthz\n",
        names.join(", ")
    )
}
