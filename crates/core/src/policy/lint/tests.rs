//! Findings about policies and exceptions, one case after the other.

use proptest::prelude::*;

use super::*;
use crate::api::policy::Match;

use crate::policy::read::read;

const NOW: &str = "2026-01-01T00:00:00Z";

fn documents(text: &str) -> Vec<PolicyDocument> {
    let (documents, errors) = read(text, "p.yaml");
    assert!(errors.is_empty(), "{errors:?}");
    documents
}

/// Every finding as `line severity check`.
fn found(text: &str) -> Vec<String> {
    let all = lint(&documents(text), NOW.parse().unwrap());
    all.iter()
        .map(|lint| format!("{} {} {}", lint.origin.line, lint.severity, lint.check))
        .collect()
}

fn messages(text: &str) -> String {
    lint(&documents(text), NOW.parse().unwrap())
        .iter()
        .map(|lint| format!("{lint}\n"))
        .collect()
}

/// The spec begins on line 5.
fn policy(name: &str, spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "---\napiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {{name: {name}}}\nspec:\n{spec}"
    )
}

/// `rules` is on line 6, then namespace, release, reason, owner, expires.
fn exception(change: &[(&str, &str)]) -> String {
    let mut fields = vec![
        ("rules", "[MG201]"),
        ("namespace", "milvus"),
        ("release", "my-release"),
        ("reason", "agreed with the team"),
        ("owner", "dba"),
        ("expires", "2026-01-15T00:00:00Z"),
    ];
    for (key, value) in change {
        match fields.iter_mut().find(|(name, _)| name == key) {
            Some(field) => field.1 = value,
            None => fields.push((key, value)),
        }
    }
    let spec: String = fields
        .iter()
        .map(|(key, value)| format!("  {key}: {value}\n"))
        .collect();
    format!(
        "---\napiVersion: guard.milvus.io/v1alpha1\nkind: UpgradeException\nmetadata: {{name: e}}\nspec:\n{spec}"
    )
}

const NONE: [&str; 0] = [];

#[test]
fn good_documents_are_silent() {
    let a = policy(
        "a",
        "match: {namespaces: [prod]}\nrules:\n- {id: MG201, action: Hold}\n- {id: mg105, action: Enforce, params: {strict: true}}\nselfAccept: [MG104]",
    );
    let b = policy("b", "priority: 1\nrules:\n- {id: MG201, action: Warn}");
    assert_eq!(found(&format!("{a}{b}{}", exception(&[]))), NONE);
}

#[test]
fn unknown_rules_are_errors_with_a_suggestion() {
    let text = policy(
        "a",
        "rules:\n- {id: MG021, action: Warn}\n- {id: component-order, action: Warn}\nselfAccept: [MG2O1, component-ordr]",
    );
    assert_eq!(
        found(&text),
        [
            "7 error unknown-rule",
            "8 error unknown-rule",
            "9 error unknown-rule",
            "9 error unknown-rule"
        ]
    );
    let said = messages(&text);
    for part in [
        "rule 'MG021' does not exist",
        "'component-order' is the name of MG201",
        "'MG2O1' does not exist; did you mean MG201 (component-order)?",
        "'component-ordr' does not exist; did you mean MG201",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(
        said.starts_with("p.yaml:7: error: UpgradePolicy/a: rule"),
        "{said}"
    );
    assert_eq!(
        found(&exception(&[("rules", "[XX]")])),
        ["6 error unknown-rule"]
    );
}

#[test]
fn a_rule_is_set_once() {
    let text = |second: &str| {
        policy(
            "a",
            &format!("rules:\n- {{id: MG201, action: Warn}}\n- {{id: mg201, action: {second}}}"),
        )
    };
    assert_eq!(found(&text("Enforce")), ["8 error duplicate-rule"]);
    assert_eq!(found(&text("Warn")), ["8 warning duplicate-rule"]);
    assert!(messages(&text("Enforce")).contains("has another value at p.yaml:7"));
    assert_eq!(
        found(&policy("a", "selfAccept: [MG201, MG201]")),
        ["6 warning duplicate-rule"]
    );
    assert_eq!(
        found(&exception(&[("rules", "[MG201, mg201]")])),
        ["6 warning duplicate-rule"]
    );
}

#[test]
fn equal_priorities_that_disagree_are_contradictions() {
    let pair = |first: &str, second: &str| {
        found(&format!(
            "{}{}",
            policy(
                "a",
                &format!("rules: [{{id: MG201, action: Warn}}]\n{first}")
            ),
            policy(
                "b",
                &format!("rules: [{{id: MG201, action: Enforce}}]\n{second}")
            )
        ))
    };
    let here = |line: u32| vec![format!("{line} warning contradiction")];
    assert_eq!(pair("priority: 0", ""), here(13));
    assert_eq!(pair("priority: 1", ""), NONE);
    assert_eq!(
        pair("match: {namespaces: [x, y]}", "match: {namespaces: [y]}"),
        here(13)
    );
    assert_eq!(
        pair("match: {namespaces: [x]}", "match: {namespaces: [y]}"),
        NONE
    );
    assert_eq!(
        pair(
            "match: {namespaces: [x], releases: [r]}",
            "match: {namespaces: [x], releases: [q]}"
        ),
        NONE
    );
    assert_eq!(
        pair(
            "match: {namespaceSelector: {matchLabels: {env: prod}}}",
            "match: {namespaceSelector: {matchLabels: {env: dev}}}"
        ),
        NONE
    );
    assert_eq!(
        pair(
            "match: {namespaceSelector: {matchLabels: {env: prod}}}",
            "match: {namespaceSelector: {matchLabels: {team: a}}}"
        ),
        here(13)
    );
    assert_eq!(
        pair(
            "match: {namespaceSelector: {matchLabels: {env: prod}}}",
            "match: {namespaceSelector: {matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}}"
        ),
        NONE
    );
    assert_eq!(
        pair(
            "match: {namespaceSelector: {matchExpressions: [{key: env, operator: Exists}]}}",
            "match: {namespaceSelector: {matchExpressions: [{key: env, operator: DoesNotExist}]}}"
        ),
        NONE
    );
    assert_eq!(
        pair(
            "match: {namespaces: [x]}",
            "match: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}}"
        ),
        NONE
    );
}

#[test]
fn what_comes_to_the_same_is_no_contradiction() {
    let two = |first: &str, second: &str| {
        found(&format!("{}{}", policy("a", first), policy("b", second)))
    };
    assert_eq!(
        two(
            "rules: [{id: MG201, action: Warn}]",
            "rules: [{id: mg201, action: Warn}]"
        ),
        NONE
    );
    assert_eq!(
        two(
            "rules: [{id: MG201, action: Warn}]",
            "rules: [{id: MG102, action: Enforce}]"
        ),
        NONE
    );
    let strict = two(
        "rules: [{id: MG102, action: Enforce}]",
        "rules: [{id: MG102, action: Enforce, params: {strict: true}}]",
    );
    assert_eq!(strict, ["12 warning contradiction"]);
    assert_eq!(
        two("selfAccept: [MG104, MG105]", "selfAccept: [MG105, mg104]"),
        NONE
    );
    assert_eq!(
        two("selfAccept: [MG104]", "selfAccept: []"),
        ["12 error contradiction"]
    );
}

#[test]
fn hold_is_for_mg201() {
    assert_eq!(
        found(&policy("a", "rules:\n- id: MG102\n  action: Hold")),
        ["8 error hold"]
    );
    assert_eq!(
        found(&policy("a", "rules:\n- id: mg201\n  action: Hold")),
        NONE
    );
}

#[test]
fn rules_that_guard_data_are_never_self_accepted() {
    for rule in rules::ALL {
        let expected: &[&str] = if rule.data_loss {
            &["6 error self-accept"]
        } else {
            &[]
        };
        assert_eq!(
            found(&policy("a", &format!("selfAccept: [{}]", rule.id))),
            expected,
            "{}",
            rule.id
        );
    }
}

#[test]
fn settings_without_effect_are_warned_about() {
    let strict = "rules:\n- id: MG102\n  action: Audit\n  params: {strict: true}";
    assert_eq!(found(&policy("a", strict)), ["9 warning no-effect"]);
    assert_eq!(found(&policy("a", "priority: 3")), ["6 warning no-effect"]);
    let never = "rules: [{id: MG201, action: Warn}]\nmatch:\n  namespaceSelector: {matchExpressions: [{key: env, operator: In}]}";
    assert_eq!(found(&policy("a", never)), ["8 warning matches-nothing"]);
}

#[test]
fn exceptions_end_within_thirty_days() {
    let at = |expires: &str| found(&exception(&[("expires", expires)]));
    assert_eq!(at("2025-12-31T23:59:59Z"), ["11 warning expired"]);
    assert_eq!(
        at(NOW),
        ["11 warning expired"],
        "at that very moment it no longer counts"
    );
    assert_eq!(at("2026-01-01T00:00:01Z"), NONE);
    assert_eq!(at("2026-01-31T00:00:00Z"), NONE);
    assert_eq!(at("2026-01-31T00:00:01Z"), ["11 error too-far-ahead"]);
    assert!(
        messages(&exception(&[("expires", "2027-01-01T00:00:00Z")]))
            .contains("the latest is 2026-01-31T00:00:00Z")
    );
    assert!(
        lint(&documents(&exception(&[])), Timestamp::MAX).len() == 1,
        "the end of time is not overflow"
    );
}

#[test]
fn names_are_exact() {
    assert_eq!(
        found(&exception(&[("namespace", "\"*\"")])),
        ["7 error wildcard"]
    );
    assert_eq!(
        found(&exception(&[("release", "prod-*")])),
        ["8 error wildcard"]
    );
    assert_eq!(
        found(&exception(&[("rules", "[\"MG2*\"]")])),
        ["6 error wildcard"]
    );
    assert_eq!(
        found(&exception(&[("to", "\"*\"")])),
        ["12 warning wildcard"]
    );
    assert_eq!(
        found(&exception(&[("namespace", "\"\"")])),
        ["7 error empty-name"]
    );
    let in_match = policy(
        "a",
        "match:\n  namespaces:\n  - prod-*\n  releases: [\"?\"]\nrules: [{id: MG201, action: Warn}]",
    );
    assert_eq!(found(&in_match), ["8 error wildcard", "9 error wildcard"]);
}

#[test]
fn reason_and_owner_are_given() {
    assert_eq!(
        found(&exception(&[("reason", "\" \""), ("owner", "\"\"")])),
        ["9 error empty-field", "10 error empty-field"]
    );
}

#[test]
fn exceptions_name_rules_that_deny_or_warn() {
    for rule in rules::ALL {
        let expected: &[&str] = if rule.default == DefaultAction::Audit {
            &["6 warning no-effect"]
        } else {
            &[]
        };
        assert_eq!(
            found(&exception(&[("rules", &format!("[{}]", rule.id))])),
            expected,
            "{}",
            rule.id
        );
    }
    assert_eq!(found(&exception(&[("rules", "[]")])), ["6 error no-effect"]);
}

#[test]
fn names_are_unique_within_a_kind() {
    let one = policy("e", "rules: [{id: MG201, action: Warn}]");
    assert_eq!(found(&format!("{one}{one}")), ["10 error duplicate-name"]);
    assert!(messages(&format!("{one}{one}")).contains("p.yaml:4 has the same name"));
    assert_eq!(
        found(&format!("{one}{}", exception(&[]))),
        NONE,
        "each kind has its own names"
    );
    assert_eq!(
        found(&policy("\"\"", "rules: [{id: MG201, action: Warn}]")),
        ["4 error empty-name"]
    );
}

proptest! {
    #[test]
    fn arbitrary_values_never_panic(id in "\\PC{0,70}", name in "\\PC{0,20}") {
        let text = serde_json::json!({
            "apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": &name},
            "spec": {"rules": [{"id": &id, "action": "Hold"}, {"id": &id, "action": "Warn"}], "selfAccept": [&id, &name]},
        });
        let (read, _) = read(&text.to_string(), "p");
        let _ = lint(&read, NOW.parse().unwrap());
    }

    #[test]
    fn overlap_is_symmetric(a in 0usize..6, b in 0usize..6) {
        let all = ["{}", "{\"namespaces\":[\"x\"]}", "{\"namespaces\":[\"y\"],\"releases\":[\"r\"]}", "{\"releases\":[\"q\"]}",
            "{\"namespaceSelector\":{\"matchLabels\":{\"kubernetes.io/metadata.name\":\"x\"}}}",
            "{\"namespaceSelector\":{\"matchExpressions\":[{\"key\":\"e\",\"operator\":\"Exists\"}]}}"];
        let read = |index: usize| serde_json::from_str::<Match>(all[index]).unwrap();
        prop_assert_eq!(overlap(&read(a), &read(b)), overlap(&read(b), &read(a)));
    }
}
