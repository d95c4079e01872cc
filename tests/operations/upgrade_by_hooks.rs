//! The hooks of the chart `milvus-upgrade` in an umbrella chart with Milvus: a plain `helm upgrade`
//! evaluates, pauses, changes and releases the components in the order of the data.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    common::{
        Chart, copy, guard,
        jobs::Kubelet,
        roll::{DEADLINE, RELEASE, Roll},
        run,
        webhook::GUARD,
    },
    helm_site::{NAMESPACE, Site, VALUES, image, position, write_refused},
};
use milvus_guard_core::milvus::Component::{
    DataNode, IndexNode, MixCoord, Proxy, QueryNode, StreamingNode,
};
use milvus_guard_testbed::{Helm, wait_until};
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Values of the hooks. The tests find the pods that they simulate by the label.
const HOOKS: [&str; 4] = [
    "milvus-upgrade.hooks.enabled=true",
    "milvus-upgrade.verb=upgrade",
    "milvus-upgrade.image.repository=milvus-guard",
    r"milvus-upgrade.podLabels.guard\.milvus\.io/run=hook",
];
/// Further values if the guard is installed.
const GUARDED: [&str; 3] = [
    "milvus-upgrade.namespaceOverride=milvus-guard",
    "milvus-upgrade.serviceAccount.create=false",
    "milvus-upgrade.serviceAccount.name=milvus-guard-job",
];

/// A chart whose dependencies are Milvus' chart of this version and the chart of the hooks.
struct Umbrella {
    folder: TempDir,
}

impl Umbrella {
    fn of(milvus: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            let place = folder.path().join("charts").join(name);
            fs::create_dir_all(&place).unwrap();
            place
        };
        copy(Path::new(Chart::compact(milvus).path()), &place("milvus"));
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/milvus-upgrade");
        copy(&own, &place("milvus-upgrade"));
        let meta = json!({
            "apiVersion": "v2", "name": "search", "version": "1.0.0", "dependencies": [
                {"name": "milvus", "version": milvus}, {"name": "milvus-upgrade", "version": "0.1.0"}],
        });
        fs::write(folder.path().join("Chart.yaml"), meta.to_string()).unwrap();
        Self { folder }
    }

    /// A template of the chart itself.
    fn template(&self) -> PathBuf {
        let templates = self.folder.path().join("templates");
        fs::create_dir_all(&templates).unwrap();
        templates.join("z.yaml")
    }

    /// The arguments of `helm install|upgrade RELEASE`: Milvus has this tag and these values.
    fn words(&self, tag: &str, milvus: &[&str], more: &[&str]) -> Vec<String> {
        let tag = format!("image.all.tag={tag}");
        let milvus = milvus.iter().copied().chain([&*tag]);
        let milvus = milvus.map(|value| format!("milvus.{value}"));
        let more = HOOKS.iter().chain(more).map(|value| (*value).to_owned());
        let mut words = vec![self.folder.path().to_str().unwrap().to_owned()];
        for value in milvus.chain(more) {
            words.extend(["--set".to_owned(), value]);
        }
        words
    }
}

/// Installs a release of the chart, and starts the kubelet that runs the pods of its hooks.
fn start(roll: Roll, with: Helm, words: &[String]) -> (Site, Kubelet) {
    let site = Site {
        roll,
        with,
        folder: tempfile::tempdir().unwrap(),
    };
    let (is_done, said) = helm(&site, &["install", RELEASE, "--create-namespace"], words);
    assert!(is_done, "{said}");
    site.roll.await_complete(NAMESPACE);
    let kubelet = Kubelet::on(&site.roll.cluster, site.folder.path());
    (site, kubelet)
}

/// Whether a Helm command succeeded, and its output.
fn helm(site: &Site, verb: &[&str], words: &[String]) -> (bool, String) {
    let words = words.iter().map(String::as_str);
    let all = ["-n", NAMESPACE, "--timeout", "10m"];
    let args: Vec<&str> = verb.iter().copied().chain(words).chain(all).collect();
    let output = site.roll.cluster.helm(site.with, args);
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn upgrade(site: &Site, words: &[String]) -> (bool, String) {
    helm(site, &["upgrade", RELEASE], words)
}

/// The rules by which `check` denies the rendered chart without the hooks of the given kind.
fn denied_rules(site: &Site, words: &[String], without: &str) -> Vec<String> {
    let (is_done, rendered) = helm(site, &["template", RELEASE], words);
    assert!(is_done, "{rendered}");
    let moment = format!("helm.sh/hook: {without}\n");
    let rendered = rendered.replace(&moment, "helm.sh/hook: post-delete\n");
    let file = site.folder.path().join("rendered.yaml");
    fs::write(&file, rendered).unwrap();
    let mut check = guard();
    check
        .args([
            "check", "--before", "live", "-n", NAMESPACE, "--format", "json",
        ])
        .arg("--kubeconfig")
        .arg(site.roll.cluster.kubeconfig())
        .arg("--after")
        .arg(&file);
    let (_, report, stderr) = run(&mut check);
    let report: Value = serde_json::from_str(&report).expect(&stderr);
    let findings = report["findings"].as_array().unwrap().iter();
    let denied = findings.filter(|one| one["action"] == "deny");
    denied
        .map(|one| one["rule"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_plain_helm_upgrade_changes_the_topology_in_order() {
    let (old, new) = (Umbrella::of("4.2.40"), Umbrella::of("5.0.14"));
    let old = old.words("v2.5.27", &VALUES, &[]);
    let (site, kubelet) = start(Roll::start(), Helm::V3, &old);
    let watch = site.roll.watch(NAMESPACE);
    let words = new.words("v2.6.22", &VALUES, &[]);
    assert_eq!(denied_rules(&site, &words, ""), [""; 0]);
    assert_eq!(denied_rules(&site, &words, "post-upgrade"), ["MG201"]);
    let (is_done, said) = upgrade(&site, &words);
    assert!(is_done, "{said}\n{:#?}", kubelet.log());
    let log = kubelet.log();
    let verified = log
        .iter()
        .filter(|line| line.contains(": verify --instance=my-release"));
    assert_eq!(verified.count(), 1);

    let target = image("v2.6.22");
    let expected = [StreamingNode, MixCoord, QueryNode, DataNode, Proxy];
    assert_eq!(watch.order(&target), expected);
    let gone = position(&watch, |one, _, gone| one == IndexNode && gone, false).unwrap();
    let last = position(&watch, |_, image, gone| image == target && !gone, true).unwrap();
    assert!(gone > last, "index nodes must end after all others are new");
    assert_eq!(site.pod_images(), [target]);
    site.assert_clean();
    site.assert_as_manifest();
    assert_eq!(site.roll.run(NAMESPACE)["status"]["phase"], "Succeeded");

    // Helm makes a change of other values without a run.
    let more = [&VALUES[..], &["readinessProbe.periodSeconds=11"]].concat();
    let (is_done, said) = upgrade(&site, &new.words("v2.6.22", &more, &[]));
    assert!(is_done, "{said}\n{:#?}", kubelet.log());
    assert_eq!(site.roll.runs(NAMESPACE).len(), 1);
    site.roll.await_complete(NAMESPACE);
    site.assert_clean();
}

/// The pre-upgrade hook fails and logs these texts; no Deployment is changed.
fn assert_refused(site: &Site, kubelet: &Kubelet, words: &[String], says: &[&str]) {
    let objects = site.roll.deployments(NAMESPACE);
    let (is_done, said) = upgrade(site, words);
    assert!(
        !is_done && said.contains("pre-upgrade hooks failed"),
        "{said}"
    );
    let log = kubelet.log().join("\n");
    for text in says {
        assert!(log.contains(text), "{log}");
    }
    assert_eq!(site.roll.deployments(NAMESPACE), objects);
}

#[test]
fn a_denied_change_stops_helm_before_it_changes_anything() {
    let (old, new) = (Umbrella::of("4.1.34"), Umbrella::of("5.0.14"));
    let old = old.words("v2.4.24", &VALUES, &[]);
    let (site, kubelet) = start(Roll::start(), Helm::V3, &old);
    let words = new.words("v2.6.22", &VALUES, &[]);
    let says = ["MG102", "Refused: the rules deny this change"];
    assert_refused(&site, &kubelet, &words, &says);
    assert!(site.roll.runs(NAMESPACE).is_empty());
}

#[test]
fn a_component_that_helm_would_start_too_early_is_refused() {
    let separate = ["mixCoordinator.enabled=false", "componentServices=true"];
    let chart = Umbrella::of("4.1.34");
    let old = chart.words("v2.4.5", &separate, &[]);
    let (site, kubelet) = start(Roll::start(), Helm::V3, &old);
    let words = chart.words("v2.4.24", &VALUES, &[]);
    let says = ["my-release-milvus-mixcoord (mixcoord) is new"];
    assert_refused(&site, &kubelet, &words, &says);
}

#[rstest]
#[case::helm_3(Helm::V3, "--atomic")]
#[case::helm_4(Helm::V4, "--rollback-on-failure")]
fn helm_fails_in_the_middle_and_is_rolled_back_or_run_again(
    #[case] with: Helm,
    #[case] goes_back: &str,
) {
    let (old, new) = (Umbrella::of("4.2.40"), Umbrella::of("5.0.14"));
    let old = old.words("v2.5.27", &VALUES, &[]);
    let (site, kubelet) = start(Roll::start(), with, &old);
    let words = new.words("v2.6.22", &VALUES, &[]);
    let pods = site.pods();
    let file = new.template();
    write_refused(&file);
    let (is_done, said) = upgrade(&site, &words);
    assert!(!is_done, "{said}");
    assert_eq!(
        site.roll.tag(NAMESPACE, "proxy"),
        "v2.6.22",
        "Helm must have applied a part"
    );
    let are_there = |all: &[String]| pods.iter().all(|pod| all.contains(pod));
    assert!(are_there(&site.pods()), "nothing has rolled");

    // Back, by Helm alone: the post-rollback hook ends the run.
    site.helm(&["rollback", RELEASE, "1", "--timeout", "10m"]);
    // A new component had started already, and Helm has deleted it.
    let is_as_before = wait_until(DEADLINE, || site.pods() == pods);
    assert!(is_as_before, "{:#?}", kubelet.log());
    site.assert_clean();
    assert_eq!(site.roll.run(NAMESPACE)["status"]["phase"], "RolledBack");

    // Forward again: fails once more, and Helm rolls back automatically.
    let (is_done, said) = helm(&site, &["upgrade", RELEASE, goes_back], &words);
    assert!(!is_done, "{said}");
    let is_as_before = wait_until(DEADLINE, || site.pods() == pods);
    assert!(is_as_before, "{said}\n{:#?}", kubelet.log());
    site.assert_clean();
    assert_eq!(site.roll.run(NAMESPACE)["status"]["phase"], "RolledBack");

    // The corrected command.
    fs::remove_file(&file).unwrap();
    let (is_done, said) = upgrade(&site, &words);
    assert!(is_done, "{said}\n{:#?}", kubelet.log());
    assert_eq!(site.pod_images(), [image("v2.6.22")]);
    site.assert_clean();
    site.assert_as_manifest();
}

#[test]
fn a_guard_with_hold_leaves_the_order_to_the_hooks() {
    let (old, new) = (Umbrella::of("4.2.40"), Umbrella::of("5.0.14"));
    let old = old.words("v2.5.27", &VALUES, &GUARDED);
    let (site, kubelet) = start(Roll::holding(&[]), Helm::V4, &old);
    let words = new.words("v2.6.22", &VALUES, &GUARDED);
    let watch = site.roll.watch(NAMESPACE);
    let (is_done, said) = upgrade(&site, &words);
    assert!(is_done, "{said}\n{:#?}", kubelet.log());
    let expected = [StreamingNode, MixCoord, QueryNode, DataNode, Proxy];
    assert_eq!(watch.order(&image("v2.6.22")), expected);
    let decisions = site.roll.cluster.get_json(&format!(
        "/apis/guard.milvus.io/v1alpha1/namespaces/{GUARD}/releasedecisions"
    ));
    let accepted = &decisions["items"][0]["spec"]["acceptedRules"];
    assert_eq!(
        *accepted,
        json!([{"rule": "MG201", "by": "hook", "reference": "pre-upgrade, post-upgrade"}]),
        "{decisions:#}"
    );
    let kinds: Vec<Value> = site
        .roll
        .runs(GUARD)
        .iter()
        .map(|run| json!([run["spec"]["kind"], run["status"]["phase"]]))
        .collect();
    assert_eq!(
        kinds,
        [json!(["Rolling", "Succeeded"])],
        "Hold must not create a run"
    );
    site.assert_clean();
    site.assert_as_manifest();
}

#[test]
fn a_change_without_the_hooks_is_held_like_any_other() {
    let chart = Umbrella::of("4.1.34");
    let old = chart.words("v2.4.5", &VALUES, &GUARDED);
    let (site, _kubelet) = start(Roll::holding(&[]), Helm::V3, &old);
    let watch = site.roll.watch(NAMESPACE);
    let words = chart.words("v2.4.24", &VALUES, &GUARDED);
    let (is_done, said) = helm(&site, &["upgrade", RELEASE, "--no-hooks"], &words);
    assert!(is_done, "{said}");
    site.roll.await_complete(NAMESPACE);
    let order = watch.order(&image("v2.4.24"));
    let at = |one| order.iter().position(|other| *other == one);
    assert!(
        at(MixCoord) < at(Proxy) && at(QueryNode) < at(Proxy),
        "{order:?}"
    );
    let kinds: Vec<Value> = site
        .roll
        .runs(GUARD)
        .iter()
        .map(|run| run["spec"]["kind"].clone())
        .collect();
    assert_eq!(kinds, [json!("Hold")]);
}

#[test]
fn a_hook_whose_pod_is_killed_is_retried_by_its_job() {
    let (old, new) = (Umbrella::of("4.2.40"), Umbrella::of("5.0.14"));
    let old = old.words("v2.5.27", &VALUES, &[]);
    let (site, kubelet) = start(Roll::start(), Helm::V4, &old);
    let words = new.words("v2.6.22", &VALUES, &[]);
    let (is_done, said) = std::thread::scope(|scope| {
        site.roll.hold_up("mixcoord");
        let helm = scope.spawn(|| upgrade(&site, &words));
        site.await_step("update-mixcoord");
        kubelet.kill_last();
        site.roll.let_go(NAMESPACE, "mixcoord");
        helm.join().unwrap()
    });
    assert!(is_done, "{said}\n{:#?}", kubelet.log());
    assert_eq!(
        kubelet.pods(),
        4,
        "one before Helm, two after it, and the one that verifies"
    );
    assert_eq!(site.pod_images(), [image("v2.6.22")]);
    site.assert_clean();
    site.assert_as_manifest();
}
