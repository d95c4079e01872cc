use std::ffi::OsString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::or_panic;
use crate::programs::Program;
use crate::scratch::Scratch;
use crate::wait::wait_until;
use crate::{Error, command};

/// A part that is not ready by then never will be; a start takes a few seconds on an idle machine
/// of 2 cores.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// How long a part has between SIGTERM and SIGKILL.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// Number of log lines in the message of a failure.
const TAIL: usize = 20;

/// Whether a part is ready; the argument is its log since this start.
pub(crate) type Ready = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// One long-running program of the test bed: an etcd, an API server, a controller manager or a
/// scheduler.
///
/// It is a child of a small supervisor, a shell that reads from a pipe and kills the program when
/// the other end of the pipe, in this process, is closed or the process has ended.
pub struct Daemon {
    name: &'static str,
    program: PathBuf,
    args: Vec<OsString>,
    log: PathBuf,
    /// The directory that the supervisor removes if this process is killed.
    scratch: OsString,
    /// Shell commands that run after the program has ended for any reason, with its pid as `$1`;
    /// mostly empty.
    cleanup: String,
    ready: Ready,
    running: Mutex<Option<Supervised>>,
}

impl Daemon {
    /// Starts the program and waits until `ready` is true. The log is `<name>.log` in `scratch`.
    pub(crate) fn start(
        program: Program,
        args: Vec<OsString>,
        scratch: &Scratch,
        ready: Ready,
    ) -> Result<Self, Error> {
        Self::start_other(
            program.name(),
            program.try_path()?,
            args,
            scratch,
            String::new(),
            ready,
        )
    }

    /// [`Self::start`] for a program that the test bed does not build.
    pub(crate) fn start_other(
        name: &'static str,
        program: PathBuf,
        args: Vec<OsString>,
        scratch: &Scratch,
        cleanup: String,
        ready: Ready,
    ) -> Result<Self, Error> {
        let daemon = Self {
            name,
            program,
            args,
            log: scratch.join(&format!("{name}.log")),
            scratch: scratch.to_be_removed().into(),
            cleanup,
            ready,
            running: Mutex::new(None),
        };
        daemon.try_start()?;
        Ok(daemon)
    }

    /// The program's name, for example `kube-apiserver`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Process ID of the program, not of its supervisor; `None` if it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let mut running = self.lock();
        let running = running.as_mut()?;
        running
            .ended()
            .is_none()
            .then(|| running.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// The log: standard output and standard error, of all starts of this part.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The last `lines` lines of the log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log_from(0), lines)
    }

    /// Freezes the program (SIGSTOP): connections stay open and get no response, as with a server
    /// that hangs.
    ///
    /// # Panics
    /// When the program does not run.
    #[track_caller]
    pub fn pause(&self) {
        or_panic(self.signal(Signal::STOP));
    }

    /// Resumes a paused program (SIGCONT).
    ///
    /// # Panics
    /// When the program does not run.
    #[track_caller]
    pub fn resume(&self) {
        or_panic(self.signal(Signal::CONT));
    }

    /// Stops the program (SIGTERM, and SIGKILL after 10 s) and waits until it has ended. Its ports
    /// and data remain for [`Self::restart`]. Does nothing if it does not run. An etcd below an API
    /// server takes about 5 s, because it waits for open watches; [`Self::kill`] is immediate.
    pub fn stop(&self) {
        let Some(mut running) = self.lock().take() else {
            return;
        };
        if running.ended().is_some() {
            return;
        }
        // A paused program handles SIGTERM only after it is resumed.
        if kill_process(running.pid, Signal::TERM)
            .and_then(|()| kill_process(running.pid, Signal::CONT))
            .is_ok()
        {
            wait_until(STOP_DEADLINE, || running.ended().is_some());
        }
    }

    /// Kills the program (SIGKILL), as in a crash, and waits until it has ended.
    pub fn kill(&self) {
        drop(self.lock().take());
    }

    /// Stops the program if it runs, starts it with the same ports and data, and waits until it is
    /// ready.
    ///
    /// # Panics
    /// When it does not become ready; the message contains the end of the log.
    #[track_caller]
    pub fn restart(&self) {
        self.stop();
        let end = Instant::now() + STOP_DEADLINE;
        loop {
            match self.try_start() {
                // An outgoing connection of another program may use the port for a moment. The port
                // must not change, so retry.
                Err(error) if error.is_port_clash() && Instant::now() < end => {}
                result => return or_panic(result),
            }
        }
    }

    fn try_start(&self) -> Result<(), Error> {
        let failed = |e: &dyn fmt::Display| Error::doing(format_args!("starting {}", self.name), e);
        let mut running = self.lock();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(|e| failed(&e))?;
        let begin = log.metadata().map_err(|e| failed(&e))?.len();
        let mut supervised = self.supervise(log).map_err(|e| failed(&e))?;
        let mut ended = None;
        let in_time = wait_until(START_DEADLINE, || {
            ended = supervised.ended();
            ended.is_some() || (self.ready)(&self.log_from(begin))
        });
        // Checked again: another program on the same port may have answered while this one was
        // failing.
        ended = ended.or_else(|| supervised.ended());
        if in_time && ended.is_none() {
            *running = Some(supervised);
            return Ok(());
        }
        let log = self.log_from(begin);
        let why = match &ended {
            Some(how) => format!("ended ({how})"),
            None => format!("is not ready after {} s", START_DEADLINE.as_secs()),
        };
        let message = format!(
            "{} {why}; the end of {}:\n{}",
            self.name,
            self.log.display(),
            tail(&log, TAIL)
        );
        Err(Error::new(message)
            .with_port_clash(ended.is_some() && log.contains("address already in use")))
    }

    fn supervise(&self, log: File) -> Result<Supervised, Error> {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(include_str!("supervise.sh"))
            .arg("testbed-supervisor");
        shell
            .arg(&self.scratch)
            .arg(&self.cleanup)
            .arg(&self.program)
            .args(&self.args);
        Supervised::start(shell, log)
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let mut running = self.lock();
        if let Some(running) = running.as_mut()
            && running.ended().is_none()
        {
            return kill_process(running.pid, signal)
                .map_err(|e| Error::doing(format_args!("signalling {}", self.name), e));
        }
        Err(Error::new(format!(
            "{} does not run; the end of its log:\n{}",
            self.name,
            self.log_tail(TAIL)
        )))
    }

    fn log_from(&self, begin: u64) -> String {
        let mut bytes = Vec::new();
        // An unreadable log counts as empty: it is only used for messages, and to decide later that
        // a program is ready.
        let _ = File::open(&self.log).and_then(|mut log| {
            log.seek(SeekFrom::Start(begin))?;
            log.read_to_end(&mut bytes)
        });
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Supervised>> {
        // A panic of another thread leaves the value consistent, and the program must still be
        // stopped.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "test bed: the end of the log of {}:\n{}",
                self.name,
                self.log_tail(TAIL)
            );
        }
    }
}

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon")
            .field("name", &self.name)
            .field("pid", &self.pid())
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

/// A program and its supervising shell. Dropping it kills the program and waits until it has ended.
struct Supervised {
    shell: Child,
    pid: Pid,
}

impl Supervised {
    fn start(mut shell: Command, log: File) -> Result<Self, Error> {
        command::only_neutral_environment(&mut shell);
        // A separate process group: a signal of a terminal or a test runner to the group of the
        // test must not end the supervisor before it has stopped the program.
        shell
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut shell = shell.spawn().map_err(|e| Error::doing("running sh", e))?;
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(|e| Error::doing("reading from the supervisor", e))?;
        }
        if let Some(pid) = line.trim().parse().ok().and_then(Pid::from_raw) {
            return Ok(Self { shell, pid });
        }
        drop(shell.stdin.take());
        let status = shell
            .wait()
            .map_err(|e| Error::doing("waiting for the supervisor", e))?;
        Err(Error::new(format!("the supervisor told no pid ({status})")))
    }

    /// How the program ended; `None` if it runs. The shell exits with its exit code; from 128 on it
    /// is a signal number plus 128.
    fn ended(&mut self) -> Option<String> {
        match self.shell.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.shell.stdin.take() {
            // Fails if the program and its supervisor have already ended.
            let _ = pipe.write_all(b"end\n");
        }
        // `wait` fails only for a process that was already waited for.
        let _ = self.shell.wait();
    }
}

pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn the_tail_is_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
        assert_eq!(tail("", 5), "");
    }
}
