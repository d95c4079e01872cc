//! Which Deployment is released when. Pure.

use serde_json::json;

use crate::engine::{ReleaseName, procedure::plan_hash};
use milvus_guard_core::{
    api::{RunStep, StepAction},
    milvus::{
        Component, Release, Version,
        catalogue::{Catalogue, Order},
        release::ComponentWorkload,
    },
    rules::layout,
};

/// What a held change does, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldPlan {
    /// The version that pods run before.
    pub from: Version,
    /// The version of the templates.
    pub to: Version,
    /// The image of the templates.
    pub image: String,
    /// The Deployments in their order.
    pub moves: Vec<HeldMove>,
}

/// One Deployment that is released in its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldMove {
    /// Its component.
    pub component: Component,
    /// Its name.
    pub workload: String,
    /// The Deployments that must be complete before the next move; empty if the next one must
    /// follow at once.
    pub awaits: Vec<String>,
}

impl HeldPlan {
    /// The plan for what is held of a release; `None` if nothing is.
    ///
    /// The target is the highest version that is held: an earlier one was replaced by a later
    /// change.
    #[must_use]
    pub fn of(release: &Release, catalogue: &Catalogue) -> Option<Self> {
        let target = release.held().max_by_key(|one| version(one))?;
        let (to, image) = (version(target)?, target.image().to_string());
        let before = as_before(release);
        let from = before.components.iter().filter_map(version).min()?;
        Some(Self {
            from,
            to,
            image,
            moves: moves(release, order(&before, catalogue, from, to)),
        })
    }

    /// The plan of a run that was begun, for the release as it is now.
    #[must_use]
    pub fn resumed(
        release: &Release,
        catalogue: &Catalogue,
        (from, to): (Version, Version),
        image: &str,
    ) -> Self {
        Self {
            from,
            to,
            image: image.to_owned(),
            moves: moves(release, order(release, catalogue, from, to)),
        }
    }

    /// A digest of the plan and of the Deployments that it is about.
    #[must_use]
    pub fn hash(&self, of: &ReleaseName, uids: &[String]) -> String {
        let mut uids = uids.to_vec();
        uids.sort();
        let steps: Vec<String> = self.moves.iter().map(|one| one.describe().id).collect();
        plan_hash(&json!({
            "release": of.name, "namespace": of.namespace, "to": self.to.to_string(),
            "image": self.image, "steps": steps, "workloads": uids,
        }))
    }
}

/// Whether everything that is held of a release has this image in its template.
#[must_use]
pub fn held_fits(release: &Release, image: &str) -> bool {
    release.held().all(|one| one.image().to_string() == image)
}

impl HeldMove {
    /// The step as the record of a run stores it.
    #[must_use]
    pub fn describe(&self) -> RunStep {
        RunStep {
            id: format!("release-{}", self.workload),
            title: format!("Release {}", self.component),
            component: Some(self.component),
            workload: Some(self.workload.clone()),
            action: StepAction::Release,
        }
    }
}

/// The release with the images that its pods run, also for held components.
fn as_before(release: &Release) -> Release {
    let mut before = release.clone();
    for one in &mut before.components {
        if let Some(image) = one.held_from().map(str::to_owned) {
            one.set_image(&image);
        }
    }
    before
}

fn order<'c>(
    release: &Release,
    catalogue: &'c Catalogue,
    from: Version,
    to: Version,
) -> Option<&'c Order> {
    catalogue.order(from, to, layout(release, from, to))
}

/// Every Deployment that runs, in the order of the data; components without a place come last.
fn moves(release: &Release, order: Option<&Order>) -> Vec<HeldMove> {
    let place = |component: Component| {
        order
            .and_then(|order| order.position(component))
            .unwrap_or(usize::MAX)
    };
    let mut running: Vec<&ComponentWorkload> = release
        .components
        .iter()
        .filter(|one| one.is_running() && one.workload.meta.object.kind == "Deployment")
        .collect();
    running.sort_by_key(|one| (place(one.component), &one.workload.meta.object.name));
    let at_once = |component: Component| {
        order
            .and_then(|order| order.steps.get(order.position(component)?))
            .is_some_and(|step| step.at_once_with_next)
    };
    let mut waiting: Vec<String> = Vec::new();
    let last = running.len().saturating_sub(1);
    let step = |(at, one): (usize, &&ComponentWorkload)| {
        let workload = one.workload.meta.object.name.clone();
        waiting.push(workload.clone());
        let awaits = if at_once(one.component) && at < last {
            Vec::new()
        } else {
            std::mem::take(&mut waiting)
        };
        HeldMove {
            component: one.component,
            workload,
            awaits,
        }
    };
    running.iter().enumerate().map(step).collect()
}

fn version(one: &ComponentWorkload) -> Option<Version> {
    Some(one.version().build()?.version)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;

    use super::*;
    use milvus_guard_core::{
        milvus::Component::{DataNode, IndexNode, MixCoord, Proxy, QueryNode},
        rules::testing::Fixture,
    };

    fn held(release: &mut Release, image: &str, components: &[Component]) {
        for one in &mut release.components {
            if components.contains(&one.component) {
                let workload = Arc::make_mut(&mut one.workload);
                workload.paused = true;
                workload.meta.annotations =
                    std::iter::once(("guard.milvus.io/held-from", image)).collect();
            }
        }
    }

    fn names(plan: &HeldPlan) -> Vec<&str> {
        plan.moves.iter().map(|one| one.component.name()).collect()
    }

    #[test]
    fn held_deployments_are_released_in_the_order_of_the_data() {
        let mut release = Fixture::cluster("2.5.27").release();
        let old = "milvusdb/milvus:v2.4.24";
        held(&mut release, old, &[MixCoord, QueryNode, DataNode, Proxy]);
        let plan = HeldPlan::of(&release, Catalogue::embedded()).unwrap();
        assert_eq!(
            (plan.from.to_string(), plan.to.to_string()),
            ("2.4.24".into(), "2.5.27".into())
        );
        assert_eq!(
            names(&plan),
            ["indexnode", "mixcoord", "querynode", "datanode", "proxy"]
        );
        assert!(held_fits(&release, &plan.image));
    }

    #[test]
    fn a_resumed_run_has_the_plan_that_it_began_with() {
        let mut release = Fixture::cluster("2.5.27").release();
        held(&mut release, "milvusdb/milvus:v2.4.24", &[QueryNode, Proxy]);
        let begun = HeldPlan::of(&release, Catalogue::embedded()).unwrap();
        held(&mut release, "milvusdb/milvus:v2.4.24", &[]);
        let released = Fixture::cluster("2.5.27").release();
        let (from, to) = (begun.from, begun.to);
        let resumed = HeldPlan::resumed(&released, Catalogue::embedded(), (from, to), &begun.image);
        assert_eq!(resumed, begun);
        assert_eq!(HeldPlan::of(&released, Catalogue::embedded()), None);
    }

    #[rstest]
    #[case("2.2.16", "2.3.22")]
    #[case("2.4.17", "2.4.24")]
    fn the_last_move_awaits_all_deployments_that_were_released_at_once(
        #[case] from: &str,
        #[case] to: &str,
    ) {
        let mut release = Fixture::cluster(to).release();
        held(
            &mut release,
            &format!("milvusdb/milvus:v{from}"),
            &[IndexNode, Proxy],
        );
        let plan = HeldPlan::of(&release, Catalogue::embedded()).unwrap();
        let mut awaited: Vec<&String> = plan.moves.iter().flat_map(|one| &one.awaits).collect();
        let mut all: Vec<&String> = plan.moves.iter().map(|one| &one.workload).collect();
        awaited.sort();
        all.sort();
        assert_eq!(awaited, all, "each Deployment is awaited once");
        assert!(!plan.moves.last().unwrap().awaits.is_empty());
    }

    #[test]
    fn a_later_change_of_held_deployments_is_another_plan() {
        let mut release = Fixture::cluster("2.5.27").release();
        held(&mut release, "milvusdb/milvus:v2.4.24", &[QueryNode, Proxy]);
        let plan = HeldPlan::of(&release, Catalogue::embedded()).unwrap();
        let mut corrected = Fixture::cluster("2.5.27").tag("v2.5.26").release();
        held(&mut corrected, "milvusdb/milvus:v2.4.24", &[QueryNode]);
        assert!(!held_fits(&corrected, &plan.image));
    }
}
