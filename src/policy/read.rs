//! From text to policy documents, every error with its place.

use std::{fmt, sync::Arc};

use serde::de::DeserializeOwned;

use crate::manifest::{Document, Node, Origin, documents, node::Kind};

use super::documents::{API_VERSION, PolicyDocument};

/// A document that is no policy, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// File, document and line.
    pub origin: Origin,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

/// Reads all documents of a text. Documents that are in order are returned even where others are not.
#[must_use]
pub fn read(text: &str, source: &str) -> (Vec<PolicyDocument>, Vec<PolicyError>) {
    let source: Arc<str> = source.into();
    let (mut read, mut errors) = (Vec::new(), Vec::new());
    for document in documents(text) {
        match document {
            Ok(document) => match one(&document, &source) {
                Ok(policy) => read.push(policy),
                Err(error) => errors.push(error),
            },
            Err(error) => errors.push(PolicyError {
                origin: Origin { source: source.clone(), document: error.document, line: error.line },
                message: error.message,
            }),
        }
    }
    if read.is_empty() && errors.is_empty() {
        let origin = Origin { source, document: 1, line: 1 };
        errors.push(PolicyError { origin, message: "holds no document".into() });
    }
    (read, errors)
}

fn one(document: &Document, source: &Arc<str>) -> Result<PolicyDocument, PolicyError> {
    let root = &document.root;
    let origin = Origin { source: source.clone(), document: document.index, line: root.line };
    let fail = |line: u32, message: String| PolicyError { origin: origin.at_line(line), message };
    let line_of = |key: &str| root.get(key).map_or(root.line, |node| node.line);
    let api = root.text_at(&["apiVersion"]).unwrap_or_default();
    if api != API_VERSION {
        return Err(fail(line_of("apiVersion"), format!("apiVersion is '{api}', expected {API_VERSION}")));
    }
    match root.text_at(&["kind"]) {
        Some("UpgradePolicy") => Ok(PolicyDocument::Policy(typed(root, &origin)?, origin.clone())),
        Some("UpgradeException") => Ok(PolicyDocument::Exception(typed(root, &origin)?, origin.clone())),
        kind => Err(fail(
            line_of("kind"),
            format!("kind is '{}', expected UpgradePolicy or UpgradeException", kind.unwrap_or_default()),
        )),
    }
}

fn typed<T: DeserializeOwned>(root: &Node, origin: &Origin) -> Result<Box<T>, PolicyError> {
    serde_path_to_error::deserialize(root.to_json()).map(Box::new).map_err(|error| {
        let line = line_at(root, error.path());
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!("{path}: ") };
        PolicyError { origin: origin.at_line(line), message: format!("{place}{}", error.inner()) }
    })
}

/// The line of the deepest value on a path.
fn line_at(root: &Node, path: &serde_path_to_error::Path) -> u32 {
    use serde_path_to_error::Segment;
    let mut node = root;
    for segment in path {
        let next = match segment {
            Segment::Seq { index } => match &node.kind {
                Kind::Sequence(items) => items.get(*index),
                _ => None,
            },
            Segment::Map { key } => node.get(key),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node.line
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: a}\nspec:\n  rules:\n    - {id: MG201, action: Warn}\n";

    #[test]
    fn documents_are_read_with_their_place() {
        let (read, errors) = read(&format!("{GOOD}---\n{GOOD}"), "p.yaml");
        assert!(errors.is_empty(), "{errors:?}");
        let [PolicyDocument::Policy(_, first), PolicyDocument::Policy(_, second)] = read.as_slice() else { panic!("{read:?}") };
        assert_eq!((first.line, second.document, second.line), (1, 2, 8));
    }

    #[test]
    fn errors_name_their_line() {
        let message = |text: &str| read(text, "p.yaml").1.first().map(ToString::to_string).unwrap_or_default();
        assert!(message(&GOOD.replace("Warn", "warn")).starts_with("p.yaml:6: spec.rules[0].action: unknown variant"));
        assert!(message(&GOOD.replace("rules:", "rulez:")).contains("unknown field `rulez`"));
        assert!(message(&GOOD.replace("UpgradePolicy", "Policy")).starts_with("p.yaml:2: kind is 'Policy'"));
        assert!(message(&GOOD.replace("v1alpha1", "v2")).starts_with("p.yaml:1: apiVersion"));
        assert!(message("a: [\n").starts_with("p.yaml:"));
        assert_eq!(message(""), "p.yaml:1: holds no document");
        assert!(!GOOD.is_empty() && read(&format!("{GOOD}---\nkind: X\n"), "p").0.len() == 1, "good ones are kept");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,400}") {
            let _ = read(&text, "p");
        }

        #[test]
        fn arbitrary_fields_never_panic(key in "[a-z]{1,8}", value in "[ -~]{0,40}") {
            let _ = read(&format!("{GOOD}  {key}: {value}\n"), "p");
        }
    }
}
