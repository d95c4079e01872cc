//! What the release gate allowed, object by object, so that the workload gate lets the same
//! objects through.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::{
    api::{DecisionSpec, JudgedObject},
    manifest::{
        Object,
        object::{
            Claim, ConfigMap, Container, NoText, ObjectRef, PodTemplate, SourceKind, ValueFrom,
            Workload,
        },
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
    let Some(digest) = of(put.new) else {
        return false;
    };
    let is_judged = |judged: &&JudgedObject| {
        judged.kind == meta.object.kind
            && judged.name == meta.object.name
            && judged.digest == digest
    };
    // Helm may send an object twice, and may delete and create it instead of changing it.
    let is_expected = |judged: &JudgedObject, old: &Object| {
        of(old).is_some_and(|old| old == digest || judged.before.as_ref() == Some(&old))
    };
    decision
        .objects
        .iter()
        .find(is_judged)
        .is_some_and(|judged| put.old.is_none_or(|old| is_expected(judged, old)))
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
    let now_running = &now.snapshot.releases;
    let is_seen = |config: &&Arc<ConfigMap>| is_seen(config, releases.iter().chain(now_running));
    let seen = |configs: &[Arc<ConfigMap>]| -> Vec<Arc<ConfigMap>> {
        configs.iter().filter(is_seen).cloned().collect()
    };
    let (wanted, there) = (seen(configs), seen(&now.configs));
    let running: BTreeMap<_, _> = digests(now_running, &there)
        .into_iter()
        .map(|(object, digest)| (key(object), digest))
        .collect();
    let mut all: Vec<JudgedObject> = digests(releases, &wanted)
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

/// Whether the workload gate judges changes of an object with configuration: it has a file name of
/// Milvus' own, or a pod of Milvus reads it. Secrets without such a name are never sent, and no
/// digest of a password is kept.
fn is_seen<'a>(config: &ConfigMap, mut releases: impl Iterator<Item = &'a Release>) -> bool {
    let source = config.reference();
    config.is_milvus_configuration()
        || config.kind == SourceKind::ConfigMap && releases.any(|release| release.reads(&source))
}

fn digests<'a>(
    releases: &'a [Release],
    configs: &'a [Arc<ConfigMap>],
) -> Vec<(&'a ObjectRef, String)> {
    let mut all = Vec::new();
    for release in releases {
        let workloads = release.workloads();
        all.extend(workloads.map(|one| (&one.meta.object, of_workload(one))));
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
            .filter_map(|config| Some((&config.meta.object, of_config(config)?))),
    );
    all
}

/// What counts of an object; `None` for kinds that no decision is about, and where a part of it is
/// not known.
fn of(object: &Object) -> Option<String> {
    match object {
        Object::Workload(workload) => Some(of_workload(workload)),
        Object::Config(config) => of_config(config),
        Object::Claim(claim) => Some(of_claim(claim)),
        _ => None,
    }
}

/// What counts of a workload: images, commands, environment, volumes, users, and what a StatefulSet
/// does with its claims. The replicas of a dependency's `StatefulSet` count too. Defaults that the
/// API server fills in, replicas that an autoscaler may own, labels and annotations do not count.
/// A field that is added does not compile before it is listed here.
fn of_workload(workload: &Workload) -> String {
    let mut hash = Hash::new();
    let Workload {
        meta: _,
        replicas: _,
        paused: _,
        strategy: _,
        selector: _,
        stateful,
        pod,
        status: _,
    } = workload;
    let PodTemplate {
        labels: _,
        annotations: _,
        termination_grace_seconds: _,
        fs_group,
        run_as_user,
        containers,
        init_containers,
        volumes,
        node,
    } = pod;
    for containers in [init_containers, containers] {
        hash.count(containers.len());
        for container in containers {
            hash.container(container);
        }
    }
    hash.count(volumes.len());
    for volume in volumes {
        hash.text(&volume.name);
        hash.text(&format!("{:?}", volume.source));
    }
    hash.text(&format!(
        "{fs_group:?} {run_as_user:?} {stateful:?} {node:?}"
    ));
    // Replicas of what holds data are members with data, and no autoscaler owns them.
    if stateful.is_some() && dependency::family(workload).is_some() {
        hash.text(&workload.wanted_replicas().to_string());
    }
    hash.end()
}

/// What counts of a configuration: its content, in the order of its keys, which is that of the API
/// server and not of every manifest. `None` where some of it was too large to keep.
fn of_config(config: &ConfigMap) -> Option<String> {
    let mut hash = Hash::new();
    let mut files: Vec<_> = config.files.iter().collect();
    files.sort_by(|one, other| one.key.cmp(&other.key));
    for file in files {
        hash.text(&file.key);
        match &file.text {
            Ok(text) => hash.text(text),
            Err(NoText::Binary(fingerprint)) => hash.part(NOT_TEXT, &fingerprint.bytes()),
            Err(NoText::LeftOut) => return None,
        }
    }
    Some(hash.end())
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

/// What a part of a digest is.
const TEXT: u8 = 0;
const COUNT: u8 = 1;
const NOT_TEXT: u8 = 2;
const REFERENCE: u8 = 3;

struct Hash(Sha256);

impl Hash {
    fn new() -> Self {
        Self(Sha256::new())
    }

    /// Each text with its length, so that no two lists of texts look the same.
    fn text(&mut self, text: &str) {
        self.part(TEXT, text.as_bytes());
    }

    /// How many entries a list has, so that none of them passes for one of the next list.
    fn count(&mut self, entries: usize) {
        self.part(COUNT, &entries.to_le_bytes());
    }

    fn part(&mut self, kind: u8, bytes: &[u8]) {
        self.0.update([kind]);
        self.0.update(bytes.len().to_le_bytes());
        self.0.update(bytes);
    }

    fn container(&mut self, container: &Container) {
        let Container {
            name,
            image,
            command,
            env,
            env_from,
            run_as_user,
            probes: _,
            pre_stop: _,
            mounts,
            restarts,
            resources: _,
        } = container;
        self.text(name);
        self.text(image);
        self.count(command.len());
        for word in command {
            self.text(word);
        }
        self.count(env.len());
        for (at, (name, value)) in env.iter().enumerate() {
            self.text(name);
            match (value, env.reference(at)) {
                (Some(value), _) => self.text(value),
                (None, reference) => self.reference(reference),
            }
        }
        self.count(env_from.len());
        for entry in env_from {
            self.text(&format!("{entry:?}"));
        }
        self.text(&format!("{run_as_user:?} {restarts}"));
        self.count(mounts.len());
        for mount in mounts {
            self.text(&format!("{mount:?}"));
        }
    }

    fn reference(&mut self, reference: Option<&ValueFrom>) {
        self.part(REFERENCE, format!("{reference:?}").as_bytes());
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

    #[rstest::rstest]
    // Words of a command that name a variable and its value.
    #[case(
        |one: &mut Container| one.command.extend(["ETCD_ROOTPATH".into(), "other".into()]),
        |one: &mut Container| one.env = env("[{name: ETCD_ROOTPATH, value: other}]")
    )]
    // Which of two variables comes from elsewhere.
    #[case(
        |one: &mut Container| one.env = env("[{name: A, value: ''}, {name: B, valueFrom: {configMapKeyRef: {name: c, key: k}}}]"),
        |one: &mut Container| one.env = env("[{name: A, valueFrom: {configMapKeyRef: {name: c, key: k}}}, {name: B, value: ''}]")
    )]
    #[case(|_: &mut Container| (), |one: &mut Container| one.restarts = true)]
    fn no_two_containers_have_one_digest(
        #[case] judged: fn(&mut Container),
        #[case] sent: fn(&mut Container),
    ) {
        let workload = |change: fn(&mut Container)| {
            let release = Fixture::cluster("2.4.5").release();
            let mut workload = Workload::clone(&release.components[0].workload);
            change(&mut workload.pod.containers[0]);
            workload
        };
        assert_ne!(of_workload(&workload(judged)), of_workload(&workload(sent)));
        assert_eq!(of_workload(&workload(sent)), of_workload(&workload(sent)));
    }

    #[test]
    fn a_container_does_not_count_as_an_init_container() {
        let release = Fixture::cluster("2.4.5").release();
        let workload = Workload::clone(&release.components[0].workload);
        let mut moved = workload.clone();
        let first = moved.pod.containers.remove(0);
        moved.pod.init_containers.push(first);
        assert_ne!(of_workload(&workload), of_workload(&moved));
    }

    fn env(list: &str) -> crate::manifest::object::Variables {
        let text = format!(
            "kind: Pod\nmetadata: {{name: a}}\nspec: {{containers: [{{name: a, image: a, env: {list}}}]}}\n"
        );
        match crate::rules::testing::objects_of(&text).remove(0) {
            Object::Workload(pod) => pod.pod.containers[0].env.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn config(name: &str, data: &str) -> Arc<ConfigMap> {
        let text = format!("kind: ConfigMap\nmetadata: {{name: {name}}}\n{data}\n");
        match crate::rules::testing::objects_of(&text).remove(0) {
            Object::Config(config) => config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn content_that_is_not_text_counts_and_what_was_left_out_covers_nothing() {
        let [one, other] = [
            "binaryData: {user.yaml: /w==}",
            "binaryData: {user.yaml: /v8=}",
        ]
        .map(|data| config("c", data));
        assert!(one.files[0].text.is_err(), "{one:?}");
        assert_ne!(of_config(&one), of_config(&other));
        let mut left_out = ConfigMap::clone(&one);
        left_out.files[0].text = Err(NoText::LeftOut);
        assert_eq!(of_config(&left_out), None);
        assert_eq!(
            of_config(&config("c", "data: {b.yaml: x, a.yaml: y}")),
            of_config(&config("c", "data: {a.yaml: y, b.yaml: x}")),
            "the API server orders the keys"
        );
    }

    #[test]
    fn a_decision_is_about_every_config_map_that_milvus_reads() {
        let release = Fixture::cluster("2.4.5")
            .container(
                crate::milvus::Component::Proxy,
                "envFrom: [{configMapRef: {name: read}}, {secretRef: {name: read}}]",
            )
            .release();
        let configs = [
            config("read", "data: {MQ_TYPE: pulsar}"),
            config("unread", "data: {MQ_TYPE: pulsar}"),
            config("file", "data: {user.yaml: a}"),
        ];
        let mut secret = ConfigMap::clone(&configs[0]);
        secret.kind = SourceKind::Secret;
        secret.meta.object.kind = "Secret".into();
        let all: Vec<_> = configs.into_iter().chain([Arc::new(secret)]).collect();
        let objects = judged(
            std::slice::from_ref(&release),
            &all,
            &NamespaceState::default(),
        );
        let names: Vec<(&str, &str)> = objects
            .iter()
            .filter(|object| object.kind != "Deployment")
            .map(|object| (object.kind.as_str(), object.name.as_str()))
            .collect();
        assert_eq!(names, [("ConfigMap", "file"), ("ConfigMap", "read")]);
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
