//! What is known at the moment of a review: one picture, taken once, for the whole of it.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    facts::Facts,
    judge::Overdue,
    milvus::{Place, Release, catalogue::Catalogue},
    objects::DecisionSpec,
    policy::PolicySet,
};

/// Those who delete what belongs to something that is already gone.
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
        Self { guard: account(guard), job: account(job) }
    }
}

/// What is known at the moment of a review.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    /// The namespace that the review is about.
    pub place: Arc<Place>,
    /// Releases of that namespace that no longer run while their volumes exist.
    pub remembered: Arc<[Release]>,
    /// Names of Services there.
    pub services: Arc<[String]>,
    /// Whether the namespace is being deleted.
    pub ending: bool,
    /// Facts about its releases.
    pub facts: Facts,
    /// What the release gate let through there.
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
