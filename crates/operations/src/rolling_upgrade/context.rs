//! What the steps work with.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::{self, OnceCell};

use crate::engine::{self, EtcdAccess, ReleaseName, StepError, originals};
use milvus_guard_core::{
    api::{Original, RunStatus},
    milvus::{Component, Release, Version},
};
use milvus_guard_metadata::executor::{Registered, Registry};
use milvus_guard_sources::{
    kubernetes::workloads::Change,
    milvus::{Proxy, Search},
};

use super::{
    plan::{Move, Rollout},
    proxy_address::NoProxy,
    settings::{SessionHelp, Settings},
    standby::Standby,
    target_updates::Takeover,
};

/// Label that the official script sets too.
pub const VERSION_LABEL: &str = "app.kubernetes.io/version";

/// Where a component moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the target.
    Forward,
    /// To what was recorded.
    Back,
}

/// What the steps work with.
pub struct UpgradeData {
    /// What was asked for.
    pub settings: Settings,
    /// The release as it was when this process began.
    pub release: Release,
    /// The plan.
    pub rollout: Rollout,
    /// How coordinators hand over.
    pub standby: Standby,
    /// Full name of the run.
    pub run: String,
    /// Namespace of the run.
    pub home: String,
    /// What this process measured.
    pub pace: Pace,
    /// When the active query coordinator took over.
    pub takeover: Takeover,
    /// The ways to Milvus itself.
    pub connections: Connections,
}

impl UpgradeData {
    /// How long a pod may be unable to start before a wait for it ends; a rollback waits for the
    /// time of its step.
    #[must_use]
    pub fn hopeless(&self, direction: Direction) -> Duration {
        match direction {
            Direction::Forward => self.settings.hopeless,
            Direction::Back => Duration::MAX,
        }
    }
}

/// The ways to Milvus itself, each found when it is first needed.
#[derive(Default)]
pub struct Connections {
    /// To its proxy.
    pub proxy: ProxyConnection,
    /// To its sessions in etcd.
    pub sessions: Sessions,
    /// Whether pods cannot be reached from here.
    no_pods: AtomicBool,
    /// Whether etcd does not let us remove sessions.
    no_release: AtomicBool,
    /// Whether the management calls of Milvus cannot be used from here.
    no_management: AtomicBool,
    /// Whether Milvus is not asked any more whether it is healthy.
    no_health: AtomicBool,
}

/// The way to Milvus's proxy, found when it is first needed ([`super::milvus`]).
#[derive(Default)]
pub struct ProxyConnection {
    /// The proxy, or why there is none to be asked.
    pub(super) proxy: OnceCell<Result<Proxy, NoProxy>>,
    /// Whether it answers here.
    pub(super) reached: OnceCell<bool>,
    /// The searches that are repeated, by collection. How one is made is asked once: Milvus does
    /// not describe indexes while its index coordinator is replaced.
    pub(super) searches: sync::Mutex<BTreeMap<String, Search>>,
}

/// The way to the sessions in etcd, found when it is first needed ([`super::sessions`]); `None`
/// if etcd is not reached.
#[derive(Default)]
pub struct Sessions(pub(super) OnceCell<Option<Registry>>);

impl Connections {
    /// Whether pods may be reached from here.
    #[must_use]
    pub fn reach_pods(&self) -> bool {
        !self.no_pods.load(Ordering::Relaxed)
    }

    /// Whether the management calls of Milvus may be used from here.
    #[must_use]
    pub fn reach_management(&self) -> bool {
        !self.no_management.load(Ordering::Relaxed)
    }

    /// The management calls of Milvus cannot be used from here; whether that is news.
    pub fn give_up_on_management(&self) -> bool {
        !self.no_management.swap(true, Ordering::Relaxed)
    }

    /// Whether Milvus is to be asked whether it is healthy.
    #[must_use]
    pub fn ask_health(&self) -> bool {
        !self.no_health.load(Ordering::Relaxed)
    }

    /// Milvus does not tell whether it is healthy, or not in time: it is not asked again.
    pub fn give_up_on_health(&self) {
        self.no_health.store(true, Ordering::Relaxed);
    }

    /// Whether etcd does not let us remove sessions.
    #[must_use]
    pub fn is_release_refused(&self) -> bool {
        self.no_release.load(Ordering::Relaxed)
    }

    /// etcd does not let us remove sessions; whether that is news.
    pub fn refuse_release(&self) -> bool {
        !self.no_release.swap(true, Ordering::Relaxed)
    }

    /// Pods are not reached from here; whether that is news.
    pub fn give_up_on_pods(&self) -> bool {
        !self.no_pods.swap(true, Ordering::Relaxed)
    }
}

impl SessionRun for UpgradeData {
    fn name(&self) -> &ReleaseName {
        &self.settings.run.release
    }

    fn release(&self) -> &Release {
        &self.release
    }

    fn etcd(&self) -> &EtcdAccess {
        &self.settings.etcd
    }

    fn sessions(&self) -> &Sessions {
        &self.connections.sessions
    }

    fn session_help(&self) -> SessionHelp {
        self.settings.session_help
    }

    fn is_release_refused(&self) -> bool {
        self.connections.is_release_refused()
    }

    fn refuse_release(&self) -> bool {
        self.connections.refuse_release()
    }

    fn component(&self, status: &RunStatus, workload: &str) -> Option<Component> {
        let mut originals = status.originals.iter();
        originals.find(|one| one.name == workload)?.component
    }

    fn see(&self, sessions: &[Registered]) {
        let sessions = sessions.iter().map(|one| &one.session);
        self.takeover.see(sessions, Instant::now());
    }

    fn target(&self) -> Version {
        self.rollout.to.version
    }

    fn reach_pods(&self) -> bool {
        self.connections.reach_pods()
    }
}

/// What a run brings that reads the sessions, and removes those of pods that have ended.
pub trait SessionRun {
    /// Which release.
    fn name(&self) -> &ReleaseName;
    /// The release, whose configuration says where etcd is.
    fn release(&self) -> &Release;
    /// How etcd is asked.
    fn etcd(&self) -> &EtcdAccess;
    /// The way to it.
    fn sessions(&self) -> &Sessions;
    /// Whether sessions of ended pods are removed.
    fn session_help(&self) -> SessionHelp;
    /// Whether etcd does not let us remove sessions.
    fn is_release_refused(&self) -> bool;
    /// Notes that etcd does not let us remove sessions; whether that is news.
    fn refuse_release(&self) -> bool;
    /// The component of a Deployment whose pods were recorded.
    fn component(&self, status: &RunStatus, workload: &str) -> Option<Component>;
    /// The sessions are these now.
    fn see(&self, sessions: &[Registered]);
    /// The version to which the components move.
    fn target(&self) -> Version;
    /// Whether pods may be reached from here.
    fn reach_pods(&self) -> bool;
}

/// What a step is given here.
pub type StepContext<'a> = engine::StepContext<'a, UpgradeData>;

/// How long components took, and how long nothing moved between them.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Measured>);

#[derive(Debug, Default)]
struct Measured {
    /// When the component before was completely there.
    ready: Option<Instant>,
    /// When the current one was changed.
    began: Option<Instant>,
    between: Option<Duration>,
    worst: Option<Duration>,
}

impl Pace {
    /// A component was changed just now.
    pub fn began(&self) {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        measured.began = Some(now);
        measured.between = measured.ready.take().map(|ready| now.duration_since(ready));
        measured.worst = measured.worst.max(measured.between);
    }

    /// It was completely there at this moment. How long that took, and how long nothing had moved
    /// before; `None` if this process did not change it.
    pub fn ready(&self, at: Instant) -> Option<(Duration, Option<Duration>)> {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        measured.ready = Some(at);
        let took = at.duration_since(measured.began.take()?);
        Some((took, measured.between.take()))
    }

    /// The longest time in which nothing moved.
    #[must_use]
    pub fn worst(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).worst
    }
}

/// The recorded Deployments of a component that moves.
///
/// # Errors
/// If none was recorded.
pub fn originals_of(cx: &StepContext<'_>, one: &Move) -> Result<Vec<Original>, StepError> {
    let found: Vec<Original> = originals::recorded(cx)?
        .into_iter()
        .filter(|original| is_of(original, one))
        .collect();
    if found.is_empty() {
        Err(StepError::Refused(format!(
            "the run has recorded no Deployment of {}",
            one.component
        )))
    } else {
        Ok(found)
    }
}

/// Whether a recorded Deployment is one of those that move here.
#[must_use]
pub fn is_of(original: &Original, one: &Move) -> bool {
    original.component == Some(one.component)
        && one
            .workload
            .as_ref()
            .is_none_or(|name| *name == original.name)
}

/// The strategy with which a component must be replaced, where that is another one than it has.
#[must_use]
pub fn strategy(original: &Original, standby: Standby, holds_claim: bool) -> Option<Value> {
    let kind = original
        .strategy
        .as_ref()
        .and_then(|strategy| strategy["type"].as_str())
        .unwrap_or("RollingUpdate");
    let component = original.component?;
    // The new coordinator starts while the old one runs. With Recreate, no coordinator runs during
    // the restart.
    let hands_over = component.is_coordinator() && standby != Standby::Unknown;
    // Clients reach all proxies, and each query node holds segments: one at a time.
    let serves = matches!(component, Component::Proxy | Component::QueryNode);
    if !holds_claim && (hands_over || serves && kind == "RollingUpdate") {
        return Some(
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
        );
    }
    // Two processes must never share RocksMQ or the data volume.
    (component == Component::Standalone && kind != "Recreate").then(|| json!({"type": "Recreate"}))
}

/// The strategy and nothing else, as it was recorded.
#[must_use]
pub fn own_strategy(original: &Original) -> Change {
    Change {
        strategy: original.strategy.clone(),
        ..Change::default()
    }
}

/// Path of the version label, as originals have it.
#[must_use]
pub fn version_label_path() -> String {
    format!("/metadata/labels/{}", VERSION_LABEL.replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original(component: Component, kind: &str) -> Original {
        Original {
            component: Some(component),
            strategy: Some(json!({"type": kind})),
            ..Original::default()
        }
    }

    #[test]
    fn coordinators_hand_over_where_they_can_and_a_standalone_never_does() {
        let coordinator = original(Component::RootCoord, "Recreate");
        assert_eq!(
            strategy(&coordinator, Standby::Off, false).unwrap()["rollingUpdate"]["maxUnavailable"],
            0
        );
        assert_eq!(
            strategy(&coordinator, Standby::On, true),
            None,
            "a claim cannot be shared"
        );
        assert_eq!(strategy(&coordinator, Standby::Unknown, false), None);
        let serving = |kind| strategy(&original(Component::QueryNode, kind), Standby::Off, false);
        assert_eq!(
            serving("RollingUpdate").unwrap()["rollingUpdate"],
            json!({"maxSurge": 1, "maxUnavailable": 0}),
            "one at a time"
        );
        assert_eq!(serving("Recreate"), None, "two cannot stand side by side");
        assert_eq!(
            strategy(
                &original(Component::Standalone, "Recreate"),
                Standby::Unknown,
                true
            ),
            None
        );
        assert_eq!(
            strategy(
                &original(Component::Standalone, "RollingUpdate"),
                Standby::Unknown,
                true
            )
            .unwrap()["type"],
            "Recreate"
        );
    }

    #[test]
    fn the_pace_is_the_time_between_components() {
        let pace = Pace::default();
        pace.began();
        assert!(pace.ready(Instant::now()).unwrap().1.is_none());
        assert!(pace.ready(Instant::now()).is_none(), "nothing was changed");
        pace.began();
        assert!(pace.ready(Instant::now()).unwrap().1.is_some() && pace.worst().is_some());
    }
}
