use std::path::{Path, PathBuf};
use std::{env, ffi::OsString};

use crate::Error;

/// Programs of the machine that a node uses, and the Debian packages that contain them.
const PROGRAMS: [(&str, &str); 12] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ipset", "ipset"),
    ("buildah", "buildah"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("ldd", "libc-bin"),
];
const CNI_PACKAGE: &str = "containernetworking-plugins";
/// Folders in which distributions install the CNI plugins.
const CNI_DIRS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The search path, with the folders that `sudo` and cron omit.
pub(super) fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// The folder with the CNI plugins.
pub(super) fn cni_dir() -> Option<&'static Path> {
    CNI_DIRS.map(Path::new).into_iter().find(|dir| {
        ["bridge", "host-local", "loopback", "portmap"]
            .iter()
            .all(|p| dir.join(p).is_file())
    })
}

/// The Debian packages that are missing, without duplicates.
pub(super) fn missing() -> Vec<&'static str> {
    let path = search_path();
    let has =
        |program: &str| env::split_paths(&path).any(|dir: PathBuf| dir.join(program).is_file());
    let mut missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !has(program))
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if cni_dir().is_none() {
        missing.push(CNI_PACKAGE);
    }
    missing
}

/// An error with the remedy if this machine cannot run a node.
pub(super) fn check() -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::new(
            "a node makes namespaces, mounts and control groups, which takes root",
        ));
    }
    match missing().as_slice() {
        [] => Ok(()),
        packages => {
            let packages = packages.join(" ");
            Err(Error::new(format!(
                "a node needs more programs (`make node-packages`, or apt-get install {packages})"
            )))
        }
    }
}
