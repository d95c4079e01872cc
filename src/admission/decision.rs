//! What the release gate let through, object by object, so that the workload gate lets the same objects through.

use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::{
    manifest::object::{Claim, ConfigMap, Container, ObjectRef, Workload},
    milvus::Release,
    objects::{DecisionSpec, JudgedObject},
};

/// Whether an object is as it was judged, and the decision still holds.
#[must_use]
pub fn covers(decision: &DecisionSpec, object: &ObjectRef, digest: &str, now: Timestamp) -> bool {
    decision.expires > now
        && decision
            .objects
            .iter()
            .any(|judged| judged.kind == object.kind && judged.name == object.name && judged.digest == digest)
}

/// Digests of everything of a release that the workload gate sees.
#[must_use]
pub fn digests(releases: &[Release], configs: &[Arc<ConfigMap>]) -> Vec<JudgedObject> {
    let judged =
        |object: &ObjectRef, digest: String| JudgedObject { kind: object.kind.clone(), name: object.name.clone(), digest };
    let mut all = Vec::new();
    for release in releases {
        let workloads = release.components.iter().map(|component| &component.workload);
        for workload in workloads.chain(release.dependencies.iter().map(|dependency| &dependency.workload)) {
            all.push(judged(&workload.meta.object, of_workload(workload)));
        }
        all.extend(release.claims.iter().map(|claim| judged(&claim.meta.object, of_claim(claim))));
    }
    all.extend(configs.iter().map(|config| judged(&config.meta.object, of_config(config))));
    all.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    all.dedup();
    all
}

/// What counts of a workload: images, commands and environment. Defaults that the API server fills in, replicas that an
/// autoscaler owns, labels and annotations do not.
#[must_use]
pub fn of_workload(workload: &Workload) -> String {
    let mut hash = Hash::new();
    for container in workload.pod.init_containers.iter().chain(&workload.pod.containers) {
        hash.container(container);
    }
    for volume in &workload.pod.volumes {
        hash.text(&format!("{:?}", volume.source));
    }
    hash.end()
}

/// What counts of a configuration: its text.
#[must_use]
pub fn of_config(config: &ConfigMap) -> String {
    let mut hash = Hash::new();
    for file in &config.files {
        hash.text(&file.key);
        hash.text(file.text.as_deref().unwrap_or("\0 not text"));
    }
    hash.end()
}

/// What counts of a claim: its size, class and modes.
#[must_use]
pub fn of_claim(claim: &Claim) -> String {
    let mut hash = Hash::new();
    hash.text(claim.storage.as_deref().unwrap_or_default());
    for mode in &claim.access_modes {
        hash.text(mode);
    }
    hash.end()
}

struct Hash(Sha256);

impl Hash {
    fn new() -> Self {
        Self(Sha256::new())
    }

    /// Each text with its length, so that no two lists of texts look the same.
    fn text(&mut self, text: &str) {
        self.0.update(text.len().to_le_bytes());
        self.0.update(text);
    }

    fn container(&mut self, container: &Container) {
        self.text(&container.name);
        self.text(&container.image);
        for word in &container.command {
            self.text(word);
        }
        for (name, value) in container.env.iter() {
            self.text(name);
            self.text(value.unwrap_or_default());
        }
        for reference in container.env.references() {
            self.text(&format!("{reference:?}"));
        }
        for entry in &container.env_from {
            self.text(&format!("{entry:?}"));
        }
        for mount in &container.mounts {
            self.text(&format!("{mount:?}"));
        }
    }

    /// 128 bits are plenty against chance, and whoever could write a decision needs no collision.
    fn end(self) -> String {
        let hex: String = self.0.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        objects::{DecisionVerdict, HelmDriver, decision::LIFETIME},
        rules::testing::Fixture,
    };

    #[test]
    fn a_decision_covers_what_was_judged_until_it_expires() {
        let release = Fixture::cluster("2.4.5").release();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let decision = DecisionSpec {
            namespace: "milvus".into(),
            release: "my-release".into(),
            revision: 2,
            driver: HelmDriver::Secret,
            verdict: DecisionVerdict::Allow,
            expires: now + LIFETIME,
            objects: digests(std::slice::from_ref(&release), &[]),
            accepted_rules: Vec::new(),
        };
        let workload = &release.components[0].workload;
        let object = &workload.meta.object;
        assert!(covers(&decision, object, &of_workload(workload), now));
        assert!(!covers(&decision, object, &of_workload(workload), now + LIFETIME));
        let mut defaulted = Workload::clone(workload);
        defaulted.replicas = Some(7);
        defaulted.strategy = Some("RollingUpdate".into());
        defaulted.meta.labels = std::iter::empty::<(&str, &str)>().collect();
        assert!(covers(&decision, object, &of_workload(&defaulted), now), "what others fill in does not count");
        let mut other = Workload::clone(workload);
        other.pod.containers[0].image.push('x');
        assert!(!covers(&decision, object, &of_workload(&other), now));
    }
}
