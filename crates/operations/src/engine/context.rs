//! What a step is given.

use jiff::Timestamp;

use milvus_guard_core::api::{
    Condition, ConditionStatus, RunStatus, UpgradeRun, progress::WAITS_FOR_HELM,
};

use super::{
    ApiError, Event, Lock, Reporter, RetryingClient, RunRecord, RunRecordError,
    retrying_client::Trouble,
};

/// What a step is given: its data, and the ways to the cluster and to the record.
pub struct StepContext<'a, D> {
    /// The adapters of the verb.
    pub data: &'a D,
    /// The cluster, for reading. Writes go through [`Self::write`].
    pub client: &'a RetryingClient,
    record: &'a RunRecord,
    lock: &'a Lock,
}

impl<'a, D> StepContext<'a, D> {
    pub(super) fn new(
        data: &'a D,
        client: &'a RetryingClient,
        record: &'a RunRecord,
        lock: &'a Lock,
    ) -> Self {
        Self {
            data,
            client,
            record,
            lock,
        }
    }

    /// The run as it was last read or written.
    #[must_use]
    pub fn run(&self) -> UpgradeRun {
        self.record.run()
    }

    /// `namespace/name` of the run.
    #[must_use]
    pub fn full_name(&self) -> &str {
        self.record.full_name()
    }

    /// Makes sure that a write is still ours to make: to be awaited right before each side effect
    /// that goes another way than [`Self::write`].
    ///
    /// # Errors
    /// Where the run must stop.
    pub async fn permit(&self) -> Result<(), ApiError> {
        self.lock.permit().await
    }

    /// Sends a request that changes something, with patience, and only while the lock is surely
    /// ours. It must be one that may be repeated.
    ///
    /// # Errors
    /// As [`RetryingClient::call`].
    pub async fn write<T, E: Trouble>(
        &self,
        what: &str,
        request: impl AsyncFn() -> Result<T, E>,
    ) -> Result<T, ApiError> {
        self.lock.permit().await?;
        self.client.call(what, request).await
    }

    /// Writes into the run's status what must outlive this process: originals, the backup,
    /// conditions, evidence. The change is made again on a newer status where another client
    /// wrote first.
    ///
    /// # Errors
    /// Where it cannot be written, or another holder of the lock wrote.
    pub async fn record(&self, change: impl Fn(&mut RunStatus)) -> Result<(), RunRecordError> {
        self.record.update(change).await
    }

    /// Records whether the run waits for Helm, and why it does or no longer has to.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub async fn record_waits_for_helm(
        &self,
        status: ConditionStatus,
        reason: &str,
    ) -> Result<(), RunRecordError> {
        self.record(|now| {
            let condition = Condition {
                r#type: WAITS_FOR_HELM.into(),
                status,
                reason: reason.into(),
                message: String::new(),
                last_transition_time: Timestamp::now(),
                observed_generation: None,
            };
            condition.set(&mut now.conditions);
        })
        .await
    }

    /// Says what the step waits for; [`Self::going_on`] ends it.
    pub fn waiting(&self, on: impl Into<String>) {
        self.client.wait_for(on);
    }

    /// The step waits for nothing any more.
    pub fn going_on(&self) {
        self.client.go_on();
    }

    /// Says how much is done.
    pub fn progress(&self, what: &str, done: u64, total: Option<u64>) {
        self.reporter().emit(&Event::Progress {
            what: what.to_owned(),
            done,
            total,
        });
    }

    /// Tells people and programs.
    #[must_use]
    pub fn reporter(&self) -> &Reporter {
        &self.client.reporter
    }
}
