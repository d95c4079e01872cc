//! What every rule says, as its user reads it: a snapshot for each rule, with up to two of its
//! findings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use crate::{
    evidence::{DeployerFact, Facts, RunFact, RunKind},
    milvus::{Component, Version},
};

use super::{
    ALL, Finding, Severity,
    changes::{changes, facts},
    managers::{found, managers},
    testing::Fixture,
};

/// Changes for the rules that [`changes`] leaves silent, each with its facts.
fn more() -> Vec<(Fixture, Fixture, Facts)> {
    let run = |kind| RunFact {
        run: "milvus/upgrade-1".into(),
        release: "my-release".into(),
        namespace: "milvus".into(),
        kind,
        phase: "Running".into(),
        from: Some(Version::new(2, 1, 4)),
        to: Some(Version::new(2, 2, 16)),
        action: None,
        waits_for_helm: false,
    };
    let deployer = |self_heal, retry_limit| DeployerFact {
        release: "my-release".into(),
        tool: "argo-cd".into(),
        name: "vec".into(),
        self_heal,
        retry_limit,
    };
    let with_runs = |runs| Facts {
        runs: Some(runs),
        ..facts()
    };
    let with_deployers = |deployers| Facts {
        deployers: Some(deployers),
        ..facts()
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: minio}\n";
    let etcd = |replicas: i64| {
        format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-etcd}}\nspec:\n  replicas: {replicas}\n  selector:\n    matchLabels: {{app.kubernetes.io/name: etcd, app.kubernetes.io/instance: my-release}}\n  template:\n    spec:\n      containers: [{{name: etcd, image: \"milvusdb/etcd:3.5.18-r1\"}}]\n"
        )
    };
    let selected = |label: &str| {
        format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-etcd}}\nspec:\n  replicas: 1\n  selector:\n    matchLabels: {{app.kubernetes.io/name: etcd, app.kubernetes.io/instance: my-release{label}}}\n  template:\n    spec:\n      containers: [{{name: etcd, image: \"milvusdb/etcd:3.5.18-r1\"}}]\n"
        )
    };
    let limited = |fixture: Fixture, component, limits: &str| {
        fixture.container(component, &format!("resources: {{limits: {{{limits}}}}}"))
    };
    let patch = || {
        (
            Fixture::cluster("2.5.16").chart("4.2.40"),
            Fixture::cluster("2.5.27").chart("4.2.40"),
        )
    };
    let (from, to) = patch();
    vec![
        (
            Fixture::cluster("2.1.4"),
            Fixture::cluster("2.2.16"),
            with_runs(vec![run(RunKind::Migration)]),
        ),
        (
            Fixture::cluster("2.1.4"),
            Fixture::cluster("2.1.4").without(Component::QueryNode),
            with_runs(vec![run(RunKind::Rolling)]),
        ),
        (from.clone(), to.clone().object(service), facts()),
        (
            from.clone().object(&etcd(3)),
            from.clone().object(&etcd(1)),
            facts(),
        ),
        (
            from.clone().object(&etcd(3)),
            from.clone().object(&etcd(2)),
            facts(),
        ),
        (
            from.clone().object(&etcd(1)),
            from.clone().object(&etcd(3)),
            facts(),
        ),
        (
            from.clone(),
            to.clone(),
            with_deployers(vec![deployer(true, Some(-1))]),
        ),
        (
            from.clone(),
            to.clone(),
            with_deployers(vec![deployer(false, Some(5))]),
        ),
        (
            limited(
                Fixture::cluster("2.5.27"),
                Component::IndexNode,
                "cpu: 8, memory: 16Gi",
            ),
            limited(
                Fixture::cluster("2.6.22").chart("5.0.14"),
                Component::DataNode,
                "cpu: 2, memory: 4Gi",
            ),
            facts(),
        ),
        (
            Fixture::cluster("2.5.27"),
            limited(
                Fixture::cluster("2.6.22").chart("5.0.14"),
                Component::StreamingNode,
                "cpu: 1, memory: 4Gi",
            ),
            facts(),
        ),
        (
            from.clone().object(&selected("")),
            from.clone().object(&selected(", team: search")),
            facts(),
        ),
        (
            from,
            to,
            Facts {
                helm: Some(Version::new(3, 9, 0)),
                ..facts()
            },
        ),
    ]
}

/// A finding with the manager of its release.
type Said = (&'static str, Finding);

/// Findings of every rule over all changes and managers, in the order of the changes.
fn said() -> BTreeMap<&'static str, Vec<Said>> {
    let changes = changes()
        .into_iter()
        .map(|(before, after)| (before, after, facts()))
        .chain(more());
    let mut said = BTreeMap::<_, Vec<Said>>::new();
    // The managers whose words differ most come first.
    let mut managers: Vec<_> = managers()
        .into_iter()
        .map(|(name, manager, ..)| (name, manager))
        .collect();
    managers.sort_by_key(|(name, _)| {
        ["chart", "operator", "by hand"]
            .iter()
            .position(|first| first == name)
            .unwrap_or(3)
    });
    for (before, after, facts) in changes {
        for (name, manager) in &managers {
            for finding in found(&before, &after, manager, &facts) {
                if !finding.not_evaluated {
                    said.entry(finding.rule.id)
                        .or_default()
                        .push((*name, finding));
                }
            }
        }
    }
    said
}

/// The first finding, and one of another severity or manager that says something else, if there is
/// one.
fn two(said: &[Said]) -> Vec<&Said> {
    let Some(first) = said.first() else {
        return Vec::new();
    };
    let differs = |other: &&Said| other.0 != first.0 || other.1.severity != first.1.severity;
    let preferred: [fn(&Said, &Said) -> bool; 4] = [
        |a, b| a.1.severity != b.1.severity,
        |a, b| a.1.message != b.1.message && a.1.fix.text != b.1.fix.text,
        |a, b| a.1.fix.text != b.1.fix.text,
        |a, b| a.1.message != b.1.message,
    ];
    let second = preferred.iter().find_map(|is_preferred| {
        said.iter()
            .filter(differs)
            .find(|other| is_preferred(first, other))
    });
    std::iter::once(first).chain(second).collect()
}

fn block((manager, finding): &Said) -> String {
    let action = match finding.severity {
        Severity::Deny => "deny",
        Severity::Warn => "warn",
        Severity::Audit => "audit",
    };
    let mut text = format!(
        "{} {action} ({manager})\n  message: {}\n",
        finding.rule.id, finding.message
    );
    let _ = writeln!(
        text,
        "  why: {}",
        finding.why.as_deref().unwrap_or(finding.rule.why)
    );
    let _ = writeln!(text, "  fix: {}", finding.fix.text);
    if let Some(command) = &finding.fix.command {
        let _ = writeln!(text, "  command: {command}");
    }
    text
}

#[test]
fn every_rule_says_what_it_found_why_it_matters_and_what_to_do() {
    let said = said();
    for rule in ALL {
        let findings = said.get(rule.id).map(Vec::as_slice).unwrap_or_default();
        assert!(
            !findings.is_empty(),
            "{} has no message: add a change for it",
            rule.id
        );
        let page: Vec<String> = two(findings).into_iter().map(block).collect();
        insta::with_settings!(
            {
                snapshot_path => "messages",
                prepend_module_to_snapshot => false,
                omit_expression => true,
            },
            { insta::assert_snapshot!(rule.id, page.join("\n")) }
        );
    }
}

/// Faults of form that no reader should see.
fn faults(text: &str) -> Vec<&'static str> {
    const PAIRS: [&str; 7] = ["..", ",,", ";;", " .", " ,", ". .", ".,"];
    const IDIOMS: [&str; 8] = [
        " is no ",
        " goes on",
        "stands still",
        "nothing where",
        "for ever ",
        "somebody",
        "whoever",
        " anew",
    ];
    let text = text
        .replace("...", "")
        .replace("is no longer", "")
        .replace("e.g. ", "");
    let mut found: Vec<&str> = PAIRS
        .iter()
        .chain(&IDIOMS)
        .copied()
        .filter(|part| text.contains(part))
        .collect();
    let lower_case = text.match_indices(". ").any(|(at, _)| {
        let rest: String = text[at + 2..]
            .chars()
            .take_while(|c| !c.is_whitespace())
            .collect();
        rest.chars().next().is_some_and(char::is_lowercase)
            && rest.chars().all(|c| c.is_ascii_lowercase())
    });
    if lower_case {
        found.push("a sentence that starts in lower case");
    }
    found
}

#[test]
fn no_message_has_a_fault_of_form() {
    let mut seen = BTreeSet::new();
    for (manager, finding) in said().into_values().flatten() {
        let id = finding.rule.id;
        let why = finding.why.as_deref().unwrap_or(finding.rule.why);
        for text in [finding.message.as_str(), why, finding.fix.text.as_ref()] {
            assert!(!text.is_empty(), "{id} ({manager}): {finding:?}");
            for fault in faults(text) {
                seen.insert(format!("{id}: '{fault}' in: {text}"));
            }
        }
        if finding.message.ends_with('.') {
            seen.insert(format!(
                "{id}: a full stop ends the message: {}",
                finding.message
            ));
        }
        for text in [why, finding.fix.text.as_ref()] {
            if !text.ends_with(['.', ':', '?']) {
                seen.insert(format!("{id}: no full stop: {text}"));
            }
        }
    }
    assert!(
        seen.is_empty(),
        "{}",
        seen.into_iter().collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn faults_of_form_are_seen() {
    for text in [
        "Stop it..",
        "it is no name.",
        "One. then two.",
        "Add a, , b.",
    ] {
        assert!(!faults(text).is_empty(), "{text}");
    }
    assert!(faults("Set a.b=c. Then run it, e.g. with ...: x.").is_empty());
}
