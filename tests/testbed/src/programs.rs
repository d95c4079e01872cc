use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{env, io::Write as _};

use crate::error::or_panic;
use crate::{Error, build};

/// The version of etcd that is built.
pub const ETCD_VERSION: &str = "v3.5.35";
/// The version of Kubernetes that is built, including kubectl.
pub const KUBERNETES_VERSION: &str = "v1.36.3";
/// The version of Helm 3 that is built.
pub const HELM_3_VERSION: &str = "v3.22.0";
/// The version of Helm 4 that is built.
pub const HELM_4_VERSION: &str = "v4.3.1";

/// The version of kube-router whose firewall is built.
pub const KUBE_ROUTER_VERSION: &str = "v2.1.0";

/// A program of the test bed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// etcd's server.
    Etcd,
    /// etcd's command line.
    Etcdctl,
    /// The Kubernetes API server.
    KubeApiserver,
    /// The Kubernetes controllers.
    KubeControllerManager,
    /// The Kubernetes scheduler.
    KubeScheduler,
    /// The Kubernetes command line.
    Kubectl,
    /// The program that runs the pods of a node.
    Kubelet,
    /// Makes Services reachable on a node.
    KubeProxy,
    /// Enforces network policies on a node.
    KubeRouter,
    /// Holds the namespaces of a pod open.
    Pause,
    /// Helm 3.
    Helm3,
    /// Helm 4.
    Helm4,
    /// Helm 4 under the name of Flux' controller.
    HelmOfFlux,
    /// Helm 4 under the name of Terraform's provider.
    HelmOfTerraform,
    /// The programs around Milvus in its images.
    ConfigTool,
    /// Object storage.
    Minio,
    /// The checker of workflows for GitHub Actions.
    Actionlint,
    /// What evaluates health checks of Argo CD.
    ArgoHealth,
    /// Evaluates health checks of Argo CD.
    FluxHealth,
    /// Evaluates health checks of Flux.
    HclCheck,
}

/// Programs that are built together: mostly one Go module with one executable, which selects the
/// program by the name under which it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bundle {
    /// etcd and etcdctl.
    Etcd,
    /// API server, controller manager, scheduler and kubectl.
    Kube,
    /// Helm 3.
    Helm3,
    /// Helm 4, under its own name and the names of tools that contain it.
    Helm4,
    /// Programs that check our examples as deployment tools do.
    Pipelines,
    /// kubelet and kube-proxy, which only a [`Node`](crate::Node) needs.
    Node,
    /// The firewall of kube-router, which enforces network policies on a [`Node`](crate::Node).
    Router,
    /// Content of the image of every pod's first container.
    Pause,
    /// Servers and a client that only a [`Milvus`](crate::Milvus) needs; from Python wheels, not
    /// from a Go module.
    Milvus,
    /// The programs around Milvus in its images, for a [`MilvusCluster`](crate::MilvusCluster).
    ConfigTool,
    /// Object storage for a [`MilvusCluster`](crate::MilvusCluster).
    Minio,
    /// The class path of the message queue of a [`MilvusCluster`](crate::MilvusCluster); from a
    /// Maven repository. Requires Java.
    Kafka,
}

impl Program {
    /// The file name of the executable.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Etcdctl => "etcdctl",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubectl => "kubectl",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::KubeRouter => "kube-router",
            Self::Pause => "pause",
            Self::Helm3 | Self::Helm4 => "helm",
            Self::HelmOfFlux => "helm-controller",
            // Terraform's registry uses this file name.
            Self::HelmOfTerraform => "terraform-provider-helm_v3.1.1",
            Self::ConfigTool => "config-tool",
            Self::Minio => "minio",
            Self::Actionlint => "actionlint",
            Self::ArgoHealth => "argo-health",
            Self::FluxHealth => "flux-health",
            Self::HclCheck => "hcl-check",
        }
    }

    /// The bundle that contains the program.
    #[must_use]
    pub fn bundle(self) -> Bundle {
        match self {
            Self::Etcd | Self::Etcdctl => Bundle::Etcd,
            Self::KubeApiserver
            | Self::KubeControllerManager
            | Self::KubeScheduler
            | Self::Kubectl => Bundle::Kube,
            Self::Kubelet | Self::KubeProxy => Bundle::Node,
            Self::KubeRouter => Bundle::Router,
            Self::Pause => Bundle::Pause,
            Self::Helm3 => Bundle::Helm3,
            Self::Helm4 | Self::HelmOfFlux | Self::HelmOfTerraform => Bundle::Helm4,
            Self::ConfigTool => Bundle::ConfigTool,
            Self::Minio => Bundle::Minio,
            Self::Actionlint | Self::ArgoHealth | Self::FluxHealth | Self::HclCheck => {
                Bundle::Pipelines
            }
        }
    }

    /// The executable: from `KUBEBUILDER_ASSETS` if it is there, else from the cache, where it is
    /// built if it is missing.
    ///
    /// # Panics
    /// When it has to be built and cannot be.
    #[must_use]
    #[track_caller]
    pub fn path(self) -> PathBuf {
        or_panic(self.try_path())
    }

    /// [`Self::path`] without the panic.
    ///
    /// # Errors
    /// When it has to be built and cannot be: no Go, no module proxy, no room in the cache.
    pub fn try_path(self) -> Result<PathBuf, Error> {
        if let Some(path) = self.in_assets() {
            return Ok(path);
        }
        Ok(self.bundle().try_dir()?.join(self.name()))
    }

    fn in_assets(self) -> Option<PathBuf> {
        // These assets never contain these programs; a file of that name could be anything.
        let path = match self.bundle() {
            Bundle::Helm3
            | Bundle::Helm4
            | Bundle::Pipelines
            | Bundle::Node
            | Bundle::Router
            | Bundle::Pause
            | Bundle::Milvus
            | Bundle::ConfigTool
            | Bundle::Minio
            | Bundle::Kafka => return None,
            Bundle::Etcd | Bundle::Kube => assets()?.join(self.name()),
        };
        path.is_file().then_some(path)
    }
}

impl Bundle {
    /// Bundles for tests without pods, in the order in which `testbed-build` builds them.
    pub const ALL: [Self; 5] = [
        Self::Etcd,
        Self::Kube,
        Self::Helm3,
        Self::Helm4,
        Self::Pipelines,
    ];
    /// Further bundles for a [`Node`](crate::Node); built by `testbed-build --node`.
    pub const NODE: [Self; 3] = [Self::Node, Self::Router, Self::Pause];
    /// Further bundles for a [`MilvusCluster`](crate::MilvusCluster), in addition to a node and
    /// Milvus; built by `testbed-build --roll`.
    pub const ROLL: [Self; 3] = [Self::ConfigTool, Self::Minio, Self::Kafka];

    /// Name of the folder with the sources, and first part of the name in the cache.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Kube => "kube",
            Self::Helm3 => "helm3",
            Self::Helm4 => "helm4",
            Self::Pipelines => "pipelines",
            Self::Node => "node",
            Self::Router => "router",
            Self::Pause => "pause",
            Self::Milvus => "milvus",
            Self::ConfigTool => "config-tool",
            Self::Minio => "minio",
            Self::Kafka => "kafka",
        }
    }

    /// The folder with the executables; builds them if they are not in the cache. If several
    /// processes call this at the same time, one builds.
    ///
    /// # Errors
    /// When it has to be built and cannot be.
    pub fn try_dir(self) -> Result<PathBuf, Error> {
        // Called at each start of a program: after the first call the result is known.
        static DIRS: Mutex<BTreeMap<Bundle, PathBuf>> = Mutex::new(BTreeMap::new());
        let known = || DIRS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = known().get(&self) {
            return Ok(dir.clone());
        }
        let dir = build::ensure(self, &cache_dir()?.join("testbed"))?;
        known().insert(self, dir.clone());
        Ok(dir)
    }
}

/// The cache: `MILVUS_GUARD_CACHE`, else `milvus-guard` in `XDG_CACHE_HOME`, else
/// `.cache/milvus-guard` in the home directory.
///
/// # Errors
/// When none of the three variables is set.
pub fn cache_dir() -> Result<PathBuf, Error> {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("MILVUS_GUARD_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("milvus-guard")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache").join("milvus-guard")))
        .ok_or_else(|| Error::new("no place for the cache: set MILVUS_GUARD_CACHE or HOME"))
}

/// The folder in `KUBEBUILDER_ASSETS` if it has the required programs. Prints once whether it is
/// used.
fn assets() -> Option<&'static PathBuf> {
    static ASSETS: OnceLock<Option<PathBuf>> = OnceLock::new();
    ASSETS
        .get_or_init(|| {
            let dir = env::var_os("KUBEBUILDER_ASSETS")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)?;
            let complete = [Program::Etcd, Program::KubeApiserver]
                .iter()
                .all(|program| dir.join(program.name()).is_file());
            let said = if complete {
                "using the programs in"
            } else {
                "no etcd and kube-apiserver in"
            };
            let _ = writeln!(
                std::io::stderr(),
                "test bed: {said} KUBEBUILDER_ASSETS ({})",
                dir.display()
            );
            complete.then_some(dir)
        })
        .as_ref()
}
