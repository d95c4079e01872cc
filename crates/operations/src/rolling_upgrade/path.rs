//! The plan of a run in the format of `plan`'s paths, for documents with a diagram. Pure.

use milvus_guard_core::{
    milvus::{Component, Coordinators, Topology, catalogue::Rolling},
    upgrade_path::{self, Hop, Plan, StopKind},
};

use super::plan::{Move, MoveKind, Rollout};

impl Rollout {
    /// This plan as a path with one stop, which `command` carries out.
    #[must_use]
    pub fn path(&self, coordinators: Coordinators, command: String) -> Plan {
        let is_standalone = |one: &Move| one.component == Component::Standalone;
        let topology = if self.moves.iter().any(is_standalone) {
            Topology::Standalone
        } else {
            Topology::Cluster
        };
        let hop = Hop {
            number: 1,
            kind: StopKind::RollingUpgrade,
            from: self.from.to_string(),
            to: self.to.to_string(),
            reason: format!("Every component gets the image {}", self.image),
            prerequisites: Vec::new(),
            backup: Vec::new(),
            chart: None,
            values: Vec::new(),
            order: self.moves.iter().map(step).collect(),
            rolling: Rolling::Rolling,
            point_of_no_return: self.point_of_no_return,
            lost: self.lost.clone(),
            interruption: self.interruption.clone(),
            commands: vec![command],
            warnings: Vec::new(),
            sources: Vec::new(),
        };
        Plan {
            schema_version: upgrade_path::SCHEMA_VERSION.into(),
            release: self.release.name.clone(),
            namespace: self.release.namespace.clone(),
            from: self.from.to_string(),
            to: self.to.to_string(),
            topology,
            coordinators,
            stops: vec![hop],
            blocked: None,
            notes: self.notes.clone(),
        }
    }
}

fn step(one: &Move) -> upgrade_path::Move {
    let component = vec![one.component];
    let (components, removes) = match one.kind {
        MoveKind::Update | MoveKind::Create => (component, Vec::new()),
        MoveKind::Remove => (Vec::new(), component),
    };
    upgrade_path::Move {
        components,
        removes,
        gate: one.gate,
        at_once_with_next: one.at_once_with_next,
        note: one.note.clone(),
        point_of_no_return: one.point_of_no_return,
    }
}
