//! Commands that the program prints are executed as printed, on a real API server with both
//! versions of Helm, and the result is checked again. If no command exists, none is printed.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use crate::common::{
    self, Chart, Judged, file, guard,
    roll::{RELEASE, Roll},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use milvus_guard_core::{
    manifest::documents,
    milvus::{
        Version,
        catalogue::{Catalogue, ChartName},
    },
};
use milvus_guard_testbed::{Helm, expect_success, helm};
use serde_json::{Value, json};

/// A folder in which a printed command finds the same as on a user's machine: both programs, and
/// the chart under its usual name.
fn desk(with: Helm, chart: &Chart) -> tempfile::TempDir {
    let desk = tempfile::tempdir().unwrap();
    fs::create_dir_all(desk.path().join("bin")).unwrap();
    fs::create_dir_all(desk.path().join("zilliztech")).unwrap();
    symlink(helm(with), desk.path().join("bin/helm")).unwrap();
    symlink(chart.path(), desk.path().join("zilliztech/milvus")).unwrap();
    // A user confirms at a terminal; a build without an image runs `--local` instead of in a Job.
    let program = desk.path().join("bin/milvus-guard");
    fs::write(
        &program,
        format!(
            "#!/bin/sh\nexec {} \"$@\" --yes --local\n",
            env!("CARGO_BIN_EXE_milvus-guard")
        ),
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    desk
}

/// Executes a command line as printed.
fn execute(roll: &Roll, with: Helm, desk: &Path, line: &str) {
    let mut command = Command::new("sh");
    for (key, value) in roll.cluster.helm_command(with).get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    let path = format!(
        "{}:{}",
        desk.join("bin").display(),
        std::env::var("PATH").unwrap()
    );
    command
        .args(["-c", line])
        .env("PATH", path)
        .env("KUBECONFIG", roll.cluster.kubeconfig())
        .env("HOME", desk)
        .current_dir(desk);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{line}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The record of the revision that a `helm upgrade` would create, as Helm would store it; nothing
/// is changed in the cluster.
fn wanted(
    roll: &Roll,
    with: Helm,
    namespace: &str,
    folder: &Path,
    chart: &str,
    more: &[&str],
) -> String {
    let mut args = vec![
        "upgrade",
        RELEASE,
        chart,
        "-n",
        namespace,
        "--dry-run=client",
        "-o",
        "json",
    ];
    args.extend(more);
    let release = expect_success(roll.cluster.helm(with, args));
    let release = &release[release.find('{').expect("a release in JSON")..];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(release.as_bytes()).unwrap();
    let payload = BASE64_STANDARD.encode(BASE64_STANDARD.encode(gzip.finish().unwrap()));
    let record = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
        "metadata": {"name": format!("sh.helm.release.v1.{RELEASE}.v2"), "namespace": namespace,
            "labels": {"owner": "helm", "name": RELEASE, "version": "2", "status": "pending-upgrade"}},
        "data": {"release": payload},
    });
    file(folder, "wanted.json", &record.to_string())
}

fn check(roll: &Roll, namespace: &str, args: &[&str]) -> Judged {
    Judged::with(
        guard()
            .arg("check")
            .args(["-n", namespace])
            .args(args)
            .arg("--kubeconfig")
            .arg(roll.cluster.kubeconfig()),
    )
}

fn commands(judged: &Judged) -> BTreeMap<String, String> {
    let findings = judged.report["findings"].as_array().unwrap().iter();
    findings
        .filter_map(|one| {
            Some((
                one["rule"].as_str()?.to_owned(),
                one["fix"]["command"].as_str()?.to_owned(),
            ))
        })
        .collect()
}

fn fix<'a>(judged: &'a Judged, rule: &str) -> &'a str {
    judged.finding(rule)["fix"]["text"].as_str().unwrap()
}

/// The desired state of every object of the namespace that is not part of Milvus itself.
fn others(roll: &Roll, namespace: &str) -> BTreeMap<String, Value> {
    let paths = [
        "apis/apps/v1/{}/deployments",
        "apis/apps/v1/{}/statefulsets",
        "api/v1/{}/configmaps",
        "api/v1/{}/services",
        "api/v1/{}/persistentvolumeclaims",
    ];
    let mut all = BTreeMap::new();
    for path in paths {
        let path = format!(
            "/{}",
            path.replace("{}", &format!("namespaces/{namespace}"))
        );
        for object in roll.cluster.get_json(&path)["items"].as_array().unwrap() {
            let name = object["metadata"]["name"].as_str().unwrap();
            let wanted = json!([object["spec"], object["data"], object["metadata"]["uid"]]);
            if !name.contains("-milvus") && !name.contains("-vectors") {
                all.insert(format!("{path} {name}"), wanted);
            }
        }
    }
    assert!(!all.is_empty());
    all
}

fn images(roll: &Roll, namespace: &str) -> Vec<String> {
    let image = |one: &Value| {
        one["spec"]["template"]["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mut images: Vec<String> = roll
        .deployments(namespace)
        .iter()
        .map(image)
        .filter(|image| image.contains("milvus"))
        .collect();
    images.sort();
    images.dedup();
    images
}

/// A standalone with RocksMQ; the next chart would render Woodpecker.
const STANDALONE: [&str; 2] = ["cluster.enabled=false", "standalone.persistence.size=20Gi"];

#[test]
fn a_printed_command_resolves_its_finding_and_changes_nothing_else() {
    let roll = Roll::start();
    let (old, new) = (Chart::compact("4.2.40"), Chart::compact("5.0.14"));
    for (namespace, with) in [("plain-three", Helm::V3), ("plain-four", Helm::V4)] {
        let desk = desk(with, &new);
        roll.install(with, namespace, &old, "v2.5.27", &STANDALONE);
        let (rest, running) = (
            others(&roll, namespace),
            file(
                desk.path(),
                "before.yaml",
                &manifest(&roll, with, namespace),
            ),
        );
        let change = [
            "--reset-then-reuse-values",
            "--set",
            "image.all.tag=v2.6.22",
        ];
        let bad = wanted(&roll, with, namespace, desk.path(), new.path(), &change);

        let judged = check(&roll, namespace, &["--before", "live", "--after", &bad]);
        assert_eq!(
            judged.rules("deny"),
            ["MG301", "MG502"],
            "{:#}",
            judged.report
        );
        let commands = commands(&judged);
        assert_eq!(commands["MG301"], commands["MG502"]);
        execute(&roll, with, desk.path(), &commands["MG502"]);
        roll.await_complete(namespace);

        let judged = check(&roll, namespace, &["--before", &running, "--after", "live"]);
        assert_eq!(judged.rules("deny"), [""; 0], "{:#}", judged.report);
        assert_eq!(
            images(&roll, namespace),
            ["milvusdb/milvus:v2.6.22"],
            "the new image must run"
        );
        assert_eq!(others(&roll, namespace), rest, "nothing else");
        let values = expect_success(roll.cluster.helm(
            with,
            ["get", "values", RELEASE, "-n", namespace, "-o", "json"],
        ));
        let values: Value = serde_json::from_str(&values).unwrap();
        let expected = json!({
            "cluster": {"enabled": false},
            "image": {"all": {"tag": "v2.6.22"}},
            "standalone": {"messageQueue": "rocksmq", "persistence": {"size": "20Gi"}},
        });
        assert_eq!(values, expected, "the user's values must be kept");

        // The same change with another new value, which a command from the live values would drop.
        expect_success(
            roll.cluster
                .helm(with, ["rollback", RELEASE, "1", "-n", namespace]),
        );
        roll.await_complete(namespace);
        let more = [&change[..], &["--set", "querynode.replicas=3"]].concat();
        let bad = wanted(&roll, with, namespace, desk.path(), new.path(), &more);
        let judged = check(&roll, namespace, &["--before", "live", "--after", &bad]);
        assert_eq!(
            self::commands(&judged),
            BTreeMap::new(),
            "{:#}",
            judged.report
        );
        assert!(
            fix(&judged, "MG502").contains("standalone.messageQueue=rocksmq"),
            "{}",
            fix(&judged, "MG502")
        );
    }
    ordered(&roll);
    umbrella(&roll);
    without_command(&roll);
}

/// The command for a change of all components at once is the ordered upgrade.
fn ordered(roll: &Roll) {
    let (namespace, with, chart) = ("ordered", Helm::V3, Chart::compact("4.1.34"));
    let desk = desk(with, &chart);
    roll.install(with, namespace, &chart, "v2.3.22", &[]);
    let rest = others(roll, namespace);
    let change = [
        "--reset-then-reuse-values",
        "--set",
        "image.all.tag=v2.4.24",
    ];
    let bad = wanted(roll, with, namespace, desk.path(), chart.path(), &change);
    let judged = check(roll, namespace, &["--before", "live", "--after", &bad]);
    assert_eq!(judged.rules("deny"), ["MG201"], "{:#}", judged.report);
    let line = commands(&judged)["MG201"].clone();
    assert_eq!(
        line,
        format!("milvus-guard upgrade -i {RELEASE} -n {namespace} -t 2.4.24")
    );
    execute(roll, with, desk.path(), &line);
    assert_eq!(images(roll, namespace), ["milvusdb/milvus:v2.4.24"]);
    assert_eq!(others(roll, namespace), rest);
    let judged = check(roll, namespace, &["--before", "live", "--after", &bad]);
    assert_eq!(judged.rules("deny"), [""; 0], "{:#}", judged.report);
}

/// A chart with Milvus under an alias, and with templates.
fn write_umbrella(folder: &Path, milvus: &Chart) -> String {
    let chart = folder.join(format!("umbrella-{}", milvus.version));
    fs::create_dir_all(chart.join("templates")).unwrap();
    fs::create_dir_all(chart.join("charts")).unwrap();
    symlink(milvus.path(), chart.join("charts/milvus")).unwrap();
    let meta = format!(
        "apiVersion: v2\nname: platform\nversion: 0.1.0\ndependencies:\n  - {{name: milvus, version: {}, alias: vectors, repository: 'file://charts/milvus'}}\n",
        milvus.version
    );
    fs::write(chart.join("Chart.yaml"), meta).unwrap();
    let own = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: api\n  labels: {helm.sh/chart: platform-0.1.0, app.kubernetes.io/instance: {{ .Release.Name }}}\ndata: {word: hello}\n";
    fs::write(chart.join("templates/api.yaml"), own).unwrap();
    chart.to_str().unwrap().to_owned()
}

/// No command replaces an umbrella chart by its subchart; the text leads to a valid change.
fn umbrella(roll: &Roll) {
    for (namespace, with) in [("umbrella-three", Helm::V3), ("umbrella-four", Helm::V4)] {
        let folder = tempfile::tempdir().unwrap();
        let charts = (Chart::compact("4.2.40"), Chart::compact("5.0.14"));
        let (old, new) = (
            write_umbrella(folder.path(), &charts.0),
            write_umbrella(folder.path(), &charts.1),
        );
        let values = [
            "--set",
            "vectors.cluster.enabled=false",
            "--set",
            "vectors.image.all.tag=v2.5.27",
        ];
        let mut args = vec![
            "install",
            RELEASE,
            &old,
            "-n",
            namespace,
            "--create-namespace",
        ];
        args.extend(values);
        expect_success(roll.cluster.helm(with, args));
        roll.await_complete(namespace);
        let rest = others(roll, namespace);
        let running = file(
            folder.path(),
            "before.yaml",
            &manifest(roll, with, namespace),
        );
        let change = [
            "--reset-then-reuse-values",
            "--set",
            "vectors.image.all.tag=v2.6.22",
        ];
        let bad = wanted(roll, with, namespace, folder.path(), &new, &change);
        let judged = check(roll, namespace, &["--before", "live", "--after", &bad]);
        assert_eq!(
            judged.rules("deny"),
            ["MG301", "MG502"],
            "{:#}",
            judged.report
        );
        assert_eq!(commands(&judged), BTreeMap::new());
        let words = "Set vectors.standalone.messageQueue=rocksmq in the Helm values of the parent \
                     chart platform.";
        assert_eq!(fix(&judged, "MG502"), words);
        assert_eq!(
            judged.report["releases"][0]["name"],
            format!("{RELEASE}/vectors")
        );

        let mut args = vec!["upgrade", RELEASE, &new, "-n", namespace];
        args.extend(change);
        args.extend(["--set", "vectors.standalone.messageQueue=rocksmq"]);
        expect_success(roll.cluster.helm(with, args));
        roll.await_complete(namespace);
        let judged = check(roll, namespace, &["--before", &running, "--after", "live"]);
        assert_eq!(judged.rules("deny"), [""; 0], "{:#}", judged.report);
        assert_eq!(others(roll, namespace), rest);
    }
}

/// Values that the text of a fix names, in the form for `--set`.
fn values_in(text: &str) -> Vec<String> {
    text.split_whitespace()
        .filter_map(|word| word.trim_end_matches([',', '.']).split_once('='))
        .filter(|(path, _)| {
            path.contains('.') && path.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
        })
        .map(|(path, value)| format!("{path}={}", value.replace(',', "\\,")))
        .collect()
}

/// On the real charts: the values in a fix remove its finding and add no other denial.
#[test]
fn the_values_in_fixes_remove_their_findings() {
    const CLUSTER: &[&str] = &[];
    const STANDALONE: &[&str] = &[
        "cluster.enabled=false",
        "etcd.replicaCount=1",
        "minio.mode=standalone",
    ];
    // The first list is for the running state, the second for the new state.
    let kafka: &[&str] = &[
        "externalKafka.enabled=true",
        "externalKafka.brokerList=b-1.example.com:9092\\,b-2.example.com:9092",
        "pulsar.enabled=false",
    ];
    let other_kafka: &[&str] = &[
        "externalKafka.enabled=true",
        "externalKafka.brokerList=b-3.example.com:9092",
        "pulsar.enabled=false",
    ];
    let s3: &[&str] = &[
        "externalS3.enabled=true",
        "externalS3.host=s3.example.com",
        "externalS3.bucketName=b",
        "minio.enabled=false",
    ];
    let etcd: &[&str] = &[
        "externalEtcd.enabled=true",
        "externalEtcd.endpoints={etcd.example.com:2379}",
        "etcd.enabled=false",
    ];
    let own_kafka: &[&str] = &["kafka.enabled=true", "pulsar.enabled=false"];
    let changes: [(&[&str], &[&str]); 12] = [
        (&[], &[]),
        (&["minio.bucketName=a"], &[]),
        (&["minio.rootPath=x"], &[]),
        (kafka, &[]),
        (kafka, other_kafka),
        (own_kafka, &[]),
        (own_kafka, kafka),
        (&[], kafka),
        (s3, &[]),
        (&[], s3),
        (&[], etcd),
        (
            &["fullnameOverride=db", "minio.rootPath=x"],
            &["fullnameOverride=db"],
        ),
    ];
    let steps: &[(usize, usize)] = if common::is_full() {
        &[(1, 2), (2, 3), (3, 4), (2, 4)]
    } else {
        &[(2, 3), (3, 4)]
    };
    let mut tried = 0;
    for set in common::charts().into_iter().filter(|set| set[0].is_real) {
        for (from, to) in steps.iter().copied() {
            let cases = [CLUSTER, STANDALONE]
                .into_iter()
                .flat_map(|mode| changes.map(|(values, then)| (mode, values, then)));
            for (mode, values, then) in cases {
                let folder = tempfile::tempdir().unwrap();
                let mut before = [mode, values].concat();
                if set[from].version > "4.2.27"
                    && values
                        .iter()
                        .any(|value| value.starts_with("pulsar.enabled"))
                {
                    before.push("pulsarv3.enabled=false");
                }
                let running = file(
                    folder.path(),
                    "before.yaml",
                    &set[from].render(Helm::V4, &before),
                );
                let judge = |more: &[String]| {
                    let values: Vec<&str> = mode
                        .iter()
                        .chain(then)
                        .copied()
                        .chain(more.iter().map(String::as_str))
                        .collect();
                    let wanted = file(
                        folder.path(),
                        "after.yaml",
                        &set[to].render(Helm::V4, &values),
                    );
                    Judged::of(&["--before", &running, "--after", &wanted, "-n", "milvus"])
                };
                let judged = judge(&[]);
                let findings = judged.report["findings"].as_array().unwrap();
                let named = |one: &&Value| {
                    !values_in(one["fix"]["text"].as_str().unwrap()).is_empty()
                        && one["action"] == "deny"
                };
                let cured: Vec<&Value> = findings.iter().filter(named).collect();
                let mut pins: Vec<String> = cured
                    .iter()
                    .flat_map(|one| values_in(one["fix"]["text"].as_str().unwrap()))
                    .collect();
                pins.sort();
                pins.dedup();
                if pins.is_empty() {
                    continue;
                }
                let after = judge(&pins);
                let what = format!(
                    "{} -> {} {before:?} to {then:?} with {pins:?}",
                    set[from].version, set[to].version
                );
                let left = after.report["findings"].as_array().unwrap();
                for one in &cured {
                    let same = |other: &Value| {
                        other["rule"] == one["rule"] && other["message"] == one["message"]
                    };
                    assert!(!left.iter().any(same), "{what}: {one:#}");
                }
                let new: Vec<String> = after
                    .rules("deny")
                    .into_iter()
                    .filter(|rule| !judged.rules("deny").contains(rule))
                    .collect();
                assert_eq!(new, [""; 0], "{what}: {:#}", after.report["findings"]);
                tried += 1;
            }
        }
        assert!(tried > 10, "only {tried} changes had values to set");
    }
    println!("tried {tried} changes of real charts");
}

/// The table of chart values against the real charts, if `MILVUS_CHARTS` is set.
#[test]
fn real_charts_have_the_values_of_the_table() {
    // Values that templates or the subchart read although values.yaml does not list them, and a
    // listed value that no template reads.
    let unlisted = [
        "nameOverride",
        "fullnameOverride",
        "minio.image.repository",
        "minio.mcImage.repository",
    ];
    let unread = ["mixCoordinator.activeStandby.enabled"];
    for chart in common::charts()
        .into_iter()
        .flatten()
        .filter(|chart| chart.is_real)
    {
        let text = fs::read_to_string(Path::new(chart.path()).join("values.yaml")).unwrap();
        let root = documents(&text).next().unwrap().unwrap().root;
        let version: Version = chart.version.parse().unwrap();
        for row in Catalogue::embedded()
            .chart_values
            .iter()
            .filter(|row| row.chart == ChartName::Zilliz)
        {
            // `user.yaml` is one key, despite its dot.
            let keys: Vec<&str> = match row.path.strip_suffix(".user.yaml") {
                Some(above) => above.split('.').chain(["user.yaml"]).collect(),
                None => row.path.split('.').collect(),
            };
            let listed = keys
                .into_iter()
                .try_fold(&root, |node, key| node.get(key))
                .is_some();
            let read = row.charts.contains(version);
            let excused = unlisted.contains(&row.path.as_str())
                || (listed && unread.contains(&row.path.as_str()));
            assert!(
                listed == read || excused,
                "{version}: {} is {listed} in values.yaml, {read} in the table",
                row.path
            );
        }
    }
}

/// Managers whose objects no command of Helm may change: no command is printed, and the text names
/// the place to edit.
fn without_command(roll: &Roll) {
    let cases = [
        (
            "applied",
            "annotations: {}",
            "in the Helm values from which the manifests are rendered.",
        ),
        (
            "argo",
            "annotations: {argocd.argoproj.io/tracking-id: \
             'vec:apps/Deployment:argo/my-release-milvus-standalone'}",
            "in the source of Application vec.",
        ),
        (
            "flux",
            "annotations: {}",
            "in spec.values of HelmRelease vec.",
        ),
        (
            "operator",
            "annotations: {}",
            "Set spec.dependencies.msgStreamType: rocksmq in the Milvus resource my-release.",
        ),
        (
            "hand",
            "annotations: {}",
            "Set mq.type: rocksmq in ConfigMap my-release-milvus.",
        ),
    ];
    let values = ["cluster.enabled=false", "image.all.tag=v2.5.27"];
    let before = Chart::compact("4.2.40").render(Helm::V4, &values);
    let values = ["cluster.enabled=false", "image.all.tag=v2.6.22"];
    let after = Chart::compact("5.0.14").render(Helm::V4, &values);
    for (namespace, mark, place) in cases {
        let folder = tempfile::tempdir().unwrap();
        let managed = |text: &str| {
            let by = "app.kubernetes.io/managed-by: Helm";
            let labels = match namespace {
                "flux" => format!("{by}\n    helm.toolkit.fluxcd.io/name: vec"),
                "operator" => "app.kubernetes.io/managed-by: milvus-operator".to_owned(),
                "hand" => "team: search".to_owned(),
                _ => by.to_owned(),
            };
            let name = "  name: my-release-milvus-standalone\n";
            let text = text
                .replace(by, &labels)
                .replace(name, &format!("{name}  {mark}\n"));
            if ["operator", "hand"].contains(&namespace) {
                text.lines()
                    .filter(|line| !line.contains("helm.sh/chart: milvus-"))
                    .map(|line| format!("{line}\n"))
                    .collect()
            } else {
                text
            }
        };
        roll.cluster.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}"
        ));
        expect_success(
            roll.cluster
                .kubectl_with_input(["apply", "-n", namespace, "-f", "-"], &managed(&before)),
        );
        roll.await_complete(namespace);
        let bad = file(folder.path(), "wanted.yaml", &managed(&after));
        let judged = check(roll, namespace, &["--before", "live", "--after", &bad]);
        assert!(
            judged.rules("deny").contains(&"MG301".to_owned()),
            "{namespace}: {:#}",
            judged.report
        );
        assert_eq!(commands(&judged), BTreeMap::new(), "{namespace}");
        assert!(
            fix(&judged, "MG301").contains(place),
            "{namespace}: {}",
            fix(&judged, "MG301")
        );
    }
}

fn manifest(roll: &Roll, with: Helm, namespace: &str) -> String {
    expect_success(
        roll.cluster
            .helm(with, ["get", "manifest", RELEASE, "-n", namespace]),
    )
}
