//! The workloads of a namespace and the facts about them, for the webhook. Pure.

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

/// A namespace at one time.
#[derive(Clone, Debug, Default)]
pub struct NamespaceView {
    /// Its workloads and configurations.
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

/// Objects of one namespace while they are read. If they need too much memory, the largest lose
/// their large parts, which the rules then treat as unknown, never as absent.
#[derive(Default)]
pub(super) struct Gathered {
    objects: Vec<(Object, bool, usize)>,
    bytes: usize,
}

impl Gathered {
    /// Adds an object.
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

    /// The view of the namespace.
    pub(super) fn view(self) -> NamespaceView {
        NamespaceView::of(
            self.objects
                .into_iter()
                .map(|(object, proven, _)| (object, proven)),
        )
    }
}

impl NamespaceView {
    /// Groups objects; the flag is whether the current template was completely available once.
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
    fn large_objects_of_a_namespace_are_reduced_to_the_memory_limit() {
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
            "small objects stay complete"
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
