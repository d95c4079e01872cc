//! What is true of a report in every format.

use std::sync::Arc;

use super::*;
use crate::{
    api::policy::{
        API_VERSION, Metadata, Params, PolicyAction, PolicySpec, RuleSetting, UpgradePolicy,
    },
    evaluate::{EvaluationInput, judge},
    evidence::Facts,
    milvus::catalogue::Catalogue,
    policy::PolicySet,
    rules::testing::Fixture,
};

#[test]
fn an_audit_has_its_own_words() {
    let report = sample::audit();
    assert_eq!(
        (report.subject, report.health),
        (Subject::State, Some(Health::NeedsAttention))
    );
    for format in [Format::Text, Format::Markdown, Format::Github] {
        let page = render(&report, format, &Style::default());
        assert!(page.contains("needs attention"), "{format}: {page}");
        for word in [
            "would",
            "this change",
            "may be made",
            "verdict",
            "denial",
            "Denied",
            "before  ",
            "after  ",
            "new installation",
        ] {
            assert!(!page.contains(word), "{format} says '{word}':\n{page}");
        }
    }
    let healthy = Report {
        verdict: Verdict::Allow,
        health: Some(Health::of(Verdict::Allow)),
        ..report
    };
    assert!(render(&healthy, Format::Text, &Style::default()).contains("audit: healthy"));
}

#[test]
fn one_is_not_many() {
    let mut report = sample::report();
    report.findings.retain(|finding| finding.rule == "MG101");
    assert!(
        report.counts().starts_with("1 denial, "),
        "{}",
        report.counts()
    );
    let twice = report.findings[0].clone();
    report.findings.push(twice);
    assert!(
        report.counts().starts_with("2 denials, "),
        "{}",
        report.counts()
    );
}

#[test]
fn each_release_has_its_own_states() {
    let report = sample::audit();
    let of = |release: usize, rule: &str| report.releases[release].checks[rule];
    let at = |name: &str| {
        report
            .releases
            .iter()
            .position(|release| release.name == name)
            .unwrap()
    };
    let (cluster, standalone) = (at("my-release"), at("milvus-b"));
    assert_eq!(
        (of(cluster, "MG106"), of(standalone, "MG106")),
        (Outcome::Warn, Outcome::NotApplicable)
    );
    let check = report
        .checks
        .iter()
        .find(|check| check.rule == "MG106")
        .unwrap();
    assert_eq!(check.outcome, Outcome::Warn);
    assert_eq!(
        check
            .reasons
            .iter()
            .map(|reason| reason.releases.clone())
            .collect::<Vec<_>>(),
        [["milvus/milvus-b"]]
    );
}

#[test]
fn a_data_rule_that_could_not_look_warns() {
    let (before, after) = (
        Fixture::cluster("2.5.27"),
        Fixture::cluster("2.5.27").tag("latest"),
    );
    let policies = |action| PolicySet {
        policies: Arc::new(vec![UpgradePolicy {
            api_version: API_VERSION.into(),
            kind: "UpgradePolicy".into(),
            metadata: Metadata {
                name: "ours".into(),
                ..Metadata::default()
            },
            spec: PolicySpec {
                rules: ["MG103", "MG105"]
                    .map(|id| RuleSetting {
                        id: id.into(),
                        action,
                        params: Params::default(),
                    })
                    .to_vec(),
                ..PolicySpec::default()
            },
        }]),
        ..PolicySet::default()
    };
    let judged = |policies: &PolicySet| {
        let judgement = judge(&EvaluationInput {
            before: Some(&before.snapshot()),
            after: &after.snapshot(),
            facts: &Facts::default(),
            catalogue: Catalogue::embedded(),
            policies,
            is_rollback: false,
            deletes: None,
            accepted: &[],
            overdue: None,
        });
        let report = Report::new(&judgement, policies, Vec::new());
        let finding = report
            .findings
            .iter()
            .find(|finding| finding.rule == "MG103")
            .map(|finding| finding.action);
        let outcome = report
            .checks
            .iter()
            .find(|check| check.rule == "MG103")
            .unwrap()
            .outcome;
        (report.verdict, finding, outcome)
    };
    let plain = judged(&PolicySet::default());
    assert_eq!(
        plain,
        (Verdict::Warn, Some(Action::Warn), Outcome::NotEvaluated)
    );
    // A policy is a ceiling for this too.
    let ceiling = judged(&policies(PolicyAction::Audit));
    assert_eq!(
        ceiling,
        (Verdict::Allow, Some(Action::Audit), Outcome::NotEvaluated)
    );
    assert_eq!(
        judged(&policies(PolicyAction::Off)),
        (Verdict::Allow, None, Outcome::Off)
    );
}
