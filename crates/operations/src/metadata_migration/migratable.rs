//! Why a release cannot be migrated. Every reason names what to do first.

use crate::engine::release;
use milvus_guard_core::{
    evidence::Facts,
    milvus::{Release, Topology, Version},
};

/// Why this release can never be migrated by this verb; `None` if it can.
#[must_use]
pub fn unsupported(release: &Release) -> Option<String> {
    let name = &release.name;
    if release.is_operated() {
        return Some(format!(
            "{name} is managed by milvus-operator, which would revert every step; use the \
             operator's MilvusUpgrade, or stop the operator and migrate etcd with milvus-guard \
             meta migrate"
        ));
    }
    if release.topology() == Topology::Standalone {
        return Some(format!(
            "{name} is a standalone, but this procedure supports clusters only; stop it, back up \
             and migrate its etcd with milvus-guard meta migrate, then upgrade it with Helm"
        ));
    }
    let metastore = release.metadata().metastore.value;
    if metastore != "etcd" {
        return Some(format!(
            "{name} stores its metadata in {metastore}; only metadata in etcd can be migrated"
        ));
    }
    let other = release
        .components
        .iter()
        .find(|component| component.workload.meta.object.kind != "Deployment");
    other.map(|component| {
        let object = &component.workload.meta.object;
        format!(
            "{} runs as {} {}; only Deployments, as in the Milvus chart, are supported",
            component.component, object.kind, object.name
        )
    })
}

/// Why this release cannot be migrated now, although it could be; `None` if it can. `again`: an
/// earlier run stopped the release, so no component needs to run.
#[must_use]
pub fn blocked(release: &Release, facts: &Facts, source: Version, again: bool) -> Option<String> {
    for component in &release.components {
        let name = &component.workload.meta.object.name;
        match component.version().build().map(|build| build.version) {
            Some(version) if version == source => {}
            Some(version) => {
                return Some(format!(
                    "Deployment {name} runs {version}, but -s is {source}"
                ));
            }
            None => {
                return Some(format!(
                    "the version of Deployment {name} cannot be read from its image {}; declare it \
                     with the annotation {}: \"{source} for {}\"",
                    component.image(),
                    milvus_guard_core::milvus::release::DECLARED_VERSION,
                    component.image()
                ));
            }
        }
        if component.workload.paused {
            return Some(format!(
                "Deployment {name} is paused, and would start its old pods again; resume it \
                 first (kubectl rollout resume)"
            ));
        }
    }
    if release.is_stopped() && !again {
        return Some(format!(
            "every component of {} is scaled to zero, so the wanted number of replicas is unknown; \
             start it first, or migrate only etcd with milvus-guard meta migrate",
            release.name
        ));
    }
    let mine = |name: &str| {
        release
            .components
            .iter()
            .any(|component| component.workload.meta.object.name == name)
    };
    let unhealthy = facts
        .rollouts
        .iter()
        .flatten()
        .find(|fact| fact.release == release.name && !fact.complete && mine(&fact.workload));
    if let Some(fact) = unhealthy {
        return Some(format!(
            "Deployment {} is not healthy: {}; repair it first",
            fact.workload, fact.detail
        ));
    }
    if let Some(autoscaler) = release
        .autoscalers
        .iter()
        .find(|one| one.min == 0 && one.meta.object.kind != KEDA)
    {
        return Some(format!(
            "autoscaler {} may start {} from zero (minReplicas 0); set minReplicas to 1 during the \
             run",
            autoscaler.meta.object.name, autoscaler.target_name
        ));
    }
    release::self_healing(release, facts)
}

/// Kind of KEDA's autoscalers. They start workloads from zero replicas, so a run pauses them;
/// Kubernetes' own autoscalers never do.
pub const KEDA: &str = "ScaledObject";

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use milvus_guard_core::{
        evidence::{DeployerFact, RolloutFact},
        milvus::{Component, Manager},
        rules::testing::Fixture,
    };

    const SOURCE: Version = Version::new(2, 1, 4);

    fn release(fixture: &Fixture) -> Release {
        fixture.release()
    }

    fn now(release: &Release, facts: &Facts) -> Option<String> {
        blocked(release, facts, SOURCE, false)
    }

    #[test]
    fn a_healthy_cluster_of_the_source_version_can_be_migrated() {
        let fit = release(&Fixture::cluster("2.1.4"));
        assert_eq!(
            (unsupported(&fit), now(&fit, &Facts::default())),
            (None, None)
        );
    }

    #[rstest]
    #[case::standalone(release(&Fixture::standalone("2.1.4")), "is a standalone")]
    #[case::operated(Release { manager: Manager::operator("my-release"), ..release(&Fixture::cluster("2.1.4")) }, "managed by milvus-operator")]
    #[case::mysql(release(&Fixture::cluster("2.1.4").default_yaml("metastore: {type: mysql}")), "stores \
        its metadata in mysql")]
    fn releases_that_can_never_be_migrated_are_refused(
        #[case] release: Release,
        #[case] why: &str,
    ) {
        let said = unsupported(&release).unwrap();
        assert!(said.contains(why), "{said}");
    }

    #[test]
    fn releases_that_cannot_be_migrated_now_are_refused() {
        let of = |release: &Release, facts: &Facts, why: &str| {
            let said = now(release, facts).unwrap();
            assert!(said.contains(why), "{said}");
        };
        let fit = release(&Fixture::cluster("2.1.4"));
        of(
            &release(&Fixture::cluster("2.1.2")),
            &Facts::default(),
            "runs 2.1.2, but -s is 2.1.4",
        );
        let mut stopped = fit.clone();
        for component in &mut stopped.components {
            std::sync::Arc::make_mut(&mut component.workload).replicas = Some(0);
        }
        of(&stopped, &Facts::default(), "scaled to zero");
        assert_eq!(blocked(&stopped, &Facts::default(), SOURCE, true), None);
        let mut paused = fit.clone();
        std::sync::Arc::make_mut(&mut paused.components[0].workload).paused = true;
        of(&paused, &Facts::default(), "is paused");
        let workload = fit.components[0].workload.meta.object.name.clone();
        let rollout = RolloutFact {
            release: fit.name.clone(),
            component: Component::Proxy,
            workload,
            complete: false,
            ever_available: true,
            detail: "0 of 1 pods available".into(),
        };
        of(
            &fit,
            &Facts {
                rollouts: Some(vec![rollout]),
                ..Facts::default()
            },
            "is not healthy: 0 of 1 pods available",
        );
        let deployer = DeployerFact {
            release: fit.name.clone(),
            tool: "argo-cd".into(),
            name: "milvus".into(),
            self_heal: true,
            retry_limit: None,
        };
        of(
            &fit,
            &Facts {
                deployers: Some(vec![deployer]),
                ..Facts::default()
            },
            "argocd app set milvus --sync-policy none",
        );
    }
}
