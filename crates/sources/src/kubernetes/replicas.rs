//! The Leases with which replicas of the guard report that they are alive and which runs they know.
//!
//! A run must not change anything while a replica may still allow changes by others. So each
//! replica has a Lease in the guard's namespace with the runs that it knows to be in progress, and
//! a run waits until all Leases name it. A replica that does not renew its Lease has lost the API
//! server. Before it allows a change it must read the runs live, which fails without the API
//! server. So after [`HOLDS`] runs no longer wait for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

use super::lease::{self, Seen};

/// How long a Lease is valid without renewal. A replica detects a broken connection of a watch
/// after at most 35 seconds.
pub const HOLDS: Duration = Duration::from_secs(45);
/// Interval of renewals: two attempts may fail.
pub const RENEW: Duration = Duration::from_secs(15);
/// Label of these Leases.
pub const LABEL: &str = "guard.milvus.io/replica";
/// Annotation of a Lease: `namespace/name` of each run that its replica knows, separated by spaces.
pub const KNOWN_RUNS: &str = "guard.milvus.io/known-runs";
/// Most runs that a Lease names: an annotation holds 256 KiB. No cluster has so many runs in
/// progress.
const MAX_RUNS: usize = 500;

/// Name of the Lease of a replica. Characters that a DNS name cannot have become a hyphen.
#[must_use]
pub fn lease_name(replica: &str) -> String {
    let safe = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    format!(
        "milvus-guard-replica-{}",
        replica
            .chars()
            .map(safe)
            .collect::<String>()
            .trim_matches('-')
    )
}

/// The Lease of a replica, for a server-side apply. `owner` is the pod's name and UID.
#[must_use]
pub fn object(
    replica: &str,
    owner: Option<(&str, &str)>,
    runs: &BTreeSet<String>,
    now: jiff::Timestamp,
) -> Value {
    let runs: Vec<&str> = runs.iter().take(MAX_RUNS).map(String::as_str).collect();
    let mut metadata = json!({
        "name": lease_name(replica),
        "labels": {LABEL: "true", "app.kubernetes.io/managed-by": "milvus-guard"},
        "annotations": {KNOWN_RUNS: runs.join(" ")},
    });
    if let Some((name, uid)) = owner {
        metadata["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}]);
    }
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
        "spec": {"holderIdentity": replica, "leaseDurationSeconds": HOLDS.as_secs(), "renewTime": format!("{now:.6}")},
    })
}

/// Watches the Leases of all replicas until each of them names a run.
#[derive(Clone, Debug, Default)]
pub struct Lookout {
    seen: BTreeMap<String, Seen>,
}

impl Lookout {
    /// The replicas that are alive and do not know the run. `now` is the time at which the Leases
    /// were read.
    pub fn lagging(&mut self, leases: &[Lease], run: &str, now: Instant) -> Vec<String> {
        let mut lagging = Vec::new();
        for lease in leases {
            let name = lease.metadata.name.clone().unwrap_or_default();
            let version = lease.metadata.resource_version.clone().unwrap_or_default();
            let since = self
                .seen
                .entry(name.clone())
                .or_default()
                .since(&version, now);
            let holds = lease
                .spec
                .as_ref()
                .and_then(lease::holds)
                .map_or(HOLDS, |said| said.min(HOLDS));
            let runs = lease
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(KNOWN_RUNS));
            let names_it = runs.is_some_and(|runs| runs.split(' ').any(|one| one == run));
            if !names_it && now.duration_since(since) < holds {
                let holder = lease
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.holder_identity.clone());
                lagging.push(holder.unwrap_or(name));
            }
        }
        lagging
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease_of(replica: &str, version: &str, runs: &[&str]) -> Lease {
        let runs = runs.iter().map(|run| (*run).to_owned()).collect();
        let mut lease = object(
            replica,
            Some(("pod", "uid")),
            &runs,
            jiff::Timestamp::UNIX_EPOCH,
        );
        lease["metadata"]["resourceVersion"] = json!(version);
        serde_json::from_value(lease).unwrap()
    }

    #[test]
    fn a_replica_lags_until_it_names_the_run_or_its_lease_expires() {
        let (mut lookout, start) = (Lookout::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let both = [
            lease_of("a", "1", &["guard/other", "guard/run"]),
            lease_of("b", "2", &["guard/run-2"]),
        ];
        assert_eq!(lookout.lagging(&both, "guard/run", at(0)), ["b"]);
        assert_eq!(
            lookout.lagging(&both, "guard/run", at(44)),
            ["b"],
            "it may still run"
        );
        // It renews its Lease, so it is alive, and it still does not know the run.
        let renewed = [lease_of("a", "3", &[]), lease_of("b", "4", &[])];
        assert_eq!(lookout.lagging(&renewed, "guard/run", at(45)), ["a", "b"]);
        assert_eq!(lookout.lagging(&renewed, "guard/run", at(89)), ["a", "b"]);
        assert_eq!(
            lookout.lagging(&renewed, "guard/run", at(90)),
            [""; 0],
            "both Leases have expired"
        );
        let known = [lease_of("a", "5", &["guard/run"])];
        assert_eq!(lookout.lagging(&known, "guard/run", at(91)), [""; 0]);
        assert_eq!(lookout.lagging(&[], "guard/run", at(91)), [""; 0]);
    }

    #[test]
    fn the_duration_of_a_lease_is_limited() {
        let (mut lookout, start) = (Lookout::default(), Instant::now());
        let mut lease = lease_of("a", "1", &[]);
        if let Some(spec) = &mut lease.spec {
            spec.lease_duration_seconds = Some(1_000_000);
        }
        let leases = [lease];
        assert_eq!(lookout.lagging(&leases, "guard/run", start), ["a"]);
        assert_eq!(
            lookout.lagging(&leases, "guard/run", start + HOLDS),
            [""; 0]
        );
    }

    #[test]
    fn names_of_leases_are_valid_object_names() {
        assert_eq!(
            lease_name("milvus-guard-7c9-x2x"),
            "milvus-guard-replica-milvus-guard-7c9-x2x"
        );
        assert_eq!(
            lease_name("Host.local_12_8443"),
            "milvus-guard-replica-host-local-12-8443"
        );
    }
}
