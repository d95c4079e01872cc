//! The engine of `migrate` and `upgrade` on a real API server: the record, the lock, and every way
//! in which a run stops.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::common;
use milvus_guard_core::api::{
    ObjectMeta, RunKind, RunPhase, RunSpec, RunStep, StepAction, UpgradeRun,
};
use milvus_guard_operations::engine::{
    CancelReason, Cancellation, End, Engine, Event, Home, Listener, Lock, LockError, Options,
    ReleaseName, Reporter, RetryingClient, RunRecord, RunRecordError, Step, StepContext, StepError,
    StopMessage, history::History, home::HomeError,
};
use milvus_guard_sources::kubernetes::{Access, Cluster};
use milvus_guard_testbed::{ControlPlane, expect_success};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Validity of a lock: enough to renew it on a busy machine, short enough to wait for its end.
const HOLDS: Duration = Duration::from_secs(2);
const OPTIONS: Options = Options {
    total: Duration::from_secs(60),
    back_on_failure: false,
};

/// Data of the steps of these tests: the list that they change, and the step that fails.
#[derive(Default)]
struct ListData {
    done: Mutex<Vec<String>>,
    fault: Mutex<Option<(usize, Fault)>>,
}

#[derive(Clone, Debug)]
enum Fault {
    Fails,
    Refuses,
    Waits,
    /// Never finishes.
    Hangs,
    /// Waits until the test clears the fault.
    Held,
}

struct ListStep {
    index: usize,
    touches: bool,
}

impl Step for ListStep {
    type Data = ListData;

    fn describe(&self) -> RunStep {
        let id = format!("step-{}", self.index);
        RunStep {
            title: format!("Do {id}"),
            id,
            component: None,
            workload: None,
            action: StepAction::Stop,
        }
    }

    fn touches(&self) -> bool {
        self.touches
    }

    fn deadline(&self, _: &ListData) -> Duration {
        Duration::from_secs(30)
    }

    fn stop_message(&self, _: &ListData, back: bool) -> StopMessage {
        let word = if back { "Back" } else { "Forth" };
        StopMessage {
            data_state: format!("{word} at {}.", self.index),
            next_command: "the same command".into(),
        }
    }

    async fn apply(&self, context: &StepContext<'_, ListData>) -> Result<(), StepError> {
        context.permit().await?;
        let fault = context
            .data
            .fault
            .lock()
            .unwrap()
            .clone()
            .filter(|(at, _)| *at == self.index)
            .map(|(_, fault)| fault);
        match fault {
            None => {}
            Some(Fault::Fails) => return Err(StepError::Failed("it broke".into())),
            Some(Fault::Refuses) => return Err(StepError::Refused("it must not".into())),
            Some(Fault::Waits) => return Err(StepError::Waits("Your turn.".into())),
            Some(Fault::Hangs) => {
                context.waiting("the end of time");
                std::future::pending::<()>().await;
            }
            Some(Fault::Held) => {
                context.waiting("the test");
                while context.data.fault.lock().unwrap().is_some() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        let mut done = context.data.done.lock().unwrap();
        if !done.contains(&self.describe().id) {
            done.push(self.describe().id);
        }
        Ok(())
    }

    async fn undo(&self, context: &StepContext<'_, ListData>) -> Result<(), StepError> {
        context
            .data
            .done
            .lock()
            .unwrap()
            .retain(|done| *done != self.describe().id);
        Ok(())
    }
}

fn steps() -> Vec<ListStep> {
    (0..4)
        .map(|index| ListStep {
            index,
            touches: index > 0,
        })
        .collect()
}

/// Counts events by name.
#[derive(Default)]
struct EventLog(Mutex<Vec<Event>>);

impl Listener for &'static EventLog {
    fn on_event(&self, _: jiff::Timestamp, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

struct EngineCluster {
    cluster: ControlPlane,
    runtime: Runtime,
    runs: AtomicUsize,
}

impl EngineCluster {
    fn start() -> Self {
        let cluster = ControlPlane::start();
        common::install_definitions(&cluster);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self {
            cluster,
            runtime,
            runs: AtomicUsize::new(0),
        }
    }

    fn client_and_history(&self) -> (RetryingClient, History, &'static EventLog) {
        self.link_by(self.cluster.kubeconfig())
    }

    fn link_by(&self, kubeconfig: &Path) -> (RetryingClient, History, &'static EventLog) {
        let access = Access {
            kubeconfig: Some(kubeconfig.to_owned()),
            context: None,
        };
        let cluster = self.runtime.block_on(Cluster::connect(&access)).unwrap();
        let (history, events) = (History::default(), Box::leak(Box::new(EventLog::default())));
        let reporter = Reporter::new(vec![Box::new(history.clone()), Box::new(&*events)]);
        (
            RetryingClient::new(cluster, reporter, Cancellation::default()),
            history,
            events,
        )
    }

    /// The name of a release that no other test of this cluster uses.
    fn release(&self) -> ReleaseName {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        ReleaseName {
            name: format!("release-{number}"),
            namespace: "default".into(),
        }
    }

    fn status(&self, of: &ReleaseName) -> Value {
        self.cluster.get_json(&format!(
            "/apis/guard.milvus.io/v1alpha1/namespaces/default/upgraderuns/run-{}",
            of.name
        ))["status"]
            .clone()
    }

    /// The work of one process: takes the lock, opens or writes the record, runs, releases the
    /// lock.
    fn make(&self, of: &ReleaseName, data: &ListData, options: Options, back: bool) -> End {
        let (client, history, _) = self.client_and_history();
        self.make_with(of, data, options, back, &client, history)
    }

    fn make_with(
        &self,
        of: &ReleaseName,
        data: &ListData,
        options: Options,
        back: bool,
        client: &RetryingClient,
        history: History,
    ) -> End {
        self.runtime.block_on(async {
            let home = Home::find(client, of, None).await.unwrap();
            let lock = match Lock::take(client, &home, of, "run", HOLDS, 0).await {
                Ok(lock) => lock,
                Err(error) => return End::Locked(error.to_string()),
            };
            let record = RunRecord::create(client, &home, &run(of), &lock, history)
                .await
                .unwrap();
            let steps = steps();
            let engine = Engine {
                title: "ListStep".into(),
                steps: &steps,
                data,
                record: &record,
                lock: &lock,
                client,
                options,
            };
            let end = if back {
                engine.back().await
            } else {
                engine.forward().await
            };
            lock.give_back().await;
            end
        })
    }
}

fn run(of: &ReleaseName) -> UpgradeRun {
    let spec = RunSpec {
        kind: RunKind::Migration,
        release: of.name.clone(),
        namespace: of.namespace.clone(),
        from: "2.1.4".parse().unwrap(),
        to: "2.2.16".parse().unwrap(),
        plan: steps().iter().map(Step::describe).collect(),
        plan_hash: "sha256:1".into(),
        image: None,
        requested_by: None,
    };
    UpgradeRun::new(
        ObjectMeta {
            name: format!("run-{}", of.name),
            ..ObjectMeta::default()
        },
        spec,
    )
}

#[test]
fn without_the_definitions_no_run_starts() {
    let cluster = ControlPlane::start();
    let runtime = Runtime::new().unwrap();
    let found = runtime.block_on(async {
        let access = Access {
            kubeconfig: Some(cluster.kubeconfig().to_owned()),
            context: None,
        };
        let client = RetryingClient::new(
            Cluster::connect(&access).await.unwrap(),
            Reporter::default(),
            Cancellation::default(),
        );
        Home::find(
            &client,
            &ReleaseName {
                name: "r".into(),
                namespace: "default".into(),
            },
            None,
        )
        .await
    });
    assert_eq!(found, Err(HomeError::NoDefinitions));
}

/// One control plane for all cases; each has a separate release.
#[test]
fn runs_are_recorded_resumed_rolled_back_and_kept_apart() {
    let bed = EngineCluster::start();
    a_run_completes_and_reports_it(&bed);
    a_failure_stops_the_run_and_the_same_command_resumes_it(&bed);
    a_failure_before_the_first_change_is_a_refusal(&bed);
    a_failure_is_rolled_back_if_requested(&bed);
    a_rollback_undoes_steps_that_were_started(&bed);
    a_step_may_wait_for_another_client(&bed);
    a_signal_stops_cleanly(&bed);
    a_lost_lock_stops_at_once(&bed);
    a_second_run_is_refused_and_names_the_holder_of_the_lock(&bed);
    a_holder_that_lost_the_lock_never_writes_again(&bed);
    a_run_completes_despite_conflicts_on_every_write(&bed);
    a_run_survives_an_outage_of_the_api_server(&bed);
}

fn a_run_completes_and_reports_it(bed: &EngineCluster) {
    let (of, world) = (bed.release(), ListData::default());
    let end = bed.make(&of, &world, OPTIONS, false);
    assert_eq!(end, End::Reached("Forth at 3.".into()));
    assert_eq!(world.done.lock().unwrap().len(), 4);
    let status = bed.status(&of);
    assert_eq!(
        (
            &status["phase"],
            &status["step"]["id"],
            &status["step"]["stage"]
        ),
        (&json!("Succeeded"), &json!("step-3"), &json!("Done"))
    );
    let history: Vec<&str> = status["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["reason"].as_str().unwrap())
        .collect();
    let steps = ["StepBegan", "StepDone"].repeat(4);
    assert_eq!(history, [&["RunBegan"], &steps[..], &["RunEnded"]].concat());
    assert!(
        status["fence"].as_i64() >= Some(1) && status["holder"].is_string(),
        "{status:#}"
    );
}

fn a_failure_stops_the_run_and_the_same_command_resumes_it(bed: &EngineCluster) {
    let (of, world) = (bed.release(), ListData::default());
    *world.fault.lock().unwrap() = Some((2, Fault::Fails));
    for attempt in 1..=2 {
        let End::Stopped(text) = bed.make(&of, &world, OPTIONS, false) else {
            panic!()
        };
        assert_eq!(
            text,
            "Stopped at step step-2: it broke. Forth at 2. Next: the same command"
        );
        let status = bed.status(&of);
        assert_eq!(
            (&status["phase"], &status["step"]["attempts"]),
            (&json!("Stopped"), &json!(attempt))
        );
        assert_eq!(status["message"], text);
    }
    *world.fault.lock().unwrap() = None;
    assert_eq!(
        bed.make(&of, &world, OPTIONS, false),
        End::Reached("Forth at 3.".into())
    );
    assert_eq!(
        *world.done.lock().unwrap(),
        ["step-0", "step-1", "step-2", "step-3"]
    );
}

fn a_failure_before_the_first_change_is_a_refusal(bed: &EngineCluster) {
    let (of, world) = (bed.release(), ListData::default());
    *world.fault.lock().unwrap() = Some((0, Fault::Refuses));
    let end = bed.make(&of, &world, OPTIONS, false);
    assert_eq!(
        end,
        End::Refused(
            "Refused: it must not. Nothing was changed. When that is resolved: the same command"
                .into()
        )
    );
    assert_eq!(bed.status(&of)["phase"], "Refused");
}

fn a_failure_is_rolled_back_if_requested(bed: &EngineCluster) {
    let (of, world) = (bed.release(), ListData::default());
    *world.fault.lock().unwrap() = Some((2, Fault::Fails));
    let end = bed.make(
        &of,
        &world,
        Options {
            back_on_failure: true,
            ..OPTIONS
        },
        false,
    );
    assert!(
        matches!(&end, End::RolledBack(text) if text.contains("it broke") && text.contains("Back at 0.")),
        "{end:?}"
    );
    assert_eq!(
        (
            bed.status(&of)["phase"].clone(),
            world.done.lock().unwrap().len()
        ),
        (json!("RolledBack"), 0)
    );
}

fn a_rollback_undoes_steps_that_were_started(bed: &EngineCluster) {
    let (of, world) = (bed.release(), ListData::default());
    bed.make(&of, &world, OPTIONS, false);
    assert_eq!(
        bed.make(&of, &world, OPTIONS, true),
        End::Reached("Back at 0.".into())
    );
    assert_eq!(
        (
            bed.status(&of)["phase"].clone(),
            world.done.lock().unwrap().len()
        ),
        (json!("RolledBack"), 0)
    );
}

fn a_step_may_wait_for_another_client(bed: &EngineCluster) {
    let (of, world) = (bed.release(), ListData::default());
    *world.fault.lock().unwrap() = Some((3, Fault::Waits));
    assert_eq!(
        bed.make(&of, &world, OPTIONS, false),
        End::Waits("Your turn.".into())
    );
    assert_eq!(
        (&bed.status(&of)["phase"], &bed.status(&of)["message"]),
        (&json!("Paused"), &json!("Your turn."))
    );
    *world.fault.lock().unwrap() = None;
    assert_eq!(
        bed.make(&of, &world, OPTIONS, false),
        End::Reached("Forth at 3.".into())
    );
}

/// Starts a run that hangs in its third step, calls the given function then, and returns how the
/// run ended and how long that took.
fn disturbed_run(
    bed: &EngineCluster,
    of: &ReleaseName,
    disturb: impl FnOnce(&RetryingClient) + Send,
) -> (End, Duration) {
    let world = ListData::default();
    *world.fault.lock().unwrap() = Some((2, Fault::Hangs));
    let (client, history, events) = bed.client_and_history();
    std::thread::scope(|scope| {
        let disturber = client.clone();
        let run = scope.spawn(|| {
            let end = bed.make_with(of, &world, OPTIONS, false, &client, history);
            (end, Instant::now())
        });
        let hangs = || {
            events
                .0
                .lock()
                .unwrap()
                .iter()
                .any(|event| matches!(event, Event::Waiting { on } if on == "the end of time"))
        };
        assert!(
            milvus_guard_testbed::wait_until(Duration::from_secs(30), hangs),
            "the step hangs"
        );
        disturb(&disturber);
        let began = Instant::now();
        let (end, ended) = run.join().unwrap();
        (end, ended.saturating_duration_since(began))
    })
}

fn a_signal_stops_cleanly(bed: &EngineCluster) {
    let of = bed.release();
    let (end, took) = disturbed_run(bed, &of, |client| {
        client.cancellation.cancel(CancelReason::Terminated);
    });
    assert!(
        matches!(&end, End::Stopped(text) if text.contains("asked to stop")),
        "{end:?}"
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(bed.status(&of)["phase"], "Stopped");
    let lease = bed.cluster.get_json(&format!(
        "/apis/coordination.k8s.io/v1/namespaces/default/leases/{}",
        of.lease()
    ));
    assert!(
        lease["spec"]["holderIdentity"].is_null(),
        "the lock must be released: {lease:#}"
    );
}

fn a_lost_lock_stops_at_once(bed: &EngineCluster) {
    let of = bed.release();
    let (end, took) = disturbed_run(bed, &of, |_| {
        let stolen = r#"{"spec": {"holderIdentity": "thief", "leaseTransitions": 9}}"#;
        expect_success(bed.cluster.kubectl([
            "patch",
            "lease",
            &of.lease(),
            "--type=merge",
            "-p",
            stolen,
        ]));
    });
    assert!(
        matches!(&end, End::Stopped(text) if text.contains("the lock was lost to thief")),
        "{end:?}"
    );
    assert!(took < HOLDS, "{took:?}");
    assert_eq!(
        bed.status(&of)["phase"],
        "Running",
        "nothing is written after the lock is lost"
    );
}

fn a_second_run_is_refused_and_names_the_holder_of_the_lock(bed: &EngineCluster) {
    let of = bed.release();
    disturbed_run(bed, &of, |client| {
        let asked = Instant::now();
        let End::Locked(text) = bed.make(&of, &ListData::default(), OPTIONS, false) else {
            panic!("it got the lock")
        };
        assert!(
            text.starts_with("run run holds the lock of this release: ")
                && text.contains(" since 20"),
            "{text}"
        );
        assert!(
            asked.elapsed() < HOLDS * 2,
            "a live holder is noticed at its next renewal: {:?}",
            asked.elapsed()
        );
        client.cancellation.cancel(CancelReason::Terminated);
    });
}

fn a_holder_that_lost_the_lock_never_writes_again(bed: &EngineCluster) {
    let of = bed.release();
    let (client, history, _) = bed.client_and_history();
    bed.runtime.block_on(async {
        let home = Home::find(&client, &of, None).await.unwrap();
        let old = Lock::take(&client, &home, &of, "run", HOLDS, 0)
            .await
            .unwrap();
        let fence = old.fence();
        let record = RunRecord::create(&client, &home, &run(&of), &old, history.clone())
            .await
            .unwrap();
        record
            .update(|status| status.phase = RunPhase::Running)
            .await
            .unwrap();
        // The state in which a process that was frozen for a long time finds the cluster.
        drop(old);
        let new = Lock::take(&client, &home, &of, "run", HOLDS, 0)
            .await
            .unwrap();
        assert!(new.fence() > fence);
        let later = RunRecord::open(
            &client,
            &home,
            &format!("run-{}", of.name),
            &new,
            history.clone(),
        )
        .await
        .unwrap();
        later
            .update(|status| status.message = Some("mine".into()))
            .await
            .unwrap();
        let written = record
            .update(|status| status.message = Some("no, mine".into()))
            .await;
        assert!(
            matches!(&written, Err(RunRecordError::Fenced { by: Some(by) }) if by == new.holder()),
            "{written:?}"
        );
        // The first fence of a new Lease is higher than every fence of a deleted one.
        let floor = later.run().status.fence.unwrap() + 1;
        new.give_back().await;
        expect_success(bed.cluster.kubectl(["delete", "lease", &of.lease()]));
        let next = Lock::take(&client, &home, &of, "run", HOLDS, floor)
            .await
            .unwrap();
        assert_eq!(next.fence(), floor);
        let held = Lock::take(&client, &home, &of, "run", HOLDS, 0).await.err();
        assert!(matches!(held, Some(LockError::Held { .. })), "{held:?}");
    });
    assert_eq!(bed.status(&of)["message"], "mine");
}

fn a_run_completes_despite_conflicts_on_every_write(bed: &EngineCluster) {
    let (of, world) = (bed.release(), ListData::default());
    // Another client labels the run continuously, so each write of the run meets a conflict.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let label = format!("busy={number}");
                bed.cluster.kubectl([
                    "label",
                    "--overwrite",
                    "upgraderun",
                    &format!("run-{}", of.name),
                    &label,
                ]);
            }
        });
        let end = bed.make(&of, &world, OPTIONS, false);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(end, End::Reached("Forth at 3.".into()));
    });
    assert_eq!(bed.status(&of)["phase"], "Succeeded");
}

fn a_run_survives_an_outage_of_the_api_server(bed: &EngineCluster) {
    let (of, world) = (bed.release(), ListData::default());
    let (client, history, events) = bed.client_and_history();
    *world.fault.lock().unwrap() = Some((2, Fault::Held));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let is_held = || {
                events
                    .0
                    .lock()
                    .unwrap()
                    .iter()
                    .any(|event| matches!(event, Event::Waiting { on } if on == "the test"))
            };
            assert!(
                milvus_guard_testbed::wait_until(Duration::from_secs(30), is_held),
                "the step is held"
            );
            bed.cluster.api_server().kill();
            *world.fault.lock().unwrap() = None;
            // The tested outage is longer than the lock is valid, so its length is fixed.
            std::thread::sleep(HOLDS * 2);
            bed.cluster.api_server().restart();
        });
        let end = bed.make_with(&of, &world, OPTIONS, false, &client, history);
        assert_eq!(end, End::Reached("Forth at 3.".into()));
    });
    let said = events.0.lock().unwrap();
    let waited = said
        .iter()
        .any(|event| matches!(event, Event::Waiting { on } if on.starts_with("the API server")));
    assert!(waited, "the run must report what it waits for: {said:#?}");
}
