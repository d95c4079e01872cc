//! The path from one version to another as numbered stops: data that can be printed, hashed and
//! stored.

mod document;
mod html;
mod markdown;
mod mermaid;
mod route;
mod text;

pub use document::Document;
pub use mermaid::render as mermaid;
pub use route::{PathRequest, plan};
pub use text::render as text;

use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::text::hexadecimal;

use crate::milvus::{
    Component, Coordinators, Topology, Version,
    catalogue::{Gate, PointOfNoReturn, Rolling},
};

/// Version of the JSON form.
pub const SCHEMA_VERSION: &str = "guard.milvus.io/plan/v1";

/// The whole path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// [`SCHEMA_VERSION`].
    pub schema_version: String,
    /// Release.
    pub release: String,
    /// Namespace.
    pub namespace: String,
    /// Version before.
    pub from: String,
    /// Version after.
    pub to: String,
    /// Topology.
    pub topology: Topology,
    /// Layout of the coordinators at the beginning.
    pub coordinators: Coordinators,
    /// The stops, in order; empty where there is no way.
    pub stops: Vec<Hop>,
    /// Why there is no way, where there is none.
    pub blocked: Option<Blocked>,
    /// What to know in addition to the stops.
    pub notes: Vec<String>,
}

/// Why there is no way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Blocked {
    /// Where it ends.
    pub at: String,
    /// Why.
    pub reason: String,
    /// What to do instead.
    pub fix: String,
}

/// One stop of the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// Number, from 1.
    pub number: usize,
    /// What is done.
    pub kind: StopKind,
    /// Version before.
    pub from: String,
    /// Version after.
    pub to: String,
    /// Why this stop is there.
    pub reason: String,
    /// What must be done or true before.
    pub prerequisites: Vec<String>,
    /// What to back up before.
    pub backup: Vec<String>,
    /// Chart to use, where one is known.
    pub chart: Option<ChartChoice>,
    /// Helm values that this stop needs, as `--set` takes them.
    pub values: Vec<String>,
    /// Component by component, in order; empty where all move at once.
    pub order: Vec<Move>,
    /// How it is made.
    pub rolling: Rolling,
    /// Until when a rollback is possible.
    pub point_of_no_return: PointOfNoReturn,
    /// What going back beyond that point loses.
    pub lost: String,
    /// What interruption to expect.
    pub interruption: String,
    /// Commands, in order.
    pub commands: Vec<String>,
    /// Known defects of the stop's version, worst first.
    pub warnings: Vec<String>,
    /// Where the facts come from.
    pub sources: Vec<String>,
}

/// What a stop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StopKind {
    /// Metadata migration.
    Migration,
    /// Ordered rolling upgrade.
    RollingUpgrade,
    /// Plain upgrade with downtime.
    Restart,
    /// Separate coordinators become a mixed one, on the same version.
    MixCoordinators,
}

impl StopKind {
    /// The name of what a stop does.
    const fn what(self) -> &'static str {
        match self {
            Self::Migration => "metadata migration",
            Self::RollingUpgrade => "ordered rolling upgrade",
            Self::Restart => "plain upgrade with downtime",
            Self::MixCoordinators => "four coordinators become one",
        }
    }

    /// What a stop without an order of components does.
    const fn whole(self) -> &'static str {
        match self {
            Self::Migration => "stop, back up, migrate, verify, start",
            Self::RollingUpgrade => "all components, one after the other",
            Self::Restart => "all components at once, with downtime",
            Self::MixCoordinators => "four coordinators become one",
        }
    }
}

/// The position of the point of no return in a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoReturn {
    /// Before this step of the order, from 0.
    Before(usize),
    /// After all of it.
    Finished,
}

impl Hop {
    /// The position of the point of no return; `None` if a rollback is always possible.
    fn no_return(&self) -> Option<NoReturn> {
        let marked = self.order.iter().position(|step| step.point_of_no_return);
        match (marked, self.point_of_no_return) {
            (Some(at), _) => Some(NoReturn::Before(at)),
            (None, PointOfNoReturn::None) => None,
            (None, PointOfNoReturn::End) => Some(NoReturn::Finished),
            (None, PointOfNoReturn::FirstCoordinator | PointOfNoReturn::FirstWorker) => {
                Some(NoReturn::Before(0))
            }
        }
    }
}

/// A chart version for a stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChartChoice {
    /// Chart version.
    pub version: Version,
    /// Whether its default image is the stop's version; otherwise the tag must be set.
    pub ships_version: bool,
}

/// One step of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    /// Components that move together; empty for a removal.
    pub components: Vec<Component>,
    /// Components that are removed.
    pub removes: Vec<Component>,
    /// What to wait for.
    pub gate: Gate,
    /// The next step must follow at once.
    pub at_once_with_next: bool,
    /// What to know.
    pub note: Option<String>,
    /// Whether a rollback is no longer possible with this step.
    pub point_of_no_return: bool,
}

impl Plan {
    /// The plan with its hash, for programs.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("hash".into(), self.hash().into());
        }
        value
    }

    /// Identity of the plan: the same for the same steps, sha256 in hex.
    #[must_use]
    pub fn hash(&self) -> String {
        hexadecimal(&Sha256::digest(
            serde_json::to_vec(self).unwrap_or_default(),
        ))
    }
}
