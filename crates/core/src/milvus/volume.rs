//! Where a path of a container lies: on which volume, and where on it. Two paths are the same place
//! if they lead to the same files, however mounts and settings divide the way.

use std::fmt;

use crate::manifest::object::{Container, Mount, Volume, VolumeSource, Workload, normal_path};

use super::config::below;

/// A place on a volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumePlace {
    /// What holds the files.
    pub volume: DataVolume,
    /// The path on it, without slashes at the ends; the whole path if the volume is the image or
    /// the pod's own.
    pub path: String,
}

/// What holds files of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataVolume {
    /// A volume claim; that of a claim template bears the name that the StatefulSet gives it.
    Claim(String),
    /// A folder of the node.
    HostPath,
    /// A volume of another kind, such as NFS.
    Other(String),
    /// An `emptyDir`: deleted with the pod.
    Pod,
    /// The container itself: deleted with the container.
    Container,
    /// Files that an object brings, or a volume that the pod does not define.
    Foreign(String),
}

impl DataVolume {
    /// Whether the files outlive the pod.
    #[must_use]
    pub const fn is_persistent(&self) -> bool {
        matches!(self, Self::Claim(_) | Self::HostPath | Self::Other(_))
    }
}

impl fmt::Display for DataVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(name) => write!(f, "volume claim {name}"),
            Self::HostPath => f.write_str("the node"),
            Self::Other(kind) => write!(f, "the volume {kind}"),
            Self::Pod => f.write_str("a volume that goes with the pod"),
            Self::Container => f.write_str("the container itself"),
            Self::Foreign(name) => write!(f, "the volume {name}"),
        }
    }
}

impl fmt::Display for VolumePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}", self.volume),
            path => write!(f, "{path} on {}", self.volume),
        }
    }
}

/// The folder in which images of Milvus start, from which relative paths count.
const WORKING_FOLDER: &str = "/milvus";

/// The place of a path as a container sees it.
#[must_use]
pub fn place_of(workload: &Workload, container: &Container, path: &str) -> VolumePlace {
    let path = if path.starts_with('/') {
        normal_path(path)
    } else {
        normal_path(&format!("{WORKING_FOLDER}/{path}"))
    };
    let covers = |mount: &&Mount| below(&mount.path, &path).is_some();
    let Some(mount) = container
        .mounts
        .iter()
        .filter(covers)
        .max_by_key(|mount| normal_path(&mount.path).len())
    else {
        return VolumePlace {
            volume: DataVolume::Container,
            path,
        };
    };
    let inside = below(&mount.path, &path).unwrap_or_default();
    let within = normal_path(&format!("{}/{inside}", mount.sub_path.trim_matches('/')));
    let within = within.trim_matches('/').to_owned();
    let (volume, root) = volume_of(workload, &mount.volume);
    match volume {
        DataVolume::Pod | DataVolume::Container => VolumePlace { volume, path },
        DataVolume::HostPath => VolumePlace {
            volume,
            path: normal_path(&format!("{root}/{within}")),
        },
        _ => VolumePlace {
            volume,
            path: within,
        },
    }
}

/// What stands behind a volume of a pod by its name, and the path at which it begins.
#[must_use]
pub fn volume_of(workload: &Workload, name: &str) -> (DataVolume, String) {
    let templates = workload
        .stateful
        .iter()
        .flat_map(|set| &set.claim_templates);
    if let Some(template) = templates.clone().find(|template| template.name == name) {
        // The name that the controller gives to the claim of the first pod.
        return (
            DataVolume::Claim(format!("{}-{}-0", template.name, workload.meta.object.name)),
            String::new(),
        );
    }
    match workload
        .pod
        .volumes
        .iter()
        .find(|volume| volume.name == name)
    {
        Some(Volume {
            source: VolumeSource::Claim(claim),
            ..
        }) => (DataVolume::Claim(claim.clone()), String::new()),
        Some(Volume {
            source: VolumeSource::HostPath(path),
            ..
        }) => (DataVolume::HostPath, path.clone()),
        Some(Volume {
            source: VolumeSource::EmptyDir,
            ..
        }) => (DataVolume::Pod, String::new()),
        Some(Volume {
            source: VolumeSource::Other(kind),
            ..
        }) => (DataVolume::Other(kind.clone()), String::new()),
        Some(Volume {
            source: VolumeSource::Files(_),
            ..
        })
        | None => (DataVolume::Foreign(name.to_owned()), String::new()),
    }
}

/// The persistent volumes that a container mounts, each with the paths at which it sees them.
#[must_use]
pub fn persistent_mounts(workload: &Workload, container: &Container) -> Vec<(VolumePlace, String)> {
    let places = container.mounts.iter().map(|mount| {
        (
            place_of(workload, container, &mount.path),
            normal_path(&mount.path),
        )
    });
    places
        .filter(|(place, _)| place.volume.is_persistent())
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::manifest::{Object, Origin, documents};

    fn place(volumes: &str, mounts: &str, path: &str) -> String {
        let text = format!(
            "kind: StatefulSet\nmetadata: {{name: m}}\nspec:\n  template:\n    spec:\n      containers: [{{name: a, image: x, volumeMounts: [{mounts}]}}]\n      volumes: [{volumes}]\n  volumeClaimTemplates: [{{metadata: {{name: tpl}}}}]\n"
        );
        let document = documents(&text).next().unwrap().unwrap();
        let origin = Origin {
            source: "x".into(),
            document: 1,
            line: 0,
        };
        let Some(Object::Workload(workload)) = Object::read(&document.root, &origin, None) else {
            panic!()
        };
        place_of(&workload, &workload.pod.containers[0], path).to_string()
    }

    #[rstest]
    #[case(
        "{name: v, persistentVolumeClaim: {claimName: c}}",
        "{name: v, mountPath: /var/lib/milvus/}",
        "/var/lib/milvus/rdb_data",
        "rdb_data on volume claim c"
    )]
    #[case(
        "{name: v, persistentVolumeClaim: {claimName: c}}",
        "{name: v, mountPath: /data, subPath: milvus}",
        "/data/rdb_data",
        "milvus/rdb_data on volume claim c"
    )]
    #[case(
        "{name: v, hostPath: {path: /srv/m}}",
        "{name: v, mountPath: /var/lib/milvus}",
        "/var/lib/milvus/rdb_data",
        "/srv/m/rdb_data on the node"
    )]
    #[case(
        "{name: v, hostPath: {path: /srv}}",
        "{name: v, mountPath: /var/lib/milvus, subPath: m}",
        "/var/lib/milvus/rdb_data",
        "/srv/m/rdb_data on the node"
    )]
    #[case(
        "",
        "{name: tpl, mountPath: /var/lib/milvus}",
        "/var/lib/milvus",
        "volume claim tpl-m-0"
    )]
    #[case(
        "{name: v, emptyDir: {}}",
        "{name: v, mountPath: /var/lib/milvus}",
        "/var/lib/milvus/x",
        "/var/lib/milvus/x on a volume that goes with the pod"
    )]
    #[case("", "", "default.etcd", "/milvus/default.etcd on the container itself")]
    #[case(
        "{name: v, persistentVolumeClaim: {claimName: c}}",
        "{name: v, mountPath: /var/lib/milvus2}",
        "/var/lib/milvus",
        "/var/lib/milvus on the container itself"
    )]
    #[case(
        "{name: v, nfs: {server: a, path: /b}}",
        "{name: v, mountPath: /var/lib/milvus}",
        "/var/lib/milvus/x",
        "x on the volume nfs path=/b server=a"
    )]
    #[case(
        "{name: a, persistentVolumeClaim: {claimName: a}}, {name: b, persistentVolumeClaim: {claimName: b}}",
        "{name: a, mountPath: /var/lib/milvus}, {name: b, mountPath: /var/lib/milvus/rdb_data}",
        "/var/lib/milvus/rdb_data",
        "volume claim b"
    )]
    fn paths(
        #[case] volumes: &str,
        #[case] mounts: &str,
        #[case] path: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(place(volumes, mounts, path), expected);
    }
}
