//! Starts and resumes the runs of held changes while this replica leads.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use tokio::{
    task::{JoinHandle, LocalSet, spawn_local},
    time::Instant,
};

use crate::engine::{
    CancelReason, Cancellation, End, Event, Home, Listener, ReleaseName, Reporter, RetryingClient,
    RunRecord, RunRecordError, history::History, release, run_locally,
};
use milvus_guard_core::api::{RunKind, UpgradeRun};
use milvus_guard_sources::kubernetes::Cluster;

use super::{
    plan::held_fits,
    procedure::{HeldUpgrade, HoldSettings},
    step::Stuck,
};

/// Interval between two looks at what is held.
const LOOK: Duration = Duration::from_millis(500);
/// Pause after a run that did not reach its end, before the next try.
const PAUSE: Duration = Duration::from_secs(5);

/// Releases the held changes of all releases, as long as this replica is the leader.
pub struct Controller<L, H, S> {
    /// The cluster.
    pub cluster: Cluster,
    /// The guard's namespace, where the runs are stored.
    pub home: String,
    /// How held changes are released.
    pub settings: HoldSettings,
    /// Whether this replica leads.
    pub leads: L,
    /// The releases of which something is held, or whose held change is in progress.
    pub held: H,
    /// Receives the number of held changes that are stuck.
    pub report_stuck: S,
}

/// The run of one release.
struct Running {
    cancellation: Cancellation,
    task: JoinHandle<bool>,
    stuck: Stuck,
}

impl<L, H, S> Controller<L, H, S>
where
    L: Fn() -> bool,
    H: Fn() -> Vec<ReleaseName>,
    S: Fn(usize),
{
    /// Runs on a separate thread until the process ends, because the futures of a run cannot move
    /// between threads.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn start(self) -> std::io::Result<()>
    where
        L: Send + 'static,
        H: Send + 'static,
        S: Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let work = move || LocalSet::new().block_on(&runtime, self.run());
        std::thread::Builder::new()
            .name("held-upgrades".to_owned())
            .spawn(work)
            .map(drop)
    }

    async fn run(self) {
        let mut running: HashMap<ReleaseName, Running> = HashMap::new();
        let mut paused: HashMap<ReleaseName, Instant> = HashMap::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let leads = (self.leads)();
            if !leads {
                for one in running.values() {
                    one.cancellation.cancel(CancelReason::Terminated);
                }
            }
            let ended: Vec<ReleaseName> = running
                .iter()
                .filter(|(_, one)| one.task.is_finished())
                .map(|(key, _)| key.clone())
                .collect();
            for key in ended {
                if let Some(one) = running.remove(&key)
                    && !one.task.await.unwrap_or(false)
                {
                    paused.insert(key, Instant::now() + PAUSE);
                }
            }
            let stuck = running.values().filter(|one| one.stuck.is_stuck());
            (self.report_stuck)(stuck.count());
            paused.retain(|_, until| *until > Instant::now());
            if !leads {
                continue;
            }
            for release in (self.held)() {
                if !running.contains_key(&release) && !paused.contains_key(&release) {
                    running.insert(release.clone(), self.begin(release));
                }
            }
        }
    }

    fn begin(&self, release: ReleaseName) -> Running {
        let cancellation = Cancellation::default();
        let history = History::default();
        let reporter = Reporter::new(vec![
            Box::new(history.clone()),
            Box::new(Log(release.clone())),
        ]);
        let client = RetryingClient::new(self.cluster.clone(), reporter, cancellation.clone());
        let stuck = Stuck::default();
        let procedure = HeldUpgrade::new(
            release.clone(),
            &self.home,
            self.settings.clone(),
            stuck.clone(),
        );
        let home = Home {
            namespace: self.home.clone(),
            guarded_by: None,
        };
        let task = spawn_local(async move {
            match drive(&client, &home, &release, procedure, history).await {
                End::Reached(_) => true,
                End::Stopped(_) if client.cancellation.reason().is_some() => true,
                end => {
                    tracing::warn!(
                        release = release.name,
                        namespace = release.namespace,
                        reason = end.text(),
                        "a held change does not proceed"
                    );
                    false
                }
            }
        });
        Running {
            cancellation,
            task,
            stuck,
        }
    }
}

/// Ends the run of a change that was replaced, then releases what is held.
async fn drive(
    client: &RetryingClient,
    home: &Home,
    of: &ReleaseName,
    procedure: HeldUpgrade,
    history: History,
) -> End {
    match replaced(client, home, of).await {
        Ok(false) => {}
        Ok(true) => {
            let end = Box::pin(run_locally(
                client,
                &procedure.clone().ending(),
                history.clone(),
            ))
            .await;
            if !matches!(end, End::Reached(_)) {
                return end;
            }
        }
        Err(error) => return error.into(),
    }
    Box::pin(run_locally(client, &procedure, history)).await
}

/// Whether the current run is about a change that another one replaced, or about a
/// release that no longer exists.
async fn replaced(
    client: &RetryingClient,
    home: &Home,
    of: &ReleaseName,
) -> Result<bool, RunRecordError> {
    let known = RunRecord::runs(client, home, of).await?;
    let Some(open) = known.iter().rev().find(|run| is_open(run)) else {
        return Ok(false);
    };
    let found = match release::read(client, of).await {
        Ok((found, _)) => found,
        Err(release::SurveyError::Api(error)) => return Err(error.into()),
        Err(_) => return Ok(true),
    };
    let image = open.spec.image.clone().unwrap_or_default();
    // Released Deployments must still have the image of the run; later ones may not have it yet.
    let done = open.status.step.as_ref().map_or(0, |cursor| cursor.index);
    let released = open.spec.plan.iter().take(done.try_into().unwrap_or(0));
    let keeps_image = |workload: &String| {
        let mut components = found.components.iter();
        components.any(|one| {
            one.workload.meta.object.name == *workload && one.image().to_string() == image
        })
    };
    let mut released = released.filter_map(|step| step.workload.as_ref());
    Ok(!held_fits(&found, &image) || !released.all(keeps_image))
}

fn is_open(run: &UpgradeRun) -> bool {
    run.spec.kind == RunKind::Hold && run.is_under_way()
}

/// Writes the events of a run to the log of the guard.
struct Log(ReleaseName);

impl Listener for Log {
    fn on_event(&self, _at: Timestamp, event: &Event) {
        let Self(ReleaseName { name, namespace }) = self;
        match event {
            Event::Warning { text } => tracing::warn!(release = name, namespace, "{text}"),
            Event::Note { text } => tracing::info!(release = name, namespace, "{text}"),
            Event::SessionReleased { session, pod, why } => tracing::info!(
                release = name,
                namespace,
                session,
                pod,
                why,
                "a session is removed from etcd"
            ),
            Event::RunBegan { title, .. } => tracing::info!(release = name, namespace, "{title}"),
            Event::StepDone { step, .. } => {
                tracing::info!(release = name, namespace, step, "a step is done");
            }
            Event::RunEnded { message, .. } => {
                tracing::info!(release = name, namespace, "{message}");
            }
            _ => {}
        }
    }
}
