//! Which component moves when: the order data for this source, target and layout, applied to the
//! components of the release. Pure.

use std::{fmt::Write as _, sync::Arc};

use serde_json::{Value, json};

use crate::engine::{ReleaseName, procedure::plan_hash};
use milvus_guard_core::{
    api::RunStep,
    milvus::{
        Build, Component, Release, Topology,
        catalogue::{
            Catalogue, Gate, Order, OrderTopology, PointOfNoReturn, RequirementKind, Rolling,
            Route, Situation,
        },
    },
    rules::layout,
};

pub use super::step::{Move, MoveKind};
use super::{standby::Standby, step::Step};

/// Version of the JSON format.
pub const SCHEMA_VERSION: &str = "guard.milvus.io/rollout/v1";

/// The line of the text format after the last step that can be rolled back.
pub const POINT_OF_NO_RETURN: &str = "Point of no return: no rollback once this step is complete.";

/// The plan of a rolling upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Name of the release.
    pub release: ReleaseName,
    /// Version before: the lowest that runs.
    pub from: Build,
    /// Version after.
    pub to: Build,
    /// Image that every component gets.
    pub image: String,
    /// Row of the order data.
    pub order: String,
    /// The components in their order.
    pub moves: Vec<Move>,
    /// Who brings the new templates.
    pub templates: Templates,
    /// Whether the configuration must be changed for the time of the run, so that coordinators
    /// hand over.
    pub configure: bool,
    /// Until when a rollback is possible.
    pub point_of_no_return: PointOfNoReturn,
    /// What a rollback after that point loses.
    pub lost: String,
    /// The interruption to expect.
    pub interruption: String,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// Who brings the new templates of the Deployments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Templates {
    /// The run: it changes images, and nothing else.
    FromRun,
    /// Helm, all at once; the Deployments are paused, and the run releases them.
    FromHelm,
}

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Name of the release, as requested.
    pub name: &'a ReleaseName,
    /// The running release.
    pub release: &'a Release,
    /// Version before.
    pub from: &'a Build,
    /// Version after.
    pub to: &'a Build,
    /// The new image.
    pub image: &'a str,
    /// Whether coordinators hand over by active-standby.
    pub standby: Standby,
    /// A row of the orders that are still to be measured.
    pub candidate_order: Option<&'a str>,
}

/// The requested change of version of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The release.
    pub release: ReleaseName,
    /// Version before.
    pub from: Build,
    /// Version after.
    pub to: Build,
}

impl Way {
    /// The requested change of version.
    pub(super) fn of(wish: &Wish<'_>) -> Box<Self> {
        Box::new(Self {
            release: wish.name.clone(),
            from: wish.from.clone(),
            to: wish.to.clone(),
        })
    }
}

/// Why a release cannot be upgraded by rolling, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Metadata must be migrated between the two versions.
    #[error("{}", needs_migration(.0))]
    NeedsMigration(Box<Way>),
    /// The two versions do not work together, so everything must stop first.
    #[error(
        "{from} cannot roll to {to}: a plain upgrade with downtime is the way; milvus-guard plan \
         -i {name} -n {namespace} --to {to} names it",
        from = .0.from, to = .0.to, name = .0.release.name, namespace = .0.release.namespace
    )]
    NeedsRestart(Box<Way>),
    /// The data has no such row among the orders that are still to be measured.
    #[error("the data has no candidate order '{id}' from {} to {}", .way.from, .way.to)]
    UnknownCandidate {
        /// Id of the row.
        id: String,
        /// The change of version for which it was requested.
        way: Box<Way>,
    },
    /// The data has no order for these versions and this layout.
    #[error(
        "no order is known in which {name} could roll from {from} to {to}; milvus-guard plan -i \
         {name} -n {namespace} --to {to} names the way",
        from = .0.from, to = .0.to, name = .0.release.name, namespace = .0.release.namespace
    )]
    NoOrder(Box<Way>),
    /// A running component is not in the order.
    #[error(
        "{workload} ({component}) has no place in the order from {from} to {to}: it must not run \
         at {to}, or not together with the others. milvus-guard plan -i {name} -n {namespace} --to \
         {to} names the layout; milvus-guard upgrade -i {name} -n {namespace} -- helm upgrade \
         {name} CHART and its flags brings it in order",
        from = .way.from, to = .way.to, name = .way.release.name,
        namespace = .way.release.namespace
    )]
    NoPlace {
        /// Its workload.
        workload: String,
        /// The component.
        component: Component,
        /// The way for which it was asked.
        way: Box<Way>,
    },
}

/// Whether metadata must be migrated on the way.
pub(super) fn migrates(route: &Route<'_>) -> bool {
    let mut requirements = route.rows.iter().flat_map(|row| &row.requires);
    requirements.any(|one| one.kind == RequirementKind::Migration)
}

/// The refusal of a roll between two versions that need a metadata migration.
pub(super) fn needs_migration(way: &Way) -> String {
    let Way { release, from, to } = way;
    let ReleaseName { name, namespace } = release;
    format!(
        "{from} to {to} needs a metadata migration; milvus-guard plan -i {name} -n {namespace} \
         --to {to} names the steps, of which milvus-guard migrate is one"
    )
}

/// Plans the upgrade.
///
/// # Errors
/// Why there is no plan, and what to do instead.
pub fn plan(wish: &Wish<'_>, catalogue: &Catalogue) -> Result<Rollout, PlanError> {
    let Wish {
        release, from, to, ..
    } = *wish;
    let route = catalogue.route(from, to, &Situation::of(release));
    if migrates(&route) {
        return Err(PlanError::NeedsMigration(Way::of(wish)));
    }
    let restarts = route.rows.iter().any(|row| row.rolling == Rolling::Restart);
    if restarts && release.topology() == Topology::Cluster {
        return Err(PlanError::NeedsRestart(Way::of(wish)));
    }
    let topology = layout(release, from.version, to.version);
    let order = match wish.candidate_order {
        None => catalogue.order(from.version, to.version, topology),
        Some(id) => catalogue.candidate_order(id, from.version, to.version, topology),
    };
    let order = order.ok_or_else(|| match wish.candidate_order {
        Some(id) => PlanError::UnknownCandidate {
            id: id.to_owned(),
            way: Way::of(wish),
        },
        None => PlanError::NoOrder(Way::of(wish)),
    })?;
    let moves = moves(wish, order, topology)?;
    Ok(along(wish, &route, order, moves, Templates::FromRun))
}

/// The rollout of these moves, with the data about the change of version and about the order.
pub(super) fn along(
    wish: &Wish<'_>,
    route: &Route<'_>,
    order: &Order,
    mut moves: Vec<Move>,
    templates: Templates,
) -> Rollout {
    let point = route.point_of_no_return();
    mark(&mut moves, point);
    let interruption = if wish.release.topology() == Topology::Standalone {
        "everything stops while the one process restarts and loads its collections"
    } else {
        route.text(|row| &row.interruption)
    };
    Rollout {
        release: wish.name.clone(),
        from: wish.from.clone(),
        to: wish.to.clone(),
        image: wish.image.to_owned(),
        order: order.id.clone(),
        moves,
        templates,
        configure: templates == Templates::FromRun && wish.standby == Standby::Off,
        point_of_no_return: point,
        lost: route.text(|row| &row.lost).to_owned(),
        interruption: interruption.to_owned(),
        notes: order
            .constraints
            .iter()
            .map(|constraint| constraint.text.clone())
            .collect(),
    }
}

/// Marks the first component after which no rollback is possible.
pub(super) fn mark(moves: &mut [Move], point: PointOfNoReturn) {
    if let Some(last) = moves
        .iter_mut()
        .find(|moved| moved.kind != MoveKind::Remove && point.is_passed_by(moved.component))
    {
        last.point_of_no_return = true;
    }
}

fn moves(wish: &Wish<'_>, order: &Order, topology: OrderTopology) -> Result<Vec<Move>, PlanError> {
    let release = wish.release;
    let mut moves = Vec::new();
    for step in &order.steps {
        for component in step.components.iter().copied() {
            let workloads: Vec<&str> = release
                .of(component)
                .map(|one| &*one.workload.meta.object.name)
                .collect();
            let one = |workload: Option<&str>, kind| Move {
                component,
                workload: workload.map(str::to_owned),
                kind,
                gate: step.gate,
                note: step.note.clone(),
                at_once_with_next: step.at_once_with_next,
                point_of_no_return: false,
            };
            match workloads.as_slice() {
                [] if topology == OrderTopology::StreamingIntroduction
                    && component == Component::StreamingNode =>
                {
                    let name = format!("{}-{component}", release.fullname);
                    moves.push(one(Some(&name), MoveKind::Create));
                }
                [] => {}
                // The next component must follow this one at once, so its groups do not wait for
                // one another.
                [_, _, ..] if step.at_once_with_next => moves.push(one(None, MoveKind::Update)),
                several => {
                    moves.extend(several.iter().map(|name| one(Some(name), MoveKind::Update)));
                }
            }
        }
        for removal in order
            .remove
            .iter()
            .filter(|removal| step.components.contains(&removal.after))
        {
            moves.extend(
                release
                    .of(removal.component)
                    .filter(|one| one.is_running())
                    .map(|one| Move {
                        component: removal.component,
                        workload: Some(one.workload.meta.object.name.clone()),
                        kind: MoveKind::Remove,
                        gate: Gate::Gone,
                        note: None,
                        at_once_with_next: false,
                        point_of_no_return: false,
                    }),
            );
        }
    }
    let placed = |component: Component| {
        order.position(component).is_some()
            || order
                .remove
                .iter()
                .any(|removal| removal.component == component)
    };
    match release
        .components
        .iter()
        .find(|one| one.is_running() && !placed(one.component))
    {
        Some(one) => Err(PlanError::NoPlace {
            workload: one.workload.meta.object.name.clone(),
            component: one.component,
            way: Way::of(wish),
        }),
        None => Ok(moves),
    }
}

impl Rollout {
    /// The steps of the plan.
    #[must_use]
    pub fn steps(&self, fullname: &str) -> Vec<Step> {
        let mut steps = vec![Step::Check, Step::Record];
        let by_helm = self.templates == Templates::FromHelm;
        steps.extend(by_helm.then_some(Step::Helm));
        steps.extend(self.configure.then_some(Step::Configure));
        let moves = self.moves.iter().map(|one| {
            let step = RunStep {
                id: one.id(fullname),
                title: one.title(&self.to),
                component: Some(one.component),
                workload: one.workload.clone(),
                action: one.action(),
            };
            Step::Move(step, one.clone())
        });
        steps.extend(moves);
        steps.extend([Step::HandOver, Step::CleanUp]);
        steps.extend(by_helm.then_some(Step::DeleteLeaving));
        steps
    }

    /// The release as it would be after the run, for the rules.
    #[must_use]
    pub fn after(&self, before: &Release) -> Release {
        let mut after = before.at_version(&self.to);
        for component in &mut after.components {
            component.set_image(&self.image);
        }
        for one in &self.moves {
            match one.kind {
                MoveKind::Update => {}
                MoveKind::Create => {
                    let model = after.of(Component::QueryNode).next().cloned();
                    after.components.extend(model.map(|mut model| {
                        model.component = one.component;
                        Arc::make_mut(&mut model.workload).meta.object.name =
                            one.workload.clone().unwrap_or_default();
                        model
                    }));
                }
                MoveKind::Remove => after
                    .components
                    .retain(|component| component.component != one.component),
            }
        }
        after
    }

    /// A digest of the plan and of its inputs.
    #[must_use]
    pub fn hash(&self, fullname: &str, uids: &[String]) -> String {
        let mut uids = uids.to_vec();
        uids.sort();
        let steps: Vec<(String, Option<String>)> = self
            .steps(fullname)
            .iter()
            .map(Step::describe)
            .map(|step| (step.id, step.workload))
            .collect();
        let made_from = json!({
            "release": self.release.name, "namespace": self.release.namespace,
            "from": self.from.version.to_string(), "to": self.to.version.to_string(), "image": self.image,
            "order": self.order, "steps": steps, "workloads": uids,
        });
        plan_hash(&made_from)
    }

    /// The plan for people.
    #[must_use]
    pub fn text(&self, fullname: &str) -> String {
        let mut text = format!(
            "Upgrade {} in namespace {} from {} to {}, image {}\n\n",
            self.release.name, self.release.namespace, self.from, self.to, self.image
        );
        for (index, step) in self.steps(fullname).iter().enumerate() {
            let described = Step::describe(step);
            let workload = described
                .workload
                .map_or_else(String::new, |name| format!(" ({name})"));
            let _ = writeln!(text, "{:>3}  {}{workload}", index + 1, described.title);
            if let Step::Move(_, one) = step {
                if let Some(note) = &one.note {
                    let _ = writeln!(text, "       {note}");
                }
                if one.point_of_no_return {
                    let _ = writeln!(text, "       {POINT_OF_NO_RETURN}");
                }
            }
        }
        let _ = writeln!(
            text,
            "\nRollback      possible {}",
            self.point_of_no_return.until(Topology::Cluster)
        );
        if !self.lost.is_empty() {
            let _ = writeln!(text, "              {}", self.lost);
        }
        if !self.interruption.is_empty() {
            let _ = writeln!(text, "Interruption  {}", self.interruption);
        }
        for note in &self.notes {
            let _ = writeln!(text, "Note          {note}");
        }
        text
    }

    /// The plan for programs.
    #[must_use]
    pub fn json(&self, fullname: &str, uids: &[String]) -> Value {
        let steps: Vec<RunStep> = self.steps(fullname).iter().map(Step::describe).collect();
        json!({
            "schemaVersion": SCHEMA_VERSION,
            "release": self.release.name, "namespace": self.release.namespace,
            "from": self.from.to_string(), "to": self.to.to_string(), "image": self.image, "order": self.order,
            "steps": steps, "planHash": self.hash(fullname, uids),
            "pointOfNoReturn": self.point_of_no_return, "lost": self.lost, "interruption": self.interruption, "notes": self.notes,
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::rolling_upgrade::serving::question;
    use milvus_guard_core::{
        milvus::Component::{IndexNode, QueryNode, StreamingNode},
        rules::testing::Fixture,
    };

    fn planned(fixture: &Fixture, from: &str, to: &str) -> Result<Rollout, PlanError> {
        planned_by(fixture, from, to, None)
    }

    fn planned_by(
        fixture: &Fixture,
        from: &str,
        to: &str,
        candidate_order: Option<&str>,
    ) -> Result<Rollout, PlanError> {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        let name = ReleaseName {
            name: "my-release".into(),
            namespace: "milvus".into(),
        };
        let release = fixture.release();
        let wish = Wish {
            name: &name,
            release: &release,
            from: &from,
            to: &to,
            image: "milvusdb/milvus:x",
            standby: Standby::Unknown,
            candidate_order,
        };
        plan(&wish, Catalogue::embedded())
    }

    fn ids(plan: &Rollout) -> Vec<String> {
        plan.moves
            .iter()
            .map(|one| one.id("my-release-milvus"))
            .collect()
    }

    const SEPARATE: [Component; 8] = [
        Component::RootCoord,
        Component::DataCoord,
        Component::IndexCoord,
        Component::QueryCoord,
        IndexNode,
        Component::DataNode,
        QueryNode,
        Component::Proxy,
    ];

    #[rstest]
    #[case(Fixture::of("2.2.9", &SEPARATE), "2.2.9", "2.2.16", "rootcoord datacoord indexcoord querycoord indexnode datanode querynode proxy")]
    #[case(Fixture::of("2.2.16", &SEPARATE), "2.2.16", "2.3.22", "rootcoord indexcoord datacoord querycoord querynode indexnode datanode proxy")]
    #[case(Fixture::of("2.3.22", &SEPARATE), "2.3.22", "2.4.24", "indexnode rootcoord datacoord indexcoord querycoord querynode datanode proxy")]
    #[case(
        Fixture::cluster("2.4.24"),
        "2.4.24",
        "2.5.27",
        "indexnode mixcoord querynode datanode proxy"
    )]
    #[case(
        Fixture::cluster("2.6.8"),
        "2.6.8",
        "2.6.22",
        "mixcoord streamingnode querynode datanode proxy"
    )]
    #[case(Fixture::standalone("2.4.24"), "2.4.24", "2.5.27", "standalone")]
    fn components_move_in_the_order_of_the_data(
        #[case] fixture: Fixture,
        #[case] from: &str,
        #[case] to: &str,
        #[case] expected: &str,
    ) {
        let plan = planned(&fixture, from, to).unwrap();
        let expected: Vec<String> = expected
            .split(' ')
            .map(|name| format!("update-{name}"))
            .collect();
        assert_eq!(ids(&plan), expected);
    }

    #[rstest]
    #[case("2.2.16", "2.3.22", None, QueryNode)]
    #[case("2.3.22", "2.4.24", None, QueryNode)]
    #[case::at_once(
        "2.2.16",
        "2.3.22",
        Some("separate-2.2-to-2.3-nodes-last-at-once"),
        Component::Proxy
    )]
    fn milvus_is_asked_after_the_query_nodes_and_what_follows_at_once(
        #[case] from: &str,
        #[case] to: &str,
        #[case] candidate_order: Option<&str>,
        #[case] expected: Component,
    ) {
        let fixture = Fixture::of(from, &SEPARATE);
        let moves = planned_by(&fixture, from, to, candidate_order)
            .unwrap()
            .moves;
        let mut places = moves.iter();
        let at = places.position(|one| one.component == QueryNode).unwrap();
        assert_eq!(
            moves[question(&moves, at).unwrap().after].component,
            expected
        );
    }

    #[test]
    fn streaming_nodes_are_added_and_index_nodes_removed() {
        let plan = planned(&Fixture::cluster("2.5.27"), "2.5.27", "2.6.22").unwrap();
        let expected = [
            "create-streamingnode",
            "update-mixcoord",
            "update-querynode",
            "update-datanode",
            "update-proxy",
            "remove-indexnode",
        ];
        assert_eq!(ids(&plan), expected);
        let marked: Vec<bool> = plan
            .moves
            .iter()
            .map(|one| one.point_of_no_return)
            .collect();
        assert_eq!(marked, [false, true, false, false, false, false]);
        let after = plan.after(&Fixture::cluster("2.5.27").release());
        assert!(after.runs(StreamingNode) && !after.has(IndexNode));
        assert!(
            after
                .components
                .iter()
                .all(|component| component.image().to_string() == "milvusdb/milvus:x")
        );
    }

    #[test]
    fn there_is_no_order_for_versions_and_components_that_cannot_roll() {
        let restart = planned(&Fixture::of("2.2.1", &SEPARATE), "2.2.1", "2.2.16").unwrap_err();
        assert_eq!(
            restart.to_string(),
            "2.2.1 cannot roll to 2.2.16: a plain upgrade with downtime is the way; milvus-guard \
             plan -i my-release -n milvus --to 2.2.16 names it"
        );
        let migration = planned(&Fixture::of("2.1.4", &SEPARATE), "2.1.4", "2.2.16").unwrap_err();
        assert_eq!(
            migration.to_string(),
            "2.1.4 to 2.2.16 needs a metadata migration; milvus-guard plan -i my-release -n milvus \
             --to 2.2.16 names the steps, of which milvus-guard migrate is one"
        );
        let both = planned(
            &Fixture::of("2.3.22", &SEPARATE).with(Component::MixCoord),
            "2.3.22",
            "2.4.24",
        )
        .unwrap_err()
        .to_string();
        assert!(
            both.contains("mixcoord) has no place in the order"),
            "{both}"
        );
    }

    #[test]
    fn the_hash_depends_on_the_steps_and_the_deployments() {
        let of = |to: &str| planned(&Fixture::cluster("2.4.24"), "2.4.24", to).unwrap();
        let hash = |plan: &Rollout, uid: &str| plan.hash("my-release-milvus", &[uid.to_owned()]);
        let plan = of("2.5.27");
        assert_eq!(hash(&plan, "a"), hash(&plan.clone(), "a"));
        assert_ne!(hash(&plan, "a"), hash(&plan, "b"));
        assert_ne!(hash(&plan, "a"), hash(&of("2.5.22"), "a"));
    }
}
