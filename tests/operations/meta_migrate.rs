//! Metadata of 2.1 in a real etcd is migrated to 2.2; unrelated keys are not changed.

use std::fs;

use crate::common::metadata::{Bed, assert_same, finish, metadata, planned, small};
use milvus_guard_metadata::model::{
    Dump, Options, Root,
    backup::{self, Form},
    sample::{Sample, Size, VECTOR_FIELD},
};
use milvus_guard_testbed::Terminal;
use serde_json::Value;

/// Cases 2 to 30 together: every record ends as planned, and a second run finds nothing to do.
#[test]
fn every_record_ends_as_planned_and_a_second_run_changes_nothing() {
    let bed = Bed::start();
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    assert_same(&bed.metadata(), &metadata(&dump));
    let report = bed.migrate(&["--format", "json"]).expect(0).json();
    assert_eq!(
        (report["outcome"].as_str(), report["resumed"].as_bool()),
        (Some("migrated"), Some(false)),
        "{report:#}"
    );
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
    assert_eq!(bed.phase(), "Verified");
    let revision = bed.revision();
    let mut again = bed.migration_at(&bed.etcd.endpoint(), "b.backup");
    let again = finish(again.args(["--format", "json"])).expect(0).json();
    assert_eq!(
        (&again["outcome"], &again["run"]),
        (&"alreadyMigrated".into(), &report["run"])
    );
    assert!(
        bed.revision() <= revision + 2,
        "only the lock was written, and released"
    );
    assert!(
        !bed.file("b.backup").exists(),
        "no backup if nothing changes"
    );
    bed.run("verify", &["--backup", "a.backup"])
        .expect(0)
        .says("Verified")
        .says("as the run recorded");
}

// Case 1.
#[test]
fn an_empty_etcd_needs_no_migration() {
    let bed = Bed::start();
    bed.migrate(&[])
        .expect(0)
        .says("by-dev/meta does not contain anything to migrate");
    assert!(
        bed.read("by-dev").is_empty(),
        "not even a record of the run"
    );
    bed.run("backup", &["--out", "x.backup"])
        .expect(1)
        .says("no metadata under by-dev/meta");
    bed.run("inspect", &[])
        .expect(0)
        .says("empty")
        .says("check --root-path");
}

// Case 30: keys that a migration does not concern keep their bytes and their revision.
#[test]
fn unrelated_keys_keep_their_bytes_and_revisions() {
    let bed = Bed::start();
    bed.put("by-dev/kv/tso/timestamp", "1");
    bed.put("by-dev/kv/gid/idTimestamp", "2");
    bed.put("by-dev/meta/session/id", "42");
    bed.put("by-dev/meta2/root-coord/index/1/2", "sibling");
    bed.put("by-dev/meta2/root-coord/dd-operation", "sibling");
    bed.put("other", "3");
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    let planned = planned(&dump, &Options::default());
    let is_kept = |key: &[u8], value: &[u8]| {
        let relative = key.strip_prefix(b"by-dev/meta/");
        relative.is_none_or(|relative| {
            planned.get(relative).is_some_and(|after| after == value) || relative == b"session/id"
        })
    };
    let before: Vec<_> = bed
        .read("")
        .into_iter()
        .filter(|(key, value, ..)| is_kept(key, value))
        .collect();
    assert!(before.len() > 12, "{}", before.len());
    bed.migrate(&[]).expect(0);
    let after = bed.read("");
    for record in &before {
        assert!(
            after.contains(record),
            "{} was written again",
            String::from_utf8_lossy(&record.0)
        );
    }
}

#[test]
fn random_clusters_end_as_planned_and_a_restore_is_byte_exact() {
    let bed = Bed::start();
    for seed in 0..6 {
        for strict in [false, true] {
            let options = if strict {
                Options::strict_upstream()
            } else {
                Options::default()
            };
            let sample = Sample::random(
                seed,
                Size {
                    collections: 5,
                    segments: 6,
                    has_oddities: !strict,
                },
            );
            let root = Root::new(&format!("r{seed}-{strict}"), "meta").unwrap();
            let dump = sample.dump().unwrap();
            let (Ok(_), flag) = (milvus_guard_metadata::model::plan(&dump, &options), strict)
            else {
                continue;
            };
            bed.fill_at(&root, &dump);
            let backup = format!("{seed}-{strict}.backup");
            let mut command = bed.migration_at(&bed.etcd.endpoint(), &backup);
            command.args(["--root-path", root.root_path()]);
            if flag {
                command.arg("--strict-upstream");
            }
            finish(&mut command).expect(0);
            assert_same(&bed.metadata_at(root.prefix()), &planned(&dump, &options));
            bed.run(
                "verify",
                &["--backup", &backup, "--root-path", root.root_path()],
            )
            .expect(0);
            bed.run(
                "restore",
                &[&backup, "--yes", "--root-path", root.root_path()],
            )
            .expect(0)
            .says("Restored and verified");
            assert_same(&bed.metadata_at(root.prefix()), &metadata(&dump));
        }
    }
}

#[test]
fn a_dry_run_shows_every_key_and_changes_nothing() {
    let bed = Bed::start();
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    let revision = bed.revision();
    let text = bed
        .migrate(&["--dry-run"])
        .expect(0)
        .says("nothing was changed")
        .stdout;
    let report = bed
        .migrate(&["--dry-run", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(bed.revision(), revision);
    assert!(!bed.file("a.backup").exists());
    let plan = milvus_guard_metadata::model::plan(&dump, &Options::default()).unwrap();
    let changes = report["changes"].as_array().unwrap();
    assert_eq!(changes.len(), plan.len());
    for change in plan.diff() {
        let key = String::from_utf8_lossy(change.key);
        assert!(text.contains(&*key), "{key}");
        assert!(changes.iter().any(|shown| shown["key"] == *key), "{key}");
    }
    assert_eq!(report["plan"]["digest"], plan.digest());
    assert!(!text.contains("$2a$10$secret"));
}

#[test]
fn progress_goes_to_stderr_and_the_report_to_stdout() {
    let bed = Bed::start();
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    let ended = bed.migrate(&["--format", "json"]).expect(0);
    ended.json();
    let events: Vec<Value> = ended
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let done = |stage: &str| {
        events
            .iter()
            .find(|event| event["event"] == "PartDone" && event["what"] == stage)
    };
    for stage in [
        "reading metadata",
        "planning",
        "writing backup",
        "checking backup",
        "writing records",
        "checking what was written",
        "deleting old records",
        "verifying",
    ] {
        assert!(
            done(stage).is_some_and(|event| event["tookMs"].is_u64()),
            "{stage}: {events:#?}"
        );
    }
    assert!(
        events
            .iter()
            .all(|event| event["schemaVersion"] == "guard.milvus.io/run-event/v1"),
        "the events of meta are those of every run: {events:#?}"
    );
    let plan = milvus_guard_metadata::model::plan(&dump, &Options::default()).unwrap();
    assert_eq!(
        done("deleting old records").unwrap()["done"],
        plan.deletes().len()
    );
    let refused = bed
        .run(
            "restore",
            &[
                "a.backup",
                "--yes",
                "--format",
                "json",
                "--progress",
                "none",
                "--root-path",
                "x",
            ],
        )
        .expect(1);
    assert_eq!(
        (&refused.json()["outcome"], &refused.json()["data"]),
        (&"refused".into(), &"Nothing was changed.".into())
    );
    let quiet = bed
        .run("verify", &["--backup", "a.backup", "--progress", "none"])
        .expect(0);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn without_a_terminal_and_without_yes_nothing_changes() {
    let bed = Bed::start();
    bed.fill(&small().dump().unwrap());
    let revision = bed.revision();
    bed.run("migrate", &["-s", "2.1.4", "-t", "2.2.16"])
        .expect(2)
        .says("--yes");
    bed.run("restore", &["a.backup"]).expect(2).says("--yes");
    assert_eq!(bed.revision(), revision);
}

// Case 39.
#[test]
fn versions_are_judged_before_anything_else() {
    let bed = Bed::start();
    let versions =
        |source: &str, target: &str| bed.run("migrate", &["-s", source, "-t", target, "--yes"]);
    for (source, target, word) in [
        ("2.0.2", "2.2.0", "upgrade Milvus to 2.1.4 first"),
        ("2.1.4", "2.3.1", "to 2.2 only"),
        ("v2.1.4", "2.2.0", "not a version"),
        ("2.1", "2.2.0", "not a version"),
        ("2.2.1", "2.1.0", "lower than the source"),
        ("2.2.3", "2.2.16", "already has the metadata of 2.2"),
    ] {
        versions(source, target).expect(2).says(word);
    }
    versions("2.1.4", "2.1.5")
        .expect(0)
        .says("a migration is not needed");
}

#[test]
fn a_backup_is_always_made_and_never_replaces_a_file() {
    let bed = Bed::start();
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    fs::write(bed.file("a.backup"), "precious").unwrap();
    let revision = bed.revision();
    bed.migrate(&[])
        .expect(1)
        .says("a.backup exists already")
        .says("Nothing was changed");
    assert_eq!(fs::read(bed.file("a.backup")).unwrap(), b"precious");
    assert!(bed.revision() <= revision + 2, "only the lock was written");
    let made = bed
        .run(
            "migrate",
            &["-s", "2.1.4", "-t", "2.2.16", "--yes", "--format", "json"],
        )
        .expect(0)
        .json();
    let path = made["backup"]["path"].as_str().unwrap();
    assert!(path.contains("milvus-meta-by-dev_meta-"), "{path}");
    let read = backup::read(fs::File::open(path).unwrap()).unwrap();
    assert_same(&metadata(&read.dump), &metadata(&dump));
    assert_eq!(read.summary.sha256, made["backup"]["sha256"]);
}

#[test]
fn an_existing_backup_of_the_same_metadata_is_reused() {
    let bed = Bed::start();
    bed.fill(&small().dump().unwrap());
    let made = bed
        .run("backup", &["--out", "a.backup", "--format", "json"])
        .expect(0)
        .json();
    let migrated = bed.migrate(&["--format", "json"]).expect(0).json();
    assert_eq!(migrated["backup"]["sha256"], made["sha256"]);
    bed.run("backup", &["--out", "a.backup"])
        .expect(1)
        .says("exists already");
}

// Case 33, the part about files; the codec has separate tests.
#[test]
fn the_backup_format_of_the_official_tool_is_written_and_read() {
    let bed = Bed::start();
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    bed.run("backup", &["--out", "official.bak", "--form", "official"])
        .expect(0);
    let read = backup::read(fs::File::open(bed.file("official.bak")).unwrap()).unwrap();
    assert_eq!(read.summary.form, Form::Official);
    assert_same(&metadata(&read.dump), &metadata(&dump));
    bed.migrate(&[]).expect(0);
    bed.run("verify", &["--backup", "official.bak"]).expect(0);
    bed.run("restore", &["official.bak", "--yes"]).expect(0);
    assert_same(&bed.metadata(), &metadata(&dump));
}

// Cases 7, 11 and 41, and values that are not messages: the key is named, nothing is written.
#[test]
fn records_that_cannot_be_migrated_are_named_and_nothing_is_written() {
    type Break = fn(&mut Sample);
    let broken: [(&str, Break); 4] = [
        ("root-coord/collection/9", |sample| {
            sample.put("root-coord/collection/9", b"\xff\xff\xff");
        }),
        ("root-coord/index/1/101", |sample| {
            sample.put("root-coord/index/1/101", b"\xff\x01");
        }),
        ("root-coord/segment-index/1/101/10/5000", |sample| {
            sample
                .segment([1, 10, 5000], 1, 4)
                .segment_index([1, 10, 5000], VECTOR_FIELD, 101, 77);
        }),
        ("root-coord/collection/5", |sample| {
            sample.collection(5, "bare").schema = None;
        }),
    ];
    let bed = Bed::start();
    for (number, (key, breaks)) in broken.into_iter().enumerate() {
        let mut sample = small();
        breaks(&mut sample);
        let root = Root::new(&format!("r{number}"), "meta").unwrap();
        bed.fill_at(&root, &sample.dump().unwrap());
        let before = bed.read(root.root_path());
        let args = [
            "-s",
            "2.1.4",
            "-t",
            "2.2.16",
            "--yes",
            "--root-path",
            root.root_path(),
        ];
        bed.run("migrate", &args)
            .expect(1)
            .says(key)
            .says("Nothing was changed");
        assert_eq!(bed.read(root.root_path()), before);
        bed.run("inspect", &["--root-path", root.root_path()])
            .expect(0)
            .says(key);
    }
}

// Case 37.
#[test]
fn half_migrated_states_are_refused_with_the_next_command() {
    let bed = Bed::start();
    let refused = |root: &str, keys: &[(&str, &[u8])], words: &[&str]| {
        for (key, value) in keys {
            bed.put(format!("{root}/meta/{key}"), *value);
        }
        let before = bed.read(root);
        let mut ended = bed
            .run(
                "migrate",
                &["-s", "2.1.4", "-t", "2.2.16", "--yes", "--root-path", root],
            )
            .expect(1);
        for word in words {
            ended = ended.says(word);
        }
        assert_eq!(bed.read(root), before);
    };
    refused(
        "mixed",
        &[
            ("root-coord/dd-operation", b"{}"),
            ("datacoord-meta/channel-cp/x", b"x"),
        ],
        &["2.2 has already run"],
    );
    refused(
        "cleaned",
        &[("root-coord/credential/users/root", b"{}")],
        &["has deleted the old", "meta restore FILE"],
    );
    refused(
        "apply",
        &[("root-coord/index/1/2", b"x"), ("field-index/1/2", b"x")],
        &["interrupted", "meta restore FILE"],
    );
    refused(
        "strange",
        &[("something/else", b"x")],
        &["do not show the format"],
    );
}

// A migration continues despite an unknown key under the root, and keeps that key.
#[test]
fn unknown_keys_are_kept() {
    let bed = Bed::start();
    let mut sample = small();
    sample
        .put("of-another-client/1", "x")
        .put("root-coord/indexfoo", "y")
        .put(b"\xff\xfe", b"\xfd");
    let dump = sample.dump().unwrap();
    bed.fill(&dump);
    bed.migrate(&[]).expect(0);
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
    bed.restore(&[]).expect(0);
    assert_same(&bed.metadata(), &metadata(&dump));
}

// Case 23, with root paths of every shape.
#[test]
fn root_paths_of_every_shape_are_migrated() {
    let bed = Bed::start();
    for (root_path, sub_path) in [
        ("env_ts1", "meta"),
        ("/slash", "meta"),
        ("a/b/c", "x/meta"),
        ("with space", "meta"),
    ] {
        let root = Root::new(root_path, sub_path).unwrap();
        let dump = small().dump().unwrap();
        bed.fill_at(&root, &dump);
        let paths = ["--root-path", root_path, "--meta-sub-path", sub_path];
        let backup = format!("{}.backup", root_path.replace('/', "_"));
        finish(bed.migration_at(&bed.etcd.endpoint(), &backup).args(paths)).expect(0);
        assert_same(
            &bed.metadata_at(root.prefix()),
            &planned(&dump, &Options::default()),
        );
        finish(
            bed.command("restore")
                .args([backup.as_str(), "--yes"])
                .args(paths),
        )
        .expect(0);
        assert_same(&bed.metadata_at(root.prefix()), &metadata(&dump));
    }
}

// Case 38 at a tenth of its size: more keys than one page or one answer can hold.
#[test]
fn large_metadata_is_read_in_pages() {
    let bed = Bed::start();
    let mut sample = Sample::large(Size {
        collections: 4,
        segments: 2000,
        has_oddities: false,
    });
    // Together above the 32 MiB of one answer; each is below the 1.5 MiB of one request.
    for number in 0..40 {
        sample.put(
            format!("of-another-client/{number}"),
            vec![b'x'; 1024 * 1024],
        );
    }
    let dump = sample.dump().unwrap();
    let (large, rest): (Vec<_>, Vec<_>) = dump
        .records()
        .iter()
        .cloned()
        .partition(|record| record.value().len() > 1000);
    bed.fill(&Dump::new(dump.root.clone(), 7, 1, rest).unwrap());
    for record in large {
        bed.put(dump.root.absolute(record.key()), record.value());
    }
    bed.migrate(&[]).expect(0);
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));
}

#[test]
fn inspect_shows_the_state_and_the_planned_change() {
    let bed = Bed::start();
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    bed.put_leased(
        "by-dev/meta/session/querynode-7",
        r#"{"ServerID":7,"Address":"10.0.0.7:21123"}"#,
        60,
    );
    let revision = bed.revision();
    let text = bed.run("inspect", &[]).expect(0);
    for word in [
        "2.1, not migrated",
        "querynode-7 at 10.0.0.7:21123",
        "free",
        "no_index",
        "loaded now",
        "stop Milvus, then milvus-guard meta migrate",
    ] {
        assert!(text.stdout.contains(word), "{word}: {}", text.stdout);
    }
    let report: Value = bed.run("inspect", &["--format", "json"]).expect(0).json();
    assert_eq!(report["state"]["format"], "v21");
    assert_eq!(report["sessions"][0]["key"], "session/querynode-7");
    assert!(report["sessions"][0]["secondsLeft"].as_i64().unwrap() > 50);
    assert_eq!(report["keys"], metadata(&dump).len());
    assert_eq!(report["plan"]["unloadable"][0]["name"], "no_index");
    assert_eq!(bed.revision(), revision);
    bed.delete("by-dev/meta/session/querynode-7");
    bed.migrate(&[]).expect(0);
    bed.run("inspect", &[])
        .expect(0)
        .says("2.2")
        .says("last run   verified: 2.1.4 -> 2.2.16");
}

#[test]
fn on_a_terminal_the_plan_is_shown_before_the_question() {
    let bed = Bed::start();
    let dump = small().dump().unwrap();
    bed.fill(&dump);
    let asked = || {
        let mut command = bed.command("migrate");
        let terminal =
            Terminal::start(command.args(["-s", "2.1.4", "-t", "2.2.16", "--backup", "a.backup"]));
        terminal.expect("Continue? [y/N]");
        terminal
    };
    let mut terminal = asked();
    terminal.interrupt();
    assert_eq!(terminal.wait().code(), Some(1));
    terminal.expect("Nothing was changed");
    let ask = |answer: &str| {
        let mut terminal = asked();
        assert!(
            terminal.screen().contains("no_index"),
            "the plan comes first: {}",
            terminal.screen()
        );
        terminal.type_line(answer);
        (terminal.wait().code(), terminal)
    };
    let (code, terminal) = ask("no");
    terminal.expect("Nothing was changed");
    assert_eq!(code, Some(1));
    assert_same(&bed.metadata(), &metadata(&dump));
    assert!(!bed.file("a.backup").exists());
    let (code, terminal) = ask("yes");
    terminal.expect("Migrated and verified");
    assert_eq!(code, Some(0));
    assert!(
        terminal.screen().contains("deleting old records: done"),
        "{}",
        terminal.screen()
    );
    assert_same(&bed.metadata(), &planned(&dump, &Options::default()));

    let mut command = bed.command("restore");
    let mut terminal = Terminal::start(command.arg("a.backup"));
    terminal.expect("Continue? [y/N]");
    terminal.type_line("yes");
    terminal.expect("Restored and verified");
    assert_eq!(terminal.wait().code(), Some(0));
    assert_same(&bed.metadata(), &metadata(&dump));
}
