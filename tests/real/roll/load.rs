//! The load average of the machine during a measurement.

use std::{
    fs,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

const EVERY: Duration = Duration::from_secs(1);

/// Reads the one-minute load average every second until it is stopped.
pub struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Vec<f64>>,
}

/// The values that were read.
pub struct Load(Vec<f64>);

impl Sampler {
    pub fn start() -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut all = vec![load_average()];
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                all.push(load_average());
            }
            all
        });
        Self { stop, thread }
    }

    pub fn stop(self) -> Load {
        drop(self.stop);
        Load(self.thread.join().unwrap())
    }
}

impl Load {
    #[allow(clippy::cast_precision_loss, reason = "a few hundred samples")]
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }
}

fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}
