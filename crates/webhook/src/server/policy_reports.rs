//! Results of the periodic audit as objects of the kind `Report` of the OpenReports project, for
//! tools that show policy reports. One object for each namespace that runs Milvus, if the kind is
//! served.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};

use milvus_guard_core::{
    error_text,
    report::openreports::{API_VERSION, KIND, MANAGED_BY, NAME, PolicyReport, SOURCE},
};

use serde_json::{Value, json};

use super::MANAGER;

/// The owner of the reports.
#[derive(Clone, Debug)]
pub struct PolicyReportsOwner {
    /// The `ClusterRole` whose removal removes them; `None` without an owner.
    pub cluster_role: Option<String>,
}

/// Writes reports, and removes those of namespaces that no longer run Milvus.
pub(super) struct PolicyReports {
    client: Client,
    owner: PolicyReportsOwner,
    /// What was last written for each namespace, without the time.
    written: BTreeMap<String, PolicyReport>,
}

impl PolicyReports {
    pub(super) const fn new(client: Client, owner: PolicyReportsOwner) -> Self {
        Self {
            client,
            owner,
            written: BTreeMap::new(),
        }
    }

    /// Writes these reports to the cluster and removes old ones. The next audit tries again what
    /// failed.
    pub(super) async fn publish(&mut self, reports: Vec<PolicyReport>, now: Timestamp) {
        if let Err(error) = self.try_publish(reports, now).await {
            tracing::warn!(
                reason = error_text::chain(&error),
                "policy reports could not be written"
            );
        }
    }

    async fn try_publish(
        &mut self,
        reports: Vec<PolicyReport>,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        if !self.is_served().await? {
            self.written.clear();
            return Ok(());
        }
        let known = self.known().await?;
        self.written
            .retain(|namespace, _| known.contains(namespace));
        let mut wanted = BTreeSet::new();
        for report in reports {
            let Some(namespace) = report.metadata.namespace.clone() else {
                continue;
            };
            wanted.insert(namespace.clone());
            if self.written.get(&namespace) == Some(&report) {
                continue;
            }
            let patch = PatchParams::apply(MANAGER).force();
            let mut object =
                serde_json::to_value(report.at(now)).map_err(kube::Error::SerdeError)?;
            if let Some(owner) = self.owner_reference().await? {
                object["metadata"]["ownerReferences"] = json!([owner]);
            }
            let body = Patch::Apply(object);
            match self.api(&namespace).patch(NAME, &patch, &body).await {
                Ok(_) => {
                    self.written.insert(namespace, report);
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        for namespace in known.difference(&wanted) {
            let deleted = self
                .api(namespace)
                .delete(NAME, &DeleteParams::default())
                .await;
            match deleted {
                Ok(_) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
            self.written.remove(namespace);
        }
        Ok(())
    }

    /// The owner reference of every report.
    async fn owner_reference(&self) -> Result<Option<Value>, kube::Error> {
        let Some(name) = &self.owner.cluster_role else {
            return Ok(None);
        };
        let roles = Api::<ClusterRole>::all(self.client.clone());
        let uid = roles
            .get_opt(name)
            .await?
            .and_then(|role| role.metadata.uid);
        Ok(uid.map(|uid| {
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": name, "uid": uid})
        }))
    }

    /// Whether the API server serves the kind. Reads the list of groups, so that no request fails
    /// in a cluster without the kind.
    async fn is_served(&self) -> Result<bool, kube::Error> {
        let served = self.client.list_api_groups().await?;
        let mut versions = served.groups.iter().flat_map(|group| &group.versions);
        Ok(versions.any(|version| version.group_version == API_VERSION))
    }

    /// Namespaces with a report of the guard.
    async fn known(&self) -> Result<BTreeSet<String>, kube::Error> {
        let ours = ListParams::default().labels(&format!("{MANAGED_BY}={SOURCE}"));
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource());
        let found = api.list_metadata(&ours).await?;
        let of_audit = found
            .items
            .into_iter()
            .filter(|object| object.metadata.name.as_deref() == Some(NAME));
        Ok(of_audit
            .filter_map(|object| object.metadata.namespace)
            .collect())
    }

    fn api(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource())
    }
}

/// Whether the namespace, or the object in it, no longer exists.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(answer) if answer.code == 404)
}

fn resource() -> ApiResource {
    let (group, version) = API_VERSION.split_once('/').unwrap_or(("", API_VERSION));
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: API_VERSION.into(),
        kind: KIND.into(),
        plural: "reports".into(),
    }
}
