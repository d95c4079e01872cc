//! Helm's records among the objects of an input: recognised and described by their labels, without
//! unpacking them.

use milvus_guard_core::manifest::Tree;

/// Data of a record from its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Release.
    pub(super) name: String,
    /// Namespace of the record.
    pub(super) namespace: Option<String>,
    /// Revision number.
    pub(super) revision: u64,
    /// `deployed`, `superseded`, `pending-upgrade` ...
    pub(super) status: String,
}

/// Whether an object is one of Helm's records, by its type or its labels.
pub(super) fn is_record(object: &Tree<'_>) -> bool {
    let owned = matches!(
        object.text_at(&["metadata", "labels", "owner"]),
        Some("helm" | "HELM")
    );
    let payload = object.at(&["data", "release"]).is_some();
    match object.text_at(&["kind"]) {
        Some("Secret") => {
            object
                .text_at(&["type"])
                .is_some_and(|kind| kind.starts_with("helm.sh/release"))
                || (owned && payload)
        }
        Some("ConfigMap") => owned && payload,
        _ => false,
    }
}

/// The summary from the labels, else from the name `sh.helm.release.v1.<release>.v<revision>`.
pub(super) fn summary(object: &Tree<'_>) -> Option<Summary> {
    let label = |key: &str| object.text_at(&["metadata", "labels", key]);
    let name = object.text_at(&["metadata", "name"])?;
    let from_name = name
        .rsplit_once(".v")
        .and_then(|(release, revision)| Some((release, revision.parse().ok()?)));
    let revision = label("version")
        .and_then(|version| version.parse().ok())
        .or(from_name.map(|(_, revision)| revision))?;
    let release = label("name").or_else(|| {
        from_name.and_then(|(release, _)| release.strip_prefix("sh.helm.release.v1."))
    })?;
    Some(Summary {
        name: release.to_owned(),
        namespace: object
            .text_at(&["metadata", "namespace"])
            .map(str::to_owned),
        revision,
        status: label("status").unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use milvus_guard_core::manifest::Node;
    use milvus_guard_core::manifest::documents;

    fn object(text: &str) -> Node {
        documents(text).next().unwrap().unwrap().root.into_owned()
    }

    #[test]
    fn records_are_distinguished_from_other_secrets() {
        let record = object(
            "kind: Secret\ntype: helm.sh/release.v1\nmetadata: {name: sh.helm.release.v1.my-release.v12}\n",
        );
        assert!(is_record(&record));
        let summary = summary(&record).unwrap();
        assert_eq!(
            (summary.name.as_str(), summary.revision),
            ("my-release", 12)
        );
        assert!(!is_record(&object(
            "kind: Secret\ntype: Opaque\nmetadata: {name: a}\ndata: {release: x}\n"
        )));
        assert!(is_record(&object(
            "kind: ConfigMap\nmetadata: {name: a.v1, labels: {owner: helm, name: a}}\ndata: {release: x}\n"
        )));
    }
}
