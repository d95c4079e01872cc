//! etcd plain, with TLS and with authentication, and its outages.

#![expect(
    clippy::expect_used,
    reason = "functions that tests share fail the test as well"
)]

use std::path::Path;
use std::time::Duration;

use milvus_guard_testbed::{ETCD_VERSION, Etcd, EtcdOptions, expect_success, wait_for, wait_until};

const SHORT: Duration = Duration::from_secs(10);

fn put_and_get(etcd: &Etcd) {
    expect_success(etcd.etcdctl(["put", "key", "value"]));
    assert_eq!(
        expect_success(etcd.etcdctl(["get", "key", "--print-value-only"])).trim(),
        "value"
    );
}

/// etcdctl without the flags that [`Etcd::etcdctl`] adds.
fn bare_etcdctl(args: &[&str]) -> std::process::Output {
    let etcdctl = milvus_guard_testbed::Program::Etcdctl.path();
    std::process::Command::new(etcdctl)
        .arg("--command-timeout=2s")
        .args(args)
        .output()
        .expect("etcdctl runs")
}

#[test]
fn a_plain_etcd_answers() {
    let etcd = Etcd::start();
    assert!(etcd.endpoint().starts_with("http://127.0.0.1:"));
    put_and_get(&etcd);
    assert!(expect_success(etcd.etcdctl(["version"])).contains(&ETCD_VERSION[1..]));
}

#[test]
fn with_tls_a_client_certificate_is_required() {
    let etcd = Etcd::start_with(&EtcdOptions {
        tls: true,
        ..EtcdOptions::default()
    });
    put_and_get(&etcd);
    let (endpoint, ca) = (
        format!("--endpoints={}", etcd.endpoint()),
        format!("--cacert={}", etcd.ca_path().display()),
    );
    assert!(
        !bare_etcdctl(&[&endpoint, &ca, "get", "key"])
            .status
            .success()
    );
    let cert = format!("--cert={}", etcd.client_cert_path().display());
    let key = format!("--key={}", etcd.client_key_path().display());
    expect_success(bare_etcdctl(&[&endpoint, &ca, &cert, &key, "get", "key"]));
}

#[test]
fn with_auth_a_password_is_required() {
    for tls in [false, true] {
        let auth = Some(("milvus".to_owned(), "secret".to_owned()));
        let etcd = Etcd::start_with(&EtcdOptions {
            tls,
            auth,
            ..EtcdOptions::default()
        });
        put_and_get(&etcd);
        if !tls {
            let endpoint = format!("--endpoints={}", etcd.endpoint());
            assert!(!bare_etcdctl(&[&endpoint, "get", "key"]).status.success());
            assert!(
                !bare_etcdctl(&[&endpoint, "--user=milvus:wrong", "get", "key"])
                    .status
                    .success()
            );
            expect_success(bare_etcdctl(&[
                &endpoint,
                "--user=root:secret",
                "get",
                "key",
            ]));
        }
        // The health check must work without a password as well, or a restart would never complete.
        etcd.restart();
        put_and_get(&etcd);
    }
}

#[test]
fn a_full_database_refuses_writes() {
    let etcd = Etcd::start_with(&EtcdOptions {
        quota_bytes: Some(1 << 20),
        ..EtcdOptions::default()
    });
    let value = "x".repeat(64 << 10);
    let full = wait_until(SHORT, || {
        !etcd.etcdctl(["put", "key", &value]).status.success()
    });
    assert!(full, "a database with a quota of 1 MiB must refuse writes");
    assert!(expect_success(etcd.etcdctl(["alarm", "list"])).contains("NOSPACE"));
}

#[test]
fn data_survives_a_restart_and_a_crash() {
    let etcd = Etcd::start();
    put_and_get(&etcd);
    let (endpoint, first) = (etcd.endpoint(), etcd.daemon().pid());
    etcd.restart();
    assert_eq!(etcd.endpoint(), endpoint);
    assert_ne!(etcd.daemon().pid(), first);
    etcd.daemon().kill();
    assert_eq!(etcd.daemon().pid(), None);
    assert!(
        !bare_etcdctl(&["--endpoints", &endpoint, "get", "key"])
            .status
            .success()
    );
    etcd.restart();
    assert_eq!(
        expect_success(etcd.etcdctl(["get", "key", "--print-value-only"])).trim(),
        "value"
    );
}

#[test]
fn a_paused_etcd_does_not_answer_until_it_is_resumed() {
    let etcd = Etcd::start();
    put_and_get(&etcd);
    etcd.pause();
    assert!(
        !bare_etcdctl(&["--endpoints", &etcd.endpoint(), "get", "key"])
            .status
            .success()
    );
    etcd.resume();
    wait_for("an answer after the pause", SHORT, || {
        etcd.etcdctl(["get", "key"]).status.success()
    });
    // Stopping and dropping must work on a paused etcd too.
    etcd.pause();
    etcd.stop();
    assert_eq!(etcd.daemon().pid(), None);
}

#[test]
fn a_dropped_etcd_leaves_no_process_and_no_files() {
    let etcd = Etcd::start();
    let dir = etcd
        .data_dir()
        .parent()
        .expect("a directory around the data")
        .to_owned();
    let pid = etcd.daemon().pid().expect("a pid");
    assert!(dir.is_dir() && Path::new(&format!("/proc/{pid}")).exists());
    drop(etcd);
    assert!(!dir.exists() && !Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_failed_start_shows_the_log() {
    let options = EtcdOptions {
        args: vec!["--data-dir=/dev/null/data".into()],
        ..EtcdOptions::default()
    };
    let error = Etcd::try_start_with(&options)
        .expect_err("there can be no such directory")
        .to_string();
    assert!(
        error.contains("etcd ended") && error.contains("/dev/null/data"),
        "{error}"
    );
}
