//! Which objects a rule could look at.

use std::collections::BTreeMap;

use milvus_guard_core::{
    manifest::{
        Object,
        object::{ConfigFile, ConfigMap},
    },
    milvus::{dependency, identify, may_configure::may_configure},
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
        Object::Config(config) => may_configure(config) || is_small_configuration(config),
        Object::Claim(_) | Object::Service(_) | Object::Autoscaler(_) => true,
        // Its source cannot be changed in a cluster.
        Object::Volume(_) | Object::Deployer(_) | Object::Other(_) => false,
    }
}

/// A `ConfigMap` that is Milvus' neither by its keys nor by its name is kept if it is a few lines
/// that name the dependencies of Milvus: a variable or a mount may give them any name.
const SMALL_CONFIGURATION: usize = 16 * 1024;

fn is_small_configuration(config: &ConfigMap) -> bool {
    let size: usize = config
        .files
        .iter()
        .map(|file| file.key.len() + file.text.as_ref().map_or(0, |text| text.len()))
        .sum();
    let mentions = |text: &str| dependency::may_be_ours(&text.to_ascii_lowercase());
    let says_it =
        |file: &ConfigFile| mentions(&file.key) || file.text.as_deref().is_ok_and(mentions);
    size <= SMALL_CONFIGURATION && config.files.iter().any(says_it)
}

#[cfg(test)]
mod tests {
    use milvus_guard_core::manifest::{Origin, documents};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::a_name("x", "milvus.yaml", "a: b", true)]
    #[case::a_dependency("x", "a.env", "ETCD_ENDPOINTS=x", true)]
    #[case::a_part_by_its_label("milvus", "03_proxy_default.yaml", "proxy: {port: 1}", true)]
    #[case::a_variable_without_a_word("x", "COMMON_STORAGETYPE", "local", true)]
    #[case::something_else("x", "03_proxy_default.yaml", "proxy: {port: 1}", false)]
    fn configurations_are_kept(
        #[case] name: &str,
        #[case] key: &str,
        #[case] text: &str,
        #[case] kept: bool,
    ) {
        let yaml = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, labels: {{app.kubernetes.io/name: {name}}}}}\ndata: {{{key}: '{text}'}}\n"
        );
        let document = documents(&yaml).next().unwrap().unwrap();
        let origin = Origin {
            source: "x".into(),
            document: 0,
            line: 1,
        };
        let object = Object::read(&document.root, &origin, None).unwrap();
        assert_eq!(is_kept(&object), kept);
    }
}
