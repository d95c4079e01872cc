use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::Error;
use crate::programs::Program;

/// A version of Helm, or a tool that contains Helm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Helm {
    /// Helm 3.
    V3,
    /// Helm 4.
    V4,
    /// Helm 4 that writes under the field manager of Flux' helm-controller.
    Flux,
    /// Helm 4 that writes under the field manager of Terraform's Helm provider.
    Terraform,
}

impl Helm {
    pub(crate) fn program(self) -> Program {
        match self {
            Self::V3 => Program::Helm3,
            Self::V4 => Program::Helm4,
            Self::Flux => Program::HelmOfFlux,
            Self::Terraform => Program::HelmOfTerraform,
        }
    }
}

/// The executable of a Helm; builds it if it is not in the cache.
///
/// # Panics
/// When it has to be built and cannot be.
#[must_use]
#[track_caller]
pub fn helm(version: Helm) -> PathBuf {
    version.program().path()
}

/// Standard output of a command that must have succeeded.
///
/// # Panics
/// When it failed; the message contains its exit code and all output.
#[track_caller]
#[expect(
    clippy::must_use_candidate,
    reason = "often called for the check alone"
)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "takes what a call has just returned"
)]
pub fn expect_success(output: Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the command failed ({}):\n{stdout}{stderr}",
        output.status
    );
    stdout
}

/// `GOGC`, in percent (default 100): servers of a test run only for seconds, and much of the CPU
/// time of their start is garbage collection.
const GARBAGE: &str = "400";

/// Keeps only those environment variables that do not change what a command does: `ETCD_NAME`,
/// `KUBECONFIG`, `HELM_DRIVER` and similar variables of a test run must not reach the programs that
/// the test starts.
pub(crate) fn only_neutral_environment(command: &mut Command) {
    command.env_clear();
    for name in ["PATH", "TMPDIR", "LANG", "LC_ALL"] {
        command.envs(env::var_os(name).map(|value| (OsStr::new(name), value)));
    }
    command.env("GOGC", GARBAGE);
}

/// Runs a command with `input` on its standard input and returns its output.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<Output, Error> {
    let failed = |e: io::Error| {
        Error::doing(
            format_args!("running {}", command.get_program().display()),
            e,
        )
    };
    // A file instead of a pipe, which could block.
    let mut file = tempfile::tempfile().map_err(failed)?;
    file.write_all(input.as_bytes())
        .and_then(|()| file.rewind())
        .map_err(failed)?;
    command.stdin(file).output().map_err(|e| {
        Error::doing(
            format_args!("running {}", command.get_program().display()),
            e,
        )
    })
}

/// Runs a command of the test bed itself that must succeed, and returns its standard output.
pub(crate) fn expect_output(command: &mut Command) -> Result<String, Error> {
    let output = run(command, "")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!(
        "{command:?} failed ({}): {}",
        output.status,
        stderr.trim()
    )))
}

/// `--name=path`, for a path with any bytes.
pub(crate) fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push("=");
    flag.push(path);
    flag
}
