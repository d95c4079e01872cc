//! Persistent volumes: where their files are, and which claim is bound to them.

use std::borrow::Cow;

use super::{
    meta::Meta,
    volume::{described, normal_path},
};
use crate::manifest::view::DocumentValue;

/// A `PersistentVolume`.
#[derive(Clone, Debug, PartialEq)]
pub struct PersistentVolume {
    /// Metadata. It has no namespace, even where the input has a default one.
    pub meta: Meta,
    /// Where the files are, such as `hostPath /srv/milvus` or `nfs path=/milvus server=nas`.
    pub source: String,
    /// The nodes that have the files, sorted; empty if every node reaches them.
    pub nodes: Vec<String>,
    /// `spec.claimRef`: namespace, where it is written, and name of the claim.
    pub claim: Option<(Option<String>, String)>,
    /// Storage class as written.
    pub storage_class: Option<String>,
}

/// Fields of `spec` that do not say where the files are.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// Fields of a source that say how it is mounted.
const MANNER: [&str; 2] = ["type", "volumeAttributes"];

const HOST_NAME: &str = "kubernetes.io/hostname";

impl PersistentVolume {
    pub(super) fn read<'t>(node: impl DocumentValue<'t>, mut meta: Meta) -> Self {
        meta.object.namespace = None;
        let spec = node.get("spec");
        let source = spec.and_then(|spec| {
            let mut fields = spec.entries();
            let (kind, value) = fields.find(|(key, _)| !NO_SOURCE.contains(&&**key))?;
            Some(match (&*kind, value.text_at(&["path"])) {
                (kind @ ("hostPath" | "local"), Some(path)) => {
                    format!("{kind} {}", normal_path(&path))
                }
                (kind, _) => described(kind, value, &MANNER),
            })
        });
        let terms = node.items_at(&["spec", "nodeAffinity", "required", "nodeSelectorTerms"]);
        let expressions = terms.flat_map(|term| term.items_at(&["matchExpressions"]));
        let hosts = expressions.filter(|one| one.text_at(&["key"]).as_deref() == Some(HOST_NAME));
        let mut nodes: Vec<String> = hosts
            .flat_map(|one| one.items_at(&["values"]))
            .filter_map(DocumentValue::as_text)
            .map(Cow::into_owned)
            .collect();
        nodes.sort_unstable();
        let text = |path: &[&str]| node.text_at(path).map(Cow::into_owned);
        Self {
            meta,
            source: source.unwrap_or_default(),
            nodes,
            claim: text(&["spec", "claimRef", "name"])
                .map(|name| (text(&["spec", "claimRef", "namespace"]), name)),
            storage_class: text(&["spec", "storageClassName"]),
        }
    }

    /// Whether both lead to the same files.
    #[must_use]
    pub fn has_same_files(&self, other: &Self) -> bool {
        // A volume that names no node leads to the files of any node.
        let is_same_node =
            self.nodes.is_empty() || other.nodes.is_empty() || self.nodes == other.nodes;
        self.source == other.source && is_same_node
    }

    /// Where the files are, with the node.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.nodes[..] {
            [] => self.source.clone(),
            nodes => format!("{} on {}", self.source, nodes.join(", ")),
        }
    }
}
