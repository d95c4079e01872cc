//! What a step gets: its data, the client of the cluster, the record and the lock.

use jiff::Timestamp;

use milvus_guard_core::api::{
    Condition, ConditionStatus, RunStatus, UpgradeRun, progress::WAITS_FOR_HELM,
};

use super::{
    ApiError, Event, Lock, Reporter, RetryingClient, RunRecord, RunRecordError,
    retrying_client::Trouble,
};

/// What a step gets: its data, the client of the cluster, the record and the lock.
pub struct StepContext<'a, D> {
    /// What the steps of the verb work with.
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

    /// Checks that this process still holds the lock. Await it right before each side effect that
    /// does not go through [`Self::write`].
    ///
    /// # Errors
    /// If the run must stop.
    pub async fn permit(&self) -> Result<(), ApiError> {
        self.lock.permit().await
    }

    /// Sends a request that changes something, with retries, and only while this process certainly
    /// holds the lock. The request must be safe to repeat.
    ///
    /// # Errors
    /// As [`RetryingClient::call`].
    pub async fn write<T, E: Trouble>(
        &self,
        what: &str,
        request: impl AsyncFn() -> Result<T, E>,
    ) -> Result<T, ApiError> {
        let permit = async || self.lock.permit().await;
        self.client.call_if(what, permit, request).await
    }

    /// Writes into the run's status what must outlive this process: originals, the backup,
    /// conditions, evidence. If another client wrote first, the change is applied again to the
    /// newer status.
    ///
    /// # Errors
    /// If it cannot be written, or another holder of the lock wrote.
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

    /// Reports what the step waits for, until [`Self::going_on`] is called.
    pub fn waiting(&self, on: impl Into<String>) {
        self.client.wait_for(on);
    }

    /// Reports that the step no longer waits.
    pub fn going_on(&self) {
        self.client.go_on();
    }

    /// Reports how much is done.
    pub fn progress(&self, what: &str, done: u64, total: Option<u64>) {
        self.reporter().emit(&Event::Progress {
            what: what.to_owned(),
            done,
            total,
        });
    }

    /// Passes events to the displays and the record.
    #[must_use]
    pub fn reporter(&self) -> &Reporter {
        &self.client.reporter
    }
}
