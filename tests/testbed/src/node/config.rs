//! The configuration files of the parts of a node.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::network::Network;
use super::{NAME, NodeOptions, PAUSE_IMAGE};
use crate::Error;
use crate::certs::{Authority, Identity, service_account_keys};
use crate::kubeconfig::{kubeconfig, with_certificate};
use crate::programs::Program;
use crate::scratch::Scratch;

/// Identities of the parts for the API server: file name, user, group.
const PARTS: [(&str, &str, Option<&str>); 4] = [
    (
        "kube-controller-manager",
        "system:kube-controller-manager",
        None,
    ),
    ("kube-scheduler", "system:kube-scheduler", None),
    ("kube-proxy", "system:kube-proxy", None),
    ("kubelet", "system:node:testbed", Some("system:nodes")),
];

/// Writes certificates of all parts, and kubeconfigs for those that call the API server; returns
/// the administrator's identity.
pub(super) fn identities(
    scratch: &Scratch,
    network: Network,
    server: &str,
    authority: &Authority,
) -> Result<Identity, Error> {
    let (address, service) = (network.node().to_string(), network.kubernetes().to_string());
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    // Names that are IP addresses become addresses in the certificate.
    authority.server(
        scratch,
        "server",
        &[&names[..], &[&address, &service]].concat(),
    )?;
    authority.server(scratch, "kubelet-server", &[NAME, &address])?;
    service_account_keys(scratch)?;
    for (file, user, group) in PARTS {
        let identity = authority.client(scratch, file, user, group)?;
        scratch.write(
            &format!("{file}.kubeconfig"),
            &kubeconfig(server, &authority.pem, &with_certificate(&identity)),
        )?;
    }
    authority.client(scratch, "admin", "admin", Some("system:masters"))
}

/// Writes configurations of containerd, CNI, kubelet, kube-proxy, and variables of `node.sh`.
pub(super) fn write(
    scratch: &Scratch,
    network: Network,
    cgroup: &str,
    plugins: &Path,
    options: NodeOptions,
) -> Result<(), Error> {
    let path = |name: &str| scratch.join(name).display().to_string();
    std::fs::create_dir(scratch.join("cni")).map_err(|e| Error::doing("making a directory", e))?;
    scratch.write("resolv.conf", "nameserver 127.0.0.1\n")?;
    scratch.write("containerd.toml", &containerd(&path, plugins))?;
    scratch.write(
        "cni/10-bridge.conflist",
        &cni(network, &path("cni-data")).to_string(),
    )?;
    scratch.write("kubelet.json", &kubelet(&path, cgroup).to_string())?;
    scratch.write(
        "kube-proxy.json",
        &kube_proxy(network, &path("kube-proxy.kubeconfig")).to_string(),
    )?;
    scratch
        .write("node.env", &variables(network, cgroup, options)?)
        .map(|_| ())
}

fn variables(network: Network, cgroup: &str, options: NodeOptions) -> Result<String, Error> {
    let folder = |program: Program| -> Result<String, Error> {
        let path = program.try_path()?;
        Ok(path
            .parent()
            .unwrap_or(Path::new("/"))
            .display()
            .to_string())
    };
    let router = options
        .network_policies
        .then(|| Program::KubeRouter.try_path())
        .transpose()?;
    let values = [
        ("name", NAME.to_owned()),
        ("cgroup", cgroup.to_owned()),
        ("link", network.link()),
        ("host_ip", network.host().to_string()),
        ("node_ip", network.node().to_string()),
        ("network", network.all()),
        ("services", network.services()),
        ("control", folder(Program::KubeApiserver)?),
        (
            "kubectl",
            Program::Kubectl.try_path()?.display().to_string(),
        ),
        ("kubelet", folder(Program::Kubelet)?),
        ("etcd", Program::Etcd.try_path()?.display().to_string()),
        // Empty: NetworkPolicies are not enforced.
        ("router", router.unwrap_or_default().display().to_string()),
    ];
    Ok(values
        .iter()
        .fold(String::new(), |mut text, (name, value)| {
            let _ = writeln!(text, "{name}='{}'", value.replace('\'', r"'\''"));
            text
        }))
}

fn containerd(path: &impl Fn(&str) -> String, plugins: &Path) -> String {
    // The adjustment: without CAP_SYS_RESOURCE, as in many containers, no process may get a lower
    // OOM score.
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "{PAUSE_IMAGE}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
"#,
        root = path("containerd"),
        state = path("containerd-state"),
        socket = path("containerd.sock"),
        opt = path("containerd-opt"),
        plugins = plugins.display(),
        cni = path("cni"),
    )
}

fn cni(network: Network, data: &str) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "testbed",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": data,
                    "ranges": [[{"subnet": network.pods()}]], "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn kubelet(path: &impl Fn(&str) -> String, cgroup: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": path("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": path("kubelet-server.crt"),
        "tlsPrivateKeyFile": path("kubelet-server.key"),
        "readOnlyPort": 0,
        "containerRuntimeEndpoint": format!("unix://{}", path("containerd.sock")),
        // For control groups v1 and v2; the tree is removed with the node.
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "enforceNodeAllocatable": [],
        // The node must not depend on the disk usage and swap of the machine.
        "failSwapOn": false,
        "evictionHard": {
            "memory.available": "100Mi", "imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "registryPullQPS": 0,
        "serializeImagePulls": false,
        "nodeStatusUpdateFrequency": "4s",
        "maxPods": 100,
        "podLogsDir": path("pod-logs"),
        "volumePluginDir": path("volume-plugins"),
        "resolvConf": path("resolv.conf"),
        "clusterDomain": "cluster.local",
    })
}

fn kube_proxy(network: Network, kubeconfig: &str) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": network.pods(),
        "clientConnection": {"kubeconfig": kubeconfig},
        // None of this is set: the settings would affect the whole machine.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": "",
        "metricsBindAddress": "127.0.0.1:10249",
        "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
    })
}
