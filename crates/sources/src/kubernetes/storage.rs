//! Helm's storage in the cluster: one revision of a release, from Secrets or `ConfigMaps`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use milvus_guard_core::helm::{self, StoredRelease, codec};

use super::{
    client::{Cluster, Resource, named},
    error::ClusterError,
};

const SECRETS: Resource = Resource::new("v1", "secrets", "Secret");
const CONFIG_MAPS: Resource = Resource::new("v1", "configmaps", "ConfigMap");

/// One revision as Helm stored it.
#[derive(Clone, PartialEq, Eq)]
pub struct HelmRecord {
    /// The release as JSON, with the fields that Helm prints. Its values may be secret.
    pub json: String,
    /// Labels of the record: those of Helm, and those of `helm upgrade --labels`.
    pub labels: BTreeMap<String, String>,
}

impl std::fmt::Debug for HelmRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HelmRecord")
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

impl HelmRecord {
    /// `deployed`, `pending-upgrade` ...
    #[must_use]
    pub fn status(&self) -> &str {
        self.labels.get("status").map_or("", |status| status)
    }
}

/// One stored revision, by its labels only.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Revision {
    object: String,
    number: u64,
    status: String,
}

impl Cluster {
    /// A release as Helm stored it: the given revision, else the latest that is deployed. Only the
    /// metadata of the other revisions is read.
    ///
    /// # Errors
    /// If neither Secrets nor `ConfigMaps` have it, reading is not allowed, or it is damaged.
    pub async fn helm_release(
        &self,
        namespace: &str,
        release: &str,
        revision: Option<u64>,
    ) -> Result<StoredRelease, ClusterError> {
        named(release)?;
        let selector = format!("owner=helm,name={release}");
        let mut known = Vec::new();
        let mut forbidden = None;
        for driver in [SECRETS, CONFIG_MAPS] {
            let revisions = match self.list_metadata(driver, namespace, &selector).await {
                Ok(objects) => revisions(&objects),
                Err(error @ ClusterError::Forbidden { .. }) => {
                    forbidden.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(found) = pick(&revisions, revision) {
                let object = self.get(driver, namespace, &found.object).await?;
                let decoded = helm::decode(&object).map_err(|source| ClusterError::Codec {
                    object: format!("{} {}", driver.kind, found.object),
                    source,
                })?;
                return Ok(decoded);
            }
            known.extend(revisions);
        }
        // A storage without read permission may contain it: report that instead of its absence.
        Err(match forbidden {
            Some(error) if known.is_empty() => error,
            _ => missing(namespace, release, revision, &known),
        })
    }
}

impl Cluster {
    /// One revision of a release, read by the name of its record: no other record needs to be
    /// readable. `None` if it is in neither Secrets nor `ConfigMaps`.
    ///
    /// # Errors
    /// If reading is not allowed, or the data is damaged.
    pub async fn helm_record(
        &self,
        namespace: &str,
        release: &str,
        revision: u64,
    ) -> Result<Option<HelmRecord>, ClusterError> {
        let name = codec::record_name(release, revision);
        for driver in [SECRETS, CONFIG_MAPS] {
            let object = match self.get(driver, namespace, &name).await {
                Ok(object) => object,
                Err(ClusterError::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            let damaged = |source| ClusterError::Codec {
                object: format!("{} {name}", driver.kind),
                source,
            };
            let json = codec::stored_json(&object).map_err(damaged)?;
            let json = String::from_utf8(json)
                .map_err(|_| damaged(codec::CodecError::Json("not text".into())))?;
            let labels = BTreeMap::deserialize(&object["metadata"]["labels"]).unwrap_or_default();
            return Ok(Some(HelmRecord { json, labels }));
        }
        Ok(None)
    }

    /// The number of the newest revision of a release, in any state; `None` if there is
    /// none. Only metadata is read.
    ///
    /// # Errors
    /// If reading is not allowed, or the API server does not answer.
    pub async fn newest_revision(
        &self,
        namespace: &str,
        release: &str,
    ) -> Result<Option<u64>, ClusterError> {
        named(release)?;
        let selector = format!("owner=helm,name={release}");
        let mut newest = None;
        for driver in [SECRETS, CONFIG_MAPS] {
            let objects = self.list_metadata(driver, namespace, &selector).await?;
            newest = newest.max(revisions(&objects).iter().map(|found| found.number).max());
        }
        Ok(newest)
    }
}

fn revisions(objects: &[Value]) -> Vec<Revision> {
    let label = |object: &Value, key: &str| {
        object
            .pointer("/metadata/labels")?
            .get(key)?
            .as_str()
            .map(str::to_owned)
    };
    objects
        .iter()
        .filter_map(|object| {
            Some(Revision {
                object: object.pointer("/metadata/name")?.as_str()?.to_owned(),
                number: label(object, "version")?.parse().ok()?,
                status: label(object, "status").unwrap_or_default(),
            })
        })
        .collect()
}

fn pick(revisions: &[Revision], wanted: Option<u64>) -> Option<&Revision> {
    let candidates = revisions.iter().filter(|revision| match wanted {
        Some(wanted) => revision.number == wanted,
        None => revision.status == "deployed",
    });
    candidates.max_by_key(|revision| revision.number)
}

fn missing(
    namespace: &str,
    release: &str,
    wanted: Option<u64>,
    known: &[Revision],
) -> ClusterError {
    let hint = if known.is_empty() {
        "it has no revision (its SQL storage driver cannot be read)".to_owned()
    } else {
        let mut known: Vec<&Revision> = known.iter().collect();
        known.sort_by_key(|revision| revision.number);
        let listed: Vec<String> = known
            .iter()
            .map(|revision| format!("{} ({})", revision.number, revision.status))
            .collect();
        format!("it has {}", listed.join(", "))
    };
    ClusterError::NoRelease {
        release: release.to_owned(),
        namespace: namespace.to_owned(),
        wanted: wanted.map_or_else(
            || "deployed revision".to_owned(),
            |number| format!("revision {number}"),
        ),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(number: &str, status: &str) -> Value {
        json!({"metadata": {"name": format!("sh.helm.release.v1.r.v{number}"), "labels": {"version": number, "status": status}}})
    }

    #[test]
    fn the_latest_deployed_revision_is_selected() {
        let objects = [
            stored("2", "superseded"),
            stored("9", "deployed"),
            stored("10", "deployed"),
            stored("11", "failed"),
        ];
        let revisions = revisions(&objects);
        assert_eq!(pick(&revisions, None).unwrap().number, 10);
        assert_eq!(pick(&revisions, Some(11)).unwrap().status, "failed");
        assert_eq!(pick(&revisions, Some(3)), None);
    }

    #[test]
    fn the_error_about_a_missing_revision_lists_the_existing_ones() {
        let known = revisions(&[
            stored("2", "failed"),
            stored("1", "superseded"),
            stored("x", "deployed"),
        ]);
        assert_eq!(
            missing("milvus", "r", None, &known).to_string(),
            "Helm has no deployed revision of release r in namespace milvus; it has 1 \
             (superseded), 2 (failed)"
        );
        assert!(
            missing("milvus", "r", Some(7), &[])
                .to_string()
                .contains("no revision 7 of release r")
        );
    }
}
