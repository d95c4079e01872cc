//! What the webhook configurations carry as `caBundle`: read, and written where it differs. Nothing
//! else of them is touched, so that Helm and others keep what is theirs.

use base64::{Engine, prelude::BASE64_STANDARD};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

use super::api::{Answer, MANAGER, answer, words};
use milvus_guard_sources::kubernetes::ClusterError;

/// Both kinds of webhook configuration.
const KINDS: [&str; 2] = [
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
];

/// One configuration as it was read.
pub(super) struct Configuration {
    kind: &'static str,
    name: String,
    version: String,
    webhooks: Vec<Webhook>,
}

struct Webhook {
    name: String,
    /// Base64, as it came.
    bundle: String,
}

fn api(client: &Client, kind: &'static str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
    Api::all_with(client.clone(), &ApiResource::from_gvk(&kind))
}

/// The configurations of this name that exist.
///
/// # Errors
/// Where one cannot be read.
pub(super) async fn read(client: &Client, name: &str) -> Result<Vec<Configuration>, ClusterError> {
    let mut found = Vec::new();
    for kind in KINDS {
        let object = api(client, kind)
            .get_opt(name)
            .await
            .map_err(|error| words(&error, "get", &format!("{kind} {name}")))?;
        let Some(object) = object else { continue };
        let text = |webhook: &Value, path: &str| {
            webhook
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let webhooks = object
            .data
            .get("webhooks")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        found.push(Configuration {
            kind,
            name: name.to_owned(),
            version: object.metadata.resource_version.unwrap_or_default(),
            webhooks: webhooks
                .iter()
                .map(|webhook| Webhook {
                    name: text(webhook, "/name"),
                    bundle: text(webhook, "/clientConfig/caBundle"),
                })
                .collect(),
        });
    }
    Ok(found)
}

impl Configuration {
    /// Whether each of its webhooks carries exactly this.
    pub(super) fn carries(&self, bundle: &str) -> bool {
        let wanted = BASE64_STANDARD.encode(bundle);
        self.webhooks.iter().all(|webhook| webhook.bundle == wanted)
    }

    /// Writes the bundle, unless someone changed the configuration since it was read.
    ///
    /// # Errors
    /// Where it may not be written.
    pub(super) async fn register(
        &self,
        client: &Client,
        bundle: &str,
    ) -> Result<Answer, ClusterError> {
        let wanted = BASE64_STANDARD.encode(bundle);
        // A strategic merge finds the webhooks by name and leaves the rest of each alone. The
        // version makes the API server refuse what was decided on an older state: a replica
        // that led before must not take back what its successor wrote.
        let patch = json!({
            "metadata": {"resourceVersion": self.version},
            "webhooks": self.webhooks.iter()
                .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": wanted}}))
                .collect::<Vec<_>>(),
        });
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        let patched = api(client, self.kind)
            .patch(&self.name, &params, &Patch::Strategic(patch))
            .await;
        answer(
            patched.map(|_| ()),
            "patch",
            &format!("{} {}", self.kind, self.name),
        )
    }
}
