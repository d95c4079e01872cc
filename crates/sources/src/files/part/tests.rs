//! Parts of releases, merged into the running state.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::files::{Role, objects::Collector};
use milvus_guard_core::milvus::{Component, Snapshot};

/// A workload; with the labels of the Helm release, if one is named.
fn workload(kind: &str, name: &str, image: &str, more: &str, helm: Option<&str>) -> String {
    let labels = match helm {
        Some(release) => {
            format!(
                "app.kubernetes.io/instance: {release}, app.kubernetes.io/managed-by: Helm, \
                 helm.sh/chart: x-4.2.57"
            )
        }
        None => format!("app: {name}"),
    };
    format!(
        "---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec:\n  selector: {{matchLabels: {{{labels}, name: {name}}}}}\n  template:\n    spec:\n      containers: [{{name: main, image: '{image}'{more}}}]\n      volumes: [{{name: c, configMap: {{name: r-config}}}}]\n"
    )
}

fn other(kind: &str, name: &str, helm: Option<&str>, more: &str) -> String {
    let labels = helm
        .map(|release| format!("app.kubernetes.io/instance: {release}"))
        .unwrap_or_default();
    format!(
        "---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n{more}"
    )
}

fn config(helm: Option<&str>, etcd: &str) -> String {
    other(
        "ConfigMap",
        "r-config",
        helm,
        &format!(
            "data:\n  milvus.yaml: |\n    etcd: {{endpoints: '{etcd}:2379'}}\n    minio: {{address: r-minio}}\n"
        ),
    )
}

fn milvus(component: &str, tag: &str, helm: Option<&str>) -> String {
    let name = format!("r-milvus-{component}");
    workload(
        "Deployment",
        &name,
        &format!("milvusdb/milvus:{tag}"),
        &format!(", args: [milvus, run, {component}]"),
        helm,
    )
}

fn etcd(name: &str, helm: Option<&str>) -> String {
    workload("StatefulSet", name, "quay.io/coreos/etcd:v3.5.18", "", helm)
}

fn minio(helm: Option<&str>) -> String {
    workload(
        "Deployment",
        "r-minio",
        "minio/minio:RELEASE.2023-03-20T20-16-18Z",
        "",
        helm,
    )
}

fn cluster(tag: &str, without: &str, helm: Option<&str>) -> String {
    let all = [
        "proxy",
        "rootcoord",
        "querycoord",
        "datacoord",
        "indexcoord",
        "querynode",
        "datanode",
        "indexnode",
    ];
    all.iter()
        .filter(|component| !without.split(' ').any(|gone| gone == **component))
        .map(|component| milvus(component, tag, helm))
        .collect()
}

fn source(text: &str) -> String {
    text.replace("---\n", "---\n# Source: milvus/templates/x.yaml\n")
}

fn loaded(role: Role, text: &str) -> Loaded {
    let mut collector = Collector::new(role, None);
    collector.add_text(text, "x.yaml").unwrap();
    let content = collector.content("x.yaml").unwrap();
    Loaded {
        snapshot: content.builder().build(),
        content,
        ..Loaded::default()
    }
}

/// Settles a change: whether it is a part, the remark, and the state after it.
fn settled(before: &str, after: &str, choice: Choice) -> (bool, String, Snapshot) {
    let before = loaded(Role::Before, before);
    let mut after = loaded(Role::After, after);
    settle(&before, &mut after, choice).unwrap();
    let note = after.entry.notes.join("\n");
    (note.starts_with("after is a part"), note, after.snapshot)
}

/// A Milvus with its dependencies, with labels of this Helm release or of none.
fn stack(helm: Option<&str>) -> String {
    [
        milvus("standalone", "v2.6.1", helm),
        config(helm, "r-etcd"),
        other("Service", "r-milvus", helm, ""),
        etcd("r-etcd", helm),
        minio(helm),
    ]
    .concat()
}

#[rstest]
#[case::one_deployment(milvus("standalone", "v2.6.22", None), true)]
#[case::milvus_in_a_file_of_its_own([milvus("standalone", "v2.6.22", None), config(None, "r-etcd"), other("Service", "r-milvus", None, "")].concat(), true)]
#[case::one_dependency(etcd("r-etcd", None), true)]
#[case::only_the_configuration(config(None, "r-etcd"), true)]
#[case::all([milvus("standalone", "v2.6.22", None), etcd("r-etcd", None), minio(None)].concat(), false)]
#[case::milvus_forgotten([etcd("r-etcd", None), minio(None)].concat(), false)]
#[case::etcd_forgotten([milvus("standalone", "v2.6.22", None), config(None, "r-etcd"), minio(None)].concat(), false)]
#[case::etcd_elsewhere_and_minio([milvus("standalone", "v2.6.22", None), config(None, "etcd.infra.svc"), minio(None)].concat(), false)]
#[case::another_topology([cluster("v2.6.22", "", None), config(None, "r-etcd")].concat(), false)]
fn files_without_helm_are_a_part_or_a_whole_release(#[case] after: String, #[case] expected: bool) {
    let (is_part, note, snapshot) = settled(&stack(None), &after, Choice::Seen);
    assert_eq!(is_part, expected, "{note}");
    if expected {
        let release = &snapshot.releases[0];
        assert!(release.has(Component::Standalone), "{note}");
        assert_eq!(
            release.families().len(),
            2,
            "a part removes nothing: {note}"
        );
        assert_eq!(release.config.value("etcd.endpoints"), Some("r-etcd:2379"));
    }
}

#[rstest]
#[case::both_elsewhere("etcd.infra", "minio.infra", false)]
#[case::both_here("r-etcd", "r-minio", true)]
#[case::one_here("r-etcd", "minio.infra", true)]
fn dependencies_that_the_configuration_still_uses_stay(
    #[case] etcd: &str,
    #[case] minio: &str,
    #[case] expected: bool,
) {
    let config = config(None, etcd).replace("address: r-minio", &format!("address: {minio}"));
    let after = [milvus("standalone", "v2.6.22", None), config].concat();
    let (is_part, note, _) = settled(&stack(None), &after, Choice::Seen);
    assert_eq!(is_part, expected, "{note}");
    assert!(
        note.contains(if expected { "--whole" } else { "--part" }),
        "{note}"
    );
}

#[rstest]
#[case::whole(source(&stack(Some("r")).replace("v2.6.1", "v2.6.22")), false)]
#[case::etcd_dropped(source(&[milvus("standalone", "v2.6.22", Some("r")), config(Some("r"), "r-etcd"), other("Service", "r-milvus", Some("r"), ""), minio(Some("r"))].concat()), false)]
#[case::all_dependencies_dropped(source(&[milvus("standalone", "v2.6.22", Some("r")), config(Some("r"), "r-etcd"), other("Service", "r-milvus", Some("r"), "")].concat()), false)]
#[case::labels_tell_a_render([milvus("standalone", "v2.6.22", Some("r")), config(Some("r"), "r-etcd"), other("Service", "r-milvus", Some("r"), "")].concat(), false)]
#[case::show_only(source(&milvus("standalone", "v2.6.22", Some("r"))), true)]
#[case::show_only_two(source(&[milvus("standalone", "v2.6.22", Some("r")), config(Some("r"), "r-etcd")].concat()), true)]
#[case::show_only_etcd(source(&etcd("r-etcd", Some("r"))), true)]
#[case::copied_from_the_cluster(milvus("standalone", "v2.6.22", Some("r")).replace("metadata: {name: r", "metadata: {uid: a-b, name: r"), true)]
fn rendered_templates_are_a_part_or_a_whole_release(#[case] after: String, #[case] expected: bool) {
    let (is_part, note, snapshot) = settled(&stack(Some("r")), &after, Choice::Seen);
    assert_eq!(is_part, expected, "{note}");
    assert_eq!(snapshot.releases.len(), 1);
    assert!(
        !expected || snapshot.releases[0].families().len() == 2,
        "a part removes nothing"
    );
}

#[test]
fn a_render_without_milvus_is_not_a_part() {
    let helm = Some("r");
    let before = [
        cluster("v2.5.10", "", helm),
        config(helm, "r-etcd"),
        etcd("r-etcd", helm),
        minio(helm),
    ]
    .concat();
    let rest = source(&[etcd("r-etcd", helm), minio(helm)].concat());
    let (is_part, note, snapshot) = settled(&before, &rest, Choice::Seen);
    assert!(
        !is_part && snapshot.releases.is_empty() && note.contains("--part"),
        "{note}"
    );
    assert!(settled(&before, &rest, Choice::Part).0);
}

#[rstest]
#[case::etcd_dropped(&["r-milvus-standalone", "r-minio"], false)]
#[case::only_milvus(&["r-milvus-standalone"], true)]
fn lists_of_workloads_are_a_part_or_a_whole_release(#[case] held: &[&str], #[case] expected: bool) {
    let helm = Some("r");
    let all = [
        milvus("standalone", "v2.6.1", helm),
        etcd("r-etcd", helm),
        minio(helm),
    ];
    let after: String = all
        .iter()
        .filter(|text| {
            held.iter()
                .any(|name| text.contains(&format!("{{name: {name},")))
        })
        .cloned()
        .collect();
    let (is_part, note, _) = settled(&all.concat(), &after, Choice::Seen);
    assert_eq!(is_part, expected, "{note}");
    assert!(
        note.contains(if expected { "--whole" } else { "--part" }),
        "{note}"
    );
}

#[rstest]
#[case::querynode_dropped("querynode", false)]
#[case::index_node_dropped("indexnode", false)]
#[case::one_of_eight(
    "rootcoord querycoord datacoord indexcoord querynode datanode indexnode",
    true
)]
#[case::half("proxy rootcoord querycoord datacoord", true)]
#[case::five_of_eight("proxy rootcoord querycoord", false)]
fn files_with_half_of_the_components_or_less_are_a_part(
    #[case] without: &str,
    #[case] expected: bool,
) {
    let before = [cluster("v2.5.10", "", None), config(None, "etcd.infra")].concat();
    let (is_part, note, snapshot) =
        settled(&before, &cluster("v2.5.11", without, None), Choice::Seen);
    assert_eq!(is_part, expected, "{note}");
    let missing = without.split(' ').count();
    assert_eq!(
        snapshot.releases[0].components.len(),
        if expected { 8 } else { 8 - missing }
    );
}

#[test]
fn flags_of_the_user_override_the_detected_extent() {
    let one = milvus("standalone", "v2.6.22", None);
    let (is_part, note, snapshot) = settled(&stack(None), &one, Choice::Whole);
    assert!(
        !is_part && snapshot.releases[0].dependencies.is_empty(),
        "{note}"
    );
    let render = source(
        &[
            milvus("standalone", "v2.6.22", Some("r")),
            config(Some("r"), "r-etcd"),
            other("Service", "r-milvus", Some("r"), ""),
        ]
        .concat(),
    );
    let (is_part, note, snapshot) = settled(&stack(Some("r")), &render, Choice::Part);
    assert!(
        is_part && snapshot.releases[0].dependencies.len() == 2,
        "{note}"
    );
    assert_eq!(
        note,
        "after is a part: 3 objects merged into the state before; 2 stay unchanged"
    );
}

#[test]
fn the_remark_counts_unchanged_objects() {
    let (_, note, _) = settled(
        &stack(None),
        &milvus("standalone", "v2.6.22", None),
        Choice::Seen,
    );
    assert!(
        note.starts_with(
            "after is a part: 1 object merged into the state before; 4 stay unchanged \
             (assumed, because "
        ),
        "{note}"
    );
}

#[test]
fn releases_that_the_part_does_not_touch_are_not_judged() {
    let second = stack(Some("r"))
        .replace("r-", "s-")
        .replace("instance: r", "instance: s");
    let before = format!("{}{second}", stack(Some("r")));
    let copy = milvus("standalone", "v2.6.22", Some("r"))
        .replace("metadata: {name: r", "metadata: {uid: a-b, name: r");
    let (is_part, note, snapshot) = settled(&before, &copy, Choice::Seen);
    assert!(is_part, "{note}");
    assert_eq!(
        snapshot
            .releases
            .iter()
            .map(|release| release.name.as_str())
            .collect::<Vec<_>>(),
        ["r"]
    );
    assert_eq!(snapshot.releases[0].dependencies.len(), 2);
}

#[test]
fn a_patch_without_its_object_is_an_error() {
    let patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: r-milvus-standalone}\nspec: {replicas: 0}\n";
    let mut after = loaded(Role::After, patch);
    let error = settle(
        &loaded(Role::Before, &stack(None)),
        &mut after,
        Choice::Seen,
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("Deployment/r-milvus-standalone is a patch"),
        "{error}"
    );
}

#[test]
fn a_namespace_may_be_named_on_one_side_only() {
    let in_namespace =
        |text: &str| text.replace("metadata: {name", "metadata: {namespace: search, name");
    let one = milvus("standalone", "v2.6.22", None);
    for (before, after) in [
        (in_namespace(&stack(None)), one.clone()),
        (stack(None), in_namespace(&one)),
    ] {
        let (is_part, note, snapshot) = settled(&before, &after, Choice::Seen);
        assert!(is_part, "{note}");
        assert_eq!(
            (
                snapshot.releases.len(),
                snapshot.releases[0].dependencies.len()
            ),
            (1, 2),
            "{note}"
        );
    }
}

#[test]
fn a_patch_changes_only_what_it_names() {
    let before = [milvus("standalone", "v2.6.1", None), etcd("r-etcd", None)].concat();
    let patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: r-milvus-standalone}\nspec:\n  template:\n    spec:\n      containers: [{name: main, image: 'milvusdb/milvus:v2.6.22'}]\n";
    let mut after = loaded(Role::After, patch);
    let mut collector = Collector::new(Role::Before, None).keep(after.content.patches());
    collector.add_text(&before, "before.yaml").unwrap();
    let content = collector.content("before.yaml").unwrap();
    let before = Loaded {
        snapshot: content.builder().build(),
        content,
        ..Loaded::default()
    };
    settle(&before, &mut after, Choice::Seen).unwrap();
    assert_eq!(
        after.entry.notes,
        ["after is a part: 1 object merged into the state before; 1 stay unchanged"]
    );
    let release = &after.snapshot.releases[0];
    assert_eq!(release.lowest().unwrap().to_string(), "2.6.22");
    assert_eq!(
        release.components[0].workload.pod.containers[0].command,
        ["milvus", "run", "standalone"]
    );
    assert_eq!(release.dependencies.len(), 1);
}

#[test]
fn dependencies_of_another_owner_are_not_removed() {
    let live = |text: &str, owner: &str| {
        text.replace(
            "metadata: {name",
            &format!("metadata: {{annotations: {{meta.helm.sh/release-name: {owner}}}, name"),
        )
    };
    let before = [
        live(&milvus("standalone", "v2.6.1", Some("r")), "r"),
        live(&config(Some("r"), "r-etcd"), "r"),
        live(&etcd("r-etcd", Some("data")), "data"),
        live(&minio(Some("r")), "r"),
    ]
    .concat();
    let after = source(
        &[
            milvus("standalone", "v2.6.22", Some("r")),
            config(Some("r"), "r-etcd"),
        ]
        .concat(),
    );
    let (is_part, note, snapshot) = settled(&before, &after, Choice::Whole);
    assert!(!is_part, "{note}");
    let names: Vec<&str> = snapshot.releases[0]
        .dependencies
        .iter()
        .map(|dependency| &*dependency.workload.meta.object.name)
        .collect();
    assert_eq!(
        names,
        ["r-etcd"],
        "MinIO belongs to the same release and is removed"
    );
}

#[test]
fn output_of_helm_and_of_terraform_is_a_whole_release() {
    let one = milvus("standalone", "v2.6.22", Some("r"));
    let printed = format!(
        "NAME: r\nNAMESPACE: milvus\nSTATUS: pending-upgrade\nREVISION: 2\nHOOKS:\nMANIFEST:\n{}",
        source(&one)
    );
    let document = milvus_guard_core::manifest::documents(&one)
        .next()
        .unwrap()
        .unwrap()
        .root
        .to_json();
    let map = serde_json::json!({"deployment.apps/apps/v1/r": document}).to_string();
    for whole in [printed, map] {
        let (is_part, note, snapshot) = settled(&stack(Some("r")), &whole, Choice::Seen);
        assert!(
            !is_part && snapshot.releases[0].dependencies.is_empty(),
            "{note}"
        );
    }
}

proptest! {
    #[test]
    fn a_part_of_the_running_state_changes_nothing(chosen in proptest::collection::vec(any::<bool>(), 13), rendered in any::<bool>()) {
        let helm = rendered.then_some("r");
        let before = [cluster("v2.5.10", "", helm), config(helm, "r-etcd"), other("Service", "r-milvus", helm, ""), etcd("r-etcd", helm), minio(helm)].concat();
        let documents: Vec<&str> = before.split_inclusive("---\n").collect();
        let after: String = documents.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(text, _)| format!("---\n{text}")).collect();
        let running = loaded(Role::Before, &before);
        let mut collector = Collector::new(Role::After, None);
        collector.add_text(&after, "x").unwrap();
        if let Ok(content) = collector.content("x") {
            let touches = content.metas().any(|meta| meta.object.kind != "Service");
            let mut after = Loaded { snapshot: content.builder().build(), content, ..Loaded::default() };
            settle(&running, &mut after, Choice::Part).unwrap();
            prop_assert_eq!(after.snapshot.releases.len(), usize::from(touches));
            for release in &after.snapshot.releases {
                let known = &running.snapshot.releases[0];
                prop_assert_eq!(release.components.len(), known.components.len());
                prop_assert_eq!(release.dependencies.len(), known.dependencies.len());
                prop_assert_eq!(release.builds(), known.builds());
                prop_assert_eq!(release.config.value("etcd.endpoints"), known.config.value("etcd.endpoints"));
            }
        }
    }
}

/// The Milvus versions that are read from a text.
fn versions(text: &str) -> Vec<String> {
    let loaded = loaded(Role::After, text);
    let releases = &loaded.snapshot.releases;
    let builds = releases.iter().flat_map(Release::builds);
    builds.map(|build| build.to_string()).collect()
}

#[test]
fn json_documents_may_follow_one_another() {
    let document = |name: &str, tag: &str| {
        milvus_guard_core::manifest::documents(&milvus(name, tag, None))
            .next()
            .unwrap()
            .unwrap()
            .root
            .to_json()
            .to_string()
    };
    let one = document("standalone", "v2.6.1");
    let other = r#"{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "s--- {}"}}"#;
    for text in [
        format!("{other}\n{one}\n"),
        format!("{one}{other}"),
        format!("{one} \r\n\r\n {other}"),
        format!("[{one}]\n{other}"),
    ] {
        assert_eq!(versions(&text), ["2.6.1"], "{text}");
        assert_eq!(
            loaded(Role::After, &text).content.metas().count(),
            2,
            "{text}"
        );
    }
    let second = loaded(Role::After, &format!("{other}\n{one}\n"));
    let lines: Vec<u32> = second
        .content
        .metas()
        .map(|meta| meta.origin.line)
        .collect();
    assert_eq!(lines, [1, 2]);
    // A text that was cut is an error: its first documents are not read alone.
    let mut collector = Collector::new(Role::After, None);
    let cut = format!("{other}\n{}", one.get(..one.len() - 5).unwrap());
    assert!(collector.add_text(&cut, "x.json").is_err());
}

#[test]
fn items_of_a_list_of_one_kind_have_that_kind() {
    let mut item = milvus_guard_core::manifest::documents(&milvus("standalone", "v2.6.1", None))
        .next()
        .unwrap()
        .unwrap()
        .root
        .to_json();
    let map = item.as_object_mut().unwrap();
    let version = map.remove("apiVersion").unwrap();
    let kind = map.remove("kind").unwrap();
    let list = serde_json::json!({
        "apiVersion": version, "kind": format!("{}List", kind.as_str().unwrap()), "items": [item],
    });
    assert_eq!(versions(&list.to_string()), ["2.6.1"]);
    let unnamed = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [item]});
    let mut collector = Collector::new(Role::After, None);
    collector.add_text(&unnamed.to_string(), "x.json").unwrap();
    assert!(collector.content("x.json").is_err());
}
