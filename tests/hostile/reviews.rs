//! The webhook under attack: requests that no API server sends, and damaged ones. For any input, a
//! review is answered with its uid, the server stays up, and its memory stays bounded.
#![allow(clippy::too_many_lines)]

use std::{
    fs,
    io::{self, Write},
    process::Command,
    sync::Arc,
    time::Duration,
};

use crate::common::{
    https::{Https, Reply},
    machine::{Alone, alone},
    webhook::{Server, wait_until},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use milvus_guard_core::manifest::documents;
use rustls::ClientConfig;
use serde_json::{Value, json};

const RUNNING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/demo/1-skipped-migration/before.yaml"
);
const MIB: usize = 1024 * 1024;
const LIMIT: usize = 7 * MIB;
/// Upper bound of the resident memory of a debug build in all tests of this file.
const MAX_RSS_KIB: u64 = 400 * 1024;

struct Target {
    server: Server,
    config: Arc<ClientConfig>,
    _folder: tempfile::TempDir,
    _machine: Alone,
}

impl Target {
    fn start(flags: &[&str]) -> Self {
        let machine = alone();
        let folder = tempfile::tempdir().unwrap();
        let (server, config) =
            Server::alone(folder.path(), &[&["--before", RUNNING], flags].concat());
        Self {
            server,
            config,
            _folder: folder,
            _machine: machine,
        }
    }

    fn connect(&self) -> Https {
        Https::connect(&self.server.url, &self.config).unwrap()
    }

    /// One request on a separate connection.
    fn post(&self, body: &[u8]) -> Reply {
        self.connect().post("/validate?timeout=10s", body).unwrap()
    }

    fn raw(&self, request: &str) -> Reply {
        let mut connection = self.connect();
        connection.send(request.as_bytes()).unwrap();
        connection.receive().unwrap()
    }

    /// Sends a well-formed review to both paths; each answers 200 with the version and the uid.
    /// Returns the answer of `/validate`.
    fn answered(&self, what: &str, body: &[u8], uid: &str) -> Value {
        let mut connection = self.connect();
        let mut last = Value::Null;
        for path in ["/mutate?timeout=10s", "/validate?timeout=10s"] {
            let reply = connection
                .post(path, body)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(reply.status, 200, "{what} {path}: {}", reply.text());
            last = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(last["apiVersion"], "admission.k8s.io/v1", "{what}");
            assert_eq!(last["kind"], "AdmissionReview", "{what}");
            assert_eq!(last["response"]["uid"], uid, "{what}");
            assert!(last["response"]["allowed"].is_boolean(), "{what}");
        }
        last
    }

    /// The server is up and ready, has not panicked, and its memory is within the bound.
    fn survived(&self) {
        let mut connection = self.connect();
        for path in ["/healthz", "/readyz"] {
            assert_eq!(connection.get(path).unwrap().status, 200, "{path}");
        }
        let log = self.server.log();
        assert!(!log.contains("panicked"), "{log}");
        let peak = self.server.peak_kib();
        eprintln!("peak of resident memory: {} MiB", peak / 1024);
        assert!(peak < MAX_RSS_KIB, "{peak} KiB");
    }
}

fn body(request: &Value) -> Vec<u8> {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
        .to_string()
        .into_bytes()
}

/// A review about an object, as text: it may contain values that a JSON tree cannot represent.
fn raw_body(resource: &str, operation: &str, object: &str, old: &str) -> Vec<u8> {
    let group = if ["deployments", "statefulsets"].contains(&resource) {
        "apps"
    } else {
        ""
    };
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u-1","name":"a","namespace":"milvus",
        "resource":{{"group":"{group}","version":"v1","resource":"{resource}"}},"operation":"{operation}",
        "userInfo":{{"username":"me"}},"object":{object},"oldObject":{old}}}}}"#
    )
    .into_bytes()
}

fn deployment() -> Value {
    let text = fs::read_to_string(RUNNING).unwrap();
    let mut all = documents(&text).map(|document| document.unwrap().root.to_json());
    let mut found = all.find(|object| object["kind"] == "Deployment").unwrap();
    found["metadata"]["namespace"] = json!("milvus");
    found
}

fn update(new: &Value, old: &Value) -> Vec<u8> {
    raw_body("deployments", "UPDATE", &new.to_string(), &old.to_string())
}

/// A review of a Helm Secret with this payload, before the Secret's own base64.
fn release(payload: &[u8]) -> Vec<u8> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
        "metadata": {"name": "sh.helm.release.v1.my-release.v2", "namespace": "milvus",
            "labels": {"owner": "helm", "name": "my-release", "status": "pending-upgrade", "version": "2"}},
        "data": {"release": BASE64_STANDARD.encode(payload)},
    });
    raw_body("secrets", "CREATE", &secret.to_string(), "null")
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The same for a whole release with this manifest.
fn release_of(manifest: &str) -> Vec<u8> {
    let stored = json!({"name": "my-release", "namespace": "milvus", "version": 2, "info": {"status": "pending-upgrade"},
        "chart": {"metadata": {"name": "milvus", "version": "4.0.31"}}, "config": {}, "manifest": manifest, "hooks": []});
    release(
        BASE64_STANDARD
            .encode(packed(stored.to_string().as_bytes()))
            .as_bytes(),
    )
}

fn allowed(answer: &Value) -> bool {
    answer["response"]["allowed"].as_bool().unwrap()
}

fn warning(answer: &Value) -> &str {
    answer["response"]["warnings"][0]
        .as_str()
        .unwrap_or_default()
}

#[test]
fn requests_that_are_not_reviews_are_refused() {
    let target = Target::start(&[]);
    let review = String::from_utf8(update(&deployment(), &deployment())).unwrap();
    let length = review.len();

    assert_eq!(target.post(b"").status, 400);
    assert_eq!(target.post(b"{").status, 400);
    assert_eq!(target.post(&[0xff, 0xfe, b'{', b'}']).status, 400);
    let mut broken = review.clone().into_bytes();
    broken.splice(length - 3..length - 3, *b",\"x\":\"\xc3\x28\"");
    assert_eq!(
        target.post(&broken).status,
        400,
        "invalid UTF-8 outside the object"
    );

    // A body of exactly 7 MiB is read; one more byte is refused.
    let mut padded = review.clone().into_bytes();
    padded.resize(LIMIT, b' ');
    target.answered("7 MiB", &padded, "u-1");
    let head = |length: usize| {
        format!(
            "POST /validate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    assert_eq!(target.raw(&head(LIMIT + 1)).status, 413);
    assert_eq!(target.raw(&head(LIMIT * 1000)).status, 413);
    assert_eq!(
        target.raw(&head(usize::MAX)).status,
        431,
        "hyper answers an invalid length itself"
    );

    let chunked = "POST /validate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let reply = target.raw(&format!("{chunked}{length:x}\r\n{review}\r\n0\r\n\r\n"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let mut connection = target.connect();
    connection
        .send(format!("{chunked}{:x}\r\n", LIMIT + 1).as_bytes())
        .unwrap();
    connection.send(&vec![b' '; LIMIT + 1]).unwrap();
    assert_eq!(
        connection.receive().unwrap().status,
        413,
        "more than 7 MiB without a length"
    );

    let with = |path: &str, kind: &str, more: &str| {
        target.raw(&format!("POST {path} HTTP/1.1\r\nhost: a\r\n{kind}{more}content-length: {length}\r\n\r\n{review}"))
    };
    let json = "content-type: application/json\r\n";
    assert_eq!(
        with("/validate", json, "content-encoding: gzip\r\n").status,
        415
    );
    assert_eq!(
        with("/validate", json, "content-encoding: identity\r\n").status,
        415
    );
    assert_eq!(
        with("/validate", "content-type: text/plain\r\n", "").status,
        415
    );
    assert_eq!(
        with("/validate", "content-type: application/jsonp\r\n", "").status,
        415
    );
    assert_eq!(with("/validate", "", "").status, 415);
    assert_eq!(
        with(
            "/validate",
            "content-type: application/json; charset=utf-8\r\n",
            ""
        )
        .status,
        200
    );
    assert_eq!(with("/nothing", json, "").status, 404);
    assert_eq!(with("/validate/../nothing", json, "").status, 404);
    assert_eq!(target.connect().get("/validate").unwrap().status, 405);
    assert_eq!(target.connect().get("/mutate").unwrap().status, 405);

    let whole: Value = serde_json::from_str(&review).unwrap();
    let changed = |pointer: &str, value: Value| {
        let mut whole = whole.clone();
        *whole.pointer_mut(pointer).unwrap() = value;
        target.post(whole.to_string().as_bytes())
    };
    let old = changed("/apiVersion", json!("admission.k8s.io/v1beta1"));
    assert_eq!(
        (
            old.status,
            old.text()
                .contains("the version of the review is not admission.k8s.io/v1")
        ),
        (400, true),
        "{}",
        old.text()
    );
    assert!(
        changed("/request", Value::Null)
            .text()
            .contains("does not contain a request")
    );
    assert!(changed("/request/uid", json!("")).text().contains("no uid"));
    assert!(
        changed("/request/uid", json!("x".repeat(300)))
            .text()
            .contains("no uid")
    );
    assert_eq!(changed("/request/uid", json!(7)).status, 400);
    assert_eq!(changed("/request/operation", json!("EXPLODE")).status, 400);
    let twice = review.replacen(r#""uid":"u-1""#, r#""uid":"u-1","uid":"u-2""#, 1);
    assert_eq!(
        target.post(twice.as_bytes()).status,
        400,
        "the uid would be ambiguous"
    );
    let shouted = review.replacen(r#""uid""#, r#""UID""#, 1);
    assert!(
        target.post(shouted.as_bytes()).text().contains("no uid"),
        "keys are case-sensitive"
    );
    target.survived();
}

#[test]
fn every_review_is_answered_with_its_uid() {
    let target = Target::start(&[]);
    let milvus = deployment();
    assert!(allowed(&target.answered(
        "nothing changes",
        &update(&milvus, &milvus),
        "u-1"
    )));

    let mut next = milvus.clone();
    next["spec"]["template"]["spec"]["containers"][0]["image"] = json!("milvusdb/milvus:v2.2.16");
    let denied = target.answered("a skipped migration", &update(&next, &milvus), "u-1");
    assert!(
        !allowed(&denied) && denied.to_string().contains("MG101"),
        "{denied}"
    );

    // Deep nesting: no stack overflow, whether in a part that is skipped or in the object.
    let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
    let deep = format!("{open}{close}");
    let named = format!(r#"["milvus",{deep}]"#);
    let answer = target.answered(
        "depth in an object",
        &raw_body("deployments", "UPDATE", &named, "null"),
        "u-1",
    );
    assert!(
        !allowed(&answer),
        "an unreadable object that may be Milvus must be denied"
    );
    let escaped = format!(r#"["\u006dilvus",{deep}]"#);
    let answer = target.answered(
        "an escaped word",
        &raw_body("deployments", "UPDATE", &escaped, "null"),
        "u-1",
    );
    assert!(!allowed(&answer), "an escape must not hide Milvus");
    target.answered(
        "depth in an object without Milvus",
        &raw_body("deployments", "UPDATE", &deep, "null"),
        "u-1",
    );
    let within = format!(
        r#"{{"kind":"Deployment","apiVersion":"apps/v1","metadata":{{"name":"a"}},"spec":{deep}}}"#
    );
    target.answered(
        "depth within an object",
        &raw_body("deployments", "CREATE", &within, "null"),
        "u-1",
    );
    target.answered(
        "depth in a resource that is skipped",
        &raw_body("pods", "CREATE", &deep, "null"),
        "u-1",
    );

    let text = |change: &Value| update(change, &milvus);
    for number in [
        format!("1{}", "0".repeat(400)),
        "1e400".into(),
        "-1e400".into(),
        "1e-400".into(),
        u64::MAX.to_string(),
    ] {
        let body = String::from_utf8(text(&milvus)).unwrap().replacen(
            r#""replicas":1"#,
            &format!(r#""replicas":{number}"#),
            1,
        );
        assert!(body.contains(&number));
        target.answered(&number, body.as_bytes(), "u-1");
    }
    let doubled =
        String::from_utf8(text(&next))
            .unwrap()
            .replacen(r#""spec":{"#, r#""spec":{},"spec":{"#, 1);
    target.answered("duplicate keys", doubled.as_bytes(), "u-1");
    let shouted = String::from_utf8(text(&next))
        .unwrap()
        .replacen(r#""spec":{"#, r#""SPEC":{"#, 1);
    target.answered("keys in capitals", shouted.as_bytes(), "u-1");

    for operation in ["CREATE", "UPDATE", "DELETE", "CONNECT"] {
        for resource in [
            "deployments",
            "statefulsets",
            "configmaps",
            "persistentvolumeclaims",
            "secrets",
            "pods",
        ] {
            for object in ["null", "{}", "[]", "0", "\"x\""] {
                let what = format!("{operation} {resource} {object}");
                target.answered(&what, &raw_body(resource, operation, object, "null"), "u-1");
                target.answered(&what, &raw_body(resource, operation, "null", object), "u-1");
            }
        }
        let old = raw_body("deployments", operation, "null", &milvus.to_string());
        target.answered(operation, &old, "u-1");
        let patch = target
            .connect()
            .post(
                "/mutate",
                &raw_body("deployments", "DELETE", "null", &milvus.to_string()),
            )
            .unwrap();
        assert!(
            !patch.text().contains("patch"),
            "a deletion is not patched: {}",
            patch.text()
        );
    }

    let mut nameless = next.clone();
    nameless["metadata"].as_object_mut().unwrap().remove("name");
    nameless["metadata"]["generateName"] = json!("my-release-milvus-");
    target.answered(
        "generateName",
        &raw_body("deployments", "CREATE", &nameless.to_string(), "null"),
        "u-1",
    );
    for uid in [
        "ü-🦀".to_owned(),
        "\u{1b}[31m\r\n\"\\".to_owned(),
        "x".repeat(256),
    ] {
        let request = json!({"uid": uid, "operation": "UPDATE", "namespace": "milvus", "name": "a\u{0}\u{1b}[2J\u{202e}Ⅿilvus\r\nforged log line",
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"}, "object": next, "oldObject": milvus});
        let answer = target.answered("control characters", &body(&request), &uid);
        assert!(!allowed(&answer));
    }
    for name in [
        "a\nb",
        "\u{1b}]0;x\u{7}",
        "\u{202e}live",
        "ｍｉｌｖｕｓ",
        "",
        &"n".repeat(100_000),
    ] {
        let (mut new, mut old) = (next.clone(), milvus.clone());
        for object in [&mut new, &mut old] {
            object["metadata"]["name"] = json!(name);
        }
        target.answered(name, &update(&new, &old), "u-1");
    }
    let log = target.server.log();
    assert!(
        !log.lines().any(|line| line.starts_with("forged")),
        "a name cannot add a line to the log"
    );
    assert!(
        !log.contains('\u{1b}'),
        "a name must not send control sequences to a terminal"
    );

    let mut large = next.clone();
    large["metadata"]["annotations"] = json!({"notes": "x".repeat(256 * 1024)});
    assert!(!allowed(&target.answered(
        "256 KiB of annotations",
        &update(&large, &milvus),
        "u-1"
    )));
    target.survived();
}

#[test]
fn damaged_releases_and_bombs_are_reported_as_unreadable() {
    let target = Target::start(&[]);
    let unreadable = |what: &str, review: &[u8]| {
        let answer = target.answered(what, review, "u-1");
        assert!(
            allowed(&answer),
            "{what}: the release must be left to the workload gate: {answer}"
        );
        assert!(
            warning(&answer).contains("could not read this Helm release"),
            "{what}: {answer}"
        );
    };
    unreadable("no base64", &release(b"%%%%"));
    unreadable("nothing", &release(b""));
    let whole = packed(&vec![b' '; MIB]);
    unreadable(
        "truncated gzip",
        &release(BASE64_STANDARD.encode(&whole[..whole.len() / 2]).as_bytes()),
    );
    unreadable(
        "garbage after the magic",
        &release(
            BASE64_STANDARD
                .encode([0x1f, 0x8b, 8, 0, 255, 255])
                .as_bytes(),
        ),
    );
    unreadable(
        "a gzip bomb",
        &release(
            BASE64_STANDARD
                .encode(packed(&vec![0; 64 * MIB]))
                .as_bytes(),
        ),
    );
    unreadable(
        "deep JSON",
        &release(
            BASE64_STANDARD
                .encode(packed("[".repeat(MIB).as_bytes()))
                .as_bytes(),
        ),
    );

    let mut bomb = "# milvus run\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            vec![before; 9].join(", ")
        ));
    }
    unreadable("an alias bomb", &release_of(&bomb));
    unreadable(
        "a depth bomb",
        &release_of(&format!(
            "# milvus\na: {}{}\n",
            "[".repeat(50_000),
            "]".repeat(50_000)
        )),
    );
    unreadable(
        "an indented depth bomb",
        &release_of(&format!("# milvus\n{}", "- ".repeat(20_000))),
    );
    unreadable("broken YAML", &release_of("# milvus\na: [\n"));
    target.survived();
}

#[test]
fn slow_clients_are_disconnected() {
    let target = Target::start(&[]);
    let mut slow = target.connect();
    slow.send(b"POST /validate HTTP/1.1\r\nhost: a\r\n")
        .unwrap();
    let mut body = target.connect();
    body.send(b"POST /validate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{").unwrap();
    // A connection without a TLS handshake.
    let mut silent =
        std::net::TcpStream::connect(target.server.url.trim_start_matches("https://")).unwrap();
    silent
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    match slow.receive() {
        Ok(reply) => assert_eq!(reply.status, 408),
        Err(error) => assert_ne!(
            error.kind(),
            io::ErrorKind::WouldBlock,
            "the server must close a slow connection"
        ),
    }
    assert_eq!(body.receive().unwrap().status, 408);
    assert_eq!(io::Read::read(&mut silent, &mut [0; 16]).unwrap_or(0), 0);
    target.survived();
}

#[test]
fn the_timeout_of_the_api_server_is_kept() {
    let target = Target::start(&[]);
    let (old, mut new) = (deployment(), deployment());
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("milvusdb/milvus:v2.2.16");
    let mut connection = target.connect();
    let mut post = |query: &str| -> Value {
        let reply = connection
            .post(&format!("/validate{query}"), &update(&new, &old))
            .unwrap();
        assert_eq!(reply.status, 200, "{query}");
        serde_json::from_slice(&reply.body).unwrap()
    };
    // A microsecond: it is over before the body is read, on any machine.
    let late = post("?timeout=0.001ms");
    assert!(!allowed(&late), "{late}");
    let late = late.to_string();
    assert!(
        late.contains("the time limit was reached") && !late.contains("without evidence"),
        "no rule is evaluated after the time limit: {late}"
    );
    for query in [
        "",
        "?timeout=10s",
        "?timeout=nonsense",
        "?timeout=-1s",
        "?timeout=0s",
        "?timeout=1e9s",
        "?timeout=",
        "?x=1",
    ] {
        assert!(post(query).to_string().contains("MG101"), "{query}");
    }
    target.survived();
}

#[test]
fn no_review_is_lost_during_shutdown() {
    let mut target = Target::start(&["--shutdown-delay", "2s"]);
    let review = update(&deployment(), &deployment());
    let mut pool: Vec<Https> = (0..8).map(|_| target.connect()).collect();
    for connection in &mut pool {
        let reply = connection.post("/validate", &review).unwrap();
        assert_eq!((reply.status, reply.closes()), (200, false));
    }
    // One review is in progress at the signal: the server has its head, but not its body.
    let mut running = target.connect();
    let head = format!(
        "POST /validate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        review.len()
    );
    running.send(head.as_bytes()).unwrap();
    running.send(&review[..100]).unwrap();
    let status = Command::new("kill")
        .arg(target.server.pid().to_string())
        .status()
        .unwrap();
    assert!(status.success());
    wait_until(
        "the server is no longer ready",
        Duration::from_secs(2),
        || target.connect().get("/readyz").unwrap().status == 503,
    );
    assert_eq!(
        target.connect().get("/healthz").unwrap().status,
        200,
        "still alive"
    );
    for connection in &mut pool {
        let reply = connection.post("/validate", &review).unwrap();
        assert_eq!(
            (reply.status, reply.closes()),
            (200, true),
            "{}",
            reply.head
        );
        assert_eq!(
            connection.receive().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof,
            "the connection must be closed cleanly"
        );
    }
    wait_until(
        "new connections are refused",
        Duration::from_secs(10),
        || Https::connect(&target.server.url, &target.config).is_err(),
    );
    running.send(&review[100..]).unwrap();
    let reply = running.receive().unwrap();
    assert_eq!(
        (reply.status, reply.closes()),
        (200, true),
        "{}",
        reply.head
    );
    assert_eq!(target.server.wait().code(), Some(0));
}
