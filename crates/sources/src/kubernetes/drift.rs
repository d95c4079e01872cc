//! The running state compared with the last Helm revision: images and effective configuration.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use milvus_guard_core::{
    error_text,
    evidence::DriftFact,
    manifest::object::Container,
    milvus::{
        Release,
        config::{Layer, Setting},
    },
};

/// Replaces a value that may be a credential.
const HIDDEN: &str = "(hidden)";
/// Replaces a value that one side does not have.
const ABSENT: &str = "(absent)";

/// Parts of a key, in lower case and without separators, that mark a credential.
const CREDENTIALS: [&str; 10] = [
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "accesskey",
    "apikey",
    "authparam",
    "connectionstring",
    "privatekey",
];

/// The differences between a release as Helm stored it and as it runs.
#[must_use]
pub fn drift(stored: &Release, live: &Release) -> Vec<DriftFact> {
    let mut facts = images(stored, live);
    facts.extend(settings(stored, live));
    facts
}

fn images(stored: &Release, live: &Release) -> Vec<DriftFact> {
    let running: BTreeMap<_, _> = live
        .components
        .iter()
        .map(|component| (key(component), component))
        .collect();
    let known: BTreeSet<_> = stored.components.iter().map(key).collect();
    let mut facts = Vec::new();
    for component in &stored.components {
        let containers = &component.workload.pod.containers;
        let others = running
            .get(&key(component))
            .map(|component| component.workload.pod.containers.as_slice());
        for container in containers {
            let image = others.map(|others| image_of(others, container));
            let image = image.flatten();
            if image != Some(container.image.as_str()) {
                facts.push(image_fact(live, component, Some(&container.image), image));
            }
        }
    }
    for component in live
        .components
        .iter()
        .filter(|component| !known.contains(&key(component)))
    {
        facts.push(image_fact(
            live,
            component,
            None,
            component
                .workload
                .pod
                .containers
                .first()
                .map(|c| c.image.as_str()),
        ));
    }
    facts
}

fn key(component: &milvus_guard_core::milvus::release::ComponentWorkload) -> String {
    component.workload.meta.object.to_string()
}

fn image_of<'a>(containers: &'a [Container], wanted: &Container) -> Option<&'a str> {
    containers
        .iter()
        .find(|container| container.name == wanted.name)
        .map(|container| container.image.as_str())
}

fn image_fact(
    release: &Release,
    component: &milvus_guard_core::milvus::release::ComponentWorkload,
    stored: Option<&str>,
    live: Option<&str>,
) -> DriftFact {
    DriftFact {
        release: release.name.clone(),
        object: key(component),
        what: "image".to_owned(),
        revision: stored.unwrap_or(ABSENT).to_owned(),
        live: live.unwrap_or(ABSENT).to_owned(),
    }
}

fn settings(stored: &Release, live: &Release) -> Vec<DriftFact> {
    // If a side has no configuration at all, it was not read; an empty configuration differs.
    if !stored.has_config() || !live.has_config() {
        return Vec::new();
    }
    let mut facts = Vec::new();
    for setting in stored.config.settings() {
        let other = live.config.get(setting.key);
        if other.is_none_or(|other| other.value != setting.value) {
            facts.push(setting_fact(live, setting, Some(setting), other));
        }
    }
    for setting in live
        .config
        .settings()
        .into_iter()
        .filter(|setting| stored.config.get(setting.key).is_none())
    {
        facts.push(setting_fact(live, setting, None, Some(setting)));
    }
    facts
}

fn setting_fact(
    release: &Release,
    named: Setting<'_>,
    stored: Option<Setting<'_>>,
    live: Option<Setting<'_>>,
) -> DriftFact {
    let shown = |setting: Option<Setting<'_>>| match setting {
        None => ABSENT.to_owned(),
        Some(setting) if setting.is_secret => setting.shown().to_owned(),
        Some(setting) => public(named.key, setting.value),
    };
    DriftFact {
        release: release.name.clone(),
        object: holder(
            release,
            live.or(stored)
                .is_some_and(|setting| setting.layer == Layer::Environment),
        ),
        what: named.key.to_owned(),
        revision: shown(stored),
        live: shown(live),
    }
}

/// The object that contains the configuration: the only `ConfigMap` that the components mount, else
/// the release.
fn holder(release: &Release, from_environment: bool) -> String {
    let mounted: BTreeSet<&str> = release
        .components
        .iter()
        .flat_map(|component| &component.workload.pod.volumes)
        .flat_map(|volume| volume.source.config_maps())
        .collect();
    match mounted.first() {
        Some(name) if mounted.len() == 1 && !from_environment => format!("ConfigMap/{name}"),
        _ => format!("Release/{}", release.name),
    }
}

/// A value as it may be shown.
fn public(key: &str, value: &str) -> String {
    let normal: String = key
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let credential =
        normal.ends_with("key") || CREDENTIALS.iter().any(|word| normal.contains(word));
    let embedded = value.contains("-----BEGIN")
        || value
            .split(['/', ','])
            .any(|part| part.contains('@') && part.contains(':'));
    match value {
        "" => "(empty)".to_owned(),
        _ if credential || embedded => HIDDEN.to_owned(),
        _ => error_text::line(value),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use milvus_guard_core::{
        manifest::{Object, Origin, documents},
        milvus::snapshot::Builder,
    };

    fn release(image: &str, config: &str) -> Release {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: r-milvus-proxy, labels: {{app.kubernetes.io/instance: r}}}}\n\
             spec: {{template: {{spec: {{containers: [{{name: proxy, image: '{image}', args: [milvus, run, proxy]}}], \
             volumes: [{{name: c, configMap: {{name: r-milvus}}}}]}}}}}}\n---\n\
             apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: r-milvus}}\ndata:\n  default.yaml: |\n    {}\n",
            config.replace('\n', "\n    ")
        );
        let mut builder = Builder::default();
        for document in documents(&text) {
            let origin = Origin {
                source: "x".into(),
                document: 1,
                line: 0,
            };
            builder.add(Object::read(&document.unwrap().root, &origin, Some("milvus")).unwrap());
        }
        builder.build().releases.remove(0)
    }

    const IMAGE: &str = "milvusdb/milvus:v2.3.1";

    #[test]
    fn equal_releases_do_not_drift() {
        assert!(
            drift(
                &release(IMAGE, "etcd: {rootPath: a}"),
                &release(IMAGE, "etcd:\n  rootPath: a")
            )
            .is_empty()
        );
    }

    #[test]
    fn images_and_settings_drift() {
        let stored = release(IMAGE, "etcd: {rootPath: a}\nminio: {bucketName: b}");
        let live = release(
            "milvusdb/milvus:v2.3.2",
            "etcd: {rootPath: c}\nproxy: {port: 1}",
        );
        let seen: Vec<_> = drift(&stored, &live)
            .into_iter()
            .map(|fact| (fact.object, fact.what, fact.revision, fact.live))
            .collect();
        let row = |object: &str, what: &str, revision: &str, live: &str| {
            (
                object.to_owned(),
                what.to_owned(),
                revision.to_owned(),
                live.to_owned(),
            )
        };
        assert_eq!(
            seen,
            [
                row(
                    "Deployment/r-milvus-proxy",
                    "image",
                    IMAGE,
                    "milvusdb/milvus:v2.3.2"
                ),
                row("ConfigMap/r-milvus", "etcd.rootPath", "a", "c"),
                row("ConfigMap/r-milvus", "minio.bucketName", "b", ABSENT),
                row("ConfigMap/r-milvus", "proxy.port", ABSENT, "1"),
            ]
        );
    }

    #[test]
    fn a_component_on_one_side_only_drifts() {
        let stored = release(IMAGE, "a: b");
        let mut live = stored.clone();
        live.components.clear();
        assert_eq!(drift(&stored, &live)[0].live, ABSENT);
        assert_eq!(drift(&live, &stored)[0].revision, ABSENT);
    }

    #[test]
    fn a_configuration_that_was_not_read_does_not_count_as_drift() {
        let stored = release(IMAGE, "a: b");
        let mut live = stored.clone();
        live.config = milvus_guard_core::milvus::EffectiveConfig::default();
        assert!(drift(&stored, &live).is_empty());
    }

    #[rstest]
    #[case("minio.secretAccessKey", "hunter2", HIDDEN)]
    #[case("minio.accessKeyID", "hunter2", HIDDEN)]
    #[case("MINIO_SECRET_ACCESS_KEY", "hunter2", HIDDEN)]
    #[case("etcd.auth.password", "hunter2", HIDDEN)]
    #[case("common.security.defaultRootPassword", "hunter2", HIDDEN)]
    #[case("pulsar.authParams", "token:hunter2", HIDDEN)]
    #[case("minio.gcpCredentialJSON", "{}", HIDDEN)]
    #[case("etcd.endpoints", "http://root:hunter2@etcd:2379", HIDDEN)]
    #[case("a.pem", "-----BEGIN PRIVATE KEY-----", HIDDEN)]
    #[case("etcd.rootPath", "by-dev", "by-dev")]
    #[case("etcd.endpoints", "a:2379,b:2379", "a:2379,b:2379")]
    #[case("mq.type", "", "(empty)")]
    fn credentials_are_hidden(#[case] key: &str, #[case] value: &str, #[case] shown: &str) {
        assert_eq!(public(key, value), shown);
    }
}
