//! What each replica of the guard says of itself: that it lives, and which runs it knows.
//!
//! A run must not touch anything while a replica may still let others through. So each replica
//! keeps a Lease in the guard's namespace, writes into it the runs that it knows to be in progress,
//! and a run waits until all of them name it. A replica that does not renew its Lease has lost the
//! API server. It then reads runs live before it lets anything through, and that fails, so
//! after [`HOLDS`] no one waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

use super::lease::{self, Seen};

/// How long a Lease holds without renewal. A watch whose connection is dead is noticed after 35
/// seconds at most.
pub const HOLDS: Duration = Duration::from_secs(45);
/// How often a Lease is renewed: two tries may fail.
pub const RENEW: Duration = Duration::from_secs(15);
/// Label of these Leases.
pub const LABEL: &str = "guard.milvus.io/replica";
/// Annotation of a Lease: `namespace/name` of each run that its replica knows, separated by spaces.
pub const KNOWN_RUNS: &str = "guard.milvus.io/known-runs";
/// How many runs a Lease names. An annotation holds 256 KiB, and no one has as many runs in
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
    /// The replicas that live and do not know the run. `now` is the time at which the Leases were
    /// read.
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
    fn a_replica_lags_until_it_names_the_run_or_its_lease_runs_out() {
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
        // It renews: it lives, and still does not know the run.
        let renewed = [lease_of("a", "3", &[]), lease_of("b", "4", &[])];
        assert_eq!(lookout.lagging(&renewed, "guard/run", at(45)), ["a", "b"]);
        assert_eq!(lookout.lagging(&renewed, "guard/run", at(89)), ["a", "b"]);
        assert_eq!(
            lookout.lagging(&renewed, "guard/run", at(90)),
            [""; 0],
            "both have ended"
        );
        let known = [lease_of("a", "5", &["guard/run"])];
        assert_eq!(lookout.lagging(&known, "guard/run", at(91)), [""; 0]);
        assert_eq!(lookout.lagging(&[], "guard/run", at(91)), [""; 0]);
    }

    #[test]
    fn no_lease_can_claim_to_hold_for_longer() {
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
    fn names_of_leases_are_names_of_objects() {
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
