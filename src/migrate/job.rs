//! The Job that migrates in the cluster, where etcd can be reached, and what it may do there. Pure: objects as JSON.

use serde_json::{Map, Value, json};

use crate::run::store::labels;

use super::settings::{Operation, Settings, StartBy};

/// Label of everything that belongs to a run's Job.
pub const RUN_LABEL: &str = "guard.milvus.io/run";
/// Label of a Job: what it does with the run.
pub const OPERATION_LABEL: &str = "guard.milvus.io/operation";
/// Folder of the backup volume in the pod.
const BACKUP_DIR: &str = "/backup";
/// Folder of etcd's credentials in the pod.
const CREDENTIALS_DIR: &str = "/etc/milvus-guard/etcd";
/// User and group of our image.
const USER: i64 = 65532;
/// For a pod that is asked to end: one request to the API server that hangs, and the last word.
const GRACE_SECONDS: i64 = 60;
/// Pods that may die (evicted nodes do not count) before a person has to look.
const RETRIES: i64 = 4;
/// Container of the pod.
pub const CONTAINER: &str = "migrate";

/// What the Job is made from.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// What it is to do.
    pub settings: Settings,
    /// With which run.
    pub operation: Operation,
    /// Name of the run.
    pub run: String,
    /// Its namespace.
    pub home: String,
    /// Service account.
    pub account: String,
    /// Whether the account is made for the run, and goes with it.
    pub makes_account: bool,
    /// Whether rights are granted for the run.
    pub grants: bool,
    /// Our image.
    pub image: String,
    /// Claim of the backup; absent where the run makes none.
    pub claim: Option<String>,
    /// Storage class of a new claim; absent means the default one.
    pub storage_class: Option<String>,
    /// Size of a new claim.
    pub size: String,
    /// Secret with etcd's credentials.
    pub etcd_secret: Option<String>,
    /// What is merged into the Job.
    pub overrides: Option<Value>,
}

/// What the Job needs in the namespace of the release.
#[must_use]
pub fn rules_in_release() -> Value {
    json!([
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["configmaps", "services", "persistentvolumeclaims"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
        {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": ["list", "patch"]},
    ])
}

/// What the Job needs in its own namespace; with the official tool, that tool's pod and configuration too.
#[must_use]
pub fn rules_at_home(with_tool: bool) -> Value {
    let mut rules = vec![
        json!({"apiGroups": ["guard.milvus.io"], "resources": ["upgraderuns"], "verbs": ["get", "list", "create"]}),
        json!({"apiGroups": ["guard.milvus.io"], "resources": ["upgraderuns/status"], "verbs": ["patch"]}),
        json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]}),
        json!({"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]}),
    ];
    if with_tool {
        rules.push(json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "create", "delete"]}));
        rules.push(json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "patch", "delete"]}));
    }
    rules.into()
}

impl JobSpec {
    /// Name of the Job.
    #[must_use]
    pub fn name(&self) -> String {
        match self.operation {
            Operation::Migrate | Operation::Record => self.run.clone(),
            Operation::Rollback | Operation::Abort => format!("{}-{}", self.run, self.operation.name()),
        }
    }

    /// Account and rights, in the order in which they are made. They are taken back when the run has ended.
    #[must_use]
    pub fn access(&self) -> Vec<Value> {
        let mut objects = Vec::new();
        if self.makes_account {
            objects.push(json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": self.meta(&self.account, &self.home),
                "automountServiceAccountToken": false,
            }));
        }
        if self.grants {
            let release = &self.settings.release.namespace;
            let at_home = rules_at_home(self.settings.tool_image.is_some());
            if *release == self.home {
                let rules = [rules_in_release(), at_home].into_iter().filter_map(|rules| rules.as_array().cloned()).flatten();
                objects.extend(self.grant(release, rules.collect()));
            } else {
                objects.extend(self.grant(release, rules_in_release()));
                objects.extend(self.grant(&self.home, at_home));
            }
        }
        objects
    }

    fn grant(&self, namespace: &str, rules: Value) -> [Value; 2] {
        let api = "rbac.authorization.k8s.io/v1";
        let meta = self.meta(&self.run, namespace);
        [
            json!({"apiVersion": api, "kind": "Role", "metadata": meta, "rules": rules}),
            json!({
                "apiVersion": api, "kind": "RoleBinding", "metadata": meta,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": self.run},
                "subjects": [{"kind": "ServiceAccount", "name": self.account, "namespace": self.home}],
            }),
        ]
    }

    /// The claim of the backup, which outlives everything else.
    #[must_use]
    pub fn claim(&self) -> Option<Value> {
        let claim = self.claim.as_ref()?;
        let mut object = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": self.meta(claim, &self.home),
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": self.size}}},
        });
        if let Some(class) = &self.storage_class {
            object["spec"]["storageClassName"] = class.clone().into();
        }
        Some(object)
    }

    /// The Job, with what the user wants of it merged in.
    #[must_use]
    pub fn job(&self) -> Value {
        let mut mounts = vec![json!({"name": "tmp", "mountPath": "/tmp"})];
        let mut volumes = vec![json!({"name": "tmp", "emptyDir": {}})];
        if let Some(claim) = &self.claim {
            mounts.push(json!({"name": "backup", "mountPath": BACKUP_DIR}));
            volumes.push(json!({"name": "backup", "persistentVolumeClaim": {"claimName": claim}}));
        }
        if let Some(secret) = &self.etcd_secret {
            mounts.push(json!({"name": "etcd", "mountPath": CREDENTIALS_DIR, "readOnly": true}));
            volumes.push(json!({"name": "etcd", "secret": {"secretName": secret, "defaultMode": 0o440}}));
        }
        let mut meta = self.meta(&self.name(), &self.home);
        meta["labels"][OPERATION_LABEL] = self.operation.name().into();
        let mut job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": meta,
            "spec": {
                "backoffLimit": RETRIES,
                // Exit codes of our own say that a person has to look. A pod that is killed or evicted is made anew and goes on.
                "podFailurePolicy": {"rules": [
                    {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [1, 2, 3, 4, 5]}},
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]},
                "template": {
                    "metadata": {"labels": meta["labels"]},
                    "spec": {
                        "serviceAccountName": self.account,
                        "automountServiceAccountToken": true,
                        "restartPolicy": "Never",
                        "terminationGracePeriodSeconds": GRACE_SECONDS,
                        "securityContext": {
                            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "containers": [{
                            "name": CONTAINER,
                            "image": self.image,
                            "args": self.args(),
                            "env": [{"name": "HOSTNAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                            "securityContext": {
                                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                            },
                            "terminationMessagePolicy": "FallbackToLogsOnError",
                            "volumeMounts": mounts,
                        }],
                        "volumes": volumes,
                    },
                },
            },
        });
        if let Some(overrides) = &self.overrides {
            merge(&mut job, overrides);
        }
        job
    }

    /// The same command, to be done where it stands.
    fn args(&self) -> Vec<String> {
        let settings = &self.settings;
        let mut args =
            vec!["migrate".to_owned(), "--local".into(), "--progress=plain".into(), "--end-file=/dev/termination-log".into()];
        let mut flag = |name: &str, value: &str| args.push(format!("--{name}={value}"));
        flag("run", &self.run);
        flag("run-namespace", &self.home);
        flag("instance", &settings.release.name);
        flag("namespace", &settings.release.namespace);
        flag("source-version", &settings.source.to_string());
        flag("target-version", &settings.target.to_string());
        flag("step-timeout", &format!("{}s", settings.step.as_secs()));
        flag("timeout", &format!("{}s", settings.total.as_secs()));
        flag("lock-holds", &format!("{}s", settings.lock.as_secs()));
        for (name, value) in [
            ("root-path", &settings.root_path),
            ("image", &settings.image),
            ("migration-image", &settings.tool_image),
            ("requested-by", &settings.requested_by),
            ("backup-claim", &self.claim),
        ] {
            if let Some(value) = value {
                flag(name, value);
            }
        }
        if self.claim.is_some() {
            flag("backup-dir", BACKUP_DIR);
        } else {
            flag("backup-dir", "/tmp");
        }
        if !settings.etcd.is_empty() {
            flag("etcd", &settings.etcd.join(","));
        }
        if self.etcd_secret.is_some() {
            flag("etcd-credentials", CREDENTIALS_DIR);
        }
        match self.operation {
            Operation::Migrate => {}
            Operation::Rollback | Operation::Abort => flag("operation", self.operation.name()),
            Operation::Record => args.push("--record-only".into()),
        }
        if settings.start == StartBy::Helm {
            args.push("--start=helm".into());
        }
        if settings.back_on_failure {
            args.push("--on-failure=rollback".into());
        }
        if settings.accept_data_loss {
            args.push("--accept-data-loss".into());
        }
        args
    }

    fn meta(&self, name: &str, namespace: &str) -> Value {
        let mut labels = labels(&self.settings.release);
        labels[RUN_LABEL] = self.run.clone().into();
        json!({"name": name, "namespace": namespace, "labels": labels})
    }
}

/// Merges as `kubectl patch --type=strategic` does where it matters: maps key by key, null removes, lists of named things name
/// by name, other lists whole.
pub fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.remove(key);
                } else {
                    merge(into.entry(key.clone()).or_insert_with(|| absent(value)), value);
                }
            }
        }
        (Value::Array(into), Value::Array(from)) if is_named(into) && is_named(from) => {
            for value in from {
                match into.iter_mut().find(|old| old["name"] == value["name"]) {
                    Some(old) => merge(old, value),
                    None => into.push(value.clone()),
                }
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn absent(like: &Value) -> Value {
    if like.is_object() { Map::new().into() } else { Value::Null }
}

fn is_named(list: &[Value]) -> bool {
    list.iter().all(|one| one.get("name").is_some_and(Value::is_string))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::words::tests::settings;

    fn spec() -> JobSpec {
        JobSpec {
            settings: settings(),
            operation: Operation::Migrate,
            run: "migrate-my-release-1".into(),
            home: "milvus-guard".into(),
            account: "milvus-guard-job".into(),
            makes_account: false,
            grants: true,
            image: "milvus-guard:1".into(),
            claim: Some("migrate-my-release-1".into()),
            storage_class: Some("fast".into()),
            size: "10Gi".into(),
            etcd_secret: Some("etcd".into()),
            overrides: None,
        }
    }

    #[test]
    fn the_job_does_the_same_command_in_place() {
        let job = spec().job();
        let args: Vec<&str> = job["spec"]["template"]["spec"]["containers"][0]["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| arg.as_str().unwrap())
            .collect();
        for arg in
            ["migrate", "--local", "--run=migrate-my-release-1", "--instance=my-release", "--backup-claim=migrate-my-release-1"]
        {
            assert!(args.contains(&arg), "{arg} is not in {args:?}");
        }
        assert!(!args.iter().any(|arg| arg.starts_with("--operation")));
        let back = JobSpec { operation: Operation::Rollback, ..spec() };
        assert_eq!(back.name(), "migrate-my-release-1-rollback");
        assert!(back.job()["spec"]["template"]["spec"]["containers"][0]["args"].to_string().contains("--operation=rollback"));
    }

    #[test]
    fn the_pod_meets_the_restricted_profile() {
        let job = spec().job();
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(
            (&container["allowPrivilegeEscalation"], &container["capabilities"]["drop"]),
            (&json!(false), &json!(["ALL"]))
        );
    }

    #[test]
    fn rights_are_granted_in_both_namespaces_or_in_the_one() {
        let kinds = |spec: &JobSpec| -> Vec<String> {
            spec.access()
                .iter()
                .map(|one| format!("{}/{}", one["metadata"]["namespace"].as_str().unwrap(), one["kind"].as_str().unwrap()))
                .collect()
        };
        let apart = ["milvus/Role", "milvus/RoleBinding", "milvus-guard/Role", "milvus-guard/RoleBinding"];
        assert_eq!(kinds(&spec()), apart);
        let together = JobSpec { home: "milvus".into(), makes_account: true, ..spec() };
        assert_eq!(kinds(&together), ["milvus/ServiceAccount", "milvus/Role", "milvus/RoleBinding"]);
        assert!(JobSpec { grants: false, ..spec() }.access().is_empty());
    }

    #[test]
    fn overrides_are_merged_name_by_name() {
        let overrides = json!({"spec": {"backoffLimit": null, "template": {"spec": {
            "nodeSelector": {"disk": "ssd"},
            "containers": [{"name": CONTAINER, "resources": {"limits": {"memory": "2Gi"}}}],
            "imagePullSecrets": [{"name": "registry"}],
        }}}});
        let job = JobSpec { overrides: Some(overrides), ..spec() }.job();
        let pod = &job["spec"]["template"]["spec"];
        assert!(job["spec"].get("backoffLimit").is_none());
        assert_eq!(pod["nodeSelector"]["disk"], "ssd");
        assert_eq!(pod["containers"][0]["image"], "milvus-guard:1");
        assert_eq!(pod["containers"][0]["resources"]["limits"]["memory"], "2Gi");
        assert_eq!(pod["imagePullSecrets"][0]["name"], "registry");
    }
}
