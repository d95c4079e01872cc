//! The way to etcd, where Milvus' sessions tell which coordinator is active and which nodes live.
//! Whether it is reached is asked once.

use std::time::Duration;

use tokio::{sync::OnceCell, time::timeout};

use crate::engine::etcd;
use milvus_guard_metadata::{
    executor::{Registered, Registry, Target},
    model::sessions::Session,
};
use milvus_guard_sources::etcd::Endpoint;

use super::context::{StepContext, UpgradeContext};

/// For one answer. No one else waits for it, and nothing depends on it alone.
const ANSWER: Duration = Duration::from_secs(2);

/// The way to etcd, found when it is first needed.
#[derive(Default)]
pub struct Sessions(OnceCell<Option<Registry>>);

impl Sessions {
    /// The sessions of Milvus' components; `None` if etcd does not tell. Where it never does, a
    /// person is told, once.
    pub async fn read(&self, cx: &StepContext<'_>) -> Option<Vec<Session>> {
        let all = self.registered(cx).await?;
        Some(all.into_iter().map(|one| one.session).collect())
    }

    /// The same, each with its lease and its revision.
    pub async fn registered(&self, cx: &StepContext<'_>) -> Option<Vec<Registered>> {
        let registry = self.registry(cx).await?;
        timeout(ANSWER, registry.read()).await.ok()?.ok()
    }

    /// Removes sessions of one lease that are still as they were read. Whether they were removed.
    ///
    /// # Errors
    /// Why etcd did not do it.
    pub async fn release(
        &self,
        cx: &StepContext<'_>,
        ended: &[&Registered],
    ) -> Result<bool, String> {
        let Some(registry) = self.registry(cx).await else {
            return Ok(false);
        };
        registry
            .release(ended)
            .await
            .map_err(|failure| failure.reason)
    }

    async fn registry(&self, cx: &StepContext<'_>) -> Option<&Registry> {
        self.0.get_or_init(|| reached(cx)).await.as_ref()
    }
}

async fn reached(cx: &StepContext<'_>) -> Option<Registry> {
    let found = async {
        let mut target = Target::new(endpoint(cx.data)?);
        target.patience = ANSWER;
        timeout(ANSWER, Registry::connect(&target))
            .await
            .map_err(|_| format!("no answer within {} s", ANSWER.as_secs()))?
            .map_err(|error| error.why())
    };
    match found.await {
        Ok(registry) => Some(registry),
        Err(why) => {
            let text = format!("could not ask etcd which coordinators are active: {why}");
            if cx.data.settings.etcd.addresses.is_empty() {
                cx.reporter()
                    .note(format!("{text}; -e gives its addresses"));
            } else {
                cx.reporter().warn(text);
            }
            None
        }
    }
}

fn endpoint(data: &UpgradeContext) -> Result<Endpoint, String> {
    let (settings, release) = (&data.settings, &data.release);
    let metadata = release.metadata();
    Ok(Endpoint {
        addresses: etcd::addresses(
            &settings.etcd.addresses,
            release,
            &settings.release.namespace,
        )?,
        root_path: metadata.root_path.value.into_owned(),
        meta_sub_path: metadata.meta_sub_path.value.into_owned(),
        tls: settings.etcd.tls.clone(),
        user: settings.etcd.user.clone(),
        release: Some(release.name.clone()),
    })
}
