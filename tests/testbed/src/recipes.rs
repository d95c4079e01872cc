//! Sources and build instructions of each bundle.

use crate::programs::{
    Bundle, ETCD_VERSION, HELM_3_VERSION, HELM_4_VERSION, KUBE_ROUTER_VERSION, KUBERNETES_VERSION,
    Program,
};

/// Build instructions. The sources are embedded in this crate, so a test executable contains
/// everything that a build needs.
pub(crate) struct Recipe {
    /// File names and contents. They pin versions and hashes of all downloads: a Go module's
    /// `go.sum`, hashes in pip's requirements.
    pub(crate) sources: Vec<(&'static str, &'static str)>,
    pub(crate) tool: Tool,
    /// For the user who waits: the name, and the duration of the first build.
    pub(crate) about: String,
}

pub(crate) enum Tool {
    Go {
        /// The package to build: the module itself or a command that it pins.
        package: &'static str,
        ldflags: String,
        programs: &'static [Program],
    },
    /// Runs the Python source of this name; its argument is the folder to fill.
    Python { script: &'static str },
}

/// Files of a folder of this crate, with their contents.
macro_rules! sources {
    ($folder:literal: $($file:literal),+) => {
        vec![$(($file, include_str!(concat!("../", $folder, "/", $file)))),+]
    };
}

/// One executable with the names of programs that deployment tools run.
const PIPELINES: [Program; 4] = [
    Program::Actionlint,
    Program::ArgoHealth,
    Program::FluxHealth,
    Program::HclCheck,
];

pub(crate) fn recipe(bundle: Bundle) -> Recipe {
    match bundle {
        Bundle::Etcd => Recipe {
            sources: sources!("go/etcd": "go.mod", "go.sum", "main.go"),
            tool: Tool::Go {
                package: ".",
                ldflags: String::new(),
                programs: &[Program::Etcd, Program::Etcdctl],
            },
            about: format!("etcd {ETCD_VERSION}, 1 to 2 minutes"),
        },
        Bundle::Kube => Recipe {
            sources: sources!("go/kube": "go.mod", "go.sum", "main.go"),
            tool: Tool::Go {
                package: ".",
                ldflags: kubernetes_version(),
                programs: &[
                    Program::KubeApiserver,
                    Program::KubeControllerManager,
                    Program::KubeScheduler,
                    Program::Kubectl,
                ],
            },
            about: format!("Kubernetes {KUBERNETES_VERSION}, 7 to 9 minutes"),
        },
        Bundle::Node => Recipe {
            sources: sources!("go/node": "go.mod", "go.sum", "main.go"),
            tool: Tool::Go {
                package: ".",
                ldflags: kubernetes_version(),
                programs: &[Program::Kubelet, Program::KubeProxy],
            },
            about: format!(
                "kubelet and kube-proxy {KUBERNETES_VERSION}, 1 minute after the rest of \
                 Kubernetes, else 5"
            ),
        },
        Bundle::Router => Recipe {
            sources: sources!("go/router": "go.mod", "go.sum", "main.go"),
            tool: Tool::Go {
                package: ".",
                ldflags: String::new(),
                programs: &[Program::KubeRouter],
            },
            about: format!(
                "the firewall of kube-router {KUBE_ROUTER_VERSION}, half a minute after the rest \
                 of Kubernetes, else 1 to 2"
            ),
        },
        Bundle::Pause => Recipe {
            sources: sources!("go/pause": "go.mod", "main.go"),
            tool: Tool::Go {
                package: ".",
                ldflags: String::new(),
                programs: &[Program::Pause],
            },
            about: "pause, seconds".to_owned(),
        },
        Bundle::Helm3 => Recipe {
            sources: sources!("go/helm3": "go.mod", "go.sum"),
            tool: Tool::Go {
                package: "helm.sh/helm/v3/cmd/helm",
                // Helm 3 renders and lints for the Kubernetes version that it was built with; its
                // Makefile sets these from client-go's version.
                ldflags: format!("-X helm.sh/helm/v3/internal/version.version={HELM_3_VERSION} ")
                    + &defines(
                        "helm.sh/helm/v3/pkg/chartutil",
                        HELM_3_KUBERNETES,
                        K8S_VERSION,
                    )
                    + " "
                    + &defines(
                        "helm.sh/helm/v3/pkg/lint/rules",
                        HELM_3_KUBERNETES,
                        K8S_VERSION,
                    ),
                programs: &[Program::Helm3],
            },
            about: format!("Helm {HELM_3_VERSION}, 2 to 3 minutes"),
        },
        Bundle::Helm4 => Recipe {
            sources: sources!("go/helm4": "go.mod", "go.sum", "main.go"),
            tool: Tool::Go {
                package: ".",
                ldflags: format!("-X helm.sh/helm/v4/internal/version.version={HELM_4_VERSION}"),
                programs: &[
                    Program::Helm4,
                    Program::HelmOfFlux,
                    Program::HelmOfTerraform,
                ],
            },
            about: format!("Helm {HELM_4_VERSION}, 2 to 3 minutes"),
        },
        Bundle::Pipelines => Recipe {
            sources: sources!("go/pipelines": "go.mod", "go.sum", "main.go"),
            tool: Tool::Go {
                package: ".",
                ldflags: String::new(),
                programs: &PIPELINES,
            },
            about: "what deployment tools run on the examples, 1 to 2 minutes".to_owned(),
        },
        Bundle::Milvus => Recipe {
            sources: sources!("python/milvus": "build.py", "hide.py", "servers.txt", "client.txt"),
            tool: Tool::Python { script: "build.py" },
            about: "Milvus 2.1, 2.2 and 2.3, half a minute and 350 MB of downloads".to_owned(),
        },
        Bundle::ConfigTool => Recipe {
            sources: sources!("go/config-tool": "go.mod", "go.sum", "main.go"),
            tool: Tool::Go {
                package: ".",
                ldflags: String::new(),
                programs: &[Program::ConfigTool],
            },
            about: "the programs around Milvus in its images, seconds".to_owned(),
        },
        Bundle::Minio => Recipe {
            sources: sources!("go/minio": "go.mod", "go.sum", "main.go"),
            tool: Tool::Go {
                package: ".",
                ldflags: String::new(),
                programs: &[Program::Minio],
            },
            about: "MinIO, 4 to 5 minutes".to_owned(),
        },
        Bundle::Kafka => Recipe {
            sources: sources!("python/kafka": "build.py", "pom.xml", "jars.txt"),
            tool: Tool::Python { script: "build.py" },
            about: "Kafka 3.7.2, a minute and 45 MB of downloads".to_owned(),
        },
    }
}

/// The Kubernetes version of the client-go in `helm3/go.mod`.
pub(crate) const HELM_3_KUBERNETES: &str = "v1.37.0";
const K8S_VERSION: [(&str, usize); 2] = [("k8sVersionMajor", 0), ("k8sVersionMinor", 1)];

/// Linker flags that set string variables of a Go package to parts of a version: 0 is the major
/// number, 1 the minor.
fn defines(package: &str, version: &str, variables: [(&str, usize); 2]) -> String {
    let parts: Vec<&str> = version.trim_start_matches('v').split('.').collect();
    variables
        .map(|(variable, part)| format!("-X {package}.{variable}={}", parts[part]))
        .join(" ")
}

/// Without these the API server reports v0.0.0-master, and Helm refuses charts with a kubeVersion.
fn kubernetes_version() -> String {
    defines(
        "k8s.io/component-base/version",
        KUBERNETES_VERSION,
        [("gitMajor", 0), ("gitMinor", 1)],
    ) + &format!(" -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}")
}
