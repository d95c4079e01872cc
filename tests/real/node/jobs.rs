//! Jobs of our image: a migration, and a rolling upgrade of real pods.
#![allow(clippy::too_many_lines)]

use std::collections::BTreeMap;

use super::{DEADLINE, milvus_manifests};
use crate::common::{
    guard,
    installed::{build_guard_image, install_guard},
    migration_cluster::{NAMESPACE, Player, RELEASE, Running, metadata_in, put_into, sample},
    run,
    webhook::GUARD,
};
use milvus_guard_testbed::{BuildImage, Etcd, Node, NodeOptions, expect_success, wait_for};
use serde_json::{Value, json};

/// Images of Milvus that only sleep (if a test needs more, [`Player`] simulates Milvus and
/// registers pods in etcd), and one that exits at once.
fn build_milvus_images(node: &Node, sleeping: &[&str], ending: Option<&str>) {
    let sleep = std::fs::canonicalize("/bin/sleep").unwrap();
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    node.build_base_image("localhost/sleep-base:1", &[&sleep, &shell]);
    let context = tempfile::tempdir().unwrap();
    std::fs::copy(&sleep, context.path().join("sleep")).unwrap();
    std::fs::copy(&shell, context.path().join("sh")).unwrap();
    let build = |tag: &str, does: &str| {
        let dockerfile = format!(
            "FROM localhost/sleep-base:1\nCOPY sleep sh /\nENTRYPOINT [\"/sh\", \"-c\", \"{does}\", \"--\"]\n"
        );
        std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
        node.build_image(&BuildImage::new(
            format!("docker.io/milvusdb/milvus:{tag}"),
            context.path(),
        ));
    };
    for tag in sleeping {
        build(tag, "exec /sleep 3600");
    }
    if let Some(tag) = ending {
        build(tag, "exit 1");
    }
}

/// Forwards a port to an etcd that listens only on this machine's loopback. Returns the port.
fn forward(from: std::net::IpAddr, to: u16) -> u16 {
    let listener = std::net::TcpListener::bind((from, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = std::net::TcpStream::connect(("127.0.0.1", to)) else {
                continue;
            };
            for (mut one, mut other) in [
                (near.try_clone().unwrap(), far.try_clone().unwrap()),
                (far, near),
            ] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut one, &mut other);
                    let _ = other.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    port
}

#[test]
#[ignore = "needs root and a container runtime: make test-node"]
fn a_job_of_our_image_migrates_and_rolls_back_with_the_guard() {
    // With the chart's network policy in force: the pods of a Job are not pods of the guard, and
    // need access to etcd.
    let node = Node::start_with(NodeOptions {
        network_policies: true,
    });
    build_guard_image(&node);
    build_milvus_images(&node, &["v2.1.4", "v2.2.16"], None);
    let etcd = Etcd::start();
    put_into(&etcd.endpoint(), &sample());
    let before = metadata_in(&etcd.endpoint());
    let player = Player::start(node.kubeconfig(), &etcd.endpoint());
    expect_success(node.kubectl(["create", "namespace", NAMESPACE]));
    node.apply(&milvus_manifests("3.2.18", &[]));
    for component in ["rootcoord", "proxy", "querynode"] {
        node.wait_for_rollout(
            NAMESPACE,
            &format!("my-release-milvus-{component}"),
            DEADLINE,
        );
    }
    install_guard(&node, 1, &[]);
    // The volume of the backup: a folder that the pod's user may write to, since its owner is not
    // changed on mount.
    let volume = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        volume.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let persistent = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "backup"},
        "spec": {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "manual",
            "hostPath": {"path": volume.path()}},
    });
    node.apply(&persistent.to_string());
    // The pod must satisfy the Pod Security profile that its namespace enforces.
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    expect_success(node.kubectl(["label", "--overwrite", "namespace", GUARD, restricted]));

    let address = format!(
        "http://{}:{}",
        node.host(),
        forward(node.host().to_string().parse().unwrap(), etcd.port())
    );
    let migrate = |more: &[&str]| {
        let mut command = guard();
        command
            .args(["migrate", "--yes"])
            .arg("--kubeconfig")
            .arg(node.kubeconfig())
            .args(["-i", RELEASE, "-n", NAMESPACE]);
        command
            .args([
                "-s", "2.1.4", "-t", "2.2.16", "-e", &address, "-c", "manual",
            ])
            .args(more);
        let output = command.output().unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{text}{}", node.describe(GUARD));
        text
    };
    let images = || {
        let list = node.get_json(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments"));
        let image = |one: &Value| {
            one["spec"]["template"]["spec"]["containers"][0]["image"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(image)
            .collect::<Vec<_>>()
    };
    let text = migrate(&[]);
    assert!(
        text.contains("my-release runs 2.2.16: the metadata is that of 2.2, verified."),
        "{text}"
    );
    assert!(
        images()
            .iter()
            .all(|image| image == "milvusdb/milvus:v2.2.16"),
        "{:?}",
        images()
    );
    assert!(metadata_in(&etcd.endpoint()) != before);
    let text = migrate(&["-o", "rollback", "-d"]);
    assert!(text.contains("Milvus is restored"), "{text}");
    assert!(
        images()
            .iter()
            .all(|image| image == "milvusdb/milvus:v2.1.4"),
        "{:?}",
        images()
    );
    assert!(metadata_in(&etcd.endpoint()) == before);
    drop(player);
}

#[test]
#[ignore = "needs root and a container runtime: make test-node"]
fn a_job_of_our_image_rolls_real_pods_and_stops_at_a_pod_that_does_not_run() {
    let node = Node::start();
    build_guard_image(&node);
    build_milvus_images(&node, &["v2.4.5", "v2.4.24"], Some("v2.4.24-debug"));
    expect_success(node.kubectl(["create", "namespace", NAMESPACE]));
    node.apply(&milvus_manifests(
        "4.1.34",
        &["image.all.tag=v2.4.5", "mixCoordinator.enabled=true"],
    ));
    let components = ["indexnode", "mixcoord", "querynode", "datanode", "proxy"];
    for component in components {
        node.wait_for_rollout(
            NAMESPACE,
            &format!("my-release-milvus-{component}"),
            DEADLINE,
        );
    }
    install_guard(&node, 1, &[]);
    let images = || {
        let list = node.get_json(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments"));
        let image = |one: &Value| {
            let image = one["spec"]["template"]["spec"]["containers"][0]["image"]
                .as_str()
                .unwrap();
            (
                one["metadata"]["name"].as_str().unwrap().to_owned(),
                image.rsplit(':').next().unwrap().to_owned(),
            )
        };
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(image)
            .collect::<BTreeMap<_, _>>()
    };
    let before = images();
    assert_eq!(before.len(), components.len());
    let command = |more: &[&str]| {
        let mut command = guard();
        command
            .args(["upgrade", "--yes"])
            .arg("--kubeconfig")
            .arg(node.kubeconfig())
            .args(["-i", RELEASE, "-n", NAMESPACE]);
        command
            .args(["-t", "2.4.24", "--progress", "plain"])
            .args(more);
        command
    };
    let upgrade = |more: &[&str]| run(&mut command(more));
    // An image that does not exist, and one whose program exits at once: the kubelet's reason stops
    // the run at the first component.
    for (tag, words) in [
        ("v2.4.24-gpu", &["ImagePullBackOff", "ErrImagePull"][..]),
        ("v2.4.24-debug", &["CrashLoopBackOff"]),
    ] {
        let (code, stdout, stderr) = upgrade(&[
            "-w",
            &format!("milvusdb/milvus:{tag}"),
            "--give-up-after",
            "5s",
        ]);
        assert!(
            code == 3 && words.iter().any(|word| stderr.contains(word)),
            "{tag} {code} {stdout}{stderr}{}",
            node.describe(GUARD)
        );
        let moved: Vec<String> = images()
            .into_iter()
            .filter(|(_, now)| now == tag)
            .map(|(name, _)| name)
            .collect();
        assert_eq!(moved, ["my-release-milvus-indexnode"], "{tag}");
        let (code, stdout, stderr) = upgrade(&["-o", "rollback"]);
        assert_eq!(code, 0, "{stdout}{stderr}{}", node.describe(GUARD));
        assert_eq!(images(), before, "{tag}");
    }
    // A full node: there is no capacity for the new pod next to the old one. The dry run warns, the
    // run stops there, and is rolled back.
    let indexnode = "deployment/my-release-milvus-indexnode";
    let allocatable = node.get_json("/api/v1/nodes")["items"][0]["status"]["allocatable"]["cpu"]
        .as_str()
        .unwrap()
        .to_owned();
    let cores: f64 = allocatable
        .strip_suffix('m')
        .map_or_else(
            || allocatable.parse(),
            |milli| format!("{milli}e-3").parse(),
        )
        .unwrap();
    let ask_for = |cpu: &str| {
        let requests = format!("--requests=cpu={cpu}");
        expect_success(node.kubectl(["-n", NAMESPACE, "set", "resources", indexnode, &requests]));
        node.wait_for_rollout(NAMESPACE, "my-release-milvus-indexnode", DEADLINE);
    };
    ask_for(&format!("{:.0}m", cores * 550.0));
    let (code, stdout, stderr) = upgrade(&["--dry-run"]);
    assert!(
        code == 0
            && stdout.contains("no node has room for another pod of my-release-milvus-indexnode"),
        "{code} {stdout}{stderr}"
    );
    let (code, stdout, stderr) = upgrade(&["--step-timeout", "20s"]);
    assert!(
        code == 3 && stderr.contains("Insufficient cpu"),
        "{code} {stdout}{stderr}{}",
        node.describe(NAMESPACE)
    );
    let (code, stdout, stderr) = upgrade(&["-o", "rollback"]);
    assert_eq!(code, 0, "{stdout}{stderr}{}", node.describe(GUARD));
    assert_eq!(images(), before);
    ask_for("10m");

    // The Job's pod is evicted during the run: the next pod resumes.
    let mut running = Running::spawn(command(&[]));
    let first = || images()["my-release-milvus-indexnode"] == "v2.4.24" || running.has_ended();
    wait_for("the first component to move", DEADLINE, first);
    let selector = [
        "get",
        "pods",
        "-n",
        GUARD,
        "-l",
        "batch.kubernetes.io/job-name",
        "--field-selector=status.phase=Running",
    ];
    let pod = expect_success(node.kubectl([&selector[..], &["-o", "name"]].concat()));
    let pod = pod
        .trim()
        .strip_prefix("pod/")
        .unwrap_or_else(|| panic!("one pod of the Job must run: {pod}"))
        .to_owned();
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": GUARD}});
    let path = format!("/api/v1/namespaces/{GUARD}/pods/{pod}/eviction");
    expect_success(
        node.kubectl_with_input(["create", "--raw", &path, "-f", "-"], &eviction.to_string()),
    );
    wait_for("the end of the run", DEADLINE * 3, || running.has_ended());
    let status = running.0.wait().unwrap();
    assert!(status.success(), "{status} {}", node.describe(GUARD));
    let runs = node.get_json(&format!(
        "/apis/guard.milvus.io/v1alpha1/namespaces/{GUARD}/upgraderuns"
    ));
    assert!(runs.to_string().contains("Succeeded"), "{runs:#}");
    assert!(
        images().values().all(|tag| tag == "v2.4.24"),
        "{:?}",
        images()
    );
    let pods = node.get_json(&format!("/api/v1/namespaces/{NAMESPACE}/pods"));
    let pods = pods["items"].as_array().unwrap();
    let ready = |pod: &Value| {
        pod["status"]["containerStatuses"][0]["ready"] == true
            && pod["status"]["containerStatuses"][0]["image"]
                .as_str()
                .unwrap()
                .ends_with(":v2.4.24")
    };
    assert!(
        pods.len() == components.len() && pods.iter().all(ready),
        "{pods:#?}"
    );
}
