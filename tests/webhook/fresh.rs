//! A change is taken into account at once, on a cluster in which nothing else happens, and while a
//! watch does not work.

use std::time::{Duration, Instant};

use crate::common::{
    Chart,
    faults::{Blind, Faults},
    is_full,
    webhook::{Caller, GUARD, Server, Webhook, update, wait_until, write_as_guard},
};
use futures::StreamExt;
use milvus_guard_testbed::{ControlPlane, Helm};
use serde_json::{Value, json};

/// Maximum time until a change must be taken into account.
const SOON: Duration = Duration::from_secs(2);

fn install(webhook: &Webhook) {
    let chart = Chart::compact("4.1.34");
    webhook.install(Helm::V4, &chart, &["--set", "image.all.tag=v2.3.22"]);
}

fn run() -> Value {
    json!({
        "apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun", "metadata": {"name": "run-1", "namespace": GUARD},
        "spec": {"kind": "Migration", "release": "my-release", "namespace": "milvus", "from": "2.1.4", "to": "2.2.16",
            "plan": [{"id": "backup", "title": "", "action": "Backup"}],
            "planHash": "sha256:0000000000000000000000000000000000000000000000000000000000000000"},
        "status": {"phase": "Running", "step": {"id": "backup", "index": 0, "stage": "Begun", "since": "2026-01-01T00:00:00Z"}},
    })
}

/// How often the API server has ended a watch of a kind, by its own metric.
fn watches(webhook: &Webhook, plural: &str) -> f64 {
    let text = webhook.cluster.get("/metrics").body;
    text.lines()
        .filter(|line| {
            line.starts_with("apiserver_request_total{") && line.contains("verb=\"WATCH\"")
        })
        .filter(|line| line.contains(&format!("resource=\"{plural}\"")))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// The highest age of cached data, with its kind.
fn oldest(server: &Server) -> (f64, String) {
    let text = server.get_metrics();
    let ages = text.lines().filter_map(|line| {
        line.strip_prefix("milvus_guard_cache_age_seconds")?
            .split_once(' ')
    });
    ages.map(|(kind, age)| (age.parse().unwrap(), kind.to_owned()))
        .max_by(|a: &(f64, String), b| a.0.total_cmp(&b.0))
        .unwrap()
}

fn set_proxy(webhook: &Webhook, tag: &str) -> (bool, String) {
    let image = format!("proxy=milvusdb/milvus:{tag}");
    webhook.kubectl(&[
        "-n",
        "milvus",
        "set",
        "image",
        "deployment/my-release-milvus-proxy",
        &image,
        "--dry-run=server",
    ])
}

/// Watches that end after a few seconds.
const SHORT: [&str; 2] = ["--watch-timeout", "3s"];
/// Length of the idle time with `MILVUS_GUARD_FULL` and the default timeout of watches.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// The longest usual time without an event of a kind, in seconds: the API server sends a bookmark
/// each minute, later on a busy machine, and the guard restarts a watch after 150 s.
const fn silence(full: bool) -> f64 {
    if full { 150.0 } else { 10.0 }
}

/// Waits until the cluster was idle for a long time and every watch has ended several times.
fn stay_idle(webhook: &Webhook, replicas: &[&Server], full: bool) {
    const PLURALS: [&str; 4] = [
        "upgradeexceptions",
        "upgraderuns",
        "upgradepolicies",
        "services",
    ];
    let (for_long, each) = if full {
        (IDLE, Duration::from_secs(5))
    } else {
        (Duration::ZERO, Duration::from_millis(200))
    };
    let ends = if full { 2.0 } else { 6.0 } * f64::from(u32::try_from(replicas.len()).unwrap());
    let before = PLURALS.map(|plural| watches(webhook, plural));
    let ended_often = || {
        PLURALS
            .iter()
            .zip(before)
            .all(|(plural, before)| watches(webhook, plural) >= before + ends)
    };
    let begun = Instant::now();
    let mut worst = (0.0, String::new());
    while begun.elapsed() < for_long || !ended_often() {
        assert!(
            begun.elapsed() < for_long + Duration::from_secs(90),
            "the watches did not end several times"
        );
        for server in replicas {
            let now = oldest(server);
            if now.0 > worst.0 {
                worst = now;
            }
        }
        std::thread::sleep(each);
    }
    eprintln!(
        "idle for {:.0?}; the longest silence about a kind: {worst:?}",
        begun.elapsed()
    );
    assert!(
        worst.0 < silence(full),
        "without any write, no data may be old: {worst:?}"
    );
    for server in replicas {
        let log = server.log();
        assert!(!log.contains("in trouble"), "{log}");
    }
}

#[test]
fn on_an_idle_cluster_every_change_counts_at_once_on_every_replica() {
    let full = is_full();
    let flags: &[&str] = if full { &[] } else { &SHORT };
    let webhook = Webhook::with(
        ControlPlane::builder().controller_manager(true).start(),
        flags,
    );
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let followers: Vec<Server> = folders
        .iter()
        .map(|folder| Server::start(&webhook.cluster, folder.path(), "127.0.0.1:0", flags))
        .collect();
    install(&webhook);
    let servers: Vec<&Server> = std::iter::once(&webhook.server).chain(&followers).collect();
    stay_idle(&webhook, &servers, full);

    let places =
        std::iter::once(webhook.folder.path()).chain(folders.iter().map(tempfile::TempDir::path));
    let callers: Vec<Caller> = servers
        .iter()
        .zip(places)
        .map(|(server, folder)| Caller::of(&webhook.cluster, server, folder))
        .collect();
    let old = webhook.deployment("milvus", "my-release-milvus-proxy");
    let (mut scaled, mut upgraded) = (old.clone(), old.clone());
    scaled["spec"]["replicas"] = json!(4);
    upgraded["spec"]["template"]["spec"]["containers"][0]["image"] =
        json!("milvusdb/milvus:v2.4.5");
    let (scaled, upgraded) = (update(&old, &scaled), update(&old, &upgraded));
    let is_allowed = |answer: &Value| answer["allowed"] == true;
    let is_denied = |answer: &Value, rule: &str| {
        answer["allowed"] == false && answer["status"].to_string().contains(rule)
    };
    for caller in &callers {
        assert!(is_allowed(&caller.ask(&scaled)), "{}", caller.ask(&scaled));
        assert!(
            is_denied(&caller.ask(&upgraded), "MG201"),
            "{}",
            caller.ask(&upgraded)
        );
    }

    let policy = |action: &str| {
        json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": "p"},
            "spec": {"rules": [{"id": "MG201", "action": action}]}})
    };
    webhook.cluster.apply(&policy("Warn").to_string());
    all_count("a policy", &callers, &upgraded, is_allowed);
    webhook.cluster.apply(&policy("Enforce").to_string());
    all_count("a stricter policy", &callers, &upgraded, |answer| {
        is_denied(answer, "MG201")
    });
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let exception = json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeException", "metadata": {"name": "e"},
        "spec": {"rules": ["MG201"], "namespace": "milvus", "release": "my-release", "reason": "a test of an exception", "owner": "me",
            "expires": until.to_string()}});
    webhook.cluster.apply(&exception.to_string());
    all_count("an exception", &callers, &upgraded, is_allowed);
    write_as_guard(&webhook.cluster, &run());
    all_count("a run", &callers, &scaled, |answer| {
        is_denied(answer, "MG208")
    });
    let over = json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun", "metadata": {"name": "run-1", "namespace": GUARD},
        "spec": run()["spec"], "status": {"phase": "Aborted"}});
    write_as_guard(&webhook.cluster, &over);
    all_count("the end of a run", &callers, &scaled, is_allowed);
    // The API server gets the same answer.
    assert!(scale(&webhook).0, "{}", scale(&webhook).1);
}

fn counts(what: &str, condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    wait_until(what, SOON, condition);
    eprintln!(
        "{what} counted after {} ms, kubectl included",
        begun.elapsed().as_millis()
    );
}

/// Waits until every replica answers a review as expected. The time starts when the writer
/// returned.
fn all_count(
    what: &str,
    callers: &[Caller],
    review: &Value,
    is_right: impl Fn(&Value) -> bool + Sync,
) {
    let begun = Instant::now();
    let took: Vec<u128> = std::thread::scope(|scope| {
        let asked: Vec<_> = callers
            .iter()
            .map(|caller| {
                let is_right = &is_right;
                scope.spawn(move || {
                    wait_until(what, SOON, || is_right(&caller.ask(review)));
                    begun.elapsed().as_millis()
                })
            })
            .collect();
        asked
            .into_iter()
            .map(|asked| asked.join().expect("this replica must have the change"))
            .collect()
    });
    eprintln!("{what} counted on each replica after {took:?} ms");
}

/// The webhook behind an API server whose watches can be made to fail.
fn behind_faults() -> (Webhook, Faults) {
    let mut webhook = Webhook::start();
    install(&webhook);
    webhook.server.kill();
    let kubeconfig = webhook
        .cluster
        .kubeconfig_for_service_account(GUARD, "milvus-guard");
    let faults = Faults::start(&kubeconfig, webhook.folder.path());
    let flags = ["--watch-timeout", "2s"];
    webhook.server = Server::start_through(
        faults.kubeconfig(),
        webhook.folder.path(),
        "127.0.0.1:0",
        &flags,
    );
    webhook.register();
    (webhook, faults)
}

const DECISIVE: &[&str] = &[
    "upgradepolicies",
    "upgradeexceptions",
    "upgraderuns",
    "releasedecisions",
];
const PICTURED: &[&str] = &[
    "deployments",
    "statefulsets",
    "configmaps",
    "persistentvolumeclaims",
    "services",
];

fn scale(webhook: &Webhook) -> (bool, String) {
    let proxy = "deployment/my-release-milvus-proxy";
    webhook.kubectl(&[
        "-n",
        "milvus",
        "scale",
        proxy,
        "--replicas=4",
        "--dry-run=server",
    ])
}

/// Waits until the ages show that no watch works.
fn wait_blind(webhook: &Webhook) {
    wait_until("the guard is blind", Duration::from_secs(30), || {
        oldest(&webhook.server).0 > 4.0
    });
}

#[test]
fn kinds_without_a_watch_are_read_before_a_change_is_allowed() {
    let (webhook, faults) = behind_faults();
    let policy = |action: &str| {
        json!({"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy", "metadata": {"name": "p"},
            "spec": {"rules": [{"id": "MG201", "action": action}]}})
    };
    webhook.cluster.apply(&policy("Warn").to_string());
    wait_until("the policy counts", Duration::from_secs(10), || {
        set_proxy(&webhook, "v2.4.5").0
    });
    for (number, blind) in [Blind::Refused(DECISIVE), Blind::Silent(DECISIVE)]
        .into_iter()
        .enumerate()
    {
        faults.blind(Some(blind));
        wait_blind(&webhook);
        assert!(scale(&webhook).0, "{}", scale(&webhook).1);
        let mut begun = run();
        begun["metadata"]["name"] = json!(format!("run-{number}"));
        write_as_guard(&webhook.cluster, &begun);
        counts("a run", || scale(&webhook).1.contains("MG208"));
        begun["status"] = json!({"phase": "Aborted"});
        write_as_guard(&webhook.cluster, &begun);
        counts("its end", || scale(&webhook).0);
        webhook.cluster.apply(&policy("Enforce").to_string());
        counts("a stricter policy", || !set_proxy(&webhook, "v2.4.5").0);
        webhook.cluster.apply(&policy("Warn").to_string());
        counts("a milder policy", || set_proxy(&webhook, "v2.4.5").0);
        faults.blind(None);
        wait_until(
            "everything is watched again",
            Duration::from_secs(30),
            || oldest(&webhook.server).0 < 2.5,
        );
    }

    // The running state is equally current: only the live read shows a component that was added
    // meanwhile.
    faults.blind(Some(Blind::Refused(PICTURED)));
    wait_blind(&webhook);
    let before = webhook.metric("milvus_guard_live_reads_total{result=\"confirmed\"}");
    assert!(scale(&webhook).0);
    assert!(
        webhook.metric("milvus_guard_live_reads_total{result=\"confirmed\"}") > before,
        "an allowed change must be checked by a live read"
    );
    faults.blind(None);
    wait_until(
        "everything is watched again",
        Duration::from_secs(30),
        || oldest(&webhook.server).0 < 2.5,
    );

    // If the data can be neither watched nor read, old data is not used for a decision.
    faults.blind(Some(Blind::Unreadable(DECISIVE)));
    wait_blind(&webhook);
    let (done, text) = scale(&webhook);
    assert!(
        !done && text.contains("are not watched at the moment") && text.contains("Try again"),
        "{text}"
    );
    let web = webhook.cluster.kubectl([
        "-n",
        "milvus",
        "create",
        "deployment",
        "web",
        "--image=nginx",
    ]);
    assert!(web.status.success(), "other workloads must not be blocked");
    faults.blind(None);
    wait_until("the gate works again", Duration::from_secs(30), || {
        scale(&webhook).0
    });
}

#[test]
fn many_denials_cause_few_requests_to_the_api_server() {
    const REVIEWS: usize = 240;
    const AT_ONCE: usize = 30;
    let (webhook, faults) = behind_faults();
    let access = milvus_guard_sources::kubernetes::Access {
        kubeconfig: Some(webhook.cluster.kubeconfig().to_owned()),
        context: None,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (denied, took, requests) = runtime.block_on(async {
        let client = milvus_guard_sources::kubernetes::Cluster::connect(&access).await.unwrap().client().clone();
        let api: kube::Api<k8s_openapi::api::apps::v1::Deployment> = kube::Api::namespaced(client, "milvus");
        let params = kube::api::PatchParams { dry_run: true, ..kube::api::PatchParams::apply("kubectl-patch") };
        let image =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "proxy", "image": "milvusdb/milvus:v2.4.5"}]}}}});
        let patch = kube::api::Patch::Strategic(image);
        let (begun, before) = (Instant::now(), faults.requests());
        let one = async |_| {
            api.patch("my-release-milvus-proxy", &params, &patch)
                .await
                .map_or_else(|error| error.to_string(), |_| "allowed".into())
        };
        let answers: Vec<String> = futures::stream::iter(0..REVIEWS).map(one).buffer_unordered(AT_ONCE).collect().await;
        let denied = answers.iter().filter(|answer| answer.contains("MG201")).count();
        let other = answers.iter().find(|answer| !answer.contains("MG201") && !answer.contains("deadline exceeded"));
        assert_eq!(other, None);
        (denied, begun.elapsed().as_secs_f64(), faults.requests() - before)
    });
    // A busy machine may miss a deadline of the API server, which denies as well.
    assert!(denied > REVIEWS / 2, "{denied}");
    // Six lists five times a second, two lists ten times a second, and the watches; each once more
    // at the begin and the end.
    let most = (took * 5.0 + 2.0) * 6.0 + (took * 10.0 + 2.0) * 2.0 + (took + 2.0) * 11.0;
    eprintln!("{REVIEWS} denials in {took:.1} s made {requests} requests, of at most {most:.0}");
    assert!(
        f64::from(u32::try_from(requests).unwrap()) <= most,
        "{requests} requests in {took} s"
    );
}
