//! The rules: one file each, and the registry.
//!
//! A rule is a pure function from an [`Upgrade`] to [`Findings`]. Its file holds everything about
//! it; documentation, `rules explain`, SARIF metadata and the tables are generated from what it
//! declares.

pub mod advice;
#[cfg(test)]
mod advice_tests;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod data_rows;
pub mod docs;
#[cfg(test)]
mod failures;
mod finding;
#[cfg(test)]
mod forms;
mod guarded_settings;
#[cfg(test)]
mod init_tests;
mod keeping;
#[cfg(test)]
mod managers;
#[cfg(test)]
mod messages;
mod need;
mod neighbor;
// What `cargo xtask new-rule` writes, as a rule that compiles.
#[cfg(test)]
mod new_rule;
mod overdue;
mod pairs;
#[cfg(test)]
mod rows;
mod settle;
mod state;
#[cfg(any(test, feature = "testkit"))]
pub mod testing;
#[cfg(test)]
mod ticks;

pub use finding::{Evidence, Failed, Finding, Findings, Fix, Severity};
pub use need::Need;
pub use overdue::Overdue;
pub use state::{Missing, State};

use std::panic::{AssertUnwindSafe, catch_unwind};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    change::{Aspect, Upgrade},
    evidence::Facts,
    milvus::{Release, catalogue::Catalogue},
};

use need::{ChangeAnswers, Met};

/// Declares a rule's module and its place in the table: one line a rule, ordered by id.
macro_rules! registry {
    ($($module:ident)+) => {
        $(mod $module;)+
        /// Every rule, ordered by id.
        pub static ALL: &[&Rule] = &[$(&$module::RULE),+];
    };
}

registry! {
    mg101_skipped_metadata_migration
    mg102_unsupported_path
    mg103_downgrade
    mg104_bad_release
    mg105_unknown_version
    mg106_mixed_versions
    mg107_prerelease
    mg108_foreign_repository
    mg109_version_label_mismatch
    mg110_one_way_gate
    mg201_component_order
    mg202_coordinator_layout
    mg203_topology_version
    mg204_mode_flip
    mg205_component_removed
    mg206_rollout_unhealthy
    mg207_graceful_stop
    mg208_upgrade_locked
    mg301_message_queue_changed
    mg302_metadata_root_changed
    mg303_object_storage_changed
    mg304_authorization_off
    mg305_persistence_lost
    mg306_config_restarts_all
    mg307_gc_tolerance
    mg308_fixed_setting
    mg401_dependency_removed
    mg402_immutable_field
    mg403_dependency_version
    mg404_minio_filesystem_cutoff
    mg405_vanished_image
    mg406_shadowing_service
    mg407_etcd_members
    mg501_bad_chart
    mg502_queue_default_flip
    mg503_removed_values
    mg504_live_drift
    mg505_chart_image_mismatch
    mg601_image_user_change
    mg602_run_as_user
    mg701_kubernetes_too_old
    mg702_helm_too_old
    mg703_autoscaler_conflict
    mg704_self_heal_conflict
    mg705_capacity
}

pub use mg201_component_order::layout;

/// The rule with this id or name, in any case.
#[must_use]
pub fn find(id: &str) -> Option<&'static Rule> {
    ALL.iter()
        .copied()
        .find(|rule| rule.id.eq_ignore_ascii_case(id) || rule.name.eq_ignore_ascii_case(id))
}

/// The id that was most likely meant by an unknown one: the same number, or one letter apart.
#[must_use]
pub fn nearest(id: &str) -> Option<&'static str> {
    let wanted = id.to_ascii_uppercase();
    let distance = |rule: &&Rule| {
        let name = id.to_ascii_lowercase();
        if rule.name.starts_with(&name) && name.len() > 3 {
            return 0;
        }
        // A mistyped name.
        let edits = strsim::levenshtein(&name, rule.name);
        if edits <= 2 && name.len() > 5 {
            return edits;
        }
        let same = rule
            .id
            .chars()
            .zip(wanted.chars())
            .filter(|(a, b)| a == b)
            .count();
        rule.id.len().max(wanted.chars().count()) - same
    };
    ALL.iter()
        .copied()
        .min_by_key(distance)
        .filter(|rule| distance(rule) <= 2)
        .map(|rule| rule.id)
}

/// Everything about one rule.
#[derive(Debug)]
pub struct Rule {
    /// Stable identifier, `MG` and three digits; never used again for something else.
    pub id: &'static str,
    /// Stable name, lower case with hyphens.
    pub name: &'static str,
    /// The check in the affirmative, as a report lists it when it passes.
    pub title: &'static str,
    /// Where reports and tables put it.
    pub category: Category,
    /// What it does where no policy says otherwise.
    pub default: DefaultAction,
    /// Whether it guards data: such rules cannot be accepted by the deployer, and they judge
    /// rollbacks too.
    pub data_loss: bool,
    /// What it means where a change is not judged as a whole: at the gates, in a run, for the
    /// deployer.
    pub behavior: &'static [Behavior],
    /// First version of milvus-guard that had it.
    pub since: &'static str,
    /// What it needs to know.
    pub needs: &'static [Need],
    /// What it checks.
    pub what: &'static str,
    /// Why that matters, in the user's terms.
    pub why: &'static str,
    /// A case that it catches.
    pub example: &'static str,
    /// What to do about it.
    pub fix: &'static str,
    /// Where the facts come from.
    pub sources: &'static [&'static str],
    /// The check itself.
    pub check: fn(&Upgrade<'_>, &mut Findings),
}

impl Rule {
    /// Whether it behaves so.
    #[must_use]
    pub fn has(&self, behavior: Behavior) -> bool {
        self.behavior.contains(&behavior)
    }

    /// Whether it judges this aspect of a change.
    fn judges(&self, aspect: Aspect) -> bool {
        match aspect {
            Aspect::Change => true,
            Aspect::Removal => self.has(Behavior::JudgesRemovals),
            Aspect::Neighbor(_) => self.has(Behavior::JudgesNeighbors),
        }
    }
}

/// Where a rule behaves otherwise than the rest. Nothing outside the rules knows which rules these
/// are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behavior {
    /// The deployer may accept its findings by a label or an annotation, if no policy says
    /// otherwise.
    SelfAcceptable,
    /// A run does not meet it with what the run has planned.
    PlannedByRun,
    /// It does not apply to the rollback of a run: the run restores the version that it recorded.
    RestoredByRollback,
    /// `upgrade` does what it asks for, so it does not refuse an upgrade.
    HandledByUpgrade,
    /// It judges the deletion of an object. The other rules do not.
    JudgesDeletions,
    /// It judges the removal of a Milvus from a Helm release in which another Milvus stays. The
    /// other rules do not.
    JudgesRemovals,
    /// It judges a new release next to another one that runs on the same data. The other rules do
    /// not.
    JudgesNeighbors,
    /// It counts although the release gate allowed the change: what it looks at may have happened
    /// since.
    OverridesDecisions,
    /// It judges what a change does to another release that uses the same data.
    ComparesSharedData,
    /// It compares settings with those that are remembered of a configuration that was deleted.
    ComparesSettings,
    /// The webhook can admit what it denies and hold the components in order.
    Holdable,
    /// It does not apply to a Deployment that is paused, because nothing begins to roll there.
    SettledByHold,
}

impl Behavior {
    /// For the page of a rule: a sentence.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::SelfAcceptable => {
                "The deployer can accept it with a label or an annotation, unless a policy forbids \
                 it."
            }
            Self::PlannedByRun => "It does not apply to what a milvus-guard run has planned.",
            Self::RestoredByRollback => {
                "It does not apply to the rollback of a run: the run restores the version that it \
                 recorded."
            }
            Self::HandledByUpgrade => {
                "`milvus-guard upgrade` does what the rule requires, so it does not stop for it."
            }
            Self::JudgesDeletions => "The workload gate also applies it to deletions.",
            Self::JudgesRemovals => {
                "The release gate also applies it to one of several Milvus of a Helm release that \
                 an upgrade removes."
            }
            Self::JudgesNeighbors => {
                "It also applies to a new release that would use the data of another one that runs."
            }
            Self::OverridesDecisions => {
                "The workload gate applies it even if the release gate has allowed the change."
            }
            Self::ComparesSharedData => {
                "The gates also apply it to the effect of a change on another release that uses \
                 the same data."
            }
            Self::ComparesSettings => {
                "The gates compare with the remembered settings if the configuration was deleted."
            }
            Self::Holdable => "The webhook can hold the change (`Hold`) instead of denying it.",
            Self::SettledByHold => "It does not apply to a Deployment that the webhook holds.",
        }
    }
}

/// What a finding of a rule does by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultAction {
    /// Denies.
    Deny,
    /// Denies or warns, case by case.
    DenyOrWarn,
    /// Warns.
    Warn,
    /// Reports only.
    Audit,
}

/// Groups of rules, in the order of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// 1xx: may this version follow that one?
    Version,
    /// 2xx: components, order and availability.
    Topology,
    /// 3xx: where data lives.
    Configuration,
    /// 4xx: etcd, object storage, queue.
    Dependencies,
    /// 5xx: the chart.
    Chart,
    /// 6xx: users and volumes.
    Image,
    /// 7xx: the cluster around it.
    Cluster,
}

impl Category {
    /// Every group, in the order of a report.
    pub const ALL: [Self; 7] = [
        Self::Version,
        Self::Topology,
        Self::Configuration,
        Self::Dependencies,
        Self::Chart,
        Self::Image,
        Self::Cluster,
    ];

    /// The heading in a report.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Version => "Version path",
            Self::Topology => "Topology and order",
            Self::Configuration => "Configuration and data",
            Self::Dependencies => "Dependencies",
            Self::Chart => "Chart",
            Self::Image => "Image user",
            Self::Cluster => "Cluster",
        }
    }
}

/// What all rules made of one release.
#[derive(Debug)]
pub struct Ran {
    /// What they found, in the order of the rules.
    pub findings: Vec<Finding>,
    /// How each came out, in the order of [`ALL`].
    pub states: Vec<State>,
}

/// Runs every rule over one change. A rule that lacks a fact leaves a finding that says so; one
/// that fails, or that time does not allow, leaves its declared outcome (see [`Findings::failed`]).
#[must_use]
pub fn run(upgrade: &Upgrade<'_>, overdue: Option<Overdue<'_>>) -> Ran {
    run_all(ALL, upgrade, None, overdue)
}

/// Runs every rule over the running state. Rules that need a change do not apply. Of the others,
/// those that declare [`Need::Running`] see the release as the running state, the rest see what an
/// installation of it today would be.
#[must_use]
pub fn run_state(
    release: &Release,
    facts: &Facts,
    catalogue: &Catalogue,
    overdue: Option<Overdue<'_>>,
) -> Ran {
    let mut installed = Upgrade::new(None, release, facts, catalogue);
    installed.is_state = true;
    let mut running = Upgrade::new(Some(release), release, facts, catalogue);
    running.is_state = true;
    run_all(ALL, &installed, Some(&running), overdue)
}

fn run_all(
    rules: &[&'static Rule],
    upgrade: &Upgrade<'_>,
    running: Option<&Upgrade<'_>>,
    overdue: Option<Overdue<'_>>,
) -> Ran {
    let settles = running.unwrap_or(upgrade);
    let (look, running) = (
        ChangeAnswers::new(upgrade),
        running.map(|running| (running, ChangeAnswers::new(running))),
    );
    let mut findings = Findings::default();
    let mut states = Vec::with_capacity(rules.len());
    for rule in rules {
        let (upgrade, look) = match &running {
            Some((running, look)) if rule.needs.contains(&Need::Running) => (*running, look),
            _ => (upgrade, &look),
        };
        let mut found = Findings::of(rule);
        if overdue.is_some_and(|overdue| (overdue.0)()) {
            found.failed(Failed::Timeout);
        } else if !rule.judges(upgrade.aspect) {
            found.not_applicable("it is for changes of a release");
        } else {
            found = run_one(rule, upgrade, look);
        }
        states.push(found.state());
        findings.extend(found);
    }
    let mut findings = findings.into_vec();
    settle::settle(settles, &mut findings);
    findings.iter_mut().for_each(Finding::drop_credentials);
    Ran { findings, states }
}

/// One rule over one change, with what it lacks.
fn run_one(
    rule: &'static Rule,
    upgrade: &Upgrade<'_>,
    answers: &ChangeAnswers<'_, '_>,
) -> Findings {
    let mut found = Findings::of(rule);
    let met = answers.of(rule);
    if matches!(met, Met::Yes | Met::Partly(_)) {
        // A rule only reads, so nothing is left half-done by one that panics.
        if catch_unwind(AssertUnwindSafe(|| (rule.check)(upgrade, &mut found))).is_err() {
            found = Findings::of(rule);
            found.failed(Failed::Panic);
        }
    }
    match met {
        // A rule that gives no reason why it does not apply could not look.
        Met::Partly(missing) if found.state() == State::Passed || found.is_silent() => {
            found.not_evaluated(missing);
        }
        Met::No(missing) => {
            found.not_evaluated(missing);
        }
        Met::NotApplicable(reason) => found.not_applicable(reason),
        Met::Yes | Met::Partly(_) => {}
    }
    if rule.data_loss && found.lacks_lasting() && answers.changes() {
        found.warn_of_missing();
    }
    found
}

#[cfg(test)]
mod tests;
