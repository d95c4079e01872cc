//! MG204: mode and names decide which data is used.

use crate::{
    change::Upgrade,
    milvus::{Release, dependency::Dependency, volume::persistent_mounts},
};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG204",
    name: "mode-flip",
    title: "mode and names stay",
    category: Category::Topology,
    default: DefaultAction::Deny,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Denies a switch between standalone and cluster, and a change of the release name, \
           full name or namespace while the release contains data.",
    why: "Another mode uses another queue and other volumes, and another name or namespace gets \
          new volumes: Milvus starts without its data. If the volumes stay the same, the old \
          workloads and the new ones write to the same files.",
    example: "cluster.enabled left out of the values of an upgrade; fullnameOverride added.",
    fix: "Keep the mode and the names of the release. Use milvus-backup to move data to another \
          mode or name.",
    sources: &["milvus-operator#167", "Milvus docs v2.1: upgrade"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    if !before.components.is_empty() {
        findings.checked();
    }
    let (old, new) = (before.topology(), after.topology());
    let keep = || {
        upgrade
            .advice()
            .keep_identity()
            .and("Use milvus-backup to move data to another mode or name.")
    };
    if old != new {
        let finding = findings.deny(format!("Milvus would change from {old} to {new}"));
        finding
            .evidence(
                "topology",
                Some(old.to_string()),
                Some(new.to_string()),
                None,
            )
            .remedy(keep());
        if let Some(first) = after.components.first() {
            finding.on(first);
        }
        return;
    }
    // Another name or namespace has other volumes and other dependencies, unless the data lies
    // outside the release and stays there. A name that only labels and annotations say has none.
    let moves = before.is_elsewhere(after);
    let is_renamed = (before.name != after.name || before.fullname != after.fullname)
        && !before.keeps_workloads_in(after);
    if !(moves || is_renamed) || keeps_its_data(before, after) {
        return;
    }
    if let (true, Some(old), Some(new)) = (moves, &before.namespace, &after.namespace) {
        findings
            .deny(format!("the namespace would change from {old} to {new}"))
            .evidence("namespace", Some(old.clone()), Some(new.clone()), None)
            .remedy(
                upgrade
                    .advice()
                    .keep_identity()
                    .and("Keep the namespace. Use milvus-backup to move data to another one."),
            );
    } else if before.name != after.name {
        findings
            .deny(format!(
                "the release would change from {} to {}",
                before.name, after.name
            ))
            .evidence(
                "release",
                Some(before.name.clone()),
                Some(after.name.clone()),
                None,
            )
            .remedy(keep());
    } else if before.fullname != after.fullname {
        findings
            .deny(format!(
                "the full name would change from {} to {}",
                before.fullname, after.fullname
            ))
            .evidence(
                "fullname",
                Some(before.fullname.clone()),
                Some(after.fullname.clone()),
                None,
            )
            .remedy(keep());
    }
}

/// Whether everything that holds data lies outside the release: no dependency with volumes, no
/// persistent volume of Milvus, and etcd named by an address. Whether the addresses stay is the
/// matter of MG301, MG302 and MG303.
fn keeps_its_data(before: &Release, after: &Release) -> bool {
    let is_outside = |release: &Release| {
        let on_volumes = release.components.iter().any(|component| {
            component
                .milvus()
                .any(|container| !persistent_mounts(&component.workload, container).is_empty())
        });
        let inside = release
            .located()
            .flat_map(|located| located.data_paths())
            .next()
            .is_some();
        !on_volumes
            && !inside
            && !release.dependencies.iter().any(Dependency::holds_data)
            && !release.metadata().endpoints.value.is_empty()
            // An etcd that is named after the release is part of it, also where the input does not hold it.
            && !release.metadata().endpoints.value.iter().any(|host| host.host().starts_with(&before.name))
    };
    // The same short name is another Service in another namespace.
    let same_addresses = if before.is_elsewhere(after) {
        let addresses = before.store_addresses();
        addresses.is_some() && addresses == after.store_addresses()
    } else {
        before.metadata().endpoints.value == after.metadata().endpoints.value
    };
    let same =
        same_addresses && before.metadata().root_path.value == after.metadata().root_path.value;
    is_outside(before) && is_outside(after) && same
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        milvus::Release,
        rules::testing::{Fixture, judge, judge_releases, release_of},
    };

    #[test]
    fn flips_and_renames_are_denied() {
        assert_eq!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.3.3")),
                &Fixture::standalone("2.4.6")
            )
            .len(),
            1
        );
        assert_eq!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.4.5")),
                &Fixture::cluster("2.4.5").named("other")
            )
            .len(),
            1
        );
        let findings = judge(
            &RULE,
            Some(&Fixture::cluster("2.4.5")),
            &Fixture::cluster("2.4.5").fullname("vectors"),
        );
        assert_eq!(
            findings[0].message,
            "the full name would change from my-release-milvus to vectors"
        );
    }

    #[test]
    fn a_new_name_over_data_that_lies_outside_is_fine() {
        let outside = |name: &str, etcd: &str| {
            Fixture::cluster("2.4.5").named(name).default_yaml(&format!(
                "etcd: {{endpoints: [\"{etcd}\"]}}\nmq: {{type: kafka}}\nkafka: {{brokerList: \"kafka.example.com:9092\"}}\n"
            ))
        };
        let before = outside("my-release", "etcd.example.com:2379");
        assert!(
            judge(
                &RULE,
                Some(&before),
                &outside("other", "etcd.example.com:2379")
            )
            .is_empty()
        );
        assert_eq!(
            judge(
                &RULE,
                Some(&before),
                &outside("other", "etcd-2.example.com:2379")
            )
            .len(),
            1
        );
    }

    #[test]
    fn another_namespace_is_denied() {
        let before = Fixture::cluster("2.4.5").release();
        let moved = |name: &str| {
            let after = Fixture::cluster("2.4.5").named(name).namespace("other");
            judge_releases(&RULE, &before, &after.release())
        };
        let findings = moved("my-release");
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].message,
            "the namespace would change from milvus to other"
        );
        // Both a name and a namespace: one finding.
        assert_eq!(moved("other").len(), 1);
        // A namespace that one side does not write is not known to be another one.
        let mut unknown = before.clone();
        unknown.namespace = None;
        assert!(judge_releases(&RULE, &unknown, &before).is_empty());
        assert!(judge_releases(&RULE, &before, &unknown).is_empty());
    }

    #[rstest]
    #[case("etcd.example.com:2379", "s3.example.com", 0)]
    #[case("etcd.data.svc:2379", "minio.data.svc.cluster.local", 0)]
    #[case("etcd:2379", "minio", 1)]
    #[case("etcd:2379", "s3.example.com", 1)]
    #[case("etcd.example.com:2379", "minio", 1)]
    fn another_namespace_over_data_that_lies_outside_is_fine(
        #[case] etcd: &str,
        #[case] minio: &str,
        #[case] expected: usize,
    ) {
        let at = |namespace: &str| {
            Fixture::cluster("2.4.5").namespace(namespace).default_yaml(&format!(
                "etcd: {{endpoints: [\"{etcd}\"]}}\nminio: {{address: \"{minio}\"}}\nmq: {{type: kafka}}\nkafka: {{brokerList: \"kafka.example.com:9092\"}}\n"
            )).release()
        };
        assert_eq!(
            judge_releases(&RULE, &at("milvus"), &at("other")).len(),
            expected
        );
    }

    /// A standalone without selectors and labels of a chart.
    fn plain(kind: &str, name: &str, meta: &str, selector: &str) -> Release {
        let text = format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata:\n  name: {name}\n{meta}spec:\n  selector: {{matchLabels: {{{selector}}}}}\n  template:\n    metadata: {{labels: {{{selector}}}}}\n    spec:\n      containers:\n        - name: milvus\n          image: \"milvusdb/milvus:v2.5.27\"\n          args: [milvus, run, standalone]\n          env: [{{name: ETCD_ENDPOINTS, value: \"etcd:2379\"}}]\n          volumeMounts: [{{name: data, mountPath: /var/lib/milvus}}]\n      volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]\n"
        );
        release_of(&text)
    }

    #[rstest]
    #[case(
        "Deployment",
        "milvus",
        "  labels: {app.kubernetes.io/instance: prod}\n",
        "app: milvus",
        0
    )]
    #[case(
        "Deployment",
        "milvus",
        "  labels: {release: prod}\n",
        "app: milvus",
        0
    )]
    #[case(
        "Deployment",
        "milvus",
        "  annotations: {meta.helm.sh/release-name: prod}\n",
        "app: milvus",
        0
    )]
    #[case(
        "Deployment",
        "milvus",
        "  labels: {app.kubernetes.io/instance: prod}\n  namespace: milvus\n",
        "app: milvus",
        0
    )]
    // What makes another object is a rename, with any label.
    #[case(
        "StatefulSet",
        "milvus",
        "  labels: {app.kubernetes.io/instance: prod}\n",
        "app: milvus",
        1
    )]
    #[case(
        "Deployment",
        "prod",
        "  labels: {app.kubernetes.io/instance: prod}\n",
        "app: milvus",
        1
    )]
    #[case(
        "Deployment",
        "prod",
        "  labels: {app.kubernetes.io/instance: milvus}\n",
        "app: milvus",
        1
    )]
    #[case(
        "Deployment",
        "milvus",
        "",
        "app: milvus, app.kubernetes.io/instance: prod",
        1
    )]
    fn a_name_that_only_labels_say_is_no_rename(
        #[case] kind: &str,
        #[case] name: &str,
        #[case] meta: &str,
        #[case] selector: &str,
        #[case] expected: usize,
    ) {
        let before = plain("Deployment", "milvus", "", "app: milvus");
        let after = plain(kind, name, meta, selector);
        let found = judge_releases(&RULE, &before, &after);
        assert_eq!(found.len(), expected, "{found:?}");
    }

    #[test]
    fn the_same_names_are_fine() {
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.4.5")),
                &Fixture::cluster("2.5.5")
            )
            .is_empty()
        );
        let named = |version: &str| Fixture::cluster(version).named("my-milvus");
        assert!(judge(&RULE, Some(&named("2.4.5")), &named("2.4.24")).is_empty());
        assert!(judge(&RULE, None, &named("2.4.24")).is_empty());
    }
}
