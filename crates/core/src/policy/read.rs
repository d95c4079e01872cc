//! From text to policy documents, every error with its place.

use std::{fmt, sync::Arc};

use serde::de::DeserializeOwned;

use crate::manifest::{Document, Origin, Tree, documents};

use crate::api::policy::{API_VERSION, Places, PolicyDocument};

/// What Kubernetes lets `metadata` hold, so that `kubectl get -o yaml` can be read back and a
/// typing error is still seen.
const METADATA: [&str; 14] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

/// A document that is not a policy, with its place.
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

/// Reads all documents of a text. Documents that are in order are returned even where others are
/// not.
#[must_use]
pub fn read(text: &str, source: &str) -> (Vec<PolicyDocument>, Vec<PolicyError>) {
    let source: Arc<str> = source.into();
    let (mut read, mut errors) = (Vec::new(), Vec::new());
    for document in documents(text) {
        match document {
            Ok(Document { index, root }) => {
                let origin = Origin {
                    source: source.clone(),
                    document: index,
                    line: root.line,
                };
                match one(&root, &origin)
                    .and_then(|policy| known_metadata(&root, &origin).map(|()| policy))
                {
                    Ok(policy) => read.push(policy),
                    Err(error) => errors.push(error),
                }
            }
            Err(error) => errors.push(PolicyError {
                origin: Origin {
                    source: source.clone(),
                    document: error.document,
                    line: error.line,
                },
                message: error.message,
            }),
        }
    }
    if read.is_empty() && errors.is_empty() {
        let origin = Origin {
            source,
            document: 1,
            line: 1,
        };
        errors.push(PolicyError {
            origin,
            message: NO_DOCUMENT.into(),
        });
    }
    (read, errors)
}

/// The message for a file without a document.
pub const NO_DOCUMENT: &str = "does not contain a document";

/// The message for a time that cannot be read. That of the parser does not help a person.
pub const WRONG_TIME: &str = "write a time with a zone, such as 2026-12-24T00:00:00Z";

/// Reads one object that came from an API, whose metadata may contain other fields of that API.
///
/// # Errors
/// Where it is not a policy or exception.
pub fn from_node(root: &Tree<'_>, source: &str) -> Result<PolicyDocument, PolicyError> {
    one(
        root,
        &Origin {
            source: source.into(),
            document: 1,
            line: root.line,
        },
    )
}

fn one(root: &Tree<'_>, origin: &Origin) -> Result<PolicyDocument, PolicyError> {
    let fail = |line: u32, message: String| PolicyError {
        origin: origin.at_line(line),
        message,
    };
    let line_of = |key: &str| root.get(key).map_or(root.line, |node| node.line);
    let api = root.text_at(&["apiVersion"]).unwrap_or_default();
    if api != API_VERSION {
        return Err(fail(
            line_of("apiVersion"),
            format!("apiVersion is '{api}', expected {API_VERSION}"),
        ));
    }
    let places = || Places::new(origin.clone(), root.clone().into_owned());
    match root.text_at(&["kind"]) {
        Some("UpgradePolicy") => Ok(PolicyDocument::Policy(typed(root, origin)?, places())),
        Some("UpgradeException") => Ok(PolicyDocument::Exception(typed(root, origin)?, places())),
        kind => Err(fail(
            line_of("kind"),
            format!(
                "kind is '{}', expected UpgradePolicy or UpgradeException",
                kind.unwrap_or_default()
            ),
        )),
    }
}

fn known_metadata(root: &Tree<'_>, origin: &Origin) -> Result<(), PolicyError> {
    let unknown = root
        .get("metadata")
        .into_iter()
        .flat_map(Tree::entries)
        .find(|(key, _)| !METADATA.contains(key));
    unknown.map_or(Ok(()), |(key, node)| {
        Err(PolicyError {
            origin: origin.at_line(node.line),
            message: format!("metadata.{key}: unknown field `{key}`"),
        })
    })
}

/// The field that holds a time.
const TIME: &str = "spec.expires";

fn typed<T: DeserializeOwned>(root: &Tree<'_>, origin: &Origin) -> Result<Box<T>, PolicyError> {
    serde_path_to_error::deserialize(root.to_json())
        .map(Box::new)
        .map_err(|error| {
            let line = line_at(root, error.path());
            let path = error.path().to_string();
            let place = if path == "." {
                String::new()
            } else {
                format!("{path}: ")
            };
            PolicyError {
                origin: origin.at_line(line),
                message: if path == TIME {
                    format!("{place}{WRONG_TIME}")
                } else {
                    format!("{place}{}", error.inner())
                },
            }
        })
}

/// The line of the deepest value on a path, nulls included.
fn line_at(root: &Tree<'_>, path: &serde_path_to_error::Path) -> u32 {
    use serde_path_to_error::Segment;
    let mut node = root;
    for segment in path {
        let next = match segment {
            Segment::Seq { index } => node.items().nth(*index),
            Segment::Map { key } => node
                .entries()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
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
        let [
            PolicyDocument::Policy(_, first),
            PolicyDocument::Policy(_, second),
        ] = read.as_slice()
        else {
            panic!("{read:?}")
        };
        assert_eq!(
            (
                first.origin.line,
                second.origin.document,
                second.origin.line
            ),
            (1, 2, 8)
        );
    }

    const EXCEPTION: &str = "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradeException\nmetadata: {name: e}\nspec:\n  rules: [MG201]\n  namespace: milvus\n  release: my-release\n  from: \"2.5\"\n  to: \">=2.6.0\"\n  reason: r\n  owner: o\n  expires: 2026-01-31T00:00:00Z\n";

    #[test]
    fn values_are_found_again_by_path() {
        let (read, errors) = read(&format!("{GOOD}---\n{EXCEPTION}"), "p.yaml");
        assert!(errors.is_empty(), "{errors:?}");
        let [policy, exception] = read.as_slice() else {
            panic!("{read:?}")
        };
        assert_eq!(
            (
                policy.kind(),
                policy.name(),
                exception.kind(),
                exception.name()
            ),
            ("UpgradePolicy", "a", "UpgradeException", "e")
        );
        assert_eq!(
            policy.places().at("spec.rules.0.action").to_string(),
            "p.yaml:6"
        );
        assert_eq!(
            policy.places().at("spec.rules.7.action").line,
            6,
            "the list itself"
        );
        assert_eq!(exception.places().at("spec.expires").line, 19);
        assert_eq!(
            Places::from(policy.places().origin.clone())
                .at("spec.rules")
                .line,
            1
        );
    }

    #[test]
    fn errors_of_exceptions_say_what_is_expected() {
        let message = |text: &str| {
            read(text, "e.yaml")
                .1
                .first()
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        let unquoted = message(&EXCEPTION.replace("\"2.5\"", "2.5"));
        assert!(
            unquoted.starts_with("e.yaml:8: spec.from: ")
                && unquoted.contains("a version in quotes"),
            "{unquoted}"
        );
        let range = message(&EXCEPTION.replace(">=2.6.0", "2.6.x"));
        assert!(
            range.starts_with("e.yaml:9: spec.to: ") && range.contains("2.6.x"),
            "{range}"
        );
        let expires = message(&EXCEPTION.replace("2026-01-31T00:00:00Z", "2026-01-31"));
        assert!(
            expires.starts_with("e.yaml:12: spec.expires: write a time with a zone"),
            "{expires}"
        );
        let missing = message(&EXCEPTION.replace("  owner: o\n", ""));
        assert!(missing.contains("spec: missing field `owner`"), "{missing}");
        assert!(
            message(&EXCEPTION.replace("owner: o", "owner:"))
                .starts_with("e.yaml:11: spec.owner: ")
        );
    }

    #[test]
    fn objects_of_an_api_may_hold_metadata_of_later_versions() {
        let object = serde_json::json!({
            "apiVersion": API_VERSION, "kind": "UpgradePolicy", "metadata": {"name": "a", "newField": 1}, "spec": {},
        });
        let document = from_node(&Tree::from_json(&object), "cluster").unwrap();
        assert_eq!(
            (
                document.name(),
                document.places().at("spec.rules").to_string().as_str()
            ),
            ("a", "cluster")
        );
    }

    #[test]
    fn unknown_fields_are_errors_everywhere() {
        let message = |text: &str| {
            read(text, "p.yaml")
                .1
                .first()
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        assert_eq!(
            message(&GOOD.replace("{name: a}", "{name: a, label: {}}")),
            "p.yaml:3: metadata.label: unknown field `label`"
        );
        assert_eq!(
            message(&GOOD.replace("{name: a}", "{name: a, uid: x, generation: 1}")),
            "",
            "what kubectl prints is read back"
        );
        assert!(
            message(&format!("{GOOD}      params: {{}}\n")).starts_with("p.yaml:"),
            "not YAML"
        );
        assert!(
            message(&GOOD.replace("action: Warn", "action: Warn, params: {strictly: true}"))
                .starts_with("p.yaml:6: spec.rules[0].params")
        );
        assert!(
            message(&format!("{GOOD}specs: 1\n")).starts_with("p.yaml:7: specs: unknown field")
        );
    }

    #[test]
    fn errors_name_their_line() {
        let message = |text: &str| {
            read(text, "p.yaml")
                .1
                .first()
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        assert!(
            message(&GOOD.replace("Warn", "warn"))
                .starts_with("p.yaml:6: spec.rules[0].action: unknown variant")
        );
        assert!(message(&GOOD.replace("rules:", "rulez:")).contains("unknown field `rulez`"));
        assert!(
            message(&GOOD.replace("UpgradePolicy", "Policy"))
                .starts_with("p.yaml:2: kind is 'Policy'")
        );
        assert!(message(&GOOD.replace("v1alpha1", "v2")).starts_with("p.yaml:1: apiVersion"));
        assert!(message("a: [\n").starts_with("p.yaml:"));
        assert_eq!(message(""), "p.yaml:1: does not contain a document");
        assert!(
            !GOOD.is_empty() && read(&format!("{GOOD}---\nkind: X\n"), "p").0.len() == 1,
            "good ones are kept"
        );
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
