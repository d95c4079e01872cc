//! Identifies this process, so that another one on the same machine can see whether it still runs.

use std::{env, fs, process};

use serde::{Deserialize, Serialize};

/// A process with a name that no other process ever has. If the system does not provide the data,
/// nothing can be concluded from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// Name of the machine, or of the pod.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Id of the start of the machine (`/proc/sys/kernel/random/boot_id`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// Namespace of the process id (`/proc/self/ns/pid`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// When it began, in ticks since the start of the machine (field 22 of `/proc/PID/stat`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
}

impl Process {
    /// The current process.
    #[must_use]
    pub fn this() -> Self {
        let line = |path: &str| {
            fs::read_to_string(path)
                .ok()
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty())
        };
        let pid = process::id();
        Self {
            host: line("/proc/sys/kernel/hostname")
                .or_else(|| env::var("HOSTNAME").ok())
                .unwrap_or_else(|| "unknown host".into()),
            pid,
            boot: line("/proc/sys/kernel/random/boot_id"),
            namespace: fs::read_link("/proc/self/ns/pid")
                .ok()
                .map(|path| path.display().to_string()),
            started: started(pid),
        }
    }

    /// Whether it still runs, if this process can see that: only for the same namespace of process
    /// ids on the same machine.
    #[must_use]
    pub fn is_running(&self) -> Option<bool> {
        let this = Self::this();
        let comparable = self.boot.is_some()
            && self.boot == this.boot
            && self.namespace.is_some()
            && self.namespace == this.namespace;
        if !comparable || self.started.is_none() || this.started.is_none() {
            return None;
        }
        Some(started(self.pid) == self.started)
    }
}

/// Field 22 of `/proc/PID/stat`; the second field is a name in parentheses with any characters.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_and_ended_processes_are_distinguished() {
        let this = Process::this();
        assert_eq!(this.is_running(), Some(true), "{this:?}");
        let reused = Process {
            started: this.started.map(|ticks| ticks - 1),
            ..this.clone()
        };
        assert_eq!(
            reused.is_running(),
            Some(false),
            "the same id, but another process"
        );
        let mut child = process::Command::new("true").spawn().unwrap();
        let dead = Process {
            pid: child.id(),
            ..this.clone()
        };
        child.wait().unwrap();
        assert_eq!(dead.is_running(), Some(false));
        assert_eq!(
            Process {
                boot: Some("another".into()),
                ..this.clone()
            }
            .is_running(),
            None
        );
        assert_eq!(
            Process {
                namespace: Some("pid:[1]".into()),
                ..this
            }
            .is_running(),
            None
        );
        assert_eq!(Process::default().is_running(), None);
    }
}
