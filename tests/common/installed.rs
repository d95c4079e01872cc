//! The guard on a node: our image and our chart.

use std::{path::Path, time::Duration};

use milvus_guard_testbed::{BuildImage, Helm, Node, expect_success, wait_for};
use tempfile::TempDir;

use super::{binary, webhook::GUARD};

/// Folder of the repository.
pub const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
/// The image that [`build_guard_image`] makes.
pub const IMAGE: &str = "localhost/milvus-guard:test";
/// The base image, with the libraries of our binary.
const BASE: &str = "localhost/testbed-base:1";
/// For a pod on a busy machine of 2 cores.
const DEADLINE: Duration = Duration::from_secs(120);

/// An image with only the binary and its libraries.
pub fn build_bare_image(node: &Node, tag: &str) {
    let dockerfile =
        format!("FROM {BASE}\nCOPY milvus-guard /milvus-guard\nENTRYPOINT [\"/milvus-guard\"]\n");
    let context = context();
    std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    node.build_base_image(BASE, &[&binary()]);
    node.build_image(&BuildImage::new(tag, context.path()));
}

/// The image by the repository's Dockerfile, from a binary that is already built.
pub fn build_guard_image(node: &Node) {
    node.build_base_image(BASE, &[&binary()]);
    let context = context();
    let image = BuildImage::new(IMAGE, context.path())
        .dockerfile(Path::new(REPOSITORY).join("Dockerfile"))
        .target("runtime-prebuilt");
    node.build_image(
        &image
            .arg("RUNTIME_IMAGE", BASE)
            .arg("BINARY", "milvus-guard"),
    );
}

/// A folder with the binary.
pub fn context() -> TempDir {
    let context = tempfile::tempdir().unwrap();
    std::fs::copy(binary(), context.path().join("milvus-guard")).unwrap();
    context
}

/// A chart of this repository.
pub fn chart(name: &str) -> String {
    let path = Path::new(REPOSITORY).join("charts").join(name);
    path.display().to_string()
}

/// Chart values with the name of the image.
pub const IMAGE_VALUES: [&str; 2] = ["image.repository=localhost/milvus-guard", "image.tag=test"];

/// Installs the guard with its chart, and waits until it is registered with the API server.
pub fn install_guard(node: &Node, replicas: usize, values: &[&str]) {
    let chart = chart(GUARD);
    let mut args = vec!["install", GUARD, &chart, "-n", GUARD, "--create-namespace"];
    let replicas = format!("replicas={replicas}");
    let set = ["certificates.mode=managed", &replicas];
    for value in IMAGE_VALUES.iter().chain(&set).chain(values) {
        args.extend(["--set", value]);
    }
    expect_success(node.helm(Helm::V4, args));
    node.wait_for_rollout(GUARD, GUARD, DEADLINE);
    // The guard creates its certificate, and registers itself when it is ready.
    wait_for("the registration", DEADLINE, || {
        let configurations =
            node.get_json("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations");
        let items = configurations["items"].as_array().unwrap();
        let webhooks: Vec<_> = items
            .iter()
            .filter_map(|item| item["webhooks"].as_array())
            .flatten()
            .collect();
        !webhooks.is_empty()
            && webhooks
                .iter()
                .all(|webhook| webhook["clientConfig"]["caBundle"].is_string())
    });
}
