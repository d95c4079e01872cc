//! Our image and our chart on a real node: kubelet, containerd, pods that run. Root only: `make
//! test-node`.
#![allow(clippy::too_many_lines)]

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Output,
    time::Duration,
};

use crate::common::{
    Chart, ERAS, binary, guard,
    installed::{build_bare_image, build_guard_image, chart, context, install_guard},
    migration_cluster::{NAMESPACE, Player, RELEASE, Running, metadata_in, put_into, sample},
    run,
    webhook::GUARD,
};
use milvus_guard_core::manifest::documents;
use milvus_guard_testbed::{BuildImage, Etcd, Helm, Node, NodeOptions, expect_success, wait_for};
use serde_json::{Value, json};

/// A pod that waits for anything on a busy machine of 2 cores.
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
#[ignore = "needs root and a container runtime: make test-node"]
fn the_binary_runs_in_a_pod() {
    let node = Node::start();
    build_bare_image(&node, "localhost/bare:1");
    node.apply(
        r"
apiVersion: v1
kind: Pod
metadata: {name: rules, namespace: default}
spec:
  restartPolicy: Never
  securityContext: {runAsNonRoot: true, runAsUser: 65532}
  containers:
  - name: rules
    image: localhost/bare:1
    args: [rules, list]
",
    );
    node.wait_for_phase("default", "rules", "Succeeded", DEADLINE);
    let log = node.logs("default", "rules");
    assert!(log.contains("MG101"), "{log}");
}

#[test]
#[ignore = "needs root and a container runtime: make test-node"]
fn the_guard_installed_by_its_chart_refuses_a_forbidden_upgrade() {
    let node = Node::start();
    build_guard_image(&node);
    install_guard(&node, 2, &[]);
    let helm = |verb: &str, (version, app): (&'static str, &str)| {
        let (chart, tag) = (Chart::compact(version), format!("image.all.tag=v{app}"));
        node.helm(
            Helm::V4,
            [
                verb,
                "my-release",
                chart.path(),
                "-n",
                "milvus",
                "--create-namespace",
                "--set",
                &tag,
            ],
        )
    };
    let refused = |output: &Output| {
        let message = String::from_utf8_lossy(&output.stderr);
        let denied = !output.status.success()
            && message.contains("denied the request")
            && message.contains("MG101");
        assert!(denied, "{message}{}", node.describe(GUARD));
    };
    let rootcoord = "my-release-milvus-rootcoord";
    let image = || {
        let path = format!("/apis/apps/v1/namespaces/milvus/deployments/{rootcoord}");
        node.get_json(&path)["spec"]["template"]["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    };

    let installed = helm("install", ERAS[0]);
    assert!(
        installed.status.success(),
        "{}{}",
        String::from_utf8_lossy(&installed.stderr),
        node.describe(GUARD)
    );
    assert!(image().ends_with(":v2.1.4"), "{}", image());

    // Both doors: a single object by hand, and a whole upgrade. The metadata would have to be
    // migrated in between.
    let deployment = format!("deployment/{rootcoord}");
    refused(&node.kubectl([
        "set",
        "image",
        "-n",
        "milvus",
        &deployment,
        "*=milvusdb/milvus:v2.2.16",
    ]));
    refused(&helm("upgrade", ("4.0.31", "2.2.16")));
    assert!(image().ends_with(":v2.1.4"), "{}", image());
    let history = expect_success(node.helm(
        Helm::V4,
        ["history", "my-release", "-n", "milvus", "-o", "json"],
    ));
    assert_eq!(history.matches("\"revision\"").count(), 1, "{history}");

    // The guard stays as long as a run needs it.
    let run = r#"{"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun",
        "metadata": {"name": "run-1", "namespace": "milvus-guard"},
        "spec": {"kind": "Rolling", "release": "my-release", "namespace": "milvus", "from": "2.4.5", "to": "2.5.12", "plan": [],
            "planHash": "sha256:0000000000000000000000000000000000000000000000000000000000000000"}}"#;
    let guard = "--as=system:serviceaccount:milvus-guard:milvus-guard";
    expect_success(node.kubectl_with_input(["create", guard, "-f", "-"], run));
    wait_for("the policy to see the run", DEADLINE, || {
        let map = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "milvus-guard-uninstall"}}"#;
        !node
            .kubectl_with_input(["create", "--dry-run=server", "-n", GUARD, "-f", "-"], map)
            .status
            .success()
    });
    let uninstall = || {
        node.helm(
            Helm::V4,
            ["uninstall", GUARD, "-n", GUARD, "--timeout", "3m"],
        )
    };
    let kept = uninstall();
    assert!(!kept.status.success(), "{}", node.describe(GUARD));
    let said = String::from_utf8_lossy(&kept.stderr).into_owned();
    assert!(
        said.contains("run run-1 of milvus/my-release is in progress (Pending)"),
        "{said}"
    );
    refused(&node.kubectl([
        "set",
        "image",
        "-n",
        "milvus",
        &deployment,
        "*=milvusdb/milvus:v2.2.16",
    ]));
    expect_success(node.kubectl(["delete", guard, "-n", GUARD, "upgraderun", "run-1"]));
    expect_success(uninstall());
}

/// Images of Milvus that only sleep (where it matters what they stand for, [`Player`] plays it and
/// registers pods in etcd), and one that ends at once.
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

/// The chart's Deployments and configuration, without the probes that nobody here answers and the
/// tool that only Milvus needs.
fn milvus_manifests(chart: &'static str, values: &[&str]) -> String {
    let rendered = Chart::compact(chart).render(Helm::V4, values);
    let objects = documents(&rendered).map(|document| document.unwrap().root.to_json());
    let kept = objects.filter(|object| {
        object["kind"] == "Deployment" || object["metadata"]["name"] == "my-release-milvus"
    });
    kept.map(|mut object| {
        object["metadata"]["namespace"] = json!(NAMESPACE);
        if object["kind"] == "Deployment" {
            let pod = &mut object["spec"]["template"]["spec"];
            pod["terminationGracePeriodSeconds"] = json!(1);
            pod.as_object_mut().unwrap().remove("initContainers");
            let container = pod["containers"][0].as_object_mut().unwrap();
            container.remove("readinessProbe");
            container.remove("livenessProbe");
        }
        format!("---\n{object}\n")
    })
    .collect()
}

/// Lets pods reach an etcd that listens on this machine's loopback only.
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
    // With the chart's network policy in force: the pods of a Job are not the guard's, and need to
    // reach etcd.
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
    // The volume of the backup: a folder that the pod's user may write to, since nothing changes
    // its owner.
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
    // The pod must meet the profile that its namespace enforces.
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
fn a_job_of_our_image_rolls_real_pods_and_stops_at_what_does_not_run() {
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
    // An image that nobody has, and one whose program ends at once: the kubelet's own words stop
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
    // A full node: the new pod finds no room next to the old one. The run says so before, stops
    // there, and goes back.
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

    // The Job's pod is evicted during the run: the next one resumes.
    let mut running = Running::spawn(command(&[]));
    let first = || {
        images()["my-release-milvus-indexnode"] == "v2.4.24"
            || running.0.try_wait().unwrap().is_some()
    };
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
        .unwrap_or_else(|| panic!("one pod works: {pod}"))
        .to_owned();
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": GUARD}});
    let path = format!("/api/v1/namespaces/{GUARD}/pods/{pod}/eviction");
    expect_success(
        node.kubectl_with_input(["create", "--raw", &path, "-f", "-"], &eviction.to_string()),
    );
    wait_for("the end of the run", DEADLINE * 3, || {
        running.0.try_wait().unwrap().is_some()
    });
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

/// An image with a client for TCP, which is bash, and the guard as a server.
fn build_client_image(node: &Node, tag: &str) {
    let context = context();
    let tools = ["bash", "sleep", "timeout"].map(|name| {
        let copy = context.path().join(name);
        std::fs::copy(Path::new("/bin").join(name), &copy).unwrap();
        copy
    });
    node.build_base_image(
        "localhost/client-base:1",
        &[&tools[0], &tools[1], &tools[2], &binary()],
    );
    let dockerfile = "FROM localhost/client-base:1\nCOPY bash sleep timeout milvus-guard /\nENTRYPOINT [\"/sleep\", \"3600\"]\n";
    std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    node.build_image(&BuildImage::new(tag, context.path()));
}

/// Namespaces with a pod `client` each. The one in the guard's namespace has the labels of a
/// replica, and serves on another port.
fn clients(image: &str) -> String {
    let client = json!({"name": "client", "image": image});
    let server = [
        "/milvus-guard",
        "serve",
        "--no-cluster",
        "--tls-self-signed",
        "--listen=0.0.0.0:7443",
        "--metrics-listen=0.0.0.0:7090",
    ];
    let server = json!({"name": "server", "image": image, "command": server});
    let labels = json!({"app.kubernetes.io/name": GUARD, "app.kubernetes.io/instance": GUARD});
    let pods = [
        ("monitoring", json!({}), json!([client])),
        ("elsewhere", json!({}), json!([client])),
        (GUARD, labels, json!([client, server])),
    ];
    let objects = pods.map(|(namespace, labels, containers)| {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "namespace": namespace, "labels": labels},
            "spec": {"containers": containers},
        });
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        format!("---\n{namespace}\n---\n{pod}\n")
    });
    objects.concat()
}

/// Who tries to connect.
#[derive(Debug, Clone, Copy)]
enum Caller {
    /// The pod `client` of this namespace.
    Pod(&'static str),
    /// This machine. To the node its address is that of no pod and of no node, as that of an API
    /// server may be.
    Machine,
}

/// Whether a connection comes about. One that a policy does not allow is refused; any other error
/// fails the test.
fn reaches(node: &Node, from: Caller, to: SocketAddr) -> bool {
    match from {
        Caller::Pod(namespace) => {
            let script = format!(
                "/timeout 2 /bash -c 'exec 3<>/dev/tcp/{}/{}' 2>&1; echo $?",
                to.ip(),
                to.port()
            );
            let said = expect_success(node.kubectl([
                "exec", "-n", namespace, "client", "-c", "client", "--", "/bash", "-c", &script,
            ]));
            let refused = said.contains("Connection refused");
            assert!(said == "0\n" || refused, "{from:?} to {to}: {said}");
            !refused
        }
        Caller::Machine => match TcpStream::connect_timeout(&to, Duration::from_secs(2)) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused,
                    "{to}: {error}"
                );
                false
            }
        },
    }
}

#[track_caller]
fn assert_reach(node: &Node, expected: bool, connections: &[(Caller, SocketAddr)]) {
    for (from, to) in connections {
        assert_eq!(
            reaches(node, *from, *to),
            expected,
            "{from:?} to {to} {}",
            node.describe(GUARD)
        );
    }
}

/// The pods of the guard's Deployment.
fn replicas(node: &Node) -> Vec<Value> {
    let list = node.get_json(&format!(
        "/api/v1/namespaces/{GUARD}/pods?labelSelector=pod-template-hash"
    ));
    list["items"].as_array().unwrap().clone()
}

fn address(pod: &Value, port: u16) -> SocketAddr {
    SocketAddr::new(
        pod["status"]["podIP"].as_str().unwrap().parse().unwrap(),
        port,
    )
}

/// When the leases that this pod holds were renewed.
fn renewals(node: &Node, pod: &str) -> BTreeMap<String, String> {
    let leases = node.get_json(&format!(
        "/apis/coordination.k8s.io/v1/namespaces/{GUARD}/leases"
    ));
    let leases = leases["items"].as_array().unwrap().iter();
    let own = leases.filter(|lease| {
        lease["spec"]["holderIdentity"]
            .as_str()
            .is_some_and(|holder| holder.contains(pod))
    });
    own.map(|lease| {
        (
            lease["metadata"]["name"].to_string(),
            lease["spec"]["renewTime"].to_string(),
        )
    })
    .collect()
}

/// How often the kubelet has asked this pod whether it is ready, with this result.
fn probes(node: &Node, pod: &str, result: &str) -> u64 {
    let labels = [
        format!("pod=\"{pod}\""),
        format!("result=\"{result}\""),
        "probe_type=\"Readiness\"".to_owned(),
    ];
    let text = node.get("/api/v1/nodes/testbed/proxy/metrics/probes").body;
    let lines = text
        .lines()
        .filter(|line| line.starts_with("prober_probe_total{"));
    let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[test]
#[ignore = "needs root and a container runtime: make test-node"]
fn the_network_policy_lets_through_what_the_guard_needs_and_nothing_else() {
    let node = Node::start_with(NodeOptions {
        network_policies: true,
    });
    build_guard_image(&node);
    build_client_image(&node, "localhost/client:1");
    node.apply(&clients("localhost/client:1"));
    expect_success(node.kubectl(["create", "namespace", NAMESPACE]));
    node.apply(&milvus_manifests("3.2.18", &[]));
    install_guard(&node, 1, &["networkPolicy.enabled=false"]);
    let (monitoring, elsewhere, twin) = (
        Caller::Pod("monitoring"),
        Caller::Pod("elsewhere"),
        Caller::Pod(GUARD),
    );
    for namespace in ["monitoring", "elsewhere", GUARD] {
        node.wait_for_phase(namespace, "client", "Running", DEADLINE);
    }
    let first = replicas(&node).remove(0);
    let (https, metrics) = (address(&first, 8443), address(&first, 9090));
    let other_port = address(
        &node.get_json(&format!("/api/v1/namespaces/{GUARD}/pods/client")),
        7443,
    );
    let api_server: SocketAddr = node
        .server()
        .trim_start_matches("https://")
        .parse()
        .unwrap();
    let kubernetes = node.get_json("/api/v1/namespaces/default/services/kubernetes");
    let kubernetes = SocketAddr::new(
        kubernetes["spec"]["clusterIP"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap(),
        443,
    );
    let listener = TcpListener::bind((node.host(), 0)).unwrap();
    let outside = listener.local_addr().unwrap();

    // Without the policy everybody reaches everything. Otherwise a refusal below would show
    // nothing.
    wait_for("the server on another port", DEADLINE, || {
        TcpStream::connect(other_port).is_ok()
    });
    assert_reach(
        &node,
        true,
        &[monitoring, elsewhere, Caller::Machine].map(|from| (from, https)),
    );
    assert_reach(
        &node,
        true,
        &[monitoring, elsewhere, Caller::Machine].map(|from| (from, metrics)),
    );
    assert_reach(
        &node,
        true,
        &[(elsewhere, other_port), (Caller::Machine, other_port)],
    );
    assert_reach(
        &node,
        true,
        &[
            (twin, api_server),
            (twin, kubernetes),
            (twin, outside),
            (elsewhere, outside),
        ],
    );

    // By default every pod may scrape.
    let upgrade = |value: &str| {
        let chart = chart(GUARD);
        expect_success(node.helm(
            Helm::V4,
            [
                "upgrade",
                GUARD,
                &chart,
                "--namespace",
                GUARD,
                "--reuse-values",
                "--set",
                value,
            ],
        ));
    };
    upgrade("networkPolicy.enabled=true");
    wait_for("the policy", DEADLINE, || {
        !reaches(&node, Caller::Machine, metrics)
    });
    assert_reach(&node, true, &[(monitoring, metrics), (elsewhere, metrics)]);
    upgrade("networkPolicy.metricsNamespaces={monitoring}");
    wait_for("the policy to change", DEADLINE, || {
        !reaches(&node, elsewhere, metrics)
    });

    // A replica that starts under the policy becomes ready: it reaches the API server.
    expect_success(node.kubectl([
        "scale",
        "-n",
        GUARD,
        "--replicas=2",
        &format!("deployment/{GUARD}"),
    ]));
    node.wait_for_rollout(GUARD, GUARD, DEADLINE);
    let second = replicas(&node)
        .into_iter()
        .find(|pod| pod["metadata"]["uid"] != first["metadata"]["uid"])
        .unwrap();
    let (https, metrics) = (address(&second, 8443), address(&second, 9090));
    let name = second["metadata"]["name"].as_str().unwrap();
    let (passed, failed) = (
        probes(&node, name, "successful"),
        probes(&node, name, "failed"),
    );
    wait_for("the policy for the new replica", DEADLINE, || {
        !reaches(&node, elsewhere, metrics)
    });

    // The webhook is open to all, since API servers may be anywhere. Metrics, other ports and the
    // way out are not.
    assert_reach(
        &node,
        true,
        &[monitoring, elsewhere, Caller::Machine].map(|from| (from, https)),
    );
    assert_reach(
        &node,
        true,
        &[
            (monitoring, metrics),
            (twin, api_server),
            (twin, kubernetes),
            (elsewhere, outside),
        ],
    );
    assert_reach(
        &node,
        false,
        &[
            (elsewhere, metrics),
            (twin, metrics),
            (Caller::Machine, metrics),
        ],
    );
    assert_reach(
        &node,
        false,
        &[
            (monitoring, other_port),
            (elsewhere, other_port),
            (Caller::Machine, other_port),
        ],
    );
    assert_reach(&node, false, &[(twin, outside)]);

    // It renews its lease, the API server calls the webhook, and the kubelet's probes get through.
    wait_for("a lease of the new replica", DEADLINE, || {
        !renewals(&node, name).is_empty()
    });
    let before = renewals(&node, name);
    wait_for("the lease to be renewed", DEADLINE, || {
        let now = renewals(&node, name);
        before
            .iter()
            .all(|(lease, time)| now.get(lease).is_some_and(|renewed| renewed > time))
    });
    let image = [
        "set",
        "image",
        "-n",
        NAMESPACE,
        "deployment/my-release-milvus-rootcoord",
        "*=milvusdb/milvus:v2.2.16",
    ];
    let output = node.kubectl(image);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success()
            && message.contains("denied the request")
            && message.contains("MG101"),
        "{message}"
    );
    wait_for("two probes", DEADLINE, || {
        probes(&node, name, "successful") >= passed + 2
    });
    assert_eq!(
        probes(&node, name, "failed"),
        failed,
        "{}",
        node.describe(GUARD)
    );
    let pods = replicas(&node);
    let status = pods
        .iter()
        .map(|pod| &pod["status"]["containerStatuses"][0]);
    let well = status.filter(|status| status["ready"] == true && status["restartCount"] == 0);
    assert_eq!(well.count(), 2, "{}", node.describe(GUARD));
}
