//! The workload gate: single objects, by any tool. The backstop behind the release gate, and
//! the only gate for kubectl, Argo CD and operators.

use std::{borrow::Cow, sync::Arc};

use serde::Deserialize;

use crate::{
    evaluate::{Judgement, Question, judge},
    evidence::RunFact,
    manifest::{
        Object, Tree,
        object::{Meta, ObjectRef, Workload},
    },
    milvus::{
        NamespaceState, Release, Snapshot,
        dependency::{self, may_be_ours},
        identify,
        release::{ComponentWorkload, held_from},
    },
    policy::Action,
    rules::{Behavior, Rule},
};

use super::{
    acceptance::{self, ACCEPT},
    decision::{self, HELM_RELEASE, Put},
    partial_object::PartialObject,
    review::{Operation, Raw, Response, Review},
    review_context::{CLEANERS, Other, ReviewContext},
    ruling::{Outcome, Ruling, Way},
    task::{Gate, object, object_at},
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

/// Who writes, by the field manager of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// Helm, or a tool that has Helm built in.
    Helm,
    /// Anything else: kubectl, Argo CD, an operator, a client library.
    Other,
}

impl Writer {
    /// Field managers of Helm, of Flux' helm-controller and of Terraform's provider.
    fn of(manager: &str) -> Self {
        // Terraform's provider is called by the name of its file, which ends with its version.
        let rest = manager.strip_prefix("terraform-provider-helm");
        let is_terraform =
            rest.is_some_and(|version| version.is_empty() || version.starts_with('_'));
        let is_helm = manager == "helm" || manager == "helm-controller" || is_terraform;
        if is_helm { Self::Helm } else { Self::Other }
    }
}

#[derive(Debug)]
enum Change<'a> {
    Put {
        new: Object,
        old: Option<Old<'a>>,
    },
    Scale {
        kind: &'static str,
        name: String,
        replicas: i64,
    },
    Delete(Object),
}

/// An object before it changes. It is read as a whole only where memory does not know it.
#[derive(Debug)]
struct Old<'a> {
    text: &'a str,
    head: Option<PartialObject<'a>>,
}

impl Old<'_> {
    fn read(&self, namespace: &str) -> Result<Option<Object>, String> {
        object(self.text, namespace).map(|(_, object)| object)
    }
}

impl<'a> WorkloadTask<'a> {
    /// Reads what would change; `None` if it is of no interest.
    ///
    /// # Errors
    /// Where an object that may be Milvus cannot be read.
    pub(super) fn of(review: &Review<'a>) -> Result<Option<Self>, String> {
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
    pub fn judge(&self, context: &ReviewContext<'_>) -> Ruling {
        let ruling = self
            .change
            .as_ref()
            .map_or_else(Ruling::pass, |change| self.judge_change(change, context));
        match &self.adopted {
            Some(object) if ruling.response.denied.is_none() && !OWNERS.contains(&&*self.user) => {
                let mut gone = self.judge_change(&Change::Delete(object.clone()), context);
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

    fn judge_change(&self, change: &Change<'_>, context: &ReviewContext<'_>) -> Ruling {
        let deletes = match change {
            Change::Delete(object) => Some(&object.meta().object),
            _ => None,
        };
        if deletes.is_some() && (context.ending || CLEANERS.contains(&&*self.user)) {
            return Ruling::pass();
        }
        let (before, after, reference) = match self.sides(change, context) {
            Ok(Some(sides)) => sides,
            Ok(None) => return Ruling::pass(),
            Err(reason) => return Ruling::of(Response::deny(reason)),
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
                .or_else(|| context.remembered.iter().find(same))
                .cloned();
        }
        let others = context.others(&before.snapshot.releases, old.as_ref(), &new);
        self.compare(context, old, new, &others, deletes)
    }

    fn compare(
        &self,
        context: &ReviewContext<'_>,
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
        if let Some(denied) = context.unknown_past(before.as_ref()) {
            return Ruling {
                by_state: true,
                ..Ruling::of(denied)
            };
        }
        let after = one(new);
        let accepted = self.accepted();
        let question = Question {
            deletes,
            accepted: &accepted,
            ..context.question(&after)
        };
        let mut judgement = judge(&Question {
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
                let question = Question {
                    after: before,
                    deletes: None,
                    ..question
                };
                let mut known = judge(&Question {
                    before: Some(before),
                    ..question
                });
                known
                    .releases
                    .extend(others.iter().filter_map(|other| other.judge(&question)));
                known
            }
            _ => Judgement::default(),
        };
        // A rule that failed, had no time or lacked a fact said nothing about what was so before:
        // its outcome stands.
        let known: Vec<_> = known
            .releases
            .iter()
            .flat_map(|release| &release.findings)
            .map(|judged| &judged.finding)
            .filter(|finding| finding.failed.is_none() && !finding.not_evaluated)
            .collect();
        let leniency = self.leniency(context, before.as_ref(), &after);
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
            policies: &context.policies,
            way: Way::Object,
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
        context: &'s ReviewContext<'_>,
    ) -> Result<Option<(Cow<'s, NamespaceState>, NamespaceState, ObjectRef)>, String> {
        let place = &*context.place;
        Ok(match change {
            Change::Put { new, old } => {
                let reference = new.meta().object.clone();
                let old = old
                    .as_ref()
                    .map(|old| self.old(old, &reference, place))
                    .transpose()?
                    .flatten();
                if !matters(new, old.as_ref()) {
                    return Ok(None);
                }
                // The request knows the object better than the cache.
                let before = match old {
                    Some(old) if !place.holds(&old) => Cow::Owned(place.with(old)),
                    _ => Cow::Borrowed(place),
                };
                let after = before.with(new.clone());
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
                    && is_being_uninstalled(workload, &before, context)
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
        context: &ReviewContext<'_>,
        before: Option<&Snapshot>,
        after: &Snapshot,
    ) -> Leniency {
        let (release, wanted) = (
            before.and_then(|snapshot| snapshot.releases.first()),
            after.releases.first(),
        );
        if self.user == context.accounts.job
            && let (Some(release), Some(wanted)) = (release, wanted)
            && let Some(run) = context.facts.runs.iter().flatten().find(|run| {
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
            context
                .facts
                .is_migrated_past(&release.name, Some(&self.namespace), version)
        });
        if self.writer != Writer::Helm {
            return Leniency::None;
        }
        let old = old.as_ref().and_then(|old| {
            self.old(old, &new.meta().object, &context.place)
                .ok()
                .flatten()
        });
        let put = Put {
            new,
            old: old.as_ref(),
        };
        if !overtaken
            && context
                .decisions
                .iter()
                .any(|decision| decision::covers(decision, &put, context.now))
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
    ) -> Result<Option<Object>, String> {
        match known(place, reference, old) {
            Some(workload) => Ok(Some(Object::Workload(workload))),
            None => old.read(&self.namespace),
        }
    }
}

/// Whether a change is what the step plans at which a run stands: the account alone does not allow
/// it.
fn plans(run: &RunFact, before: &Release, after: &Release) -> bool {
    let pairs = || {
        after.components.iter().filter_map(|new| {
            let same = |old: &&ComponentWorkload| {
                old.workload.meta.object.name == new.workload.meta.object.name
            };
            before.components.iter().find(same).map(|old| (old, new))
        })
    };
    let images = pairs()
        .filter(|(old, new)| old.image() != new.image())
        .all(|(_, new)| {
            let version = new.version().build().map(|build| build.version);
            // An image of one's own that says no version is planned as such.
            run.plans_images()
                .is_some_and(|planned| version.is_none_or(|version| version == planned))
        });
    let starts =
        pairs().any(|(old, new)| new.workload.wanted_replicas() > old.workload.wanted_replicas());
    images && (!starts || run.plans_starts())
}

/// What a change need not meet.
#[derive(Clone, Copy)]
enum Leniency {
    /// Everything counts.
    None,
    /// A step of a run, by the job's account.
    Planned {
        /// Whether the run is rolled back.
        returns: bool,
    },
    /// The release gate judged this very object.
    Decided,
    /// Helm applies it and no decision is known: stopping it half-way is worse than anything but
    /// loss of data.
    Helm,
}

impl Leniency {
    fn apply(self, rule: &Rule, action: Action) -> Option<Action> {
        match self {
            Self::Planned { .. } if rule.has(Behavior::PlannedByRun) => None,
            Self::Planned { returns: true } if rule.has(Behavior::RestoredByRollback) => None,
            Self::Decided if !rule.has(Behavior::OverridesDecisions) => None,
            Self::Helm if !rule.data_loss => Some(action.min(Action::Warn)),
            _ => Some(action),
        }
    }
}

/// Whether Helm is uninstalling: it deletes every Service of a release before the first
/// StatefulSet. A StatefulSet that is deleted on its own still has the Services around it.
fn is_being_uninstalled(
    workload: &Workload,
    place: &NamespaceState,
    context: &ReviewContext<'_>,
) -> bool {
    let service = workload
        .stateful
        .as_ref()
        .and_then(|stateful| stateful.service_name.as_deref());
    let own_is_gone =
        service.is_some_and(|service| !context.services.iter().any(|known| known == service));
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

fn change<'a>(review: &Review<'a>) -> Result<Option<Change<'a>>, String> {
    let kind = match &*review.resource.resource {
        "statefulsets" => "StatefulSet",
        "replicasets" => "ReplicaSet",
        "replicationcontrollers" => "ReplicationController",
        _ => "Deployment",
    };
    match (&*review.sub_resource, review.operation) {
        ("scale", Operation::Update) => scale(review, kind),
        ("", Operation::Create | Operation::Update) => put(review),
        ("", Operation::Delete) => delete(review),
        _ => Ok(None),
    }
}

/// The object before a request that gives it a new owner, if its loss would be a loss of data.
fn adopted(review: &Review<'_>) -> Result<Option<Object>, String> {
    let (Some(new), Some(old)) = (review.object.map(Raw::get), review.old_object.map(Raw::get))
    else {
        return Ok(None);
    };
    if review.operation != Operation::Update
        || !review.sub_resource.is_empty()
        || !new.contains("ownerReferences")
    {
        return Ok(None);
    }
    let owned = |text: &str| {
        serde_json::from_str::<Owned>(text)
            .map(Owned::uids)
            .unwrap_or_default()
    };
    let before = owned(old);
    if owned(new).iter().all(|uid| before.contains(uid)) {
        return Ok(None);
    }
    Ok(object(old, &review.namespace)?
        .1
        .filter(|object| match object {
            Object::Workload(workload) => is_ours(workload),
            Object::Claim(_) => true,
            _ => false,
        }))
}

/// The owners of an object.
#[derive(Deserialize)]
struct Owned {
    #[serde(default)]
    metadata: OwnedMetadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnedMetadata {
    #[serde(default)]
    owner_references: Vec<OwnerReference>,
}

#[derive(Deserialize)]
struct OwnerReference {
    #[serde(default)]
    uid: String,
}

impl Owned {
    fn uids(self) -> Vec<String> {
        self.metadata
            .owner_references
            .into_iter()
            .map(|owner| owner.uid)
            .collect()
    }
}

fn scale<'a>(review: &Review<'a>, kind: &'static str) -> Result<Option<Change<'a>>, String> {
    let Some(raw) = review.object else {
        return Ok(None);
    };
    let node: Tree<'_> = serde_json::from_str(raw.get())
        .map_err(|_| "milvus-guard cannot read the Scale".to_owned())?;
    let replicas = node
        .at(&["spec", "replicas"])
        .and_then(Tree::as_i64)
        .unwrap_or(0);
    let name = if review.name.is_empty() {
        node.text_at(&["metadata", "name"]).unwrap_or_default()
    } else {
        &review.name
    };
    Ok(Some(Change::Scale {
        kind,
        name: name.to_owned(),
        replicas,
    }))
}

fn put<'a>(review: &Review<'a>) -> Result<Option<Change<'a>>, String> {
    let Some(new) = review.object.map(Raw::get) else {
        return Ok(None);
    };
    // `null` is how the API server writes an absent object.
    let old = review.old_object.map(Raw::get).filter(|old| *old != "null");
    let mut old = old.map(|text| Old { text, head: None });
    if review.resource.group == "apps" {
        let head = review
            .object_at()
            .map_or_else(|| PartialObject::of(new), PartialObject::at);
        if let Some(old) = &mut old {
            old.head = review
                .old_object_at()
                .map_or_else(|| PartialObject::of(old.text), PartialObject::at);
        }
        let old_head = old.as_ref().and_then(|old| old.head.as_ref());
        // Rules look at nothing else of a workload, and most updates are of metadata: they cost a
        // scan and no tree.
        if let (Some(new), Some(old)) = (&head, old_head)
            && new.has_same_rest(old)
        {
            return Ok(None);
        }
        let ours = |head: Option<&PartialObject<'_>>, text: &str| {
            head.map_or_else(|| may_be_ours(text), PartialObject::may_be_ours)
        };
        if !ours(head.as_ref(), new)
            && old
                .as_ref()
                .is_none_or(|old| !ours(old.head.as_ref(), old.text))
        {
            return Ok(None);
        }
    }
    let new = match review
        .object_at()
        .and_then(|at| object_at(at, &review.namespace))
    {
        Some(new) => Some(new),
        None => object(new, &review.namespace)?.1,
    };
    Ok(new.map(|new| Change::Put { new, old }))
}

fn delete<'a>(review: &Review<'a>) -> Result<Option<Change<'a>>, String> {
    let Some(raw) = review.old_object.or(review.object) else {
        return Ok(None);
    };
    let Some(old) = object(raw.get(), &review.namespace)?.1 else {
        return Ok(None);
    };
    let matters = match &old {
        Object::Workload(workload) => is_ours(workload),
        Object::Claim(_) => true,
        _ => false,
    };
    Ok(matters.then_some(Change::Delete(old)))
}

fn is_ours(workload: &Workload) -> bool {
    identify::component(workload).is_some() || dependency::family(workload).is_some()
}

/// Whether anything changes that a rule could look at.
fn matters(new: &Object, old: Option<&Object>) -> bool {
    match (new, old) {
        (Object::Workload(new), Some(Object::Workload(old))) => {
            !new.has_same_spec(old) && (is_ours(new) || is_ours(old))
        }
        (Object::Workload(new), _) => is_ours(new),
        (Object::Config(new), Some(Object::Config(old))) => files(new) != files(old),
        (Object::Config(_), _) => true,
        // Milvus' configuration taken out of its map.
        (Object::Other(Meta { object, .. }), Some(Object::Config(_))) => {
            matches!(object.kind.as_str(), "ConfigMap" | "Secret")
        }
        (Object::Claim(new), Some(Object::Claim(old))) => !new.has_same_spec(old),
        _ => false,
    }
}

fn files(config: &crate::manifest::object::ConfigMap) -> Vec<(&str, Option<&str>)> {
    config
        .files
        .iter()
        .map(|file| (file.key.as_str(), file.text.as_deref().ok()))
        .collect()
}
