//! `upgrade ... -- helm upgrade`: Helm applies a new chart, topology and values while every
//! component is paused, and the components then roll in the order of the data.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    common::{
        Chart,
        jobs::Kubelet,
        migration_cluster::Running,
        roll::{DEADLINE, RELEASE, Roll},
        run,
        webhook::GUARD,
    },
    helm_site::{NAMESPACE, Site, VALUES, image, position, version, words, write_refused},
};
use milvus_guard_core::milvus::{
    Component,
    Component::{DataNode, IndexNode, MixCoord, Proxy, QueryNode, StreamingNode},
    catalogue::{Catalogue, OrderTopology},
};
use milvus_guard_testbed::{Helm, helm, wait_until};
use rstest::rstest;
use serde_json::Value;

#[rstest]
#[case::helm_3(Helm::V3)]
#[case::helm_4(Helm::V4)]
fn streaming_nodes_come_first_and_index_nodes_go_last(#[case] with: Helm) {
    let old = Chart::compact("4.2.40");
    let site = Site::new(with, &old, "v2.5.27", &VALUES);
    assert!(
        site.services()
            .contains(&"my-release-milvus-indexnode".into())
    );
    let watch = site.roll.watch(NAMESPACE);
    let new = Chart::compact("5.0.14");
    let values = [&VALUES[..], &["querynode.replicas=2"]].concat();
    let (code, stdout, stderr) = run(&mut site.upgrade(&new, "v2.6.22", &values));
    println!("{stderr}\n{stdout}");
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert!(
        stdout.contains("my-release runs 2.6.22, every component of it."),
        "{stdout}"
    );

    let target = image("v2.6.22");
    let order = Catalogue::embedded()
        .order(
            version("2.5.27"),
            version("2.6.22"),
            OrderTopology::StreamingIntroduction,
        )
        .unwrap();
    let expected = [StreamingNode, MixCoord, QueryNode, DataNode, Proxy];
    assert_eq!(watch.order(&target), expected);
    watch.assert_order(&target, |one| order.before(one).collect(), &[StreamingNode]);
    let gone = position(&watch, |one, _, gone| one == IndexNode && gone, false).unwrap();
    let last = position(&watch, |_, image, gone| image == target && !gone, true).unwrap();
    assert!(gone > last, "index nodes must end after all others are new");

    let expected = [
        "datanode",
        "mixcoord",
        "proxy",
        "querynode",
        "streamingnode",
    ]
    .map(|component| format!("my-release-milvus-{component}"));
    assert_eq!(site.deployments(), expected);
    assert!(
        !site
            .services()
            .contains(&"my-release-milvus-indexnode".into())
    );
    assert!(
        site.services()
            .contains(&"my-release-milvus-streamingnode".into())
    );
    let querynode = site.roll.deployment(NAMESPACE, "querynode");
    assert_eq!(
        querynode["spec"]["replicas"], 2,
        "the new values must be applied"
    );
    site.assert_clean();
    site.assert_as_manifest();
    assert_eq!(site.roll.run(NAMESPACE)["status"]["phase"], "Succeeded");

    // The next plain upgrade changes every component, including the new one, and meets no conflict.
    let mut next = vec!["upgrade".to_owned(), RELEASE.to_owned()];
    let more = ["readinessProbe.periodSeconds=11"];
    next.extend(words(&new, "v2.6.22", &[&values[..], &more].concat()));
    let next: Vec<&str> = next.iter().map(String::as_str).collect();
    site.helm(&next);
    for one in site.roll.deployments(NAMESPACE) {
        let container = &one["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["readinessProbe"]["periodSeconds"], 11, "{one:#}");
    }
    site.roll.await_complete(NAMESPACE);
}

/// Chart, source, target, and the coordinators' rows of the order data.
#[rstest]
#[case::from_2_2(Helm::V3, "4.1.34", "2.2.16", "2.3.22", "separate-to-mixed-from-2.2")]
#[case::from_2_4(Helm::V4, "4.1.34", "2.4.5", "2.4.24", "separate-to-mixed")]
fn separate_coordinators_are_deleted_before_a_mixed_one_starts(
    #[case] with: Helm,
    #[case] chart: &'static str,
    #[case] from: &str,
    #[case] to: &str,
    #[case] row: &str,
) {
    const SEPARATE: [Component; 4] = [
        Component::RootCoord,
        Component::DataCoord,
        Component::IndexCoord,
        Component::QueryCoord,
    ];
    let chart = Chart::compact(chart);
    let separate = ["mixCoordinator.enabled=false", "componentServices=true"];
    let site = Site::new(with, &chart, &format!("v{from}"), &separate);
    let watch = site.roll.watch(NAMESPACE);
    let tag = format!("v{to}");
    let (code, stdout, stderr) = run(&mut site.upgrade(&chart, &tag, &VALUES));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    let order = Catalogue::embedded()
        .order(version(from), version(to), OrderTopology::SeparateToMixed)
        .unwrap();
    assert_eq!(order.id, row);
    let target = image(&tag);
    let steps = order.steps.iter().flat_map(|step| &step.components);
    let expected: Vec<Component> = steps
        .copied()
        .filter(|component| !SEPARATE.contains(component))
        .collect();
    assert_eq!(watch.order(&target), expected);
    let before = |one: Component| order.before(one).collect::<Vec<_>>();
    watch.assert_order(&target, before, &[]);
    let first = position(&watch, |one, _, _| one == MixCoord, false).unwrap();
    for coordinator in SEPARATE {
        let gone = position(&watch, |one, _, gone| one == coordinator && gone, true).unwrap();
        assert!(
            gone < first,
            "{coordinator} must be deleted before the mixed coordinator starts"
        );
    }
    let left = site.deployments();
    let is_separate = |name: &&String| SEPARATE.iter().any(|one| name.ends_with(one.name()));
    assert_eq!(left.iter().find(is_separate), None);
    site.assert_clean();
    site.assert_as_manifest();
}

#[test]
fn a_denied_change_stops_before_any_object_changes() {
    let old = Chart::compact("4.1.34");
    let site = Site::new(Helm::V4, &old, "v2.4.24", &VALUES);
    let objects = site.roll.deployments(NAMESPACE);
    let new = Chart::compact("5.0.14");
    let (code, _, stderr) = run(&mut site.upgrade(&new, "v2.6.22", &VALUES));
    assert!(code == 1 && stderr.contains("MG102"), "{code} {stderr}");
    assert!(stderr.contains("Nothing was changed"), "{stderr}");
    assert_eq!(site.roll.deployments(NAMESPACE), objects);
    assert!(site.roll.runs(NAMESPACE).is_empty());
    let history = site.helm(&["history", RELEASE, "-o", "json"]);
    let history: Value = serde_json::from_str(&history).unwrap();
    assert_eq!(history.as_array().unwrap().len(), 1);
}

#[test]
fn a_dry_run_shows_the_steps_and_changes_nothing() {
    let old = Chart::compact("4.2.40");
    let site = Site::new(Helm::V3, &old, "v2.5.27", &VALUES);
    let objects = site.roll.deployments(NAMESPACE);
    let new = Chart::compact("5.0.14");
    let words = words(&new, "v2.6.22", &VALUES);
    let (code, stdout, stderr) = run(&mut site.upgrade_by(&helm(Helm::V3), &["--dry-run"], &words));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    let steps = [
        "3  Pause every component, then let Helm apply its change",
        "4  Add streamingnode at 2.6.22 (my-release-milvus-streamingnode)",
        "9  Stop indexnode, which 2.6.22 does not have (my-release-milvus-indexnode)",
        "12  Delete what the chart does not have any more",
    ];
    for step in steps {
        assert!(stdout.contains(step), "{step}: {stdout}");
    }
    assert_eq!(site.roll.deployments(NAMESPACE), objects);
    assert!(site.roll.runs(NAMESPACE).is_empty());
}

/// A Helm whose `upgrade` waits until a file exists before it does anything.
fn waiting_helm(site: &Site) -> (PathBuf, PathBuf) {
    let (program, gate) = (
        site.folder.path().join("helm-that-waits"),
        site.folder.path().join("go"),
    );
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--dry-run*) ;; upgrade*) echo $$ > {0}.pid; while [ ! -e {0} ]; do sleep 0.1; \
         done ;; esac\nexec {1} \"$@\"\n",
        gate.display(),
        helm(site.with).display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, gate)
}

#[test]
fn a_killed_client_leaves_the_old_version_and_the_next_one_finishes() {
    let (old, new) = (Chart::compact("4.2.40"), Chart::compact("5.0.14"));
    let site = Site::new(Helm::V4, &old, "v2.5.27", &VALUES);
    let pods = site.pods();
    let (program, gate) = waiting_helm(&site);
    let words = words(&new, "v2.6.22", &VALUES);
    let pid = || fs::read_to_string(format!("{}.pid", gate.display())).unwrap_or_default();

    // The client is killed before Helm has changed anything.
    let client = Running::spawn(site.upgrade_by(&program, &[], &words));
    assert!(
        wait_until(DEADLINE, || pid().ends_with('\n')),
        "Helm is run"
    );
    drop(client);
    assert_eq!(site.pod_images(), [image("v2.5.27")]);
    assert_eq!(site.pods(), pods);
    let paused = site.roll.deployments(NAMESPACE);
    let is_paused = |one: &&Value| one["spec"]["paused"] == true;
    // All but the index node, which the new chart does not have.
    assert_eq!(paused.iter().filter(is_paused).count(), 5);
    let stray = Command::new("kill").arg(pid().trim()).status();
    assert!(stray.unwrap().success(), "the Helm of the killed client");

    // A rollback from there needs no Helm.
    let (code, stdout, stderr) = site.end("rollback");
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert_eq!(site.pods(), pods, "nothing rolls");
    site.assert_clean();
    assert!(
        !site
            .deployments()
            .contains(&"my-release-milvus-streamingnode".into())
    );

    // In the middle of the order: released components continue, the others stay on the old version.
    fs::write(&gate, "").unwrap();
    site.roll.hold_up("mixcoord");
    let client = Running::spawn(site.upgrade_by(&program, &[], &words));
    site.await_step("update-mixcoord");
    drop(client);
    site.roll.let_go(NAMESPACE, "mixcoord");
    site.roll.await_paused(NAMESPACE, "proxy");
    let of = |component: &str| site.roll.deployment(NAMESPACE, component)["status"].clone();
    let proxy = of("proxy");
    assert_eq!(
        proxy["updatedReplicas"].as_i64().unwrap_or(0),
        0,
        "{proxy:#}"
    );
    let (code, stdout, stderr) = run(&mut site.upgrade_by(&program, &[], &words));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert_eq!(site.pod_images(), [image("v2.6.22")]);
    site.assert_clean();
    site.assert_as_manifest();
}

#[rstest]
#[case::helm_3(Helm::V3)]
#[case::helm_4(Helm::V4)]
fn helm_fails_in_the_middle_and_the_corrected_command_finishes(#[case] with: Helm) {
    let (old, new) = (Chart::compact("4.2.40"), Chart::compact("5.0.14"));
    let site = Site::new(with, &old, "v2.5.27", &VALUES);
    let pods = site.pods();
    let file = Path::new(new.path()).join("templates/z.yaml");
    write_refused(&file);
    let (code, _, stderr) = run(&mut site.upgrade(&new, "v2.6.22", &VALUES));
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("helm upgrade failed with exit code 1"),
        "{stderr}"
    );
    assert!(
        stderr.contains("helm rollback my-release 1 -n milvus"),
        "{stderr}"
    );
    assert_eq!(
        site.roll.tag(NAMESPACE, "proxy"),
        "v2.6.22",
        "Helm must have applied a part"
    );
    assert_eq!(site.pods(), pods, "nothing has rolled");

    // Back: only Helm can restore the old templates, and the message states that.
    site.assert_rollback_waits_for_helm();
    site.roll_back_by_helm();
    assert_eq!(site.pods(), pods, "nothing has rolled");
    site.assert_clean();

    // Forward again: broken once more, then corrected.
    let (code, _, stderr) = run(&mut site.upgrade(&new, "v2.6.22", &VALUES));
    assert_eq!(code, 3, "{stderr}");
    fs::remove_file(&file).unwrap();
    let (code, stdout, stderr) = run(&mut site.upgrade(&new, "v2.6.22", &VALUES));
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert_eq!(site.pod_images(), [image("v2.6.22")]);
    site.assert_clean();
    site.assert_as_manifest();
}

#[rstest]
#[case::helm_3(Helm::V3)]
#[case::helm_4(Helm::V4)]
fn a_guard_with_hold_leaves_the_release_to_the_run(#[case] with: Helm) {
    let old = Chart::compact("4.2.40");
    let site = Site::on(Roll::holding(&[]), with, &old, "v2.5.27", &VALUES);
    let kubelet = Kubelet::on(&site.roll.cluster, site.folder.path());
    let watch = site.roll.watch(NAMESPACE);
    let new = Chart::compact("5.0.14");
    let words = words(&new, "v2.6.22", &VALUES);
    let job = ["--job-image", "milvus-guard:test"];
    let (code, stdout, stderr) = run(&mut site.command(&helm(with), &job, &words));
    assert_eq!(code, 0, "{stdout}\n{stderr}\n{:#?}", kubelet.log());
    let expected = [StreamingNode, MixCoord, QueryNode, DataNode, Proxy];
    assert_eq!(watch.order(&image("v2.6.22")), expected);
    assert!(
        !site
            .deployments()
            .contains(&"my-release-milvus-indexnode".into())
    );
    let kinds: Vec<String> = site
        .roll
        .runs(GUARD)
        .iter()
        .map(|run| format!("{} {}", run["spec"]["kind"], run["status"]["phase"]))
        .collect();
    assert_eq!(
        kinds,
        [r#""Rolling" "Succeeded""#],
        "Hold must not create a run"
    );
    site.assert_clean();
    site.assert_as_manifest();
}

#[rstest]
#[case::helm_3(Helm::V3)]
#[case::helm_4(Helm::V4)]
fn a_half_done_upgrade_is_rolled_back_after_helm_rollback(#[case] with: Helm) {
    let chart = Chart::compact("4.1.34");
    let site = Site::new(with, &chart, "v2.4.5", &VALUES);
    let shape = site.roll.shape(NAMESPACE);
    site.roll.hold_up("mixcoord");
    let client = Running::spawn(site.upgrade(&chart, "v2.4.24", &VALUES));
    site.await_step("update-mixcoord");
    drop(client);
    site.roll.let_go(NAMESPACE, "mixcoord");
    site.roll.await_paused(NAMESPACE, "proxy");

    site.assert_rollback_waits_for_helm();
    assert_eq!(site.roll.tag(NAMESPACE, "proxy"), "v2.4.24", "still paused");
    site.roll.await_paused(NAMESPACE, "proxy");
    site.roll_back_by_helm();
    assert_eq!(site.roll.shape(NAMESPACE), shape);
    assert_eq!(site.pod_images(), [image("v2.4.5")]);
    site.assert_clean();
    site.assert_as_manifest();
    assert_eq!(site.roll.run(NAMESPACE)["status"]["phase"], "RolledBack");
}
