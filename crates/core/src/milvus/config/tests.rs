//! What counts as the configuration of a release, by manifests.

use rstest::rstest;

use super::*;
use crate::{
    manifest::{Object, Origin, documents},
    milvus::snapshot::Builder,
};

/// The effective configuration of one Deployment: its pod, and further objects.
pub(super) fn config(pod: &str, objects: &str) -> EffectiveConfig {
    let indented: String = pod.lines().map(|line| format!("      {line}\n")).collect();
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: m-standalone}}\nspec:\n  template:\n    metadata: {{labels: {{team: shop}}}}\n    spec:\n{indented}---\n{objects}"
    );
    let mut builder = Builder::default();
    for document in documents(&text) {
        let document = document.unwrap();
        let origin = Origin {
            source: "values.yaml".into(),
            document: document.index,
            line: document.root.line,
        };
        builder.add(Object::read(&document.root, &origin, Some("milvus")).unwrap());
    }
    builder.build().releases.remove(0).config
}

fn container(more: &str) -> String {
    format!(
        "containers:\n  - name: m\n    image: milvusdb/milvus:v2.5.5\n    args: [milvus, run, standalone]\n{more}\n"
    )
}

fn root(pod: &str, objects: &str) -> String {
    let config = config(pod, objects);
    let view = config.views().next().unwrap();
    match view.lookup("etcd.rootPath") {
        Lookup::Absent => "absent".into(),
        Lookup::Known(setting) => setting.value.into(),
        Lookup::Unknown(unknown) => format!("unknown: {unknown}"),
    }
}

fn map(name: &str, key: &str, root: &str) -> String {
    format!(
        "kind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  {key}: |\n    etcd: {{rootPath: {root}}}\n---\n"
    )
}

const MOUNT: &str =
    "    volumeMounts: [{name: c, mountPath: /milvus/configs/user.yaml, subPath: custom}]\n";

#[rstest]
// The path of the mount decides, not the key.
#[case(
    "    volumeMounts: [{name: c, mountPath: /milvus/configs/user.yaml, subPath: custom}]",
    "configMap: {name: a}",
    "custom",
    "prod"
)]
#[case(
    "    volumeMounts: [{name: c, mountPath: /milvus/configs/other.yaml, subPath: user.yaml}]",
    "configMap: {name: a}",
    "user.yaml",
    "absent"
)]
#[case(
    "    volumeMounts: [{name: c, mountPath: /milvus/configs}]",
    "configMap: {name: a}",
    "milvus.yaml",
    "prod"
)]
#[case(
    "    volumeMounts: [{name: c, mountPath: /milvus/configs/}]",
    "configMap: {name: a, items: [{key: x, path: user.yaml}]}",
    "x",
    "prod"
)]
#[case(
    "    volumeMounts: [{name: c, mountPath: /milvus/configs/}]",
    "configMap: {name: a, items: [{key: x, path: y.yaml}]}",
    "x",
    "absent"
)]
#[case(
    "    volumeMounts: [{name: c, mountPath: /milvus, subPath: ./}]",
    "configMap: {name: a, items: [{key: x, path: configs/default.yaml}]}",
    "x",
    "prod"
)]
#[case(
    "    volumeMounts: [{name: c, mountPath: /milvus/configs/user.yaml, subPath: x}]",
    "projected: {sources: [{configMap: {name: b}}, {configMap: {name: a}}]}",
    "x",
    "prod"
)]
#[case(
    "    volumeMounts: [{name: c, mountPath: /milvus/configs/operator}]",
    "configMap: {name: a}",
    "user.yaml",
    "prod"
)]
// Another folder.
#[case(
    "    env: [{name: MILVUSCONF, value: /conf}]\n    volumeMounts: [{name: c, mountPath: /conf/user.yaml, subPath: x}]",
    "configMap: {name: a}",
    "x",
    "prod"
)]
#[case(
    "    env: [{name: MILVUSCONF, value: /conf}]\n    volumeMounts: [{name: c, mountPath: /milvus/configs/user.yaml, subPath: x}]",
    "configMap: {name: a}",
    "x",
    "absent"
)]
#[case(
    "    command: [milvus, run, standalone, --config, /conf/my.yaml]\n    volumeMounts: [{name: c, mountPath: /conf}]",
    "configMap: {name: a}",
    "my.yaml",
    "prod"
)]
#[case(
    "    command: [milvus, run, standalone, --config=/conf]\n    volumeMounts: [{name: c, mountPath: /conf}]",
    "configMap: {name: a}",
    "user.yaml",
    "prod"
)]
#[case(
    "    volumeMounts: [{name: c, mountPath: /opt/bitnami/milvus/configs/milvus.yaml, subPath: x}]",
    "configMap: {name: a}",
    "x",
    "prod"
)]
fn files_are_found_by_their_path(
    #[case] more: &str,
    #[case] volume: &str,
    #[case] key: &str,
    #[case] expected: &str,
) {
    let pod = container(more) + &format!("volumes: [{{name: c, {volume}}}]");
    assert_eq!(
        root(&pod, &(map("b", "other", "no") + &map("a", key, "prod"))),
        expected
    );
}

#[rstest]
#[case(
    "secret: {secretName: s}",
    "unknown: /milvus/configs/user.yaml from Secret s, which the input does not contain"
)]
#[case(
    "configMap: {name: s}",
    "unknown: /milvus/configs/user.yaml from ConfigMap s, which the input does not contain"
)]
#[case(
    "persistentVolumeClaim: {claimName: s}",
    "unknown: /milvus/configs/milvus.yaml on the volume claim s"
)]
#[case(
    "hostPath: {path: /s}",
    "unknown: /milvus/configs/milvus.yaml on the host path /s"
)]
#[case(
    "emptyDir: {}",
    "unknown: /milvus/configs/milvus.yaml on the volume c, which is filled when the pod starts"
)]
#[case(
    "nfs: {server: s, path: /p}",
    "unknown: /milvus/configs/milvus.yaml on nfs path=/p server=s"
)]
fn what_the_input_does_not_hold_is_unknown(#[case] volume: &str, #[case] expected: &str) {
    let mounts = if expected.contains("user.yaml") {
        MOUNT
    } else {
        "    volumeMounts: [{name: c, mountPath: /milvus/configs}]"
    };
    let pod = container(mounts) + &format!("volumes: [{{name: c, {volume}}}]");
    let expected = expected.replace("/milvus/configs/milvus.yaml", "/milvus/configs/user.yaml");
    assert_eq!(root(&pod, &map("a", "x", "no")), expected);
}

#[rstest]
#[case("env: [{name: ETCD_ROOT_PATH, value: prod}]", "prod")]
#[case("env: [{name: milvus.etcd.rootPath, value: prod}]", "prod")]
#[case("env: [{name: MILVUS.ETCD_ROOT_PATH, value: prod}]", "prod")]
#[case(
    "env: [{name: etcd.rootPath, value: no}, {name: ETCD_ROOTPATH, value: prod}]",
    "prod"
)]
#[case(
    "env: [{name: ETCD_ROOT_PATH, valueFrom: {configMapKeyRef: {name: a, key: root}}}]",
    "prod"
)]
#[case(
    "env: [{name: ETCD_ROOT_PATH, valueFrom: {secretKeyRef: {name: s, key: root}}}]",
    "hidden"
)]
#[case(
    "env: [{name: ETCD_ROOT_PATH, valueFrom: {secretKeyRef: {name: t, key: root}}}]",
    "unknown: key root of Secret t, which the input does not contain"
)]
#[case(
    "env: [{name: ETCD_ROOT_PATH, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
    "unknown: the field metadata.name of the pod"
)]
#[case(
    "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}, {name: ETCD_ROOT_PATH, value: \"$(A)/meta\"}]",
    "milvus/meta"
)]
#[case(
    "env: [{name: ETCD_ROOT_PATH, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['team']\"}}}]",
    "shop"
)]
#[case(
    "env: [{name: ETCD_ROOT_PATH, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['other']\"}}}]",
    "unknown: the field metadata.labels['other'] of the pod"
)]
#[case(
    "env: [{name: A, value: pr}, {name: ETCD_ROOT_PATH, value: \"$(A)od\"}]",
    "prod"
)]
#[case(
    "env: [{name: ETCD_ROOT_PATH, value: \"$(A)od\"}, {name: A, value: pr}]",
    "$(A)od"
)]
#[case(
    "env: [{name: A, value: x}, {name: ETCD_ROOT_PATH, value: \"$$(A)\"}]",
    "$(A)"
)]
#[case("env: [{name: ETCD_ROOT_PATH, value: \"\"}]", "absent")]
#[case("envFrom: [{configMapRef: {name: e}}]", "prod")]
#[case(
    "envFrom: [{configMapRef: {name: e}}]\n    env: [{name: ETCD_ROOT_PATH, value: own}]",
    "own"
)]
#[case("envFrom: [{prefix: ETCD_, configMapRef: {name: p}}]", "prod")]
#[case("envFrom: [{prefix: OTHER_, secretRef: {name: t}}]", "absent")]
#[case(
    "envFrom: [{secretRef: {name: t}}]",
    "unknown: all variables of Secret t, which the input does not contain"
)]
#[case("envFrom: [{secretRef: {name: t}}, {configMapRef: {name: e}}]", "prod")]
#[case(
    "envFrom: [{configMapRef: {name: e}}, {secretRef: {name: t}}]",
    "unknown: all variables of Secret t, which the input does not contain"
)]
fn variables(#[case] more: &str, #[case] expected: &str) {
    let objects = "kind: ConfigMap\nmetadata: {name: a}\ndata: {root: prod}\n---\nkind: ConfigMap\nmetadata: {name: e}\ndata: {ETCD_ROOT_PATH: prod}\n---\nkind: ConfigMap\nmetadata: {name: p}\ndata: {ROOT_PATH: prod}\n---\nkind: Secret\nmetadata: {name: s}\ndata: {root: aGlkZGVu}\n";
    assert_eq!(root(&container(&format!("    {more}")), objects), expected);
}

#[test]
fn layers_win_from_below() {
    let pod = container(
        "    env: [{name: MQ_TYPE, value: kafka}]\n    volumeMounts: [{name: c, mountPath: /milvus/configs}]",
    ) + "volumes: [{name: c, configMap: {name: a}}]";
    let objects = "kind: ConfigMap\nmetadata: {name: a}\ndata:\n  default.yaml: |\n    etcd:\n      rootPath: by-dev\n      endpoints:\n        - a:2379\n        - b:2379\n    mq: {type: pulsar}\n    mq: {type: rocksmq}\n  user.yaml: |\n    etcd: {rootPath: mine}\n  milvus.yaml: |\n    etcd: {rootPath: lowest, kvSubPath: low}\n";
    let config = config(&pod, objects);
    assert_eq!(config.value("etcd.rootPath"), Some("mine"));
    assert_eq!(config.value("etcd.kvSubPath"), Some("low"));
    assert_eq!(config.value("etcd.endpoints"), Some("a:2379,b:2379"));
    assert_eq!(config.value("mq.type"), Some("kafka"));
    assert_eq!(config.settings().len(), 4);
}

#[test]
fn what_milvus_keeps_in_etcd_beats_everything() {
    let mut config = config(&container("    env: [{name: MQ_TYPE, value: kafka}]"), "");
    let origin = Origin {
        source: "etcd".into(),
        document: 0,
        line: 0,
    };
    config.lay_dynamic(FileSettings::of([("mq/type", "woodpecker")], &origin));
    assert_eq!(config.value("mq.type"), Some("woodpecker"));
}

#[test]
fn images_before_2_4_read_one_file() {
    let pod = |version: &str, command: &str| {
        container(
            "    volumeMounts: [{name: c, mountPath: /milvus/configs/default.yaml, subPath: x}]",
        )
        .replace("v2.5.5", version)
        .replace("args: [", command)
            + "volumes: [{name: c, configMap: {name: a}}]"
    };
    assert_eq!(
        root(&pod("v2.3.3", "args: ["), &map("a", "x", "prod")),
        "absent"
    );
    assert_eq!(
        root(
            &pod("v2.3.3", "args: [/milvus/tools/run-helm.sh, "),
            &map("a", "x", "prod")
        ),
        "prod"
    );
    assert_eq!(
        root(&pod("v2.4.0", "args: ["), &map("a", "x", "prod")),
        "prod"
    );
}

#[test]
fn a_variable_on_top_of_a_file_is_a_change_of_the_file() {
    let files = |more: &str| {
        let pod = container(&format!(
            "    env: [{more}]\n    volumeMounts: [{{name: c, mountPath: /milvus/configs}}]"
        )) + "volumes: [{name: c, configMap: {name: a}}]";
        config(&pod, &map("a", "default.yaml", "by-dev"))
    };
    let keys = |changes: Vec<Setting<'_>>| {
        changes
            .into_iter()
            .map(|setting| setting.key.to_owned())
            .collect::<Vec<_>>()
    };
    let plain = files("{name: A, value: \"1\"}");
    let above = files("{name: A, value: \"2\"}, {name: ETCD_ROOT_PATH, value: mine}");
    assert_eq!(keys(plain.file_changes(&above)), ["etcd.rootPath"]);
    assert!(above.file_changes(&plain).is_empty());
    assert!(keys(plain.file_changes(&files("{name: ETCD_ROOT_PATH, value: by-dev}"))).is_empty());
}

#[test]
fn a_broken_file_is_named_and_unknown() {
    let pod = container(MOUNT) + "volumes: [{name: c, configMap: {name: a}}]";
    let objects = "kind: ConfigMap\nmetadata: {name: a}\ndata:\n  custom: |\n    etcd: {rootPath\n";
    let config = config(&pod, objects);
    assert!(config.is_empty());
    assert!(
        config.unreadable()[0].1.contains("custom: line "),
        "{:?}",
        config.unreadable()
    );
    assert!(config.unknown("etcd.rootPath").is_some());
}

#[test]
fn every_component_has_its_own() {
    let two = "kind: Deployment\nmetadata: {name: m-proxy, labels: {app.kubernetes.io/instance: m}}\nspec: {template: {spec: {containers: [{name: p, image: x, args: [milvus, run, proxy], env: [{name: ETCD_ROOT_PATH, value: one}]}]}}}\n---\nkind: Deployment\nmetadata: {name: m-querynode, labels: {app.kubernetes.io/instance: m}}\nspec: {template: {spec: {containers: [{name: p, image: x, args: [milvus, run, querynode], env: [{name: ETCD_ROOT_PATH, value: two}]}]}}}\n";
    let mut builder = Builder::default();
    for document in documents(two) {
        let document = document.unwrap();
        let origin = Origin {
            source: "x".into(),
            document: 1,
            line: 0,
        };
        builder.add(Object::read(&document.root, &origin, None).unwrap());
    }
    let release = builder.build().releases.remove(0);
    let values: Vec<_> = release
        .config
        .views()
        .map(|view| match view.lookup("etcd.rootPath") {
            Lookup::Known(setting) => (view.component(), setting.value.to_owned()),
            _ => panic!(),
        })
        .collect();
    assert_eq!(values, [(0, "two".to_owned()), (1, "one".to_owned())]);
}

/// The configuration of a workload that mounts one file, given as JSON texts of the objects.
fn of_objects(objects: &[serde_json::Value]) -> EffectiveConfig {
    let mut builder = Builder::default();
    for object in objects {
        let origin = Origin {
            source: "x".into(),
            document: 1,
            line: 0,
        };
        builder
            .add(Object::read(&crate::manifest::Node::from_json(object), &origin, None).unwrap());
    }
    builder.build().releases.remove(0).config
}

fn workload(container: &serde_json::Value) -> serde_json::Value {
    let mut all = serde_json::json!({"name": "p", "image": "milvusdb/milvus:v2.4.5", "args": ["milvus", "run", "proxy"],
        "volumeMounts": [{"name": "c", "mountPath": "/milvus/configs"}]});
    for (key, value) in container.as_object().unwrap() {
        all[key] = value.clone();
    }
    serde_json::json!({"kind": "Deployment", "metadata": {"name": "m-proxy", "labels": {"app.kubernetes.io/instance": "m"}},
        "spec": {"template": {"spec": {"containers": [all], "volumes": [{"name": "c", "configMap": {"name": "c"}}]}}}})
}

fn file(text: &str) -> serde_json::Value {
    serde_json::json!({"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"user.yaml": text}})
}

#[rstest]
#[case((0..=MAX_SETTINGS).map(|n| format!("k{n}: 1\n")).collect(), "more than 20000 settings")]
#[case(format!("{}: {{{}}}\n", "k".repeat(1000), (0..3000).map(|n| format!("l{n}, ")).collect::<String>()), "2048 KiB of keys")]
#[case(format!("a: [{}]\n", "1,".repeat(120_000)), "more than 100000 values")]
#[case(format!("a: 1\n# {}\n", "x".repeat(MAX_FILE_BYTES)), "more than 1024 KiB")]
fn a_file_that_says_too_much_is_unknown_as_a_whole(#[case] text: String, #[case] reason: &str) {
    let config = of_objects(&[workload(&serde_json::json!({})), file(&text)]);
    let unknown = config
        .unknown("etcd.rootPath")
        .expect("unknown, not absent")
        .to_string();
    assert!(
        unknown.contains(reason) && unknown.contains("user.yaml"),
        "{unknown}"
    );
    assert!(config.unreadable().is_empty(), "it is not damaged");
    assert!(
        of_objects(&[
            workload(&serde_json::json!({})),
            file("etcd: {rootPath: a}\n")
        ])
        .unknown("a")
        .is_none()
    );
}

#[test]
fn values_that_are_copied_too_often_are_unknown() {
    let long = "x".repeat(60_000);
    let copies = |value: serde_json::Value| -> Vec<serde_json::Value> {
        let one = |n: usize| {
            let mut entry = value.clone();
            entry["name"] = format!("B{n}").into();
            entry
        };
        std::iter::once(serde_json::json!({"name": "A", "value": long}))
            .chain((0..40).map(one))
            .collect()
    };
    let lookups = |env: Vec<serde_json::Value>| {
        let container = serde_json::json!({"env": env});
        let config = of_objects(&[workload(&container), file(&format!("k: {long}\n"))]);
        (
            config.value("B0").map(str::len),
            config.unknown("B39").map(ToString::to_string),
        )
    };
    for value in [
        serde_json::json!({"value": "$(A)"}),
        serde_json::json!({"valueFrom": {"configMapKeyRef": {"name": "c", "key": "user.yaml"}}}),
    ] {
        let (first, last) = lookups(copies(value));
        assert!(first >= Some(60_000), "{first:?}");
        assert!(
            last.as_ref()
                .is_some_and(|reason| reason.contains("1024 KiB in all")),
            "{last:?}"
        );
    }
}

#[test]
fn a_release_with_more_files_than_are_read_knows_the_first_ones() {
    let objects: Vec<_> = (0..4)
        .flat_map(|n| {
            let mut deployment = workload(&serde_json::json!({}));
            deployment["metadata"]["name"] = format!("m-{n}").into();
            deployment["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] =
                format!("c{n}").into();
            let mut config = file(&format!("a: {}\n", "x".repeat(700 * 1024)));
            config["metadata"]["name"] = format!("c{n}").into();
            [deployment, config]
        })
        .collect();
    let config = of_objects(&objects);
    let unknown: Vec<_> = config
        .views()
        .filter(ComponentSettings::has_unknown)
        .map(|view| view.component())
        .collect();
    assert_eq!(unknown, [2, 3]);
    assert!(
        config
            .unknown("a")
            .unwrap()
            .to_string()
            .contains("the files of the release have more than 2048 KiB")
    );
}
