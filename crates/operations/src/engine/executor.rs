//! Runs steps, forward or back.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use milvus_guard_core::api::{RunPhase, RunStatus, StepCursor, StepStage};

use super::{
    CancelReason, End, Event, Lock, RetryingClient, RunRecord, RunRecordError, Step, StepContext,
    StepError, StopMessage, replicas,
};

/// Interval of the reports of a run that waits.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How often the run's status is updated with what it waits for: often enough for a person, rarely
/// enough for etcd.
const REMARK: Duration = Duration::from_secs(5);

/// Options of a run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Time for the whole run; then it stops.
    pub total: Duration,
    /// Whether a failure is rolled back at once.
    pub back_on_failure: bool,
}

/// A run that is ready to start.
pub struct Engine<'a, S: Step> {
    /// What it does, in one line.
    pub title: String,
    /// Its steps, as the `UpgradeRun`'s plan has them.
    pub steps: &'a [S],
    /// What the steps work with.
    pub data: &'a S::Data,
    /// Its record.
    pub record: &'a RunRecord,
    /// Its lock.
    pub lock: &'a Lock,
    /// The cluster.
    pub client: &'a RetryingClient,
    /// Its options.
    pub options: Options,
}

/// How a step is executed.
#[derive(Clone, Copy)]
struct Pass {
    back: bool,
    /// Whether it is the first step of this process.
    is_first: bool,
}

/// Why a run stops.
enum Stop {
    Step { index: usize, error: StepError },
    RunRecord { index: usize, error: RunRecordError },
}

impl<S: Step> Engine<'_, S> {
    /// Runs the steps from the recorded position to the end.
    pub async fn forward(&self) -> End {
        let status = self.record.run().status;
        let first = next(&status);
        self.began(status.step.is_some(), false);
        let began = Instant::now();
        for (index, step) in self.steps.iter().enumerate().skip(first) {
            if let Err(stop) = self
                .pass(
                    index,
                    step,
                    Pass {
                        back: false,
                        is_first: index == first,
                    },
                    began,
                )
                .await
            {
                return self.stopped(stop, false).await;
            }
        }
        let message = self
            .steps
            .last()
            .map(|step| step.stop_message(self.data, false))
            .unwrap_or_default();
        self.ended(RunPhase::Succeeded, &message.data_state, End::Reached)
            .await
    }

    /// Rolls back from the recorded position: every step that was begun is undone, the last one
    /// first.
    pub async fn back(&self) -> End {
        let status = self.record.run().status;
        let resumed = status.phase == RunPhase::RollingBack;
        let from = begun(&status);
        self.began(resumed, true);
        let began = Instant::now();
        for (index, step) in self.steps.iter().enumerate().take(from).rev() {
            if let Err(stop) = self
                .pass(
                    index,
                    step,
                    Pass {
                        back: true,
                        is_first: index + 1 == from,
                    },
                    began,
                )
                .await
            {
                return self.stopped(stop, true).await;
            }
        }
        let message = self
            .steps
            .first()
            .map(|step| step.stop_message(self.data, true))
            .unwrap_or_default();
        self.ended(RunPhase::RolledBack, &message.data_state, End::Reached)
            .await
    }

    /// Why the run can no longer be rolled back from its recorded position; `None` if it can.
    pub async fn no_way_back(&self) -> Option<String> {
        let cursor = self.record.run().status.step?;
        let context = StepContext::new(self.data, self.client, self.record, self.lock);
        let step = self.steps.get(index(&cursor))?;
        step.no_way_back(&context)
            .await
            .unwrap_or_else(|error| Some(error.to_string()))
    }

    fn began(&self, resumed: bool, back: bool) {
        let run = self.record.full_name().to_owned();
        self.client.reporter.emit(&Event::RunBegan {
            run,
            title: self.title.clone(),
            steps: self.steps.len(),
            resumed,
            back,
        });
    }

    /// Executes one step, or undoes it.
    async fn pass(&self, index: usize, step: &S, way: Pass, began: Instant) -> Result<(), Stop> {
        let Pass { back, is_first } = way;
        let described = step.describe();
        let (number, of) = (index + 1, self.steps.len());
        let failed = |error| Stop::RunRecord { index, error };
        let attempt = attempts(&self.record.run().status, index, back) + 1;
        let event = Event::StepBegan {
            step: described.id.clone(),
            number,
            of,
            title: described.title,
            attempt,
            back,
        };
        self.client.reporter.emit(&event);
        let phase = if back {
            RunPhase::RollingBack
        } else {
            RunPhase::Running
        };
        let cursor = |stage, since| StepCursor {
            id: described.id.clone(),
            index: u32::try_from(index).unwrap_or(u32::MAX),
            stage,
            attempts: attempt,
            since,
            waiting_for: None,
        };
        let since = Timestamp::now();
        self.record
            .update(|status| {
                status.phase = phase;
                status.started_at.get_or_insert(since);
                status.step = Some(cursor(StepStage::Begun, since));
                status.message = None;
            })
            .await
            .map_err(failed)?;
        let started = Instant::now();
        let context = StepContext::new(self.data, self.client, self.record, self.lock);
        let work = async {
            if is_first {
                replicas::await_all(&context, back).await?;
            }
            if back {
                return step.undo(&context).await;
            }
            step.apply(&context).await?;
            step.gate(&context).await
        };
        let limit = step
            .deadline(self.data)
            .min(self.options.total.saturating_sub(began.elapsed()));
        let result = self.attend(work, limit, step.winds_down()).await;
        self.client.go_on();
        result.map_err(|error| Stop::Step { index, error })?;
        self.client.reporter.emit(&Event::StepDone {
            step: described.id.clone(),
            number,
            of,
            took: started.elapsed(),
            back,
        });
        let done = Timestamp::now();
        self.record
            .update(|status| status.step = Some(cursor(StepStage::Done, done)))
            .await
            .map_err(failed)
    }

    /// Awaits a step's work until it ends, the run must stop, or its time is over. Meanwhile
    /// reports what it waits for.
    async fn attend(
        &self,
        work: impl Future<Output = Result<(), StepError>>,
        limit: Duration,
        winds_down: bool,
    ) -> Result<(), StepError> {
        let mut work = std::pin::pin!(work);
        let mut over = std::pin::pin!(tokio::time::sleep(limit));
        let mut halted = std::pin::pin!(self.client.cancellation.cancelled());
        let mut remark = tokio::time::interval_at(tokio::time::Instant::now() + REMARK, REMARK);
        let (mut told, mut written) = (Instant::now(), None);
        loop {
            tokio::select! {
                biased;
                cause = &mut halted => {
                    if !winds_down || cause != CancelReason::Terminated {
                        return Err(StepError::Cancelled(cause));
                    }
                    // Work that completes now is done; any other result is caused by the signal.
                    let safe = tokio::time::timeout(WIND_DOWN, &mut work).await;
                    return if matches!(safe, Ok(Ok(()))) { Ok(()) } else { Err(StepError::Cancelled(cause)) };
                }
                result = &mut work => return result,
                () = &mut over => {
                    let on = self.client.waiting_for().map_or_else(String::new, |wait| format!("; it waited for {}", wait.on));
                    return Err(StepError::Failed(format!("it was not done within {} s{on}", limit.as_secs())));
                }
                _ = remark.tick() => {
                    let wait = self.client.waiting_for();
                    if let Some(wait) = wait.as_ref().filter(|wait| told.elapsed() >= HEARTBEAT && wait.since.elapsed() >= HEARTBEAT) {
                        told = Instant::now();
                        let (on, seconds) = (wait.on.clone(), wait.since.elapsed().as_secs());
                        self.client.reporter.emit(&Event::StillWaiting { on, seconds });
                    }
                    let on = wait.map(|wait| wait.on);
                    if on != written {
                        // A failed write does not stop the run, because the next write of the step
                        // has more. The work does not wait for the write either.
                        let note = self.record.update(|status| {
                            if let Some(cursor) = &mut status.step {
                                cursor.waiting_for.clone_from(&on);
                            }
                        });
                        tokio::select! {
                            result = &mut work => return result,
                            done = tokio::time::timeout(REMARK, note) => if matches!(done, Ok(Ok(()))) { written = on; }
                        }
                    }
                }
            }
        }
    }

    async fn stopped(&self, why: Stop, back: bool) -> End {
        let (index, error) = match why {
            Stop::Step { index, error } => (index, error),
            Stop::RunRecord { index, error } => (index, error.into()),
        };
        let at = &self.steps[index];
        let id = at.describe().id;
        let StopMessage {
            data_state,
            next_command,
        } = at.stop_message(self.data, back);
        let untouched = !back && !self.steps[..=index].iter().any(S::touches);
        let sentence = |reason: &str| {
            format!(
                "Stopped at step {id}: {}. {data_state} Next: {next_command}",
                reason.trim_end_matches('.')
            )
        };
        let (phase, message, end): (RunPhase, String, fn(String) -> End) = match &error {
            StepError::Cancelled(CancelReason::LockLost { by }) => {
                let by = by
                    .as_ref()
                    .map_or_else(String::new, |by| format!(" to {by}"));
                let message = sentence(&format!(
                    "the lock was lost{by}, so the run stopped writing"
                ));
                self.client.reporter.emit(&Event::RunEnded {
                    phase: "LockLost",
                    message: message.clone(),
                });
                return End::Stopped(message);
            }
            StepError::Cancelled(CancelReason::Terminated) => (
                RunPhase::Stopped,
                sentence("asked to stop (signal)"),
                End::Stopped,
            ),
            StepError::Waits(text) => (RunPhase::Paused, text.clone(), End::Waits),
            StepError::Locked(text) => (RunPhase::Stopped, sentence(text), End::Locked),
            StepError::Refused(text) | StepError::Failed(text) if untouched => {
                let message = format!(
                    "Refused: {}. Nothing was changed. When that is resolved: {next_command}",
                    text.trim_end_matches('.')
                );
                (RunPhase::Refused, message, End::Refused)
            }
            StepError::Refused(text) | StepError::Failed(text) => {
                (RunPhase::Stopped, sentence(text), End::Stopped)
            }
        };
        if !matches!(error, StepError::Waits(_)) {
            self.client.reporter.emit(&Event::StepFailed {
                step: id.clone(),
                reason: error.to_string(),
            });
        }
        let failed = matches!(error, StepError::Refused(_) | StepError::Failed(_)) && !untouched;
        let mut message = message;
        let mut goes_back = failed && !back && self.options.back_on_failure;
        if goes_back {
            let context = StepContext::new(self.data, self.client, self.record, self.lock);
            let barred = at
                .no_way_back(&context)
                .await
                .unwrap_or_else(|error| Some(error.to_string()));
            if let Some(why) = barred {
                message = format!("{message} It is not rolled back (--on-failure rollback): {why}");
                goes_back = false;
            }
        }
        if goes_back {
            self.client.reporter.warn(format!(
                "{message} Rolling back, as requested (--on-failure rollback)."
            ));
            return match Box::pin(self.back()).await {
                End::Reached(text) => End::RolledBack(format!(
                    "{} The run was rolled back: {text}",
                    sentence(&error.to_string())
                )),
                other => other,
            };
        }
        // During a rollback the phase stays `RollingBack`, because the cursor then has another
        // meaning.
        let phase = if back && phase == RunPhase::Stopped {
            RunPhase::RollingBack
        } else {
            phase
        };
        self.ended(phase, &message, end).await
    }

    /// Writes the final message. If that fails, the user is told, and the record keeps its last
    /// position.
    async fn ended(&self, phase: RunPhase, message: &str, end: fn(String) -> End) -> End {
        self.client.reporter.emit(&Event::RunEnded {
            phase: phase.name(),
            message: message.to_owned(),
        });
        let final_write = self.record.update(|status| {
            status.phase = phase;
            status.message = Some(message.to_owned());
            if let Some(cursor) = &mut status.step {
                cursor.waiting_for = None;
            }
        });
        // A process that was asked to end must finish within its grace period.
        let limit = if self.client.cancellation.reason().is_some() {
            FINAL_WRITE
        } else {
            self.client.patience
        };
        match tokio::time::timeout(limit, final_write).await {
            Ok(Ok(())) => end(message.to_owned()),
            Ok(Err(error)) => {
                End::Stopped(format!("{message} (This could not be recorded: {error}.)"))
            }
            Err(_) => End::Stopped(format!("{message} (This could not be recorded in time.)")),
        }
    }
}

/// Time for the last write of a process that was asked to end: Kubernetes grants 30 seconds in all.
const FINAL_WRITE: Duration = Duration::from_secs(10);

/// Time for a step that reaches a safe point on its own: a few transactions.
const WIND_DOWN: Duration = Duration::from_secs(15);

/// The index of the step at which a run starts or resumes.
pub(super) fn next(status: &RunStatus) -> usize {
    let next = |cursor: &StepCursor| index(cursor) + usize::from(cursor.stage == StepStage::Done);
    status.step.as_ref().map_or(0, next)
}

/// How many steps, from the first, a rollback undoes: those that were begun and not undone yet.
pub(super) fn begun(status: &RunStatus) -> usize {
    let resumed = status.phase == RunPhase::RollingBack;
    match &status.step {
        None => 0,
        Some(cursor) if resumed && cursor.stage == StepStage::Done => index(cursor),
        Some(cursor) => index(cursor) + 1,
    }
}

fn index(cursor: &StepCursor) -> usize {
    usize::try_from(cursor.index).unwrap_or(usize::MAX - 1)
}

/// How often this step was begun in this direction before.
fn attempts(status: &RunStatus, at: usize, back: bool) -> u32 {
    let same_way = (status.phase == RunPhase::RollingBack) == back;
    status
        .step
        .as_ref()
        .filter(|cursor| same_way && index(cursor) == at)
        .map_or(0, |cursor| cursor.attempts)
}
