//! Answers each review: in time, with its uid, in every case.

mod record;
mod slots;
mod time_limit;
mod unjudged;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use jiff::Timestamp;
use milvus_guard_core::{
    admission::{
        Gate, Response, Review, ReviewState, Ruling, Task,
        hold::Candidate,
        mutate::mutate,
        review::{Patch, ReviewError},
    },
    api::DecisionSpec,
    manifest::Budget,
    rules::{Failed, Overdue},
};
use slots::{HEAVY, HUGE, PER_CORE, Turn};
use time_limit::deadline;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::server::{
    events::EventSink,
    metrics::{Metrics, ResultLabels},
    shared_readings::Unanswered,
    state_source::{Doubt, MARGIN, StateSource},
};

pub use unjudged::{FailurePolicies, FailurePolicy};

/// Most reviews that may wait for a slot; at a millisecond each, about a second of work. Further
/// reviews are answered without a judgement.
const MAX_WAITING: usize = 1024;

/// From this size, reviews are read with `block_in_place`: parsing takes milliseconds.
const LARGE: usize = 64 * 1024;

/// Answers reviews.
pub struct Answerer {
    /// The source of the state.
    pub state_source: StateSource,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Receives Events; `None` without a cluster.
    pub events: Option<EventSink>,
    failure: FailurePolicies,
    slots: Semaphore,
    heavy: Semaphore,
    huge: Semaphore,
}

/// The path of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// `/validate`.
    Validate,
    /// `/mutate`.
    Mutate,
}

impl Answerer {
    /// An answerer with this source of the state.
    #[must_use]
    pub fn new(
        state_source: StateSource,
        metrics: Arc<Metrics>,
        events: Option<EventSink>,
        failure: FailurePolicies,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let (heavy, huge) = (Semaphore::new(HEAVY as usize), Semaphore::new(HUGE));
        Self {
            state_source,
            metrics,
            events,
            failure,
            slots: Semaphore::new(cores * PER_CORE),
            heavy,
            huge,
        }
    }

    /// The answer to a body, as JSON.
    ///
    /// # Errors
    /// If the body is not a review: then there is no uid to answer to.
    pub async fn answer(
        &self,
        path: Path,
        body: &[u8],
        timeout: Option<&str>,
    ) -> Result<Vec<u8>, ReviewError> {
        let started = Instant::now();
        let review = if body.len() < LARGE {
            Review::parse(body)
        } else {
            tokio::task::block_in_place(|| Review::parse(body))
        };
        let review = review?;
        let in_flight = InFlight::begin(&self.metrics);
        let (gate, ruling) = self
            .rule(path, &review, body.len(), started + deadline(timeout))
            .await;
        let ruling = self.spare_others(gate, &review, ruling);
        drop(in_flight);
        self.count(gate, &ruling, started.elapsed());
        self.tell(gate, &review, &ruling, started.elapsed());
        Ok(ruling.response.render(&review.uid))
    }

    /// Allows a change that could not be judged, if its object does not mention Milvus and its
    /// namespace contains no Milvus: there, a guard that cannot judge must not block changes, as
    /// an unavailable guard does not.
    fn spare_others(&self, gate: Gate, review: &Review<'_>, mut ruling: Ruling) -> Ruling {
        let is_unjudged = gate == Gate::Workload && ruling.verdict.is_none();
        let mentions = || {
            [review.object, review.old_object]
                .into_iter()
                .flatten()
                .any(|object| object.get().contains("milvus"))
        };
        if is_unjudged
            && ruling.response.denied.is_some()
            && !mentions()
            && !self.state_source.holds_milvus(&review.namespace)
        {
            ruling
                .response
                .warnings
                .extend(ruling.response.denied.take());
        }
        ruling
    }

    async fn rule(
        &self,
        path: Path,
        review: &Review<'_>,
        size: usize,
        end: Instant,
    ) -> (Gate, Ruling) {
        if path == Path::Mutate {
            return (Gate::Mutate, self.change(review, size, end).await);
        }
        let gate = Gate::of(review);
        let waiting = self.metrics.in_flight.get();
        if usize::try_from(waiting).unwrap_or(0) > MAX_WAITING {
            self.metrics.shed.inc();
            return (gate, self.unjudged(gate, "too many reviews are waiting"));
        }
        let judged = async {
            if is_heavy(review, size) {
                return self.judge_heavy(review, end).await;
            }
            // Most reviews are irrelevant; finding that out needs no slot.
            match self.read(review, &Budget::small()) {
                Ok(Task::Done(gate, ruling)) => Some((gate, *ruling)),
                task => self.judge(review, task, self.turn(0).await?, end).await,
            }
        };
        match tokio::time::timeout_at(end.into(), judged).await {
            Ok(Some(ruled)) => ruled,
            Ok(None) | Err(_) => (gate, self.unjudged(gate, "the time limit was reached")),
        }
    }

    /// The patch for the version label and for Hold. A failure here never denies the change.
    async fn change(&self, review: &Review<'_>, size: usize, end: Instant) -> Ruling {
        let read = || {
            let label = catch_unwind(AssertUnwindSafe(|| mutate(review))).unwrap_or_default();
            let candidate = || catch_unwind(AssertUnwindSafe(|| Candidate::of(review))).ok();
            (
                label,
                self.state_source
                    .can_hold()
                    .then(candidate)
                    .flatten()
                    .flatten(),
            )
        };
        let (mut response, candidate) = if size < LARGE {
            read()
        } else {
            match tokio::time::timeout_at(end.into(), self.heavy.acquire()).await {
                Ok(Ok(_turn)) => tokio::task::block_in_place(read),
                Ok(Err(_)) | Err(_) => (Response::allow(), None),
            }
        };
        if let Some(candidate) = candidate {
            response.patch.extend(self.hold(&candidate, end).await);
        }
        Ruling::of(response)
    }

    /// The patch that holds a Deployment; empty if it need not wait. A hold by the cache is judged
    /// again live: an acceptance may be newer than the cache. If that fails, it is held.
    async fn hold(&self, candidate: &Candidate, end: Instant) -> Vec<Patch> {
        let judged = |state: &ReviewState<'_>| {
            catch_unwind(AssertUnwindSafe(|| candidate.patch(state))).unwrap_or_default()
        };
        let (namespace, now) = (candidate.namespace(), Timestamp::now());
        let patch = judged(&self.state_source.state(namespace, now, None));
        if patch.is_empty() {
            return patch;
        }
        let live = self
            .state_source
            .live_state(namespace, now, None, Doubt::Denial, end);
        match Box::pin(live).await {
            Some(Ok(state)) => judged(&state),
            Some(Err(_)) | None => patch,
        }
    }

    /// Reads and judges with `block_in_place`, and with a limit for such reviews at the same time:
    /// this bounds their memory and the waiting time of other reviews.
    async fn judge_heavy(&self, review: &Review<'_>, end: Instant) -> Option<(Gate, Ruling)> {
        let late = || Instant::now() >= end;
        {
            let turn = self.turn(1).await?;
            let task =
                tokio::task::block_in_place(|| self.read(review, &Budget::small().until(&late)));
            if !matches!(task, Ok(Task::NeedsRoom(_))) {
                return self.judge_here(review, task, turn, end);
            }
        }
        // The record is larger than its head states. Reading all of it needs the only slot for
        // huge records.
        let _room = self.huge.acquire().await.ok()?;
        let turn = self.turn(HEAVY).await?;
        let task =
            tokio::task::block_in_place(|| self.read(review, &Budget::default().until(&late)));
        self.judge_here(review, task, turn, end)
    }

    fn judge_here(
        &self,
        review: &Review<'_>,
        task: Result<Task<'_>, Box<(Gate, Ruling)>>,
        turn: Turn<'_>,
        end: Instant,
    ) -> Option<(Gate, Ruling)> {
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(self.judge(review, task, turn, end)))
    }

    /// Reads a review into a task; `Err` is the answer without a judgement if reading panics.
    fn read<'a>(
        &self,
        review: &Review<'a>,
        budget: &Budget<'_>,
    ) -> Result<Task<'a>, Box<(Gate, Ruling)>> {
        catch_unwind(AssertUnwindSafe(|| Task::within(review, budget))).map_err(|_| {
            let gate = Gate::of(review);
            Box::new((
                gate,
                self.unjudged(
                    gate,
                    "the review could not be read (a defect of milvus-guard: please report it)",
                ),
            ))
        })
    }

    /// Judges in a slot. Frees the slot for other reviews while it waits for the API server. `None`
    /// if the server shuts down.
    async fn judge<'s>(
        &'s self,
        review: &Review<'_>,
        task: Result<Task<'_>, Box<(Gate, Ruling)>>,
        mut turn: Turn<'s>,
        end: Instant,
    ) -> Option<(Gate, Ruling)> {
        let task = match task {
            Ok(task) => task,
            Err(unread) => return Some(*unread),
        };
        let gate = task.gate();
        if let Task::Unjudged(_, reason) = &task {
            return Some((gate, self.unread(gate, reason)));
        }
        let Some(namespace) = task.namespace() else {
            let Task::Done(_, ruling) = task else {
                return Some((gate, Ruling::pass()));
            };
            return Some((gate, *ruling));
        };
        let now = Timestamp::now();
        let late = || Instant::now() >= end;
        let overdue = Some(Overdue(&late));
        let mut ruling = self.ruling(&task, &self.state_source.state(namespace, now, overdue));
        // The cache may lag behind. A denial is judged again live, and an allowance too while a
        // kind is not watched.
        let mut doubt = if ruling.by_state {
            Some(Doubt::Denial)
        } else {
            self.state_source.unwatched().map(Doubt::Unwatched)
        };
        while let Some(why) = doubt.take() {
            let heavy = turn.heavy.as_ref().map_or(0, SemaphorePermit::num_permits);
            drop(turn);
            // Boxed, because the future is large and rarely needed.
            let live = Box::pin(
                self.state_source
                    .live_state(namespace, now, overdue, why, end),
            )
            .await;
            turn = self.turn(u32::try_from(heavy).unwrap_or(HEAVY)).await?;
            let Some(live) = live else { break };
            ruling = self.confirm(&task, ruling, why, live);
            // If only the kind in doubt was read live, a denial still rests on the cache.
            doubt = Some(Doubt::Denial).filter(|denial| why != *denial && ruling.by_state);
        }
        drop(turn);
        if let Some(decision) = ruling.decision.take().filter(|_| !review.is_dry_run())
            && let Err(reason) = self.record(&decision, end).await
        {
            tracing::error!(
                release = decision.release,
                namespace = decision.namespace,
                %reason,
                "a decision could not be recorded"
            );
            let warning = "milvus-guard could not record its decision; the objects of this \
                           release will be checked again one by one";
            ruling.response.warnings.push(warning.into());
        }
        Some((gate, ruling))
    }

    /// Records a decision. The answer is more important than the record, so this ends before the
    /// deadline of the answer.
    async fn record(&self, decision: &DecisionSpec, end: Instant) -> Result<(), Unanswered> {
        let end = end.checked_sub(MARGIN).unwrap_or(end);
        let written = tokio::time::timeout_at(end.into(), self.state_source.record(decision)).await;
        written.unwrap_or(Err(Unanswered::Late))
    }

    fn confirm(
        &self,
        task: &Task<'_>,
        by_memory: Ruling,
        doubt: Doubt,
        live: Result<ReviewState<'_>, Unanswered>,
    ) -> Ruling {
        let denied = by_memory.response.denied.is_some();
        let (result, ruling) = match (live, doubt) {
            (Ok(state), _) => {
                let ruling = self.ruling(task, &state);
                // A rule that ran out of time here has no finding. The earlier finding counts.
                if denied
                    && doubt == Doubt::Denial
                    && ran_out_of_time(&ruling)
                    && !ran_out_of_time(&by_memory)
                {
                    tracing::warn!(
                        "could not check a denial against the live cluster in time; using the cached state"
                    );
                    self.metrics
                        .live_reads
                        .get_or_create(&ResultLabels { result: "failed" })
                        .inc();
                    return by_memory;
                }
                (
                    if ruling.response.denied.is_some() == denied {
                        "confirmed"
                    } else {
                        "changed"
                    },
                    ruling,
                )
            }
            (Err(reason), Doubt::Unwatched(kind)) if !denied => {
                let kind = kind.kind();
                tracing::warn!(
                    kind,
                    %reason,
                    "a kind is not watched and could not be read, so no change is allowed by \
                     the cached state"
                );
                (
                    "failed",
                    self.unjudged(
                        task.gate(),
                        &format!(
                            "{kind} objects are not watched at the moment, and reading them \
                             failed: {reason}"
                        ),
                    ),
                )
            }
            (Err(reason), _) => {
                tracing::warn!(
                    %reason,
                    "could not re-check the denial against the live cluster; the cached state \
                     decides"
                );
                ("failed", by_memory)
            }
        };
        self.metrics
            .live_reads
            .get_or_create(&ResultLabels { result })
            .inc();
        ruling
    }

    fn ruling(&self, task: &Task<'_>, state: &ReviewState<'_>) -> Ruling {
        let judged = catch_unwind(AssertUnwindSafe(|| task.judge(state)));
        judged.unwrap_or_else(|_| {
            self.unjudged(
                task.gate(),
                "the review failed (a defect of milvus-guard: please report it)",
            )
        })
    }
}

/// Whether a rule ran out of time.
fn ran_out_of_time(ruling: &Ruling) -> bool {
    ruling
        .failed
        .iter()
        .any(|(_, failed)| *failed == Failed::Timeout)
}

/// Whether a review may be slow to read: large, or with YAML or a packed release inside.
fn is_heavy(review: &Review<'_>, size: usize) -> bool {
    let may_hold_files = review.resource.group.is_empty()
        && matches!(&*review.resource.resource, "secrets" | "configmaps");
    size >= LARGE || may_hold_files
}

/// A review in the gauge, until it is dropped: a client that disconnects ends its answer at any
/// await.
struct InFlight<'m>(&'m Metrics);

impl<'m> InFlight<'m> {
    fn begin(metrics: &'m Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

#[cfg(test)]
mod tests;
