//! The admission gates.

use super::review::{Operation, Review};

/// Which admission gate handles a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// Helm's release records.
    Release,
    /// Single objects of Milvus.
    Workload,
    /// The guard's own documents.
    Documents,
    /// The version label.
    Mutate,
}

impl Gate {
    /// The gate that validates a review. Its objects are searched, not read.
    #[must_use]
    pub fn of(review: &Review<'_>) -> Self {
        match (&*review.resource.group, &*review.resource.resource) {
            ("guard.milvus.io", _) => Self::Documents,
            ("", "secrets" | "configmaps") if may_be_record(review) => Self::Release,
            _ => Self::Workload,
        }
    }

    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Workload => "workload",
            Self::Documents => "documents",
            Self::Mutate => "mutate",
        }
    }
}

/// Whether this may be a new record of Helm: every new Secret (the API server asks about no
/// others), and new `ConfigMaps` that say so.
fn may_be_record(review: &Review<'_>) -> bool {
    let says_so = || {
        review
            .object
            .is_some_and(|object| object.get().contains(r#""owner":"helm""#))
    };
    review.operation == Operation::Create && (review.resource.resource == "secrets" || says_so())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::admission::Task;

    /// A review that cannot be judged in time is answered by the gate that would have judged it.
    #[rstest]
    #[case::record(
        "",
        "secrets",
        "CREATE",
        "sh.helm.release.v1.a.v1",
        "helm",
        Gate::Release
    )]
    #[case::record_in_a_config_map("", "configmaps", "CREATE", "a", "helm", Gate::Release)]
    #[case::only_called_like_a_record(
        "",
        "configmaps",
        "CREATE",
        "sh.helm.release.v1.a.v1",
        "me",
        Gate::Workload
    )]
    #[case::configuration_in_a_secret(
        "",
        "secrets",
        "UPDATE",
        "milvus-config",
        "me",
        Gate::Workload
    )]
    #[case::workload("apps", "deployments", "UPDATE", "a", "helm", Gate::Workload)]
    #[case::policy(
        "guard.milvus.io",
        "upgradepolicies",
        "DELETE",
        "a",
        "me",
        Gate::Documents
    )]
    fn reading_a_review_leads_to_its_gate(
        #[case] group: &str,
        #[case] resource: &str,
        #[case] operation: &str,
        #[case] name: &str,
        #[case] owner: &str,
        #[case] gate: Gate,
    ) {
        let object = json!({"metadata": {"name": name, "labels": {"owner": owner}}});
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "1",
                "operation": operation,
                "namespace": "milvus",
                "name": name,
                "resource": {"group": group, "version": "v1", "resource": resource},
                "object": object,
                "oldObject": object,
            },
        });
        let text = review.to_string();
        let review = Review::parse(text.as_bytes()).unwrap();
        assert_eq!(Gate::of(&review), gate);
        assert_eq!(Task::of(&review).gate(), gate);
    }
}
