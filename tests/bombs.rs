//! Small requests that would build much: whatever comes up to the accepted size, the webhook's memory stays bounded, the
//! request is answered with its uid, and honest reviews beside it are answered in time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]

mod common;

use std::{
    cell::RefCell,
    fs,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use common::{https::Https, webhook::Server};
use flate2::{Compression, write::GzEncoder};
use milvus_guard::manifest::documents;
use rustls::ClientConfig;
use serde_json::{Value, json};

const RUNNING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo/1-skipped-migration/before.yaml");
const MIB: usize = 1024 * 1024;
/// What a replica may take beyond what it takes idle: 200 MiB in all, of which the released program takes 32 idle (a debug
/// build takes 60).
const MAX_GROWTH_KIB: u64 = (200 - 32) * 1024;

struct Target {
    server: Server,
    config: Arc<ClientConfig>,
    _folder: tempfile::TempDir,
}

impl Target {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (server, config) = Server::alone(folder.path(), &["--before", RUNNING]);
        Self { server, config, _folder: folder }
    }

    fn connect(&self) -> Https {
        Https::connect(&self.server.url, &self.config).unwrap()
    }

    /// Sends one review and returns what it was told.
    fn told(&self, what: &str, body: &[u8]) -> Value {
        let reply = self.connect().post("/validate?timeout=30s", body).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(reply.status, 200, "{what}: {}", reply.text());
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(answer["response"]["uid"], "u-1", "{what}");
        answer["response"].clone()
    }
}

/// One bomb on a fresh server: what it was told.
fn bounded(what: &str, body: &[u8]) -> Value {
    assert!(body.len() <= 7 * MIB, "{what}: {} bytes are refused for their size", body.len());
    let target = Target::start();
    let idle = target.server.peak_kib();
    let started = Instant::now();
    let told = target.told(what, body);
    let (took, peak) = (started.elapsed(), target.server.peak_kib());
    eprintln!("{what}: {} KiB sent, {} -> {} MiB, {took:.1?}, {}", body.len() / 1024, idle / 1024, peak / 1024, said(&told));
    assert!(!target.server.log().contains("panicked"), "{what}: {}", target.server.log());
    if peak - idle >= MAX_GROWTH_KIB {
        wrong(format!("{what}: {} MiB", peak / 1024));
    }
    told
}

thread_local! {
    static WRONG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes what is wrong with a bomb; the test goes on to the next.
fn wrong(what: String) {
    eprintln!("wrong: {what}");
    WRONG.with_borrow_mut(|all| all.push(what));
}

fn nothing_was_wrong() {
    let all = WRONG.take();
    assert!(all.is_empty(), "{all:#?}");
}

fn said(told: &Value) -> String {
    let message = told["status"]["message"].as_str().or_else(|| told["warnings"][0].as_str()).unwrap_or("nothing");
    message.chars().take(220).collect()
}

fn is_too_large(what: &str, told: &Value) {
    if !said(told).contains("too large to judge") {
        wrong(format!("{what}: {told}"));
    }
}

fn raw_body(resource: &str, operation: &str, name: &str, object: &str, old: &str) -> Vec<u8> {
    let group = if ["deployments", "statefulsets"].contains(&resource) { "apps" } else { "" };
    format!(
        concat!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u-1","name":"{name}","namespace":"milvus","#,
            r#""resource":{{"group":"{group}","version":"v1","resource":"{resource}"}},"operation":"{operation}","#,
            r#""userInfo":{{"username":"me"}},"object":{object},"oldObject":{old}}}}}"#
        ),
        name = name,
        group = group,
        resource = resource,
        operation = operation,
        object = object,
        old = old
    )
    .into_bytes()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Text of a record, some of it many times: each part is a gzip member of its own, so that packing it takes no time.
fn packed_parts(parts: &[(&str, usize)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (text, times) in parts {
        // As much of the text as makes a member worth its head.
        let inside = (MIB / text.len()).clamp(1, (*times).max(1));
        all.extend(packed(text.repeat(inside).as_bytes()).repeat(times / inside));
        if times % inside > 0 {
            all.extend(packed(text.repeat(times % inside).as_bytes()));
        }
    }
    all
}

/// A review of a Secret of Helm with this inside.
fn release(packed: &[u8]) -> Vec<u8> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
        "metadata": {"name": "sh.helm.release.v1.my-release.v2", "namespace": "milvus",
            "labels": {"owner": "helm", "name": "my-release", "status": "pending-upgrade", "version": "2"}},
        "data": {"release": BASE64_STANDARD.encode(BASE64_STANDARD.encode(packed))},
    });
    raw_body("secrets", "CREATE", "sh.helm.release.v1.my-release.v2", &secret.to_string(), "null")
}

/// The same, given all that stands in the record beside its name, in parts.
fn record(parts: &[(&str, usize)]) -> Vec<u8> {
    let head = r#"{"name":"my-release","namespace":"milvus","version":2,"info":{"status":"pending-upgrade"},"#;
    let mut all = vec![(head, 1)];
    all.extend_from_slice(parts);
    all.push(("}", 1));
    release(&packed_parts(&all))
}

/// A record with this manifest, in parts without quotes, escaped as JSON wants it.
fn manifest(parts: &[(&str, usize)]) -> Vec<u8> {
    let escaped: Vec<(String, usize)> = parts.iter().map(|(text, times)| (escape(text), *times)).collect();
    let mut all = vec![(r#""chart":{"metadata":{"name":"milvus","version":"4.0.31"}},"config":{},"hooks":[],"manifest":""#, 1)];
    all.extend(escaped.iter().map(|(text, times)| (text.as_str(), *times)));
    all.push(("\"", 1));
    record(&all)
}

fn escape(text: &str) -> String {
    let quoted = json!(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

const WORKLOAD: &str = "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: my-release-milvus-proxy, labels: {app.kubernetes.io/instance: my-release}}\nspec: {template: {spec: {containers: [{name: proxy, image: \"milvusdb/milvus:v2.1.4\", args: [milvus, run, proxy]}]}}}\n";

/// Distinct keys, each on a line or with a comma.
fn keys(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

#[test]
fn a_manifest_builds_no_more_than_its_budget() {
    let list = manifest(&[("milvus: [", 1), ("1,", 15_500_000), ("1]\n", 1)]);
    assert!(list.len() < 200 * 1024);
    is_too_large("flat list", &bounded("flat list", &list));
    let in_workload = manifest(&[(WORKLOAD, 1), ("x: [", 1), ("1,", 15_000_000), ("1]\n", 1)]);
    is_too_large("list in a Deployment", &bounded("list in a Deployment", &in_workload));
    let empty = manifest(&[("kind: Pod\nmilvus:\n", 1), ("- \"\"\n", 4_000_000)]);
    is_too_large("empty strings", &bounded("empty strings", &empty));
    let flow = format!("kind: Pod\nmilvus: {{{}}}\n", keys(1_500_000, |n| format!("{n:x}: 1, ")));
    is_too_large("flow mapping", &bounded("flow mapping", &manifest(&[(&flow, 1)])));
    bounded("tiny documents", &manifest(&[(WORKLOAD, 1), ("---\n", 6_600_000)]));
    bounded("tiny documents with a word", &manifest(&[(WORKLOAD, 1), ("---\na\n", 3_700_000)]));
    let pods = manifest(&[(WORKLOAD, 1), ("---\nkind: Pod\nmetadata: {name: milvus}\n", 500_000)]);
    is_too_large("small objects", &bounded("small objects", &pods));
    let comments = manifest(&[(WORKLOAD, 1), ("# milvus\n", 3_300_000)]);
    bounded("comments", &comments);
    nothing_was_wrong();
}

#[test]
fn anchors_and_scalars_build_no_more_than_their_budget() {
    let mut nested = String::from("kind: Pod\nmilvus: ");
    for level in 0..100 {
        nested.push_str(&format!("&a{level} ["));
    }
    nested.push_str(&"1,".repeat(9_000));
    nested.push_str(&"]".repeat(100));
    is_too_large("nested anchors", &bounded("nested anchors", &manifest(&[(&nested, 1), ("\n", 1)])));
    let wide = format!("kind: Pod\nmilvus: &a [{}]\n", "1,".repeat(990));
    let aliases: String = (0..100).map(|n| format!("b{n}: *a\n")).collect();
    let documents = format!("---\n{wide}{aliases}");
    is_too_large("aliases in many documents", &bounded("aliases in many documents", &manifest(&[(&documents, 500)])));
    let chain: String = (1..100_000).map(|n| format!("a{n}: &a{n} {{<<: *a{}, k: 1}}\n", n - 1)).collect();
    bounded("a chain of merges", &manifest(&[("kind: Pod\nmilvus: 1\na0: &a0 {k: 0}\n", 1), (&chain, 1)]));
    let block = manifest(&[
        (WORKLOAD, 1),
        ("---\nkind: ConfigMap\nmetadata: {name: milvus}\ndata:\n  user.yaml: |\n", 1),
        ("    milvus milvus milvus\n", 1_000_000),
        ("beside: [", 1),
        ("1,", 3_000_000),
        ("1]\n", 1),
    ]);
    is_too_large("block scalar and a list", &bounded("block scalar and a list", &block));
    let windows = manifest(&[(&WORKLOAD.replace('\n', "\r\n"), 1), ("x: \"", 1), ("\\t ", 8_000_000), ("\"\r\n", 1)]);
    is_too_large("one scalar, other line ends", &bounded("one scalar, other line ends", &windows));
    let names = keys(60_000, |n| format!("---\nkind: ConfigMap\nmetadata:\n  name: c{n}\n"));
    bounded("many names", &manifest(&[(WORKLOAD, 1), (&names, 1), ("# milvus\n", 3_000_000)]));
    nothing_was_wrong();
}

#[test]
fn what_stands_beside_the_manifest_builds_no_more_than_its_budget() {
    let workload = format!(r#""manifest":"{}","#, escape(WORKLOAD));
    let hooks = [(workload.as_str(), 1), (r#""hooks":[{}"#, 1), (",{}", 10_000_000), ("]", 1)];
    is_too_large("hooks", &bounded("hooks", &record(&hooks)));
    let list = [(r#""hooks":[{"manifest":"milvus: ["#, 1), ("1,", 15_000_000), ("1]\"}]", 1)];
    is_too_large("list in a hook", &bounded("list in a hook", &record(&list)));
    let values = [(workload.as_str(), 1), (r#""config":{"a":[1"#, 1), (",1", 15_000_000), ("]}", 1)];
    is_too_large("values", &bounded("values", &record(&values)));
    let texts = [(workload.as_str(), 1), (r#""config":{"a":""#, 1), ("milvus", 5_000_000), ("\"}", 1)];
    is_too_large("a long value", &bounded("a long value", &record(&texts)));
    let chart = r#""config":{"x":{"y":{"z":1}}},"chart":{"values":{"cluster":{},"image":{"all":{}}},"metadata":{"name":"milvus","version":"1","dependencies":[{}"#;
    bounded("sub-charts", &record(&[(workload.as_str(), 1), (chart, 1), (",{}", 10_000_000), ("]}}", 1)]));
    let chart = r#""config":{"x":{"y":{"z":1}}},"chart":{"values":{"cluster":{},"image":{"all":{}}},"templates":[{}"#;
    bounded("templates", &record(&[(workload.as_str(), 1), (chart, 1), (",{}", 2_700_000), ("]}", 1)]));
    let deep = (0..100).fold(String::new(), |all, _| all + &format!(r#"{{"{}":"#, "k".repeat(1000)));
    let leaves = keys(10_000, |n| format!(r#""l{n}":1,"#));
    let chart = format!(
        r#""config":{{"x":{{"y":{{"z":1}}}}}},"chart":{{"values":{{"cluster":{{}},"image":{{"all":{{}}}},"deep":{deep}{{{leaves}"e":1}}{}"#,
        "}".repeat(100)
    );
    bounded("chart with long paths", &record(&[(workload.as_str(), 1), (&chart, 1), ("}}", 1)]));
    let user =
        format!(r#""chart":{{"values":{{"cluster":{{}},"image":{{"all":{{}}}}}}}},"config":{{"{}":{{"#, "k".repeat(3 * MIB));
    let leaves = keys(200, |n| format!(r#""l{n}":1,"#));
    bounded("values with long paths", &record(&[(workload.as_str(), 1), (&user, 1), (&leaves, 1), (r#""e":1}}"#, 1)]));
    nothing_was_wrong();
}

#[test]
fn settings_build_no_more_than_their_budget() {
    let mounted = |file: &str| {
        let workload = WORKLOAD
            .replace("args:", "volumeMounts: [{name: c, mountPath: /milvus/configs/user.yaml, subPath: user.yaml}], args:");
        let workload = workload.replace("containers:", "volumes: [{name: c, configMap: {name: settings}}], containers:");
        format!("{workload}---\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata:\n  user.yaml: |\n{file}")
    };
    let mut nested = String::new();
    for level in 0..100 {
        nested.push_str(&format!("    {}{}:\n", " ".repeat(level), "k".repeat(1000)));
    }
    let nested = nested + &keys(10_000, |n| format!("    {}l{n}: 1\n", " ".repeat(100)));
    bounded("long paths", &manifest(&[(&mounted(&nested), 1)]));
    let sections = format!("{{{}: ", "k".repeat(1000)).repeat(90);
    let leaves = keys(10_000, |n| format!("l{n}, "));
    let flow = format!("    {sections}{{{leaves}}}{}\n", "}".repeat(90));
    bounded("long paths in flow style", &manifest(&[(&mounted(&flow), 1)]));
    let flat = keys(60_000, |n| format!("    k{n}: 1\n"));
    bounded("many settings", &manifest(&[(&mounted(&flat), 1)]));
    let file = "    a: {b: 1}\n".to_owned() + &keys(20_000, |n| format!("    k{n}: 1\n"));
    let one = mounted(&file);
    let container = "{name: proxy, image: \"milvusdb/milvus:v2.1.4\", volumeMounts: [{name: c, mountPath: /milvus/configs/user.yaml, subPath: user.yaml}], args: [milvus, run, proxy]},";
    let many = one.replace("containers: [", &format!("containers: [{}", container.repeat(1000)));
    bounded("one file in 1,000 containers", &manifest(&[(&many, 1)]));
    let mut spread = String::new();
    for number in 0..300 {
        spread.push_str(
            &WORKLOAD
                .replace("-proxy,", &format!("-proxy{number},"))
                .replace("args:", "volumeMounts: [{name: c, mountPath: /milvus/configs}], args:")
                .replace(
                    "containers:",
                    &format!("volumes: [{{name: c, projected: {{sources: [{{configMap: {{name: s{number}}}}}]}}}}], containers:"),
                ),
        );
        spread.push_str(&format!(
            "---\nkind: ConfigMap\nmetadata: {{name: s{number}}}\ndata:\n  user.yaml: |\n{}---\n",
            keys(1500, |n| format!("    {}{n}: 1\n", "k".repeat(60)))
        ));
    }
    bounded("a file of its own in each of 300 workloads", &manifest(&[(&spread, 1)]));
    let shared: String = (0..500)
        .map(|n| one.split("---\n").next().unwrap().replace("my-release", &format!("r{n}")) + "---\n")
        .chain([one.split_once("---\n").unwrap().1.to_owned()])
        .collect();
    bounded("one file in 500 releases", &manifest(&[(&shared, 1)]));
    let copies: String = (0..5_000).map(|n| format!("{{name: B{n}, value: \"$(A)$(A)$(A)$(A)$(A)$(A)$(A)$(A)\"}},")).collect();
    let copies = format!("env: [{{name: A, value: {}}},{copies}], args:", "x".repeat(8_000));
    bounded("variables of variables", &manifest(&[(&WORKLOAD.replace("args:", &copies), 1)]));
    let copies: String = (0..5_000)
        .map(|n| format!("{{name: B{n}, valueFrom: {{configMapKeyRef: {{name: settings, key: user.yaml}}}}}},"))
        .collect();
    bounded("one key in 5,000 variables", &manifest(&[(&one.replace("args:", &format!("env: [{copies}], args:")), 1)]));
    let sources: String = (0..1000).map(|n| format!("{{configMap: {{name: s{n}}}}},")).collect();
    let maps: String = (0..1000)
        .map(|n| format!("---\nkind: ConfigMap\nmetadata: {{name: s{n}}}\ndata:\n  user.yaml: |\n    a{n}: 1\n"))
        .collect();
    let projected = WORKLOAD
        .replace("args:", "volumeMounts: [{name: c, mountPath: /milvus/configs}], args:")
        .replace("containers:", &format!("volumes: [{{name: c, projected: {{sources: [{sources}]}}}}], containers:"));
    bounded("1,000 ConfigMaps in one volume", &manifest(&[(&projected, 1), (&maps, 1)]));
    let names: String = (0..3000).map(|n| format!("{{name: {}{n}, value: x}},", "E".repeat(9000))).collect();
    bounded("long names of variables", &manifest(&[(&WORKLOAD.replace("args:", &format!("env: [{names}], args:")), 1)]));
    nothing_was_wrong();
}

fn deployment() -> Value {
    let text = fs::read_to_string(RUNNING).unwrap();
    let mut all = documents(&text).map(|document| document.unwrap().root.to_json());
    let mut found = all.find(|object| object["kind"] == "Deployment").unwrap();
    found["metadata"]["namespace"] = json!("milvus");
    found
}

#[test]
fn an_object_builds_no_more_than_its_budget() {
    let milvus = deployment().to_string();
    let name = deployment()["metadata"]["name"].as_str().unwrap().to_owned();
    let with = |extra: &str| format!("{}{extra}}}", milvus.strip_suffix('}').unwrap());
    let list = with(&format!(r#","x":[{}1]"#, "1,".repeat(3_300_000)));
    is_too_large("JSON list", &bounded("JSON list", &raw_body("deployments", "CREATE", &name, &list, "null")));
    let half = with(&format!(r#","x":[{}1]"#, "1, ".repeat(1_000_000)));
    bounded("JSON lists on both sides", &raw_body("deployments", "UPDATE", &name, &half, &half));
    let map = with(&format!(r#","x":{{{}"e":1}}"#, keys(500_000, |n| format!(r#""{n:x}": 1,"#))));
    is_too_large("JSON map", &bounded("JSON map", &raw_body("deployments", "CREATE", &name, &map, "null")));
    let maps = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"a","namespace":"milvus"}},"x":[{}1],"data":{{"user.yaml":""}}}}"#,
        "{},".repeat(2_000_000)
    );
    bounded("ConfigMap with a list", &raw_body("configmaps", "CREATE", "a", &maps, "null"));
    let labels = keys(500_000, |n| format!(r#""{n:x}":"","#));
    let secret = format!(
        r#"{{"metadata":{{"labels":{{{labels}"owner":"helm","status":"pending-install"}}}},"type":"helm.sh/release.v1","data":{{"release":"eA=="}}}}"#
    );
    bounded("labels", &raw_body("secrets", "CREATE", "a", &secret, "null"));
    let env = keys(40_000, |n| format!(r#"{{"name":"{}{n}","value":"x"}},"#, "E".repeat(100)));
    let env = milvus.replace(r#""containers":[{"#, &format!(r#""containers":[{{"env":[{env}{{"name":"e","value":"x"}}],"#));
    assert!(env.len() > 4 * MIB);
    bounded("variables", &raw_body("deployments", "CREATE", &name, &env, "null"));
    nothing_was_wrong();
}

/// Bombs from several connections, one after the other, beside a stream of honest reviews: none of these is late.
#[test]
fn honest_reviews_beside_bombs_are_in_time() {
    let target = Target::start();
    let idle = target.server.peak_kib();
    let (old, mut new) = (deployment(), deployment());
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("milvusdb/milvus:v2.2.16");
    let name = old["metadata"]["name"].as_str().unwrap().to_owned();
    let honest = [
        raw_body("deployments", "UPDATE", &name, &new.to_string(), &old.to_string()),
        manifest(&[(&fs::read_to_string(RUNNING).unwrap(), 1)]),
    ];
    let bombs = [
        manifest(&[("milvus: [", 1), ("1,", 15_500_000), ("1]\n", 1)]),
        manifest(&[(WORKLOAD, 1), ("# milvus\n", 3_300_000)]),
        manifest(&[(WORKLOAD, 1), ("---\n", 6_600_000)]),
        raw_body("deployments", "CREATE", &name, &format!(r#"{{"x":[{}1]}}"#, "1, ".repeat(1_000_000)), "null"),
    ];
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut worst = [Duration::ZERO; 3];
    thread::scope(|scope| {
        for turn in 0..8 {
            let (target, bombs, over, sent) = (&target, &bombs, &over, &sent);
            scope.spawn(move || {
                for bomb in bombs.iter().cycle().skip(turn) {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    // A bomb may be answered late or not at all; only the others count.
                    let _ = target.connect().post("/validate?timeout=10s", bomb);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut connection = target.connect();
        for round in 0..300 {
            for (kind, body) in honest.iter().enumerate() {
                let started = Instant::now();
                let reply = connection.post("/validate?timeout=10s", body).unwrap();
                worst[kind] = worst[kind].max(started.elapsed());
                let answer: Value = serde_json::from_slice(&reply.body).unwrap();
                let message = answer["response"]["status"]["message"].as_str().unwrap_or_default();
                if kind == 0 {
                    assert!(message.contains("MG101"), "{round}: {answer}");
                } else {
                    assert_eq!(answer["response"]["allowed"], true, "{round}: {answer}");
                    assert!(!answer.to_string().contains("did not judge"), "{round}: {answer}");
                }
            }
            let started = Instant::now();
            assert_eq!(target.connect().get("/healthz").unwrap().status, 200);
            worst[2] = worst[2].max(started.elapsed());
        }
        over.store(true, Ordering::Relaxed);
    });
    let peak = target.server.peak_kib();
    eprintln!(
        "{} bombs; worst of Deployments, releases, /healthz: {worst:.1?}; peak {} MiB",
        sent.load(Ordering::Relaxed),
        peak / 1024
    );
    assert!(!target.server.log().contains("panicked"), "{}", target.server.log());
    assert!(sent.load(Ordering::Relaxed) >= 8, "the bombs were there");
    // What the API server grants by the chart is 5 s.
    assert!(worst.iter().all(|worst| *worst < Duration::from_secs(5)), "{worst:.1?}");
    assert!(peak - idle < MAX_GROWTH_KIB, "{} -> {} MiB", idle / 1024, peak / 1024);
}
