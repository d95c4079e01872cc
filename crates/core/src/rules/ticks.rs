//! A tick is true: for every rule one case in which it looked at something that is right, and one
//! in which there was nothing to look at. The second must never show as passed.

use crate::{
    change::Upgrade,
    evidence::{
        AutoscalerFact, DeployerFact, DriftFact, Facts, MetadataFact, MetadataState, RolloutFact,
    },
    milvus::{
        Component::{IndexNode, QueryNode, Standalone},
        EffectiveConfig, Release,
        catalogue::Catalogue,
    },
};

use super::{
    ALL, Finding, Missing, Rule, Severity, State, run, run_state,
    testing::{Fixture, state},
};

/// A change and what is known next to it.
struct Case {
    before: Option<Fixture>,
    after: Fixture,
    facts: Facts,
}

/// A new installation, nothing known next to it.
fn install(after: Fixture) -> Case {
    Case {
        before: None,
        after,
        facts: Facts::default(),
    }
}

/// A change, nothing known next to it.
fn change(before: Fixture, after: Fixture) -> Case {
    Case {
        before: Some(before),
        after,
        facts: Facts::default(),
    }
}

/// The same on both sides.
fn same(fixture: Fixture) -> Case {
    change(fixture.clone(), fixture)
}

impl Case {
    fn knowing(mut self, facts: Facts) -> Self {
        self.facts = facts;
        self
    }
}

fn cluster(version: &str) -> Fixture {
    Fixture::cluster(version).chart("4.2.58")
}

fn standalone(version: &str) -> Fixture {
    Fixture::standalone(version).chart("4.2.58")
}

fn queue(fixture: Fixture, chart: &str, queue: &str) -> Fixture {
    fixture
        .chart(chart)
        .default_yaml(&format!("mq: {{type: {queue}}}\nmessageQueue: {queue}\n"))
}

fn with_etcd(fixture: Fixture) -> Fixture {
    fixture.stateful_set(
        "my-release-etcd",
        "app.kubernetes.io/name: etcd",
        "quay.io/coreos/etcd:v3.5.14",
    )
}

fn with_minio(fixture: Fixture) -> Fixture {
    let image = "quay.io/minio/minio:RELEASE.2023-03-20T20-16-18Z";
    fixture.object(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: my-release-minio}}\nspec:\n  selector:\n    matchLabels: {{app: minio, release: my-release}}\n  template:\n    spec:\n      containers: [{{name: minio, image: \"{image}\"}}]\n"
    ))
}

fn with_service(fixture: Fixture) -> Fixture {
    fixture.object("apiVersion: v1\nkind: Service\nmetadata: {name: my-release-milvus}\nspec: {ports: [{port: 19530}]}\n")
}

fn authorized(fixture: Fixture) -> Fixture {
    fixture.user_yaml("common:\n  security:\n    authorizationEnabled: true\n")
}

fn tolerant(fixture: Fixture) -> Fixture {
    fixture.default_yaml("dataCoord:\n  gc:\n    missingTolerance: 86400\n")
}

fn volume(version: &str, more: &str) -> Fixture {
    let claim =
        "volumes:\n  - name: data\n    persistentVolumeClaim: {claimName: my-release-milvus}";
    standalone(version)
        .pod(Standalone, &format!("{more}\n{claim}"))
        .container(
            Standalone,
            "volumeMounts:\n  - {name: data, mountPath: /var/lib/milvus}",
        )
}

fn migrated() -> Facts {
    let fact = MetadataFact {
        release: None,
        root_path: "by-dev".into(),
        state: MetadataState::V22,
        source: "etcd".into(),
    };
    Facts {
        metadata: vec![fact],
        ..Facts::default()
    }
}

fn rolled_out() -> Facts {
    let rollout = RolloutFact {
        release: "my-release".into(),
        component: QueryNode,
        workload: "my-release-milvus-querynode".into(),
        complete: true,
        ever_available: true,
        detail: "3 of 3 pods available".into(),
    };
    Facts {
        rollouts: Some(vec![rollout]),
        ..Facts::default()
    }
}

fn scaled() -> Facts {
    let autoscaler = AutoscalerFact {
        release: "my-release".into(),
        name: "queries".into(),
        workload: "my-release-milvus-querynode".into(),
    };
    Facts {
        autoscalers: Some(vec![autoscaler]),
        ..Facts::default()
    }
}

fn deployed() -> Facts {
    let deployer = DeployerFact {
        release: "my-release".into(),
        tool: "flux".into(),
        name: "apps/milvus".into(),
        self_heal: false,
        retry_limit: Some(3),
    };
    Facts {
        deployers: Some(vec![deployer]),
        ..Facts::default()
    }
}

/// The rule, what it has to pass, and what gives it nothing to look at.
fn cases() -> Vec<(&'static str, Case, Case)> {
    let patch = || change(cluster("2.5.16"), cluster("2.5.27"));
    let bare = || install(cluster("2.5.27"));
    let stays = || same(cluster("2.5.27"));
    let third = || {
        change(
            volume("2.6.22", "securityContext: {fsGroup: 999}"),
            volume("3.0.2", "securityContext: {fsGroup: 999}"),
        )
    };
    vec![
        ("MG101", change(cluster("2.1.4"), cluster("2.2.16")).knowing(migrated()), patch()),
        ("MG102", patch(), stays()),
        ("MG103", patch(), stays()),
        ("MG104", bare(), stays()),
        ("MG105", bare(), install(cluster("2.5.27"))),
        ("MG106", bare(), install(standalone("2.5.27"))),
        ("MG107", bare(), stays()),
        ("MG108", patch(), bare()),
        ("MG109", bare(), install(cluster("2.5.27").app_version("none"))),
        ("MG110", change(cluster("2.2.16"), cluster("2.3.22")), patch()),
        (
            "MG201",
            change(cluster("2.5.16"), cluster("2.5.16").tag_of(IndexNode, "v2.5.27")),
            change(standalone("2.5.16"), standalone("2.5.27")),
        ),
        ("MG202", bare(), install(standalone("2.5.27"))),
        ("MG203", bare(), install(standalone("2.5.27"))),
        ("MG204", stays(), bare()),
        ("MG205", stays(), bare()),
        ("MG206", patch().knowing(rolled_out()), stays().knowing(rolled_out())),
        ("MG207", stays(), bare()),
        ("MG208", stays().knowing(Facts { runs: Some(Vec::new()), ..Facts::default() }), stays()),
        ("MG301", stays(), bare()),
        ("MG302", stays(), bare()),
        ("MG303", stays(), bare()),
        ("MG304", same(authorized(cluster("2.5.27"))), stays()),
        ("MG305", same(with_etcd(cluster("2.5.27"))), stays()),
        ("MG306", stays(), bare()),
        ("MG307", same(tolerant(cluster("2.5.27"))), stays()),
        ("MG308", stays(), bare()),
        ("MG401", same(with_etcd(cluster("2.5.27"))), stays()),
        ("MG402", stays(), bare()),
        ("MG403", same(with_etcd(cluster("2.5.27"))), stays()),
        ("MG404", same(with_minio(cluster("2.5.27"))), same(with_etcd(cluster("2.5.27")))),
        ("MG405", install(with_etcd(cluster("2.5.27"))), bare()),
        ("MG406", install(with_service(cluster("2.5.27"))), bare()),
        ("MG407", same(with_etcd(cluster("2.5.27"))), stays()),
        ("MG501", bare(), stays()),
        (
            "MG502",
            change(queue(standalone("2.5.27"), "4.2.58", "rocksmq"), queue(standalone("2.6.22"), "5.0.14", "rocksmq")),
            change(queue(cluster("2.5.27"), "4.2.58", "pulsar"), queue(cluster("2.6.22"), "5.0.14", "pulsar")),
        ),
        (
            "MG503",
            change(
                cluster("2.1.4").chart("3.2.18"),
                cluster("2.2.16")
                    .chart("4.0.31")
                    .values("cluster: {enabled: true}\n")
                    .chart_values("cluster: {enabled: true}\nimage: {all: {repository: milvusdb/milvus, tag: v2.2.13}}\n"),
            ),
            stays(),
        ),
        ("MG504", stays().knowing(Facts { drift: Some(Vec::<DriftFact>::new()), ..Facts::default() }), stays()),
        ("MG505", bare(), install(cluster("2.5.27").tag("latest"))),
        ("MG601", third(), change(standalone("2.6.22"), standalone("3.0.2"))),
        ("MG602", install(cluster("2.5.27").pod(QueryNode, "securityContext: {runAsUser: 0}")), bare()),
        ("MG701", bare().knowing(Facts { kubernetes: "1.30.0".parse().ok(), ..Facts::default() }), bare()),
        (
            "MG702",
            bare().knowing(Facts { helm: "3.18.0".parse().ok(), ..Facts::default() }),
            install(cluster("2.5.27").chart("4.1.34")).knowing(Facts { helm: "3.18.0".parse().ok(), ..Facts::default() }),
        ),
        (
            "MG703",
            change(cluster("2.5.27"), cluster("2.6.22")).knowing(scaled()),
            patch().knowing(Facts { autoscalers: Some(Vec::new()), ..Facts::default() }),
        ),
        ("MG704", patch().knowing(deployed()), patch().knowing(Facts { deployers: Some(Vec::new()), ..Facts::default() })),
        ("MG705", change(cluster("2.5.27"), cluster("2.6.24")), change(standalone("2.5.16"), standalone("2.5.27"))),
    ]
}

fn of(rule: &'static Rule, scene: &Case) -> State {
    state(rule, scene.before.as_ref(), &scene.after, &scene.facts)
}

#[test]
fn each_rule_passes_where_it_looked_and_only_there() {
    let cases = cases();
    let known: Vec<&str> = cases.iter().map(|(id, ..)| *id).collect();
    assert_eq!(
        known,
        ALL.iter().map(|rule| rule.id).collect::<Vec<_>>(),
        "every rule has a case here"
    );
    let mut wrong = Vec::new();
    for (rule, (_, relevant, irrelevant)) in ALL.iter().zip(&cases) {
        let passed = of(rule, relevant);
        // Every step to a later minor version has a point of no return in the data, so MG110 finds
        // something in each.
        let right = if rule.id == "MG110" {
            State::Found
        } else {
            State::Passed
        };
        if passed != right {
            wrong.push(format!("{} must pass: {passed:?}", rule.id));
        }
        // A release without components is not a release, and the only one in which MG105 has
        // nothing to look at.
        let state = if rule.id == "MG105" {
            hollow_state(rule)
        } else {
            of(rule, irrelevant)
        };
        match state {
            State::NotApplicable(reason) if reason.len() > 10 && !reason.ends_with('.') => {}
            State::NotEvaluated(missing)
                if !missing.what().is_empty() && missing.provide().ends_with('.') => {}
            other => wrong.push(format!("{} has nothing to look at: {other:?}", rule.id)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A release of which nothing is known but its name.
fn hollow() -> Release {
    let mut release = cluster("2.5.27").release();
    release.components.clear();
    release.config = EffectiveConfig::default();
    release.chart = None;
    release
}

fn hollow_state(rule: &'static Rule) -> State {
    let (release, facts) = (hollow(), Facts::default());
    let upgrade = Upgrade::new(None, &release, &facts, Catalogue::embedded());
    super::run_one(rule, &upgrade, &super::ChangeAnswers::new(&upgrade)).state()
}

#[test]
fn nothing_passes_where_nothing_is_there() {
    let (release, facts) = (hollow(), Facts::default());
    let installed = Upgrade::new(None, &release, &facts, Catalogue::embedded());
    let kept = Upgrade::new(Some(&release), &release, &facts, Catalogue::embedded());
    let state = run_state(&release, &facts, Catalogue::embedded(), None);
    for ran in [run(&installed, None), run(&kept, None), state] {
        let passed: Vec<&str> = ALL
            .iter()
            .zip(&ran.states)
            .filter(|(_, state)| **state == State::Passed)
            .map(|(rule, _)| rule.id)
            .collect();
        assert_eq!(passed, Vec::<&str>::new());
        assert_eq!(ran.states.len(), ALL.len());
    }
}

#[test]
fn a_rule_that_says_nothing_has_not_passed() {
    static SILENT: Rule = Rule {
        check: |_, _| {},
        ..*ALL[0]
    };
    static LOOKING: Rule = Rule {
        needs: &[],
        check: |_, findings| findings.checked(),
        ..*ALL[0]
    };
    let release = cluster("2.5.27").release();
    let facts = Facts::default();
    let upgrade = Upgrade::new(Some(&release), &release, &facts, Catalogue::embedded());
    let state = |rule| super::run_one(rule, &upgrade, &super::ChangeAnswers::new(&upgrade)).state();
    assert!(matches!(state(&SILENT), State::NotApplicable(_)));
    assert_eq!(state(&LOOKING), State::Passed);
}

#[test]
fn rules_about_a_change_do_not_pass_in_an_audit() {
    let everything = Facts {
        kubernetes: "1.30.0".parse().ok(),
        helm: "3.18.0".parse().ok(),
        runs: Some(Vec::new()),
        drift: Some(Vec::new()),
        ..rolled_out()
    };
    let release = with_minio(with_etcd(with_service(cluster("2.5.27")))).release();
    let ran = run_state(&release, &everything, Catalogue::embedded(), None);
    let passed: Vec<&str> = ALL
        .iter()
        .zip(&ran.states)
        .filter(|(_, state)| **state == State::Passed)
        .map(|(rule, _)| rule.id)
        .collect();
    let of_a_state = [
        "MG104", "MG105", "MG106", "MG107", "MG109", "MG202", "MG203", "MG405", "MG406", "MG501",
        "MG504", "MG505", "MG701", "MG702",
    ];
    assert_eq!(passed, of_a_state);
    for finding in &ran.findings {
        assert!(!finding.message.contains("would"), "{}", finding.message);
    }
}

/// The findings of a rule that lacks something, without a configuration on one side.
fn lacking(before: &Fixture, after: &Fixture, known: (bool, bool)) -> Vec<Finding> {
    let (mut before, mut after) = (before.release(), after.release());
    for (release, known) in [(&mut before, known.0), (&mut after, known.1)] {
        if !known {
            release.config = EffectiveConfig::default();
        }
    }
    let facts = Facts::default();
    run(
        &Upgrade::new(Some(&before), &after, &facts, Catalogue::embedded()),
        None,
    )
    .findings
    .into_iter()
    .filter(|finding| finding.not_evaluated)
    .collect()
}

fn severity(findings: &[Finding], rule: &str) -> Option<Severity> {
    findings
        .iter()
        .find(|finding| finding.rule.id == rule)
        .map(|finding| finding.severity)
}

#[test]
fn what_guards_data_and_could_not_look_warns_on_a_change() {
    let (old, new) = (cluster("2.5.16"), cluster("2.5.27"));
    let version = lacking(&old, &new, (false, false));
    for rule in ["MG301", "MG302", "MG303", "MG304", "MG307"] {
        assert_eq!(
            severity(&version, rule),
            Some(Severity::Warn),
            "{rule} on a change of version"
        );
        assert_eq!(
            severity(&lacking(&old, &old, (true, false)), rule),
            Some(Severity::Warn),
            "{rule}: configuration from known to unknown"
        );
        assert_eq!(
            severity(&lacking(&old, &old, (false, false)), rule),
            Some(Severity::Audit),
            "{rule} where nothing changes"
        );
        let scaled = old.clone().replicas(QueryNode, 3);
        assert_eq!(
            severity(&lacking(&old, &scaled, (false, false)), rule),
            Some(Severity::Audit),
            "{rule} on a change of replicas"
        );
    }
    assert_eq!(
        severity(&version, "MG306"),
        Some(Severity::Audit),
        "it guards no data"
    );
    assert_eq!(
        severity(&version, "MG208"),
        Some(Severity::Audit),
        "files cannot hold what is in progress"
    );
}

#[test]
fn an_unreadable_version_is_not_evaluated() {
    let unknown = cluster("2.5.27").tag("latest");
    for (before, after) in [
        (cluster("2.5.27"), unknown.clone()),
        (unknown.clone(), cluster("2.5.27")),
    ] {
        assert_eq!(
            severity(&lacking(&before, &after, (true, true)), "MG103"),
            Some(Severity::Warn)
        );
        assert_eq!(
            severity(&lacking(&before, &after, (true, true)), "MG102"),
            Some(Severity::Audit)
        );
    }
    // One component of several.
    let partly = cluster("2.5.27").tag_of(QueryNode, "latest");
    assert_eq!(
        severity(&lacking(&cluster("2.5.16"), &partly, (true, true)), "MG103"),
        Some(Severity::Warn)
    );
    assert_eq!(
        severity(&lacking(&unknown, &unknown, (true, true)), "MG103"),
        None,
        "no image changes"
    );
}

#[test]
fn a_missing_fact_says_how_to_provide_it() {
    let missing = Missing::new(
        "etcd.rootPath comes from Secret x, which the input does not contain",
        "Add the Secret to the input.",
    );
    assert!(!missing.is_momentary());
    for finding in lacking(&cluster("2.5.16"), &cluster("2.5.27"), (false, false)) {
        assert!(
            finding.fix.text.ends_with('.') && finding.fix.text.len() > 20,
            "{}: {}",
            finding.rule.id,
            finding.fix.text
        );
        assert!(
            finding.message.starts_with("not evaluated: "),
            "{}",
            finding.message
        );
    }
}

#[test]
fn defects_that_depend_on_an_unknown_source_are_not_evaluated() {
    let source = cluster("2.4.24").tag("latest");
    assert!(severity(&lacking(&source, &cluster("2.5.3"), (true, true)), "MG104").is_some());
    assert!(
        severity(
            &lacking(&cluster("2.5.2"), &cluster("2.5.3"), (true, true)),
            "MG104"
        )
        .is_none()
    );
}
