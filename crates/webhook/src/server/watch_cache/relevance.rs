//! Which objects a rule could look at.

use std::collections::BTreeMap;

use milvus_guard_core::{
    manifest::{Object, object::ConfigMap},
    milvus::{dependency, identify},
};
use serde_json::Value;

/// The labels of an object.
pub(in crate::server) fn labels(object: &Value) -> BTreeMap<String, String> {
    object
        .pointer("/metadata/labels")
        .and_then(|labels| serde_json::from_value(labels.clone()).ok())
        .unwrap_or_default()
}

/// Whether a rule could look at an object.
pub(in crate::server) fn is_kept(object: &Object) -> bool {
    match object {
        Object::Workload(workload) => {
            identify::component(workload).is_some() || dependency::family(workload).is_some()
        }
        Object::Config(config) => {
            config.is_milvus_configuration() || is_small_configuration(config)
        }
        Object::Claim(_) | Object::Service(_) | Object::Autoscaler(_) => true,
        Object::Deployer(_) | Object::Other(_) => false,
    }
}

/// A `ConfigMap` without Milvus' own file names is kept for its variables only: a few lines that
/// name the dependencies of Milvus.
const SMALL_CONFIGURATION: usize = 16 * 1024;

fn is_small_configuration(config: &ConfigMap) -> bool {
    let size: usize = config
        .files
        .iter()
        .map(|file| file.key.len() + file.text.as_ref().map_or(0, |text| text.len()))
        .sum();
    let mentions = |text: &str| dependency::may_be_ours(&text.to_ascii_lowercase());
    size <= SMALL_CONFIGURATION
        && config
            .files
            .iter()
            .any(|file| mentions(&file.key) || file.text.as_deref().is_ok_and(mentions))
}
