//! Objects that change Milvus on their own: autoscalers, and tools that keep a cluster equal to a
//! repository.

use std::borrow::Cow;

use super::meta::Meta;
use crate::manifest::view::DocumentValue;

/// An autoscaler and its target.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoscaler {
    /// Metadata.
    pub meta: Meta,
    /// Kind of the target.
    pub target_kind: String,
    /// Name of the target.
    pub target_name: String,
    /// `minReplicas`, 1 where absent.
    pub min: i64,
}

impl Autoscaler {
    pub(super) fn read<'t>(node: impl DocumentValue<'t>, meta: Meta) -> Self {
        Self {
            meta,
            target_kind: node
                .text_at(&["spec", "scaleTargetRef", "kind"])
                .map_or_else(|| "Deployment".into(), Cow::into_owned),
            target_name: node
                .text_at(&["spec", "scaleTargetRef", "name"])
                .unwrap_or_default()
                .into_owned(),
            min: ["minReplicas", "minReplicaCount"]
                .iter()
                .find_map(|key| node.i64_at(&["spec", key]))
                .unwrap_or(1),
        }
    }
}

/// A tool that applies Milvus and may revert other people's changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployer {
    /// Metadata.
    pub meta: Meta,
    /// Which tool.
    pub tool: DeployerTool,
    /// Helm release that it makes, if it names one.
    pub release: Option<String>,
    /// Namespace that it deploys into, if it names one.
    pub target_namespace: Option<String>,
    /// Whether it puts back what others change (`selfHeal`, drift correction).
    pub self_heal: bool,
    /// How often it retries; -1 is without end, absent is the tool's default.
    pub retry_limit: Option<i64>,
}

/// Tools that keep a cluster equal to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeployerTool {
    /// Argo CD.
    ArgoCd,
    /// Flux.
    Flux,
}

impl Deployer {
    pub(super) fn argo<'t>(node: impl DocumentValue<'t>, meta: Meta) -> Self {
        let flag = |path: &[&str]| {
            node.at(path)
                .and_then(DocumentValue::as_bool)
                .unwrap_or(false)
        };
        let text = |path: &[&str]| node.text_at(path).map(Cow::into_owned);
        Self {
            tool: DeployerTool::ArgoCd,
            release: text(&["spec", "source", "helm", "releaseName"])
                .or_else(|| Some(meta.object.name.clone())),
            target_namespace: text(&["spec", "destination", "namespace"]),
            self_heal: flag(&["spec", "syncPolicy", "automated", "selfHeal"]),
            retry_limit: node.i64_at(&["spec", "syncPolicy", "retry", "limit"]),
            meta,
        }
    }

    pub(super) fn flux<'t>(node: impl DocumentValue<'t>, meta: Meta) -> Self {
        let text = |path: &[&str]| node.text_at(path).map(Cow::into_owned);
        Self {
            tool: DeployerTool::Flux,
            release: text(&["spec", "releaseName"]).or_else(|| Some(meta.object.name.clone())),
            target_namespace: text(&["spec", "targetNamespace"])
                .or_else(|| meta.object.namespace.clone()),
            self_heal: node.text_at(&["spec", "driftDetection", "mode"]).as_deref()
                == Some("enabled"),
            retry_limit: node.i64_at(&["spec", "upgrade", "remediation", "retries"]),
            meta,
        }
    }
}
