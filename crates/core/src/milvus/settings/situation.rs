//! What a release says of itself to the tables of the data.

use crate::milvus::{
    catalogue::{PulsarTenant, Situation, WOODPECKER_STORAGE},
    release::Release,
};

use super::located::Plain;

impl Situation {
    /// What a release says of itself. Without a configuration the queue and the metastore are
    /// unknown.
    #[must_use]
    pub fn of(release: &Release) -> Self {
        let has_config = release.has_config();
        let mut variants: Vec<String> = Vec::new();
        for build in release
            .components
            .iter()
            .filter_map(|component| component.version().into_build())
        {
            for suffix in build.suffixes {
                if !variants.contains(&suffix) {
                    variants.push(suffix);
                }
            }
        }
        Self {
            topology: Some(release.topology()),
            coordinators: Some(release.coordinators()),
            metastore: has_config.then(|| release.metadata().metastore.value.into_owned()),
            queue: has_config.then(|| release.queue().kind.value),
            woodpecker_storage: has_config.then(|| {
                release
                    .config
                    .value(WOODPECKER_STORAGE.0)
                    .unwrap_or(WOODPECKER_STORAGE.1)
                    .to_ascii_lowercase()
            }),
            pulsar_tenant: has_config.then(|| pulsar_tenant(release)),
            variants,
        }
    }

    /// The situation after a change: what the wanted release says, and for what it leaves open what
    /// runs.
    #[must_use]
    pub fn after(before: Option<&Release>, after: &Release) -> Self {
        let wanted = Self::of(after);
        let Some(running) = before.map(Self::of) else {
            return wanted;
        };
        Self {
            metastore: wanted.metastore.or(running.metastore),
            queue: wanted.queue.or(running.queue),
            woodpecker_storage: wanted.woodpecker_storage.or(running.woodpecker_storage),
            pulsar_tenant: wanted.pulsar_tenant.or(running.pulsar_tenant),
            ..wanted
        }
    }
}

/// Which tenant and namespace of Pulsar the components use. One that is not known may be another.
fn pulsar_tenant(release: &Release) -> PulsarTenant {
    let is_default = |key: &str, default: &str| {
        release.located().all(|located| match located.plain(key) {
            Some(Plain::Absent) => true,
            Some(Plain::Text(text)) => text.trim() == default,
            None => false,
        })
    };
    if is_default("pulsar.tenant", "public") && is_default("pulsar.namespace", "default") {
        PulsarTenant::Default
    } else {
        PulsarTenant::Other
    }
}
