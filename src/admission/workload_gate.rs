//! The workload gate: single objects, by whatever tool. The backstop behind the release gate, and the only gate for
//! kubectl, Argo CD and operators.

use std::{borrow::Cow, sync::Arc};

use crate::{
    facts::RunFact,
    judge::{Judgement, Question, judge},
    manifest::{
        Object, Tree,
        object::{Meta, ObjectRef, Workload},
    },
    milvus::{
        Place, Release, Snapshot,
        dependency::{self, may_be_ours},
        identify,
        release::ComponentWorkload,
    },
    policy::Action,
    rules::Rule,
};

use super::{
    acceptance::{self, ACCEPT},
    decision,
    head::Head,
    release_gate::HELM_RELEASE,
    review::{Operation, Raw, Response, Review},
    ruling::{Outcome, Ruling, Way},
    scene::{CLEANERS, Scene},
    task::{Gate, object, object_at},
};

/// Rules that a run's own steps do not meet: they are what the run plans.
const PLANNED: [&str; 9] = ["MG106", "MG201", "MG203", "MG205", "MG206", "MG207", "MG208", "MG703", "MG704"];
/// Rules that a run does not meet on its way back, where it puts back the version that it recorded.
const RETURN: [&str; 4] = ["MG102", "MG103", "MG104", "MG110"];
/// Rules about deletions.
const DELETIONS: [&str; 4] = ["MG208", "MG305", "MG401", "MG407"];
/// The rule that counts whatever was decided before: a run came in between.
const LOCK: &str = "MG208";

/// One object of Milvus, or of what Milvus stands on, that would change.
#[derive(Debug)]
pub struct WorkloadTask<'a> {
    /// Its namespace.
    pub namespace: String,
    change: Change<'a>,
    user: String,
    /// Whether a person's kubectl asks, not a tool that applies a chart.
    by_kubectl: bool,
}

#[derive(Debug)]
enum Change<'a> {
    Put { new: Object, old: Option<Old<'a>> },
    Scale { kind: &'static str, name: String, replicas: i64 },
    Delete(Object),
}

/// An object before it changes. It is read as a whole only where memory does not know it.
#[derive(Debug)]
struct Old<'a> {
    text: &'a str,
    head: Option<Head<'a>>,
}

impl Old<'_> {
    fn read(&self, namespace: &str) -> Result<Option<Object>, String> {
        object(self.text, namespace).map(|(_, object)| object)
    }
}

impl<'a> WorkloadTask<'a> {
    /// Reads what would change; nothing where it is of no interest.
    ///
    /// # Errors
    /// Where an object that may be Milvus cannot be read.
    pub(super) fn of(review: &Review<'a>) -> Result<Option<Self>, String> {
        let Some(change) = change(review)? else { return Ok(None) };
        Ok(Some(Self {
            namespace: review.namespace.to_string(),
            change,
            user: review.user_info.username.to_string(),
            by_kubectl: review.field_manager().starts_with("kubectl"),
        }))
    }

    /// Judges the change against what runs.
    #[must_use]
    pub fn judge(&self, scene: &Scene<'_>) -> Ruling {
        let deletes = match &self.change {
            Change::Delete(object) => Some(&object.meta().object),
            _ => None,
        };
        if deletes.is_some() && (scene.ending || CLEANERS.contains(&&*self.user)) {
            return Ruling::pass();
        }
        let (before, after, reference) = match self.sides(scene) {
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
            let same = |release: &&Release| release.name == new.name && release.app_name == new.app_name;
            old = before.snapshot.releases.iter().find(same).or_else(|| scene.remembered.iter().find(same)).cloned();
        }
        self.compare(scene, old, new, deletes)
    }

    fn compare(&self, scene: &Scene<'_>, old: Option<Release>, new: Release, deletes: Option<&ObjectRef>) -> Ruling {
        let one = |release: Release| Snapshot { releases: vec![release], ..Snapshot::default() };
        let before = old.map(one);
        let after = one(new);
        let accepted = self.accepted();
        let question = Question {
            before: before.as_ref(),
            after: &after,
            facts: &scene.facts,
            catalogue: &scene.catalogue,
            policies: &scene.policies,
            is_rollback: false,
            deletes,
            accepted: &accepted,
            overdue: scene.overdue,
        };
        let judgement = judge(&question);
        // What was so before is nobody's fault now.
        let acts =
            judgement.releases.iter().flat_map(|release| &release.findings).any(|judged| judged.action() > Some(Action::Audit));
        let known = match &before {
            Some(before) if acts => judge(&Question { after: before, deletes: None, ..question }),
            _ => Judgement::default(),
        };
        // A rule that failed, had no time or lacked a fact said nothing about what was so before: its outcome stands.
        let known: Vec<_> = known
            .releases
            .iter()
            .flat_map(|release| &release.findings)
            .map(|judged| &judged.finding)
            .filter(|finding| finding.failed.is_none() && !finding.not_evaluated)
            .collect();
        let leniency = self.leniency(scene, before.as_ref(), &after);
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
                            known.rule.id == finding.rule.id && known.message == finding.message && known.object == finding.object
                        })
                    })
                    .filter_map(|judged| Some((judged, leniency.apply(judged.finding.rule, judged.action()?)?)))
                    .filter(|(judged, _)| deletes.is_none() || DELETIONS.contains(&judged.finding.rule.id))
                    .collect();
                (release, findings)
            })
            .collect();
        let mut ruling =
            Outcome { gate: Gate::Workload, releases: &releases, policies: &scene.policies, way: Way::Object }.ruling();
        ruling.by_state = ruling.response.denied.is_some();
        ruling
    }

    /// The namespace before and after, and the object that changes; nothing where no rule looks at what changes.
    fn sides<'s>(&self, scene: &'s Scene<'_>) -> Result<Option<(Cow<'s, Place>, Place, ObjectRef)>, String> {
        let place = &*scene.place;
        Ok(match &self.change {
            Change::Put { new, old } => {
                let reference = new.meta().object.clone();
                let old = match old {
                    None => None,
                    Some(old) => match known(place, &reference, old) {
                        Some(workload) => Some(Object::Workload(workload)),
                        None => old.read(&self.namespace)?,
                    },
                };
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
            Change::Scale { kind, name, replicas } => {
                let Some(component) = place.component(kind, name) else { return Ok(None) };
                let mut workload = Workload::clone(&component.workload);
                workload.replicas = Some(*replicas);
                let reference = workload.meta.object.clone();
                Some((Cow::Borrowed(place), place.with(Object::Workload(Arc::new(workload))), reference))
            }
            Change::Delete(old) => {
                let before = place.with(old.clone());
                if let Object::Workload(workload) = old
                    && identify::component(workload).is_none()
                    && is_being_uninstalled(workload, scene)
                {
                    return Ok(None);
                }
                let reference = old.meta().object.clone();
                let after = before.without(&reference);
                Some((Cow::Owned(before), after, reference))
            }
        })
    }

    /// Rules that the request itself accepts.
    fn accepted(&self) -> Vec<String> {
        let Change::Put { new, old } = &self.change else { return Vec::new() };
        let Some(accepted) = new.meta().annotation(ACCEPT) else { return Vec::new() };
        let before = match old {
            Some(Old { head: Some(head), .. }) => head.annotation(ACCEPT).map(str::to_owned),
            Some(old) => {
                let old = old.read(&self.namespace).ok().flatten();
                old.and_then(|old| old.meta().annotation(ACCEPT).map(str::to_owned))
            }
            None => None,
        };
        acceptance::from_annotation(Some(accepted), before.as_deref())
    }

    fn leniency(&self, scene: &Scene<'_>, before: Option<&Snapshot>, after: &Snapshot) -> Leniency {
        let (release, wanted) = (before.and_then(|snapshot| snapshot.releases.first()), after.releases.first());
        if self.user == scene.accounts.job
            && let (Some(release), Some(wanted)) = (release, wanted)
            && let Some(run) = scene
                .facts
                .runs
                .iter()
                .flatten()
                .find(|run| run.namespace == self.namespace && run.release == release.name && plans(run, release, wanted))
        {
            return Leniency::Planned { returns: run.is_on_its_way_back() };
        }
        let Change::Put { new, .. } = &self.change else { return Leniency::None };
        // A version that was let through before the metadata was migrated does not hold after it. The rest of the release
        // changes at its own turn, and says nothing about this object.
        let version = wanted.into_iter().flat_map(|release| &release.components).find_map(|component| {
            let version = component.version();
            version.build().filter(|_| component.workload.meta.object == new.meta().object).map(|build| build.version)
        });
        let overtaken = release
            .zip(version)
            .is_some_and(|(release, version)| scene.facts.is_migrated_past(&release.name, Some(&self.namespace), version));
        if !overtaken && !scene.decisions.is_empty() {
            let digest = digest(new);
            if scene.decisions.iter().any(|decision| decision::covers(decision, &new.meta().object, &digest, scene.now)) {
                return Leniency::Decided;
            }
        }
        if new.meta().annotation(HELM_RELEASE).is_some() && !self.by_kubectl { Leniency::Helm } else { Leniency::None }
    }
}

/// Whether a change is what the step plans at which a run stands: its account alone is no leave.
fn plans(run: &RunFact, before: &Release, after: &Release) -> bool {
    let pairs = || {
        after.components.iter().filter_map(|new| {
            let same = |old: &&ComponentWorkload| old.workload.meta.object.name == new.workload.meta.object.name;
            before.components.iter().find(same).map(|old| (old, new))
        })
    };
    let images = pairs().filter(|(old, new)| old.image() != new.image()).all(|(_, new)| {
        let version = new.version().build().map(|build| build.version);
        // An image of one's own that says no version is planned as such.
        run.plans_images().is_some_and(|planned| version.is_none_or(|version| version == planned))
    });
    let starts = pairs().any(|(old, new)| new.workload.wanted_replicas() > old.workload.wanted_replicas());
    images && (!starts || run.plans_starts())
}

/// What a change need not meet.
#[derive(Clone, Copy)]
enum Leniency {
    /// Everything counts.
    None,
    /// A step of a run, by the job's account.
    Planned {
        /// Whether the run goes back.
        returns: bool,
    },
    /// The release gate judged this very object.
    Decided,
    /// Helm applies it and no decision is known: stopping it half-way is worse than anything but loss of data.
    Helm,
}

impl Leniency {
    fn apply(self, rule: &Rule, action: Action) -> Option<Action> {
        match self {
            Self::Planned { .. } if PLANNED.contains(&rule.id) => None,
            Self::Planned { returns: true } if RETURN.contains(&rule.id) => None,
            Self::Decided if rule.id != LOCK => None,
            Self::Helm if !rule.data_loss => Some(action.min(Action::Warn)),
            _ => Some(action),
        }
    }
}

fn digest(object: &Object) -> String {
    match object {
        Object::Workload(workload) => decision::of_workload(workload),
        Object::Config(config) => decision::of_config(config),
        Object::Claim(claim) => decision::of_claim(claim),
        _ => String::new(),
    }
}

/// Helm deletes a StatefulSet's Service before the StatefulSet itself; a StatefulSet that is deleted on its own still has it.
fn is_being_uninstalled(workload: &Workload, scene: &Scene<'_>) -> bool {
    let service = workload.stateful.as_ref().and_then(|stateful| stateful.service_name.as_deref());
    service.is_some_and(|service| !scene.services.iter().any(|known| known == service))
}

/// The release after its object is gone: it is found by its name, since nothing in it is the object any more.
fn stripped(after: &Place, old: Option<&Release>) -> Option<Release> {
    let old = old?;
    after.snapshot.releases.iter().find(|release| release.name == old.name && release.app_name == old.app_name).cloned()
}

/// The workload in memory, where the object before the change is that very state.
fn known(place: &Place, reference: &ObjectRef, old: &Old<'_>) -> Option<Arc<Workload>> {
    let head = old.head.as_ref()?;
    let known = place.component(&reference.kind, &reference.name)?;
    head.is_of(&known.workload).then(|| Arc::clone(&known.workload))
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

fn scale<'a>(review: &Review<'a>, kind: &'static str) -> Result<Option<Change<'a>>, String> {
    let Some(raw) = review.object else { return Ok(None) };
    let node: Tree<'_> = serde_json::from_str(raw.get()).map_err(|_| "milvus-guard cannot read the Scale".to_owned())?;
    let replicas = node.at(&["spec", "replicas"]).and_then(Tree::as_i64).unwrap_or(0);
    let name = if review.name.is_empty() { node.text_at(&["metadata", "name"]).unwrap_or_default() } else { &review.name };
    Ok(Some(Change::Scale { kind, name: name.to_owned(), replicas }))
}

fn put<'a>(review: &Review<'a>) -> Result<Option<Change<'a>>, String> {
    let Some(new) = review.object.map(Raw::get) else { return Ok(None) };
    // `null` is how the API server writes an absent object.
    let old = review.old_object.map(Raw::get).filter(|old| *old != "null");
    let mut old = old.map(|text| Old { text, head: None });
    if review.resource.group == "apps" {
        let head = review.object_at().map_or_else(|| Head::of(new), Head::at);
        if let Some(old) = &mut old {
            old.head = review.old_object_at().map_or_else(|| Head::of(old.text), Head::at);
        }
        let old_head = old.as_ref().and_then(|old| old.head.as_ref());
        // Rules look at nothing else of a workload, and most updates are of metadata: they cost a scan and no tree.
        if let (Some(new), Some(old)) = (&head, old_head)
            && new.has_same_rest(old)
        {
            return Ok(None);
        }
        let ours = |head: Option<&Head<'_>>, text: &str| head.map_or_else(|| may_be_ours(text), Head::may_be_ours);
        if !ours(head.as_ref(), new) && old.as_ref().is_none_or(|old| !ours(old.head.as_ref(), old.text)) {
            return Ok(None);
        }
    }
    let new = match review.object_at().and_then(|at| object_at(at, &review.namespace)) {
        Some(new) => Some(new),
        None => object(new, &review.namespace)?.1,
    };
    Ok(new.map(|new| Change::Put { new, old }))
}

fn delete<'a>(review: &Review<'a>) -> Result<Option<Change<'a>>, String> {
    let Some(raw) = review.old_object.or(review.object) else { return Ok(None) };
    let Some(old) = object(raw.get(), &review.namespace)?.1 else { return Ok(None) };
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
        (Object::Workload(new), Some(Object::Workload(old))) => !new.has_same_spec(old) && (is_ours(new) || is_ours(old)),
        (Object::Workload(new), _) => is_ours(new),
        (Object::Config(new), Some(Object::Config(old))) => files(new) != files(old),
        (Object::Config(_), _) => true,
        // Milvus' configuration taken out of its map.
        (Object::Other(Meta { object, .. }), Some(Object::Config(_))) => matches!(object.kind.as_str(), "ConfigMap" | "Secret"),
        (Object::Claim(new), Some(Object::Claim(old))) => !new.has_same_spec(old),
        _ => false,
    }
}

fn files(config: &crate::manifest::object::ConfigMap) -> Vec<(&str, Option<&str>)> {
    config.files.iter().map(|file| (file.key.as_str(), file.text.as_deref())).collect()
}
