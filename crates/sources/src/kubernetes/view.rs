//! A namespace as the webhook sees it: the workloads there, and the facts that come with it. Pure.

use std::{collections::BTreeSet, sync::Arc};

use milvus_guard_core::{
    evidence::{AutoscalerFact, RolloutFact, SettledFact},
    manifest::{
        Object,
        weight::{MAX_NAMESPACE_BYTES, SMALL},
    },
    milvus::{NamespaceState, Release, Version, identify},
};

use super::evidence::{self, Proven};

/// A namespace at one moment.
#[derive(Clone, Debug, Default)]
pub struct NamespaceView {
    /// What is in it.
    pub place: Arc<NamespaceState>,
    /// Names of its Services.
    pub services: Arc<[String]>,
    /// Names of its claims.
    pub claims: BTreeSet<String>,
    /// The rollout state of its components.
    pub rollouts: Vec<RolloutFact>,
    /// Its autoscalers.
    pub autoscalers: Vec<AutoscalerFact>,
}

/// Objects of one namespace as they are read. When they take too much room, the largest lose their
/// large parts, which are then unknown to the rules, never absent.
#[derive(Default)]
pub(super) struct Gathered {
    objects: Vec<(Object, bool, usize)>,
    bytes: usize,
}

impl Gathered {
    /// Takes an object in.
    pub(super) fn push(&mut self, object: Object, proven: bool) {
        let weight = object.weight();
        self.bytes += weight;
        self.objects.push((object, proven, weight));
        while self.bytes > MAX_NAMESPACE_BYTES {
            let large = self
                .objects
                .iter()
                .enumerate()
                .filter(|(_, (_, _, weight))| *weight > SMALL);
            let Some(at) = large
                .max_by_key(|(_, (_, _, weight))| *weight)
                .map(|(at, _)| at)
            else {
                break;
            };
            let (object, proven, weight) = self.objects.swap_remove(at);
            self.bytes -= weight;
            if let Some(object) = object.reduced(identify::may_run_milvus)
                && object.weight() < weight
            {
                self.bytes += object.weight();
                let weight = object.weight();
                self.objects.push((object, proven, weight));
            }
        }
    }

    /// What the namespace is.
    pub(super) fn view(self) -> NamespaceView {
        NamespaceView::of(
            self.objects
                .into_iter()
                .map(|(object, proven, _)| (object, proven)),
        )
    }
}

impl NamespaceView {
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
        let place = NamespaceState::new(objects);
        let rollouts = evidence::rollouts(&place.snapshot, &proven);
        let autoscalers = evidence::autoscalers(&place.snapshot);
        Self {
            place: Arc::new(place),
            services: services.into(),
            claims,
            rollouts,
            autoscalers,
        }
    }

    /// The releases whose components are all available, and all at one version.
    #[must_use]
    pub fn settled(&self) -> Vec<SettledFact> {
        let version = |release: &Release| -> Option<Version> {
            let builds = release.builds();
            let [build] = &builds[..] else { return None };
            let mine = || {
                self.rollouts
                    .iter()
                    .filter(|rollout| rollout.release == release.name)
            };
            let complete = mine().next().is_some() && mine().all(|rollout| rollout.complete);
            (complete && !release.is_stopped() && !release.has_unknown_version())
                .then_some(build.version)
        };
        self.place
            .snapshot
            .releases
            .iter()
            .filter_map(|release| {
                let namespace = release.namespace.clone()?;
                Some(SettledFact {
                    release: release.name.clone(),
                    namespace,
                    version: version(release)?,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use milvus_guard_core::{
        manifest::object::NoText,
        rules::testing::{Fixture, objects, objects_of},
    };

    #[test]
    fn a_namespace_full_of_large_objects_is_read_into_its_share() {
        let mut gathered = Gathered::default();
        let text = "x".repeat(1_000_000);
        for number in 0..225 {
            let large = format!(
                "kind: ConfigMap\nmetadata: {{name: large-{number}}}\ndata: {{user.yaml: {text}}}\n"
            );
            for object in objects_of(&large) {
                gathered.push(object, false);
            }
            assert!(gathered.bytes <= MAX_NAMESPACE_BYTES);
        }
        for object in objects(&Fixture::cluster("2.4.5")) {
            gathered.push(object, false);
        }
        assert_eq!(
            gathered.bytes,
            gathered
                .objects
                .iter()
                .map(|(object, ..)| object.weight())
                .sum::<usize>()
        );
        let view = gathered.view();
        assert_eq!(
            view.place.snapshot.releases[0].metadata().root_path.value,
            "by-dev",
            "what is small stays whole"
        );
        let left_out = view
            .place
            .configs
            .iter()
            .flat_map(|config| &config.files)
            .filter(|file| file.text == Err(NoText::LeftOut));
        assert!(left_out.count() >= 217, "unknown, not absent");
    }
}
