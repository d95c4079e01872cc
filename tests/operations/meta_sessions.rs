//! Other clients of the same etcd: components of Milvus, another run, the official tool, and a lock
//! whose holder no longer exists.

use std::{process::Child, time::Duration};

use crate::common::metadata::{
    Bed, Pairs, assert_same, collect, finish, metadata, planned, signal, small, start,
};
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use milvus_guard_metadata::model::{
    Dump, Options,
    sample::{Sample, Size},
};
use serde_json::{Value, json};

const LOCK: &str = "by-dev/milvus-guard/lock";

/// Enough writes to freeze a run in the middle: each write is a separate transaction.
fn many() -> (Bed, Dump) {
    let bed = Bed::with_small_transactions();
    let dump = Sample::large(Size {
        collections: 2,
        segments: 900,
        has_oddities: false,
    })
    .dump()
    .unwrap();
    bed.fill(&dump);
    (bed, dump)
}

/// Starts a migration and freezes it once it has begun to write.
fn frozen_at_work(bed: &Bed) -> Child {
    let child = start(&mut bed.migration());
    bed.wait_until("the first write", |bed| {
        !bed.read("by-dev/meta/segment-index/").is_empty()
    });
    signal(&child, "STOP");
    assert_eq!(bed.phase(), "Writing", "frozen too late to show anything");
    child
}

fn old_records(metadata: &Pairs) -> usize {
    metadata
        .keys()
        .filter(|key| key.starts_with(b"indexes/") || key.starts_with(b"root-coord/segment-index/"))
        .count()
}

// Case 31, first part, and the contract's exit code for "refused, nothing changed".
#[test]
fn a_migration_is_refused_while_components_run() {
    let bed = Bed::start();
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    for role in ["rootcoord", "querynode-7", "indexnode-12", "proxy-3"] {
        let key = format!("by-dev/meta/session/{role}");
        let lease = bed.put_leased(key.as_str(), r#"{"Address":"10.0.0.7:1"}"#, 60);
        bed.migrate(&[])
            .expect(1)
            .says(&format!("{role} at 10.0.0.7:1"))
            .says("--wait-sessions")
            .says("Nothing was changed");
        assert_same(&bed.metadata(), &metadata(&dump));
        assert_eq!(bed.phase(), "none");
        bed.revoke(lease);
    }
    // A session whose value cannot be parsed still shows that a component runs.
    let lease = bed.put_leased("by-dev/meta/session/datanode-9", b"\xff".to_vec(), 60);
    bed.migrate(&[]).expect(1).says("datanode-9");
    bed.revoke(lease);
    bed.migrate(&[]).expect(0);
}

#[test]
fn a_migration_waits_for_the_sessions_of_components_that_were_just_stopped() {
    let bed = Bed::start();
    bed.fill(&small().dump().unwrap());
    bed.put_leased("by-dev/meta/session/rootcoord", "{}", 2);
    bed.migrate(&["--wait-sessions", "60s"])
        .expect(0)
        .says("waiting for 1 session to end (rootcoord");
    bed.put_leased("by-dev/meta/session/rootcoord", "{}", 60);
    bed.restore(&["--wait-sessions", "1s"])
        .expect(1)
        .says("rootcoord");
}

// Case 31, second part: no component can register between the check and the write.
#[test]
fn a_component_that_starts_during_a_run_stops_it_before_anything_is_deleted() {
    let (bed, dump) = many();
    let child = frozen_at_work(&bed);
    let lease = bed.put_leased("by-dev/meta/session/querycoord", "{}", 60);
    let before = bed.metadata();
    signal(&child, "CONT");
    let ended = collect(child)
        .expect(3)
        .says("a component of Milvus has started")
        .says("session/querycoord");
    ended
        .says("start neither 2.1 nor 2.2")
        .says("run the same command again")
        .says("meta restore");
    assert_eq!(
        old_records(&bed.metadata()),
        old_records(&metadata(&dump)),
        "nothing old is deleted"
    );
    let written = bed.metadata().len() - before.len();
    assert!(
        written <= 8,
        "{written} writes after the component had registered"
    );
    bed.migrate(&[])
        .expect(3)
        .says("components of Milvus are running");
    bed.revoke(lease);
    bed.migrate(&[]).expect(0).says("resum");
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
}

#[test]
fn a_second_run_is_refused_and_names_the_first() {
    let (bed, dump) = many();
    let child = frozen_at_work(&bed);
    let other = bed
        .migrate(&[])
        .expect(5)
        .says(&format!("process {}", child.id()))
        .says("since 20");
    assert!(
        other.stderr.contains("meta migrate by process"),
        "{}",
        other.stderr
    );
    bed.restore(&[]).expect(5).says("meta migrate by process");
    let inspected: Value = bed.run("inspect", &["--format", "json"]).expect(0).json();
    assert!(
        inspected["lock"]["holder"]
            .as_str()
            .unwrap()
            .contains(&child.id().to_string()),
        "{inspected:#}"
    );
    assert_eq!(inspected["run"]["phase"], "Writing");
    signal(&child, "CONT");
    collect(child).expect(0);
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
}

#[test]
fn two_runs_started_at_the_same_time_do_not_collide() {
    let bed = Bed::start();
    let dump = small().dump().unwrap();
    for round in 0..5 {
        bed.fill(&dump);
        let names = [format!("{round}-a.backup"), format!("{round}-b.backup")];
        let runs = names
            .each_ref()
            .map(|name| start(&mut bed.migration_at(&bed.etcd.endpoint(), name)));
        let mut codes = runs.map(|run| collect(run).code);
        codes.sort_unstable();
        // The second is locked out, or starts after the first has finished.
        assert!(codes == [0, 5] || codes == [0, 0], "{codes:?}");
        assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
        for (key, ..) in bed.read("by-dev/") {
            bed.delete(key);
        }
    }
}

// Specification 4.6: the tool registers in a transaction that requires this key to be absent, and
// refuses the address of another process.
#[test]
fn a_run_and_the_official_tool_exclude_each_other() {
    let (bed, _) = many();
    let child = frozen_at_work(&bed);
    let session = "by-dev/meta/session/migration";
    let absent = Compare::version(session, CompareOp::Equal, 0);
    assert!(
        !bed.txn(
            Txn::new()
                .when([absent])
                .and_then([TxnOp::put(session, "{}", None)])
        )
    );
    let ours: Value = serde_json::from_slice(&bed.get(session).unwrap()).unwrap();
    assert_eq!(
        (&ours["ServerName"], &ours["Exclusive"]),
        (&"migration".into(), &true.into())
    );
    assert!(
        ours["Address"]
            .as_str()
            .unwrap()
            .starts_with("milvus-guard: meta migrate by process"),
        "{ours}"
    );
    signal(&child, "CONT");
    collect(child).expect(0);
    assert!(
        bed.get(session).is_none() && bed.get(LOCK).is_none(),
        "given back"
    );

    let bed = Bed::start();
    bed.fill(&small().dump().unwrap());
    let tool = json!({"ServerID": 8, "ServerName": "migration", "Address": "2022-12-01 10:00:00", "Exclusive": true});
    let lease = bed.put_leased(session, tool.to_string(), 60);
    bed.migrate(&[])
        .expect(5)
        .says("the official migration tool")
        .says("2022-12-01 10:00:00");
    bed.revoke(lease);
    bed.migrate(&[]).expect(0);
}

#[test]
fn a_lost_lease_stops_the_run_and_the_next_command_resumes_it() {
    let (bed, dump) = many();
    let child = frozen_at_work(&bed);
    let lease = bed.read(LOCK)[0].3;
    bed.revoke(lease);
    let before = bed.metadata();
    signal(&child, "CONT");
    collect(child)
        .expect(3)
        .says("the lock was lost")
        .says("run the same command again");
    assert!(
        bed.metadata().len() <= before.len() + 8,
        "what was in progress may arrive, nothing else"
    );
    bed.migrate(&[]).expect(0);
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
}

/// The lock that a holder on another machine leaves.
fn foreign_lock(bed: &Bed, seconds: i64) -> i64 {
    let holder = json!({"id": "x", "verb": "meta migrate", "host": "pod-1", "pid": 1, "boot": "another", "namespace": "pid:[1]", "started": 1, "since": "2026-01-31T00:00:00Z"});
    bed.put_leased(LOCK, holder.to_string(), seconds)
}

#[test]
fn the_lock_of_a_lost_machine_expires() {
    let bed = Bed::start();
    bed.fill(&small().dump().unwrap());
    foreign_lock(&bed, 9);
    bed.migrate(&[])
        .expect(0)
        .says("the lock of meta migrate by process 1 on pod-1");
}

#[test]
fn the_lock_of_a_live_process_on_another_machine_is_respected() {
    let bed = Bed::start();
    bed.fill(&small().dump().unwrap());
    let lease = foreign_lock(&bed, 30);
    let child = start(&mut bed.migration());
    let mut client = bed.client.lease_client();
    let renewing = bed.runtime.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            client.keep_alive(lease).await.unwrap();
        }
    });
    collect(child)
        .expect(5)
        .says("process 1 on pod-1, since 2026-01-31");
    renewing.abort();
    assert_eq!(bed.phase(), "none");
}

#[test]
fn a_signal_stops_the_process_between_two_writes() {
    let (bed, dump) = many();
    let child = frozen_at_work(&bed);
    signal(&child, "TERM");
    signal(&child, "CONT");
    collect(child)
        .expect(3)
        .says("asked to stop")
        .says("start neither");
    assert!(bed.get(LOCK).is_none(), "the lock must be released");
    bed.migrate(&[]).expect(0);
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
}

// A client that ignores the lock: its change is found, not overwritten.
#[test]
fn changes_by_other_clients_are_found() {
    let (bed, dump) = many();
    let child = frozen_at_work(&bed);
    let key = "by-dev/meta/root-coord/collection/1";
    let key = if bed.get(key).is_some() {
        key.to_owned()
    } else {
        let records = bed.read("by-dev/meta/root-coord/collection/");
        String::from_utf8(records[0].0.clone()).unwrap()
    };
    let value = bed.get(&key).unwrap();
    bed.put(key.as_str(), "another client's");
    signal(&child, "CONT");
    collect(child)
        .expect(3)
        .says("another client changed the metadata")
        .says(&key["by-dev/meta/".len()..]);
    assert_eq!(bed.get(&key).unwrap(), b"another client's");
    bed.migrate(&[])
        .expect(3)
        .says("another client changed the metadata");
    bed.put(key.as_str(), value);
    bed.migrate(&[]).expect(0);
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
}

#[test]
fn resuming_requires_the_same_backup_and_the_same_flags() {
    let (bed, dump) = many();
    let child = frozen_at_work(&bed);
    signal(&child, "KILL");
    collect(child);
    bed.migrate(&["--strict-upstream"])
        .expect(3)
        .says("with the flags that it was started with");
    bed.migrate(&["--dry-run"]).expect(3).says("not finished");
    std::fs::rename(bed.file("a.backup"), bed.file("moved.backup")).unwrap();
    bed.migrate(&[])
        .expect(3)
        .says("a.backup")
        .says("name the backup with --backup");
    bed.run("backup", &["--out", "later.backup"]).expect(0);
    finish(&mut bed.migration_at(&bed.etcd.endpoint(), "later.backup"))
        .expect(3)
        .says("is another file");
    finish(&mut bed.migration_at(&bed.etcd.endpoint(), "moved.backup"))
        .expect(0)
        .says("resum");
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
}
