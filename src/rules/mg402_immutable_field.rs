//! MG402: what Kubernetes will refuse should be said before half of the release is changed.

use crate::upgrade::Upgrade;

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG402",
    name: "immutable-field",
    title: "no immutable field changes",
    category: Category::Dependencies,
    default: DefaultAction::Deny,
    data_loss: true,
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Compares selector, service name, pod management policy and volume claim templates of StatefulSets, and selectors of \
           Milvus' own workloads.",
    why: "The API server refuses such an update, and Helm goes on with the other objects: the release ends half applied.",
    example: "Chart 3.0.12 raises ZooKeeper's claim template from 5Gi to 20Gi.",
    fix: "Keep the fields as they are; where they must change, delete the StatefulSet with --cascade=orphan in a maintenance window.",
    sources: &["milvus-operator#168", "milvus-operator#351", "milvus-helm chart 3.0.12"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else { return };
    for old in &before.dependencies {
        let name = &old.workload.meta.object.name;
        let Some(new) = after.dependencies.iter().find(|new| new.workload.meta.object == old.workload.meta.object) else { continue };
        let mut fields = Vec::new();
        if old.workload.selector != new.workload.selector {
            fields.push(("selector", format!("{:?}", old.workload.selector), format!("{:?}", new.workload.selector)));
        }
        if let (Some(old), Some(new)) = (&old.workload.stateful, &new.workload.stateful) {
            if old.service_name != new.service_name {
                fields.push(("serviceName", shown(old.service_name.as_ref()), shown(new.service_name.as_ref())));
            }
            if old.pod_management_policy != new.pod_management_policy {
                fields.push(("podManagementPolicy", old.pod_management_policy.clone(), new.pod_management_policy.clone()));
            }
            if old.claim_templates != new.claim_templates {
                let show = |templates: &[crate::manifest::object::ClaimTemplate]| {
                    templates
                        .iter()
                        .map(|template| format!("{} {}", template.name, template.storage.as_deref().unwrap_or("?")))
                        .collect::<Vec<_>>()
                        .join(", ")
                };
                fields.push(("volumeClaimTemplates", show(&old.claim_templates), show(&new.claim_templates)));
            }
        }
        for (field, from, to) in fields {
            findings
                .deny(format!("{field} of StatefulSet {name} would change, which Kubernetes refuses"))
                .object(&new.workload.meta)
                .evidence(field, Some(from), Some(to), Some(&new.workload.meta.origin));
        }
    }
    for (old, new) in upgrade.changed_pairs() {
        let same = old.workload.meta.object.name == new.workload.meta.object.name;
        if same && old.workload.selector != new.workload.selector {
            findings
                .deny(format!("the selector of {} would change, which Kubernetes refuses", new.workload.meta.object))
                .on(new)
                .remedy(upgrade.advice().keep_identity().and(
                    "Add no label to the selector: in kustomize, use labels without includeSelectors instead of commonLabels.",
                ));
        }
    }
}

fn shown(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "none".into())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    fn etcd(fields: &str, storage: &str) -> Fixture {
        Fixture::cluster("2.4.17").object(&format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-etcd}}\nspec:\n  {fields}\n  selector:\n    matchLabels: {{app.kubernetes.io/name: etcd, app.kubernetes.io/instance: my-release}}\n  template:\n    spec:\n      containers: [{{name: etcd, image: \"milvusdb/etcd:3.5.5-r2\"}}]\n  volumeClaimTemplates:\n    - metadata: {{name: data}}\n      spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: {storage}}}}}}}\n"
        ))
    }

    #[rstest]
    #[case("serviceName: a", "10Gi", "serviceName: b", "10Gi", 1)]
    #[case("serviceName: a", "10Gi", "serviceName: a", "20Gi", 1)]
    #[case("podManagementPolicy: Parallel", "10Gi", "podManagementPolicy: OrderedReady", "10Gi", 1)]
    #[case("serviceName: a", "10Gi", "serviceName: a", "10Gi", 0)]
    #[case("podManagementPolicy: OrderedReady", "10Gi", "replicas: 3", "10Gi", 0)]
    fn fields(#[case] before: &str, #[case] size: &str, #[case] after: &str, #[case] new_size: &str, #[case] found: usize) {
        assert_eq!(judge(&RULE, Some(&etcd(before, size)), &etcd(after, new_size)).len(), found);
    }
}
