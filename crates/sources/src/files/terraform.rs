//! Objects in Terraform's JSON: the `manifest` of a `helm_release` (a map of all its objects), and
//! plans and states as `terraform show -json` prints them (<https://developer.hashicorp.com/terraform/internals/json-format>).

use milvus_guard_core::manifest::Tree;

use super::{Role, foreign::shown};

/// Largest depth of modules inside modules.
const MAX_MODULES: u8 = 16;

/// An object in Terraform's JSON.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'t> {
    /// As a mapping.
    Tree(&'t Tree<'t>),
    /// As YAML or JSON in a text: name of the attribute, and the text.
    Text(&'t str, &'t str),
}

/// The objects of a plan or state, and what was skipped.
#[derive(Debug, Default)]
pub(super) struct Plan<'t> {
    pub(super) objects: Vec<Found<'t>>,
    pub(super) not_read: Vec<String>,
}

fn is_object(node: &Tree<'_>) -> bool {
    node.text_at(&["kind"]).is_some()
        && node.text_at(&["apiVersion"]).is_some()
        && node.at(&["metadata", "name"]).is_some()
}

/// The objects of a mapping whose values are objects, or texts of objects; `None` if no value is
/// one.
pub(super) fn objects_of_map<'t>(node: &'t Tree<'_>) -> Option<Vec<Found<'t>>> {
    let found: Vec<Found<'t>> = node
        .entries()
        .filter_map(|(name, value)| match value.as_str() {
            Some(text) if looks_like_object(text) => Some(Found::Text(name, text)),
            _ => is_object(value).then_some(Found::Tree(value)),
        })
        .collect();
    (!found.is_empty()).then_some(found)
}

/// Whether a text may be an object. Parsing decides later.
fn looks_like_object(text: &str) -> bool {
    let text = text.trim_start();
    let head: String = text.chars().take(400).collect();
    (text.starts_with('{')
        || text.starts_with("apiVersion:")
        || text.starts_with("---")
        || text.starts_with("kind:"))
        && head.contains("kind")
        && head.contains("apiVersion")
}

/// Whether a document is the output of `terraform show -json`.
pub(super) fn is_plan(node: &Tree<'_>) -> bool {
    node.get("format_version").is_some()
        && ["planned_values", "prior_state", "values"]
            .iter()
            .any(|key| node.get(key).is_some_and(Tree::is_mapping))
}

/// The objects that a plan or state contains for one side of a change: the prior state before it,
/// the planned state after it.
pub(super) fn objects_of_plan<'t>(node: &'t Tree<'_>, role: Role) -> Plan<'t> {
    let root = match role {
        Role::Before => node.at(&["prior_state", "values", "root_module"]),
        Role::After => node.at(&["planned_values", "root_module"]),
    };
    let mut plan = Plan::default();
    if let Some(root) = root.or_else(|| node.at(&["values", "root_module"])) {
        read_module(root, MAX_MODULES, &mut plan);
    }
    plan
}

fn read_module<'t>(module: &'t Tree<'_>, depth: u8, plan: &mut Plan<'t>) {
    for resource in module.items_at(&["resources"]) {
        if resource.text_at(&["mode"]) != Some("data") {
            read_resource(resource, plan);
        }
    }
    for child in module.items_at(&["child_modules"]) {
        match depth.checked_sub(1) {
            Some(depth) => read_module(child, depth, plan),
            None => plan.not_read.push("modules nested too deep".into()),
        }
    }
}

fn read_resource<'t>(resource: &'t Tree<'_>, plan: &mut Plan<'t>) {
    let kind = resource.text_at(&["type"]).unwrap_or_default();
    let address = resource.text_at(&["address"]).unwrap_or(kind);
    let value = |key: &str| resource.at(&["values", key]);
    match kind {
        "kubernetes_manifest" => match value("manifest")
            .or_else(|| value("object"))
            .filter(|object| is_object(object))
        {
            Some(object) => plan.objects.push(Found::Tree(object)),
            None => plan.not_read.push(format!(
                "{}: the manifest is not known before apply",
                shown(address)
            )),
        },
        "kubectl_manifest" => match value("yaml_body_parsed")
            .or_else(|| value("yaml_body"))
            .and_then(Tree::as_str)
        {
            Some(text) => plan.objects.push(Found::Text(address, text)),
            None => plan.not_read.push(format!(
                "{}: yaml_body is not known before apply",
                shown(address)
            )),
        },
        "helm_release" => match value("manifest").and_then(Tree::as_str) {
            Some(text) => plan.objects.push(Found::Text(address, text)),
            None => plan.not_read.push(format!(
                "{}: the plan holds no manifest of the release; set experiments = {{ manifest = \
                 true }} in the helm provider, or give the output of helm template",
                shown(address)
            )),
        },
        "kubernetes_deployment"
        | "kubernetes_deployment_v1"
        | "kubernetes_stateful_set"
        | "kubernetes_stateful_set_v1" => {
            plan.not_read.push(format!(
                "{}: not a manifest; give the object itself: kubectl get ... -o yaml",
                shown(address)
            ));
        }
        _ => {}
    }
}
