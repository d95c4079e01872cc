//! How much memory an object takes, give or take some, and the same object with the large parts
//! left out. What is left out is unknown to anyone who looks for it, never absent.

use std::sync::Arc;

use super::{
    Object,
    object::{
        ConfigMap, Container, EnvFrom, Labels, Meta, NoText, SourceKind, SourceRef, Variables,
        VolumeSource, Workload,
    },
};

/// A name that no object can have: where it stands, variables are unknown.
const LEFT_OUT: &str = "(left out: too large to keep)";
/// Containers, mounts, volumes, sources and labels that are kept of an object that is too large.
const MAX_PARTS: usize = 16;
/// Bytes of a text that is kept of such an object.
const MAX_TEXT: usize = 512;
/// Bytes of the variables, and of the command line, of one container of such an object.
const MAX_CONTAINER: usize = 4 * 1024;

/// Bytes that the objects of one namespace may take. One with ten releases of Milvus takes less
/// than 1 MiB.
pub const MAX_NAMESPACE_BYTES: usize = 8 * 1024 * 1024;
/// Objects below this are never reduced: nothing is won.
pub const SMALL: usize = 4 * 1024;

/// What a text or a list costs in addition to its content.
const ENTRY: usize = 32;

impl Object {
    /// Bytes that the object takes, give or take some.
    #[must_use]
    pub fn weight(&self) -> usize {
        let meta = of_meta(self.meta());
        meta + match self {
            Self::Workload(workload) => of_workload(workload),
            Self::Config(config) => {
                let file = |file: &super::object::ConfigFile| {
                    file.key.len() + file.text.as_deref().map_or(0, str::len) + 2 * ENTRY
                };
                config.files.iter().map(file).sum()
            }
            Self::Claim(claim) => {
                claim
                    .access_modes
                    .iter()
                    .map(|mode| mode.len() + ENTRY)
                    .sum::<usize>()
                    + 4 * ENTRY
            }
            Self::Volume(volume) => {
                let nodes = volume.nodes.iter().map(|node| node.len() + ENTRY);
                volume.source.len() + nodes.sum::<usize>() + 4 * ENTRY
            }
            Self::Service(_) | Self::Autoscaler(_) | Self::Deployer(_) | Self::Other(_) => 0,
        }
    }

    /// The object without its large parts; `None` if only the whole of it is of any use. `matters`
    /// tells for containers whether they are to be kept before all others.
    #[must_use]
    pub fn reduced(&self, matters: impl Fn(&Container) -> bool) -> Option<Self> {
        Some(match self {
            Self::Workload(workload) => Self::Workload(Arc::new(reduced(workload, matters))),
            // An object that is not there is unknown to who looks for it; one without its keys
            // would seem not to have them.
            Self::Config(config) if config.files.len() > MAX_PARTS => return None,
            Self::Config(config) if config.files.iter().any(|file| file.key.len() > MAX_TEXT) => {
                return None;
            }
            Self::Config(config) => {
                let mut config = ConfigMap::clone(config);
                config.meta = few_labels(config.meta);
                for file in &mut config.files {
                    file.text = Err(NoText::LeftOut);
                }
                Self::Config(Arc::new(config))
            }
            Self::Claim(claim) => {
                let mut claim = claim.clone();
                claim.meta = few_labels(claim.meta);
                claim.access_modes.truncate(MAX_PARTS);
                Self::Claim(claim)
            }
            Self::Service(meta) => Self::Service(few_labels(meta.clone())),
            Self::Autoscaler(autoscaler) => {
                let mut autoscaler = autoscaler.clone();
                autoscaler.meta = few_labels(autoscaler.meta);
                Self::Autoscaler(autoscaler)
            }
            Self::Volume(_) | Self::Deployer(_) | Self::Other(_) => return None,
        })
    }
}

fn of_labels(labels: &Labels) -> usize {
    labels
        .iter()
        .map(|(key, value)| key.len() + value.len() + ENTRY)
        .sum()
}

fn of_meta(meta: &Meta) -> usize {
    8 * ENTRY + meta.object.name.len() + of_labels(&meta.labels) + of_labels(&meta.annotations)
}

fn of_container(container: &Container) -> usize {
    let words: usize = container
        .command
        .iter()
        .map(|word| word.len() + ENTRY)
        .sum();
    let sources: usize = container
        .env_from
        .iter()
        .map(|one| one.prefix.len() + one.source.name.len() + 3 * ENTRY)
        .sum();
    let mounts: usize = container
        .mounts
        .iter()
        .map(|mount| mount.volume.len() + mount.path.len() + mount.sub_path.len() + 3 * ENTRY)
        .sum();
    14 * ENTRY
        + container.name.len()
        + container.image.len()
        + container.env.bytes()
        + words
        + sources
        + mounts
}

fn of_workload(workload: &Workload) -> usize {
    let containers: usize = workload
        .pod
        .containers
        .iter()
        .chain(&workload.pod.init_containers)
        .map(of_container)
        .sum();
    let volume = |source: &VolumeSource| match source {
        VolumeSource::Files(files) => files
            .iter()
            .map(|one| {
                let items: usize = one
                    .items
                    .iter()
                    .map(|(key, path)| key.len() + path.len() + 2 * ENTRY)
                    .sum();
                one.source.name.len() + 2 * ENTRY + items
            })
            .sum(),
        VolumeSource::Claim(text) | VolumeSource::HostPath(text) | VolumeSource::Other(text) => {
            text.len()
        }
        VolumeSource::EmptyDir => 0,
    };
    let volumes: usize = workload
        .pod
        .volumes
        .iter()
        .map(|one| one.name.len() + 3 * ENTRY + volume(&one.source))
        .sum();
    let templates: usize = workload
        .stateful
        .iter()
        .flat_map(|set| &set.claim_templates)
        .map(|one| one.name.len() + 8 * ENTRY + one.others.as_ref().map_or(0, of_labels))
        .sum();
    let labels = of_labels(&workload.selector)
        + of_labels(&workload.pod.labels)
        + of_labels(&workload.pod.annotations);
    20 * ENTRY + containers + volumes + templates + labels
}

/// The labels by which charts and operators group objects come first.
fn few(labels: &Labels) -> Labels {
    const GROUPS: [&str; 4] = ["app", "component", "meta.helm.sh/", "release"];
    let is_short = |(key, value): &(&str, &str)| key.len() <= MAX_TEXT && value.len() <= MAX_TEXT;
    let groups = |(key, _): &(&str, &str)| GROUPS.iter().any(|start| key.starts_with(start));
    labels
        .iter()
        .filter(is_short)
        .filter(groups)
        .take(MAX_PARTS)
        .collect()
}

fn few_labels(mut meta: Meta) -> Meta {
    meta.labels = few(&meta.labels);
    meta.annotations = few(&meta.annotations);
    meta
}

fn short(text: &mut String) {
    if text.len() > MAX_TEXT {
        LEFT_OUT.clone_into(text);
    }
}

fn reduced(workload: &Workload, matters: impl Fn(&Container) -> bool) -> Workload {
    let mut small = workload.clone();
    small.meta = few_labels(small.meta);
    small.selector = few(&small.selector);
    small.pod.labels = few(&small.pod.labels);
    small.pod.annotations = few(&small.pod.annotations);
    for containers in [&mut small.pod.containers, &mut small.pod.init_containers] {
        // A stable sort: what matters keeps its order.
        containers.sort_by_key(|container| !matters(container));
        containers.truncate(MAX_PARTS);
        containers.iter_mut().for_each(reduce);
    }
    small.pod.volumes.truncate(4 * MAX_PARTS);
    for volume in &mut small.pod.volumes {
        short(&mut volume.name);
        match &mut volume.source {
            VolumeSource::Files(files)
                if files.len() > MAX_PARTS
                    || files.iter().any(|one| one.items.len() > MAX_PARTS) =>
            {
                volume.source = VolumeSource::Other(LEFT_OUT.to_owned());
            }
            VolumeSource::Claim(text)
            | VolumeSource::HostPath(text)
            | VolumeSource::Other(text) => short(text),
            VolumeSource::Files(_) | VolumeSource::EmptyDir => {}
        }
    }
    if let Some(set) = &mut small.stateful {
        set.claim_templates.truncate(4 * MAX_PARTS);
        for template in &mut set.claim_templates {
            template
                .others
                .take_if(|others| of_labels(others) > MAX_TEXT);
        }
    }
    small
}

fn reduce(container: &mut Container) {
    short(&mut container.name);
    short(&mut container.image);
    let imports = container.env_from.len() > MAX_PARTS
        || container
            .env_from
            .iter()
            .any(|one| one.prefix.len() > MAX_TEXT);
    if container.env.bytes() > MAX_CONTAINER || imports {
        container.env = Variables::default();
        let source = SourceRef {
            kind: SourceKind::ConfigMap,
            name: LEFT_OUT.to_owned(),
        };
        container.env_from = vec![EnvFrom {
            prefix: String::new(),
            source,
        }];
    }
    let mut left = MAX_CONTAINER;
    container.command.retain(|word| {
        left = left.saturating_sub(word.len() + ENTRY);
        left > 0
    });
    container.mounts.truncate(4 * MAX_PARTS);
    container
        .mounts
        .retain(|mount| mount.path.len() <= MAX_TEXT && mount.sub_path.len() <= MAX_TEXT);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::manifest::{Node, Origin};

    fn object(value: &Value) -> Object {
        Object::read(
            &Node::from_json(value),
            &Origin {
                source: "x".into(),
                document: 1,
                line: 0,
            },
            None,
        )
        .unwrap()
    }

    #[test]
    fn an_object_without_its_large_parts_is_small_and_says_what_is_left_out() {
        let env: Vec<Value> = (0..20_000)
            .map(|n| json!({"name": format!("E{n}"), "value": "x"}))
            .collect();
        let extra: Vec<Value> = (0..3_000)
            .map(|n| json!({"name": format!("c{n}"), "image": "nginx"}))
            .collect();
        let milvus = json!({"name": "m", "image": "milvusdb/milvus:v2.4.5", "env": env, "command": vec!["x"; 9_000]});
        let labels: Value = (0..5_000)
            .map(|n| (format!("app{n}"), json!("x")))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let containers = [extra, vec![milvus]].concat();
        let large = object(
            &json!({"kind": "Deployment", "metadata": {"name": "a", "labels": labels},
            "spec": {"template": {"spec": {"containers": containers}}}}),
        );
        assert!(large.weight() > 1024 * 1024, "{}", large.weight());
        let small = large
            .reduced(|container| container.image.contains("milvus"))
            .unwrap();
        assert!(small.weight() < 32 * 1024, "{}", small.weight());
        let Object::Workload(workload) = &small else {
            panic!()
        };
        let first = &workload.pod.containers[0];
        assert_eq!(
            (first.image.as_str(), first.env.len(), first.env_from.len()),
            ("milvusdb/milvus:v2.4.5", 0, 1)
        );
        assert_eq!(workload.pod.containers.len(), MAX_PARTS);
    }

    #[test]
    fn a_configuration_keeps_its_keys_or_is_left_out_as_a_whole() {
        let of = |data: Value| {
            object(&json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}))
        };
        let small = of(json!({"user.yaml": "x".repeat(100_000)}))
            .reduced(|_| false)
            .unwrap();
        let Object::Config(config) = &small else {
            panic!()
        };
        assert_eq!(config.files[0].text, Err(NoText::LeftOut));
        assert!(small.weight() < 1024);
        let many: Value = (0..500)
            .map(|n| (format!("k{n}"), json!("x")))
            .collect::<serde_json::Map<_, _>>()
            .into();
        assert_eq!(of(many).reduced(|_| false), None);
        assert_eq!(of(json!({"k".repeat(1000): ""})).reduced(|_| false), None);
    }
}
