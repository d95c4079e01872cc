use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::error::or_panic;
use crate::{Error, wait_until};

/// For a program to print the expected text.
const DEADLINE: Duration = Duration::from_secs(60);

/// A program on a separate pseudo-terminal: it behaves as if a user were watching. It is killed
/// when this value is dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    /// Starts a command with all three streams on a new terminal.
    ///
    /// # Panics
    /// When a terminal cannot be opened, or the program does not start.
    #[must_use]
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        or_panic(Self::try_start(command))
    }

    fn try_start(command: &mut Command) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::doing("opening a terminal", error);
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).map_err(|e| failed(&e))?;
        grantpt(&master)
            .and_then(|()| unlockpt(&master))
            .map_err(|e| failed(&e))?;
        let path = ptsname(&master, Vec::new()).map_err(|e| failed(&e))?;
        let path = path.to_str().map_err(|e| failed(&e))?;
        let stream = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .map(Stdio::from)
                .map_err(|e| failed(&e))
        };
        let (stdin, stdout, stderr) = (stream()?, stream()?, stream()?);
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let child = command
            .spawn()
            .map_err(|e| Error::doing("starting a program on a terminal", e))?;
        // This process must not hold the terminal open, or its end would never be noticed.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let keyboard = File::from(master);
        let mut output = keyboard.try_clone().map_err(|e| failed(&e))?;
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error means that the last program has closed the terminal.
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                shown
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Ok(Self {
            child,
            keyboard,
            screen,
        })
    }

    /// Everything that was printed so far, including escape sequences.
    #[must_use]
    pub fn screen(&self) -> String {
        self.screen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until this text is printed.
    ///
    /// # Panics
    /// When it is not printed in time; the message contains the output.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        assert!(
            wait_until(DEADLINE, || self.screen().contains(text)),
            "{text:?} was not shown: {}",
            self.screen()
        );
    }

    /// Types a line.
    ///
    /// # Panics
    /// When the program has ended.
    #[track_caller]
    pub fn type_line(&mut self, line: &str) {
        or_panic(writeln!(self.keyboard, "{line}").map_err(|e| Error::doing("typing", e)));
    }

    /// Sends SIGINT to the program, as Ctrl-C does.
    ///
    /// # Panics
    /// When the program has ended.
    #[track_caller]
    pub fn interrupt(&self) {
        let pid = Pid::from_child(&self.child);
        let sent = kill_process(pid, Signal::INT);
        or_panic(sent.map_err(|e| Error::doing("interrupting", e)));
    }

    /// Waits until the program ends.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = wait_until(DEADLINE, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        match status {
            Some(status) if ended => status,
            _ => panic!(
                "test bed: the program on the terminal does not end: {}",
                self.screen()
            ),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Fails if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
