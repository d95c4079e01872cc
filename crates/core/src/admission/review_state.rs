//! What is known at the moment of a review: a consistent snapshot for one review.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;

use super::review::Response;
use crate::{
    api::DecisionSpec,
    evaluate::{EvaluationInput, JudgedRelease, judge, judge_next_to},
    evidence::Facts,
    milvus::{
        NamespaceState, Release, Snapshot,
        catalogue::Catalogue,
        data_location::DataLocation,
        service_names::ServiceNames,
        shared_data::{DataPlaces, Shared},
    },
    policy::PolicySet,
    rules::{Behavior, Overdue},
};

/// Those who delete what belongs to something that was already deleted.
pub(super) const CLEANERS: [&str; 3] = [
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:kube-controller-manager",
];

/// Accounts that may do what others may not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// The guard's own, as `system:serviceaccount:NAMESPACE:NAME`.
    pub guard: String,
    /// The job's.
    pub job: String,
}

impl Accounts {
    /// The accounts of an installation.
    #[must_use]
    pub fn new(namespace: &str, guard: &str, job: &str) -> Self {
        let account = |name: &str| format!("system:serviceaccount:{namespace}:{name}");
        Self {
            guard: account(guard),
            job: account(job),
        }
    }
}

/// What is known at the moment of a review.
#[derive(Clone, Debug)]
pub struct ReviewState<'a> {
    /// The namespace that the review is about.
    pub place: Arc<NamespaceState>,
    /// Releases of that namespace that no longer run while their data exists.
    pub remembered: Arc<[Release]>,
    /// Releases that run, with the settings that they were last seen with, where the running state
    /// does not show them: their `ConfigMap` was deleted, for example.
    pub last_known: Arc<[Release]>,
    /// Finds the releases of other namespaces by their data.
    pub elsewhere: Elsewhere,
    /// Under which names and addresses Services are known, in all namespaces.
    pub service_names: Arc<ServiceNames>,
    /// Whether releases of that namespace did not fit into the memory: data of one may be there of
    /// which nothing is known.
    pub forgets: bool,
    /// Names of Services there.
    pub services: Arc<[String]>,
    /// Whether the namespace is being deleted.
    pub ending: bool,
    /// Facts about its releases.
    pub facts: Facts,
    /// What the release gate allowed there.
    pub decisions: Arc<[DecisionSpec]>,
    /// Policies and exceptions in force.
    pub policies: Arc<PolicySet>,
    /// Who is who.
    pub accounts: &'a Accounts,
    /// Data about Milvus releases.
    pub catalogue: Arc<Catalogue>,
    /// The time.
    pub now: Timestamp,
    /// Whether the time for an answer is over.
    pub overdue: Option<Overdue<'a>>,
}

/// Finds the releases of other namespaces that work on some data. The core does not know other
/// namespaces, so the adapter brings the search.
#[derive(Clone)]
pub struct Elsewhere(Arc<Search>);

/// The search for releases by their data.
type Search = dyn Fn(&DataLocation) -> Vec<Release> + Send + Sync;

impl Elsewhere {
    /// A search.
    #[must_use]
    pub fn new(search: impl Fn(&DataLocation) -> Vec<Release> + Send + Sync + 'static) -> Self {
        Self(Arc::new(search))
    }
}

impl Default for Elsewhere {
    /// Where no other namespace is known.
    fn default() -> Self {
        Self::new(|_| Vec::new())
    }
}

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Elsewhere")
    }
}

/// A release in addition to the own one that a change must be compared with.
#[derive(Clone, Debug)]
pub(super) struct Other<'a> {
    release: Cow<'a, Release>,
    why: Why,
    /// What of its data the change uses newly while it keeps running.
    joined: Option<Shared>,
}

/// Why a release is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The change names objects of it.
    Objects,
    /// The change uses its data.
    Data,
    /// The change uses its objects in the store, its channels or its volumes with other metadata.
    Storage,
    /// It is the own one with its last known settings.
    Settings,
}

impl Other<'_> {
    /// What the change that the question is about does to this release; `None` if the question is
    /// about nothing.
    pub(super) fn judge(&self, question: &EvaluationInput<'_>) -> Option<JudgedRelease> {
        let before = Snapshot {
            releases: vec![Release::clone(&self.release)],
            ..Snapshot::default()
        };
        let mut judged = judge(&EvaluationInput {
            before: Some(&before),
            ..*question
        })
        .releases
        .pop()?;
        let counts = match self.why {
            Why::Objects => None,
            Why::Data => Some(Behavior::ComparesSharedData),
            Why::Settings => Some(Behavior::ComparesSettings),
            Why::Storage => {
                judged.findings.clear();
                None
            }
        };
        if let Some(counts) = counts {
            judged
                .findings
                .retain(|judged| judged.finding.rule.has(counts) && !judged.finding.not_evaluated);
        }
        if let Some(shared) = self.joined {
            judged
                .findings
                .extend(judge_next_to(question, &self.release, shared));
        }
        let release = self.release.label();
        let compared = match self.why {
            Why::Objects => {
                format!("compared with release {release}, whose objects this release would replace")
            }
            Why::Data | Why::Storage => format!(
                "compared with release {release}, whose data this release would \
                                  use"
            ),
            Why::Settings => "compared with the last known settings".to_owned(),
        };
        for judged in &mut judged.findings {
            judged.finding.message.push_str(&format!(" ({compared})"));
        }
        Some(judged)
    }
}

impl<'a> ReviewState<'a> {
    /// A namespace of which nothing else is known: no memory, facts, decisions or policies, and the
    /// embedded data.
    #[must_use]
    pub fn of(place: Arc<NamespaceState>, accounts: &'a Accounts, now: Timestamp) -> Self {
        Self {
            place,
            remembered: Arc::new([]),
            last_known: Arc::new([]),
            elsewhere: Elsewhere::default(),
            service_names: Arc::default(),
            forgets: false,
            services: Arc::new([]),
            ending: false,
            facts: Facts::default(),
            decisions: Arc::new([]),
            policies: Arc::default(),
            accounts,
            catalogue: Catalogue::shared(),
            now,
            overdue: None,
        }
    }
}

impl ReviewState<'_> {
    /// The releases in addition to `old` that a release must be compared with: those that run, and
    /// those whose data is left.
    pub(super) fn others<'s>(
        &'s self,
        running: &'s [Release],
        old: Option<&Release>,
        new: &Release,
    ) -> Vec<Other<'s>> {
        let is_old = |release: &Release| {
            old.is_some_and(|old| old.name == release.name && old.app_name == release.app_name)
        };
        let candidates: Vec<(&'s Release, bool)> = running
            .iter()
            .map(|release| (release, true))
            .chain(self.remembered.iter().map(|release| (release, false)))
            .filter(|(release, _)| !is_old(release))
            .collect();
        let location = new
            .data_location()
            .map(|location| self.service_names.known_as(location));
        let uses_data = |release: &Release| {
            location
                .as_ref()
                .zip(release.data_location())
                .is_some_and(|(one, other)| one.is_same(&other))
        };
        // A release whose coordinators use the data already joins no one.
        let old_coordinators = old.filter(|old| old.runs_coordinators());
        let uses_it = old_coordinators.is_some_and(uses_data);
        // Most namespaces hold one release.
        let is_alone = candidates.is_empty();
        let places = (!is_alone && new.runs_coordinators()).then(|| DataPlaces::of(new));
        let old_places = old_coordinators.filter(|_| !is_alone).map(DataPlaces::of);
        let stored_with = |release: &Release| {
            let other = DataPlaces::of(release);
            let shared = places.as_ref()?.shared_with(&other)?;
            let had = old_places.as_ref().and_then(|old| old.shared_with(&other));
            (had != Some(shared)).then_some(shared)
        };
        let other = |release: &'s Release, runs: bool| {
            let of = |why, joined| {
                Some(Other {
                    release: Cow::Borrowed(release),
                    why,
                    joined,
                })
            };
            if release.shares_objects_with(new) {
                of(Why::Objects, None)
            } else if uses_data(release) {
                of(Why::Data, (runs && !uses_it).then_some(Shared::Metadata))
            } else if runs && release.runs_coordinators() {
                let shared = stored_with(release)?;
                of(Why::Storage, Some(shared))
            } else {
                None
            }
        };
        let mut others: Vec<Other<'s>> = candidates
            .into_iter()
            .filter_map(|(release, runs)| other(release, runs))
            .collect();
        let settings = self.last_known.iter().filter(|release| is_old(release));
        others.extend(settings.map(|release| Other {
            release: Cow::Borrowed(release),
            why: Why::Settings,
            joined: None,
        }));
        let elsewhere = location
            .as_ref()
            .map(|location| (self.elsewhere.0)(location))
            .unwrap_or_default();
        others.extend(elsewhere.into_iter().map(|release| Other {
            release: Cow::Owned(release),
            why: Why::Data,
            // Whether it still runs there is not known.
            joined: None,
        }));
        others
    }

    /// Why an installation cannot be judged here: its data may be that of a release of which
    /// nothing is known.
    pub(super) fn unknown_past(&self, before: Option<&Snapshot>) -> Option<Response> {
        (self.forgets && before.is_none()).then(|| {
            Response::deny(
                "milvus-guard: this namespace has more Milvus releases than milvus-guard can \
                 remember, and volume claims remain. milvus-guard does not know the version of \
                 their data, so it does not allow a new release. Delete the claims that are not \
                 needed, or install into another namespace."
                    .to_owned(),
            )
        })
    }

    /// The question of an installation of `after`, with what is known here.
    pub(super) fn question<'s>(&'s self, after: &'s Snapshot) -> EvaluationInput<'s> {
        EvaluationInput {
            before: None,
            after,
            facts: &self.facts,
            catalogue: &self.catalogue,
            policies: &self.policies,
            is_rollback: false,
            deletes: None,
            accepted: &[],
            overdue: self.overdue,
        }
    }
}
