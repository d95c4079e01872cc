//! Bad input: a clear error with its place, the right exit code, bounded memory, never a panic.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use crate::common::{file, guard, machine::shared, run};
use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};

fn refused(content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input.yaml");
    fs::write(&path, content).unwrap();
    let (code, stdout, stderr) = run(guard().args(["check", "--after"]).arg(&path));
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

#[test]
fn truncated_yaml_names_document_and_line() {
    let _machine = shared();
    let stderr =
        refused(b"kind: A\nmetadata: {name: a}\n---\nkind: B\nspec: {template: {spec: [\n");
    assert!(stderr.contains("input.yaml: document 2, line "), "{stderr}");
}

#[test]
fn nested_aliases_of_ten_megabytes_stay_within_memory() {
    let _machine = shared();
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        bomb += &format!(
            "a{level}: &a{level} [{}]\n",
            vec![format!("*a{}", level - 1); 10].join(", ")
        );
    }
    while bomb.len() < 10 * 1024 * 1024 {
        bomb += "more: [*a8, *a8, *a8, *a8, *a8, *a8, *a8, *a8]\n";
    }
    assert!(refused(bomb.as_bytes()).contains("aliases expand"));

    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "bomb.yaml", &bomb);
    // 512 MiB of address space: an expanded bomb would need terabytes.
    let status = Command::new("sh")
        .args([
            "-c",
            "ulimit -v 524288; exec \"$0\" check --after \"$1\"",
            env!("CARGO_BIN_EXE_milvus-guard"),
            &path,
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn cycles_depth_and_binary_files_are_refused() {
    let _machine = shared();
    assert!(refused(b"a: &a\n  b: *a\n").contains("cyclic"));
    assert!(refused("[".repeat(200_000).as_bytes()).contains("line 1"));
    assert!(refused(b"\x7fELF\x02\x01\x01\0\0\0").contains("not text"));
    assert!(refused(b"kind: \xff\xfe\n").contains("not valid UTF-8"));
    assert!(refused(b"").contains("does not contain a Kubernetes object"));
    assert!(refused(b"just a sentence\n").contains("does not contain a Kubernetes object"));
}

fn secret(kind: &str, payload: &[u8]) -> String {
    let release = STANDARD.encode(STANDARD.encode(payload));
    format!(
        "apiVersion: v1\nkind: Secret\ntype: {kind}\nmetadata:\n  name: sh.helm.release.v1.my-release.v1\n  labels: {{owner: helm, name: my-release, version: \"1\", status: deployed}}\ndata:\n  release: {release}\n"
    )
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_gzip_bomb_in_a_release_secret_is_refused() {
    let _machine = shared();
    let stderr =
        refused(secret("helm.sh/release.v1", &gzip(&vec![b' '; 200 * 1024 * 1024])).as_bytes());
    assert!(
        stderr.contains("my-release") && stderr.contains("input.yaml"),
        "{stderr}"
    );
}

#[test]
fn secrets_of_another_type_and_damaged_secrets_are_refused() {
    let _machine = shared();
    let stderr = refused(secret("Opaque", b"not helm's").as_bytes());
    assert!(stderr.contains("Opaque"), "{stderr}");
    assert!(
        refused(secret("helm.sh/release.v1", &gzip(b"{\"name\": 1}")).as_bytes())
            .contains("my-release")
    );
    let plain = "apiVersion: v1\nkind: Secret\ntype: Opaque\nmetadata: {name: a}\nstringData: {password: hunter2}\n";
    assert!(
        !refused(plain.as_bytes()).contains("hunter2"),
        "a Secret's content must not be printed"
    );
}

#[test]
fn folders_without_manifests_charts_and_missing_files_are_refused() {
    let _machine = shared();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let fails = |path: &str| {
        let (code, stdout, stderr) = run(guard().args(["check", "--after", path]));
        assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
        stderr
    };
    assert!(fails(path).contains("does not contain a .yaml, .yml or .json file"));
    assert!(fails(&format!("{path}/nothing.yaml")).contains("no such file"));
    fs::create_dir(folder.path().join("templates")).unwrap();
    file(folder.path(), "Chart.yaml", "name: milvus\n");
    assert!(
        fails(path).contains("helm template"),
        "a chart is not rendered manifests"
    );
    let strange = file(
        folder.path(),
        "web.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n",
    );
    assert!(fails(&strange).contains("does not contain Milvus"));
}

#[test]
fn files_without_permission_are_refused() {
    let _machine = shared();
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "secret.yaml", "kind: A\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        // Root may read every file; setpriv drops that right, so that the test still applies.
        let output = Command::new("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--bounding-set=-all",
                "cat",
            ])
            .arg(&path)
            .output();
        assert!(
            output.is_ok_and(|output| !output.status.success()),
            "user nobody must not be able to read the file"
        );
        let stage = tempfile::tempdir().unwrap();
        fs::set_permissions(stage.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let binary = stage.path().join("milvus-guard");
        fs::copy(env!("CARGO_BIN_EXE_milvus-guard"), &binary).unwrap();
        let (code, _, stderr) = run(Command::new("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--bounding-set=-all",
            ])
            .arg(&binary)
            .args(["check", "--after", &path]));
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains("permission denied"), "{stderr}");
        return;
    }
    let (code, _, stderr) = run(guard().args(["check", "--after", &path]));
    assert_eq!(code, 2);
    assert!(stderr.contains("permission denied"), "{stderr}");
}

#[test]
fn invalid_flags_are_refused() {
    let _machine = shared();
    for args in [
        &["check"][..],
        &["check", "--after", "x.yaml", "-t", "2.5.27"],
        &["check", "--after", "x.yaml", "--fail-on", "sometimes"],
        &["check", "--after", "x.yaml", "--format", "docx"],
        &["check", "-t", "soon"],
        &["frobnicate"],
    ] {
        let (code, stdout, stderr) = run(guard().args(args));
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(!stderr.is_empty());
    }
}

#[test]
fn unreadable_configuration_is_refused() {
    let _machine = shared();
    let manifest = |config: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: my-release-milvus}}\ndata:\n  user.yaml: |\n    {config}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: my-release-milvus-standalone}}\nspec:\n  selector:\n    matchLabels: {{app.kubernetes.io/instance: my-release, component: standalone}}\n  template:\n    spec:\n      containers: [{{name: standalone, image: \"milvusdb/milvus:v2.4.24\", args: [milvus, run, standalone]}}]\n      volumes: [{{name: c, configMap: {{name: my-release-milvus}}}}]\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let before = file(
        folder.path(),
        "before.yaml",
        &manifest("etcd: {rootPath: prod}"),
    );
    let after = file(
        folder.path(),
        "after.yaml",
        &manifest("etcd: {rootPath: [broken"),
    );
    let (code, stdout, stderr) =
        run(guard().args(["check", "--before", &before, "--after", &after]));
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(
        stderr.contains("after.yaml:") && stderr.contains("user.yaml"),
        "{stderr}"
    );
}
