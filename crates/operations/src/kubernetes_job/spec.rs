//! The Job that carries out a run in the cluster, and its rights. Pure: objects as JSON.

use serde_json::{Map, Value, json};

use crate::engine::{Intent, ReleaseName, run_record::labels};

/// Label of everything that belongs to a run's Job.
pub const RUN_LABEL: &str = "guard.milvus.io/run";
/// Label of a Job: what it does with the run.
pub const OPERATION_LABEL: &str = "guard.milvus.io/operation";
/// User and group of our image.
const USER: i64 = 65532;
/// Time for a pod to end: one request to the API server that hangs, and the final message.
const GRACE_SECONDS: i64 = 60;
/// Pods that may fail before the Job fails. Evicted pods do not count.
const RETRIES: i64 = 4;

/// What the Job is made from.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// Name of the Job.
    pub name: String,
    /// The verb that it runs; its container has the same name.
    pub verb: &'static str,
    /// What it does with the run, as the value of its label.
    pub operation: &'static str,
    /// The intent of the command, which decides what counts as success.
    pub intent: Intent,
    /// Arguments after the verb.
    pub args: Vec<String>,
    /// The release.
    pub release: ReleaseName,
    /// Name of the run.
    pub run: String,
    /// Its namespace.
    pub home: String,
    /// Service account.
    pub account: String,
    /// Whether the account is created for the run, and deleted after it.
    pub makes_account: bool,
    /// Rights that are granted for the run; absent if the account has its own.
    pub rights: Option<Rights>,
    /// Image of milvus-guard.
    pub image: String,
    /// A claim that is mounted, and created if it does not exist.
    pub claim: Option<Claim>,
    /// Secrets that are mounted.
    pub secrets: Vec<Mounted>,
    /// Overrides that are merged into the Job.
    pub overrides: Option<Value>,
}

/// The rights of a Job in addition to those on its own record.
#[derive(Clone, Debug)]
pub struct Rights {
    /// Rules in the namespace of the release.
    pub in_release: Value,
    /// Rules in its own namespace, in addition to those of every run.
    pub at_home: Value,
}

/// A Secret of the Job.
#[derive(Clone, Debug)]
pub struct Mounted {
    /// Its name.
    pub name: String,
    /// Folder in the pod; the volume is named after its last part.
    pub folder: &'static str,
}

/// A claim of the Job.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Folder in the pod; the volume is named after its last part.
    pub folder: &'static str,
    /// Storage class of a new claim; absent means the default one.
    pub class: Option<String>,
    /// Size of a new claim.
    pub size: String,
}

/// The rights of every run in its own namespace.
#[must_use]
pub fn rules_at_home() -> Value {
    json!([
        {"apiGroups": ["guard.milvus.io"], "resources": ["upgraderuns"], "verbs": ["get", "list", "create"]},
        {"apiGroups": ["guard.milvus.io"], "resources": ["upgraderuns/status"], "verbs": ["patch"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "list", "create", "update"]},
        {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    ])
}

fn together(rules: impl IntoIterator<Item = Value>) -> Value {
    rules
        .into_iter()
        .filter_map(|rules| rules.as_array().cloned())
        .flatten()
        .collect()
}

impl JobSpec {
    /// Account and rights, in the order in which they are created. They are deleted when the run
    /// has ended.
    #[must_use]
    pub fn access(&self) -> Vec<Value> {
        let mut objects = Vec::new();
        if self.makes_account {
            objects.push(json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": self.meta(&self.account, &self.home),
                "automountServiceAccountToken": false,
            }));
        }
        if let Some(rights) = &self.rights {
            let (release, in_release) = (&self.release.namespace, rights.in_release.clone());
            let at_home = together([rules_at_home(), rights.at_home.clone()]);
            if *release == self.home {
                objects.extend(self.grant(release, &together([in_release, at_home])));
            } else {
                objects.extend(self.grant(release, &in_release));
                objects.extend(self.grant(&self.home, &at_home));
            }
        }
        objects
    }

    fn grant(&self, namespace: &str, rules: &Value) -> [Value; 2] {
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

    /// The claim, which is kept after the run.
    #[must_use]
    pub fn volume_claim(&self) -> Option<Value> {
        let claim = self.claim.as_ref()?;
        let mut object = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": self.meta(&claim.name, &self.home),
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": claim.size}}},
        });
        if let Some(class) = &claim.class {
            object["spec"]["storageClassName"] = class.clone().into();
        }
        Some(object)
    }

    /// The Job, with the overrides of the user merged in.
    #[must_use]
    pub fn job(&self) -> Value {
        let mut mounts = vec![json!({"name": "tmp", "mountPath": "/tmp"})];
        let mut volumes = vec![json!({"name": "tmp", "emptyDir": {}})];
        if let Some(claim) = &self.claim {
            mounts.push(json!({"name": "claim", "mountPath": claim.folder}));
            volumes
                .push(json!({"name": "claim", "persistentVolumeClaim": {"claimName": claim.name}}));
        }
        for Mounted { name, folder } in &self.secrets {
            let volume = format!(
                "credentials-{}",
                folder.rsplit('/').next().unwrap_or_default()
            );
            mounts.push(json!({"name": volume, "mountPath": folder, "readOnly": true}));
            volumes.push(
                json!({"name": volume, "secret": {"secretName": name, "defaultMode": 0o440}}),
            );
        }
        let mut meta = self.meta(&self.name, &self.home);
        meta["labels"][OPERATION_LABEL] = self.operation.into();
        let mut job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": meta,
            "spec": {
                "backoffLimit": RETRIES,
                // A killed or evicted pod is replaced, and its run resumes. The first match counts:
                // evicted pods have our exit codes too, which otherwise fail the Job.
                "podFailurePolicy": {"rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {"action": "FailJob", "onExitCodes": {"containerName": self.verb, "operator": "In", "values": [1, 2, 3, 4, 5]}},
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
                            "name": self.verb,
                            "image": self.image,
                            "args": self.command(),
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

    /// The same command, to be carried out in the pod itself.
    fn command(&self) -> Vec<String> {
        let own = [
            "--local".into(),
            "--progress=plain".into(),
            "--end-file=/dev/termination-log".into(),
        ];
        let of = [
            format!("--run={}", self.run),
            format!("--run-namespace={}", self.home),
            format!("--instance={}", self.release.name),
            format!("--namespace={}", self.release.namespace),
        ];
        [self.verb.to_owned()]
            .into_iter()
            .chain(own)
            .chain(of)
            .chain(self.args.iter().cloned())
            .collect()
    }

    fn meta(&self, name: &str, namespace: &str) -> Value {
        let mut labels = labels(&self.release);
        labels[RUN_LABEL] = self.run.clone().into();
        json!({"name": name, "namespace": namespace, "labels": labels})
    }
}

/// Merges like `kubectl patch --type=strategic`: maps key by key, null removes, lists of named
/// items name by name, other lists are replaced.
pub fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.remove(key);
                } else {
                    merge(
                        into.entry(key.clone()).or_insert_with(|| absent(value)),
                        value,
                    );
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
    if like.is_object() {
        Map::new().into()
    } else {
        Value::Null
    }
}

fn is_named(list: &[Value]) -> bool {
    list.iter()
        .all(|one| one.get("name").is_some_and(Value::is_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> JobSpec {
        JobSpec {
            name: "run-1".into(),
            verb: "migrate",
            operation: "migrate",
            intent: Intent::Forward,
            args: vec!["--backup-claim=run-1".into()],
            release: ReleaseName {
                name: "my-release".into(),
                namespace: "milvus".into(),
            },
            run: "run-1".into(),
            home: "milvus-guard".into(),
            account: "milvus-guard-job".into(),
            makes_account: false,
            rights: Some(Rights {
                in_release: json!([]),
                at_home: json!([]),
            }),
            image: "milvus-guard:1".into(),
            claim: Some(Claim {
                name: "run-1".into(),
                folder: "/backup",
                class: Some("fast".into()),
                size: "10Gi".into(),
            }),
            secrets: vec![Mounted {
                name: "etcd".into(),
                folder: "/etc/milvus-guard/etcd",
            }],
            overrides: None,
        }
    }

    #[test]
    fn the_job_carries_out_the_same_command_in_its_pod() {
        let job = spec().job();
        let args: Vec<&str> = job["spec"]["template"]["spec"]["containers"][0]["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| arg.as_str().unwrap())
            .collect();
        let expected = [
            "migrate",
            "--local",
            "--run=run-1",
            "--instance=my-release",
            "--backup-claim=run-1",
        ];
        assert!(expected.iter().all(|arg| args.contains(arg)), "{args:?}");
    }

    #[test]
    fn the_pod_meets_the_restricted_profile() {
        let job = spec().job();
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(
            (
                &container["allowPrivilegeEscalation"],
                &container["capabilities"]["drop"]
            ),
            (&json!(false), &json!(["ALL"]))
        );
    }

    #[test]
    fn rights_are_granted_in_both_namespaces_or_once_if_they_are_the_same() {
        let kinds = |spec: &JobSpec| -> Vec<String> {
            spec.access()
                .iter()
                .map(|one| {
                    format!(
                        "{}/{}",
                        one["metadata"]["namespace"].as_str().unwrap(),
                        one["kind"].as_str().unwrap()
                    )
                })
                .collect()
        };
        let apart = [
            "milvus/Role",
            "milvus/RoleBinding",
            "milvus-guard/Role",
            "milvus-guard/RoleBinding",
        ];
        assert_eq!(kinds(&spec()), apart);
        let together = JobSpec {
            home: "milvus".into(),
            makes_account: true,
            ..spec()
        };
        assert_eq!(
            kinds(&together),
            ["milvus/ServiceAccount", "milvus/Role", "milvus/RoleBinding"]
        );
        assert!(
            JobSpec {
                rights: None,
                ..spec()
            }
            .access()
            .is_empty()
        );
    }

    #[test]
    fn overrides_are_merged_name_by_name() {
        let overrides = json!({"spec": {"backoffLimit": null, "template": {"spec": {
            "nodeSelector": {"disk": "ssd"},
            "containers": [{"name": "migrate", "resources": {"limits": {"memory": "2Gi"}}}],
            "imagePullSecrets": [{"name": "registry"}],
        }}}});
        let job = JobSpec {
            overrides: Some(overrides),
            ..spec()
        }
        .job();
        let pod = &job["spec"]["template"]["spec"];
        assert!(job["spec"].get("backoffLimit").is_none());
        assert_eq!(pod["nodeSelector"]["disk"], "ssd");
        assert_eq!(pod["containers"][0]["image"], "milvus-guard:1");
        assert_eq!(pod["containers"][0]["resources"]["limits"]["memory"], "2Gi");
        assert_eq!(pod["imagePullSecrets"][0]["name"], "registry");
    }
}
