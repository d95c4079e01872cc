//! MG402: what Kubernetes will refuse should be said before half of the release is changed.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    change::Upgrade,
    manifest::object::{Claim, ClaimTemplate, Labels, Workload},
};

use super::{Category, DefaultAction, Finding, Findings, Need, Rule, advice::Remedy};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG402",
    name: "immutable-field",
    title: "no immutable field changes",
    category: Category::Dependencies,
    default: DefaultAction::DenyOrWarn,
    data_loss: true,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Compares, in Milvus and its dependencies: selectors of Deployments and StatefulSets; service name, pod management policy \
           and volume claim templates of StatefulSets; storage class, access modes and volume of claims.",
    why: "The API server refuses such an update, but the other objects are applied, so the release \
          is only partly upgraded.",
    example: "The storage class of a claim is changed from gp2 to gp3.",
    fix: "Keep the fields. If they must change, delete the StatefulSet with --cascade=orphan in a \
          maintenance window.",
    sources: &[
        "milvus-operator#168",
        "milvus-operator#351",
        "milvus-helm chart 3.0.12",
        "Kubernetes API reference: PersistentVolumeClaim",
    ],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    let same_name = upgrade
        .pairs()
        .any(|(old, new)| old.workload.meta.object.name == new.workload.meta.object.name);
    if same_name
        || before.dependencies.iter().any(|old| {
            after
                .dependencies
                .iter()
                .any(|new| new.workload.meta.object == old.workload.meta.object)
        })
    {
        findings.checked();
    } else {
        findings.not_applicable("the change keeps no workload under its name");
    }
    let mut compared = BTreeSet::new();
    for old in before.workloads() {
        if !compared.insert((&old.meta.object.kind, &old.meta.object.name)) {
            continue;
        }
        let same = |new: &&Arc<Workload>| {
            new.meta.object.kind == old.meta.object.kind
                && new.meta.object.name == old.meta.object.name
                && !Arc::ptr_eq(new, old)
        };
        if let Some(new) = after.workloads().find(same) {
            compare(upgrade, old, new, findings);
        }
    }
    for old in &before.claims {
        if let Some(new) = after
            .claims
            .iter()
            .find(|new| new.meta.object.name == old.meta.object.name)
        {
            compare_claims(old, new, findings);
        }
    }
}

fn compare(upgrade: &Upgrade<'_>, old: &Workload, new: &Workload, findings: &mut Findings) {
    let adds = old
        .selector
        .iter()
        .all(|(key, value)| new.selector.get(key) == Some(value));
    let mut refused = |field: &str, from: String, to: String| {
        let only_adds = field == "selector" && adds;
        findings
            .deny(format!("{field} of {} would change, which Kubernetes refuses", new.meta.object))
            .object(&new.meta)
            .evidence(field, Some(from), Some(to), Some(&new.meta.origin))
            .remedy(if only_adds {
                Remedy::words(
                    "Add no label to the selector. In kustomize, use labels without includeSelectors instead of commonLabels.",
                )
            } else if field == "selector" {
                upgrade.advice().keep_identity().and(
                    "Add no label to the selector: in kustomize, use labels without includeSelectors instead of commonLabels.",
                )
            } else {
                Remedy::words(RULE.fix)
            });
    };
    // A release that is only remembered has no selector: its objects no longer exist.
    if old.selector != new.selector && old.selector.iter().next().is_some() {
        refused("selector", labels(&old.selector), labels(&new.selector));
    }
    let (Some(old), Some(new)) = (&old.stateful, &new.stateful) else {
        return;
    };
    if old.service_name != new.service_name {
        refused(
            "serviceName",
            shown(old.service_name.as_ref()),
            shown(new.service_name.as_ref()),
        );
    }
    if old.pod_management_policy != new.pod_management_policy {
        refused(
            "podManagementPolicy",
            old.pod_management_policy.clone(),
            new.pod_management_policy.clone(),
        );
    }
    let pairs = || old.claim_templates.iter().zip(&new.claim_templates);
    if old.claim_templates.len() != new.claim_templates.len()
        || pairs().any(|(old, new)| !old.is_same(new))
    {
        let (mut from, mut to) = (
            templates(&old.claim_templates),
            templates(&new.claim_templates),
        );
        for (old, new) in pairs() {
            from.push_str(&missing(old, new));
            to.push_str(&missing(new, old));
        }
        refused("volumeClaimTemplates", from, to);
    }
}

/// A claim that the new manifest leaves open keeps what it has; one that the old manifest leaves
/// open has what the cluster chose, which only the cluster knows.
fn compare_claims(old: &Claim, new: &Claim, findings: &mut Findings) {
    let keep = "Keep the field. To move the data to another kind of volume, create a new claim, \
                stop Milvus and copy the data.";
    let name = &new.meta.object.name;
    let place = |finding: &mut Finding, field: &str, from: Option<String>, to: Option<String>| {
        finding
            .object(&new.meta)
            .evidence(field, from, to, Some(&new.meta.origin))
            .fix(keep);
    };
    for (field, from, to) in [
        ("storageClassName", &old.storage_class, &new.storage_class),
        ("volumeName", &old.volume_name, &new.volume_name),
    ] {
        match (from, to) {
            (Some(from), Some(to)) if from != to => {
                let finding = findings.deny(format!(
                    "{field} of the claim {name} would change from {} to {}",
                    quoted(from),
                    quoted(to)
                ));
                finding.because(
                    "The field cannot change, so the API server refuses the update and \
                              the release is only partly upgraded.",
                );
                place(finding, field, Some(from.clone()), Some(to.clone()));
            }
            (None, Some(to)) => {
                let finding = findings.warn(format!(
                    "{field} of the claim {name} would be set to {}; its current value is unknown",
                    quoted(to)
                ));
                finding.because(
                    "The cluster sets the field when the claim is created. If the \
                                 cluster chose another value, it refuses this one.",
                );
                place(finding, field, None, Some(to.clone()));
            }
            _ => {}
        }
    }
    let modes = |claim: &Claim| claim.access_modes.join(", ");
    if !old.access_modes.is_empty()
        && !new.access_modes.is_empty()
        && old.access_modes != new.access_modes
    {
        let finding = findings.deny(format!(
            "accessModes of the claim {name} would change from {} to {}",
            modes(old),
            modes(new)
        ));
        finding.because(
            "The field cannot change, so the API server refuses the update and the \
                         release is only partly upgraded.",
        );
        place(finding, "accessModes", Some(modes(old)), Some(modes(new)));
    }
}

fn quoted(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn labels(labels: &Labels) -> String {
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

fn templates(templates: &[ClaimTemplate]) -> String {
    let show = |template: &ClaimTemplate| {
        let class = template
            .storage_class
            .as_deref()
            .map(|class| format!(" of class {}", quoted(class)))
            .unwrap_or_default();
        let modes = template.access_modes.join(" ");
        format!(
            "{} {} {modes}{class}",
            template.name,
            template.storage.as_deref().unwrap_or("?")
        )
    };
    templates.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// The fields of a template that the other one does not have.
fn missing(template: &ClaimTemplate, other: &ClaimTemplate) -> String {
    let (Some(own), Some(others)) = (&template.others, &other.others) else {
        return String::new();
    };
    own.iter()
        .filter(|(path, value)| others.get(path) != Some(*value))
        .map(|(path, value)| format!(", {path} {value}"))
        .collect()
}

fn shown(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "none".into())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        milvus::Component,
        rules::{
            Severity,
            testing::{Fixture, judge},
        },
    };

    fn etcd(fields: &str, storage: &str) -> Fixture {
        Fixture::cluster("2.4.17").object(&format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-etcd}}\nspec:\n  {fields}\n  selector:\n    matchLabels: {{app.kubernetes.io/name: etcd, app.kubernetes.io/instance: my-release}}\n  template:\n    spec:\n      containers: [{{name: etcd, image: \"milvusdb/etcd:3.5.5-r2\"}}]\n  volumeClaimTemplates:\n    - metadata: {{name: data}}\n      spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: {storage}}}}}}}\n"
        ))
    }

    #[rstest]
    #[case("serviceName: a", "10Gi", "serviceName: b", "10Gi", 1)]
    #[case("serviceName: a", "10Gi", "serviceName: a", "20Gi", 1)]
    #[case(
        "podManagementPolicy: Parallel",
        "10Gi",
        "podManagementPolicy: OrderedReady",
        "10Gi",
        1
    )]
    #[case("serviceName: a", "10Gi", "serviceName: a", "10Gi", 0)]
    #[case("serviceName: a", "10Gi", "serviceName: a", "10240Mi", 0)]
    #[case("serviceName: a", "1Gi", "serviceName: a", "1G", 1)]
    #[case("podManagementPolicy: OrderedReady", "10Gi", "replicas: 3", "10Gi", 0)]
    fn fields(
        #[case] before: &str,
        #[case] size: &str,
        #[case] after: &str,
        #[case] new_size: &str,
        #[case] found: usize,
    ) {
        assert_eq!(
            judge(&RULE, Some(&etcd(before, size)), &etcd(after, new_size)).len(),
            found
        );
    }

    #[rstest]
    #[case::label_added(
        "metadata: {name: data}",
        "metadata: {name: data, labels: {helm.sh/chart: etcd-8.12.0}}",
        1
    )]
    #[case::label_changed(
        "metadata: {name: data, labels: {a: b}}",
        "metadata: {name: data, labels: {a: c}}",
        1
    )]
    #[case::annotation_removed(
        "metadata: {name: data, annotations: {a: b}}",
        "metadata: {name: data}",
        1
    )]
    #[case::no_label(
        "metadata: {name: data}",
        "metadata: {name: data, labels: {}, annotations: {}}",
        0
    )]
    #[case::set_by_the_server(
        "metadata: {name: data}",
        "apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data, creationTimestamp: null}, status: {phase: Pending}, spec: {volumeMode: Filesystem}",
        0
    )]
    #[case::block(
        "metadata: {name: data}",
        "metadata: {name: data}, spec: {volumeMode: Block}",
        1
    )]
    #[case::volume(
        "metadata: {name: data}",
        "metadata: {name: data}, spec: {volumeName: v}",
        1
    )]
    #[case::selector(
        "metadata: {name: data}, spec: {selector: {matchLabels: {a: b}}}",
        "metadata: {name: data}, spec: {selector: {matchLabels: {a: c}}}",
        1
    )]
    #[case::limit(
        "metadata: {name: data}, spec: {resources: {limits: {storage: 1Gi}}}",
        "metadata: {name: data}, spec: {resources: {limits: {storage: 2Gi}}}",
        1
    )]
    fn every_field_of_a_claim_template(
        #[case] before: &str,
        #[case] after: &str,
        #[case] found: usize,
    ) {
        let set = |template: &str| {
            milvus(
                "StatefulSet",
                "",
                &format!("  volumeClaimTemplates: [{{{template}}}]\n"),
            )
        };
        let findings = judge(&RULE, Some(&set(before)), &set(after));
        assert_eq!(findings.len(), found, "{findings:?}");
        for finding in &findings {
            let fact = &finding.evidence[0];
            assert_ne!(fact.before, fact.after, "{fact:?}");
        }
    }

    fn milvus(kind: &str, selector: &str, rest: &str) -> Fixture {
        Fixture::of("2.5.16", &[Component::Proxy]).object(&format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: own-standalone}}\nspec:\n  selector:\n    matchLabels: {{app.kubernetes.io/name: milvus, app.kubernetes.io/instance: my-release, component: standalone{selector}}}\n{rest}  template:\n    spec:\n      containers: [{{name: standalone, image: \"milvusdb/milvus:v2.5.16\", args: [milvus, run, standalone]}}]\n"
        ))
    }

    #[rstest]
    #[case("Deployment", (", tier: a", ""), (", tier: b", ""), 1)]
    #[case("Deployment", ("", ""), (", tier: b", ""), 1)]
    #[case("StatefulSet", ("", "  serviceName: a\n"), ("", "  serviceName: b\n"), 1)]
    #[case("StatefulSet", ("", ""), ("", "  volumeClaimTemplates: [{metadata: {name: data}, spec: {storageClassName: x}}]\n"), 1)]
    #[case("Deployment", (", tier: a", ""), (", tier: a", "  replicas: 2\n"), 0)]
    fn workloads_of_milvus(
        #[case] kind: &str,
        #[case] before: (&str, &str),
        #[case] after: (&str, &str),
        #[case] found: usize,
    ) {
        let findings = judge(
            &RULE,
            Some(&milvus(kind, before.0, before.1)),
            &milvus(kind, after.0, after.1),
        );
        assert_eq!(findings.len(), found, "{findings:?}");
        assert!(
            findings
                .iter()
                .all(|finding| finding.message.contains(&format!("{kind}/own-standalone"))),
            "{findings:?}"
        );
    }

    #[test]
    fn a_selector_of_a_dependency_that_is_a_deployment_counts() {
        let minio = |label: &str| {
            Fixture::cluster("2.5.16").object(&format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: my-release-minio}}\nspec:\n  selector:\n    matchLabels: {{app: minio, release: my-release{label}}}\n  template:\n    spec:\n      containers: [{{name: minio, image: \"minio/minio:RELEASE.2024-12-18T13-15-44Z\"}}]\n"
            ))
        };
        let findings = judge(&RULE, Some(&minio("")), &minio(", tier: a"));
        assert_eq!(
            findings[0].message,
            "selector of Deployment/my-release-minio would change, which Kubernetes refuses"
        );
    }

    #[rstest]
    #[case("storageClassName: gp2", "storageClassName: gp3", Some(Severity::Deny))]
    #[case("storageClassName: gp2", "storageClassName: ''", Some(Severity::Deny))]
    #[case("storageClassName: gp2", "storageClassName: gp2", None)]
    #[case("storageClassName: gp2", "volumeMode: Filesystem", None)]
    #[case(
        "volumeMode: Filesystem",
        "storageClassName: gp3",
        Some(Severity::Warn)
    )]
    #[case(
        "accessModes: [ReadWriteOnce]",
        "accessModes: [ReadWriteMany]",
        Some(Severity::Deny)
    )]
    #[case(
        "accessModes: [ReadWriteOnce, ReadOnlyMany]",
        "accessModes: [ReadOnlyMany, ReadWriteOnce]",
        None
    )]
    #[case("volumeName: pv-1", "volumeName: pv-2", Some(Severity::Deny))]
    #[case("volumeName: pv-1", "accessModes: [ReadWriteOnce]", None)]
    fn claims(#[case] before: &str, #[case] after: &str, #[case] expected: Option<Severity>) {
        let claim = |spec: &str| {
            Fixture::standalone("2.5.16").object(&format!(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: my-release-milvus}}\nspec: {{{spec}, resources: {{requests: {{storage: 50Gi}}}}}}\n"
            ))
        };
        let findings = judge(&RULE, Some(&claim(before)), &claim(after));
        assert_eq!(
            findings.iter().map(|finding| finding.severity).max(),
            expected,
            "{findings:?}"
        );
    }

    #[test]
    fn a_claim_of_any_name_counts_where_it_is_mounted() {
        let run = |class: &str, mounted: &str| {
            let volume = format!(
                "volumes:\n  - name: data\n    persistentVolumeClaim: {{claimName: {mounted}}}"
            );
            Fixture::standalone("2.5.16").pod(Component::Standalone, &volume).object(&format!(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: vectors}}\nspec: {{storageClassName: {class}}}\n"
            ))
        };
        assert_eq!(
            judge(&RULE, Some(&run("gp2", "vectors")), &run("gp3", "vectors")).len(),
            1
        );
        assert!(judge(&RULE, Some(&run("gp2", "other")), &run("gp3", "other")).is_empty());
    }
}
