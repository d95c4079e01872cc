//! One Deployment: released in its turn, and waited for.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::json;

use crate::{
    engine::{self, ApiError, EtcdAccess, ReleaseName, StepError, StopMessage},
    rolling_upgrade::{
        SessionHelp,
        context::{SessionRun, Sessions},
        steps::{
            proxies,
            release::{self as session_help, Leftover},
            standbys,
        },
    },
};
use milvus_guard_core::{
    api::{RunStatus, RunStep, StepAction},
    milvus::{Component, Release, Version, release::HELD_FROM},
};
use milvus_guard_metadata::executor::Registered;
use milvus_guard_sources::kubernetes::{
    rollout::{self, Wanted, Watched},
    workloads::FIELD_MANAGER,
};

use super::plan::HeldMove;

/// Interval between two checks whether another change replaced this one.
const LOOK: Duration = Duration::from_secs(2);
/// The deadline of a step: a held change waits without a limit.
pub(super) const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The longest time that a step waits for sessions of ended pods: more than a lease lasts (60 s).
const SESSIONS: Duration = Duration::from_secs(90);
/// Interval between two looks at the sessions.
const SESSIONS_LOOK: Duration = Duration::from_secs(1);

/// What the steps of a held change work with.
pub struct HeldData {
    /// The release.
    pub release: ReleaseName,
    /// The release as it was when this process began.
    pub found: Release,
    /// How to connect to etcd.
    pub etcd: EtcdAccess,
    /// The sessions in etcd.
    pub sessions: Sessions,
    /// Whether sessions of ended pods are removed.
    pub session_help: SessionHelp,
    /// Whether etcd refuses to remove sessions.
    pub is_release_refused: Cell<bool>,
    /// The version before the change.
    pub from: Version,
    /// The version after the change.
    pub to: Version,
    /// The image that every Deployment of the plan has in its template.
    pub image: String,
    /// Every Deployment of the plan.
    pub workloads: Vec<String>,
    /// Time after which a Deployment that does not become complete counts as stuck.
    pub stuck_after: Duration,
    /// Whether it is stuck.
    pub stuck: Stuck,
}

impl SessionRun for HeldData {
    fn name(&self) -> &ReleaseName {
        &self.release
    }

    fn release(&self) -> &Release {
        &self.found
    }

    fn etcd(&self) -> &EtcdAccess {
        &self.etcd
    }

    fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    fn session_help(&self) -> SessionHelp {
        self.session_help
    }

    fn is_release_refused(&self) -> bool {
        self.is_release_refused.get()
    }

    fn refuse_release(&self) -> bool {
        !self.is_release_refused.replace(true)
    }

    fn component(&self, _status: &RunStatus, workload: &str) -> Option<Component> {
        let mut all = self.found.components.iter();
        let of = all.find(|one| one.workload.meta.object.name == workload)?;
        Some(of.component)
    }

    fn see(&self, _sessions: &[Registered]) {}

    fn target(&self) -> Version {
        self.to
    }

    fn reach_pods(&self) -> bool {
        true
    }
}

/// Whether a held change is stuck, as its run and the controller both see it.
#[derive(Clone, Debug, Default)]
pub struct Stuck(Rc<Cell<bool>>);

impl Stuck {
    /// Whether a Deployment of the change did not become complete in time.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.0.get()
    }
}

/// The step context of a held change.
type StepContext<'a> = engine::StepContext<'a, HeldData>;

/// One step of a held change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Releases one Deployment and waits for it.
    Release(HeldMove),
    /// Makes sure that nothing is held any more.
    CheckReleased,
}

impl engine::Step for Step {
    type Data = HeldData;

    fn describe(&self) -> RunStep {
        match self {
            Self::Release(one) => one.describe(),
            Self::CheckReleased => RunStep {
                id: "check-released".into(),
                title: "Check that nothing is held".into(),
                component: None,
                workload: None,
                action: StepAction::Check,
            },
        }
    }

    fn deadline(&self, _data: &HeldData) -> Duration {
        NO_LIMIT
    }

    fn stop_message(&self, data: &HeldData, _back: bool) -> StopMessage {
        let HeldData {
            release, from, to, ..
        } = data;
        let data_state = match self {
            Self::Release(_) => format!(
                "Components of {} that are held run {from}; they wait for the others to run {to}.",
                release.name
            ),
            Self::CheckReleased => format!("{} runs {to}, every component of it.", release.name),
        };
        StopMessage {
            data_state,
            next_command: status_command(release),
        }
    }

    async fn apply(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        match self {
            Self::Release(one) => apply(cx, &one.workload).await,
            Self::CheckReleased => {
                for workload in &cx.data.workloads {
                    apply(cx, workload).await?;
                }
                settle(cx, &watched(cx, &cx.data.workloads).await?).await?;
                Ok(cx.record(|status| status.pods.clear()).await?)
            }
        }
    }

    async fn gate(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        match self {
            Self::Release(one) => {
                let gate = gate(cx, &one.awaits);
                match root_coordinator(cx, &one.awaits) {
                    Some(component) if cx.data.session_help == SessionHelp::On => {
                        let of = of_takeover(cx, &one.awaits);
                        Box::pin(proxies::during(cx, component, of, gate)).await
                    }
                    _ => gate.await,
                }
            }
            Self::CheckReleased => Ok(()),
        }
    }
}

/// Releases a Deployment, if that was not done before.
async fn apply(cx: &StepContext<'_>, workload: &str) -> Result<(), StepError> {
    let mut is_first = true;
    loop {
        let deployment = live(cx, workload).await?;
        if !is_marked(&deployment) && has_target(cx, &deployment) {
            return Ok(());
        }
        if !is_marked(&deployment) {
            // The components are changed one by one, and this one has not been changed yet.
            cx.waiting(format!("{workload} to be changed to {}", cx.data.image));
            check_replaced(cx, &[]).await?;
            tokio::time::sleep(LOOK).await;
            continue;
        }
        check_target(cx, &deployment)?;
        if deployment.spec.paused != Some(true) {
            cx.reporter().note(format!(
                "{workload} was resumed by another client before its turn"
            ));
        }
        // Only once: after a conflict the release must follow at once.
        let mut standbys = Vec::new();
        if std::mem::take(&mut is_first) {
            session_help::see(cx, &[Watched::of(&deployment)]).await?;
            standbys = standbys_of(cx, &deployment).await?;
        }
        // Together, so that the pods that replace the standbys do not start.
        let end = Box::pin(standbys::end(cx, &standbys));
        let (ended, released) = tokio::join!(end, release(cx, &deployment));
        ended?;
        match released {
            Ok(()) => return Ok(()),
            Err(ApiError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The standbys of a coordinator that is about to be released for the first time.
async fn standbys_of(
    cx: &StepContext<'_>,
    deployment: &Deployment,
) -> Result<Vec<PartialObjectMeta<Pod>>, StepError> {
    let status = cx.run().status;
    let component = cx.data.component(&status, &deployment.name_any());
    let several = deployment.spec.replicas.unwrap_or(1) > 1;
    // A release that is refused repeatedly must not end a standby each time.
    let is_tried_again = status.step.is_some_and(|cursor| cursor.attempts > 1);
    let Some(component) = component.filter(|_| several && !is_tried_again) else {
        return Ok(Vec::new());
    };
    standbys::of(cx, &Watched::of(deployment), component, cx.data.from).await
}

/// Fails if a later change replaced this one: something of the plan is held with another image, or
/// one of these Deployments, which were released, has another image or was deleted.
async fn check_replaced(cx: &StepContext<'_>, released: &[String]) -> Result<(), StepError> {
    let api = deployments(cx);
    let request = async || api.list(&ListParams::default()).await;
    let live = cx.client.call("Deployments", request).await?.items;
    let find = |name: &String| live.iter().find(|one| one.name_any() == *name);
    for workload in &cx.data.workloads {
        match (find(workload), released.contains(workload)) {
            (Some(deployment), is_released) if is_released || is_marked(deployment) => {
                check_target(cx, deployment)?;
            }
            (None, true) => {
                return Err(StepError::Failed(format!(
                    "Deployment {workload} was deleted"
                )));
            }
            (Some(_), _) | (None, false) => {}
        }
    }
    Ok(())
}

/// Whether one of these Deployments has the root coordinator, which sends time ticks.
fn root_coordinator(cx: &StepContext<'_>, workloads: &[String]) -> Option<Component> {
    let status = cx.run().status;
    workloads
        .iter()
        .filter_map(|workload| cx.data.component(&status, workload))
        .find(|component| proxies::sends_ticks(*component))
}

/// The Deployments that a takeover of the root coordinator is about.
async fn of_takeover(
    cx: &StepContext<'_>,
    coordinators: &[String],
) -> Result<proxies::Deployments, StepError> {
    let components = cx.data.found.components.iter();
    let names: Vec<String> = components
        .filter(|one| one.component == Component::Proxy)
        .map(|one| one.workload.meta.object.name.clone())
        .collect();
    Ok(proxies::Deployments {
        coordinators: watched(cx, coordinators).await?,
        proxies: watched(cx, &names).await?,
    })
}

/// Waits until these Deployments are complete, or until a later change replaces this one.
async fn gate(cx: &StepContext<'_>, awaits: &[String]) -> Result<(), StepError> {
    let watched = watched(cx, awaits).await?;
    if watched.is_empty() {
        return Ok(());
    }
    let (client, namespace) = (cx.client.kube(), &cx.data.release.namespace);
    let tell = |missing: String| cx.waiting(missing);
    let complete = rollout::until(
        &client,
        namespace,
        &watched,
        Wanted::Complete,
        Duration::MAX,
        tell,
    );
    let complete = async {
        let complete = async { Ok(complete.await?) };
        session_help::during(cx, &watched, complete).await?;
        settle(cx, &watched).await
    };
    let result = tokio::select! {
        complete = Box::pin(complete) => complete,
        error = replaced(cx, awaits) => Err(error),
        () = remind(cx, awaits) => Ok(()),
    };
    cx.data.stuck.0.set(false);
    cx.going_on();
    result
}

async fn watched(cx: &StepContext<'_>, workloads: &[String]) -> Result<Vec<Watched>, StepError> {
    let mut watched = Vec::new();
    for workload in workloads {
        watched.push(Watched::of(&live(cx, workload).await?));
    }
    Ok(watched)
}

/// Waits, for a limited time, until no session is left of an ended pod of these Deployments: until
/// then no other coordinator takes over, and searches wait for the time tick of an ended proxy.
async fn settle(cx: &StepContext<'_>, watched: &[Watched]) -> Result<(), StepError> {
    let began = Instant::now();
    loop {
        let (awaited, warning) = match session_help::round(cx, watched).await? {
            Leftover::Sessions(left) => {
                let Some(first) = left.first() else {
                    cx.going_on();
                    return Ok(());
                };
                (
                    format!("{first}, whose pod has ended, to be removed from etcd"),
                    format!("{first} is left in etcd, whose pod has ended"),
                )
            }
            Leftover::Unread => (
                "etcd to answer which sessions it holds".to_owned(),
                "etcd did not answer which sessions of ended pods it holds".to_owned(),
            ),
        };
        if began.elapsed() >= SESSIONS {
            cx.reporter().warn(warning);
            return Ok(());
        }
        cx.waiting(awaited);
        tokio::time::sleep(SESSIONS_LOOK).await;
    }
}

/// The command that shows a held change and waits for its end.
#[must_use]
pub fn status_command(of: &ReleaseName) -> String {
    format!(
        "milvus-guard status -i {} -n {} --wait",
        of.name, of.namespace
    )
}

fn deployments(cx: &StepContext<'_>) -> Api<Deployment> {
    Api::namespaced(cx.client.kube(), &cx.data.release.namespace)
}

async fn live(cx: &StepContext<'_>, name: &str) -> Result<Deployment, StepError> {
    let api = deployments(cx);
    let what = format!("Deployment {name}");
    Ok(cx.client.call(&what, async || api.get(name).await).await?)
}

fn is_marked(deployment: &Deployment) -> bool {
    deployment.annotations().contains_key(HELD_FROM)
}

/// Whether a container of the template has the image of this change.
fn has_target(cx: &StepContext<'_>, deployment: &Deployment) -> bool {
    let pod = deployment.spec.template.spec.as_ref();
    pod.into_iter()
        .flat_map(|pod| &pod.containers)
        .any(|container| container.image.as_deref() == Some(&*cx.data.image))
}

/// Refuses a Deployment whose template no longer has the image of this change.
fn check_target(cx: &StepContext<'_>, deployment: &Deployment) -> Result<(), StepError> {
    if has_target(cx, deployment) {
        return Ok(());
    }
    Err(StepError::Failed(format!(
        "a later change replaced this one: Deployment {} does not have the image {} any more",
        deployment.name_any(),
        cx.data.image
    )))
}

/// Removes the pause and our annotation. Fails if the object changed since it was read.
async fn release(cx: &StepContext<'_>, deployment: &Deployment) -> Result<(), ApiError> {
    let mark = format!("/metadata/annotations/{}", HELD_FROM.replace('/', "~1"));
    let mut patch = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": deployment.metadata.uid}),
        json!({"op": "replace", "path": "/metadata/resourceVersion", "value": deployment.metadata.resource_version}),
        json!({"op": "remove", "path": mark}),
    ];
    if deployment.spec.paused.is_some() {
        patch.push(json!({"op": "remove", "path": "/spec/paused"}));
    }
    let what = format!("Deployment {}", deployment.name_any());
    let (api, name) = (deployments(cx), deployment.name_any());
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    cx.write(&what, async || {
        let patch: json_patch::Patch =
            serde_json::from_value(json!(patch)).map_err(kube::Error::SerdeError)?;
        api.patch(&name, &params, &Patch::Json::<()>(patch)).await
    })
    .await
    .map(drop)
}

/// Returns when a later change replaced this one.
async fn replaced(cx: &StepContext<'_>, released: &[String]) -> StepError {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(error) = check_replaced(cx, released).await {
            return error;
        }
    }
}

/// Reports a Deployment that does not become complete, repeatedly, with the commands that help.
/// Never returns.
async fn remind(cx: &StepContext<'_>, workloads: &[String]) {
    let namespace = &cx.data.release.namespace;
    loop {
        tokio::time::sleep(cx.data.stuck_after).await;
        cx.data.stuck.0.set(true);
        let waiting = cx
            .client
            .waiting_for()
            .map_or_else(|| workloads.join(", "), |wait| wait.on);
        cx.reporter().warn(format!(
            "the held change of {} is stuck: {waiting}. Components after it stay on the old \
             version. Look at the pods: kubectl describe pods -n {namespace}; correct the image \
             with Helm, or go back: helm rollback {} -n {namespace}. To roll a component out of \
             order: kubectl rollout resume deployment/NAME -n {namespace}",
            cx.data.release.name, cx.data.release.name,
        ));
    }
}
