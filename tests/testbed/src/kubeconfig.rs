use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::certs::Identity;

/// Name of the cluster, the user and the context in every kubeconfig written here.
const CONTEXT: &str = "testbed";

/// A kubeconfig with one context, as JSON. Every reader of kubeconfigs accepts it, because JSON is
/// YAML.
pub(crate) fn kubeconfig(server: &str, authority_pem: &str, user: &Value) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(authority_pem)}}],
        "users": [{"name": CONTEXT, "user": user}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
        "current-context": CONTEXT,
    })
    .to_string()
}

/// The `user` of a kubeconfig with a client certificate.
pub(crate) fn with_certificate(identity: &Identity) -> Value {
    json!({
        "client-certificate-data": STANDARD.encode(&identity.cert_pem),
        "client-key-data": STANDARD.encode(&identity.key_pem),
    })
}

/// The `user` of a kubeconfig with a bearer token.
pub(crate) fn with_token(token: &str) -> Value {
    json!({"token": token})
}

/// The `user` of a kubeconfig with an administrator's certificate, who impersonates another
/// account.
pub(crate) fn impersonating(administrator: &Identity, user: &str, groups: &[&str]) -> Value {
    let mut value = with_certificate(administrator);
    value["as"] = json!(user);
    value["as-groups"] = json!(groups);
    value
}
