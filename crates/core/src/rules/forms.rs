//! The same Milvus in any form: any kind of workload runs it, wherever its container stands,
//! and however its configuration is divided over files, objects and variables, the verdict is that
//! of the plain form.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    evaluate::{EvaluationInput, judge},
    evidence::Facts,
    manifest::{Object, Origin, Tree},
    milvus::{Snapshot, catalogue::Catalogue, snapshot::Builder},
    policy::{Action, PolicySet},
};

/// Settings with two values each; the first is the default or as good as that.
const SETTINGS: [(&str, [&str; 2]); 8] = [
    ("etcd.rootPath", ["by-dev", "prod"]),
    ("etcd.endpoints", ["etcd-a:2379", "etcd-b:2379"]),
    ("minio.bucketName", ["bucket-a", "bucket-b"]),
    ("minio.rootPath", ["files", "other"]),
    ("mq.type", ["rocksmq", "woodpecker"]),
    ("common.security.authorizationEnabled", ["true", "false"]),
    ("rootCoord.dmlChannelNum", ["16", "8"]),
    ("msgChannel.chanNamePrefix.cluster", ["by-dev", "prod"]),
];

const VERSIONS: [&str; 4] = ["2.4.5", "2.4.24", "2.5.27", "2.6.24"];

/// Where one setting stands.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A file of a map, mounted under its own name.
    File,
    /// A key of another name, mounted as `user.yaml`.
    OtherKey,
    /// A file of a Secret.
    SecretFile,
    /// `binaryData` of a map, projected.
    Projected,
    /// A variable.
    Variable,
    /// A variable that takes its value from a map.
    FromMap,
    /// A variable that takes its value from a Secret.
    FromSecret,
    /// `envFrom` with a prefix.
    Imported,
    /// A variable that is put together of another.
    Expanded,
}

const SOURCES: [Source; 9] = [
    Source::File,
    Source::OtherKey,
    Source::SecretFile,
    Source::Projected,
    Source::Variable,
    Source::FromMap,
    Source::FromSecret,
    Source::Imported,
    Source::Expanded,
];

const KINDS: [&str; 9] = [
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "ReplicationController",
    "Job",
    "CronJob",
    "Pod",
    "InstanceSet",
];

/// How a Milvus is written down.
#[derive(Clone, Debug)]
struct Form {
    kind: &'static str,
    /// Sidecars before and behind the container of Milvus.
    sidecars: (usize, usize),
    /// Whether Milvus is an init container that keeps running.
    as_sidecar: bool,
    /// How the command line starts it.
    start: usize,
    sources: Vec<Source>,
}

fn plain() -> Form {
    Form {
        kind: "Deployment",
        sidecars: (0, 0),
        as_sidecar: false,
        start: 0,
        sources: vec![Source::File; SETTINGS.len()],
    }
}

fn any_form() -> impl Strategy<Value = Form> {
    let sources =
        proptest::collection::vec(proptest::sample::select(SOURCES.to_vec()), SETTINGS.len());
    (
        proptest::sample::select(KINDS.to_vec()),
        (0..3usize, 0..3usize),
        any::<bool>(),
        0..5usize,
        sources,
    )
        .prop_map(|(kind, sidecars, as_sidecar, start, sources)| Form {
            kind,
            sidecars,
            as_sidecar,
            start,
            sources,
        })
}

/// The nested mapping of dotted keys, as YAML that is JSON.
fn file(settings: &[(&str, &str)]) -> String {
    let mut root = json!({});
    for (key, value) in settings {
        let mut at = &mut root;
        for part in key.split('.') {
            at = at
                .as_object_mut()
                .unwrap()
                .entry(part)
                .or_insert_with(|| json!({}));
        }
        *at = json!(value);
    }
    root.to_string()
}

fn variable(key: &str) -> String {
    key.replace('.', "_").to_ascii_uppercase()
}

fn encoded(text: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(text)
}

/// Every object of one Milvus.
fn objects(form: &Form, version: &str, values: &[usize]) -> Vec<Value> {
    let mut files: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    let (mut env, mut data, mut secret, mut imported) =
        (Vec::new(), json!({}), json!({}), json!({}));
    for ((at, (key, choices)), source) in SETTINGS.iter().enumerate().zip(&form.sources) {
        let value = choices[values[at]];
        let name = variable(key);
        match source {
            Source::File => files.entry("default.yaml").or_default().push((key, value)),
            Source::OtherKey => files.entry("user.yaml").or_default().push((key, value)),
            Source::SecretFile => files.entry("milvus.yaml").or_default().push((key, value)),
            Source::Projected => files.entry("projected").or_default().push((key, value)),
            Source::Variable => env.push(json!({"name": name, "value": value})),
            Source::FromMap => {
                data[format!("k{at}")] = json!(value);
                env.push(json!({"name": name, "valueFrom": {"configMapKeyRef": {"name": "keys", "key": format!("k{at}")}}}));
            }
            Source::FromSecret => {
                secret[format!("k{at}")] = json!(encoded(value));
                env.push(json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "secrets", "key": format!("k{at}")}}}));
            }
            Source::Imported => {
                let (prefix, rest) = name.split_at(1);
                assert_eq!(prefix.len(), 1);
                imported[rest] = json!(value);
                env.push(json!({"name": format!("UNUSED_{at}"), "value": "x"}));
            }
            Source::Expanded => {
                env.push(json!({"name": format!("PART_{at}"), "value": value}));
                env.push(json!({"name": name, "value": format!("$(PART_{at})")}));
            }
        }
    }
    let none = Vec::new();
    let text = |name: &str| file(files.get(name).unwrap_or(&none));
    let mut all = vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"},
            "data": {"default.yaml": text("default.yaml"), "any": text("user.yaml")}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keys"}, "data": data}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secrets"}, "data": secret}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lowest"}, "data": {"milvus.yaml": encoded(&text("milvus.yaml"))}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "binary"}, "binaryData": {"b": encoded(&text("projected"))}}),
    ];
    let mut mounts = vec![
        json!({"name": "files", "mountPath": "/milvus/configs/default.yaml", "subPath": "default.yaml"}),
        json!({"name": "lowest", "mountPath": "/milvus/configs/milvus.yaml", "subPath": "milvus.yaml"}),
    ];
    // Either of the two is user.yaml; the other one's settings go into the same file as variables
    // would.
    if files.contains_key("projected") {
        mounts.push(
            json!({"name": "projected", "mountPath": "/milvus/configs/user.yaml", "subPath": "u"}),
        );
    } else {
        mounts.push(
            json!({"name": "files", "mountPath": "/milvus/configs/user.yaml", "subPath": "any"}),
        );
    }
    let mut env_from = Vec::new();
    for (name, value) in imported.as_object().unwrap() {
        let key = SETTINGS
            .iter()
            .map(|(key, _)| variable(key))
            .find(|key| key[1..] == *name)
            .unwrap();
        let map = format!("imported-{}", name.to_ascii_lowercase().replace('_', "-"));
        all.push(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": map}, "data": {name: value}}));
        env_from.push(json!({"prefix": &key[..1], "configMapRef": {"name": map}}));
    }
    let command = match form.start {
        0 => json!(["milvus", "run", "standalone"]),
        1 => json!(["/tini", "--", "/milvus/bin/milvus", "run", "standalone"]),
        2 => json!(["sh", "-c", "exec milvus run standalone"]),
        3 => json!(["run", "standalone"]),
        _ => json!(["milvus", "run", "$(ROLE)"]),
    };
    env.push(json!({"name": "ROLE", "value": "standalone"}));
    let mut milvus = json!({"name": "search", "image": format!("milvusdb/milvus:v{version}"), "args": command, "env": env,
        "envFrom": env_from, "volumeMounts": mounts});
    let sidecar = |at: usize| {
        let env = json!([{"name": "ETCD_ROOT_PATH", "value": format!("decoy-{at}")}]);
        json!({"name": format!("side-{at}"), "image": "fluent/fluent-bit:2.1.8", "env": env, "securityContext": {"runAsUser": 1000}})
    };
    let mut containers: Vec<Value> = (0..form.sidecars.0).map(sidecar).collect();
    let mut init =
        vec![json!({"name": "init", "image": "busybox:1.2.3", "command": ["sh", "-c", "true"]})];
    if form.as_sidecar {
        milvus["restartPolicy"] = json!("Always");
        init.push(milvus);
        containers.push(sidecar(99));
    } else {
        containers.push(milvus);
    }
    containers.extend((10..10 + form.sidecars.1).map(sidecar));
    let volumes = json!([
        {"name": "files", "configMap": {"name": "files"}},
        {"name": "lowest", "secret": {"secretName": "lowest"}},
        {"name": "projected", "projected": {"sources": [{"configMap": {"name": "binary", "items": [{"key": "b", "path": "u"}]}}]}},
    ]);
    let pod = json!({"containers": containers, "initContainers": init, "volumes": volumes});
    let meta = json!({"name": "search", "labels": {"app.kubernetes.io/instance": "search"}});
    all.push(match form.kind {
        "Pod" => json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod}),
        "CronJob" => json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta,
            "spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}}),
        kind => json!({"apiVersion": "x.example.com/v1", "kind": kind, "metadata": meta, "spec": {"template": {"spec": pod}}}),
    });
    all
}

fn snapshot(form: &Form, version: &str, values: &[usize]) -> Snapshot {
    let mut builder = Builder::default();
    for object in objects(form, version, values) {
        let origin = Origin {
            source: "x".into(),
            document: 1,
            line: 0,
        };
        builder.add(Object::read(&Tree::from_json(&object), &origin, Some("milvus")).unwrap());
    }
    builder.build()
}

/// What the rules say, but for MG306, which counts files.
fn verdict(
    form: &Form,
    before: (&str, &[usize]),
    after: (&str, &[usize]),
) -> Vec<(&'static str, Option<Action>)> {
    let (before, after) = (
        snapshot(form, before.0, before.1),
        snapshot(form, after.0, after.1),
    );
    assert_eq!(
        (before.releases.len(), after.releases.len()),
        (1, 1),
        "{form:?}"
    );
    let judgement = judge(&EvaluationInput {
        before: Some(&before),
        after: &after,
        facts: &Facts::default(),
        catalogue: Catalogue::embedded(),
        policies: &PolicySet::default(),
        is_rollback: false,
        deletes: None,
        accepted: &[],
        overdue: None,
    });
    let findings = judgement
        .releases
        .iter()
        .flat_map(|release| &release.findings);
    let acting = findings.filter(|judged| {
        judged.action() > Some(Action::Audit) && judged.finding.rule.id != "MG306"
    });
    let mut all: Vec<_> = acting
        .map(|judged| (judged.finding.rule.id, judged.action()))
        .collect();
    all.sort_unstable_by_key(|(rule, _)| *rule);
    all.dedup();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_verdict_does_not_depend_on_the_form(
        form in any_form(),
        before in proptest::collection::vec(0..2usize, SETTINGS.len()),
        after in proptest::collection::vec(0..2usize, SETTINGS.len()),
        versions in (0..VERSIONS.len(), 0..VERSIONS.len()),
    ) {
        // Only one file can be user.yaml: what would be in the other is in variables.
        let mut form = form;
        if form.sources.iter().any(|source| matches!(source, Source::Projected)) {
            for source in &mut form.sources {
                if matches!(source, Source::OtherKey) {
                    *source = Source::Variable;
                }
            }
        }
        let (from, to) = (VERSIONS[versions.0], VERSIONS[versions.1]);
        let expected = verdict(&plain(), (from, &before), (to, &after));
        prop_assert_eq!(verdict(&form, (from, &before), (to, &after)), expected);
    }
}
