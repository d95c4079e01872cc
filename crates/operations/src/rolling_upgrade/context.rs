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

/// The direction in which a component is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the target version.
    Forward,
    /// To the recorded state.
    Back,
}

/// What the steps work with.
pub struct UpgradeData {
    /// The settings of the command.
    pub settings: Settings,
    /// The release as it was when this process began.
    pub release: Release,
    /// The plan.
    pub rollout: Rollout,
    /// Whether coordinators hand over by active-standby.
    pub standby: Standby,
    /// Full name of the run.
    pub run: String,
    /// Namespace of the run.
    pub home: String,
    /// What this process measured.
    pub pace: Pace,
    /// When the active query coordinator took over.
    pub takeover: Takeover,
    /// The connections to Milvus.
    pub connections: Connections,
}

impl UpgradeData {
    /// How long a pod may fail to start before a wait for it ends. During a rollback the limit is
    /// the time of the step.
    #[must_use]
    pub fn hopeless(&self, direction: Direction) -> Duration {
        match direction {
            Direction::Forward => self.settings.hopeless,
            Direction::Back => Duration::MAX,
        }
    }
}

/// The connections to Milvus, each opened when it is first needed.
#[derive(Default)]
pub struct Connections {
    /// The connection to its proxy.
    pub proxy: ProxyConnection,
    /// The connection to its sessions in etcd.
    pub sessions: Sessions,
    /// Whether pods cannot be reached from here.
    no_pods: AtomicBool,
    /// Whether etcd refuses to remove sessions.
    no_release: AtomicBool,
    /// Whether the management calls of Milvus cannot be used from here.
    no_management: AtomicBool,
    /// Whether Milvus is no longer asked for its health.
    no_health: AtomicBool,
}

/// The connection to Milvus' proxy, opened when it is first needed ([`super::milvus`]).
#[derive(Default)]
pub struct ProxyConnection {
    /// The proxy, or why there is none.
    pub(super) proxy: OnceCell<Result<Proxy, NoProxy>>,
    /// Whether the proxy answered.
    pub(super) reached: OnceCell<bool>,
    /// The searches that are repeated, by collection. Each is prepared once, because Milvus does
    /// not describe indexes while its index coordinator is replaced.
    pub(super) searches: sync::Mutex<BTreeMap<String, Search>>,
}

/// The connection to the sessions in etcd, opened when it is first needed ([`super::sessions`]);
/// `None` if etcd cannot be reached.
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

    /// Notes that management calls cannot be used from here; returns whether that is new.
    pub fn give_up_on_management(&self) -> bool {
        !self.no_management.swap(true, Ordering::Relaxed)
    }

    /// Whether Milvus is asked for its health.
    #[must_use]
    pub fn ask_health(&self) -> bool {
        !self.no_health.load(Ordering::Relaxed)
    }

    /// Stops asking Milvus for its health, because it does not answer, or not in time.
    pub fn give_up_on_health(&self) {
        self.no_health.store(true, Ordering::Relaxed);
    }

    /// Whether etcd refuses to remove sessions.
    #[must_use]
    pub fn is_release_refused(&self) -> bool {
        self.no_release.load(Ordering::Relaxed)
    }

    /// Notes that etcd refuses to remove sessions; returns whether that is new.
    pub fn refuse_release(&self) -> bool {
        !self.no_release.swap(true, Ordering::Relaxed)
    }

    /// Notes that pods cannot be reached from here; returns whether that is new.
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

/// The parts of a run that reads the sessions, and removes those of ended pods.
pub trait SessionRun {
    /// Name of the release.
    fn name(&self) -> &ReleaseName;
    /// The release, whose configuration has the addresses of etcd.
    fn release(&self) -> &Release;
    /// How to connect to etcd.
    fn etcd(&self) -> &EtcdAccess;
    /// The connection to the sessions in etcd.
    fn sessions(&self) -> &Sessions;
    /// Whether sessions of ended pods are removed.
    fn session_help(&self) -> SessionHelp;
    /// Whether etcd refuses to remove sessions.
    fn is_release_refused(&self) -> bool;
    /// Notes that etcd refuses to remove sessions; returns whether that is new.
    fn refuse_release(&self) -> bool;
    /// The component of a Deployment whose pods were recorded.
    fn component(&self, status: &RunStatus, workload: &str) -> Option<Component>;
    /// Takes note of the current sessions.
    fn see(&self, sessions: &[Registered]);
    /// The version to which the components move.
    fn target(&self) -> Version;
    /// Whether pods may be reached from here.
    fn reach_pods(&self) -> bool;
}

/// The step context of an upgrade.
pub type StepContext<'a> = engine::StepContext<'a, UpgradeData>;

/// How long components took, and how long the pauses between them were.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Measured>);

#[derive(Debug, Default)]
struct Measured {
    /// When the previous component was complete.
    ready: Option<Instant>,
    /// When the current one was changed.
    began: Option<Instant>,
    between: Option<Duration>,
    worst: Option<Duration>,
}

impl Pace {
    /// Notes that a component was changed now.
    pub fn began(&self) {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        measured.began = Some(now);
        measured.between = measured.ready.take().map(|ready| now.duration_since(ready));
        measured.worst = measured.worst.max(measured.between);
    }

    /// Notes when the component was complete. Returns how long that took, and how long the pause
    /// before it was; `None` if this process did not change it.
    pub fn ready(&self, at: Instant) -> Option<(Duration, Option<Duration>)> {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        measured.ready = Some(at);
        let took = at.duration_since(measured.began.take()?);
        Some((took, measured.between.take()))
    }

    /// The longest pause between two components.
    #[must_use]
    pub fn worst(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).worst
    }
}

/// The recorded Deployments of the component of a move.
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

/// Whether a recorded Deployment is one of a move.
#[must_use]
pub fn is_of(original: &Original, one: &Move) -> bool {
    original.component == Some(one.component)
        && one
            .workload
            .as_ref()
            .is_none_or(|name| *name == original.name)
}

/// The strategy with which a component must be replaced, if it has another one.
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

/// The recorded strategy as a change, without anything else.
#[must_use]
pub fn own_strategy(original: &Original) -> Change {
    Change {
        strategy: original.strategy.clone(),
        ..Change::default()
    }
}

/// Path of the version label, as in originals.
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
    fn coordinators_hand_over_if_possible_and_a_standalone_never_does() {
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
        assert_eq!(
            serving("Recreate"),
            None,
            "two proxies must not run at the same time"
        );
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
