//! Judges a change, or a running state: snapshots and facts in, verdict and findings out. The
//! command line, the webhook and the audit call it.

use std::collections::BTreeMap;

use crate::{
    change::{Aspect, Upgrade},
    evidence::Facts,
    inventory::Standing,
    manifest::object::{Claim, ObjectRef},
    milvus::{
        Build, Release, Snapshot, Topology,
        catalogue::Catalogue,
        pairing::{Pair, Pairing},
        shared_data::{DataPlaces, Shared},
    },
    policy::{
        Action, PolicySet,
        resolve::{Applied, Scope},
    },
    rules::{self, Finding, Overdue, State},
};

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationInput<'a> {
    /// The running state; `None` if the change installs.
    pub before: Option<&'a Snapshot>,
    /// What is wanted.
    pub after: &'a Snapshot,
    /// What else is known.
    pub facts: &'a Facts,
    /// Data about Milvus releases.
    pub catalogue: &'a Catalogue,
    /// Policies and exceptions in force.
    pub policies: &'a PolicySet,
    /// Whether the change goes back to an earlier revision.
    pub is_rollback: bool,
    /// The object that the change deletes by name; manifests that lack an object say nothing of
    /// that kind.
    pub deletes: Option<&'a ObjectRef>,
    /// Rules that the deployer accepts; they count only if policy allows it.
    pub accepted: &'a [String],
    /// Whether the time for an answer is over, asked before each rule; `None` if there is no
    /// hurry.
    pub overdue: Option<Overdue<'a>>,
}

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A change from the running to the desired state, or an installation.
    #[default]
    Change,
    /// The running state, as it is (`audit`).
    State,
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// What was judged.
    pub subject: Subject,
    /// One entry for each Milvus release of the wanted state.
    pub releases: Vec<JudgedRelease>,
    /// Running releases that are not in the wanted state. Whether that removes them depends on the
    /// extent of the input, which the caller knows.
    pub gone: Vec<GoneRelease>,
}

/// A running release that is not in the wanted state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneRelease {
    /// Its name with its namespace.
    pub label: String,
    /// Whether the wanted state holds another Milvus of the same instance, as umbrella charts have
    /// them: then this one is removed.
    pub shares_instance: bool,
}

/// The answer for one release.
#[derive(Clone, Debug)]
pub struct JudgedRelease {
    /// Name; several Milvus of one umbrella chart have their alias behind it ([`Release::title`]).
    pub name: String,
    /// Namespace, where the input names one.
    pub namespace: Option<String>,
    /// Version before.
    pub from: Option<Build>,
    /// Version after.
    pub to: Option<Build>,
    /// Topology before.
    pub topology_before: Option<Topology>,
    /// Topology after.
    pub topology_after: Topology,
    /// What the rules found and what becomes of it, worst first, then by rule.
    pub findings: Vec<JudgedFinding>,
    /// How each rule came out before any policy, in the order of [`rules::ALL`].
    pub states: Vec<State>,
    /// Where the release stands among the releases of Milvus; `None` for a change.
    pub standing: Option<Standing>,
}

/// A finding and what becomes of it.
#[derive(Clone, Debug)]
pub struct JudgedFinding {
    /// What the rule found.
    pub finding: Finding,
    /// What becomes of it.
    pub applied: Applied,
}

impl JudgedFinding {
    /// What it does; `None` if it is off or excepted.
    #[must_use]
    pub fn action(&self) -> Option<Action> {
        match self.applied {
            Applied::Acts { action, .. } => Some(action),
            Applied::Off { .. } | Applied::Excepted { .. } | Applied::Accepted => None,
        }
    }

    /// The same where the change cannot be held: `Hold` acts as `Enforce` there.
    #[must_use]
    pub fn action_if_not_held(&self) -> Option<Action> {
        match self.applied {
            Applied::Acts { if_not_held, .. } => Some(if_not_held),
            Applied::Off { .. } | Applied::Excepted { .. } | Applied::Accepted => None,
        }
    }
}

/// The result for all releases together.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No objection.
    Allow,
    /// Something is risky.
    Warn,
    /// Something is unsafe.
    Deny,
}

impl Evaluation {
    /// Deny if any finding denies, else warn if any holds or warns, else allow.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let worst = self
            .releases
            .iter()
            .flat_map(|release| &release.findings)
            .filter_map(JudgedFinding::action)
            .max();
        match worst {
            Some(Action::Deny) => Verdict::Deny,
            Some(Action::Hold | Action::Warn) => Verdict::Warn,
            Some(Action::Audit) | None => Verdict::Allow,
        }
    }
}

/// Judges a change.
#[must_use]
pub fn judge(question: &EvaluationInput<'_>) -> Evaluation {
    let Pairing { pairs, gone } = Pairing::of(question.before, question.after);
    let gone = gone.into_iter().map(|release| GoneRelease {
        label: release.label(),
        shares_instance: question.after.releases.iter().any(|other| {
            other.name == release.name
                && (other.namespace == release.namespace || other.namespace.is_none())
        }),
    });
    let gone = gone.collect();
    let neighbors = Neighbors::among(&pairs);
    let releases = pairs
        .iter()
        .enumerate()
        .map(|(at, pair)| {
            let mut judged = judge_change(question, pair.before, pair.after);
            for (neighbor, shared) in neighbors.of(at) {
                let next_to = judge_beside(question, pairs[neighbor].after, pair.after, shared);
                judged.findings.extend(next_to);
                judged.findings.sort_by_key(order);
            }
            judged
        })
        .collect();
    Evaluation {
        subject: Subject::Change,
        releases,
        gone,
    }
}

/// Judges each release of `question.after` as the running state, as it is; what the question says
/// of a change is left out.
#[must_use]
pub fn judge_state(question: &EvaluationInput<'_>) -> Evaluation {
    let releases = question.after.releases.iter().map(|release| {
        let builds = Upgrade::new(None, release, question.facts, question.catalogue);
        let ran = rules::run_state(
            release,
            question.facts,
            question.catalogue,
            question.overdue,
        );
        let side = (builds.builds_after().first().cloned(), builds.to());
        JudgedRelease {
            standing: Some(Standing::of(release, question.catalogue)),
            ..judged(question, Some(release), release, side, ran)
        }
    });
    Evaluation {
        subject: Subject::State,
        releases: releases.collect(),
        gone: Vec::new(),
    }
}

/// Judges the removal of each running release that is not in the wanted state, of which nothing
/// stays but these claims. A release whose workloads have other labels there is not removed.
#[must_use]
pub fn judge_removals(question: &EvaluationInput<'_>, claims: &[Claim]) -> Vec<JudgedRelease> {
    let wanted = &question.after.releases;
    let gone = Pairing::of(question.before, question.after).gone;
    let removed = gone.into_iter().filter(|release| {
        let stays = |other: &Release| other.shares_workloads_with(release);
        !wanted.iter().any(stays)
    });
    removed
        .map(|before| {
            let after = Release {
                components: Vec::new(),
                dependencies: Vec::new(),
                claims: claims.to_vec(),
                ..before.clone()
            };
            let mut upgrade =
                Upgrade::new(Some(before), &after, question.facts, question.catalogue);
            upgrade.is_rollback = question.is_rollback;
            upgrade.aspect = Aspect::Removal;
            let ran = rules::run(&upgrade, question.overdue);
            judged(question, Some(before), &after, (upgrade.from(), None), ran)
        })
        .collect()
}

/// Judges the wanted state next to a release that keeps running and shares data with it.
#[must_use]
pub fn judge_next_to(
    question: &EvaluationInput<'_>,
    running: &Release,
    shared: Shared,
) -> Vec<JudgedFinding> {
    let wanted = question.after.releases.iter();
    wanted
        .flat_map(|after| judge_beside(question, running, after, shared))
        .collect()
}

fn judge_beside(
    question: &EvaluationInput<'_>,
    running: &Release,
    after: &Release,
    shared: Shared,
) -> Vec<JudgedFinding> {
    let mut upgrade = Upgrade::new(Some(running), after, question.facts, question.catalogue);
    upgrade.aspect = Aspect::Neighbor(shared);
    let ran = rules::run(&upgrade, question.overdue);
    let mut findings = judged(question, None, after, (None, upgrade.to()), ran).findings;
    findings.retain(|judged| !judged.finding.not_evaluated);
    findings
}

/// For each new release, by position, the other wanted ones that it would share data with, at most
/// one for each kind of data.
#[derive(Default)]
struct Neighbors(BTreeMap<usize, BTreeMap<Shared, usize>>);

/// Releases with one key that a new one is compared with.
const MAX_COMPARED: usize = 16;

impl Neighbors {
    /// Releases that run already come first, so that of two new ones the later has a neighbor. Each
    /// location is read once, because an input may hold thousands of releases.
    fn among(pairs: &[Pair<'_>]) -> Self {
        let is_new = |at: &usize| pairs[*at].before.is_none();
        // Most inputs hold one release, or none that is new.
        if pairs.len() == 1 || !(0..pairs.len()).any(|at| is_new(&at)) {
            return Self::default();
        }
        let (new, running): (Vec<usize>, Vec<usize>) = (0..pairs.len()).partition(is_new);
        let mut places: BTreeMap<usize, DataPlaces> = BTreeMap::new();
        let mut owners: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut neighbors: BTreeMap<usize, BTreeMap<Shared, usize>> = BTreeMap::new();
        for at in running.into_iter().chain(new) {
            let release = pairs[at].after;
            if !release.runs_coordinators() {
                continue;
            }
            let own = DataPlaces::of(release);
            for key in own.keys() {
                let others = owners.entry(key).or_default();
                for other in others.iter().filter(|_| is_new(&at)) {
                    if let Some(shared) = places.get(other).and_then(|one| own.shared_with(one)) {
                        neighbors
                            .entry(at)
                            .or_default()
                            .entry(shared)
                            .or_insert(*other);
                    }
                }
                if others.len() < MAX_COMPARED {
                    others.push(at);
                }
            }
            places.insert(at, own);
        }
        Self(neighbors)
    }

    fn of(&self, at: usize) -> impl Iterator<Item = (usize, Shared)> {
        let all = self.0.get(&at).into_iter().flatten();
        all.map(|(shared, neighbor)| (*neighbor, *shared))
    }
}

/// Worst first, then by rule.
fn order(judged: &JudgedFinding) -> (std::cmp::Reverse<Option<Action>>, &'static str) {
    (std::cmp::Reverse(judged.action()), judged.finding.rule.id)
}

fn judge_change(
    question: &EvaluationInput<'_>,
    before: Option<&Release>,
    after: &Release,
) -> JudgedRelease {
    // Where the running state shows its mounts, a change that shows none takes them away.
    let bare = before
        .filter(|before| before.shows_mounts())
        .and_then(|_| after.with_shown_mounts_only());
    let after = bare.as_ref().unwrap_or(after);
    let mut upgrade = Upgrade::new(before, after, question.facts, question.catalogue);
    upgrade.is_rollback = question.is_rollback;
    upgrade.deletes = question.deletes;
    judged(
        question,
        before,
        after,
        (upgrade.from(), upgrade.to()),
        rules::run(&upgrade, question.overdue),
    )
}

/// Applies policies, exceptions and acceptances to what the rules said.
fn judged(
    question: &EvaluationInput<'_>,
    before: Option<&Release>,
    after: &Release,
    (from, to): (Option<Build>, Option<Build>),
    ran: rules::Ran,
) -> JudgedRelease {
    let namespace = after
        .namespace
        .clone()
        .or_else(|| before.and_then(|before| before.namespace.clone()));
    let scope = Scope {
        release: &after.name,
        namespace: namespace.as_deref(),
        from: from.as_ref().map(|build| build.version),
        to: to.as_ref().map(|build| build.version),
    };
    let acceptable = if question.accepted.is_empty() {
        Vec::new()
    } else {
        question.policies.self_accept(&scope)
    };
    let accepts = |rule: &str| {
        acceptable.iter().any(|id| id.eq_ignore_ascii_case(rule))
            && question
                .accepted
                .iter()
                .any(|id| id.eq_ignore_ascii_case(rule))
    };
    let apply = |finding: &Finding| match question.policies.apply(finding, &scope) {
        Applied::Acts { action, .. } if action > Action::Audit && accepts(finding.rule.id) => {
            Applied::Accepted
        }
        applied => applied,
    };
    let mut findings: Vec<JudgedFinding> = ran
        .findings
        .into_iter()
        .map(|finding| JudgedFinding {
            applied: apply(&finding),
            finding,
        })
        .collect();
    findings.sort_by_key(order);
    JudgedRelease {
        name: after.title(),
        namespace: namespace.clone(),
        topology_before: before.map(Release::topology),
        topology_after: after.topology(),
        from,
        to,
        findings,
        states: ran.states,
        standing: None,
    }
}
