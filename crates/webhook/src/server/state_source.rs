//! The state on which reviews are judged: from files (demos, tests, load runs) or from a cluster.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{Api, Client, core::DynamicObject};
use serde_json::json;

use milvus_guard_core::{
    admission::{
        ReviewState,
        review_state::{Accounts, Elsewhere},
    },
    api::{self, DecisionSpec},
    error_text,
    evidence::Facts,
    milvus::{
        NamespaceState, Version, catalogue::Catalogue, release::ComponentWorkload,
        service_names::ServiceNames,
    },
    policy::{
        PolicySet,
        resolve::{HoldScope, Holding},
    },
    rules::Overdue,
};
use milvus_guard_sources::kubernetes::{Cluster, NamespaceView, guard};

use super::{
    data::Data,
    shared_readings::{Age, Reading, Readings, Unanswered},
    watch_cache::{WatchCache, Watched, is_kept, labels},
};

/// Kinds of the objects in a namespace view.
const PICTURED: [Watched; 6] = [
    Watched::Deployments,
    Watched::StatefulSets,
    Watched::ConfigMaps,
    Watched::Claims,
    Watched::Services,
    Watched::Autoscalers,
];
/// Shortest time between two readings of one namespace; each is six listings.
const VIEW_EVERY: Duration = Duration::from_millis(200);
/// Namespaces that are read at the same time.
const VIEWS_AT_ONCE: usize = 4;
/// Shortest time between two readings of runs and decisions.
const RECORDS_EVERY: Duration = Duration::from_millis(100);
/// Age limit of policies, runs and decisions that were read because they are not watched.
const RECENT: Duration = Duration::from_secs(1);
/// Time reserved for judging and answering after a reading.
pub(super) const MARGIN: Duration = Duration::from_millis(500);

/// The source of the state.
pub enum StateSource {
    /// Files that were read once.
    Files(Box<Files>),
    /// A cluster that is watched.
    Cluster(Box<Watching>),
}

/// State from files.
pub struct Files {
    /// The running state.
    pub place: Arc<NamespaceState>,
    /// Additional facts.
    pub facts: Facts,
    /// Policies and exceptions.
    pub policies: PolicySet,
    /// The accounts of the guard and its job.
    pub accounts: Accounts,
    /// Data about Milvus releases.
    pub catalogue: Data,
    /// Decisions since the start.
    pub decisions: Mutex<Vec<DecisionSpec>>,
}

/// State from a cluster.
pub struct Watching {
    /// The cluster, for live readings.
    pub cluster: Cluster,
    /// The guard's own namespace.
    pub namespace: String,
    /// The cache of the cluster.
    pub store: Arc<WatchCache>,
    /// Version of the API server.
    pub kubernetes: Option<Version>,
    /// The accounts of the guard and its job.
    pub accounts: Accounts,
    /// Where and how changes are held.
    pub holding: Holding,
    /// Data about Milvus releases.
    pub catalogue: Data,
    /// Live readings, for reviews for which the cache is not enough.
    pub live: Live,
}

/// Readings that reviews share.
pub struct Live {
    views: Readings<NamespaceView>,
    records: Reading<(Arc<Facts>, Vec<DecisionSpec>)>,
    policies: Reading<PolicySet>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            views: Readings::new(VIEW_EVERY, VIEWS_AT_ONCE),
            records: Reading::new(RECORDS_EVERY),
            policies: Reading::new(RECENT),
        }
    }
}

/// Why the cache alone is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The review would be denied because of the running state, which may have just changed.
    Denial,
    /// A kind is not watched now, so the cache may be outdated.
    Unwatched(Watched),
}

impl StateSource {
    /// The review state for a namespace, from the cache.
    #[must_use]
    pub fn state<'a>(
        &'a self,
        namespace: &str,
        now: Timestamp,
        overdue: Option<Overdue<'a>>,
    ) -> ReviewState<'a> {
        match self {
            Self::Files(files) => files.state(now, overdue),
            Self::Cluster(watching) => {
                let picture = watching.store.picture(namespace);
                let known = NamespaceReading {
                    view: picture.view,
                    runs: picture.runs,
                    decisions: picture.decisions,
                    policies: picture.policies,
                    service_names: picture.service_names,
                    ending: picture.ending,
                };
                watching.state(namespace, known, now, overdue)
            }
        }
    }

    /// A kind that is not watched now: an allowance by the cache must be judged again live.
    #[must_use]
    pub fn unwatched(&self) -> Option<Watched> {
        match self {
            Self::Files(_) => None,
            Self::Cluster(watching) => watching.store.unwatched(&Watched::ALL),
        }
    }

    /// The review state, with the doubtful parts read live; `None` if there is no cluster.
    ///
    /// # Errors
    /// If the cluster does not answer in time.
    pub async fn live_state<'a>(
        &'a self,
        namespace: &str,
        now: Timestamp,
        overdue: Option<Overdue<'a>>,
        doubt: Doubt,
        end: Instant,
    ) -> Option<Result<ReviewState<'a>, Unanswered>> {
        match self {
            Self::Files(_) => None,
            Self::Cluster(watching) => {
                let end = end.checked_sub(MARGIN).unwrap_or(end);
                let live = Box::pin(watching.live(namespace, now, doubt));
                let live = tokio::time::timeout_at(end.into(), live).await;
                let live = live.unwrap_or(Err(Unanswered::Late));
                Some(live.map(|known| watching.state(namespace, known, now, overdue)))
            }
        }
    }

    /// Whether changes can be held anywhere.
    #[must_use]
    pub fn can_hold(&self) -> bool {
        let holding = match self {
            Self::Files(files) => &files.policies.holding,
            Self::Cluster(watching) => &watching.holding,
        };
        holding.scope != HoldScope::Nowhere
    }

    /// Whether a namespace contains Milvus, or data of Milvus.
    #[must_use]
    pub fn holds_milvus(&self, namespace: &str) -> bool {
        match self {
            Self::Files(files) => !files.place.snapshot.releases.is_empty(),
            Self::Cluster(watching) => {
                let runs = || {
                    !watching
                        .store
                        .picture(namespace)
                        .view
                        .place
                        .snapshot
                        .releases
                        .is_empty()
                };
                !watching.store.memory(namespace).is_empty() || runs()
            }
        }
    }

    /// Records a decision, before the change is made.
    ///
    /// # Errors
    /// If the cluster refuses it.
    pub async fn record(&self, decision: &DecisionSpec) -> Result<(), Unanswered> {
        match self {
            Self::Files(files) => {
                files.record(decision, Timestamp::now());
                Ok(())
            }
            Self::Cluster(watching) => watching.record(decision).await,
        }
    }
}

impl Files {
    /// Adds a decision and removes expired ones, so that the list does not grow without limit.
    fn record(&self, decision: &DecisionSpec, now: Timestamp) {
        let same = |known: &DecisionSpec| known.object_name() == decision.object_name();
        let mut decisions = self
            .decisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        decisions.retain(|known| known.expires > now && !same(known));
        decisions.push(decision.clone());
    }

    fn state<'a>(&'a self, now: Timestamp, overdue: Option<Overdue<'a>>) -> ReviewState<'a> {
        let decisions = self
            .decisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let services = self
            .place
            .snapshot
            .releases
            .iter()
            .flat_map(|release| release.services.iter());
        ReviewState {
            services: services
                .map(|service| service.object.name.clone())
                .collect(),
            facts: self.facts.clone(),
            decisions: decisions.into(),
            policies: Arc::new(self.policies.at(now)),
            catalogue: self.catalogue.current(),
            overdue,
            ..ReviewState::of(Arc::clone(&self.place), &self.accounts, now)
        }
    }
}

/// What was read of a namespace, from the cache or live.
struct NamespaceReading {
    view: Arc<NamespaceView>,
    runs: Arc<Facts>,
    decisions: Vec<DecisionSpec>,
    policies: Arc<PolicySet>,
    service_names: Arc<ServiceNames>,
    ending: bool,
}

impl Watching {
    fn state<'a>(
        &'a self,
        namespace: &str,
        known: NamespaceReading,
        now: Timestamp,
        overdue: Option<Overdue<'a>>,
    ) -> ReviewState<'a> {
        let memory = self.store.memory(namespace);
        let catalogue = self.catalogue.current();
        let in_own = |run: &str| {
            run.split_once('/')
                .is_some_and(|(place, _)| place == self.namespace)
        };
        let facts = Facts {
            kubernetes: self.kubernetes,
            rollouts: Some(known.view.rollouts.clone()),
            autoscalers: Some(known.view.autoscalers.clone()),
            // Only runs in the guard's own namespace count: other users cannot write there.
            runs: known.runs.runs.as_ref().map(|runs| {
                runs.iter()
                    .filter(|run| run.namespace == namespace && in_own(&run.run))
                    .cloned()
                    .collect()
            }),
            migrations: known.runs.migrations.as_ref().map(|migrations| {
                migrations
                    .iter()
                    .filter(|record| record.namespace == namespace && in_own(&record.run))
                    .cloned()
                    .collect()
            }),
            settled: Some(memory.settled()),
            ..Facts::default()
        };
        ReviewState {
            remembered: memory.absent(&known.view, &catalogue).into(),
            last_known: memory.last_known(&known.view, &catalogue).into(),
            service_names: known.service_names,
            forgets: memory.is_incomplete() && !known.view.claims.is_empty(),
            elsewhere: self.elsewhere(namespace, &catalogue),
            place: Arc::clone(&known.view.place),
            services: Arc::clone(&known.view.services),
            ending: known.ending,
            facts,
            decisions: known.decisions.into(),
            policies: Arc::new(PolicySet {
                holding: self.holding.clone(),
                ..known.policies.at(now)
            }),
            accounts: &self.accounts,
            catalogue,
            now,
            overdue,
        }
    }

    fn elsewhere(&self, namespace: &str, catalogue: &Arc<Catalogue>) -> Elsewhere {
        let (store, namespace, catalogue) = (
            Arc::clone(&self.store),
            namespace.to_owned(),
            Arc::clone(catalogue),
        );
        Elsewhere::new(move |location| store.using(location, &namespace, &catalogue))
    }

    /// The state of a namespace, with the doubtful parts read live.
    async fn live(
        &self,
        namespace: &str,
        now: Timestamp,
        doubt: Doubt,
    ) -> Result<NamespaceReading, Unanswered> {
        let is_unwatched = |kinds: &[Watched]| self.store.unwatched(kinds).is_some();
        let picture = self.store.picture(namespace);
        let denies = doubt == Doubt::Denial;
        let age = if denies {
            Age::None
        } else {
            Age::Within(RECENT)
        };
        let view = async {
            if denies || is_unwatched(&PICTURED) {
                self.view(namespace, &picture.view).await
            } else {
                Ok(Arc::clone(&picture.view))
            }
        };
        let policies = async {
            if is_unwatched(&[Watched::Policies, Watched::Exceptions]) {
                self.live
                    .policies
                    .get(Age::Within(RECENT), self.policies(now))
                    .await
            } else {
                Ok(Arc::clone(&picture.policies))
            }
        };
        let of_namespace = async {
            if is_unwatched(&[Watched::Namespaces]) {
                Ok(Some(self.cluster.namespace(namespace).await?))
            } else {
                Ok(None)
            }
        };
        let records = self.live.records.get(age, self.records());
        let (view, mut policies, of_namespace, records) =
            tokio::try_join!(view, policies, of_namespace, records)?;
        let mut ending = picture.ending;
        if let Some(object) = of_namespace {
            ending = object
                .as_ref()
                .is_some_and(|object| object.pointer("/metadata/deletionTimestamp").is_some());
            let known = object.map(|object| (namespace.to_owned(), labels(&object)));
            policies = Arc::new(PolicySet {
                namespace_labels: Arc::new(known.into_iter().collect()),
                ..PolicySet::clone(&policies)
            });
        }
        let (runs, decisions) = &*records;
        Ok(NamespaceReading {
            view,
            runs: Arc::clone(runs),
            decisions: decisions
                .iter()
                .filter(|decision| decision.namespace == namespace)
                .cloned()
                .collect(),
            policies,
            service_names: picture.service_names,
            ending,
        })
    }

    async fn view(
        &self,
        namespace: &str,
        remembered: &NamespaceView,
    ) -> Result<Arc<NamespaceView>, Unanswered> {
        let read = async { Ok(self.cluster.view(namespace, is_kept).await?) };
        let mut view = self.live.views.get(namespace, read).await?;
        let proven: Vec<bool> = view
            .rollouts
            .iter()
            .map(|rollout| {
                // Only watching shows whether a template was ever available: in a single reading
                // the condition may be about an earlier template.
                remembered
                    .rollouts
                    .iter()
                    .find(|known| known.workload == rollout.workload)
                    .filter(|_| same_images(remembered, &view.place, &rollout.workload))
                    .map_or(rollout.ever_available, |known| {
                        known.ever_available || rollout.complete
                    })
            })
            .collect();
        for (rollout, proven) in Arc::make_mut(&mut view).rollouts.iter_mut().zip(proven) {
            rollout.ever_available = proven;
        }
        Ok(view)
    }

    async fn records(&self) -> Result<(Arc<Facts>, Vec<DecisionSpec>), Unanswered> {
        let (runs, decisions) =
            tokio::try_join!(self.cluster.runs(), self.cluster.decisions(&self.namespace))?;
        Ok((Arc::new(runs), decisions))
    }

    async fn policies(&self, now: Timestamp) -> Result<PolicySet, Unanswered> {
        Ok(self
            .store
            .policies_of(self.cluster.policy_objects().await?, now))
    }

    async fn record(&self, decision: &DecisionSpec) -> Result<(), Unanswered> {
        let name = decision.object_name();
        let object = json!({
            "apiVersion": api::API_VERSION,
            "kind": api::RELEASE_DECISION.kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": decision,
        });
        let api = decisions(self.cluster.client().clone(), &self.namespace);
        // A new decision replaces the previous one completely.
        let params = kube::api::PatchParams::apply("milvus-guard").force();
        let written = api
            .patch(&name, &params, &kube::api::Patch::Apply(object))
            .await;
        written
            .map(|_| ())
            .map_err(|error| Unanswered::Failed(error_text::chain(&error)))
    }
}

/// The decisions of a guard.
#[must_use]
pub fn decisions(client: Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(
        client,
        namespace,
        &guard::api_resource(api::RELEASE_DECISION),
    )
}

#[allow(clippy::needless_pass_by_value, reason = "as map_err wants it")]
fn same_images(view: &NamespaceView, place: &NamespaceState, workload: &str) -> bool {
    let image = |place: &NamespaceState| {
        ["Deployment", "StatefulSet"]
            .iter()
            .find_map(|kind| place.component(kind, workload))
            .map(ComponentWorkload::image)
    };
    image(&view.place) == image(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use milvus_guard_core::api::{DecisionVerdict, HelmDriver, decision::LIFETIME};

    #[test]
    fn without_a_cluster_decisions_are_replaced_and_expire() {
        let now: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let files = Files {
            place: Arc::default(),
            facts: Facts::default(),
            policies: PolicySet::default(),
            accounts: Accounts::default(),
            catalogue: Data::default(),
            decisions: Mutex::default(),
        };
        let decision = |release: &str, now: Timestamp| DecisionSpec {
            release: release.into(),
            namespace: "milvus".into(),
            revision: 2,
            driver: HelmDriver::Secret,
            verdict: DecisionVerdict::Allow,
            accepted_rules: Vec::new(),
            objects: Vec::new(),
            expires: now + LIFETIME,
        };
        let known = || {
            files
                .decisions
                .lock()
                .unwrap()
                .iter()
                .map(|known| known.release.clone())
                .collect::<Vec<_>>()
        };
        for release in ["a", "b", "a", "b", "a"] {
            files.record(&decision(release, now), now);
        }
        assert_eq!(
            known(),
            ["b", "a"],
            "a new decision about the same revision replaces the old one"
        );
        let later = now + LIFETIME;
        files.record(&decision("c", later), later);
        assert_eq!(known(), ["c"]);
    }
}
