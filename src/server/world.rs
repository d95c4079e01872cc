//! What is known: from files for demos, tests and load runs, or from a cluster.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use kube::{Api, Client, core::DynamicObject};
use serde_json::json;

use crate::{
    admission::{Scene, scene::Accounts},
    cluster::{Cluster, View, guard},
    facts::Facts,
    judge::Overdue,
    milvus::{Place, Version, release::ComponentWorkload},
    objects::{self, DecisionSpec},
    policy::PolicySet,
    reason,
};

use super::{data::Data, store::Store};

/// Where knowledge comes from.
pub enum World {
    /// Files that were read once.
    Files(Box<Files>),
    /// A cluster that is watched.
    Cluster(Box<Watching>),
}

/// Knowledge from files.
pub struct Files {
    /// What runs.
    pub place: Arc<Place>,
    /// What else is known.
    pub facts: Facts,
    /// Policies and exceptions.
    pub policies: PolicySet,
    /// Who is who.
    pub accounts: Accounts,
    /// Data about Milvus releases.
    pub catalogue: Data,
    /// What was let through since the start.
    pub decisions: Mutex<Vec<DecisionSpec>>,
}

/// Knowledge from a cluster.
pub struct Watching {
    /// The cluster, for what must be read at this moment.
    pub cluster: Cluster,
    /// The guard's own namespace.
    pub namespace: String,
    /// What was seen.
    pub store: Arc<Store>,
    /// Version of the API server.
    pub kubernetes: Option<Version>,
    /// Who is who.
    pub accounts: Accounts,
    /// Data about Milvus releases.
    pub catalogue: Data,
}

impl World {
    /// What is known about a namespace, from memory.
    #[must_use]
    pub fn scene<'a>(&'a self, namespace: &str, now: Timestamp, overdue: Option<Overdue<'a>>) -> Scene<'a> {
        match self {
            Self::Files(files) => files.scene(now, overdue),
            Self::Cluster(watching) => {
                let picture = watching.store.picture(namespace);
                let known = Known {
                    view: picture.view,
                    runs: picture.runs,
                    decisions: picture.decisions,
                    policies: picture.policies,
                    ending: picture.ending,
                };
                watching.scene(namespace, known, now, overdue)
            }
        }
    }

    /// The same, read at this moment; nothing where memory is all there is.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub async fn live_scene<'a>(
        &'a self,
        namespace: &str,
        now: Timestamp,
        overdue: Option<Overdue<'a>>,
    ) -> Option<Result<Scene<'a>, String>> {
        match self {
            Self::Files(_) => None,
            Self::Cluster(watching) => {
                let live = watching.live(namespace).await;
                Some(live.map(|known| watching.scene(namespace, known, now, overdue)))
            }
        }
    }

    /// Writes down what was let through, before it happens.
    ///
    /// # Errors
    /// Where the cluster does not take it, in words.
    pub async fn record(&self, decision: &DecisionSpec) -> Result<(), String> {
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
    /// Keeps what still counts: memory must not grow with every release that ever passed.
    fn record(&self, decision: &DecisionSpec, now: Timestamp) {
        let same = |known: &DecisionSpec| known.object_name() == decision.object_name();
        let mut decisions = self.decisions.lock().unwrap_or_else(PoisonError::into_inner);
        decisions.retain(|known| known.expires > now && !same(known));
        decisions.push(decision.clone());
    }

    fn scene<'a>(&'a self, now: Timestamp, overdue: Option<Overdue<'a>>) -> Scene<'a> {
        let decisions = self.decisions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let services = self.place.snapshot.releases.iter().flat_map(|release| release.services.iter());
        Scene {
            services: services.map(|service| service.object.name.clone()).collect(),
            place: Arc::clone(&self.place),
            remembered: Arc::new([]),
            last_known: Arc::new([]),
            forgets: false,
            ending: false,
            facts: self.facts.clone(),
            decisions: decisions.into(),
            policies: Arc::new(PolicySet { now: Some(now), ..self.policies.clone() }),
            accounts: &self.accounts,
            catalogue: self.catalogue.current(),
            now,
            overdue,
        }
    }
}

/// What was read of a cluster, from memory or at this moment.
struct Known {
    view: Arc<View>,
    runs: Arc<Facts>,
    decisions: Vec<DecisionSpec>,
    policies: Arc<PolicySet>,
    ending: bool,
}

impl Watching {
    fn scene<'a>(&'a self, namespace: &str, known: Known, now: Timestamp, overdue: Option<Overdue<'a>>) -> Scene<'a> {
        let memory = self.store.memory(namespace);
        let catalogue = self.catalogue.current();
        let in_own = |run: &str| run.split_once('/').is_some_and(|(place, _)| place == self.namespace);
        let facts = Facts {
            kubernetes: self.kubernetes,
            rollouts: Some(known.view.rollouts.clone()),
            autoscalers: Some(known.view.autoscalers.clone()),
            // With the guard installed, runs live where nobody else can write them.
            runs: known
                .runs
                .runs
                .as_ref()
                .map(|runs| runs.iter().filter(|run| run.namespace == namespace && in_own(&run.run)).cloned().collect()),
            migrations: known.runs.migrations.as_ref().map(|migrations| {
                migrations.iter().filter(|record| record.namespace == namespace && in_own(&record.run)).cloned().collect()
            }),
            settled: Some(memory.settled()),
            ..Facts::default()
        };
        Scene {
            remembered: memory.absent(&known.view, &catalogue).into(),
            last_known: memory.last_known(&known.view, &catalogue).into(),
            forgets: memory.is_incomplete() && !known.view.claims.is_empty(),
            place: Arc::clone(&known.view.place),
            services: Arc::clone(&known.view.services),
            ending: known.ending,
            facts,
            decisions: known.decisions.into(),
            policies: Arc::new(PolicySet { now: Some(now), ..PolicySet::clone(&known.policies) }),
            accounts: &self.accounts,
            catalogue,
            now,
            overdue,
        }
    }

    async fn live(&self, namespace: &str) -> Result<Known, String> {
        let picture = self.store.picture(namespace);
        let (view, runs, decisions) =
            tokio::join!(self.cluster.view(namespace), self.cluster.runs(), self.cluster.decisions(&self.namespace));
        let words = |error: crate::cluster::ClusterError| error.to_string();
        let mut view = view.map_err(words)?;
        // Whether a template was ever available takes having watched it: one look may see the condition of another.
        for rollout in &mut view.rollouts {
            let known = picture.view.rollouts.iter().find(|known| known.workload == rollout.workload);
            if let Some(known) = known
                && same_images(&picture.view, &view.place, &rollout.workload)
            {
                rollout.ever_available = known.ever_available || rollout.complete;
            }
        }
        let decisions = decisions.map_err(words)?.into_iter().filter(|decision| decision.namespace == namespace).collect();
        Ok(Known {
            view: Arc::new(view),
            runs: Arc::new(runs.map_err(words)?),
            decisions,
            policies: picture.policies,
            ending: picture.ending,
        })
    }

    async fn record(&self, decision: &DecisionSpec) -> Result<(), String> {
        let name = decision.object_name();
        let object = json!({
            "apiVersion": objects::API_VERSION,
            "kind": objects::RELEASE_DECISION.kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": decision,
        });
        let api = decisions(self.cluster.client().clone(), &self.namespace);
        // The newest takes the place of the one before, as a whole.
        let params = kube::api::PatchParams::apply("milvus-guard").force();
        let written = api.patch(&name, &params, &kube::api::Patch::Apply(object)).await;
        written.map(|_| ()).map_err(|error| reason::chain(&error))
    }
}

/// The decisions of a guard.
#[must_use]
pub fn decisions(client: Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, &guard::api_resource(objects::RELEASE_DECISION))
}

fn same_images(view: &View, place: &Place, workload: &str) -> bool {
    let image = |place: &Place| {
        ["Deployment", "StatefulSet"].iter().find_map(|kind| place.component(kind, workload)).map(ComponentWorkload::image)
    };
    image(&view.place) == image(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{DecisionVerdict, HelmDriver, decision::LIFETIME};

    #[test]
    fn decisions_without_a_cluster_do_not_pile_up() {
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
        let known = || files.decisions.lock().unwrap().iter().map(|known| known.release.clone()).collect::<Vec<_>>();
        for release in ["a", "b", "a", "b", "a"] {
            files.record(&decision(release, now), now);
        }
        assert_eq!(known(), ["b", "a"], "a new judgement of the same revision takes the place of the old one");
        let later = now + LIFETIME;
        files.record(&decision("c", later), later);
        assert_eq!(known(), ["c"]);
    }
}
