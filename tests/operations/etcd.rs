//! MG101 on a real etcd: the rule passes with metadata of 2.2, and denies any other state with a
//! specific reason.

use crate::common::{self, Chart, Judged, file, guard};
use milvus_guard_testbed::{Etcd, EtcdOptions, Helm, expect_success};

struct Pair {
    _folder: tempfile::TempDir,
    before: String,
    after: String,
}

fn pair() -> Pair {
    let folder = tempfile::tempdir().unwrap();
    let before = file(
        folder.path(),
        "before.yaml",
        &Chart::compact("3.2.18").render(Helm::V3, &[]),
    );
    let after = file(
        folder.path(),
        "after.yaml",
        &Chart::compact("4.0.31").render(Helm::V3, &["image.all.tag=v2.2.16"]),
    );
    Pair {
        _folder: folder,
        before,
        after,
    }
}

fn put(etcd: &Etcd, keys: &[(&str, &str)]) {
    for (key, value) in keys {
        expect_success(etcd.etcdctl(["put", &format!("by-dev/meta/{key}"), value]));
    }
}

fn check(pair: &Pair, etcd: &str, more: &[&str]) -> Judged {
    let mut args = vec![
        "--before",
        &pair.before,
        "--after",
        &pair.after,
        "-n",
        "milvus",
        "--etcd",
        etcd,
    ];
    args.extend(more);
    Judged::of(&args)
}

/// Keys that only 2.2 writes.
const V22: [(&str, &str); 2] = [("field-index/1/2", "x"), ("segment-index/1/2/3/4", "x")];

#[test]
fn each_format_has_its_verdict() {
    let pair = pair();
    let etcd = Etcd::start();
    let judged = check(&pair, &etcd.endpoint(), &[]);
    assert_eq!(judged.code, 1);
    let empty = judged.finding("MG101");
    assert!(
        empty["message"]
            .as_str()
            .unwrap()
            .contains("root path by-dev is empty in etcd"),
        "{empty:#}"
    );
    assert!(
        empty["fix"]["text"].as_str().unwrap().contains("root path"),
        "{empty:#}"
    );

    put(
        &etcd,
        &[
            ("root-coord/index/1/2", "x"),
            ("root-coord/dd-operation", "{}"),
        ],
    );
    let judged = check(&pair, &etcd.endpoint(), &[]);
    assert!(
        judged.finding("MG101")["message"]
            .as_str()
            .unwrap()
            .contains("format of 2.1"),
        "{:#}",
        judged.finding("MG101")
    );
    assert_eq!(
        judged.finding("MG101")["fix"]["command"],
        "milvus-guard migrate -i my-release -n milvus -s 2.1.4 -t 2.2.16"
    );

    put(&etcd, &V22);
    let judged = check(&pair, &etcd.endpoint(), &[]);
    assert!(
        judged.finding("MG101")["message"]
            .as_str()
            .unwrap()
            .contains("an earlier migration was interrupted"),
        "{:#}",
        judged.finding("MG101")
    );

    expect_success(etcd.etcdctl(["del", "--prefix", "by-dev/meta/root-coord/"]));
    let judged = check(&pair, &etcd.endpoint(), &[]);
    assert!(
        !judged.rules("deny").contains(&"MG101".to_owned()),
        "{:#}",
        judged.report["findings"]
    );
    assert_eq!(judged.code, 0, "{:?}", judged.rules("deny"));

    let judged = check(&pair, &etcd.endpoint(), &["--root-path", "elsewhere"]);
    assert!(
        judged.finding("MG101")["message"]
            .as_str()
            .unwrap()
            .contains("root path elsewhere is empty in etcd")
    );
}

#[test]
fn an_interrupted_official_tool_is_recognized() {
    let pair = pair();
    let etcd = Etcd::start();
    put(
        &etcd,
        &[
            ("datacoord-meta/s/1/2/3", ""),
            ("queryCoord-collectionMeta/1", ""),
        ],
    );
    let judged = check(&pair, &etcd.endpoint(), &[]);
    let finding = judged.finding("MG101");
    assert!(
        finding["fix"]["text"]
            .as_str()
            .unwrap()
            .contains("meta restore"),
        "{finding:#}"
    );
}

#[test]
fn tls_and_passwords_work_and_no_secret_is_printed() {
    let pair = pair();
    let options = EtcdOptions {
        auth: Some(("root".into(), "s3cret-pass".into())),
        ..EtcdOptions::default()
    };
    let etcd = Etcd::start_with(&options);
    put(&etcd, &V22);
    let endpoint = etcd.endpoint();
    let judged = check(
        &pair,
        &endpoint,
        &["--etcd-user", "root", "--etcd-password", "s3cret-pass"],
    );
    assert_eq!(judged.code, 0, "{:#}", judged.report["findings"]);
    for (user, password) in [("root", "wrong-pass"), ("nobody", "s3cret-pass")] {
        let judged = check(
            &pair,
            &endpoint,
            &["--etcd-user", user, "--etcd-password", password],
        );
        let text = judged.report.to_string();
        assert!(
            judged.finding("MG101")["message"]
                .as_str()
                .unwrap()
                .contains("could not be read"),
            "{text}"
        );
        assert!(!text.contains(password), "the password must not be printed");
    }

    let etcd = Etcd::start_with(&EtcdOptions {
        tls: true,
        ..EtcdOptions::default()
    });
    put(&etcd, &V22);
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (
        path(etcd.ca_path()),
        path(etcd.client_cert_path()),
        path(etcd.client_key_path()),
    );
    let judged = check(
        &pair,
        &etcd.endpoint(),
        &[
            "--etcd-cacert",
            &ca,
            "--etcd-cert",
            &cert,
            "--etcd-key",
            &key,
        ],
    );
    assert_eq!(judged.code, 0, "{:#}", judged.report["findings"]);
    let judged = check(&pair, &etcd.endpoint(), &["--etcd-cacert", &ca]);
    assert!(
        judged.finding("MG101")["message"]
            .as_str()
            .unwrap()
            .contains("could not be read")
    );
}

#[test]
fn an_etcd_that_does_not_answer_denies_in_bounded_time() {
    let pair = pair();
    let etcd = Etcd::start();
    put(&etcd, &V22);
    let endpoint = etcd.endpoint();
    etcd.pause();
    let judged = check(&pair, &endpoint, &[]);
    etcd.resume();
    assert_eq!(
        judged.code, 1,
        "unreadable evidence is a finding, not a missing verdict"
    );
    assert!(
        judged.finding("MG101")["message"]
            .as_str()
            .unwrap()
            .contains("could not be read"),
        "{:#}",
        judged.finding("MG101")
    );
    etcd.stop();
    let judged = check(&pair, &endpoint, &[]);
    assert!(
        judged.finding("MG101")["message"]
            .as_str()
            .unwrap()
            .contains("could not be read")
    );
}

#[test]
fn etcd_flags_need_an_endpoint() {
    let (code, stdout, stderr) =
        common::run(guard().args(["check", "--after", "x.yaml", "--etcd-user", "root"]));
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
}
