//! Small requests that expand to large data, each within the accepted size of a request.

use std::{fs, io::Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use milvus_guard_core::manifest::documents;
use serde_json::{Value, json};

/// The manifests of the release to which the requests belong.
pub const RUNNING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/demo/1-skipped-migration/before.yaml"
);
pub const MIB: usize = 1024 * 1024;

/// A review that expands to large data.
pub struct Bomb {
    pub what: &'static str,
    pub body: Vec<u8>,
    /// Whether the answer must state that the review is too large to check.
    pub is_refused: bool,
}

impl Bomb {
    fn any(what: &'static str, body: Vec<u8>) -> Self {
        Self {
            what,
            body,
            is_refused: false,
        }
    }

    fn refused(what: &'static str, body: Vec<u8>) -> Self {
        Self {
            what,
            body,
            is_refused: true,
        }
    }
}

/// All bombs of this file.
pub fn of_every_kind() -> Vec<Bomb> {
    [
        manifests(),
        anchors_and_scalars(),
        outside_of_the_manifest(),
        settings(),
        objects(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub fn raw_body(resource: &str, operation: &str, name: &str, object: &str, old: &str) -> Vec<u8> {
    let group = if ["deployments", "statefulsets"].contains(&resource) {
        "apps"
    } else {
        ""
    };
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

/// Text of a record, each part repeated this many times. Each part is a separate gzip member, so
/// that packing is fast.
fn packed_parts(parts: &[(&str, usize)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (text, times) in parts {
        // Enough repetitions for one gzip member.
        let inside = (MIB / text.len()).clamp(1, (*times).max(1));
        all.extend(packed(text.repeat(inside).as_bytes()).repeat(times / inside));
        if times % inside > 0 {
            all.extend(packed(text.repeat(times % inside).as_bytes()));
        }
    }
    all
}

/// A review of a Helm Secret with this packed record.
pub fn release(packed: &[u8]) -> Vec<u8> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
        "metadata": {"name": "sh.helm.release.v1.my-release.v2", "namespace": "milvus",
            "labels": {"owner": "helm", "name": "my-release", "status": "pending-upgrade", "version": "2"}},
        "data": {"release": BASE64_STANDARD.encode(BASE64_STANDARD.encode(packed))},
    });
    raw_body(
        "secrets",
        "CREATE",
        "sh.helm.release.v1.my-release.v2",
        &secret.to_string(),
        "null",
    )
}

/// The same with these parts of the record in addition to its name.
pub fn record(parts: &[(&str, usize)]) -> Vec<u8> {
    let head = r#"{"name":"my-release","namespace":"milvus","version":2,"info":{"status":"pending-upgrade"},"#;
    let mut all = vec![(head, 1)];
    all.extend_from_slice(parts);
    all.push(("}", 1));
    release(&packed_parts(&all))
}

/// A record with this manifest, in parts, which are escaped for JSON.
pub fn manifest(parts: &[(&str, usize)]) -> Vec<u8> {
    let escaped: Vec<(String, usize)> = parts
        .iter()
        .map(|(text, times)| (escape(text), *times))
        .collect();
    let mut all = vec![(
        r#""chart":{"metadata":{"name":"milvus","version":"4.0.31"}},"config":{},"hooks":[],"manifest":""#,
        1,
    )];
    all.extend(escaped.iter().map(|(text, times)| (text.as_str(), *times)));
    all.push(("\"", 1));
    record(&all)
}

fn escape(text: &str) -> String {
    let quoted = json!(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

pub const WORKLOAD: &str = "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: my-release-milvus-proxy, labels: {app.kubernetes.io/instance: my-release}}\nspec: {template: {spec: {containers: [{name: proxy, image: \"milvusdb/milvus:v2.1.4\", args: [milvus, run, proxy]}]}}}\n";

/// Distinct keys, one for each number.
fn keys(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

/// A Deployment of the running release.
pub fn deployment() -> Value {
    let text = fs::read_to_string(RUNNING).unwrap();
    let mut all = documents(&text).map(|document| document.unwrap().root.to_json());
    let mut found = all.find(|object| object["kind"] == "Deployment").unwrap();
    found["metadata"]["namespace"] = json!("milvus");
    found
}

/// Bombs in the manifest of a Helm record.
pub fn manifests() -> Vec<Bomb> {
    let mut all = Vec::new();
    let list = manifest(&[("milvus: [", 1), ("1,", 15_500_000), ("1]\n", 1)]);
    assert!(list.len() < 200 * 1024);
    all.push(Bomb::refused("flat list", list));
    let in_workload = manifest(&[(WORKLOAD, 1), ("x: [", 1), ("1,", 15_000_000), ("1]\n", 1)]);
    all.push(Bomb::refused("list in a Deployment", in_workload));
    let empty = manifest(&[("kind: Pod\nmilvus:\n", 1), ("- \"\"\n", 4_000_000)]);
    all.push(Bomb::refused("empty strings", empty));
    let flow = format!(
        "kind: Pod\nmilvus: {{{}}}\n",
        keys(1_500_000, |n| format!("{n:x}: 1, "))
    );
    all.push(Bomb::refused("flow mapping", manifest(&[(&flow, 1)])));
    all.push(Bomb::any(
        "tiny documents",
        manifest(&[(WORKLOAD, 1), ("---\n", 6_600_000)]),
    ));
    all.push(Bomb::any(
        "tiny documents with a word",
        manifest(&[(WORKLOAD, 1), ("---\na\n", 3_700_000)]),
    ));
    let pods = manifest(&[
        (WORKLOAD, 1),
        ("---\nkind: Pod\nmetadata: {name: milvus}\n", 500_000),
    ]);
    all.push(Bomb::refused("small objects", pods));
    let comments = manifest(&[(WORKLOAD, 1), ("# milvus\n", 3_300_000)]);
    all.push(Bomb::any("comments", comments));
    all
}

/// Bombs by YAML aliases and long scalars.
pub fn anchors_and_scalars() -> Vec<Bomb> {
    let mut all = Vec::new();
    let mut nested = String::from("kind: Pod\nmilvus: ");
    for level in 0..100 {
        nested.push_str(&format!("&a{level} ["));
    }
    nested.push_str(&"1,".repeat(9_000));
    nested.push_str(&"]".repeat(100));
    all.push(Bomb::refused(
        "nested anchors",
        manifest(&[(&nested, 1), ("\n", 1)]),
    ));
    let wide = format!("kind: Pod\nmilvus: &a [{}]\n", "1,".repeat(990));
    let aliases: String = (0..100).map(|n| format!("b{n}: *a\n")).collect();
    let documents = format!("---\n{wide}{aliases}");
    all.push(Bomb::refused(
        "aliases in many documents",
        manifest(&[(&documents, 500)]),
    ));
    let chain: String = (1..100_000)
        .map(|n| format!("a{n}: &a{n} {{<<: *a{}, k: 1}}\n", n - 1))
        .collect();
    all.push(Bomb::any(
        "a chain of merges",
        manifest(&[("kind: Pod\nmilvus: 1\na0: &a0 {k: 0}\n", 1), (&chain, 1)]),
    ));
    let block = manifest(&[
        (WORKLOAD, 1),
        (
            "---\nkind: ConfigMap\nmetadata: {name: milvus}\ndata:\n  user.yaml: |\n",
            1,
        ),
        ("    milvus milvus milvus\n", 1_000_000),
        ("beside: [", 1),
        ("1,", 3_000_000),
        ("1]\n", 1),
    ]);
    all.push(Bomb::refused("block scalar and a list", block));
    let windows = manifest(&[
        (&WORKLOAD.replace('\n', "\r\n"), 1),
        ("x: \"", 1),
        ("\\t ", 8_000_000),
        ("\"\r\n", 1),
    ]);
    all.push(Bomb::refused("one scalar, other line ends", windows));
    let names = keys(60_000, |n| {
        format!("---\nkind: ConfigMap\nmetadata:\n  name: c{n}\n")
    });
    all.push(Bomb::any(
        "many names",
        manifest(&[(WORKLOAD, 1), (&names, 1), ("# milvus\n", 3_000_000)]),
    ));
    all
}

/// Bombs in other fields of a Helm record.
pub fn outside_of_the_manifest() -> Vec<Bomb> {
    let mut all = Vec::new();
    let workload = format!(r#""manifest":"{}","#, escape(WORKLOAD));
    let hooks = [
        (workload.as_str(), 1),
        (r#""hooks":[{}"#, 1),
        (",{}", 10_000_000),
        ("]", 1),
    ];
    all.push(Bomb::refused("hooks", record(&hooks)));
    let list = [
        (r#""hooks":[{"manifest":"milvus: ["#, 1),
        ("1,", 15_000_000),
        ("1]\"}]", 1),
    ];
    all.push(Bomb::refused("list in a hook", record(&list)));
    let values = [
        (workload.as_str(), 1),
        (r#""config":{"a":[1"#, 1),
        (",1", 15_000_000),
        ("]}", 1),
    ];
    all.push(Bomb::refused("values", record(&values)));
    let texts = [
        (workload.as_str(), 1),
        (r#""config":{"a":""#, 1),
        ("milvus", 5_000_000),
        ("\"}", 1),
    ];
    all.push(Bomb::refused("a long value", record(&texts)));
    let chart = r#""config":{"x":{"y":{"z":1}}},"chart":{"values":{"cluster":{},"image":{"all":{}}},"metadata":{"name":"milvus","version":"1","dependencies":[{}"#;
    all.push(Bomb::any(
        "sub-charts",
        record(&[
            (workload.as_str(), 1),
            (chart, 1),
            (",{}", 10_000_000),
            ("]}}", 1),
        ]),
    ));
    let chart = r#""config":{"x":{"y":{"z":1}}},"chart":{"values":{"cluster":{},"image":{"all":{}}},"templates":[{}"#;
    all.push(Bomb::any(
        "templates",
        record(&[
            (workload.as_str(), 1),
            (chart, 1),
            (",{}", 2_700_000),
            ("]}", 1),
        ]),
    ));
    let deep = (0..100).fold(String::new(), |all, _| {
        all + &format!(r#"{{"{}":"#, "k".repeat(1000))
    });
    let leaves = keys(10_000, |n| format!(r#""l{n}":1,"#));
    let chart = format!(
        r#""config":{{"x":{{"y":{{"z":1}}}}}},"chart":{{"values":{{"cluster":{{}},"image":{{"all":{{}}}},"deep":{deep}{{{leaves}"e":1}}{}"#,
        "}".repeat(100)
    );
    all.push(Bomb::any(
        "chart with long paths",
        record(&[(workload.as_str(), 1), (&chart, 1), ("}}", 1)]),
    ));
    let user = format!(
        r#""chart":{{"values":{{"cluster":{{}},"image":{{"all":{{}}}}}}}},"config":{{"{}":{{"#,
        "k".repeat(3 * MIB)
    );
    let leaves = keys(200, |n| format!(r#""l{n}":1,"#));
    all.push(Bomb::any(
        "values with long paths",
        record(&[
            (workload.as_str(), 1),
            (&user, 1),
            (&leaves, 1),
            (r#""e":1}}"#, 1),
        ]),
    ));
    all
}

/// Bombs in configuration files and variables of Milvus.
pub fn settings() -> Vec<Bomb> {
    let mut all = Vec::new();
    let mounted = |file: &str| {
        let workload = WORKLOAD
            .replace("args:", "volumeMounts: [{name: c, mountPath: /milvus/configs/user.yaml, subPath: user.yaml}], args:");
        let workload = workload.replace(
            "containers:",
            "volumes: [{name: c, configMap: {name: settings}}], containers:",
        );
        format!(
            "{workload}---\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata:\n  user.yaml: |\n{file}"
        )
    };
    let mut nested = String::new();
    for level in 0..100 {
        nested.push_str(&format!("    {}{}:\n", " ".repeat(level), "k".repeat(1000)));
    }
    let nested = nested + &keys(10_000, |n| format!("    {}l{n}: 1\n", " ".repeat(100)));
    all.push(Bomb::any("long paths", manifest(&[(&mounted(&nested), 1)])));
    let sections = format!("{{{}: ", "k".repeat(1000)).repeat(90);
    let leaves = keys(10_000, |n| format!("l{n}, "));
    let flow = format!("    {sections}{{{leaves}}}{}\n", "}".repeat(90));
    all.push(Bomb::any(
        "long paths in flow style",
        manifest(&[(&mounted(&flow), 1)]),
    ));
    let flat = keys(60_000, |n| format!("    k{n}: 1\n"));
    all.push(Bomb::any(
        "many settings",
        manifest(&[(&mounted(&flat), 1)]),
    ));
    let file = "    a: {b: 1}\n".to_owned() + &keys(20_000, |n| format!("    k{n}: 1\n"));
    let one = mounted(&file);
    let container = "{name: proxy, image: \"milvusdb/milvus:v2.1.4\", volumeMounts: [{name: c, mountPath: /milvus/configs/user.yaml, subPath: user.yaml}], args: [milvus, run, proxy]},";
    let many = one.replace(
        "containers: [",
        &format!("containers: [{}", container.repeat(1000)),
    );
    all.push(Bomb::any(
        "one file in 1,000 containers",
        manifest(&[(&many, 1)]),
    ));
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
    all.push(Bomb::any(
        "a separate file in each of 300 workloads",
        manifest(&[(&spread, 1)]),
    ));
    let shared: String = (0..500)
        .map(|n| {
            one.split("---\n")
                .next()
                .unwrap()
                .replace("my-release", &format!("r{n}"))
                + "---\n"
        })
        .chain([one.split_once("---\n").unwrap().1.to_owned()])
        .collect();
    all.push(Bomb::any(
        "one file in 500 releases",
        manifest(&[(&shared, 1)]),
    ));
    let copies: String = (0..5_000)
        .map(|n| format!("{{name: B{n}, value: \"$(A)$(A)$(A)$(A)$(A)$(A)$(A)$(A)\"}},"))
        .collect();
    let copies = format!(
        "env: [{{name: A, value: {}}},{copies}], args:",
        "x".repeat(8_000)
    );
    all.push(Bomb::any(
        "variables of variables",
        manifest(&[(&WORKLOAD.replace("args:", &copies), 1)]),
    ));
    let copies: String = (0..5_000)
        .map(|n| format!("{{name: B{n}, valueFrom: {{configMapKeyRef: {{name: settings, key: user.yaml}}}}}},"))
        .collect();
    all.push(Bomb::any(
        "one key in 5,000 variables",
        manifest(&[(&one.replace("args:", &format!("env: [{copies}], args:")), 1)]),
    ));
    let sources: String = (0..1000)
        .map(|n| format!("{{configMap: {{name: s{n}}}}},"))
        .collect();
    let maps: String = (0..1000)
        .map(|n| format!("---\nkind: ConfigMap\nmetadata: {{name: s{n}}}\ndata:\n  user.yaml: |\n    a{n}: 1\n"))
        .collect();
    let projected = WORKLOAD
        .replace(
            "args:",
            "volumeMounts: [{name: c, mountPath: /milvus/configs}], args:",
        )
        .replace(
            "containers:",
            &format!("volumes: [{{name: c, projected: {{sources: [{sources}]}}}}], containers:"),
        );
    all.push(Bomb::any(
        "1,000 ConfigMaps in one volume",
        manifest(&[(&projected, 1), (&maps, 1)]),
    ));
    let names: String = (0..3000)
        .map(|n| format!("{{name: {}{n}, value: x}},", "E".repeat(9000)))
        .collect();
    all.push(Bomb::any(
        "long names of variables",
        manifest(&[(
            &WORKLOAD.replace("args:", &format!("env: [{names}], args:")),
            1,
        )]),
    ));
    all
}

/// Bombs in single objects.
pub fn objects() -> Vec<Bomb> {
    let mut all = Vec::new();
    let milvus = deployment().to_string();
    let name = deployment()["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let with = |extra: &str| format!("{}{extra}}}", milvus.strip_suffix('}').unwrap());
    let list = with(&format!(r#","x":[{}1]"#, "1,".repeat(3_300_000)));
    all.push(Bomb::refused(
        "JSON list",
        raw_body("deployments", "CREATE", &name, &list, "null"),
    ));
    let half = with(&format!(r#","x":[{}1]"#, "1, ".repeat(1_000_000)));
    all.push(Bomb::any(
        "JSON lists on both sides",
        raw_body("deployments", "UPDATE", &name, &half, &half),
    ));
    let map = with(&format!(
        r#","x":{{{}"e":1}}"#,
        keys(500_000, |n| format!(r#""{n:x}": 1,"#))
    ));
    all.push(Bomb::refused(
        "JSON map",
        raw_body("deployments", "CREATE", &name, &map, "null"),
    ));
    let maps = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"a","namespace":"milvus"}},"x":[{}1],"data":{{"user.yaml":""}}}}"#,
        "{},".repeat(2_000_000)
    );
    all.push(Bomb::any(
        "ConfigMap with a list",
        raw_body("configmaps", "CREATE", "a", &maps, "null"),
    ));
    let labels = keys(500_000, |n| format!(r#""{n:x}":"","#));
    let secret = format!(
        r#"{{"metadata":{{"labels":{{{labels}"owner":"helm","status":"pending-install"}}}},"type":"helm.sh/release.v1","data":{{"release":"eA=="}}}}"#
    );
    all.push(Bomb::any(
        "labels",
        raw_body("secrets", "CREATE", "a", &secret, "null"),
    ));
    let env = keys(40_000, |n| {
        format!(r#"{{"name":"{}{n}","value":"x"}},"#, "E".repeat(100))
    });
    let env = milvus.replace(
        r#""containers":[{"#,
        &format!(r#""containers":[{{"env":[{env}{{"name":"e","value":"x"}}],"#),
    );
    assert!(env.len() > 4 * MIB);
    all.push(Bomb::any(
        "variables",
        raw_body("deployments", "CREATE", &name, &env, "null"),
    ));
    all
}
