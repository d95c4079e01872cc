//! The workload gate: single objects, by any tool. The backstop behind the release gate, and
//! the only gate for kubectl, Argo CD and operators.

mod change;
mod leniency;

use std::{borrow::Cow, sync::Arc};

use change::{Change, Old, adopted, change, matters};
use leniency::{Leniency, Writer, plans};

use crate::{
    admission::{
        acceptance::{self, ACCEPT},
        decision::{self, HELM_RELEASE, Put},
        gate::Gate,
        object::ObjectError,
        review::{Response, Review},
        review_state::{CLEANERS, Other, ReviewState},
        ruling::{AcceptanceHint, Outcome, Ruling},
    },
    evaluate::{Evaluation, EvaluationInput, judge},
    manifest::{
        Object,
        object::{ConfigMap, Meta, ObjectRef, SourceRef, Workload},
    },
    milvus::{NamespaceState, Release, Snapshot, identify, release::held_from},
    policy::Action,
    rules::Behavior,
};

/// Controllers that make themselves the owners of what they keep: that of a `StatefulSet` does so
/// to claims under a retention policy, whose change was judged.
const OWNERS: [&str; 1] = ["system:serviceaccount:kube-system:statefulset-controller"];

/// One object of Milvus, or of the dependencies of Milvus, that would change.
#[derive(Debug)]
pub struct WorkloadTask<'a> {
    /// Its namespace.
    pub namespace: String,
    change: Option<Change<'a>>,
    /// The object before, if the request gives it a new owner: the garbage collector deletes it
    /// with that owner, and at once if the owner does not exist.
    adopted: Option<Object>,
    user: String,
    writer: Writer,
}

impl<'a> WorkloadTask<'a> {
    /// Reads what would change; `None` if it is of no interest.
    ///
    /// # Errors
    /// Where an object that may be Milvus cannot be read.
    pub(super) fn of(review: &Review<'a>) -> Result<Option<Self>, ObjectError> {
        let change = change(review)?;
        let adopted = adopted(review)?;
        if change.is_none() && adopted.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            namespace: review.namespace.to_string(),
            change,
            adopted,
            user: review.user_info.username.to_string(),
            writer: Writer::of(review.field_manager()),
        }))
    }

    /// Judges the change against the running state.
    #[must_use]
    pub fn judge(&self, state: &ReviewState<'_>) -> Ruling {
        let ruling = self
            .change
            .as_ref()
            .map_or_else(Ruling::pass, |change| self.judge_change(change, state));
        match &self.adopted {
            Some(object) if ruling.response.denied.is_none() && !OWNERS.contains(&&*self.user) => {
                let mut gone = self.judge_change(&Change::Delete(object.clone()), state);
                let Some(denied) = &mut gone.response.denied else {
                    return ruling;
                };
                denied.push_str(
                    " || The request adds an owner reference: the garbage collector deletes the \
                     object together with its owner, and immediately if that owner does not exist.",
                );
                gone
            }
            _ => ruling,
        }
    }

    fn judge_change(&self, change: &Change<'_>, state: &ReviewState<'_>) -> Ruling {
        let deletes = match change {
            Change::Delete(object) => Some(&object.meta().object),
            _ => None,
        };
        if deletes.is_some() && (state.ending || CLEANERS.contains(&&*self.user)) {
            return Ruling::pass();
        }
        let (before, after, reference) = match self.sides(change, state) {
            Ok(Some(sides)) => sides,
            Ok(None) => return Ruling::pass(),
            Err(error) => return Ruling::of(Response::deny(error.to_string())),
        };
        let mut old = before.owner(&reference).cloned();
        let new = match after.into_owner(&reference) {
            Ok(new) => new,
            Err(after) => match deletes.and_then(|_| stripped(&after, old.as_ref())) {
                Some(new) => new,
                None => return Ruling::pass(),
            },
        };
        if old.is_none() {
            let same =
                |release: &&Release| release.name == new.name && release.app_name == new.app_name;
            old = before
                .snapshot
                .releases
                .iter()
                .find(same)
                .or_else(|| state.remembered.iter().find(same))
                .cloned();
        }
        let others = state.others(&before.snapshot.releases, old.as_ref(), &new);
        self.compare(state, old, new, &others, deletes)
    }

    fn compare(
        &self,
        state: &ReviewState<'_>,
        old: Option<Release>,
        new: Release,
        others: &[Other<'_>],
        deletes: Option<&ObjectRef>,
    ) -> Ruling {
        let one = |release: Release| Snapshot {
            releases: vec![release],
            ..Snapshot::default()
        };
        let before = old.map(one);
        if let Some(denied) = state.unknown_past(before.as_ref()) {
            return Ruling {
                by_state: true,
                ..Ruling::of(denied)
            };
        }
        let after = one(new);
        let accepted = self.accepted();
        let question = EvaluationInput {
            deletes,
            accepted: &accepted,
            ..state.question(&after)
        };
        let mut judgement = judge(&EvaluationInput {
            before: before.as_ref(),
            ..question
        });
        judgement
            .releases
            .extend(others.iter().filter_map(|other| other.judge(&question)));
        // Findings that existed before this change are ignored.
        let acts = judgement
            .releases
            .iter()
            .flat_map(|release| &release.findings)
            .any(|judged| judged.action() > Some(Action::Audit));
        let known = match &before {
            Some(before) if acts => {
                let question = EvaluationInput {
                    after: before,
                    deletes: None,
                    ..question
                };
                let mut known = judge(&EvaluationInput {
                    before: Some(before),
                    ..question
                });
                known
                    .releases
                    .extend(others.iter().filter_map(|other| other.judge(&question)));
                known
            }
            _ => Evaluation::default(),
        };
        // A rule that failed, had no time or lacked a fact did not judge the state before this:
        // its outcome stands.
        let known: Vec<_> = known
            .releases
            .iter()
            .flat_map(|release| &release.findings)
            .map(|judged| &judged.finding)
            .filter(|finding| finding.failed.is_none() && !finding.not_evaluated)
            .collect();
        let leniency = self.leniency(state, before.as_ref(), &after);
        let written = self.written();
        let is_paused = written.is_some_and(|workload| workload.paused);
        let is_held = written.is_some_and(|workload| held_from(workload).is_some());
        let releases: Vec<_> = judgement
            .releases
            .iter()
            .map(|release| {
                let findings = release
                    .findings
                    .iter()
                    .filter(|judged| {
                        let finding = &judged.finding;
                        !known.iter().any(|known| {
                            known.rule.id == finding.rule.id
                                && known.message == finding.message
                                && known.object == finding.object
                        })
                    })
                    .filter_map(|judged| {
                        let action = match judged.action()? {
                            // Only what is paused waits.
                            Action::Hold if !is_paused => judged.action_if_not_held()?,
                            action => action,
                        };
                        let rule = judged.finding.rule;
                        if rule.has(Behavior::SettledByHold) && is_held {
                            return None;
                        }
                        Some((judged, leniency.apply(rule, action)?))
                    })
                    .filter(|(judged, _)| {
                        deletes.is_none() || judged.finding.rule.has(Behavior::JudgesDeletions)
                    })
                    .collect();
                (release, findings)
            })
            .collect();
        let mut ruling = Outcome {
            gate: Gate::Workload,
            releases: &releases,
            policies: &state.policies,
            way: AcceptanceHint::Object,
        }
        .ruling();
        ruling.by_state = ruling.response.denied.is_some();
        ruling
    }

    /// The namespace before and after, and the object that changes; `None` if no rule looks at what
    /// changes.
    fn sides<'s>(
        &self,
        change: &Change<'_>,
        state: &'s ReviewState<'_>,
    ) -> Result<Option<(Cow<'s, NamespaceState>, NamespaceState, ObjectRef)>, ObjectError> {
        let place = &*state.place;
        Ok(match change {
            Change::Put { new, old } => {
                let reference = new.meta().object.clone();
                let old = old
                    .as_ref()
                    .map(|old| self.old(old, &reference, place))
                    .transpose()?
                    .flatten();
                if !matters(new, old.as_ref()) || is_unread(place, &reference) {
                    return Ok(None);
                }
                // The request knows the object better than the cache.
                let before = match old {
                    Some(old) if !place.holds(&old) => Cow::Owned(place.with(old)),
                    _ => Cow::Borrowed(place),
                };
                let after = before.with(with_its_keys(new));
                Some((before, after, reference))
            }
            Change::Scale {
                kind,
                name,
                replicas,
            } => {
                let Some(workload) = place.workload(kind, name) else {
                    return Ok(None);
                };
                let mut workload = Workload::clone(workload);
                workload.replicas = Some(*replicas);
                let reference = workload.meta.object.clone();
                Some((
                    Cow::Borrowed(place),
                    place.with(Object::Workload(Arc::new(workload))),
                    reference,
                ))
            }
            Change::Delete(old) => {
                let before = place.with(old.clone());
                if let Object::Workload(workload) = old
                    && identify::component(workload).is_none()
                    && is_being_uninstalled(workload, &before, state)
                {
                    return Ok(None);
                }
                let reference = old.meta().object.clone();
                let after = before.without(&reference);
                Some((Cow::Owned(before), after, reference))
            }
        })
    }

    /// The workload that the request writes; `None` if it writes another object, or none.
    fn written(&self) -> Option<&Workload> {
        match &self.change {
            Some(Change::Put {
                new: Object::Workload(workload),
                ..
            }) => Some(workload),
            _ => None,
        }
    }

    /// Rules that the request itself accepts.
    fn accepted(&self) -> Vec<String> {
        let Some(Change::Put { new, old }) = &self.change else {
            return Vec::new();
        };
        let Some(accepted) = new.meta().annotation(ACCEPT) else {
            return Vec::new();
        };
        let before = match old {
            Some(Old {
                head: Some(head), ..
            }) => head.annotation(ACCEPT).map(str::to_owned),
            Some(old) => {
                let old = old.read(&self.namespace).ok().flatten();
                old.and_then(|old| old.meta().annotation(ACCEPT).map(str::to_owned))
            }
            None => None,
        };
        acceptance::from_annotation(Some(accepted), before.as_deref())
    }

    fn leniency(
        &self,
        state: &ReviewState<'_>,
        before: Option<&Snapshot>,
        after: &Snapshot,
    ) -> Leniency {
        let (release, wanted) = (
            before.and_then(|snapshot| snapshot.releases.first()),
            after.releases.first(),
        );
        if self.user == state.accounts.job
            && let (Some(release), Some(wanted)) = (release, wanted)
            && let Some(run) = state.facts.runs.iter().flatten().find(|run| {
                run.namespace == self.namespace
                    && run.release == release.name
                    && plans(run, release, wanted)
            })
        {
            return Leniency::Planned {
                returns: run.is_rolling_back(),
            };
        }
        let Some(Change::Put { new, old }) = &self.change else {
            return Leniency::None;
        };
        // A version that was allowed before the metadata was migrated does not hold after it.
        // The rest of the release changes later and does not matter for this
        // object.
        let version = wanted
            .into_iter()
            .flat_map(|release| &release.components)
            .find_map(|component| {
                let version = component.version();
                version
                    .build()
                    .filter(|_| component.workload.meta.object == new.meta().object)
                    .map(|build| build.version)
            });
        let overtaken = release.zip(version).is_some_and(|(release, version)| {
            state
                .facts
                .is_migrated_past(&release.name, Some(&self.namespace), version)
        });
        if self.writer != Writer::Helm {
            return Leniency::None;
        }
        let old = old.as_ref().and_then(|old| {
            self.old(old, &new.meta().object, &state.place)
                .ok()
                .flatten()
        });
        let put = Put {
            new,
            old: old.as_ref(),
        };
        if !overtaken
            && state
                .decisions
                .iter()
                .any(|decision| decision::covers(decision, &put, state.now))
        {
            return Leniency::Decided;
        }
        // The mark counts if the object has borne it before: a request could bring it along.
        let mark = |object: &Object| object.meta().annotation(HELM_RELEASE).map(str::to_owned);
        let is_helms = mark(new).is_some() && old.as_ref().is_none_or(|old| mark(old) == mark(new));
        if is_helms {
            Leniency::Helm
        } else {
            Leniency::None
        }
    }

    /// The object before the change: as the cache has it, if that is the same one.
    fn old(
        &self,
        old: &Old<'_>,
        reference: &ObjectRef,
        place: &NamespaceState,
    ) -> Result<Option<Object>, ObjectError> {
        match known(place, reference, old) {
            Some(workload) => Ok(Some(Object::Workload(workload))),
            None => old.read(&self.namespace),
        }
    }
}

/// A `ConfigMap` without keys as such: pods read it, and find nothing in it.
fn with_its_keys(new: &Object) -> Object {
    let emptied = match new {
        Object::Other(meta) => ConfigMap::empty(meta.clone()),
        _ => None,
    };
    emptied.map_or_else(|| new.clone(), |config| Object::Config(Arc::new(config)))
}

/// Whether an object is a `ConfigMap` or a Secret to which no pod of Milvus refers: most of those
/// that are sent. Nothing is read or configured again for them.
fn is_unread(place: &NamespaceState, object: &ObjectRef) -> bool {
    let releases = &place.snapshot.releases;
    SourceRef::of(object)
        .is_some_and(|source| !releases.iter().any(|release| release.reads(&source)))
}

/// Whether Helm is uninstalling: it deletes every Service of a release before the first
/// StatefulSet. A StatefulSet that is deleted on its own still has the Services around it.
fn is_being_uninstalled(
    workload: &Workload,
    place: &NamespaceState,
    state: &ReviewState<'_>,
) -> bool {
    let service = workload
        .stateful
        .as_ref()
        .and_then(|stateful| stateful.service_name.as_deref());
    let own_is_gone =
        service.is_some_and(|service| !state.services.iter().any(|known| known == service));
    let Some(release) = place.owner(&workload.meta.object) else {
        return own_is_gone;
    };
    let is_of_release = |service: &Meta| {
        ["app.kubernetes.io/instance", "release"]
            .iter()
            .any(|key| service.label(key) == Some(&*release.name))
            || (!release.fullname.is_empty() && service.object.name == release.fullname)
    };
    own_is_gone && !release.services.iter().any(is_of_release)
}

/// The release after its object was deleted: it is found by its name, since nothing in it is
/// the object any more.
fn stripped(after: &NamespaceState, old: Option<&Release>) -> Option<Release> {
    let old = old?;
    after
        .snapshot
        .releases
        .iter()
        .find(|release| release.name == old.name && release.app_name == old.app_name)
        .cloned()
}

/// The workload in memory, where the object before the change is that very state.
fn known(place: &NamespaceState, reference: &ObjectRef, old: &Old<'_>) -> Option<Arc<Workload>> {
    let head = old.head.as_ref()?;
    let known = place.component(&reference.kind, &reference.name)?;
    head.is_of(&known.workload)
        .then(|| Arc::clone(&known.workload))
}
