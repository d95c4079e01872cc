use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::{Daemon, Ready};
use crate::error::or_panic;
use crate::ports::with_free_ports;
use crate::scratch::Scratch;
use crate::{Error, command};

/// The Debian package with the server. Debian does not put its programs on the search path.
const PACKAGE: &str = "postgresql";
/// The folder in which Debian installs the programs, with a subfolder for each major version.
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql";
/// `PostgreSQL` refuses to run as root. The kernel's overflow ID for user and group, which
/// distributions call `nobody`; the user must have a name.
const UNPRIVILEGED: &str = "65534";
const USER: &str = "helm";
const PASSWORD: &str = "a-password-of-the-test-bed";

/// One `PostgreSQL` server with an empty database, on a free loopback port. It never syncs to disk,
/// and is stopped when this value is dropped.
///
/// It is installed on the machine: [`Self::check`] names a missing package.
#[derive(Debug)]
pub struct Postgres {
    daemon: Daemon,
    port: u16,
    // Removed after the server has ended.
    _scratch: Scratch,
}

impl Postgres {
    /// Starts the server and waits until it accepts connections.
    ///
    /// # Panics
    /// When it does not start; the message contains the end of its log.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        or_panic(Self::try_start())
    }

    /// [`Self::start`] without the panic.
    ///
    /// # Errors
    /// When the package is missing, or it does not start; the error contains the end of its log.
    pub fn try_start() -> Result<Self, Error> {
        let programs = programs().ok_or_else(missing)?;
        with_free_ports(|[port]| Self::start_on(&programs, port))
    }

    fn start_on(programs: &Path, port: u16) -> Result<Self, Error> {
        let scratch = Scratch::new("postgres")?;
        let data = scratch.join("data");
        make_database(programs, &scratch, &data)?;
        let [program, args @ ..] = &as_unprivileged(&programs.join("postgres"))[..] else {
            return Err(Error::new("no command"));
        };
        let mut args: Vec<OsString> = args.to_vec();
        args.push("-D".into());
        args.push(data.clone().into());
        for setting in [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".into(),
            // No socket in a folder that other servers use.
            "unix_socket_directories=".into(),
            "fsync=off".into(),
            // Files in the data directory instead of /dev/shm, where they would remain after
            // SIGKILL.
            "dynamic_shared_memory_type=mmap".into(),
        ] {
            args.push("-c".into());
            args.push(setting.into());
        }
        // The ID of the one remaining System V segment is in line 7 of the lock file.
        let lock = data.join("postmaster.pid");
        let cleanup = format!(
            "id=$(awk 'NR == 7 {{ print $2 }}' '{}' 2>/dev/null); [ -z \"$id\" ] || ipcrm -m \"$id\"",
            lock.display()
        );
        let ready: Ready = Box::new(|log| log.contains("ready to accept connections"));
        let program = PathBuf::from(program);
        let daemon = Daemon::start_other("postgres", program, args, &scratch, cleanup, ready)?;
        Ok(Self {
            daemon,
            port,
            _scratch: scratch,
        })
    }

    /// Checks whether this machine has the server.
    ///
    /// # Errors
    /// When it does not, with the name of the package.
    pub fn check() -> Result<(), Error> {
        programs().map(|_| ()).ok_or_else(missing)
    }

    /// The Debian package with the server, if it is not installed.
    #[must_use]
    pub fn missing_package() -> Option<&'static str> {
        programs().is_none().then_some(PACKAGE)
    }

    /// The URL of the database for clients, with the password.
    #[must_use]
    pub fn url(&self) -> String {
        format!(
            "postgresql://{USER}:{PASSWORD}@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        )
    }

    /// The password in [`Self::url`], which must never be printed.
    #[must_use]
    pub fn password(&self) -> &'static str {
        PASSWORD
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // By SIGTERM: its child processes end with it, and it removes its shared memory.
        self.daemon.stop();
    }
}

fn missing() -> Error {
    Error::new(format!(
        "PostgreSQL is missing (`make node-packages`, or apt-get install {PACKAGE})"
    ))
}

/// The folder with `initdb` and `postgres`, of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(DEBIAN_FOLDER).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    let debian = versions.into_iter().rev().map(|(_, folder)| folder);
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian.chain(std::env::split_paths(&path)).find(|folder| {
        ["initdb", "postgres"]
            .iter()
            .all(|p| folder.join(p).is_file())
    })
}

/// The start of a command that runs a program, as another user if this process is root.
fn as_unprivileged(program: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    if rustix::process::geteuid().is_root() {
        words.push("setpriv".into());
        for option in ["reuid", "regid"] {
            words.push(format!("--{option}={UNPRIVILEGED}").into());
        }
        words.push("--clear-groups".into());
        words.push("--".into());
    }
    words.push(program.into());
    words
}

fn make_database(programs: &Path, scratch: &Scratch, data: &Path) -> Result<(), Error> {
    let failed = |e| Error::doing("making the folder of PostgreSQL", e);
    fs::create_dir(data).map_err(failed)?;
    let password = scratch.write("password", PASSWORD)?;
    if rustix::process::geteuid().is_root() {
        // The directory contains no key, and the other user must be able to enter it.
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o711)).map_err(failed)?;
        command::expect_output(
            Command::new("chown")
                .arg(format!("{UNPRIVILEGED}:{UNPRIVILEGED}"))
                .args([data, &password]),
        )?;
    }
    let words = as_unprivileged(&programs.join("initdb"));
    let mut initdb = Command::new(&words[0]);
    command::only_neutral_environment(&mut initdb);
    initdb
        .args(&words[1..])
        .arg("--no-sync")
        .arg("--encoding=UTF8")
        .arg("--locale=C")
        .arg("--auth=scram-sha-256")
        .arg(format!("--username={USER}"))
        .arg(command::flag("--pwfile", &password))
        .arg(command::flag("--pgdata", data));
    command::expect_output(&mut initdb).map(|_| ())
}
