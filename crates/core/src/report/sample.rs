//! One report that holds everything that a format must cope with; every format's snapshot shows it.

use std::sync::Arc;

use crate::{
    api::policy::{
        API_VERSION, ExceptionSpec, Metadata, Params, PolicyAction, PolicySpec, RuleSetting,
        UpgradeException, UpgradePolicy,
    },
    api::{RunKind, RunPhase},
    evaluate::{EvaluationInput, judge},
    evidence::{DriftFact, Facts},
    inventory::LastRun,
    milvus::{Component, Version, catalogue::Catalogue},
    policy::PolicySet,
    rules::testing::Fixture,
};

use super::{InputEntry, Report};

/// An audit of two releases, one of which needs attention, with drift from Helm's storage.
pub(super) fn audit() -> Report {
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
    let mut report = Report::new(&judgement, &PolicySet::default(), vec![input]);
    report.tool.version = "0.0.0".into();
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

/// A judged 2.1.4 to 2.2.7 upgrade with a policy, an exception and hostile names.
pub(super) fn report() -> Report {
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
    let mut report = Report::new(&judgement, &policies, inputs);
    report.tool.version = "0.0.0".into();
    report
}
