//! Milvus as this project knows it: versions, images, components, configuration, releases, and the
//! data about them.

pub mod build;
pub mod catalogue;
pub mod chart_ref;
pub mod component;
pub mod component_workload;
pub mod config;
mod configured;
pub mod data_location;
pub mod day;
pub mod dependency;
pub mod dependency_folder;
pub mod dependency_use;
pub mod endpoint;
mod grouping;
pub mod held_data;
pub mod identify;
pub mod image;
pub mod manager;
pub mod may_configure;
pub mod metadata_root;
pub mod minio_store;
pub mod namespace_state;
pub mod others;
pub(crate) mod pairing;
pub mod queue_kind;
pub mod release;
pub mod service_names;
pub mod settings;
pub mod snapshot;
mod tag;
mod vendor;
pub mod version;
pub mod volume;
mod volume_binding;

pub use build::Build;
pub use component::{Component, Coordinators, Topology};
pub use config::EffectiveConfig;
pub use day::Day;
pub use image::ImageRef;
pub use manager::Manager;
pub use namespace_state::NamespaceState;
pub use others::Others;
pub use release::Release;
pub use snapshot::Snapshot;
pub use version::{Line, Range, Version};
