//! MG303: Milvus must find its data where it left it.

use crate::upgrade::Upgrade;

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG303",
    name: "object-storage-changed",
    title: "the data stays where it is",
    category: Category::Configuration,
    default: DefaultAction::Deny,
    data_loss: true,
    since: "0.1.0",
    needs: &[Need::Before, Need::Config],
    what: "Compares the effective storage type, bucket, root path and kind of endpoint; for local storage the path.",
    why: "Segments that the metadata names are not found, loads fail, and new data goes elsewhere, so that neither place is whole.",
    example: "minio.rootPath file (the chart's) becomes files (Milvus' own default) when a customised ConfigMap leaves it out.",
    fix: "Set the running value explicitly before the upgrade.",
    sources: &["Milvus docs: system configuration", "milvus#36648"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else { return };
    let (old, new) = (before.storage(), after.storage());
    let is_local = old.kind.value == "local" && new.kind.value == "local";
    let mut values = vec![("common.storageType", &old.kind, &new.kind)];
    if is_local {
        values.push(("localStorage.path", &old.local_path, &new.local_path));
    } else {
        values.push(("minio.bucketName", &old.bucket, &new.bucket));
        values.push(("minio.rootPath", &old.root_path, &new.root_path));
    }
    for (key, old, new) in values {
        if old.value != new.value {
            findings
                .deny(format!("{key} would change from {} to {}", old.value, new.value))
                .setting(key, (&old.value, old.setting), (&new.value, new.setting))
                .remedy(upgrade.advice().keep_setting(key, &old.value));
        }
    }
    if let (Some(from), Some(to), false) = (&old.endpoint.value, &new.endpoint.value, is_local)
        && from != to {
            let (from, to) = (from.to_string(), to.to_string());
            findings
                .deny(format!("the object storage would change from {from} to {to}"))
                .setting("minio.address", (&from, old.endpoint.setting), (&to, new.endpoint.setting))
                .remedy(upgrade.advice().keep_storage().and(&format!(
                    "If {to} is another name of the same storage, add an UpgradeException for MG303."
                )));
        }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    fn run(before: &str, after: &str) -> usize {
        judge(&RULE, Some(&Fixture::cluster("2.4.17").default_yaml(before)), &Fixture::cluster("2.4.24").default_yaml(after)).len()
    }

    #[rstest]
    #[case("minio: {bucketName: milvus-bucket}", "minio: {bucketName: other}")]
    #[case("minio: {rootPath: file}", "minio: {address: my-release-minio}")]
    #[case("common: {storageType: remote}", "common: {storageType: local}")]
    #[case("minio: {address: my-release-minio, port: 9000}", "minio: {address: s3.amazonaws.com, port: 443}")]
    #[case("common: {storageType: local}\nlocalStorage: {path: /a}", "common: {storageType: local}\nlocalStorage: {path: /b}")]
    fn denied(#[case] before: &str, #[case] after: &str) {
        assert_eq!(run(before, after), 1);
    }

    #[rstest]
    #[case("common: {storageType: minio}", "common: {storageType: remote}")]
    #[case("minio: {address: my-release-minio, port: 9000}", "minio: {address: \"my-release-minio.milvus.svc.cluster.local:9000\"}")]
    #[case("minio: {rootPath: files}", "minio: {address: my-release-minio}")]
    #[case("localStorage: {path: /a}", "localStorage: {path: /b}")]
    #[case("minio: {accessKeyID: a, secretAccessKey: b}", "minio: {accessKeyID: c, secretAccessKey: d}")]
    fn harmless(#[case] before: &str, #[case] after: &str) {
        assert_eq!(run(before, after), 0);
    }
}
