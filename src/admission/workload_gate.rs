//! The workload gate: single objects, by whatever tool. The backstop behind the release gate, and the only gate for
//! kubectl, Argo CD and operators.

use crate::{
    facts::RunFact,
    judge::{Judgement, Question, judge},
    manifest::{
        Node, Object,
        object::{Meta, ObjectRef, Workload},
    },
    milvus::{Place, Release, Snapshot, dependency, release::ComponentWorkload, snapshot},
    policy::Action,
    rules::Rule,
};

use super::{
    acceptance::{self, ACCEPT},
    decision,
    release_gate::HELM_RELEASE,
    review::{Operation, Review},
    ruling::{Outcome, Ruling, Way},
    scene::Scene,
    task::{Gate, object},
};

/// Those who delete what belongs to something that is already gone.
const CLEANERS: [&str; 3] = [
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:kube-controller-manager",
];

/// Rules that a run's own steps do not meet: they are what the run plans.
const PLANNED: [&str; 9] = ["MG106", "MG201", "MG203", "MG205", "MG206", "MG207", "MG208", "MG703", "MG704"];
/// Rules that a run does not meet on its way back, where it puts back the version that it recorded.
const RETURN: [&str; 4] = ["MG102", "MG103", "MG104", "MG110"];
/// Rules about deletions.
const DELETIONS: [&str; 3] = ["MG208", "MG305", "MG401"];
/// The rule that counts whatever was decided before: a run came in between.
const LOCK: &str = "MG208";

/// One object of Milvus, or of what Milvus stands on, that would change.
#[derive(Debug)]
pub struct WorkloadTask {
    /// Its namespace.
    pub namespace: String,
    change: Change,
    user: String,
    /// Whether a person's kubectl asks, not a tool that applies a chart.
    by_kubectl: bool,
}

#[derive(Debug)]
enum Change {
    Put { new: Box<Object>, old: Option<Box<Object>> },
    Scale { kind: &'static str, name: String, replicas: i64 },
    Delete(Box<Object>),
}

impl WorkloadTask {
    /// Reads what would change; nothing where it is of no interest.
    ///
    /// # Errors
    /// Where an object that may be Milvus cannot be read.
    pub(super) fn of(review: &Review<'_>) -> Result<Option<Self>, String> {
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
        let Some((before, after, reference)) = self.sides(scene) else { return Ruling::pass() };
        let owner = |place: &Place| place.owner(&reference).cloned();
        let mut old = owner(&before);
        let Some(new) = owner(&after).or_else(|| deletes.and_then(|_| stripped(&after, old.as_ref()))) else {
            return Ruling::pass();
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
            catalogue: scene.catalogue,
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
            _ => Judgement { releases: Vec::new() },
        };
        // A rule that failed or had no time said nothing about what was so before: its outcome stands.
        let known: Vec<_> = known
            .releases
            .iter()
            .flat_map(|release| &release.findings)
            .map(|judged| &judged.finding)
            .filter(|finding| finding.failed.is_none())
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

    /// The namespace before and after, and the object that changes.
    fn sides(&self, scene: &Scene<'_>) -> Option<(Place, Place, ObjectRef)> {
        let place = &*scene.place;
        match &self.change {
            Change::Put { new, old } => {
                // The request knows the object better than the cache.
                let before = match old {
                    Some(old) if !place.holds(old) => place.with(Object::clone(old)),
                    _ => place.clone(),
                };
                let after = before.with(Object::clone(new));
                Some((before, after, new.meta().object.clone()))
            }
            Change::Scale { kind, name, replicas } => {
                let mut workload = place.component(kind, name)?.workload.clone();
                workload.replicas = Some(*replicas);
                let reference = workload.meta.object.clone();
                Some((place.clone(), place.with(Object::Workload(Box::new(workload))), reference))
            }
            Change::Delete(old) => {
                let before = place.with(Object::clone(old));
                if let Object::Workload(workload) = &**old
                    && snapshot::component(workload).is_none()
                    && is_being_uninstalled(workload, scene)
                {
                    return None;
                }
                let reference = old.meta().object.clone();
                let after = before.without(&reference);
                Some((before, after, reference))
            }
        }
    }

    /// Rules that the request itself accepts.
    fn accepted(&self) -> Vec<String> {
        match &self.change {
            Change::Put { new, old } => {
                let old = old.as_ref().and_then(|old| old.meta().annotation(ACCEPT));
                acceptance::from_annotation(new.meta().annotation(ACCEPT), old)
            }
            _ => Vec::new(),
        }
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
        let digest = digest(new);
        if scene.decisions.iter().any(|decision| decision::covers(decision, &new.meta().object, &digest, scene.now)) {
            return Leniency::Decided;
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

fn change(review: &Review<'_>) -> Result<Option<Change>, String> {
    let kind = match &*review.resource.resource {
        "deployments" => "Deployment",
        "statefulsets" => "StatefulSet",
        "configmaps" => "ConfigMap",
        _ => "PersistentVolumeClaim",
    };
    match (&*review.sub_resource, review.operation) {
        ("scale", Operation::Update) => scale(review, kind),
        ("", Operation::Create | Operation::Update) => put(review),
        ("", Operation::Delete) => delete(review),
        _ => Ok(None),
    }
}

fn scale(review: &Review<'_>, kind: &'static str) -> Result<Option<Change>, String> {
    let Some(raw) = review.object else { return Ok(None) };
    let node: Node = serde_json::from_str(raw.get()).map_err(|_| "milvus-guard cannot read the Scale".to_owned())?;
    let replicas = node.at(&["spec", "replicas"]).and_then(Node::as_i64).unwrap_or(0);
    let name = if review.name.is_empty() { node.text_at(&["metadata", "name"]).unwrap_or_default() } else { &review.name };
    Ok(Some(Change::Scale { kind, name: name.to_owned(), replicas }))
}

fn put(review: &Review<'_>) -> Result<Option<Change>, String> {
    let (Some(raw), old) = (review.object, review.old_object) else { return Ok(None) };
    let read = |raw: &str| object(raw, &review.namespace).map(|(_, object)| object);
    // `null` is how the API server writes an absent object.
    let old = old.map(serde_json::value::RawValue::get).filter(|old| *old != "null");
    if old.is_some_and(|old| has_same_spec(raw.get(), old)) && review.resource.group == "apps" {
        return Ok(None);
    }
    let is_workload = review.resource.group == "apps";
    if is_workload && !may_be_ours(raw.get()) && old.is_none_or(|old| !may_be_ours(old)) {
        return Ok(None);
    }
    let Some(new) = read(raw.get())? else { return Ok(None) };
    let old = old.map(read).transpose()?.flatten();
    Ok(matters(&new, old.as_ref()).then(|| Change::Put { new: Box::new(new), old: old.map(Box::new) }))
}

/// Whether a text may hold Milvus or what it stands on; where it certainly does not, no tree is built. An escaped letter
/// could hide a word, so any escape of that kind goes the long way.
fn may_be_ours(text: &str) -> bool {
    text.contains("\\u") || dependency::WORDS.iter().any(|word| text.contains(word))
}

/// Whether the specifications are the same text. Rules look at nothing else of a workload (see [`matters`]), and most
/// updates are of metadata: they cost a scan and no tree.
fn has_same_spec(new: &str, old: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Workload<'a> {
        #[serde(borrow)]
        spec: &'a serde_json::value::RawValue,
    }
    let spec = |text| serde_json::from_str::<Workload<'_>>(text).ok().map(|workload| workload.spec.get());
    // A key that is there twice reads as nothing, and goes the long way.
    spec(new).is_some_and(|new| Some(new) == spec(old))
}

fn delete(review: &Review<'_>) -> Result<Option<Change>, String> {
    let Some(raw) = review.old_object.or(review.object) else { return Ok(None) };
    let Some(old) = object(raw.get(), &review.namespace)?.1 else { return Ok(None) };
    let matters = match &old {
        Object::Workload(workload) => is_ours(workload),
        Object::Claim(_) => true,
        _ => false,
    };
    Ok(matters.then(|| Change::Delete(Box::new(old))))
}

fn is_ours(workload: &Workload) -> bool {
    snapshot::component(workload).is_some() || dependency::family(workload).is_some()
}

/// Whether anything changes that a rule could look at.
fn matters(new: &Object, old: Option<&Object>) -> bool {
    match (new, old) {
        (Object::Workload(new), Some(Object::Workload(old))) => !new.has_same_spec(old) && (is_ours(new) || is_ours(old)),
        (Object::Workload(new), _) => is_ours(new),
        (Object::Config(new), Some(Object::Config(old))) => files(new) != files(old),
        (Object::Config(_), _) => true,
        // Milvus' configuration taken out of its map.
        (Object::Other(Meta { object, .. }), Some(Object::Config(_))) => object.kind == "ConfigMap",
        (Object::Claim(new), Some(Object::Claim(old))) => new.storage != old.storage,
        _ => false,
    }
}

fn files(config: &crate::manifest::object::ConfigMap) -> Vec<(&str, &str)> {
    config.files.iter().map(|file| (file.key.as_str(), &*file.text)).collect()
}
