//! What an input holds, as data.

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

/// What an input holds.
#[derive(Debug, Default)]
pub struct Content {
    /// The objects, in their order.
    pub objects: Vec<Object>,
    /// What Helm knows of the releases among them. Manifests and hooks are taken out.
    pub helm: Vec<StoredRelease>,
    /// Workloads that Helm makes as hooks, of all namespaces.
    pub hooks: Vec<Arc<Workload>>,
    /// Documents of another kind.
    pub foreign: Vec<Foreign>,
    /// How many objects of each other namespace were left out.
    pub left_out: BTreeMap<String, usize>,
    /// Whether a workload of Milvus is among them.
    pub has_left_out_milvus: bool,
    /// What could not be used, with the reason.
    pub not_read: Vec<String>,
    /// Which charts made the workloads, where Helm's comments tell.
    pub places: ChartPlaces,
    /// How the objects came.
    pub form: Form,
    /// Workloads without a selector: they may be patches of those in the other input.
    pub partial: Vec<RawObject>,
    /// The documents of the objects that were asked for with [`Collector::keep`].
    pub raw: Vec<RawObject>,
}

/// An object as it was written.
#[derive(Clone, Debug)]
pub struct RawObject {
    /// Identity.
    pub object: ObjectRef,
    /// Where it stands.
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

/// How the objects of an input came, as far as it tells whether they are all of a release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Manifests of which it is not known.
    #[default]
    Manifests,
    /// Manifests with Helm's `# Source:` comments: the render of a chart, or of some of its
    /// templates.
    Rendered,
    /// A whole release for sure: from Helm, from a Terraform plan, or the running state.
    Whole,
}

impl Content {
    /// A builder with everything in it.
    #[must_use]
    pub fn builder(&self) -> Builder {
        let mut builder = Builder::default();
        for object in &self.objects {
            builder.add(object.clone());
        }
        self.describe_to(&mut builder);
        builder
    }

    /// Tells a builder what Helm knows of the releases.
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
