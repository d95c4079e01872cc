//! Failures of etcd: no metadata is lost, and the error names the cause.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Child,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::common::metadata::{Bed, assert_same, collect, finish, metadata, planned, small, start};
use crate::common::proxy::When;
use etcd_client::{Client, Txn, TxnOp};
use milvus_guard_metadata::{
    executor::{self, Event, Events, Form, Stage, Target},
    model::{
        Dump, Options,
        sample::{Sample, Size},
    },
};
use milvus_guard_sources::etcd::Endpoint;
use milvus_guard_testbed::{Etcd, EtcdCluster, EtcdOptions, expect_success};

fn many() -> (Bed, Dump) {
    let bed = Bed::with_small_transactions();
    let dump = Sample::large(Size {
        collections: 2,
        segments: 600,
        has_oddities: false,
    })
    .dump()
    .unwrap();
    bed.fill(&dump);
    (bed, dump)
}

fn wait_for_writes(bed: &Bed) {
    bed.wait_until("the first write", |bed| {
        !bed.read("by-dev/meta/segment-index/").is_empty()
    });
}

fn ends_as_planned(bed: &Bed, dump: &Dump, child: Child) -> String {
    let ended = collect(child).expect(0);
    assert_same(&bed.metadata(), &planned(dump, &Options::default()));
    ended.stderr
}

#[test]
fn a_run_survives_a_stall_of_etcd() {
    let (bed, dump) = many();
    let child = start(&mut bed.migration());
    wait_for_writes(&bed);
    bed.etcd.pause();
    // The length of the stall is what is tested: there is no condition to wait for.
    thread::sleep(Duration::from_secs(5));
    bed.etcd.resume();
    ends_as_planned(&bed, &dump, child);
}

#[test]
fn a_run_survives_a_restart_of_etcd() {
    let (bed, dump) = many();
    let child = start(&mut bed.migration());
    wait_for_writes(&bed);
    bed.etcd.stop();
    bed.etcd.restart();
    let progress = ends_as_planned(&bed, &dump, child);
    assert!(
        progress.contains("waiting for etcd to answer again"),
        "{progress}"
    );
}

#[test]
fn an_etcd_that_stays_down_stops_the_run() {
    let (bed, dump) = many();
    let child = start(bed.migration().args(["--etcd-timeout", "3s"]));
    wait_for_writes(&bed);
    bed.etcd.stop();
    collect(child)
        .expect(3)
        .says("did not answer for 3 seconds")
        .says("start neither")
        .says("run the same command again");
    bed.etcd.restart();
    bed.migrate(&[]).expect(0);
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
}

// The write is made and its acknowledgement is lost, but both sides stay up: the write is read back
// and not repeated.
#[test]
fn a_write_with_a_lost_acknowledgement_is_read_back() {
    let bed = Bed::with_small_transactions();
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    // The lock, the record, then 20 writes.
    let proxy = bed.proxy_after(22, When::BeforeAcknowledgement);
    let child = start(&mut bed.migration_at(&proxy.endpoint(), "a.backup"));
    assert!(proxy.wait(Duration::from_secs(60)));
    proxy.open();
    let progress = ends_as_planned(&bed, &dump, child);
    assert!(
        progress.contains("no answer within 8 seconds"),
        "{progress}"
    );
    for (key, _, _, _) in bed.read("by-dev/meta/field-index/") {
        let answer = bed
            .runtime
            .block_on(bed.client.kv_client().get(key, None))
            .unwrap();
        assert_eq!(answer.kvs()[0].version(), 1, "written once");
    }
}

#[test]
fn a_run_survives_a_change_of_the_leader() {
    let cluster = EtcdCluster::start();
    let endpoints = cluster.endpoints();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let clients: Vec<Client> = endpoints
        .iter()
        .map(|endpoint| runtime.block_on(Client::connect([endpoint], None)).unwrap())
        .collect();
    let leader = clients
        .iter()
        .position(|client| {
            let status = runtime
                .block_on(client.maintenance_client().status())
                .unwrap();
            status.leader() == status.header().unwrap().member_id()
        })
        .expect("a leader");
    let follower = &clients[(leader + 1) % 3];
    let dump = Sample::large(Size {
        collections: 2,
        segments: 1500,
        has_oddities: false,
    })
    .dump()
    .unwrap();
    for chunk in dump.records().chunks(100) {
        let puts: Vec<TxnOp> = chunk
            .iter()
            .filter(|record| !record.leased)
            .map(|record| TxnOp::put(dump.root.absolute(record.key()), record.value(), None))
            .collect();
        runtime
            .block_on(follower.kv_client().txn(Txn::new().and_then(puts)))
            .unwrap();
    }
    let bed = Bed::start();
    // The leader first, so that stopping it breaks the connection too.
    let order = [leader, (leader + 1) % 3, (leader + 2) % 3]
        .map(|member| endpoints[member].as_str())
        .join(",");
    let child = start(&mut bed.migration_at(&order, "a.backup"));
    let is_writing = || {
        let answer = runtime
            .block_on(
                follower
                    .kv_client()
                    .get("by-dev/milvus-guard/migration", None),
            )
            .unwrap();
        !answer.kvs().is_empty()
    };
    assert!(milvus_guard_testbed::wait_until(
        Duration::from_secs(60),
        is_writing
    ));
    cluster.daemon(leader).kill();
    let ended = collect(child).expect(0);
    assert!(
        ended.stderr.contains("waiting for etcd"),
        "{}",
        ended.stderr
    );
    let verify = bed
        .command_at(&order, "verify")
        .args(["--backup", "a.backup"])
        .output()
        .unwrap();
    assert!(
        verify.status.success(),
        "{}",
        String::from_utf8_lossy(&verify.stderr)
    );
}

#[test]
fn endpoints_that_are_down_or_of_another_cluster_are_not_written_to() {
    let bed = Bed::start();
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let endpoints = format!("http://{closed},{}", bed.etcd.endpoint());
    finish(&mut bed.migration_at(&endpoints, "a.backup")).expect(0);
    // Commands that only read give no verdict; commands that would change something are refused.
    finish(&mut bed.command_at(&format!("http://{closed}"), "inspect"))
        .expect(3)
        .says("refused")
        .says("check --etcd");
    finish(
        bed.command_at(&format!("http://{closed}"), "verify")
            .arg("--backup")
            .arg(bed.file("a.backup")),
    )
    .expect(3)
    .says("check --etcd");
    finish(&mut bed.migration_at(&format!("http://{closed}"), "b.backup"))
        .expect(1)
        .says("check --etcd");

    // The first endpoint stops, and the second is of another cluster, which must not be written to.
    let (bed, _) = many();
    let other = Etcd::start();
    let child = start(
        bed.migration_at(
            &format!("{},{}", bed.etcd.endpoint(), other.endpoint()),
            "a.backup",
        )
        .args(["--etcd-timeout", "5s"]),
    );
    wait_for_writes(&bed);
    bed.etcd.stop();
    collect(child)
        .expect(3)
        .says("the endpoints before it are of cluster");
    let output = expect_success(other.etcdctl(["get", "", "--prefix", "--keys-only"]));
    assert_eq!(output.trim(), "");
}

/// Compacts etcd as soon as the first page of a read has arrived.
struct Compacting<'b> {
    bed: &'b Bed,
    done: AtomicBool,
    warned: Mutex<Vec<String>>,
}

impl Events for Compacting<'_> {
    fn event(&self, event: Event) {
        match event {
            Event::Progress {
                stage: Stage::Read, ..
            } if !self.done.swap(true, Ordering::SeqCst) => {
                // Not on this thread: it drives the read that waits for this event.
                thread::scope(|scope| {
                    scope.spawn(|| {
                        self.bed.put("by-dev/meta/of-another-client/late", "x");
                        self.bed.compact();
                    });
                });
            }
            Event::Warning { note } => self.warned.lock().unwrap().push(note),
            _ => {}
        }
    }
}

#[test]
fn a_compaction_during_a_read_restarts_the_read() {
    let bed = Bed::start();
    let dump = Sample::large(Size {
        collections: 1,
        segments: 9000,
        has_oddities: false,
    })
    .dump()
    .unwrap();
    bed.fill(&dump);
    let events = Compacting {
        bed: &bed,
        done: AtomicBool::new(false),
        warned: Mutex::default(),
    };
    let endpoint = Endpoint {
        addresses: vec![bed.etcd.endpoint()],
        root_path: "by-dev".into(),
        meta_sub_path: "meta".into(),
        ..Endpoint::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let file = bed.file("a.backup");
    let saved = runtime
        .block_on(executor::backup(
            &Target::new(endpoint),
            &file,
            Form::Own,
            &events,
        ))
        .unwrap();
    let warned = events.warned.lock().unwrap();
    assert!(
        warned.iter().any(|note| note.contains("compacted")),
        "{warned:?}"
    );
    assert_eq!(
        saved.records,
        bed.metadata().len() as u64 + u64::from(bed.get("by-dev/meta/session/id").is_some())
    );
    bed.migrate(&[]).expect(0);
}

// Case 40, the quota.
#[test]
fn a_full_etcd_is_refused_and_one_that_fills_up_during_a_run_loses_nothing() {
    let args = vec!["--max-txn-ops=11".into()];
    let options = EtcdOptions {
        quota_bytes: Some(16 * 1024 * 1024),
        args,
        ..EtcdOptions::default()
    };
    let bed = Bed {
        chunk: 11,
        ..Bed::with(&options)
    };
    let dump = Sample::large(Size {
        collections: 2,
        segments: 300,
        has_oddities: false,
    })
    .dump()
    .unwrap();
    bed.fill(&dump);
    let disarm = || {
        bed.compact();
        expect_success(bed.etcd.etcdctl(["defrag"]));
        expect_success(bed.etcd.etcdctl(["alarm", "disarm"]));
    };
    let fill_up = || {
        let full = |number: usize| {
            let value = vec![b'x'; 256 * 1024];
            bed.runtime
                .block_on(
                    bed.client
                        .kv_client()
                        .put(format!("filler/{number}"), value, None),
                )
                .is_err()
        };
        assert!((0..1000).any(full), "etcd must run out of space");
    };
    let empty = || {
        for (key, ..) in bed.read("filler/") {
            bed.delete(key);
        }
        disarm();
    };
    fill_up();
    let before = bed.metadata();
    bed.migrate(&[])
        .expect(1)
        .says("NOSPACE")
        .says("alarm disarm")
        .says("Nothing was changed");
    assert_same(&bed.metadata(), &before);
    empty();

    // etcd runs out of space in the middle: after the lock, the record, and 20 writes.
    let proxy = bed.proxy_after(22, When::AfterAcknowledgement);
    let child = start(&mut bed.migration_at(&proxy.endpoint(), "a.backup"));
    assert!(proxy.wait(Duration::from_secs(60)));
    assert_eq!(bed.phase(), "Writing");
    fill_up();
    proxy.open();
    collect(child)
        .expect(3)
        .says("NOSPACE")
        .says("free space in etcd");
    bed.migrate(&[])
        .expect(3)
        .says("NOSPACE")
        .says("alarm disarm")
        .says("start neither 2.1 nor 2.2");
    empty();
    bed.migrate(&[]).expect(0);
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
}

#[test]
fn requests_that_are_too_large_are_split() {
    let options = EtcdOptions {
        args: vec!["--max-request-bytes=16384".into()],
        ..EtcdOptions::default()
    };
    let bed = Bed {
        chunk: 10,
        ..Bed::with(&options)
    };
    let dump = Sample::large(Size {
        collections: 2,
        segments: 150,
        has_oddities: false,
    })
    .dump()
    .unwrap();
    bed.fill(&dump);
    bed.migrate(&[]).expect(0);
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
    bed.restore(&[]).expect(0);
    assert_same(&bed.metadata(), &metadata(&dump));
}

// Case 40, TLS.
#[test]
fn tls_with_client_certificates() {
    let bed = Bed::with(&EtcdOptions {
        tls: true,
        ..EtcdOptions::default()
    });
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (
        path(bed.etcd.ca_path()),
        path(bed.etcd.client_cert_path()),
        path(bed.etcd.client_key_path()),
    );
    let revision = bed.revision();
    let other = Etcd::start_with(&EtcdOptions {
        tls: true,
        ..EtcdOptions::default()
    });
    let wrong = path(other.ca_path());
    bed.migrate(&[
        "--etcd-cacert",
        &wrong,
        "--etcd-cert",
        &cert,
        "--etcd-key",
        &key,
    ])
    .expect(1)
    .says("not signed by a known authority");
    bed.migrate(&["--etcd-cacert", &ca])
        .expect(1)
        .says("for a client certificate, and none was given");
    bed.migrate(&["--etcd-cacert", "/not/there"])
        .expect(2)
        .says("/not/there");
    let plain = bed.etcd.endpoint().replace("https", "http");
    finish(&mut bed.migration_at(&plain, "a.backup"))
        .expect(1)
        .says("https://");
    assert_eq!(bed.revision(), revision);
    // Flag names of earlier versions stay valid.
    let flags = ["--cacert", ca.as_str(), "--cert", &cert, "--key", &key];
    bed.migrate(&flags).expect(0);
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
    bed.restore(&flags).expect(0);
    assert_same(&bed.metadata(), &metadata(&dump));
}

// Case 40, users; the role has only the rights that section 4.6 of the specification requires.
#[test]
fn a_role_for_only_this_root_path_is_enough() {
    let bed = Bed::with(&EtcdOptions {
        auth: Some(("root".into(), "hunter2".into())),
        ..EtcdOptions::default()
    });
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    let etcdctl = |args: &[&str]| expect_success(bed.etcd.etcdctl(args));
    etcdctl(&["role", "add", "milvus"]);
    etcdctl(&[
        "role",
        "grant-permission",
        "milvus",
        "--prefix=true",
        "readwrite",
        "by-dev/",
    ]);
    etcdctl(&["user", "add", "milvus:pass:word"]);
    etcdctl(&["user", "grant-role", "milvus", "milvus"]);
    etcdctl(&["user", "add", "nobody:x"]);
    let revision = bed.revision();
    bed.migrate(&[]).expect(1).says("etcd asks for a user");
    let as_user = |user: &str, password: &str| {
        let mut command = bed.migration();
        command
            .args(["--user", user])
            .env("MILVUS_GUARD_ETCD_PASSWORD", password);
        finish(&mut command)
    };
    let refused = as_user("milvus", "wrong-secret")
        .expect(1)
        .says("refused the user or its password");
    assert!(!refused.stderr.contains("wrong-secret"));
    as_user("nobody", "x").expect(1).says("may not");
    bed.migrate(&["--etcd-user", "milvus"])
        .expect(2)
        .says("--etcd-password-file");
    assert_eq!(bed.revision(), revision);
    fs::write(bed.file("password"), "pass:word\n").unwrap();
    let file = ["--etcd-user", "milvus", "--etcd-password-file", "password"];
    bed.migrate(&file).expect(0);
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
    bed.run("inspect", &file).expect(0).says("2.2");
    bed.restore(&file).expect(0);
    assert_same(&bed.metadata(), &metadata(&dump));
    // A password is harmless for an etcd that requires none.
    let open = Bed::start();
    open.fill(&dump);
    let mut command = open.migration();
    finish(
        command
            .args(["--user", "root"])
            .env("MILVUS_GUARD_ETCD_PASSWORD", "x"),
    )
    .expect(0);
}
