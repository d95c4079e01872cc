//! What a Job of `migrate` gets in addition to its arguments: the credentials of etcd, and the
//! user's overrides.

use crate::common::{
    jobs::Kubelet,
    migration_cluster::{MigrationCluster, NAMESPACE},
    run,
};
use milvus_guard_testbed::{Helm, expect_success};
use serde_json::json;

const USER: &str = "milvus";
const PASSWORD: &str = "pass:word-of-etcd";
/// What a cluster may require: node, limits, pull secret, annotations.
const OVERRIDES: &str = "\
metadata:
  annotations:
    owner: storage
spec:
  ttlSecondsAfterFinished: 86400
  template:
    spec:
      nodeSelector:
        disk: fast
      imagePullSecrets:
        - name: registry
      containers:
        - name: migrate
          resources:
            limits:
              memory: 2Gi
          env:
            - name: RUST_LOG
              value: warn
";

fn make_secret(setup: &MigrationCluster, name: &str, password: &str) {
    let file = |key: &str, path: &std::path::Path| format!("--from-file={key}={}", path.display());
    expect_success(setup.cluster().kubectl([
        "-n".to_owned(),
        NAMESPACE.to_owned(),
        "create".to_owned(),
        "secret".to_owned(),
        "generic".to_owned(),
        name.to_owned(),
        format!("--from-literal=username={USER}"),
        format!("--from-literal=password={password}"),
        file("ca.crt", setup.etcd.ca_path()),
        file("tls.crt", setup.etcd.client_cert_path()),
        file("tls.key", setup.etcd.client_key_path()),
    ]));
}

#[test]
fn a_job_uses_the_etcd_secret_and_applies_the_overrides() {
    let setup = MigrationCluster::secured(Helm::V4, USER, PASSWORD);
    let kubelet = Kubelet::start(&setup);
    let (before, shape) = (setup.metadata(), setup.shape());
    let overrides = setup.folder.path().join("overrides.yaml");
    std::fs::write(&overrides, OVERRIDES).unwrap();

    // Without the secret, and with a wrong password in it, nothing changes.
    let (code, stdout, stderr) = run(&mut setup.migrate_in_job(&[]));
    assert!(
        code != 0 && stderr.contains("etcd cannot be used"),
        "{code} {stdout}{stderr}"
    );
    make_secret(&setup, "wrong", "not-the-password");
    let (code, stdout, stderr) = run(&mut setup.migrate_in_job(&["--etcd-secret", "wrong"]));
    assert!(
        code != 0 && stderr.contains("etcd refused the user or its password"),
        "{code} {stdout}{stderr}"
    );
    assert_eq!((setup.metadata(), setup.shape()), (before.clone(), shape));

    make_secret(&setup, "etcd-access", PASSWORD);
    let flags = [
        "--etcd-secret",
        "etcd-access",
        "--job-overrides",
        overrides.to_str().unwrap(),
    ];
    let (code, stdout, stderr) = run(&mut setup.migrate_in_job(&flags));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("my-release runs 2.2.16"), "{stdout}");
    assert_ne!(setup.metadata(), before);

    let list = setup
        .cluster()
        .get_json(&format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs"));
    let job = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|job| job["metadata"]["annotations"]["owner"] == "storage");
    let job = job.unwrap_or_else(|| panic!("{list:#}"));
    assert_eq!(job["spec"]["ttlSecondsAfterFinished"], 86400);
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"], json!({"disk": "fast"}));
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
    let container = &pod["containers"][0];
    assert_eq!(container["resources"]["limits"], json!({"memory": "2Gi"}));
    // Values that the Job needs are kept.
    assert_eq!(
        container["resources"]["requests"],
        json!({"cpu": "100m", "memory": "128Mi"})
    );
    let names: Vec<&str> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["HOSTNAME", "RUST_LOG"]);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let secret = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|volume| volume["name"] == "credentials-etcd")
        .unwrap();
    assert_eq!(secret["secret"]["secretName"], "etcd-access");

    // Only the Secret contains the password.
    let said = format!(
        "{stdout}{stderr}{}{}{list}",
        kubelet.log().join("\n"),
        setup.run()
    );
    assert!(!said.contains(PASSWORD), "{said}");
}
