//! Small releases for the tests of rules. A fixture is rendered to manifests as a chart renders
//! them and read back through the real adapters, so a test judges what a user's input would give.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    reason = "a fixture of tests says what is wrong by panicking"
)]
#![allow(dead_code, reason = "a toolbox for every rule, present and to come")]

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    manifest::{Node, Object, Origin, documents},
    milvus::{Component, Release, Snapshot, Version, snapshot::Builder},
};

mod judging;

pub use judging::{
    judge, judge_change, judge_releases, judge_with, objects, objects_of, release_of, state,
};

/// A release under test: `my-release` in namespace `milvus`.
#[derive(Clone, Debug)]
pub struct Fixture {
    name: String,
    fullname: String,
    namespace: String,
    chart: String,
    app_version: String,
    repository: String,
    components: Vec<Part>,
    default_yaml: String,
    user_yaml: Option<String>,
    more: Vec<String>,
    helm: Option<(u64, String)>,
    chart_values: Option<String>,
    /// Whether charts that merge configuration files for old images do so.
    merges: bool,
}

#[derive(Clone, Debug)]
struct Part {
    component: Component,
    tag: String,
    replicas: i64,
    /// YAML lines for the workload's annotations, the pod spec and the container, without
    /// indentation.
    annotations: Vec<String>,
    pod: Vec<String>,
    container: Vec<String>,
    status: Vec<String>,
}

impl Fixture {
    /// A cluster with the components that a default chart of that version renders.
    pub fn cluster(version: &str) -> Self {
        use Component::{
            DataCoord, DataNode, IndexCoord, IndexNode, MixCoord, Proxy, QueryCoord, QueryNode,
            RootCoord, StreamingNode,
        };
        let number: Version = version.split('-').next().unwrap().parse().unwrap();
        let components: &[Component] = if number >= Version::new(2, 6, 0) {
            &[MixCoord, DataNode, QueryNode, StreamingNode, Proxy]
        } else if number >= Version::new(2, 4, 7) {
            &[MixCoord, IndexNode, DataNode, QueryNode, Proxy]
        } else {
            &[
                RootCoord, DataCoord, IndexCoord, QueryCoord, IndexNode, DataNode, QueryNode, Proxy,
            ]
        };
        Self::of(version, components)
    }

    /// A standalone.
    pub fn standalone(version: &str) -> Self {
        Self::of(version, &[Component::Standalone])
    }

    /// A release of these components.
    pub fn of(version: &str, components: &[Component]) -> Self {
        let part = |component: &Component| Part {
            component: *component,
            tag: format!("v{version}"),
            replicas: 1,
            annotations: Vec::new(),
            pod: Vec::new(),
            container: Vec::new(),
            status: Vec::new(),
        };
        Self {
            name: "my-release".into(),
            fullname: "my-release-milvus".into(),
            namespace: "milvus".into(),
            chart: "4.1.34".into(),
            app_version: version.into(),
            repository: "milvusdb/milvus".into(),
            components: components.iter().map(part).collect(),
            default_yaml: String::new(),
            user_yaml: None,
            more: Vec::new(),
            helm: None,
            chart_values: None,
            merges: true,
        }
    }

    /// Another name; the fullname follows as in the chart.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self.fullname = if name.contains("milvus") {
            name.into()
        } else {
            format!("{name}-milvus")
        };
        self
    }

    /// `fullnameOverride`.
    pub fn fullname(mut self, fullname: &str) -> Self {
        self.fullname = fullname.into();
        self
    }

    /// The namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The chart version in the labels.
    pub fn chart(mut self, version: &str) -> Self {
        self.chart = version.into();
        self
    }

    /// Without the init container that merges configuration files for images below 2.4.
    pub fn unmerged(mut self) -> Self {
        self.merges = false;
        self
    }

    /// The chart's appVersion in the label `app.kubernetes.io/version`.
    pub fn app_version(mut self, version: &str) -> Self {
        self.app_version = version.into();
        self
    }

    /// The image repository.
    pub fn repository(mut self, repository: &str) -> Self {
        self.repository = repository.into();
        self
    }

    /// What the image of every component has behind the repository's colon.
    pub fn tag(mut self, tag: &str) -> Self {
        self.components
            .iter_mut()
            .for_each(|part| part.tag = tag.into());
        self
    }

    /// The tag of one component.
    pub fn tag_of(mut self, component: Component, tag: &str) -> Self {
        self.part(component).tag = tag.into();
        self
    }

    /// The replicas of one component.
    pub fn replicas(mut self, component: Component, replicas: i64) -> Self {
        self.part(component).replicas = replicas;
        self
    }

    /// Everything scaled to zero.
    pub fn stopped(mut self) -> Self {
        self.components
            .iter_mut()
            .for_each(|part| part.replicas = 0);
        self
    }

    /// One more component.
    pub fn with(mut self, component: Component) -> Self {
        let mut part = self.components[0].clone();
        part.component = component;
        self.components.push(part);
        self
    }

    /// One component fewer.
    pub fn without(mut self, component: Component) -> Self {
        self.components.retain(|part| part.component != component);
        self
    }

    /// An annotation line (`key: value`) of one component's workload.
    pub fn annotation(mut self, component: Component, line: &str) -> Self {
        self.part(component).annotations.push(line.into());
        self
    }

    /// Lines of one component's pod spec, such as `terminationGracePeriodSeconds: 30`.
    pub fn pod(mut self, component: Component, lines: &str) -> Self {
        self.part(component)
            .pod
            .extend(lines.lines().map(str::to_owned));
        self
    }

    /// Lines of one component's container, such as `readinessProbe: {...}`.
    pub fn container(mut self, component: Component, lines: &str) -> Self {
        self.part(component)
            .container
            .extend(lines.lines().map(str::to_owned));
        self
    }

    /// Lines of one component's status.
    pub fn status(mut self, component: Component, lines: &str) -> Self {
        self.part(component)
            .status
            .extend(lines.lines().map(str::to_owned));
        self
    }

    /// `default.yaml`.
    pub fn default_yaml(mut self, text: &str) -> Self {
        self.default_yaml = text.into();
        self
    }

    /// `user.yaml`.
    pub fn user_yaml(mut self, text: &str) -> Self {
        self.user_yaml = Some(text.into());
        self
    }

    /// Another object of the same release, as YAML.
    pub fn object(mut self, yaml: &str) -> Self {
        self.more.push(yaml.into());
        self
    }

    /// A StatefulSet with one claim template, labelled as its chart labels it (`app: pulsar`,
    /// `app.kubernetes.io/name: etcd` ...).
    pub fn stateful_set(self, name: &str, label: &str, image: &str) -> Self {
        self.object(&format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: {name}\n  labels: {{{label}, release: my-release}}\nspec:\n  serviceName: {name}\n  replicas: 1\n  selector:\n    matchLabels: {{{label}, release: my-release}}\n  template:\n    metadata:\n      labels: {{{label}, release: my-release}}\n    spec:\n      containers:\n        - name: main\n          image: {image}\n  volumeClaimTemplates:\n    - metadata: {{name: data}}\n      spec:\n        accessModes: [ReadWriteOnce]\n        resources: {{requests: {{storage: 10Gi}}}}\n"
        ))
    }

    /// What Helm's storage holds: revision 1 with these user values.
    pub fn values(mut self, yaml: &str) -> Self {
        self.helm = Some((1, yaml.into()));
        self
    }

    /// What Helm's storage holds of the chart: its own values.
    pub fn chart_values(mut self, yaml: &str) -> Self {
        self.chart_values = Some(yaml.into());
        self
    }

    /// The chart as Helm stores it, where its values are known.
    pub fn stored_chart(&self) -> serde_json::Value {
        let Some(text) = &self.chart_values else {
            return serde_json::Value::Null;
        };
        let values = documents(text)
            .next()
            .expect("values")
            .expect("valid")
            .root
            .to_json();
        serde_json::json!({"metadata": {"name": "milvus", "version": self.chart}, "values": values, "templates": []})
    }

    fn part(&mut self, component: Component) -> &mut Part {
        self.components
            .iter_mut()
            .find(|part| part.component == component)
            .expect("a component of the fixture")
    }

    /// Helm's name of the release.
    pub fn release_name(&self) -> &str {
        &self.name
    }

    /// What the user set.
    pub fn user_values(&self) -> Option<Node> {
        let (_, text) = self.helm.as_ref()?;
        Some(
            documents(text)
                .next()
                .expect("values")
                .expect("valid")
                .root
                .into_owned(),
        )
    }

    /// The manifests, as the chart would render them.
    pub fn yaml(&self) -> String {
        let indent = |text: &str, by: usize| {
            text.lines()
                .map(|line| format!("{:by$}{line}\n", ""))
                .collect::<String>()
        };
        let mut text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {}\ndata:\n  default.yaml: |\n{}",
            self.fullname,
            indent(
                if self.default_yaml.is_empty() {
                    "etcd:\n  endpoints: [my-release-etcd:2379]\n"
                } else {
                    &self.default_yaml
                },
                4
            )
        );
        if let Some(user) = &self.user_yaml {
            text += &format!("  user.yaml: |\n{}", indent(user, 4));
        }
        for part in &self.components {
            let component = part.component.name();
            let run = if part.component == Component::MixCoord {
                "mixture, -rootcoord, -querycoord, -datacoord, -indexcoord".to_owned()
            } else {
                component.to_owned()
            };
            // Images before 2.4 do not read default.yaml and user.yaml: these charts merge them
            // first.
            let mounts = MOUNTS.map(str::to_owned);
            let is_old = ["v2.0.", "v2.1.", "v2.2.", "v2.3."]
                .iter()
                .any(|line| part.tag.starts_with(line));
            let merged = is_old
                && self.merges
                && ["3.", "4.0.", "4.1."]
                    .iter()
                    .any(|line| self.chart.starts_with(line));
            let mut pod_lines = part.pod.clone();
            if merged {
                let tool = "  - {name: config, image: \"milvusdb/milvus-config-tool:v0.1.2\", command: [/cp, /run-helm.sh, /merge, /milvus/tools]}";
                pod_lines = with_items(&pod_lines, "initContainers:", &[tool.to_owned()])
                    .lines()
                    .map(str::to_owned)
                    .collect();
            }
            let run = if merged {
                format!("/milvus/tools/run-helm.sh, milvus, run, {run}")
            } else {
                format!("milvus, run, {run}")
            };
            let separator = if part.tag.starts_with('@') { "" } else { ":" };
            text += &format!(
                "---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {fullname}-{component}\n  generation: 1\n  labels:\n    helm.sh/chart: milvus-{chart}\n    app.kubernetes.io/name: milvus\n    app.kubernetes.io/instance: {name}\n    app.kubernetes.io/version: \"{app}\"\n    app.kubernetes.io/managed-by: Helm\n    component: {component}\n  annotations:\n    meta.helm.sh/release-name: {name}\n{annotations}spec:\n  replicas: {replicas}\n  selector:\n    matchLabels: {{app.kubernetes.io/name: milvus, app.kubernetes.io/instance: {name}, component: {component}}}\n  template:\n    metadata:\n      labels: {{app.kubernetes.io/name: milvus, app.kubernetes.io/instance: {name}, component: {component}}}\n    spec:\n{pod}      containers:\n        - name: {component}\n          image: \"{repository}{separator}{tag}\"\n          args: [{run}]\n{container}",
                fullname = self.fullname,
                chart = self.chart,
                name = self.name,
                app = self.app_version,
                replicas = part.replicas,
                repository = self.repository,
                tag = part.tag,
                annotations = indent(&part.annotations.join("\n"), 4),
                pod = indent(
                    &with_items(
                        &pod_lines,
                        "volumes:",
                        &[format!(
                            "  - {{name: milvus-config, configMap: {{name: {}}}}}",
                            self.fullname
                        )]
                    ),
                    6
                ),
                container = indent(
                    &with_items(
                        &part.container,
                        "volumeMounts:",
                        if self.merges { &mounts } else { &[] }
                    ),
                    10
                ),
            );
            if !part.status.is_empty() {
                text += &format!("status:\n{}", indent(&part.status.join("\n"), 2));
            }
        }
        for object in &self.more {
            text += "---\n";
            text += object;
            if !object.ends_with('\n') {
                text.push('\n');
            }
        }
        text
    }

    /// Every object of the manifests.
    fn objects(&self) -> Vec<Object> {
        documents(&self.yaml())
            .map(|document| {
                let document = document.expect("a fixture renders valid YAML");
                let origin = Origin {
                    source: "manifest.yaml".into(),
                    document: document.index,
                    line: document.root.line,
                };
                Object::read(&document.root, &origin, Some(&self.namespace)).expect("an object")
            })
            .collect()
    }

    /// Everything that the manifests hold.
    pub fn snapshot(&self) -> Snapshot {
        let mut builder = Builder::default();
        for object in self.objects() {
            builder.add(object);
        }
        if let Some(values) = self.user_values() {
            let stored = serde_json::json!({
                "name": self.name, "namespace": self.namespace, "version": 1, "info": {"status": "deployed"},
                "config": values.to_json(), "chart": self.stored_chart(),
            });
            let stored = crate::helm::codec::decode_payload(
                BASE64_STANDARD.encode(stored.to_string()).as_bytes(),
            )
            .expect("a record");
            builder.add_helm(&self.name, Some(&self.namespace), stored.kept());
        }
        builder.build()
    }

    /// The one release.
    pub fn release(&self) -> Release {
        self.snapshot()
            .releases
            .into_iter()
            .next()
            .expect("a release")
    }
}

/// The configuration as charts from 3.3.2 on mount it.
const MOUNTS: [&str; 2] = [
    "  - {name: milvus-config, mountPath: /milvus/configs/default.yaml, subPath: default.yaml}",
    "  - {name: milvus-config, mountPath: /milvus/configs/user.yaml, subPath: user.yaml}",
];

/// Lines of YAML with these items in the list under `key`, which is made if it is not there.
fn with_items(lines: &[String], key: &str, items: &[String]) -> String {
    if items.is_empty() {
        return lines.join("\n");
    }
    let mut all = lines.to_vec();
    let at = all.iter().position(|line| line == key).unwrap_or_else(|| {
        all.push(key.to_owned());
        all.len() - 1
    });
    all.splice(at + 1..=at, items.iter().cloned());
    all.join("\n")
}
