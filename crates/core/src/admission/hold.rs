//! Hold: a change of the version is admitted with the Deployment paused, if a component that must
//! precede it is not completely on the new version yet. The leader of the guard releases it.
//!
//! Nothing is paused that must not wait: a new installation, a stopped component, a step of a run,
//! a return to a lower version, or a change that the deployer accepted.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    api::AcceptedBy,
    manifest::{DocumentValue, Object, object::ObjectRef},
    milvus::{
        Component, Coordinators, Release, Topology, Version,
        catalogue::{Order, OrderTopology},
        identify,
        release::{ComponentWorkload, HELD_FROM},
    },
    policy::resolve::Scope,
    rules::{self, Behavior, layout},
};

use super::{
    acceptance::{self, ACCEPT},
    decision::HELM_RELEASE,
    object,
    review::{Operation, Patch, Review},
    review_state::ReviewState,
};

/// A Deployment of Milvus that would change its version.
#[derive(Debug)]
pub struct Candidate {
    namespace: String,
    user: String,
    old: ComponentWorkload,
    new: ComponentWorkload,
    from: Version,
    to: Version,
    has_annotations: bool,
}

impl Candidate {
    /// Reads a review; `None` if nothing in it could be held.
    #[must_use]
    pub fn of(review: &Review<'_>) -> Option<Self> {
        let is_deployment =
            review.resource.group == "apps" && review.resource.resource == "deployments";
        if !is_deployment
            || !review.sub_resource.is_empty()
            || review.operation != Operation::Update
        {
            return None;
        }
        let namespace = &*review.namespace;
        let (node, new) = object::object(review.object?.get(), namespace).ok()?;
        let (_, old) = object::object(review.old_object?.get(), namespace).ok()?;
        let (old, new) = (component(old?)?, component(new?)?);
        let version = |one: &ComponentWorkload| one.version().build().map(|build| build.version);
        let (from, to) = (version(&old)?, version(&new)?);
        let waits = new.workload.wanted_replicas() > 0 && !new.workload.paused;
        (waits && from < to).then(|| Self {
            namespace: namespace.to_owned(),
            user: review.user_info.username.to_string(),
            has_annotations: node
                .at(&["metadata", "annotations"])
                .is_some_and(DocumentValue::is_mapping),
            old,
            new,
            from,
            to,
        })
    }

    /// The namespace whose state is needed.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The patch that holds the Deployment; empty if it need not wait.
    #[must_use]
    pub fn patch(&self, state: &ReviewState<'_>) -> Vec<Patch> {
        if !self.must_wait(state) {
            return Vec::new();
        }
        let image = self.old.image().to_string();
        let annotation = if self.has_annotations {
            Patch::Add {
                path: format!("/metadata/annotations/{}", HELD_FROM.replace('/', "~1")),
                value: image.into(),
            }
        } else {
            Patch::Add {
                path: "/metadata/annotations".into(),
                value: json!({HELD_FROM: image}),
            }
        };
        let paused = Patch::Add {
            path: "/spec/paused".into(),
            value: Value::Bool(true),
        };
        vec![paused, annotation]
    }

    fn must_wait(&self, state: &ReviewState<'_>) -> bool {
        let accounts = state.accounts;
        if [&accounts.guard, &accounts.job].contains(&&self.user) {
            return false;
        }
        let reference = &self.new.workload.meta.object;
        let before = state
            .place
            .with(Object::Workload(Arc::clone(&self.old.workload)));
        let Ok(release) = before.into_owner(reference) else {
            return false;
        };
        self.is_in_force(state, &release)
            && self
                .order(state, &release)
                .is_some_and(|order| self.is_early(state, &release, order))
    }

    /// Whether changes of this release are held, and no run or acceptance prevents it.
    fn is_in_force(&self, state: &ReviewState<'_>, release: &Release) -> bool {
        let scope = Scope {
            release: &release.name,
            namespace: Some(&self.namespace),
            from: Some(self.from),
            to: Some(self.to),
        };
        let has_run = state.facts.runs.iter().flatten().any(|run| {
            run.namespace == self.namespace && run.release == release.name && run.locks()
        });
        release.topology() == Topology::Cluster
            && !release.is_operated()
            && !has_run
            && rules::ALL
                .iter()
                .filter(|rule| rule.has(Behavior::Holdable))
                .any(|rule| {
                    state.policies.holds(rule.id, &scope) && !self.is_accepted(rule.id, state)
                })
    }

    /// Whether the deployer accepted what this rule finds: for this request, or for the revision
    /// that Helm applies. Hooks that order the components may have been left out
    /// (`helm upgrade --no-hooks`): where they did their work, a run is in progress.
    fn is_accepted(&self, rule: &str, state: &ReviewState<'_>) -> bool {
        let (old, new) = (&self.old.workload.meta, &self.new.workload.meta);
        let names = |accepted: &str| accepted.eq_ignore_ascii_case(rule);
        if acceptance::from_annotation(new.annotation(ACCEPT), old.annotation(ACCEPT))
            .iter()
            .any(|accepted| names(accepted))
        {
            return true;
        }
        let release = new.annotation(HELM_RELEASE);
        state
            .decisions
            .iter()
            .filter(|decision| Some(&*decision.release) == release && decision.expires > state.now)
            .max_by_key(|decision| decision.revision)
            .is_some_and(|decision| {
                let mut accepted = decision.accepted_rules.iter();
                accepted.any(|one| one.by != AcceptedBy::Hook && names(&one.rule))
            })
    }

    /// The order of this change; `None` if there is none, or if components come or go.
    fn order<'c>(&self, state: &'c ReviewState<'_>, release: &Release) -> Option<&'c Order> {
        let topology = layout(release, self.from, self.to);
        let stays = matches!(
            (topology, release.coordinators()),
            (OrderTopology::Separate, Coordinators::Separate)
                | (OrderTopology::Mixed | OrderTopology::Streaming, _)
        );
        state
            .catalogue
            .order(self.from, self.to, topology)
            .filter(|order| stays && order.position(self.new.component).is_some())
    }

    /// Whether a component that must precede this one is not completely on the new version.
    fn is_early(&self, state: &ReviewState<'_>, release: &Release, order: &Order) -> bool {
        let is_there = |one: &ComponentWorkload| {
            let version = one.version().build().map(|build| build.version);
            !one.workload.paused
                && version.is_some_and(|version| version >= self.to)
                && is_rolled_out(state, release, &one.workload.meta.object)
        };
        order.before(self.new.component).any(|earlier| {
            release
                .of(earlier)
                .any(|one| one.is_running() && !is_there(one))
        })
    }
}

/// Whether every pod of a workload has its current template and is available. Unknown counts as
/// not.
fn is_rolled_out(state: &ReviewState<'_>, release: &Release, workload: &ObjectRef) -> bool {
    state.facts.rollouts.iter().flatten().any(|rollout| {
        rollout.release == release.name && rollout.workload == workload.name && rollout.complete
    })
}

fn component(object: Object) -> Option<ComponentWorkload> {
    let Object::Workload(workload) = object else {
        return None;
    };
    let component: Component = identify::component(&workload)?;
    Some(ComponentWorkload::new(component, workload))
}
