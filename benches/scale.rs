//! A review in a large cluster against the same review in an empty one, on two real API servers in
//! the same run. Ratios count, not milliseconds.
//!
//! `cargo bench --bench scale [-- NAMESPACES]`; each of the NAMESPACES (5000) holds two Deployments
//! of Milvus.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a benchmark"
)]

#[path = "../tests/common/mod.rs"]
mod common;
mod reviews;

use std::time::{Duration, Instant};

use common::{
    https::Https,
    webhook::{Caller, GUARD, Webhook, update, wait_until},
};
use futures::{StreamExt, stream};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Namespace},
    },
};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, PostParams},
};
use milvus_guard_sources::kubernetes::{Access, Cluster};
use milvus_guard_testbed::ControlPlane;
use serde_json::{Value, json};

/// Requests at the same time while a cluster is filled.
const AT_ONCE: usize = 32;
/// Reviews of one turn, and turns of each cluster.
const SAMPLE: usize = 250;
const TURNS: usize = 12;
const DEADLINE: Duration = Duration::from_secs(600);

/// A cluster with a release in the namespace `milvus` and one in each of `team-0`, `team-1` ...
struct Bed {
    webhook: Webhook,
    caller: Caller,
    /// A change of the release in the namespace `milvus`.
    same: Vec<Vec<u8>>,
    /// A change in each of the `team-*` namespaces.
    spread: Vec<Vec<u8>>,
}

impl Bed {
    fn start(teams: usize) -> Self {
        let cluster = ControlPlane::start();
        let begun = Instant::now();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let access = Access {
            kubeconfig: Some(cluster.kubeconfig().to_owned()),
            context: None,
        };
        let spread = runtime.block_on(async {
            let client = Cluster::connect(&access).await.unwrap().client().clone();
            create_running(&client).await;
            stream::iter(0..teams)
                .map(|team| create_team(&client, team))
                .buffered(AT_ONCE)
                .collect::<Vec<_>>()
                .await
        });
        eprintln!("{teams} namespaces filled in {:.0?}", begun.elapsed());
        // Release histories are written one after the other. Measure after the last write.
        let webhook = Webhook::with(cluster, &[]);
        let remembered = format!("/api/v1/namespaces/{GUARD}/configmaps?limit=1");
        let mut seen = Instant::now();
        wait_until("every namespace is remembered", DEADLINE, || {
            if seen.elapsed() < Duration::from_millis(500) {
                return false;
            }
            seen = Instant::now();
            let left = webhook.cluster.get_json(&remembered)["metadata"]["remainingItemCount"]
                .as_u64()
                .unwrap_or(0);
            usize::try_from(left).unwrap() > teams
        });
        eprintln!("all remembered after {:.0?}", begun.elapsed());
        webhook.roll_out("milvus");
        let caller = Caller::of(&webhook.cluster, &webhook.server, webhook.folder.path());
        let same = vec![change(
            &webhook.deployment("milvus", "my-release-milvus-datacoord"),
        )];
        Self {
            webhook,
            caller,
            same,
            spread,
        }
    }

    /// One turn: how long each review took, in milliseconds.
    fn ask(&self, bodies: &[Vec<u8>], from: usize) -> Vec<f64> {
        let path = format!("{}?timeout=10s", self.caller.path);
        let mut connection: Https = self.caller.connect();
        bodies
            .iter()
            .cycle()
            .skip(from % bodies.len())
            .take(SAMPLE)
            .map(|body| {
                let begun = Instant::now();
                let reply = connection.post(&path, body).unwrap();
                let took = begun.elapsed().as_secs_f64() * 1000.0;
                assert!(
                    reply.status == 200 && reply.text().contains(r#""allowed":true"#),
                    "{}",
                    reply.text()
                );
                took
            })
            .collect()
    }
}

/// A change that is judged and allowed.
fn change(old: &Value) -> Vec<u8> {
    let mut new = old.clone();
    let container = &mut new["spec"]["template"]["spec"]["containers"][0];
    if container["env"].is_null() {
        container["env"] = json!([]);
    }
    container["env"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "VARIABLE_OF_A_CHANGE", "value": "1"}));
    update(old, &new).to_string().into_bytes()
}

async fn create_namespace(client: &Client, name: &str) {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    };
    let namespace = Namespace {
        metadata,
        ..Namespace::default()
    };
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
}

async fn create<K>(client: &Client, namespace: &str, mut object: Value) -> Value
where
    K: Resource<Scope = NamespaceResourceScope>
        + serde::de::DeserializeOwned
        + serde::Serialize
        + Clone
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    object["metadata"]["namespace"] = json!(namespace);
    for kept_by_the_api_server in [
        "uid",
        "generation",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
    ] {
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove(kept_by_the_api_server);
    }
    let object: K = serde_json::from_value(object).unwrap();
    let made = Api::<K>::namespaced(client.clone(), namespace)
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
    let mut made = serde_json::to_value(made).unwrap();
    made["apiVersion"] = json!(K::api_version(&K::DynamicType::default()));
    made["kind"] = json!(K::kind(&K::DynamicType::default()));
    made
}

/// A release of eight components.
async fn create_running(client: &Client) {
    create_namespace(client, "milvus").await;
    for object in reviews::running() {
        match object["kind"].as_str() {
            Some("Deployment") => create::<Deployment>(client, "milvus", object).await,
            Some("ConfigMap") => create::<ConfigMap>(client, "milvus", object).await,
            _ => continue,
        };
    }
}

/// Creates a release of two components with a separate etcd. Returns a change of one of them.
async fn create_team(client: &Client, team: usize) -> Vec<u8> {
    let namespace = format!("team-{team}");
    create_namespace(client, &namespace).await;
    let mut made = None;
    for component in ["proxy", "datanode"] {
        let name = format!("search-{team}-milvus-{component}");
        let labels = json!({"app.kubernetes.io/name": "milvus", "app.kubernetes.io/instance": format!("search-{team}"), "component": component});
        let container = json!({"name": component, "image": "milvusdb/milvus:v2.4.5", "args": ["milvus", "run", component],
            "env": [{"name": "ETCD_ENDPOINTS", "value": format!("search-{team}-etcd:2379")}]});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}});
        made = Some(create::<Deployment>(client, &namespace, deployment).await);
    }
    change(&made.unwrap())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(name: &str, small: &Bed, large: &Bed, bodies: fn(&Bed) -> &[Vec<u8>]) {
    let (mut alone, mut among) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        let (one, other) = (
            small.ask(bodies(small), 0),
            large.ask(bodies(large), turn * SAMPLE),
        );
        // The first turn only warms up both clusters.
        if turn > 0 {
            alone.extend(one);
            among.extend(other);
        }
    }
    let (alone, among) = (median(alone), median(among));
    println!(
        "{name}: median {alone:.3} ms in the empty cluster, {among:.3} ms in the large one, ratio \
         {:.2}",
        among / alone
    );
}

fn main() {
    // `cargo test --all-targets` runs benchmarks too, without --bench.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let teams: usize = std::env::args()
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(5_000);
    let (small, large) = (Bed::start(1), Bed::start(teams));
    println!("{teams} namespaces, {} Deployments of Milvus", teams * 2);
    for _ in 0..2 {
        compare("the same release in both", &small, &large, |bed| &bed.same);
        compare(
            "a release in another namespace each time",
            &small,
            &large,
            |bed| &bed.spread,
        );
    }
    println!(
        "resident: {} MiB in the empty cluster, {} MiB in the large one",
        small.webhook.server.resident_kib() / 1024,
        large.webhook.server.resident_kib() / 1024
    );
}
