//! Two reports that hold everything that a format must cope with. The snapshot of every format shows
//! them by a fixed list of rules, so that a new rule changes none of them. Tests of what is true of
//! any report take the same two by every rule.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    api::policy::{
        API_VERSION, ExceptionSpec, Metadata, Params, PolicyAction, PolicySpec, RuleSetting,
        UpgradeException, UpgradePolicy,
    },
    api::{RunKind, RunPhase},
    evaluate::{Evaluation, EvaluationInput, judge},
    evidence::{DriftFact, Facts},
    inventory::LastRun,
    milvus::{Component, Version, catalogue::Catalogue},
    policy::PolicySet,
    rules::testing::Fixture,
};

use super::{InputEntry, Outcome, Report};

/// Of each group some, so that every way in which a rule can come out is there, and several rules
/// with the same reason.
const RULES: [&str; 25] = [
    "MG101", "MG102", "MG103", "MG104", "MG105", "MG106", "MG108", "MG109", "MG110", "MG201",
    "MG202", "MG204", "MG301", "MG302", "MG306", "MG308", "MG403", "MG404", "MG405", "MG501",
    "MG503", "MG504", "MG601", "MG701", "MG703",
];

/// Which rules a sample is judged by.
#[derive(Clone, Copy)]
enum By {
    /// [`RULES`].
    TheList,
    /// All that there are.
    Every,
}

/// An audit of two releases, one of which needs attention, with drift from Helm's storage; by a
/// fixed list of rules.
pub(super) fn audit() -> Report {
    audited(By::TheList)
}

/// The same by every rule.
pub(super) fn audit_by_every_rule() -> Report {
    audited(By::Every)
}

/// A judged 2.1.4 to 2.2.7 upgrade with a policy, an exception and hostile names; by a fixed list
/// of rules.
pub(super) fn report() -> Report {
    judged(By::TheList)
}

/// The same by every rule.
pub(super) fn report_by_every_rule() -> Report {
    judged(By::Every)
}

/// The report of a judgement, with what these rules say.
fn reported(
    mut judgement: Evaluation,
    policies: &PolicySet,
    inputs: Vec<InputEntry>,
    by: By,
) -> Report {
    let shows = |rule: &str| matches!(by, By::Every) || RULES.contains(&rule);
    for release in &mut judgement.releases {
        release.findings.retain(|one| shows(one.finding.rule.id));
    }
    let mut report = Report::new(&judgement, policies, inputs);
    report.checks.retain(|check| shows(&check.rule));
    for release in &mut report.releases {
        release.checks.retain(|rule, _| shows(rule));
    }
    report.tool.version = "0.0.0".into();
    report
}

fn audited(by: By) -> Report {
    let mut running = Fixture::cluster("2.5.20")
        .chart("4.2.58")
        .tag_of(Component::QueryNode, "v2.4.24")
        .snapshot();
    let other = Fixture::standalone("2.5.27")
        .chart("4.2.58")
        .named("milvus-b")
        .snapshot();
    running.releases.extend(other.releases);
    let drift = DriftFact {
        release: "my-release".into(),
        object: "Deployment/my-release-milvus-querynode".into(),
        what: "image".into(),
        revision: "milvusdb/milvus:v2.5.20".into(),
        live: "milvusdb/milvus:v2.4.24".into(),
    };
    let facts = Facts {
        drift: Some(vec![drift]),
        ..Facts::default()
    };
    let judgement = crate::audit::audit(
        &running,
        &facts,
        Catalogue::embedded(),
        &PolicySet::default(),
    );
    let input = InputEntry {
        role: "running".into(),
        source: "live, namespace milvus".into(),
        ..InputEntry::default()
    };
    let mut report = reported(judgement, &PolicySet::default(), vec![input], by);
    report.data = Some("2026-11-20".into());
    report.add_last_runs(&[LastRun {
        run: "guard/my-release-1".into(),
        release: "my-release".into(),
        namespace: "milvus".into(),
        kind: RunKind::Rolling,
        from: Version::new(2, 4, 24),
        to: Version::new(2, 5, 20),
        phase: RunPhase::Stopped,
        started: Some("2026-05-09T10:00:00Z".parse().expect("a time")),
    }]);
    report
}

fn judged(by: By) -> Report {
    let before = Fixture::cluster("2.1.4").chart("3.2.18").snapshot();
    let after = Fixture::cluster("2.2.7")
        .chart("4.0.19")
        .tag_of(Component::QueryNode, "latest\\e[31mevil\\a::error::|`]]>")
        .repository("example.com/vec\u{202e}tor")
        .user_yaml("etcd:\n  rootPath: prod\n")
        .snapshot();
    let policies = PolicySet {
        policies: Arc::new(vec![UpgradePolicy {
            api_version: API_VERSION.into(),
            kind: "UpgradePolicy".into(),
            metadata: Metadata {
                name: "platform".into(),
                ..Metadata::default()
            },
            spec: PolicySpec {
                rules: vec![
                    RuleSetting {
                        id: "MG105".into(),
                        action: PolicyAction::Enforce,
                        params: Params { strict: true },
                    },
                    RuleSetting {
                        id: "MG108".into(),
                        action: PolicyAction::Audit,
                        params: Params::default(),
                    },
                ],
                ..PolicySpec::default()
            },
        }]),
        exceptions: Arc::new(vec![UpgradeException {
            api_version: API_VERSION.into(),
            kind: "UpgradeException".into(),
            metadata: Metadata {
                name: "root-moves".into(),
                ..Metadata::default()
            },
            spec: ExceptionSpec {
                rules: vec!["MG302".into()],
                namespace: "milvus".into(),
                release: "my-release".into(),
                from: None,
                to: None,
                reason: "the data was copied to prod/ on 3 May".into(),
                owner: "team-search@example.com".into(),
                expires: "2026-05-30T00:00:00Z".parse().expect("a time"),
            },
        }]),
        now: Some("2026-05-10T00:00:00Z".parse().expect("a time")),
        ..PolicySet::default()
    };
    let judgement = judge(&EvaluationInput {
        before: Some(&before),
        after: &after,
        facts: &Facts::default(),
        catalogue: Catalogue::embedded(),
        policies: &policies,
        is_rollback: false,
        deletes: None,
        accepted: &[],
        overdue: None,
    });
    let input = |role: &str, source: &str, not_read: Vec<String>| InputEntry {
        role: role.into(),
        source: source.into(),
        read: vec![source.into()],
        not_read,
        notes: Vec::new(),
    };
    let inputs = vec![
        input("before", "live.yaml", vec![]),
        input(
            "after",
            "new.yaml",
            vec!["new/notes.txt: not .yaml, .yml or .json".into()],
        ),
    ];
    reported(judgement, &policies, inputs, by)
}

#[test]
fn the_fixed_list_has_only_rules_and_shows_every_way_that_the_samples_come_out() {
    for (short, long) in [
        (report(), report_by_every_rule()),
        (audit(), audit_by_every_rule()),
    ] {
        let outcomes = |report: &Report| -> BTreeSet<Outcome> {
            report.checks.iter().map(|check| check.outcome).collect()
        };
        let rules: Vec<&str> = short.checks.iter().map(|check| &*check.rule).collect();
        assert_eq!(rules, RULES);
        assert_eq!(outcomes(&short), outcomes(&long));
    }
}
