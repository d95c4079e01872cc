//! Our image and our chart on a real node: kubelet, containerd, pods that run. Root only: `make test-node`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]

use std::path::Path;
use std::time::Duration;

use milvus_guard_testbed::{BuildImage, Node};

const BINARY: &str = env!("CARGO_BIN_EXE_milvus-guard");
const BASE: &str = "localhost/testbed-base:1";
/// A pod that waits for anything on a busy machine of 2 cores.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs root and a container runtime: make test-node"]
fn the_binary_runs_in_a_pod() {
    let node = Node::start();
    node.build_base_image(BASE, &[Path::new(BINARY)]);
    let context = tempfile::tempdir().unwrap();
    std::fs::copy(BINARY, context.path().join("milvus-guard")).unwrap();
    let dockerfile = format!("FROM {BASE}\nCOPY milvus-guard /milvus-guard\nENTRYPOINT [\"/milvus-guard\"]\n");
    std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    node.build_image(&BuildImage::new("localhost/bare:1", context.path()));
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
