//! Milvus as this project knows it: versions, images, components, configuration, releases, and the data about them.

pub mod catalogue;
pub mod component;
pub mod config;
pub mod dependency;
pub mod image;
pub mod manager;
pub mod place;
pub mod release;
pub mod settings;
pub mod snapshot;
pub mod version;

pub use component::{Component, Coordinators, Topology};
pub use config::EffectiveConfig;
pub use image::{Build, ImageRef};
pub use manager::Manager;
pub use place::Place;
pub use release::Release;
pub use snapshot::Snapshot;
pub use version::{Line, Range, Version};
