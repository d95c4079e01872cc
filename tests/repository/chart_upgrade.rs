//! The chart `charts/milvus-upgrade`: its renderings by both versions of Helm, and that its rights
//! equal those in the code.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{chart_guard::IMAGE, plain_snapshot_names};
use milvus_guard_operations::{
    kubernetes_job::spec::rules_at_home, metadata_migration, rolling_upgrade,
};
use milvus_guard_testbed::{Helm, expect_success, helm};
use serde_json::{Value, json};

const UPGRADE: [&str; 8] = [
    "verb=upgrade",
    "instance=my-release",
    "namespace=milvus",
    "targetVersion=2.5.27",
    "milvus.address=milvus.example:19530",
    "milvus.secretName=milvus-root",
    "etcd.addresses={etcd.example:2379}",
    "etcd.secretName=etcd",
];
const MIGRATE: [&str; 6] = [
    "verb=migrate",
    "instance=my-release",
    "namespace=milvus",
    "sourceVersion=2.1.4",
    "targetVersion=2.2.16",
    "etcd.secretName=etcd",
];
const HOOKS: [&str; 2] = ["verb=upgrade", "hooks.enabled=true"];
const CHECK: [&str; 3] = [
    "instance=my-release",
    "namespace=milvus",
    "targetVersion=2.5.27",
];

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/milvus-upgrade")
}

fn template(with: Helm, values: &[&str]) -> Output {
    let mut command = Command::new(helm(with));
    command
        .arg("template")
        .arg("milvus-upgrade")
        .arg(path())
        .args(["-n", "milvus-guard", "--set", IMAGE]);
    for value in values {
        command.args(["--set", value]);
    }
    command.output().expect("helm runs")
}

fn rendered(values: &[&str]) -> Vec<Value> {
    rendered_by(Helm::V3, values)
}

fn rendered_by(with: Helm, values: &[&str]) -> Vec<Value> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&expect_success(template(with, values))).unwrap();
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect()
}

fn role(documents: &[Value], name: &str) -> Value {
    let found = documents
        .iter()
        .find(|one| one["kind"] == "Role" && one["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no Role {name}"))["rules"].clone()
}

#[test]
fn the_chart_passes_lint_and_both_helms_render_the_same() {
    for values in [&UPGRADE[..], &MIGRATE, &CHECK, &HOOKS] {
        for with in [Helm::V3, Helm::V4] {
            let mut lint = Command::new(helm(with));
            lint.args(["lint", "--strict"]).arg(path());
            lint.args(["--set", IMAGE]);
            for value in values {
                lint.args(["--set", value]);
            }
            expect_success(lint.output().unwrap());
        }
        assert_eq!(rendered_by(Helm::V3, values), rendered_by(Helm::V4, values));
    }
}

#[test]
fn renderings() {
    let _names = plain_snapshot_names();
    insta::assert_snapshot!(
        "chart_upgrade__upgrade",
        expect_success(template(Helm::V3, &UPGRADE))
    );
    insta::assert_snapshot!(
        "chart_upgrade__migrate",
        expect_success(template(Helm::V3, &MIGRATE))
    );
    insta::assert_snapshot!(
        "chart_upgrade__check",
        expect_success(template(Helm::V3, &CHECK))
    );
}

#[test]
fn rights_are_exactly_those_that_a_run_needs() {
    for (values, rules) in [
        (&UPGRADE[..], rolling_upgrade::job::rules_in_release()),
        (&MIGRATE, metadata_migration::job::rules_in_release()),
    ] {
        let documents = rendered(values);
        let granted = role(&documents, "milvus-upgrade-milvus");
        let flat = |rules: &Value| {
            let mut flat: Vec<String> = rules
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|rule| {
                    let of = |key: &str| {
                        rule[key]
                            .as_array()
                            .unwrap()
                            .iter()
                            .map(Value::to_string)
                            .collect::<Vec<_>>()
                    };
                    let (groups, verbs) = (of("apiGroups").join(","), of("verbs").join(","));
                    of("resources")
                        .into_iter()
                        .map(move |resource| format!("{groups} {resource} {verbs}"))
                })
                .collect();
            flat.sort();
            flat
        };
        assert_eq!(flat(&granted), flat(&rules));
        assert_eq!(
            flat(&role(&documents, "milvus-upgrade-run")),
            flat(&rules_at_home())
        );
    }
    let check = rendered(&CHECK);
    let verbs = role(&check, "milvus-upgrade-milvus");
    assert!(
        verbs
            .as_array()
            .unwrap()
            .iter()
            .all(|rule| rule["verbs"] == json!(["list"])),
        "check must not change anything: {verbs}"
    );
    assert_eq!(check.iter().filter(|one| one["kind"] == "Role").count(), 1);
}

#[test]
fn hooks_run_before_and_after_helm_and_read_only_the_records_of_their_release() {
    let documents = rendered(&HOOKS);
    let moments = |one: &Value| -> String {
        let moments = one["metadata"]["annotations"]["helm.sh/hook"].as_str();
        moments.unwrap_or_default().to_owned()
    };
    let (jobs, others): (Vec<&Value>, Vec<&Value>) =
        documents.iter().partition(|one| one["kind"] == "Job");
    let is_verify = |job: &&Value| {
        let name = job["metadata"]["name"].as_str();
        name.is_some_and(|name| name.ends_with("-verify"))
    };
    let (verify, jobs): (Vec<&Value>, Vec<&Value>) = jobs.into_iter().partition(is_verify);
    assert_eq!(moments(verify[0]), "post-upgrade");
    let weight = &verify[0]["metadata"]["annotations"]["helm.sh/hook-weight"];
    assert_eq!(*weight, "10", "the verification must come last");
    let of_jobs: Vec<String> = jobs.iter().map(|job| moments(job)).collect();
    assert_eq!(of_jobs, ["pre-upgrade", "post-upgrade", "post-rollback"]);
    for job in jobs {
        let args = &job["spec"]["template"]["spec"]["containers"][0]["args"];
        let args: Vec<&str> = args
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let hook = format!("--helm-hook={}", moments(job));
        for wanted in [
            "upgrade",
            "--instance=milvus-upgrade",
            &hook,
            "--helm-revision=1",
        ] {
            assert!(args.contains(&wanted), "{wanted}: {args:?}");
        }
    }
    for one in others {
        let weight = &one["metadata"]["annotations"]["helm.sh/hook-weight"];
        assert_eq!(
            *weight, "-10",
            "rights must be created before the Jobs: {one:#}"
        );
    }
    let mut expected = rolling_upgrade::job::rules_in_release()
        .as_array()
        .unwrap()
        .clone();
    let records = json!(["sh.helm.release.v1.milvus-upgrade.v1"]);
    expected.push(json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": records, "verbs": ["get"]}));
    expected.extend(
        rolling_upgrade::job::rules_through_helm()
            .as_array()
            .unwrap()
            .iter()
            .cloned(),
    );
    let granted = role(&documents, "milvus-upgrade-upgrade-milvus");
    assert_eq!(granted, Value::Array(expected));
}

#[test]
fn hooks_are_for_the_release_of_the_chart() {
    for more in ["instance=other", "namespace=other", "verb=check"] {
        let output = template(Helm::V3, &[&HOOKS[..], &[more]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("hooks.enabled"), "{more}: {said}");
    }
}

#[test]
fn the_account_lists_policies_of_the_cluster_if_enabled() {
    let of_cluster = |values: &[&str]| -> Vec<Value> {
        let all = rendered(values).into_iter();
        all.filter(|one| one["kind"].as_str().unwrap().starts_with("Cluster"))
            .collect()
    };
    for values in [&UPGRADE[..], &MIGRATE, &CHECK] {
        assert_eq!(of_cluster(values), [Value::Null; 0]);
        let wanted = of_cluster(&[values, &["rbac.clusterPolicies=true"]].concat());
        let [role, binding] = &wanted[..] else {
            panic!("{wanted:#?}")
        };
        let rules = json!([{"apiGroups": ["guard.milvus.io"], "resources": ["upgradepolicies", "upgradeexceptions"], "verbs": ["list"]}]);
        assert_eq!(role["rules"], rules);
        assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    }
}

#[test]
fn the_schema_refuses_invalid_values() {
    let cases: [&[&str]; 6] = [
        &[],
        &["instance=a", "namespace=b", "targetVersion=latest"],
        &[
            "verb=migrate",
            "instance=a",
            "namespace=b",
            "targetVersion=2.2.16",
        ],
        &[
            "verb=check",
            "operation=rollback",
            "instance=a",
            "namespace=b",
            "targetVersion=2.5.27",
        ],
        &[
            "verb=upgrade",
            "operation=migrate",
            "instance=a",
            "namespace=b",
            "targetVersion=2.5.27",
        ],
        &[
            "instance=a",
            "namespace=b",
            "targetVersion=2.5.27",
            "typo=1",
        ],
    ];
    for values in cases {
        assert!(!template(Helm::V3, values).status.success(), "{values:?}");
    }
}
