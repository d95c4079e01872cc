//! A namespace as the webhook sees it: what runs there, and the facts that come with it. Pure.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    facts::{AutoscalerFact, RolloutFact, SettledFact},
    manifest::Object,
    milvus::{Place, Release, Version},
};

use super::evidence::{self, Proven};

/// A namespace at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What is in it.
    pub place: Arc<Place>,
    /// Names of its Services.
    pub services: Arc<[String]>,
    /// Names of its claims.
    pub claims: BTreeSet<String>,
    /// The rollout state of its components.
    pub rollouts: Vec<RolloutFact>,
    /// Its autoscalers.
    pub autoscalers: Vec<AutoscalerFact>,
}

impl View {
    /// Groups objects, each with whether its current template has been completely available once.
    #[must_use]
    pub fn of(objects: impl IntoIterator<Item = (Object, bool)>) -> Self {
        let mut proven = Proven::new();
        let mut services = Vec::new();
        let mut claims = BTreeSet::new();
        let objects: Vec<Object> = objects
            .into_iter()
            .map(|(object, is_proven)| {
                let name = &object.meta().object;
                match object {
                    Object::Workload(_) if is_proven => {
                        proven.insert(name.to_string());
                    }
                    Object::Service(_) => services.push(name.name.clone()),
                    Object::Claim(_) => {
                        claims.insert(name.name.clone());
                    }
                    _ => {}
                }
                object
            })
            .collect();
        let place = Place::new(objects);
        let rollouts = evidence::rollouts(&place.snapshot, &proven);
        let autoscalers = evidence::autoscalers(&place.snapshot);
        Self { place: Arc::new(place), services: services.into(), claims, rollouts, autoscalers }
    }

    /// The releases whose components are all available, and all at one version.
    #[must_use]
    pub fn settled(&self) -> Vec<SettledFact> {
        let version = |release: &Release| -> Option<Version> {
            let builds = release.builds();
            let [build] = &builds[..] else { return None };
            let mine = || self.rollouts.iter().filter(|rollout| rollout.release == release.name);
            let complete = mine().next().is_some() && mine().all(|rollout| rollout.complete);
            (complete && !release.is_stopped() && !release.has_unknown_version()).then_some(build.version)
        };
        self.place
            .snapshot
            .releases
            .iter()
            .filter_map(|release| {
                let namespace = release.namespace.clone()?;
                Some(SettledFact { release: release.name.clone(), namespace, version: version(release)? })
            })
            .collect()
    }
}
