//! What the release gate allowed, object by object, so that the workload gate lets the same
//! objects through.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::{
    api::{DecisionSpec, JudgedObject},
    manifest::{
        Object,
        object::{Claim, ConfigMap, Container, ObjectRef, Workload},
    },
    milvus::{NamespaceState, Release, dependency},
    text::hexadecimal,
};

/// Helm's mark of an object: the name and the namespace of its release.
pub(super) const HELM_RELEASE: &str = "meta.helm.sh/release-name";
/// The second half of the mark.
pub(super) const HELM_NAMESPACE: &str = "meta.helm.sh/release-namespace";

/// An object that a tool puts in place of another.
pub(super) struct Put<'a> {
    /// The object.
    pub new: &'a Object,
    /// The object before; `None` if it is new.
    pub old: Option<&'a Object>,
}

/// Whether a release was allowed with this very object, and nothing else has changed the object
/// since.
#[must_use]
pub(super) fn covers(decision: &DecisionSpec, put: &Put<'_>, now: Timestamp) -> bool {
    let meta = put.new.meta();
    let is_marked = meta.annotation(HELM_RELEASE) == Some(&*decision.release)
        && meta
            .annotation(HELM_NAMESPACE)
            .is_none_or(|namespace| namespace == decision.namespace);
    if !is_marked || !decision.is_valid_at(now) {
        return false;
    }
    let digest = of(put.new);
    let is_judged = |judged: &&JudgedObject| {
        judged.kind == meta.object.kind
            && judged.name == meta.object.name
            && judged.digest == digest
    };
    decision
        .objects
        .iter()
        .find(is_judged)
        .is_some_and(|judged| {
            // Helm may send an object twice, and may delete and create it instead of changing it.
            put.old
                .map(of)
                .is_none_or(|old| old == digest || judged.before.as_ref() == Some(&old))
        })
}

/// Objects of one decision. The largest release of Milvus' own charts has about fifty.
const MAX_OBJECTS: usize = 500;
/// Bytes of their names and digests.
const MAX_BYTES: usize = 128 * 1024;
/// Bytes of a name that an object can have.
const MAX_NAME: usize = 253;

/// As many objects as a decision may hold, and how many are left out: those are judged one by one.
#[must_use]
pub(super) fn bounded(mut objects: Vec<JudgedObject>) -> (Vec<JudgedObject>, usize) {
    let count = objects.len();
    let mut left = MAX_BYTES;
    objects.retain(|object| {
        let before = object.before.as_ref().map_or(0, String::len);
        let size = object.kind.len() + object.name.len() + object.digest.len() + before;
        let fits = object.name.len() <= MAX_NAME && size <= left;
        left -= if fits { size } else { 0 };
        fits
    });
    objects.truncate(MAX_OBJECTS);
    let left_out = count - objects.len();
    (objects, left_out)
}

/// Digests of everything of a release that the workload gate sees, each with that of the object in
/// its place now.
#[must_use]
pub(super) fn judged(
    releases: &[Release],
    configs: &[Arc<ConfigMap>],
    now: &NamespaceState,
) -> Vec<JudgedObject> {
    let key = |object: &ObjectRef| (object.kind.clone(), object.name.clone());
    let running: BTreeMap<_, _> = digests(&now.snapshot.releases, &now.configs)
        .into_iter()
        .map(|(object, digest)| (key(object), digest))
        .collect();
    // The workload gate is not asked about other ConfigMaps.
    let configs: Vec<Arc<ConfigMap>> = configs
        .iter()
        .filter(|config| config.is_milvus_configuration())
        .cloned()
        .collect();
    let mut all: Vec<JudgedObject> = digests(releases, &configs)
        .into_iter()
        .map(|(object, digest)| JudgedObject {
            kind: object.kind.clone(),
            name: object.name.clone(),
            digest,
            before: running.get(&key(object)).cloned(),
        })
        .collect();
    all.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    all.dedup();
    all
}

fn digests<'a>(
    releases: &'a [Release],
    configs: &'a [Arc<ConfigMap>],
) -> Vec<(&'a ObjectRef, String)> {
    let mut all = Vec::new();
    for release in releases {
        let workloads = release
            .components
            .iter()
            .map(|component| &component.workload);
        for workload in workloads.chain(
            release
                .dependencies
                .iter()
                .map(|dependency| &dependency.workload),
        ) {
            all.push((&workload.meta.object, of_workload(workload)));
        }
        all.extend(
            release
                .claims
                .iter()
                .map(|claim| (&claim.meta.object, of_claim(claim))),
        );
    }
    all.extend(
        configs
            .iter()
            .map(|config| (&config.meta.object, of_config(config))),
    );
    all
}

/// What counts of an object; empty for kinds that no decision is about.
fn of(object: &Object) -> String {
    match object {
        Object::Workload(workload) => of_workload(workload),
        Object::Config(config) => of_config(config),
        Object::Claim(claim) => of_claim(claim),
        _ => String::new(),
    }
}

/// What counts of a workload: images, commands, environment, volumes, users, and what a StatefulSet
/// does with its claims. The replicas of a dependency's `StatefulSet` count too. Defaults that the
/// API server fills in, replicas that an autoscaler may own, labels and annotations do not count.
fn of_workload(workload: &Workload) -> String {
    let mut hash = Hash::new();
    for container in workload
        .pod
        .init_containers
        .iter()
        .chain(&workload.pod.containers)
    {
        hash.container(container);
    }
    for volume in &workload.pod.volumes {
        hash.text(&volume.name);
        hash.text(&format!("{:?}", volume.source));
    }
    hash.text(&format!(
        "{:?} {:?} {:?}",
        workload.pod.fs_group, workload.pod.run_as_user, workload.stateful
    ));
    // Replicas of what holds data are members with data, and no autoscaler owns them.
    if workload.stateful.is_some() && dependency::family(workload).is_some() {
        hash.text(&workload.wanted_replicas().to_string());
    }
    hash.end()
}

/// What counts of a configuration: its text.
fn of_config(config: &ConfigMap) -> String {
    let mut hash = Hash::new();
    for file in &config.files {
        hash.text(&file.key);
        hash.text(file.text.as_deref().unwrap_or("\0 not text"));
    }
    hash.end()
}

/// What counts of a claim: its size, class and modes.
fn of_claim(claim: &Claim) -> String {
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
        self.text(&format!("{:?}", container.run_as_user));
        for mount in &container.mounts {
            self.text(&format!("{mount:?}"));
        }
    }

    /// 128 bits are plenty against chance, and anyone who could write a decision needs no
    /// collision.
    fn end(self) -> String {
        format!("sha256:{}", hexadecimal(&self.0.finalize()[..16]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{DecisionVerdict, HelmDriver, decision::LIFETIME},
        rules::testing::Fixture,
    };

    fn decision(release: &Release) -> DecisionSpec {
        DecisionSpec {
            namespace: "milvus".into(),
            release: "my-release".into(),
            revision: 2,
            driver: HelmDriver::Secret,
            verdict: DecisionVerdict::Allow,
            expires: NOW + LIFETIME,
            objects: judged(
                std::slice::from_ref(release),
                &[],
                &NamespaceState::default(),
            ),
            accepted_rules: Vec::new(),
        }
    }

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn marked(workload: &Workload, release: &str) -> Workload {
        let mut workload = workload.clone();
        workload.meta.annotations = [(HELM_RELEASE, release), (HELM_NAMESPACE, "milvus")]
            .into_iter()
            .collect();
        workload
    }

    fn is_covered(
        decision: &DecisionSpec,
        new: Workload,
        old: Option<Workload>,
        now: Timestamp,
    ) -> bool {
        let object = |workload| Object::Workload(Arc::new(workload));
        covers(
            decision,
            &Put {
                new: &object(new),
                old: old.map(object).as_ref(),
            },
            now,
        )
    }

    #[test]
    fn a_decision_covers_what_was_judged_until_it_expires() {
        let release = Fixture::cluster("2.4.5").release();
        let decision = decision(&release);
        let workload = marked(&release.components[0].workload, "my-release");
        assert!(is_covered(&decision, workload.clone(), None, NOW));
        assert!(!is_covered(
            &decision,
            workload.clone(),
            None,
            NOW + LIFETIME
        ));
        let mut defaulted = workload.clone();
        defaulted.replicas = Some(7);
        defaulted.strategy = Some("RollingUpdate".into());
        defaulted.meta.labels = std::iter::empty::<(&str, &str)>().collect();
        assert!(
            is_covered(&decision, defaulted, None, NOW),
            "what others fill in does not count"
        );
        let mut other = workload;
        other.pod.containers[0].image.push('x');
        assert!(!is_covered(&decision, other, None, NOW));
    }

    #[test]
    fn a_decision_is_about_the_objects_of_its_own_release() {
        let release = Fixture::cluster("2.4.5").release();
        let decision = decision(&release);
        let workload = &release.components[0].workload;
        let mut unmarked = Workload::clone(workload);
        unmarked.meta.annotations = std::iter::empty::<(&str, &str)>().collect();
        assert!(!is_covered(&decision, unmarked, None, NOW));
        assert!(!is_covered(&decision, marked(workload, "ghost"), None, NOW));
        let mut elsewhere = marked(workload, "my-release");
        elsewhere.meta.annotations = [(HELM_RELEASE, "my-release"), (HELM_NAMESPACE, "other")]
            .into_iter()
            .collect();
        assert!(!is_covered(&decision, elsewhere, None, NOW));
    }

    #[test]
    fn a_decision_is_void_once_an_object_changes_otherwise() {
        let release = |version: &str| Fixture::cluster(version).release();
        let workload =
            |version: &str| marked(&release(version).components[0].workload, "my-release");
        let mut decision = decision(&release("2.4.6"));
        let place = NamespaceState {
            snapshot: crate::milvus::Snapshot {
                releases: vec![release("2.4.5")],
                ..Default::default()
            },
            configs: Vec::new(),
        };
        decision.objects = judged(&[release("2.4.6")], &[], &place);
        assert!(is_covered(
            &decision,
            workload("2.4.6"),
            Some(workload("2.4.5")),
            NOW
        ));
        assert!(
            is_covered(&decision, workload("2.4.6"), Some(workload("2.4.6")), NOW),
            "Helm tries again"
        );
        assert!(
            is_covered(&decision, workload("2.4.6"), None, NOW),
            "helm upgrade --force deletes and creates"
        );
        assert!(!is_covered(
            &decision,
            workload("2.4.6"),
            Some(workload("2.5.1")),
            NOW
        ));
    }

    #[test]
    fn a_decision_holds_no_more_objects_than_its_bound() {
        let object = |name: String| JudgedObject {
            kind: "ConfigMap".into(),
            name,
            digest: "sha256:00".into(),
            before: None,
        };
        let many = |count: usize| {
            (0..count)
                .map(|n| object(format!("c{n}")))
                .collect::<Vec<_>>()
        };
        assert_eq!(bounded(many(500)), (many(500), 0));
        let (kept, left_out) = bounded(many(1_000));
        assert_eq!((kept.len(), left_out), (500, 500));
        let long: Vec<_> = (0..1_000).map(|n| object(format!("{n:0>253}"))).collect();
        let (kept, left_out) = bounded(long);
        assert!(
            kept.len() * 253 <= MAX_BYTES && kept.len() + left_out == 1_000,
            "{}",
            kept.len()
        );
        assert_eq!(
            bounded(vec![object("x".repeat(254)), object("a".into())]),
            (vec![object("a".into())], 1)
        );
    }
}
