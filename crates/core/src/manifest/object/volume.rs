//! Volumes of a pod: claims, files, paths of the node.

use super::config_map::{SourceKind, SourceRef};
use crate::manifest::view::DocumentValue;

/// A volume and what holds its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Name.
    pub name: String,
    /// What is behind it.
    pub source: VolumeSource,
}

/// What holds a volume's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A claim, by name.
    Claim(String),
    /// Files of a `ConfigMap`, a `Secret`, or several of them (`projected`; a later one wins).
    Files(Vec<Files>),
    /// An `emptyDir`, or a volume that is made for the pod: deleted with the pod.
    EmptyDir,
    /// A path of the node.
    HostPath(String),
    /// Anything else, by the field that defines it, such as `nfs` or `csi`.
    Other(String),
}

/// The files that one `ConfigMap` or `Secret` puts into a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Which object.
    pub source: SourceRef,
    /// `items` as key and path; empty means every key under its own name.
    pub items: Vec<(String, String)>,
}

impl VolumeSource {
    /// The names of the `ConfigMap`s behind a volume.
    pub fn config_maps(&self) -> impl Iterator<Item = &str> {
        let files = match self {
            Self::Files(files) => files.as_slice(),
            _ => &[],
        };
        files
            .iter()
            .filter(|one| one.source.kind == SourceKind::ConfigMap)
            .map(|one| one.source.name.as_str())
    }
}

impl Files {
    /// The key that is seen at a path of the volume; `None` if no key is.
    #[must_use]
    pub fn key_at<'a>(&'a self, path: &'a str) -> Option<&'a str> {
        if self.items.is_empty() {
            return (!path.contains('/')).then_some(path);
        }
        self.items
            .iter()
            .find(|(_, at)| at.trim_start_matches("./") == path)
            .map(|(key, _)| key.as_str())
    }

    fn read<'t>(node: impl DocumentValue<'t>, kind: SourceKind) -> Option<Self> {
        // A Secret volume has `secretName`, a projected one `name`.
        let name = node
            .text_at(&["secretName"])
            .or_else(|| node.text_at(&["name"]))?
            .into_owned();
        let items = node
            .items_at(&["items"])
            .filter_map(|item| {
                Some((
                    item.text_at(&["key"])?.into_owned(),
                    item.text_at(&["path"])?.into_owned(),
                ))
            })
            .collect();
        Some(Self {
            source: SourceRef { kind, name },
            items,
        })
    }
}

impl Volume {
    pub(super) fn read<'t>(node: impl DocumentValue<'t>) -> Self {
        let files = |node: Option<_>, kind| node.and_then(|node| Files::read(node, kind));
        let source = if let Some(claim) = node.text_at(&["persistentVolumeClaim", "claimName"]) {
            VolumeSource::Claim(claim.into_owned())
        } else if let Some(files) = files(node.get("configMap"), SourceKind::ConfigMap)
            .or_else(|| files(node.get("secret"), SourceKind::Secret))
        {
            VolumeSource::Files(vec![files])
        } else if let Some(projected) = node.get("projected") {
            let of = |source| {
                files(
                    DocumentValue::get(source, "configMap"),
                    SourceKind::ConfigMap,
                )
                .or_else(|| files(DocumentValue::get(source, "secret"), SourceKind::Secret))
            };
            VolumeSource::Files(projected.items_at(&["sources"]).filter_map(of).collect())
        } else if node.get("emptyDir").is_some() || node.get("ephemeral").is_some() {
            VolumeSource::EmptyDir
        } else if let Some(host) = node.get("hostPath") {
            let path = host.text_at(&["path"]).unwrap_or_default();
            VolumeSource::HostPath(normal_path(&path))
        } else {
            // The definition counts too: the same share under another path is another place.
            let kind = node.entries().find(|(key, _)| key != "name");
            VolumeSource::Other(
                kind.map(|(key, value)| described(&key, value, &[]))
                    .unwrap_or_default(),
            )
        };
        Self {
            name: node.text_at(&["name"]).unwrap_or_default().into_owned(),
            source,
        }
    }
}

/// A path without doubled and trailing slashes.
#[must_use]
pub fn normal_path(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

/// A volume source of another kind, with the scalars that define it (`nfs path=/b server=a`), those
/// of maps and lists in it too, bounded. References to credentials do not define it, nor do the
/// fields that are left out.
pub(super) fn described<'t>(
    kind: &str,
    value: impl DocumentValue<'t>,
    left_out: &[&str],
) -> String {
    let mut text = kind.to_owned();
    let mut room = MAX_SCALARS;
    describe("", value, MAX_DEPTH, left_out, &mut room, &mut text);
    text
}

/// Bounds of what is read of a volume source.
const MAX_SCALARS: usize = 32;
const MAX_DEPTH: usize = 3;
const MAX_SCALAR: usize = 256;

/// Fields that say how a volume is mounted, not where its files are.
const IS_NO_PLACE: [&str; 3] = ["readOnly", "fsType", "mountOptions"];

fn describe<'t>(
    path: &str,
    value: impl DocumentValue<'t>,
    depth: usize,
    left_out: &[&str],
    room: &mut usize,
    text: &mut String,
) {
    if let Some(scalar) = value.as_text() {
        if *room > 0 && scalar.len() <= MAX_SCALAR {
            *room -= 1;
            let is_path = path.rsplit('.').next() == Some("path");
            let scalar = if is_path {
                normal_path(&scalar).into()
            } else {
                scalar
            };
            text.push_str(&format!(" {path}={scalar}"));
        }
        return;
    }
    if depth == 0 {
        return;
    }
    // The order of fields is that of the writer, and does not matter.
    let mut entries: Vec<_> = value.entries().take(MAX_SCALARS).collect();
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (key, value) in entries {
        if is_credential(&key) || IS_NO_PLACE.contains(&&*key) || left_out.contains(&&*key) {
            continue;
        }
        let path = if path.is_empty() {
            key.to_string()
        } else {
            format!("{path}.{key}")
        };
        describe(&path, value, depth - 1, left_out, room, text);
    }
    for value in value.items().take(MAX_SCALARS) {
        describe(path, value, depth - 1, left_out, room, text);
    }
}

/// Whether a field holds a credential, or refers to one: another one leads to the same files. (A
/// `secretName` of Azure names the account too.)
fn is_credential(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let mut words = ["password", "token", "accountkey"].into_iter();
    key.ends_with("secretref") || words.any(|word| key.contains(word))
}
