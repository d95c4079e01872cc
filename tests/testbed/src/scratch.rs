use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Error;

/// If this variable is not empty, the temporary directories with their logs are kept, and their
/// paths printed.
const KEEP: &str = "MILVUS_GUARD_TESTBED_KEEP";

/// The temporary directory of one instance: data, certificates, kubeconfigs and logs.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: TempDir,
    keep: bool,
}

impl Scratch {
    pub(crate) fn new(prefix: &str) -> Result<Self, Error> {
        let mut dir = tempfile::Builder::new()
            .prefix(&format!("testbed-{prefix}-"))
            // The directory contains keys.
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|e| Error::doing("making a temporary directory", e))?;
        let keep = std::env::var_os(KEEP).is_some_and(|value| !value.is_empty());
        if keep {
            dir.disable_cleanup(true);
            // Not eprintln: libtest would capture it, and the user has requested it.
            let _ = writeln!(
                std::io::stderr(),
                "test bed: keeping {}",
                dir.path().display()
            );
        }
        Ok(Self { dir, keep })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The directory that a supervisor removes if this process is killed; empty if it is to be
    /// kept.
    pub(crate) fn to_be_removed(&self) -> &Path {
        if self.keep {
            Path::new("")
        } else {
            self.path()
        }
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf, Error> {
        let path = self.join(name);
        fs::write(&path, content)
            .map_err(|e| Error::doing(format_args!("writing {}", path.display()), e))?;
        Ok(path)
    }
}
