//! MG303: Milvus must find its data where it left it.

use crate::{
    change::Upgrade,
    milvus::{minio_store::MinioStore, shared_data::Shared},
};

use super::{
    Behavior, Category, DefaultAction, Findings, Need, Rule, guarded_settings, neighbor::Objection,
};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG303",
    name: "object-storage-changed",
    title: "the data location stays the same",
    category: Category::Configuration,
    default: DefaultAction::Deny,
    data_loss: true,
    behavior: &[
        Behavior::ComparesSharedData,
        Behavior::ComparesSettings,
        Behavior::JudgesNeighbors,
    ],
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Compares the storage of every component: type, bucket, root path and endpoint; for \
           local storage the location on a volume. Different host names of one provider for the \
           same bucket are equal; for Azure the storage account counts too. A MinIO of the release \
           that becomes a gateway to another store, or no longer is one, is another storage. Warns if TLS or the kind of credentials changes. \
           Denies a second Milvus with other metadata on the bucket and root path of one that \
           runs.",
    why: "Milvus does not find the segments that the metadata references, loads fail, and new data \
          is written elsewhere, so that neither location has all data.",
    example: "minio.rootPath file (the chart's) becomes files (Milvus' own default) when a customised ConfigMap leaves it out.",
    fix: "Set the current value explicitly before the upgrade.",
    sources: &[
        "Milvus docs: system configuration",
        "milvus#36648",
        "milvus#21928",
        "milvus#38637",
    ],
    check,
};

/// A second Milvus with other metadata.
const NEIGHBOR: Objection = Objection {
    shared: Shared::Objects,
    does: "keep objects in the same bucket and root path as",
    why: "The garbage collection of each deletes the objects that its own metadata does \
          not know: those of the other.",
    fix: "Use another bucket or another minio.rootPath for the new release.",
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    if NEIGHBOR.judge(upgrade, findings) {
        return;
    }
    guarded_settings::compare(upgrade, RULE.id, findings);
    for (old, new) in upgrade.changed_dependencies() {
        let (Some(had), Some(wants)) = (MinioStore::of(old), MinioStore::of(new)) else {
            continue;
        };
        if had.is_same_as(&wants) || upgrade.is_unused(old) {
            continue;
        }
        let meta = &new.workload.meta;
        findings
            .deny(format!(
                "MinIO {} would change from {had} to {wants}",
                meta.object.name
            ))
            .object(meta)
            .evidence(
                "MinIO",
                Some(had.to_string()),
                Some(wants.to_string()),
                Some(&meta.origin),
            )
            .fix(
                "Keep the values minio.gcsgateway, minio.s3gateway, minio.azuregateway or \
                 minio.nasgateway, or the command of MinIO. To leave a gateway, point Milvus to \
                 the same bucket of the store behind it.",
            );
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    #[rstest]
    #[case("gateway gcs p1", "gateway gcs p1", 0)]
    #[case("gateway gcs p1", "gateway gcs p2", 0)]
    #[case("gateway gcs p1", "server /export", 1)]
    #[case("server /export", "gateway azure", 1)]
    #[case("gateway gcs p1", "gateway s3 https://s3.amazonaws.com", 1)]
    #[case(
        "gateway s3 https://s3.amazonaws.com",
        "gateway s3 https://s3.eu-west-1.amazonaws.com",
        0
    )]
    #[case(
        "gateway s3 https://a.example.com",
        "gateway s3 https://b.example.com",
        1
    )]
    #[case("gateway nas /mnt/a", "gateway nas /mnt/b", 1)]
    #[case("server /export", "server /export --console-address :9001", 0)]
    fn the_store_behind_minio(#[case] before: &str, #[case] after: &str, #[case] found: usize) {
        let minio = |words: &str| {
            Fixture::cluster("2.2.13")
                .default_yaml("minio: {address: my-release-minio, port: 9000}")
                .object(&format!(
                    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: my-release-minio}}\nspec:\n  selector:\n    matchLabels: {{app: minio, release: my-release}}\n  template:\n    spec:\n      containers: [{{name: minio, image: \"minio/minio:RELEASE.2022-03-17T06-34-49Z\", command: [/bin/sh, -ce, \"docker-entrypoint.sh minio -S /certs/ {words}\"]}}]\n"
                ))
        };
        let findings = judge(&RULE, Some(&minio(before)), &minio(after));
        assert_eq!(findings.len(), found, "{findings:?}");
    }

    fn run(before: &str, after: &str) -> usize {
        judge(
            &RULE,
            Some(&Fixture::cluster("2.4.17").default_yaml(before)),
            &Fixture::cluster("2.4.24").default_yaml(after),
        )
        .len()
    }

    #[rstest]
    #[case("minio: {bucketName: milvus-bucket}", "minio: {bucketName: other}")]
    #[case("minio: {rootPath: file}", "minio: {address: my-release-minio}")]
    #[case("common: {storageType: remote}", "common: {storageType: local}")]
    #[case("common: {storageType: opendal}", "common: {storageType: local}")]
    #[case(
        "common: {storageType: opendal}\nminio: {bucketName: a}",
        "common: {storageType: opendal}\nminio: {bucketName: b}"
    )]
    #[case(
        "common: {storageType: remote}\nminio: {rootPath: a}",
        "common: {storageType: opendal}\nminio: {rootPath: b}"
    )]
    #[case(
        "minio: {address: my-release-minio, port: 9000}",
        "minio: {address: s3.amazonaws.com, port: 443}"
    )]
    #[case(
        "common: {storageType: local}\nlocalStorage: {path: /a}",
        "common: {storageType: local}\nlocalStorage: {path: /b}"
    )]
    #[case(
        "minio: {address: \"minio:9000\"}",
        "minio: {address: minio, port: 9001}"
    )]
    #[case(
        "minio: {cloudProvider: azure, address: core.windows.net, accessKeyID: a}",
        "minio: {cloudProvider: azure, address: core.windows.net, accessKeyID: b}"
    )]
    #[case(
        "minio: {cloudProvider: azure, accessKeyID: a, useIAM: true}",
        "minio: {cloudProvider: Azure, accessKeyID: b, useIAM: true}"
    )]
    #[case(
        "minio: {cloudProvider: azure, accessKeyID: a}",
        "minio: {cloudProvider: azure}"
    )]
    fn denied(#[case] before: &str, #[case] after: &str) {
        assert_eq!(run(before, after), 1);
    }

    #[rstest]
    #[case("", &["minio.bucketName is b now and would come from key k of Secret s"])]
    #[case(
        ", {name: MINIO_ADDRESS, value: other}",
        &[
            "the object storage would change from my-release-minio:9000 to other:9000",
            "minio.bucketName is b now and would come from key k of Secret s",
        ]
    )]
    fn only_what_is_unknown_is_named(#[case] more: &str, #[case] begins: &[&str]) {
        let run = || {
            Fixture::standalone("2.6.22")
                .default_yaml("minio: {address: my-release-minio, port: 9000, bucketName: b}")
        };
        let secret = "{name: MINIO_BUCKET_NAME, valueFrom: {secretKeyRef: {name: s, key: k}}}";
        let after = run().container(
            crate::milvus::Component::Standalone,
            &format!("env: [{secret}{more}]"),
        );
        let findings = judge(&RULE, Some(&run()), &after);
        assert_eq!(findings.len(), begins.len(), "{findings:?}");
        for (finding, begin) in findings.iter().zip(begins) {
            assert!(finding.message.starts_with(begin), "{}", finding.message);
        }
    }

    #[rstest]
    #[case("common: {storageType: minio}", "common: {storageType: remote}")]
    #[case("common: {storageType: remote}", "common: {storageType: opendal}")]
    #[case("common: {storageType: opendal}", "common: {storageType: minio}")]
    #[case(
        "minio: {address: my-release-minio, port: 9000}",
        "minio: {address: \"my-release-minio.milvus.svc.cluster.local:9000\"}"
    )]
    #[case("minio: {rootPath: files}", "minio: {address: my-release-minio}")]
    #[case("localStorage: {path: /a}", "localStorage: {path: /b}")]
    #[case(
        "minio: {accessKeyID: a, secretAccessKey: b}",
        "minio: {accessKeyID: c, secretAccessKey: d}"
    )]
    #[case("minio: {address: \"minio:9000\"}", "minio: {address: minio}")]
    #[case("minio: {address: minio}", "minio: {address: minio, port: 9000}")]
    #[case(
        "minio: {cloudProvider: azure, accessKeyID: a, secretAccessKey: b}",
        "minio: {cloudProvider: azure, accessKeyID: a, secretAccessKey: d}"
    )]
    fn harmless(#[case] before: &str, #[case] after: &str) {
        assert_eq!(run(before, after), 0);
    }

    fn on_azure(variables: &str) -> Fixture {
        Fixture::standalone("2.6.20")
            .default_yaml(
                "minio: {cloudProvider: azure, address: core.windows.net, accessKeyID: acct-one}",
            )
            .container(
                crate::milvus::Component::Standalone,
                &format!("env:{variables}"),
            )
    }

    const STRING: &str = "\n  - {name: AZURE_STORAGE_CONNECTION_STRING, value: \"AccountName=";

    #[rstest]
    #[case(" []", "acct-two;AccountKey=k", 1)]
    #[case(" []", "acct-one;AccountKey=k", 0)]
    fn a_connection_string_names_the_account(
        #[case] before: &str,
        #[case] after: &str,
        #[case] denied: usize,
    ) {
        let after = on_azure(&format!("{STRING}{after}\"}}"));
        let found = judge(&RULE, Some(&on_azure(before)), &after);
        assert_eq!(found.len(), denied, "{found:?}");
        let shown = format!("{found:?}");
        assert!(!shown.contains("acct-"), "{shown}");
    }

    #[test]
    fn an_account_that_is_not_known_is_not_the_same() {
        let secret =
            "\n  - name: MINIO_ACCESS_KEY_ID\n    valueFrom: {secretKeyRef: {name: s, key: k}}";
        let lost = judge(&RULE, Some(&on_azure(" []")), &on_azure(secret));
        assert_eq!(lost.len(), 1, "{lost:?}");
        assert_eq!(lost[0].severity, crate::rules::Severity::Deny);
        let unclear = judge(&RULE, Some(&on_azure(secret)), &on_azure(secret));
        assert!(unclear[0].not_evaluated, "{unclear:?}");
        let elsewhere = Fixture::standalone("2.6.20").container(
            crate::milvus::Component::Standalone,
            &format!("env:{secret}"),
        );
        assert!(judge(&RULE, Some(&elsewhere), &elsewhere).is_empty());
    }
}
