//! The names of this project that others see. Its addresses stand in `Cargo.toml` only.

/// Name of the program, the image and the charts.
pub const NAME: &str = "milvus-guard";

/// Where the sources are (`repository` in `Cargo.toml`), without a slash at the end.
pub const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// Where the folder `docs` is published, without a slash at the end. A build for a mirror of the
/// pages sets the variable `MILVUS_GUARD_DOCS_URL`.
pub const DOCUMENTATION: &str = match option_env!("MILVUS_GUARD_DOCS_URL") {
    Some(url) => url,
    None => concat!(env!("CARGO_PKG_HOMEPAGE"), "/docs"),
};

/// The address of a page, by its file in `docs`.
#[must_use]
pub fn page(file: &str) -> String {
    format!("{DOCUMENTATION}/{file}")
}

/// The address of the page about a rule.
#[must_use]
pub fn rule_page(id: &str) -> String {
    page(&format!("rules/{id}.md"))
}

/// Repositories of others in which the issues lie that rules and data refer to, by the name that
/// stands before the `#` of a reference.
const ISSUES: [(&str, &str); 6] = [
    ("milvus", "milvus-io/milvus"),
    ("milvus-backup", "zilliztech/milvus-backup"),
    ("milvus-docs", "milvus-io/milvus-docs"),
    ("milvus-helm", "zilliztech/milvus-helm"),
    ("milvus-operator", "zilliztech/milvus-operator"),
    ("woodpecker", "zilliztech/woodpecker"),
];

/// The address of an issue or pull request of another project, such as `milvus#39125`; `None` if
/// the text is not such a reference.
#[must_use]
pub fn issue(reference: &str) -> Option<String> {
    let (project, number) = reference.split_once('#')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let (_, repository) = ISSUES.iter().find(|(name, _)| *name == project)?;
    is_number.then(|| format!("https://github.com/{repository}/issues/{number}"))
}

/// A source of a rule or of a row: the text, with the address where it is a reference.
#[must_use]
pub fn source_text(source: &str) -> String {
    issue(source).map_or_else(|| source.to_owned(), |url| format!("{source} ({url})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_rules_have_an_address() {
        assert_eq!(
            issue("milvus#39125").as_deref(),
            Some("https://github.com/milvus-io/milvus/issues/39125")
        );
        for text in ["milvus#", "milvus#a1", "unknown#1", "release notes", ""] {
            assert_eq!(issue(text), None, "{text}");
        }
        let unknown: Vec<&str> = crate::rules::ALL
            .iter()
            .flat_map(|rule| rule.sources)
            .copied()
            .filter(|source| {
                let (project, number) = source.split_once('#').unwrap_or_default();
                // Others are of projects whose users met a problem with Milvus.
                (project.starts_with("milvus") || project == "woodpecker")
                    && !project.contains(' ')
                    && number.parse::<u64>().is_ok()
                    && issue(source).is_none()
            })
            .collect();
        assert!(
            unknown.is_empty(),
            "references without an address: {unknown:?}"
        );
    }

    #[test]
    fn addresses_are_addresses() {
        assert!(DOCUMENTATION.starts_with("https://") && !DOCUMENTATION.ends_with('/'));
        assert_eq!(
            rule_page("MG101"),
            format!("{DOCUMENTATION}/rules/MG101.md")
        );
    }
}
