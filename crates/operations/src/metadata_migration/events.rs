//! Events of the work on etcd, as events of a run.

use milvus_guard_metadata::executor;

use crate::engine::{Event, Reporter, RetryingClient};

/// Reports events of the work on etcd to the listeners of a run.
pub struct MetadataEvents<'a> {
    reporter: &'a Reporter,
    /// The client of a run in a cluster, which records what the run waits for.
    client: Option<&'a RetryingClient>,
}

impl<'a> MetadataEvents<'a> {
    /// For work on etcd without a run.
    #[must_use]
    pub const fn new(reporter: &'a Reporter) -> Self {
        Self {
            reporter,
            client: None,
        }
    }

    /// For a run.
    #[must_use]
    pub const fn of_run(client: &'a RetryingClient) -> Self {
        Self {
            reporter: &client.reporter,
            client: Some(client),
        }
    }
}

impl executor::Events for MetadataEvents<'_> {
    fn event(&self, event: executor::Event) {
        match event {
            executor::Event::StageBegan { stage, total } => {
                if let Some(client) = self.client {
                    client.go_on();
                }
                self.reporter.emit(&Event::Progress {
                    what: stage.to_string(),
                    done: 0,
                    total,
                });
            }
            executor::Event::Progress { stage, done, total } => {
                self.reporter.emit(&Event::Progress {
                    what: stage.to_string(),
                    done,
                    total,
                });
            }
            executor::Event::StageDone { stage, done, took } => {
                self.reporter.emit(&Event::PartDone {
                    what: stage.to_string(),
                    done,
                    unit: stage.unit(),
                    took,
                });
            }
            executor::Event::Waiting { what } => {
                let on = what.trim_start_matches("waiting for ").to_owned();
                match self.client {
                    Some(client) => client.wait_for(on),
                    None => self.reporter.emit(&Event::Waiting { on }),
                }
            }
            executor::Event::Warning { note } => self.reporter.warn(note),
            executor::Event::Note { note } => self.reporter.note(note),
        }
    }
}
