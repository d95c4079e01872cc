mod config;
mod image;
mod network;
mod packages;

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

pub use image::BuildImage;
use network::Network;

use crate::certs::Authority;
use crate::daemon::{Daemon, Ready, tail};
use crate::error::or_panic;
use crate::http::Client;
use crate::scratch::Scratch;
use crate::{Access, Bundle, Error, expect_success, wait_until};

/// The node's name.
const NAME: &str = "testbed";
const PAUSE_IMAGE: &str = "localhost/testbed-pause:1";
/// Parts whose logs explain why a node did not start or a pod did not run.
const LOGS: [&str; 3] = ["kube-apiserver", "containerd", "kubelet"];

/// Options of a [`Node`].
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeOptions {
    /// Whether network policies are enforced, by the firewall of kube-router. It refuses
    /// connections that no policy allows. As on every node, processes of the node itself may always
    /// connect.
    pub network_policies: bool,
}

/// A Kubernetes cluster of one node that runs real pods: control plane, containerd, CNI, kubelet
/// and kube-proxy.
///
/// It needs root and some Debian packages ([`Node::missing_packages`]). All its processes are
/// children of one process in separate namespaces and end with that process. A cable (a veth pair)
/// joins it to the machine: pods and Services can be reached from the machine at their addresses;
/// the node reaches only the machine's end of the cable ([`Node::host`]), so images must be built
/// or loaded. Names of Services are not resolved.
#[derive(Debug)]
pub struct Node {
    daemon: Daemon,
    init: u32,
    network: Network,
    access: Access,
}

impl Node {
    /// Starts a node and waits until it can run pods.
    ///
    /// # Panics
    /// When it cannot be started: not root, packages missing, or a part that fails.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        or_panic(Self::try_start())
    }

    /// [`Self::start`] with options.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn start_with(options: NodeOptions) -> Self {
        or_panic(Self::try_start_with(options))
    }

    /// [`Self::start`] without the panic.
    ///
    /// # Errors
    /// When it cannot be started: not root, packages missing, or a part that fails.
    pub fn try_start() -> Result<Self, Error> {
        Self::try_start_with(NodeOptions::default())
    }

    /// [`Self::start_with`] without the panic.
    ///
    /// # Errors
    /// When it cannot be started: not root, packages missing, or a part that fails.
    pub fn try_start_with(options: NodeOptions) -> Result<Self, Error> {
        Self::check()?;
        let router = options.network_policies.then_some(Bundle::Router);
        for bundle in [Bundle::Etcd, Bundle::Kube, Bundle::Node, Bundle::Pause]
            .into_iter()
            .chain(router)
        {
            bundle.try_dir()?;
        }
        let plugins = packages::cni_dir().ok_or_else(|| Error::new("no CNI plugins"))?;
        let scratch = Scratch::new("node")?;
        let network = Network::reserve()?;
        // After the node has started, the cable is removed with the node.
        Self::start_on(network, scratch, plugins, options).inspect_err(|_| network.release())
    }

    fn start_on(
        network: Network,
        scratch: Scratch,
        plugins: &Path,
        options: NodeOptions,
    ) -> Result<Self, Error> {
        let server = format!("https://{}:6443", network.node());
        let authority = Authority::new(&scratch)?;
        let admin = config::identities(&scratch, network, &server, &authority)?;
        let cgroup = scratch
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        config::write(&scratch, network, &cgroup, plugins, options)?;
        let client = Client::tls_at(
            (IpAddr::from(network.node()), 6443).into(),
            &authority,
            &admin,
        )?;
        let api = client.clone();
        let access = Access::new(server, authority, admin, client, scratch)?;
        // Pods are refused without the service account, and wait for the ConfigMap with the
        // certificates.
        let ready: Ready = Box::new(move |_| {
            let node = api
                .get(&format!("/api/v1/nodes/{NAME}"))
                .is_ok_and(|answer| is_ready(&answer.body));
            let namespace = "/api/v1/namespaces/default";
            node && api.is_ok(&format!("{namespace}/serviceaccounts/default"))
                && api.is_ok(&format!("{namespace}/configmaps/kube-root-ca.crt"))
        });
        let daemon = start(&access, network, &cgroup, ready)
            .map_err(|error| Error::new(format!("{error}{}", logs(&access))))?;
        let init = first_child(daemon.pid().unwrap_or_default())?;
        let node = Self {
            daemon,
            init,
            network,
            access,
        };
        node.load_pause_image()?;
        Ok(node)
    }

    /// Checks whether this machine can run a node.
    ///
    /// # Errors
    /// When it cannot, with the remedy: not root, or packages missing.
    pub fn check() -> Result<(), Error> {
        packages::check()
    }

    /// The Debian packages that a node needs and that are not installed.
    #[must_use]
    pub fn missing_packages() -> Vec<&'static str> {
        packages::missing()
    }

    /// This machine's address for the node and its pods, for example for a webhook that the test
    /// serves.
    #[must_use]
    pub fn host(&self) -> IpAddr {
        self.network.host().into()
    }

    /// The node's address for this machine and for pods.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.network.node().into()
    }

    /// Process id of the first process in the node's namespaces, for `nsenter`.
    #[must_use]
    pub fn init(&self) -> u32 {
        self.init
    }

    /// Name of the end of the cable on this machine.
    #[must_use]
    pub fn link(&self) -> String {
        self.network.link()
    }

    /// The node's log; the logs of its parts, such as `kubelet.log`, are in the same directory.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        self.daemon.log_path()
    }

    /// The logs of all containers of a pod.
    ///
    /// # Panics
    /// When the kubelet does not return them.
    #[must_use]
    #[track_caller]
    pub fn logs(&self, namespace: &str, pod: &str) -> String {
        expect_success(self.kubectl(["logs", "--namespace", namespace, "--all-containers", pod]))
    }

    /// Waits until a pod is in this phase, for example `Succeeded`.
    ///
    /// # Panics
    /// When it does not reach the phase in time; the message describes the pod.
    #[track_caller]
    pub fn wait_for_phase(&self, namespace: &str, pod: &str, phase: &str, deadline: Duration) {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}");
        let in_time = wait_until(deadline, || {
            serde_json::from_str(&self.get(&path).body)
                .is_ok_and(|pod: serde_json::Value| pod["status"]["phase"] == phase)
        });
        assert!(
            in_time,
            "pod {pod} is not {phase} after {} s:\n{}",
            deadline.as_secs(),
            self.describe(namespace)
        );
    }

    /// Waits until all pods of a Deployment have the current template and are ready.
    ///
    /// # Panics
    /// When they are not ready in time; the message describes the namespace's pods.
    #[track_caller]
    pub fn wait_for_rollout(&self, namespace: &str, deployment: &str, deadline: Duration) {
        let timeout = format!("--timeout={}s", deadline.as_secs());
        let output = self.kubectl([
            "rollout",
            "status",
            "--namespace",
            namespace,
            &timeout,
            &format!("deployment/{deployment}"),
        ]);
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stderr),
            self.describe(namespace)
        );
    }

    /// State, events and last log lines of the pods of a namespace, as text for a developer.
    #[must_use]
    #[track_caller]
    pub fn describe(&self, namespace: &str) -> String {
        let mut text = String::new();
        for args in [
            &["get", "all", "-o", "wide"][..],
            &["describe", "pods"],
            &["get", "events", "--sort-by=.lastTimestamp"],
        ] {
            let output = self.kubectl(args.iter().copied().chain(["--namespace", namespace]));
            let _ = writeln!(
                text,
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let pods = self.kubectl(["get", "pods", "-o", "name", "--namespace", namespace]);
        for pod in String::from_utf8_lossy(&pods.stdout).lines() {
            let output = self.kubectl([
                "logs",
                "--all-containers",
                "--tail=30",
                pod,
                "--namespace",
                namespace,
            ]);
            let _ = writeln!(
                text,
                "log of {pod}:\n{}",
                String::from_utf8_lossy(&output.stdout)
            );
        }
        text
    }
}

impl Deref for Node {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

fn start(access: &Access, network: Network, cgroup: &str, ready: Ready) -> Result<Daemon, Error> {
    // The descriptor refers to the machine's network, from which the node takes the cable.
    let outer = "exec 9</proc/self/ns/net
        exec unshare --mount --net --pid --uts --ipc --fork --mount-proc --kill-child sh -c \"$1\" \
                 testbed-node \"$2\"";
    let args = vec![
        "-c".into(),
        outer.into(),
        "testbed-node".into(),
        include_str!("node.sh").into(),
        access.scratch().path().into(),
    ];
    let cleanup = format!(
        "cgroup='{cgroup}'\nlink='{}'\nindex='{}'\n{}",
        network.link(),
        network.index,
        include_str!("end.sh")
    );
    Daemon::start_other("node", "sh".into(), args, access.scratch(), cleanup, ready)
}

/// Whether the condition `Ready` of a Node object is true.
fn is_ready(node: &str) -> bool {
    serde_json::from_str(node).is_ok_and(|node: serde_json::Value| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.is_some_and(|all| {
            all.iter()
                .any(|one| one["type"] == "Ready" && one["status"] == "True")
        })
    })
}

/// The child of `unshare`, which is the first process of the new namespaces.
fn first_child(pid: u32) -> Result<u32, Error> {
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let first = children
        .split_whitespace()
        .next()
        .and_then(|child| child.parse().ok());
    first.ok_or_else(|| Error::new("the node has ended just after it was ready"))
}

fn logs(access: &Access) -> String {
    LOGS.iter().fold(String::new(), |mut text, name| {
        let log =
            fs::read_to_string(access.scratch().join(&format!("{name}.log"))).unwrap_or_default();
        let _ = write!(text, "\nthe end of {name}.log:\n{}", tail(&log, 10));
        text
    })
}
