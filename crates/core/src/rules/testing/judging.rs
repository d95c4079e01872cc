//! What a rule finds between two fixtures, asked through every door: `check`, the release gate and
//! the workload gate must agree.

use crate::{
    admission::parity::{self, Sent, found_object_by_object},
    change::Upgrade,
    evidence::Facts,
    manifest::{Document, Object, Origin, documents},
    milvus::{Release, catalogue::Catalogue, snapshot::Builder},
    policy::Action,
    rules::{ALL, ChangeAnswers, Finding, Rule, Severity, State, run_one, settle::settle},
};

use super::Fixture;

/// The objects of a fixture.
pub fn objects(fixture: &Fixture) -> Vec<Object> {
    fixture.objects()
}

/// What a rule finds between two fixtures, without facts.
pub fn judge(rule: &'static Rule, before: Option<&Fixture>, after: &Fixture) -> Vec<Finding> {
    judge_with(rule, before, after, &Facts::default())
}

/// What a rule finds between two fixtures.
pub fn judge_with(
    rule: &'static Rule,
    before: Option<&Fixture>,
    after: &Fixture,
    facts: &Facts,
) -> Vec<Finding> {
    judge_change(rule, before, after, facts, false)
}

/// Rules of data loss that see a change only as a whole, each with the reason.
const WHOLE: [(&str, &str); 2] = [
    (
        "MG502",
        "the chart's version and the queue are in different objects; the change of the queue alone is MG301",
    ),
    ("MG503", "only Helm's record holds values"),
];

/// Rules for which the order of the objects matters, each with the reason.
const ORDERED: [(&str, &str); 1] = [(
    "MG407",
    "etcd may stop after Milvus did, and change while Milvus is stopped",
)];

/// A denial for the sake of data holds for every order in which a tool sends the objects one by
/// one; what is harmless as a whole is never denied on the way.
fn object_by_object(
    rule: &'static Rule,
    before: &Fixture,
    after: &Fixture,
    facts: &Facts,
    found: &[Finding],
) {
    if !rule.data_loss
        || before.release_name() != after.release_name()
        || WHOLE.iter().any(|(id, _)| *id == rule.id)
    {
        return;
    }
    let by_check = found
        .iter()
        .any(|finding| finding.severity == Severity::Deny && !finding.not_evaluated);
    for sent in [Sent::InOrder, Sent::Reversed] {
        let seen = found_object_by_object(before, after, facts, sent);
        let by_gate = seen
            .iter()
            .any(|(id, action)| *id == rule.id && *action == Action::Deny);
        // In another order the same objects may be wrong, or right, on the way.
        let stops = before.release().is_stopped() || after.release().is_stopped();
        if stops && ORDERED.iter().any(|(id, _)| *id == rule.id) {
            continue;
        }
        assert_eq!(
            by_gate, by_check,
            "{} {sent:?}: the workload gate finds {seen:?}, check {found:?}",
            rule.id
        );
    }
}

/// The same, with the choice of a rollback.
pub fn judge_change(
    rule: &'static Rule,
    before: Option<&Fixture>,
    after: &Fixture,
    facts: &Facts,
    is_rollback: bool,
) -> Vec<Finding> {
    let through_the_gate = parity::found(before, after, facts, is_rollback);
    let fixtures = before.map(|before| (before.clone(), after.clone()));
    let before = before.map(Fixture::release);
    let after = after.release();
    let mut upgrade = Upgrade::new(before.as_ref(), &after, facts, Catalogue::embedded());
    upgrade.is_rollback = is_rollback;
    let mut found = run_one(rule, &upgrade, &ChangeAnswers::new(&upgrade)).into_vec();
    settle(&upgrade, &mut found);
    // The gates know the registered rules: all but the one of `rules::new_rule`.
    let is_registered = ALL.iter().any(|one| one.id == rule.id);
    if let Some(through_the_gate) = through_the_gate.filter(|_| is_registered) {
        // For a rollback only rules that guard data deny; nothing else may differ.
        let by_door: Vec<_> = through_the_gate
            .iter()
            .filter(|(id, _)| *id == rule.id)
            .collect();
        let by_check: Vec<_> = found
            .iter()
            .filter(|finding| !finding.not_evaluated)
            .collect();
        assert_eq!(
            by_door.len(),
            by_check.len(),
            "{}: the webhook finds {by_door:?}, check {by_check:?}",
            rule.id
        );
        if let (Some((before, after)), false) = (fixtures, is_rollback) {
            object_by_object(rule, &before, &after, facts, &found);
        }
    }
    found
}

/// What a rule finds between two releases that no gate sees as one change, such as a move to
/// another namespace.
pub fn judge_releases(rule: &'static Rule, before: &Release, after: &Release) -> Vec<Finding> {
    let facts = Facts::default();
    let upgrade = Upgrade::new(Some(before), after, &facts, Catalogue::embedded());
    let mut found = run_one(rule, &upgrade, &ChangeAnswers::new(&upgrade)).into_vec();
    settle(&upgrade, &mut found);
    found
}

/// The release of a manifest in the namespace of fixtures.
pub fn release_of(text: &str) -> Release {
    let mut builder = Builder::default();
    for object in objects_of(text) {
        builder.add(object);
    }
    let mut releases = builder.build().releases.into_iter();
    releases.next().expect("a release")
}

/// The objects of a manifest in the namespace of fixtures.
pub fn objects_of(text: &str) -> Vec<Object> {
    let read = |document: Document<'_>| {
        let origin = Origin {
            source: "manifest.yaml".into(),
            document: document.index,
            line: document.root.line,
        };
        Object::read(&document.root, &origin, Some("milvus")).expect("an object")
    };
    documents(text)
        .map(|document| read(document.expect("valid YAML")))
        .collect()
}

/// How a rule comes out between two fixtures.
pub fn state(
    rule: &'static Rule,
    before: Option<&Fixture>,
    after: &Fixture,
    facts: &Facts,
) -> State {
    let before = before.map(Fixture::release);
    let after = after.release();
    let upgrade = Upgrade::new(before.as_ref(), &after, facts, Catalogue::embedded());
    run_one(rule, &upgrade, &ChangeAnswers::new(&upgrade)).state()
}
