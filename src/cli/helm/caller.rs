//! The Helm that runs the post-renderer.
//!
//! Read in Helm 3.22.0 (`pkg/postrender/exec.go`) and 4.3.1
//! (`internal/plugin/runtime_subprocess.go`): a post-renderer gets the manifests, its own arguments
//! and the variables of Helm's own process, nothing else. `-n` and `--kube-context` reach it in
//! neither version. Helm 3 prints the post-renderer's standard error only if it fails; Helm 4
//! never.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::process::parent_id,
    path::Path,
};

/// Verbs of Helm that take a post-renderer.
const VERBS: [&str; 3] = ["upgrade", "install", "template"];
/// Upper limit for the length of Helm's last error, in characters. It has less than 300.
const ROOM: usize = 512;
/// `O_APPEND` in `/proc/PID/fdinfo`, which is octal.
const APPENDS: u32 = 0o2000;

/// The arguments of Helm; `None` if the parent process is another program, or if the system has
/// no `/proc`.
pub(super) fn command_line() -> Option<Vec<String>> {
    of_helm(&fs::read(format!("/proc/{}/cmdline", parent_id())).ok()?)
}

fn of_helm(command_line: &[u8]) -> Option<Vec<String>> {
    let text = String::from_utf8_lossy(command_line);
    let mut words = text.trim_end_matches('\0').split('\0').map(str::to_owned);
    let program = words.next()?;
    let name = Path::new(&program).file_name()?.to_str()?.to_owned();
    let args = without_ours(words);
    let is_helm = name.starts_with("helm") && args.iter().any(|arg| VERBS.contains(&arg.as_str()));
    is_helm.then_some(args)
}

/// The arguments without those that Helm passes to the post-renderer.
fn without_ours(mut words: impl Iterator<Item = String>) -> Vec<String> {
    let mut args = Vec::new();
    while let Some(word) = words.next() {
        if word == "--post-renderer-args" {
            words.next();
        } else {
            args.push(word);
        }
    }
    args
}

/// What Helm does after the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Then {
    /// It continues, and prints any amount of text.
    Continues,
    /// It prints one error and ends.
    Ends,
}

/// Writes to the standard error of Helm itself, else to the terminal. A text that cannot be
/// written is dropped: the exit code decides.
pub(in crate::cli) fn tell(text: &str, then: Then) {
    let errors = format!("/proc/{}/fd/2", parent_id());
    let is_file = fs::metadata(&errors).is_ok_and(|metadata| metadata.is_file());
    // Helm has its own position in a file, and overwrites text that others append.
    let is_overwritten = is_file && appends() != Some(true);
    let shown = match then {
        Then::Continues if is_overwritten => return,
        Then::Ends if is_overwritten => format!("{:ROOM$}\n{text}", ""),
        Then::Continues | Then::Ends => text.to_owned(),
    };
    let terminal = |_| OpenOptions::new().write(true).open("/dev/tty");
    if let Ok(mut place) = OpenOptions::new()
        .append(true)
        .open(errors)
        .or_else(terminal)
    {
        let _ = place.write_all(shown.as_bytes());
    }
}

fn appends() -> Option<bool> {
    let info = fs::read_to_string(format!("/proc/{}/fdinfo/2", parent_id())).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
    Some(flags & APPENDS != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helm_is_distinguished_from_other_programs() {
        let args = |line: &str| of_helm(line.replace(' ', "\0").as_bytes());
        assert_eq!(
            args("/usr/bin/helm3 upgrade r c -n milvus ").unwrap(),
            ["upgrade", "r", "c", "-n", "milvus"]
        );
        assert_eq!(
            args("helm template c --post-renderer-args -n --post-renderer-args x -n milvus")
                .unwrap(),
            ["template", "c", "-n", "milvus"]
        );
        assert_eq!(args("bash -c helm upgrade"), None);
        assert_eq!(args("helm env"), None);
        assert_eq!(args(""), None);
    }
}
