//! Configuration that an init container writes: what it makes of its sources is not followed, so a
//! change of any of them is a warning of every data rule that could not look.

use rstest::rstest;

use crate::{
    evidence::Facts,
    milvus::{Component::Standalone, Manager},
};

use super::{
    Rule, Severity,
    managers::found,
    mg301_message_queue_changed, mg302_metadata_root_changed, mg303_object_storage_changed,
    mg304_authorization_off,
    testing::{Fixture, judge},
};

/// A standalone whose configuration lies on a volume that an init container fills. `volumes` are
/// those that it reads, `init` further lines of it.
fn written(volumes: &str, init: &str) -> Fixture {
    Fixture::standalone("2.5.5")
        .unmerged()
        .container(
            Standalone,
            "volumeMounts:\n  - {name: w, mountPath: /milvus/configs}",
        )
        .pod(
            Standalone,
            &format!(
                "volumes:\n  - {{name: w, emptyDir: {{}}}}\n{volumes}initContainers:\n  - name: write\n    image: busybox:1.36\n    command: [sh, -c, cp /in/* /out/]\n{init}"
            ),
        )
}

const FROM_MAP: &str = "  - {name: in, configMap: {name: made-1}}\n";
const MOUNTS: &str = "    volumeMounts: [{name: in, mountPath: /in}, {name: w, mountPath: /out}]\n";

fn map(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n{data}\n")
}

/// How severe MG302 is about its missing facts.
fn severity(before: &Fixture, after: &Fixture) -> Option<Severity> {
    found(before, after, &Manager::plain_chart(), &Facts::default())
        .into_iter()
        .find(|finding| finding.rule.id == "MG302" && finding.not_evaluated)
        .map(|finding| finding.severity)
}

fn secret(data: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n{data}\n")
}

const ROOT: &str = "data: {user.yaml: \"etcd: {rootPath: by-dev}\"}";
const OTHER: &str = "data: {user.yaml: \"etcd: {rootPath: other}\"}";

#[rstest]
#[case::the_same(&map("made-1", ROOT), &map("made-1", ROOT), Severity::Audit)]
#[case::changed(&map("made-1", ROOT), &map("made-1", OTHER), Severity::Warn)]
#[case::another_key(&map("made-1", "data: {a: x}"), &map("made-1", "data: {b: x}"), Severity::Warn)]
#[case::keys_in_another_order(
    &map("made-1", "data: {a: x, b: y}"),
    &map("made-1", "data: {b: y, a: x}"),
    Severity::Audit
)]
#[case::binary_the_same(
    &map("made-1", "binaryData: {a: /v8=}"),
    &map("made-1", "binaryData: {a: /v8=}"),
    Severity::Audit
)]
#[case::binary_changed(
    &map("made-1", "binaryData: {a: /v8=}"),
    &map("made-1", "binaryData: {a: /v4=}"),
    Severity::Warn
)]
#[case::only_after("", &map("made-1", ROOT), Severity::Warn)]
#[case::only_before(&map("made-1", ROOT), "", Severity::Warn)]
#[case::nowhere("", "", Severity::Audit)]
#[case::an_object_of_others(
    &map("of-others", ROOT),
    &map("of-others", OTHER),
    Severity::Audit
)]
fn sources_of_an_init_container_are_compared(
    #[case] before: &str,
    #[case] after: &str,
    #[case] expected: Severity,
) {
    let with = |object: &str| {
        let fixture = written(FROM_MAP, MOUNTS);
        if object.is_empty() {
            fixture
        } else {
            fixture.object(object)
        }
    };
    assert_eq!(severity(&with(before), &with(after)), Some(expected));
}

#[rstest]
#[case::a_secret("  - {name: in, secret: {secretName: s}}\n", MOUNTS)]
#[case::projected(
    "  - name: in\n    projected: {sources: [{secret: {name: s, items: [{key: a, path: b}]}}]}\n",
    MOUNTS
)]
#[case::a_variable(
    "",
    "    env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: a}}}]\n"
)]
#[case::all_variables("", "    envFrom: [{secretRef: {name: s}}]\n")]
fn every_form_of_a_reference_counts(#[case] volumes: &str, #[case] init: &str) {
    let with = |data: &str| written(volumes, init).object(&secret(data));
    let old = with("stringData: {a: x}");
    assert_eq!(
        severity(&old, &with("stringData: {a: y}")),
        Some(Severity::Warn)
    );
    // `eA==` is `x`.
    assert_eq!(
        severity(&old, &with("data: {a: eA==}")),
        Some(Severity::Audit)
    );
}

#[test]
fn a_key_that_is_not_mounted_does_not_count() {
    let volumes = "  - {name: in, configMap: {name: made-1, items: [{key: a, path: a}]}}\n";
    let with = |data: &str| written(volumes, MOUNTS).object(&map("made-1", data));
    let old = with("data: {a: x, b: x}");
    assert_eq!(
        severity(&old, &with("data: {a: x, b: y}")),
        Some(Severity::Audit)
    );
    assert_eq!(
        severity(&old, &with("data: {a: y, b: x}")),
        Some(Severity::Warn)
    );
}

#[test]
fn an_object_with_another_name_and_the_same_content_is_the_same() {
    let old = written(FROM_MAP, MOUNTS).object(&map("made-1", ROOT));
    let renamed = |data: &str| {
        written(&FROM_MAP.replace("made-1", "made-2"), MOUNTS).object(&map("made-2", data))
    };
    assert_eq!(severity(&old, &renamed(ROOT)), Some(Severity::Audit));
    assert_eq!(severity(&old, &renamed(OTHER)), Some(Severity::Warn));
    let unknown = written(&FROM_MAP.replace("made-1", "made-2"), MOUNTS);
    assert_eq!(
        severity(&written(FROM_MAP, MOUNTS), &unknown),
        Some(Severity::Warn),
        "another name, and no content on either side"
    );
}

#[test]
fn what_an_init_container_runs_counts() {
    let old = written(FROM_MAP, MOUNTS);
    let more = written(FROM_MAP, &format!("{MOUNTS}    args: [x]\n"));
    assert_eq!(severity(&old, &more), Some(Severity::Warn));
}

/// A standalone as Bitnami's chart renders it: the init container merges this file.
fn merged(yaml: &str) -> Fixture {
    let script = "find /bitnami/milvus/conf -type f -name *.yaml -print0 | sort -z | xargs -0 yq eval-all '. as $item ireduce ({}; . * $item )' /bitnami/milvus/rendered-conf/milvus.yaml > /bitnami/milvus/rendered-conf/pre-render-config_00.yaml\nrender-template /bitnami/milvus/rendered-conf/pre-render-config_00.yaml > /bitnami/milvus/rendered-conf/milvus.yaml";
    let command = serde_json::json!(["bash", "-ec", script]);
    let data = serde_json::json!({ "00_milvus_default.yaml": yaml });
    Fixture::standalone("2.5.5")
        .unmerged()
        .repository("bitnami/milvus")
        .container(
            Standalone,
            "volumeMounts:\n  - {name: e, mountPath: /opt/bitnami/milvus/configs, subPath: conf}",
        )
        .pod(
            Standalone,
            &format!(
                "volumes:\n  - {{name: e, emptyDir: {{}}}}\n  - {{name: c, configMap: {{name: common}}}}\ninitContainers:\n  - name: prepare-milvus\n    image: bitnami/milvus:v2.5.5\n    command: {command}\n    volumeMounts:\n      - {{name: c, mountPath: /bitnami/milvus/conf/00_default}}\n      - {{name: e, mountPath: /bitnami/milvus/rendered-conf, subPath: conf}}"
            ),
        )
        .object(&map("common", &format!("data: {data}")))
}

#[rstest]
#[case(&mg301_message_queue_changed::RULE, "mq: {type: kafka}\nkafka: {brokerList: k:9092}", "mq: {type: kafka}\nkafka: {brokerList: other:9092}")]
#[case(&mg302_metadata_root_changed::RULE, "etcd: {rootPath: by-dev}", "etcd: {rootPath: other}")]
#[case(&mg303_object_storage_changed::RULE, "minio: {bucketName: a}", "minio: {bucketName: b}")]
#[case(&mg304_authorization_off::RULE, "common: {security: {authorizationEnabled: true}}", "{}")]
fn a_merged_file_is_judged_at_every_door(
    #[case] rule: &'static Rule,
    #[case] old: &str,
    #[case] new: &str,
) {
    let rest = "\nx: {y: z}";
    let (old, new) = (merged(&format!("{old}{rest}")), merged(new));
    let found = judge(rule, Some(&old), &new);
    assert!(
        found
            .iter()
            .any(|finding| finding.severity == Severity::Deny && !finding.not_evaluated),
        "{found:?}"
    );
    let found = judge(rule, Some(&old), &old);
    assert!(
        found
            .iter()
            .all(|finding| finding.severity == Severity::Audit),
        "{found:?}"
    );
}

#[test]
fn the_advice_fits_what_would_tell_the_value() {
    let advice = |fixture: &Fixture| {
        found(fixture, fixture, &Manager::plain_chart(), &Facts::default())
            .into_iter()
            .find(|finding| finding.rule.id == "MG302" && finding.not_evaluated)
            .map(|finding| finding.fix.text)
            .unwrap_or_default()
    };
    assert!(advice(&written(FROM_MAP, MOUNTS)).starts_with("An init container writes this value"));
    let on = |volume: &str| {
        Fixture::standalone("2.5.5")
            .unmerged()
            .container(
                Standalone,
                "volumeMounts:\n  - {name: w, mountPath: /milvus/configs}",
            )
            .pod(Standalone, &format!("volumes:\n  - {{name: w, {volume}}}"))
    };
    assert!(advice(&on("hostPath: {path: /x}")).starts_with("No input holds this value"));
    assert!(advice(&on("configMap: {name: away}")).starts_with("Add that object to the input"));
}
