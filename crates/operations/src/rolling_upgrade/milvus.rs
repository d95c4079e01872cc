//! The connection of a run to Milvus: whether its proxy can be reached. Checked once.

use crate::engine::StepError;
use milvus_guard_sources::milvus::{ApiError, Proxy};

use super::{
    context::{ProxyConnection, StepContext},
    proxy_address::{NoProxy, knock, locate},
    settings::AskMilvus,
};

impl ProxyConnection {
    /// The proxy, or why there is none.
    ///
    /// # Errors
    /// If the run must stop.
    pub async fn proxy(&self, cx: &StepContext<'_>) -> Result<Result<&Proxy, &NoProxy>, StepError> {
        let found = self.proxy.get_or_try_init(|| find(cx)).await?;
        Ok(found.as_ref())
    }

    /// Whether Milvus answers. If it does not, the user is told once.
    ///
    /// # Errors
    /// If the run must stop.
    pub async fn is_reached(&self, cx: &StepContext<'_>) -> Result<bool, StepError> {
        let proxy = self.proxy(cx).await?;
        let reached = self.reached.get_or_init(async || match proxy {
            Err(why) => {
                unasked(cx, &why.to_string());
                false
            }
            Ok(proxy) => match knock(proxy).await {
                Ok(version) => {
                    cx.reporter().note(format!(
                        "Milvus {version} at {} is asked what is loaded",
                        proxy.address
                    ));
                    true
                }
                Err(error) => {
                    let hint = hint(&cx.data.settings.milvus.ask, &error);
                    unasked(cx, &format!("{error}{hint}"));
                    false
                }
            },
        });
        Ok(*reached.await)
    }
}

/// Warns that this run cannot check whether Milvus serves what it had loaded.
pub fn unasked(cx: &StepContext<'_>, why: &str) {
    cx.reporter().warn(format!(
        "could not ask Milvus whether every loaded collection has its segments on the new query \
         nodes ({why}): searches may be incomplete for a while after they are ready"
    ));
}

/// What the user can do about it.
fn hint(ask: &AskMilvus, error: &ApiError) -> &'static str {
    match (error, ask) {
        (ApiError::Unauthenticated { .. } | ApiError::PermissionDenied { .. }, _) => {
            "; --milvus-secret names a Secret with a user"
        }
        (ApiError::Unreachable { .. }, AskMilvus::AtService) => "; --milvus gives another address",
        _ => "",
    }
}

async fn find(cx: &StepContext<'_>) -> Result<Result<Proxy, NoProxy>, StepError> {
    let settings = &cx.data.settings;
    let namespace = &settings.run.release.namespace;
    let found = locate(cx.client, &cx.data.release, namespace, &settings.milvus).await;
    found.map_err(StepError::Cancelled)
}
