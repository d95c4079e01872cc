//! Deployment tools on a real API server: the requests of Argo CD, Flux and Terraform, in their
//! order and under their names.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use crate::common::{
    Chart,
    kubelet::Nodes,
    webhook::{GUARD, Webhook, stored_memory, wait_until},
};
use milvus_guard_core::manifest::documents;
use milvus_guard_testbed::{Helm, expect_success};
use serde_json::{Value, json};

/// Pods with this image never become ready.
const BROKEN: &str = "v2.3.22";

/// One cluster for all tests that run at the same time.
struct SharedCluster {
    _nodes: Nodes,
    webhook: Webhook,
}

impl SharedCluster {
    fn share() -> Arc<Self> {
        static SHARED: Mutex<Weak<SharedCluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let webhook = Webhook::start();
            let setup = Arc::new(Self {
                _nodes: Nodes::with_mounts(&webhook.cluster, BROKEN),
                webhook,
            });
            *shared = Arc::downgrade(&setup);
            setup
        })
    }
}

/// A namespace with one Milvus.
struct Site<'a> {
    webhook: &'a Webhook,
    namespace: String,
}

/// The result of a tool: whether it succeeded, and its output.
struct Outcome {
    done: bool,
    text: String,
}

impl Outcome {
    #[track_caller]
    fn assert_done(&self) {
        assert!(self.done, "{}", self.text);
    }

    #[track_caller]
    fn assert_denied(&self, rule: &str) {
        assert!(
            !self.done && self.text.contains(rule) && self.text.contains("denied the request"),
            "{rule}: {}",
            self.text
        );
    }
}

impl<'a> Site<'a> {
    fn new(setup: &'a SharedCluster, namespace: &str) -> Self {
        expect_success(
            setup
                .webhook
                .cluster
                .kubectl(["create", "namespace", namespace]),
        );
        Self {
            webhook: &setup.webhook,
            namespace: namespace.to_owned(),
        }
    }

    fn get(&self, path: &str) -> Vec<Value> {
        let list = self
            .webhook
            .cluster
            .get_json(&path.replace("{}", &format!("namespaces/{}", self.namespace)));
        list["items"].as_array().unwrap().clone()
    }

    fn deployments(&self) -> Vec<Value> {
        self.get("/apis/apps/v1/{}/deployments")
    }

    /// Waits until all components run this version and no pod of another version is left.
    #[track_caller]
    fn settle(&self, tag: &str) {
        wait_until(
            "every component is rolled out",
            Duration::from_secs(90),
            || {
                self.deployments().iter().all(|item| {
                    let (status, wanted) = (&item["status"], &item["spec"]["replicas"]);
                    status["observedGeneration"] == item["metadata"]["generation"]
                        && ["updatedReplicas", "availableReplicas", "replicas"]
                            .iter()
                            .all(|key| &status[*key] == wanted)
                })
            },
        );
        self.assert_at(tag);
    }

    #[track_caller]
    fn assert_at(&self, tag: &str) {
        let images = self.webhook.images(&self.namespace);
        assert!(
            images.len() > 4
                && images
                    .iter()
                    .all(|image| image.ends_with(&format!(":{tag}"))),
            "{tag}: {images:?}"
        );
    }

    /// The configuration that determines the data location.
    fn settings(&self) -> Vec<Value> {
        let configs = self
            .get("/api/v1/{}/configmaps")
            .into_iter()
            .filter(|config| config["data"].get("default.yaml").is_some());
        configs.map(|config| config["data"].clone()).collect()
    }

    fn stateful(&self) -> Vec<String> {
        let sets = self.get("/apis/apps/v1/{}/statefulsets");
        sets.iter()
            .map(|set| set["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    }

    fn kubectl(&self, args: &[&str], objects: &[Value]) -> Outcome {
        let text = objects
            .iter()
            .map(|object| format!("---\n{object}\n"))
            .collect::<String>();
        let args = ["-n", &self.namespace]
            .iter()
            .chain(args)
            .copied()
            .collect::<Vec<&str>>();
        loop {
            let output = self.webhook.cluster.kubectl_with_input(&args, &text);
            let said = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            // A controller wrote to the object between kubectl's read and write: the tools also
            // retry.
            if !output.status.success() && said.contains("the object has been modified") {
                continue;
            }
            return Outcome {
                done: output.status.success(),
                text: said,
            };
        }
    }

    fn helm(&self, with: Helm, args: &[&str]) -> Outcome {
        let all: Vec<&str> = args
            .iter()
            .copied()
            .chain(["-n", &self.namespace])
            .collect();
        let (done, text) = self.webhook.helm(with, &all);
        Outcome { done, text }
    }

    /// The objects of a chart as a tool renders them.
    fn render(&self, chart: &Chart, values: &[&str]) -> Vec<Value> {
        let text = chart.render_in(&self.namespace, Helm::V4, values);
        let mut objects: Vec<Value> = documents(&text)
            .map(|document| document.unwrap().root.to_json())
            .filter(Value::is_object)
            .collect();
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(self.namespace);
        }
        objects
    }

    /// Waits until the guard has stored that every component was available at this version.
    fn remember(&self, version: &str) {
        wait_until(
            "the guard has stored the available version",
            Duration::from_secs(30),
            || {
                stored_memory(&self.webhook.cluster, &self.namespace)
                    .contains(&format!(r#""settled":"{version}""#))
            },
        );
    }
}

fn tag(version: &str) -> String {
    format!("image.all.tag={version}")
}

/// A tool that applies a chart with values.
trait Tool {
    fn put(&self, site: &Site<'_>, chart: &Chart, values: &[&str]) -> Outcome;
}

/// A value that moves the metadata to another root path.
const ROOT: &str = "extraConfigFiles.user\\.yaml=etcd: {rootPath: elsewhere}";

/// Changes that every tool makes to a Milvus: patch releases are allowed, changes that lose data
/// are denied on every attempt, and a rollback is allowed.
fn upgrades<'a>(setup: &'a SharedCluster, tool: &impl Tool, namespace: &str) -> Site<'a> {
    let site = Site::new(setup, namespace);
    let chart = Chart::compact("4.1.34");
    let put = |values: &[&str]| tool.put(&site, &chart, values);
    put(&[&tag("v2.3.20")]).assert_done();
    site.settle("v2.3.20");
    site.remember("2.3.20");
    put(&[&tag("v2.3.21")]).assert_done();
    site.settle("v2.3.21");
    site.remember("2.3.21");

    let now = tag("v2.3.21");
    let (settings, stateful) = (site.settings(), site.stateful());
    for (values, rule) in [
        (&[&*tag("v2.2.16")][..], "MG103"),
        (&[&now, ROOT], "MG302"),
        (&[&now, "queue=kafka"], "MG301"),
    ] {
        for _ in 0..2 {
            put(values).assert_denied(rule);
            assert_eq!(
                (site.settings(), site.stateful()),
                (settings.clone(), stateful.clone()),
                "{rule}"
            );
            site.assert_at("v2.3.21");
        }
    }
    put(&[&now]).assert_done();
    site.settle("v2.3.21");

    // An upgrade that never becomes available is rolled back.
    put(&[&tag(BROKEN)]).assert_done();
    site.assert_at(BROKEN);
    put(&[&now]).assert_done();
    site.settle("v2.3.21");
    site
}

/// A Milvus 2.1 cannot become 2.2 without a migration of its metadata.
fn skips_migration(setup: &SharedCluster, tool: &impl Tool, namespace: &str) {
    let site = Site::new(setup, namespace);
    tool.put(&site, &Chart::compact("3.2.18"), &[])
        .assert_done();
    site.settle("v2.1.4");
    for _ in 0..2 {
        tool.put(&site, &Chart::compact("4.0.31"), &[])
            .assert_denied("MG101");
        site.assert_at("v2.1.4");
    }
}

/// How Argo CD sends an object.
#[derive(Clone, Copy, Debug)]
enum Way {
    ClientSide,
    ServerSide,
    /// The sync option `Replace=true`.
    Replace,
}

/// Argo CD: no record of Helm, its own tracking labels and order; a failure does not stop the rest
/// of a wave.
struct Argo {
    app: &'static str,
    way: Way,
    /// Kinds by wave; all other kinds come last.
    waves: &'static [&'static str],
}

impl Argo {
    fn objects(&self, site: &Site<'_>, chart: &Chart, values: &[&str]) -> Vec<Value> {
        let mut objects = site.render(chart, values);
        for object in &mut objects {
            let (kind, name) = (
                object["kind"].as_str().unwrap().to_owned(),
                object["metadata"]["name"].as_str().unwrap().to_owned(),
            );
            let id = format!("{}:apps/{kind}:{}/{name}", self.app, site.namespace);
            // Both kinds of tracking: the label overwrites that of the chart.
            object["metadata"]["labels"]["app.kubernetes.io/instance"] = json!(self.app);
            object["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = json!(id);
            object["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"] =
                json!(self.wave(&kind).to_string());
        }
        objects.sort_by_key(|object| {
            (
                self.wave(object["kind"].as_str().unwrap()),
                object["metadata"]["name"].as_str().unwrap().to_owned(),
            )
        });
        objects
    }

    fn wave(&self, kind: &str) -> usize {
        self.waves
            .iter()
            .position(|wave| *wave == kind)
            .unwrap_or(self.waves.len())
    }

    /// Deletes unwanted objects, as a sync with `prune` does before it applies.
    fn prune(&self, site: &Site<'_>, wanted: &[Value]) -> Outcome {
        let mut outcome = Outcome {
            done: true,
            text: String::new(),
        };
        for kind in ["statefulset", "deployment", "configmap", "service"] {
            let selector = format!("-lapp.kubernetes.io/instance={}", self.app);
            let listed = site.kubectl(
                &[
                    "get",
                    kind,
                    &selector,
                    "-o",
                    "jsonpath={.items[*].metadata.name}",
                ],
                &[],
            );
            for name in listed.text.split_whitespace() {
                let is_wanted = |object: &Value| {
                    object["metadata"]["name"] == name
                        && object["kind"].as_str().unwrap().eq_ignore_ascii_case(kind)
                };
                if !wanted.iter().any(is_wanted) {
                    let one = site.kubectl(
                        &["delete", kind, name, "--cascade=foreground", "--wait=false"],
                        &[],
                    );
                    outcome.done &= one.done;
                    outcome.text += &one.text;
                }
            }
        }
        outcome
    }
}

impl Tool for Argo {
    fn put(&self, site: &Site<'_>, chart: &Chart, values: &[&str]) -> Outcome {
        let verb: &[&str] = match self.way {
            Way::ClientSide => &["apply"],
            Way::ServerSide => &["apply", "--server-side", "--force-conflicts"],
            Way::Replace if site.deployments().is_empty() => &["create"],
            Way::Replace => &["replace"],
        };
        let args = [verb, &["--field-manager=argocd-controller", "-f", "-"]].concat();
        site.kubectl(&args, &self.objects(site, chart, values))
    }
}

#[test]
fn argo_cd_with_client_side_apply_and_workloads_in_the_first_wave() {
    let setup = SharedCluster::share();
    let argo = Argo {
        app: "search",
        way: Way::ClientSide,
        waves: &["Deployment", "StatefulSet", "Service"],
    };
    let site = upgrades(&setup, &argo, "argo-client");
    let before = site.stateful();
    let wanted = argo.objects(
        &site,
        &Chart::compact("4.1.34"),
        &[&tag("v2.3.21"), "queue=kafka"],
    );
    argo.prune(&site, &wanted).assert_denied("MG401");
    assert_eq!(site.stateful(), before);
}

#[test]
fn argo_cd_with_server_side_apply() {
    let setup = SharedCluster::share();
    upgrades(
        &setup,
        &Argo {
            app: "search",
            way: Way::ServerSide,
            waves: &["ConfigMap", "Service", "Deployment"],
        },
        "argo-server",
    );
}

#[test]
fn argo_cd_with_replace() {
    let setup = SharedCluster::share();
    upgrades(
        &setup,
        &Argo {
            app: "my-release",
            way: Way::Replace,
            waves: &["StatefulSet", "Deployment"],
        },
        "argo-replace",
    );
}

/// A tool that contains Helm, and its flags.
struct BuiltIn {
    helm: Helm,
    flags: &'static [&'static str],
}

impl Tool for BuiltIn {
    fn put(&self, site: &Site<'_>, chart: &Chart, values: &[&str]) -> Outcome {
        let mut args = vec!["upgrade", "--install", "my-release", chart.path()];
        args.extend(self.flags);
        args.extend(values.iter().flat_map(|value| ["--set", *value]));
        let outcome = site.helm(self.helm, &args);
        let stopped = outcome.text.contains("denied the request");
        assert!(
            !stopped || outcome.text.contains("Nothing was changed"),
            "a denial must come before any change: {}",
            outcome.text
        );
        outcome
    }
}

/// A failed upgrade is rolled back by the tool.
fn rolls_back(site: &Site<'_>, tool: &BuiltIn) {
    let chart = Chart::compact("4.1.34");
    let last = || {
        let text = site
            .helm(tool.helm, &["history", "my-release", "-o", "json"])
            .text;
        let history: Value = serde_json::from_str(&text).unwrap();
        let last = history.as_array().unwrap().last().unwrap();
        (
            last["revision"].as_i64().unwrap(),
            last["status"].as_str().unwrap().to_owned(),
        )
    };
    let (before, _) = last();
    let broken = tag(BROKEN);
    let mut args = vec![
        "upgrade",
        "my-release",
        chart.path(),
        "--set",
        &broken,
        "--rollback-on-failure",
        "--timeout=5s",
    ];
    args.extend(tool.flags);
    let outcome = site.helm(tool.helm, &args);
    assert!(
        !outcome.done && !outcome.text.contains("denied the request"),
        "{}",
        outcome.text
    );
    site.settle("v2.3.21");
    let (after, status) = last();
    assert_eq!(
        (after, &*status),
        (before + 2, "deployed"),
        "{}",
        outcome.text
    );
}

/// Requests that use a field manager of Helm for an object that Helm created, without a decision:
/// the findings about data still deny.
fn claims(site: &Site<'_>) {
    let (done, text) = site.webhook.kubectl(&[
        "-n",
        GUARD,
        "delete",
        "releasedecisions",
        &format!("{}.my-release", site.namespace),
    ]);
    assert!(done, "{text}");
    let set = |manager: &str, tag: &str| {
        let (image, manager) = (
            format!("querynode=milvusdb/milvus:{tag}"),
            format!("--field-manager={manager}"),
        );
        let args = [
            "set",
            "image",
            "deployment/my-release-milvus-querynode",
            &image,
            &manager,
            "--dry-run=server",
        ];
        site.kubectl(&args, &[])
    };
    for manager in ["helm", "helm-controller", "terraform-provider-helm_v3.1.1"] {
        set(manager, "v2.2.16").assert_denied("MG103");
        let outcome = set(manager, "v2.4.5");
        assert!(
            outcome.done && outcome.text.contains("MG201"),
            "a rule that protects no data must only warn: {}",
            outcome.text
        );
    }
    for manager in [
        "Helm",
        "helm-",
        "helm-controller-2",
        "terraform-provider-helmet",
        "argocd-controller",
    ] {
        set(manager, "v2.4.5").assert_denied("MG201");
    }
}

#[test]
fn flux_with_its_helm_controller() {
    let setup = SharedCluster::share();
    let flux = BuiltIn {
        helm: Helm::Flux,
        flags: &["--server-side=true"],
    };
    let site = upgrades(&setup, &flux, "flux");
    skips_migration(&setup, &flux, "flux-old");
    rolls_back(&site, &flux);

    // A user changes an object of Flux, and Flux corrects the drift: with a JSON patch, or with a
    // creation if the object no longer exists.
    let proxy = "deployment/my-release-milvus-proxy";
    let correct = || {
        let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "milvusdb/milvus:v2.3.21"}]);
        site.kubectl(
            &[
                "patch",
                proxy,
                "--type=json",
                "--field-manager=helm-controller",
                "-p",
                &patch.to_string(),
            ],
            &[],
        )
    };
    let drift = || {
        site.kubectl(
            &["set", "image", proxy, "proxy=milvusdb/milvus:v2.3.20"],
            &[],
        )
    };
    drift().assert_done();
    correct().assert_done();
    site.settle("v2.3.21");
    claims(&site);
    drift().assert_done();
    correct().assert_done();
    site.settle("v2.3.21");
    let (_, text) = setup.webhook.kubectl(&[
        "-n",
        "flux",
        "get",
        "configmap",
        "my-release-milvus",
        "-o",
        "json",
    ]);
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for key in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
    ] {
        config["metadata"].as_object_mut().unwrap().remove(key);
    }
    site.kubectl(&["delete", "configmap", "my-release-milvus"], &[])
        .assert_done();
    let create = |object: &Value| {
        site.kubectl(
            &["create", "--field-manager=helm-controller", "-f", "-"],
            std::slice::from_ref(object),
        )
    };
    let mut moved = config.clone();
    moved["data"]["user.yaml"] = json!("etcd: {rootPath: elsewhere}");
    create(&moved).assert_denied("MG302");
    create(&config).assert_done();
}

#[test]
fn terraform_with_its_helm_provider() {
    let setup = SharedCluster::share();
    // The provider contains Helm 3, which patches existing objects.
    let terraform = BuiltIn {
        helm: Helm::Terraform,
        flags: &["--server-side=false"],
    };
    let site = upgrades(&setup, &terraform, "terraform-helm");
    rolls_back(&site, &terraform);
}

/// Terraform's Kubernetes provider: one request for each resource, in any order.
struct Kubernetes {
    /// Whether the resources are `kubernetes_manifest`.
    is_manifest: bool,
}

impl Tool for Kubernetes {
    fn put(&self, site: &Site<'_>, chart: &Chart, values: &[&str]) -> Outcome {
        let mut objects = site.render(chart, values);
        objects.sort_by_key(|object| {
            std::cmp::Reverse(object["metadata"]["name"].as_str().unwrap().to_owned())
        });
        if self.is_manifest {
            return site.kubectl(
                &[
                    "apply",
                    "--server-side",
                    "--field-manager=Terraform",
                    "-f",
                    "-",
                ],
                &objects,
            );
        }
        if site.deployments().is_empty() {
            return site.kubectl(
                &["create", "--field-manager=HashiCorp", "-f", "-"],
                &objects,
            );
        }
        let mut outcome = Outcome {
            done: true,
            text: String::new(),
        };
        for object in objects.iter().filter(|object| {
            ["Deployment", "ConfigMap"].contains(&object["kind"].as_str().unwrap())
        }) {
            let part = if object["kind"] == "ConfigMap" {
                "data"
            } else {
                "spec"
            };
            let patch =
                json!([{"op": "replace", "path": format!("/{part}"), "value": object[part]}])
                    .to_string();
            let name = format!(
                "{}/{}",
                object["kind"].as_str().unwrap(),
                object["metadata"]["name"].as_str().unwrap()
            );
            let one = site.kubectl(
                &[
                    "patch",
                    &name,
                    "--type=json",
                    "--field-manager=HashiCorp",
                    "-p",
                    &patch,
                ],
                &[],
            );
            outcome.done &= one.done;
            outcome.text += &one.text;
        }
        outcome
    }
}

#[test]
fn terraform_with_resources_of_its_kubernetes_provider() {
    let setup = SharedCluster::share();
    upgrades(
        &setup,
        &Kubernetes { is_manifest: false },
        "terraform-typed",
    );
    skips_migration(
        &setup,
        &Kubernetes { is_manifest: false },
        "terraform-typed-old",
    );
}

#[test]
fn terraform_with_manifests() {
    let setup = SharedCluster::share();
    upgrades(
        &setup,
        &Kubernetes { is_manifest: true },
        "terraform-manifest",
    );
}
