//! The configuration of a release, read from the objects that its pods refer to.

use std::sync::Arc;

use crate::manifest::object::{ConfigMap, VolumeSource};

use super::{
    config::{EffectiveConfig, Parsed},
    release::Release,
};

/// Whether a release may be in a namespace: it is, or one of the two is not known.
pub(super) fn same_namespace(release: &Release, namespace: Option<&str>) -> bool {
    match (&release.namespace, namespace) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

impl Release {
    /// Reads the configuration again from these objects.
    pub fn configure(&mut self, configs: &[Arc<ConfigMap>]) {
        configure(self, configs, &mut Parsed::default());
    }
}

/// Reads the configuration of a release again: files and variables of each component.
pub(super) fn configure(release: &mut Release, configs: &[Arc<ConfigMap>], parsed: &mut Parsed) {
    let fallback = fallback(release, configs);
    let namespace = release.namespace.as_deref();
    release.config = EffectiveConfig::of(
        &release.components,
        configs,
        namespace,
        fallback.as_ref(),
        &release.config,
        parsed,
    );
}

/// Reads the configuration of one component again.
pub(super) fn configure_component(release: &mut Release, at: usize, configs: &[Arc<ConfigMap>]) {
    let fallback = fallback(release, configs);
    let Some(component) = release.components.get(at) else {
        return;
    };
    let namespace = release.namespace.as_deref();
    release.config =
        release
            .config
            .with_component(at, component, configs, namespace, fallback.as_ref());
}

/// The `ConfigMap` that is named as charts name it: it counts where no component shows what it
/// mounts (a partial input).
fn fallback(release: &Release, configs: &[Arc<ConfigMap>]) -> Option<Arc<ConfigMap>> {
    let shows_mounts = release.components.iter().any(|component| {
        let mut files = component
            .workload
            .pod
            .volumes
            .iter()
            .map(|volume| matches!(volume.source, VolumeSource::Files(_)));
        files.any(|is_files| is_files)
    });
    let named = |config: &&Arc<ConfigMap>| {
        config.meta.object.name == release.fullname
            && config.is_milvus_configuration()
            && same_namespace(release, config.meta.object.namespace.as_deref())
    };
    if shows_mounts {
        None
    } else {
        configs.iter().find(named).cloned()
    }
}
