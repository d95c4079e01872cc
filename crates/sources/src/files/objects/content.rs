//! The content of an input, as data.

use std::{collections::BTreeMap, sync::Arc};

use milvus_guard_core::{
    helm::StoredRelease,
    manifest::{
        Node, Object, Origin,
        object::{ConfigMap, Meta, ObjectRef, Workload},
    },
    milvus::{manager::ChartPlaces, snapshot::Builder},
};

use crate::files::foreign::Foreign;

/// The content of an input.
#[derive(Debug, Default)]
pub struct Content {
    /// The objects, in their order.
    pub objects: Vec<Object>,
    /// Helm's data about the releases among them, without manifests and hooks.
    pub helm: Vec<StoredRelease>,
    /// Workloads that are hooks of Helm, in all namespaces.
    pub hooks: Vec<Arc<Workload>>,
    /// Documents of another kind.
    pub foreign: Vec<Foreign>,
    /// Number of ignored objects by namespace, for other namespaces.
    pub left_out: BTreeMap<String, usize>,
    /// Whether a workload of Milvus is among them.
    pub has_left_out_milvus: bool,
    /// What could not be used, with the reason.
    pub not_read: Vec<String>,
    /// The charts of the workloads, from Helm's comments.
    pub places: ChartPlaces,
    /// The form of the input.
    pub form: Form,
    /// Workloads without a selector: they may be patches of those in the other input.
    pub partial: Vec<RawObject>,
    /// The documents of the objects that [`Collector::keep`] names.
    pub raw: Vec<RawObject>,
}

/// An object as it was written.
#[derive(Clone, Debug)]
pub struct RawObject {
    /// Identity.
    pub object: ObjectRef,
    /// Its place in the input.
    pub origin: Origin,
    /// The document.
    pub document: Node,
}

impl RawObject {
    /// An object of a cluster; `None` if it has no name.
    #[must_use]
    pub fn live(document: &serde_json::Value, source: &str) -> Option<Self> {
        let document = Node::from_json(document);
        let origin = Origin {
            source: source.into(),
            document: 0,
            line: 0,
        };
        let object = Object::read(&document, &origin, None)?
            .meta()
            .object
            .clone();
        Some(Self {
            object,
            origin,
            document,
        })
    }
}

/// The form of an input, which shows whether it contains a whole release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Manifests: a whole release or a part.
    #[default]
    Manifests,
    /// Manifests with Helm's `# Source:` comments: the render of a chart, or of some of its
    /// templates.
    Rendered,
    /// Always a whole release: from Helm, from a Terraform plan, or the running state.
    Whole,
}

impl Content {
    /// A builder with this content.
    #[must_use]
    pub fn builder(&self) -> Builder {
        let mut builder = Builder::default();
        for object in &self.objects {
            builder.add(object.clone());
        }
        self.describe_to(&mut builder);
        builder
    }

    /// Adds Helm's data about the releases to a builder.
    pub fn describe_to(&self, builder: &mut Builder) {
        builder.add_places(&self.places);
        for release in &self.helm {
            release.describe_to(builder);
        }
    }

    /// Kind and name of each workload that may be a patch.
    #[must_use]
    pub fn patches(&self) -> Vec<(String, String)> {
        self.partial
            .iter()
            .map(|patch| (patch.object.kind.clone(), patch.object.name.clone()))
            .collect()
    }

    /// The configurations among the objects.
    #[must_use]
    pub fn configs(&self) -> Vec<Arc<ConfigMap>> {
        self.objects
            .iter()
            .filter_map(|object| match object {
                Object::Config(config) => Some(config.clone()),
                _ => None,
            })
            .collect()
    }

    /// The metadata of every object.
    pub fn metas(&self) -> impl Iterator<Item = &Meta> {
        self.objects.iter().map(Object::meta)
    }
}
