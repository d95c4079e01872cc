//! What the deployer accepts: a label on Helm's record or hooks in it, for one revision, or an
//! annotation on a workload, for one request.

use crate::rules::{self, Behavior};

/// Key of the label and of the annotation.
pub const ACCEPT: &str = "guard.milvus.io/accept";

/// Rules of a label such as `MG201_MG205-r8`, where it is about this revision. Labels are inherited
/// by later revisions of a release, so one without a revision, or with another, accepts nothing.
#[must_use]
pub fn from_label(value: &str, revision: u64) -> Vec<String> {
    match value.rsplit_once("-r") {
        Some((rules, number)) if number.parse() == Ok(revision) => ids(rules),
        _ => Vec::new(),
    }
}

/// Rules of an annotation such as `MG201` or `MG201,MG205`, where this request sets it.
#[must_use]
pub fn from_annotation(new: Option<&str>, old: Option<&str>) -> Vec<String> {
    match new {
        Some(value) if Some(value) != old => ids(value),
        _ => Vec::new(),
    }
}

/// Rules that a revision accepts by hooks that order its components.
pub fn by_order_hooks() -> impl Iterator<Item = &'static str> {
    let handled = rules::ALL
        .iter()
        .filter(|rule| rule.has(Behavior::HandledByUpgrade));
    handled.map(|rule| rule.id)
}

/// The label that accepts these rules for one revision, as Helm's flag.
#[must_use]
pub fn helm_flag(rules: &[&str], revision: u64) -> String {
    format!("--labels {ACCEPT}={}-r{revision}", rules.join("_"))
}

fn ids(text: &str) -> Vec<String> {
    text.split(['_', ',', ' '])
        .filter(|id| !id.is_empty())
        .map(str::to_ascii_uppercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_holds_for_its_revision_only() {
        assert_eq!(from_label("MG201_mg205-r8", 8), ["MG201", "MG205"]);
        assert!(from_label("MG201_MG205-r8", 9).is_empty());
        assert!(from_label("MG201", 8).is_empty());
        assert!(from_label("MG201-r", 8).is_empty());
        assert_eq!(
            helm_flag(&["MG201", "MG205"], 8),
            "--labels guard.milvus.io/accept=MG201_MG205-r8"
        );
    }

    #[test]
    fn an_annotation_holds_in_the_request_that_sets_it() {
        assert_eq!(
            from_annotation(Some("MG201, MG104"), None),
            ["MG201", "MG104"]
        );
        assert!(from_annotation(Some("MG201"), Some("MG201")).is_empty());
        assert!(from_annotation(None, Some("MG201")).is_empty());
    }
}
