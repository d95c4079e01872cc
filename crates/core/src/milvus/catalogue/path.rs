//! The path table: may this version follow that one, how, and until when is a rollback possible?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::{
    build::Build,
    component::{Component, Coordinators, Topology},
    version::{Range, Version},
};

use super::{Catalogue, Circumstances, Situation, Verdict};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Path {
    /// Unique name of the row.
    pub id: String,
    /// Source versions.
    pub from: Range,
    /// Target versions.
    pub to: Range,
    /// What else must hold.
    #[serde(default)]
    pub when: Condition,
    /// What the row says.
    pub verdict: Verdict,
    /// Rule that reports it.
    pub rule: String,
    /// Versions to stop at, in order.
    #[serde(default)]
    pub via: Vec<Version>,
    /// What must be done or true before.
    #[serde(default)]
    pub requires: Vec<Requirement>,
    /// The image moves alone: the chart version stays what it is.
    #[serde(default)]
    pub keep_chart: bool,
    /// How the change is made.
    #[serde(default)]
    pub rolling: Rolling,
    /// Until when a rollback is possible.
    #[serde(default)]
    pub point_of_no_return: PointOfNoReturn,
    /// What going back beyond that point loses.
    #[serde(default)]
    pub lost: String,
    /// What interruption to expect.
    #[serde(default)]
    pub interruption: String,
    /// What to back up.
    #[serde(default)]
    pub backup: Vec<String>,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// What to do instead.
    #[serde(default)]
    pub fix: String,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// What must hold for a row; absent means any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// Standalone or cluster.
    #[serde(default)]
    pub topology: Option<Topology>,
    /// Layout of the coordinators that run.
    #[serde(default)]
    pub coordinators: Option<Coordinators>,
    /// Metastore in use.
    #[serde(default)]
    pub metastore: Option<String>,
    /// `true`: any pre-release as source; a string: this very one.
    #[serde(default)]
    pub source_prerelease: Option<PrereleaseCondition>,
    /// Whether components move one after the other while others serve.
    #[serde(default)]
    pub rolling: Option<bool>,
}

/// Which pre-releases a row means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PrereleaseCondition {
    /// Any, or none.
    Any(bool),
    /// This one, such as `2.6.0-rc1`.
    Exactly(String),
}

/// What must be done or true before a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// In words.
    pub text: String,
    /// What it is about.
    pub kind: RequirementKind,
    /// When it matters; absent means always.
    #[serde(default)]
    pub when: Circumstances,
}

/// What a requirement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum RequirementKind {
    Migration,
    Version,
    Topology,
    Config,
    Backup,
    Volume,
    Queue,
    Chart,
    Check,
}

/// How a change is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rolling {
    /// Component by component while the rest serves.
    #[default]
    Rolling,
    /// A plain upgrade with downtime.
    Restart,
    /// Not at all.
    None,
}

/// Until when a rollback is possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PointOfNoReturn {
    /// Always.
    None,
    /// Until the first new coordinator is ready; also where it is not known.
    #[default]
    FirstCoordinator,
    /// Until the first new worker runs.
    FirstWorker,
    /// Until the end.
    End,
}

impl PointOfNoReturn {
    /// Until when, as text that fits after "a rollback is possible" and "can be rolled back only".
    #[must_use]
    pub const fn until(self, topology: Topology) -> &'static str {
        match (self, topology) {
            (Self::None, _) => "always",
            (Self::End, _) => "until the upgrade is finished",
            (Self::FirstCoordinator | Self::FirstWorker, Topology::Standalone) => {
                "until the new version is ready"
            }
            (Self::FirstCoordinator, Topology::Cluster) => {
                "until the first new coordinator is ready"
            }
            (Self::FirstWorker, Topology::Cluster) => "until the first new worker runs",
        }
    }

    /// Whether a rollback is no longer possible once this component is new.
    #[must_use]
    pub const fn is_passed_by(self, component: Component) -> bool {
        let all_in_one = matches!(component, Component::Standalone);
        match self {
            Self::None | Self::End => false,
            Self::FirstCoordinator => component.is_coordinator() || all_in_one,
            Self::FirstWorker => {
                let worker = matches!(
                    component,
                    Component::QueryNode
                        | Component::DataNode
                        | Component::IndexNode
                        | Component::StreamingNode
                );
                worker || all_in_one
            }
        }
    }
}

/// A special case of going back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Downgrade {
    /// Unique name of the row.
    pub id: String,
    /// Source versions.
    pub from: Range,
    /// Target versions.
    pub to: Range,
    /// What happens.
    pub effect: String,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// What the table says of one upgrade.
#[derive(Clone, Debug)]
pub struct Route<'a> {
    /// Every row that holds, strictest first; rows of the same strictness in the order of the
    /// table.
    pub rows: Vec<&'a Path>,
}

impl<'a> Route<'a> {
    /// The strictest verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.rows.first().map_or(Verdict::Warn, |row| row.verdict)
    }

    /// The rows that apply to a rule, strictest first.
    pub fn of<'b>(&'b self, rule: &'b str) -> impl Iterator<Item = &'a Path> + 'b {
        self.rows
            .iter()
            .copied()
            .filter(move |row| row.rule == rule)
    }

    /// Until when a rollback is possible: the strictest row that ends it.
    #[must_use]
    pub fn point_of_no_return(&self) -> PointOfNoReturn {
        let ends = self
            .rows
            .iter()
            .map(|row| row.point_of_no_return)
            .find(|point| *point != PointOfNoReturn::None);
        ends.unwrap_or(PointOfNoReturn::None)
    }

    /// What the strictest row that has such a text says.
    #[must_use]
    pub fn text(&self, pick: fn(&Path) -> &str) -> &'a str {
        self.rows
            .iter()
            .map(|row| pick(row))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }

    /// The row that decides.
    #[must_use]
    pub fn deciding(&self) -> Option<&'a Path> {
        self.rows.first().copied()
    }
}

impl Path {
    fn holds(&self, from: &Build, to: &Build, situation: &Situation) -> bool {
        let when = &self.when;
        self.from.contains(from.version)
            && self.to.contains(to.version)
            && when
                .topology
                .is_none_or(|topology| situation.topology == Some(topology))
            && when
                .coordinators
                .is_none_or(|coordinators| situation.coordinators == Some(coordinators))
            && when
                .metastore
                .as_ref()
                .is_none_or(|metastore| situation.metastore.as_ref() == Some(metastore))
            && when
                .source_prerelease
                .as_ref()
                .is_none_or(|condition| match condition {
                    PrereleaseCondition::Any(any) => *any == from.prerelease.is_some(),
                    PrereleaseCondition::Exactly(exactly) => from.to_string() == *exactly,
                })
    }
}

impl Catalogue {
    /// Looks an upgrade up.
    #[must_use]
    pub fn route(&self, from: &Build, to: &Build, situation: &Situation) -> Route<'_> {
        let mut rows: Vec<&Path> = self
            .paths
            .iter()
            .filter(|row| row.holds(from, to, situation))
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.verdict));
        Route { rows }
    }
}
