//! Metadata in a real etcd, and runs of the binary on it.
#![allow(dead_code, reason = "each test uses a part")]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::proxy::{Proxy, When};
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity, PutOptions,
    TlsOptions, Txn, TxnOp,
};
use milvus_guard_metadata::model::{Dump, Options, Root, plan, sample::Sample};
use milvus_guard_testbed::{Etcd, EtcdOptions};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Keys and values.
pub type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Number of keys in one put request of a test.
const CHUNK: usize = 100;

/// An etcd, a client, and a folder for backups.
pub struct Bed {
    pub etcd: Etcd,
    pub runtime: Runtime,
    pub client: Client,
    pub folder: TempDir,
    /// Operations that this etcd accepts in one transaction.
    pub chunk: usize,
}

/// The result of a run of the binary.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text) || self.stdout.contains(text),
            "no {text:?} in stdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }
}

impl Bed {
    pub fn start() -> Self {
        Self::with(&EtcdOptions::default())
    }

    pub fn with(options: &EtcdOptions) -> Self {
        let etcd = Etcd::start_with(options);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let mut connect = ConnectOptions::new();
        if options.tls {
            let read = |path: &std::path::Path| std::fs::read(path).unwrap();
            let identity =
                Identity::from_pem(read(etcd.client_cert_path()), read(etcd.client_key_path()));
            let tls = TlsOptions::new()
                .ca_certificate(Certificate::from_pem(read(etcd.ca_path())))
                .identity(identity);
            connect = connect.with_tls(tls);
        }
        if let Some((user, password)) = &options.auth {
            connect = connect.with_user(user, password);
        }
        let client = runtime
            .block_on(Client::connect([etcd.endpoint()], Some(connect)))
            .unwrap();
        Self {
            etcd,
            runtime,
            client,
            folder: tempfile::tempdir().unwrap(),
            chunk: CHUNK,
        }
    }

    /// An etcd whose transactions are so small that every operation is a separate revision.
    pub fn with_small_transactions() -> Self {
        let options = EtcdOptions {
            args: vec!["--max-txn-ops=11".into()],
            ..EtcdOptions::default()
        };
        Self {
            chunk: 11,
            ..Self::with(&options)
        }
    }

    /// Puts all records of a dump that have no lease, under the root of the dump.
    pub fn fill(&self, dump: &Dump) {
        self.fill_at(&dump.root, dump);
    }

    pub fn fill_at(&self, root: &Root, dump: &Dump) {
        let records: Vec<_> = dump
            .records()
            .iter()
            .filter(|record| !record.leased)
            .collect();
        for chunk in records.chunks(self.chunk) {
            let puts: Vec<TxnOp> = chunk
                .iter()
                .map(|record| TxnOp::put(root.absolute(record.key()), record.value(), None))
                .collect();
            self.txn(Txn::new().and_then(puts));
        }
    }

    pub fn txn(&self, txn: Txn) -> bool {
        self.runtime
            .block_on(self.client.kv_client().txn(txn))
            .unwrap()
            .succeeded()
    }

    pub fn put(&self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.runtime
            .block_on(self.client.kv_client().put(key, value, None))
            .unwrap();
    }

    pub fn delete(&self, key: impl Into<Vec<u8>>) {
        self.runtime
            .block_on(self.client.kv_client().delete(key, None))
            .unwrap();
    }

    /// A key under a lease that is not renewed, like the session of a killed component.
    pub fn put_leased(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        seconds: i64,
    ) -> i64 {
        self.runtime.block_on(async {
            let lease = self
                .client
                .lease_client()
                .grant(seconds, None)
                .await
                .unwrap()
                .id();
            self.client
                .kv_client()
                .put(key, value, Some(PutOptions::new().with_lease(lease)))
                .await
                .unwrap();
            lease
        })
    }

    pub fn revoke(&self, lease: i64) {
        self.runtime
            .block_on(self.client.lease_client().revoke(lease))
            .unwrap();
    }

    pub fn revision(&self) -> i64 {
        let answer = self
            .runtime
            .block_on(self.client.kv_client().get("x", None))
            .unwrap();
        answer.header().unwrap().revision()
    }

    /// A proxy in front of the etcd that stops all traffic after this number of further writes.
    pub fn proxy_after(&self, writes: i64, when: When) -> Proxy {
        Proxy::start(
            self.etcd.port(),
            self.client.clone(),
            self.runtime.handle().clone(),
            self.revision() + writes,
            when,
        )
    }

    pub fn compact(&self) {
        let revision = self.revision();
        self.runtime
            .block_on(self.client.kv_client().compact(revision, None))
            .unwrap();
    }

    /// All records of a prefix: key, value, revision of the last change, lease.
    pub fn read(&self, prefix: &str) -> Vec<(Vec<u8>, Vec<u8>, i64, i64)> {
        let options = GetOptions::new().with_prefix();
        let mut kv = self.client.kv_client().max_decoding_message_size(1 << 30);
        let answer = self
            .runtime
            .block_on(kv.get(prefix, Some(options)))
            .unwrap();
        answer
            .kvs()
            .iter()
            .map(|kv| {
                (
                    kv.key().to_vec(),
                    kv.value().to_vec(),
                    kv.mod_revision(),
                    kv.lease(),
                )
            })
            .collect()
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let answer = self
            .runtime
            .block_on(self.client.kv_client().get(key, None))
            .unwrap();
        answer.kvs().first().map(|kv| kv.value().to_vec())
    }

    /// Metadata under `by-dev/meta`, without sessions and leased keys.
    pub fn metadata(&self) -> Pairs {
        self.metadata_at("by-dev/meta/")
    }

    pub fn metadata_at(&self, prefix: &str) -> Pairs {
        let is_metadata =
            |key: &[u8], lease: i64| lease == 0 && !key[prefix.len()..].starts_with(b"session/");
        let records = self
            .read(prefix)
            .into_iter()
            .filter(|(key, _, _, lease)| is_metadata(key, *lease));
        records
            .map(|(key, value, ..)| (key[prefix.len()..].to_vec(), value))
            .collect()
    }

    /// The record of the run, if there is one.
    pub fn journal(&self) -> Option<Value> {
        self.get("by-dev/milvus-guard/migration")
            .map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }

    pub fn phase(&self) -> String {
        self.journal().map_or_else(
            || "none".into(),
            |journal| journal["phase"].as_str().unwrap().to_owned(),
        )
    }

    /// Waits for a condition for at most 60 s.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        assert!(
            milvus_guard_testbed::wait_until(Duration::from_secs(60), || is_so(self)),
            "not within 60 s: {what}"
        );
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `milvus-guard meta VERB --etcd ...`, in the folder of this bed.
    pub fn command(&self, verb: &str) -> Command {
        self.command_at(&self.etcd.endpoint(), verb)
    }

    pub fn command_at(&self, endpoint: &str, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_milvus-guard"));
        command
            .args(["meta", verb, "--etcd", endpoint])
            .current_dir(self.folder.path());
        for name in [
            "MILVUS_GUARD_ETCD_USER",
            "MILVUS_GUARD_ETCD_PASSWORD",
            "CLICOLOR_FORCE",
        ] {
            command.env_remove(name);
        }
        command
            .env("NO_COLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, verb: &str, args: &[&str]) -> Ended {
        finish(self.command(verb).args(args))
    }

    /// The usual migration, with backup `a.backup`.
    pub fn migrate(&self, args: &[&str]) -> Ended {
        finish(self.migration().args(args))
    }

    pub fn migration(&self) -> Command {
        self.migration_at(&self.etcd.endpoint(), "a.backup")
    }

    pub fn migration_at(&self, endpoint: &str, backup: &str) -> Command {
        let mut command = self.command_at(endpoint, "migrate");
        command.args(["-s", "2.1.4", "-t", "2.2.16", "--backup", backup, "--yes"]);
        command
    }

    pub fn restore(&self, args: &[&str]) -> Ended {
        finish(
            self.command("restore")
                .args(["a.backup", "--yes"])
                .args(args),
        )
    }
}

/// Starts a command whose output is kept for [`collect`].
pub fn start(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub fn collect(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub fn finish(command: &mut Command) -> Ended {
    collect(start(command))
}

pub fn signal(child: &Child, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {}", child.id())])
        .status()
        .unwrap();
    assert!(status.success());
}

/// The metadata that etcd must hold after a migration of this dump.
pub fn planned(dump: &Dump, options: &Options) -> Pairs {
    let plan = plan(dump, options).unwrap();
    plan.end_state()
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

/// The metadata of a dump.
pub fn metadata(dump: &Dump) -> Pairs {
    dump.records()
        .iter()
        .filter(|record| record.is_metadata())
        .map(|record| (record.key().to_vec(), record.value().to_vec()))
        .collect()
}

/// Fails with the first keys that differ, which is readable even for large maps.
#[track_caller]
pub fn assert_same(seen: &Pairs, expected: &Pairs) {
    let shown = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
    let missing: Vec<_> = expected
        .keys()
        .filter(|key| !seen.contains_key(*key))
        .take(5)
        .map(|key| shown(key))
        .collect();
    let foreign: Vec<_> = seen
        .keys()
        .filter(|key| !expected.contains_key(*key))
        .take(5)
        .map(|key| shown(key))
        .collect();
    let other: Vec<_> = expected
        .iter()
        .filter(|(key, value)| seen.get(*key).is_some_and(|seen| seen != *value))
        .take(5)
        .map(|(key, _)| shown(key))
        .collect();
    assert!(
        seen == expected,
        "missing {missing:?}, not expected {foreign:?}, of another value {other:?}"
    );
}

/// A small cluster with every kind of record: two collections with indexes, one without, one
/// dropped; aliases, partitions, small segments, load records.
pub fn small() -> Sample {
    use milvus_guard_metadata::model::sample::{TEXT_FIELD, VECTOR_FIELD};
    let mut sample = Sample::new();
    sample.surroundings();
    sample.collection(1, "books");
    sample.partition(1, 11).partition(1, 12);
    sample.index(1, VECTOR_FIELD, 101, Sample::ivf_flat("_default_idx"));
    sample.index(1, TEXT_FIELD, 102, Sample::ivf_flat("mine"));
    for segment in 1000..1004 {
        sample.built([1, 10, segment], VECTOR_FIELD, 101, segment * 10);
        sample.segment_index([1, 10, segment], TEXT_FIELD, 102, 0);
    }
    sample.collection(2, "films");
    sample.index(2, VECTOR_FIELD, 201, Sample::ivf_flat("_default_idx"));
    sample.built([2, 20, 2000], VECTOR_FIELD, 201, 20_000);
    sample.collection(3, "no_index");
    sample.collection(4, "gone").create_time += 1;
    sample.drop_collection(4);
    sample
        .alias("a", Some(1))
        .alias("x_ts_y_ts9", Some(1))
        .alias("x_ts_y_ts9", Some(2))
        .alias("dropped", Some(1))
        .alias("dropped", None);
    sample
        .load(&Sample::loaded(1, 2))
        .load(&Sample::loaded(2, 2))
        .load(&Sample::loaded(3, 2));
    sample
}

/// A condition that the key exists, for transactions of tests.
pub fn exists(key: &str) -> Compare {
    Compare::version(key, CompareOp::Greater, 0)
}
