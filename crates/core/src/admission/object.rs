//! The object of a review, read from its text or from its tape. Whether anything of it matters is
//! not known here.

use crate::manifest::{
    DocumentValue, Exceeded, Object, Origin, Tree, budget::MAX_VALUES, tape::ValueRef,
};

/// Where everything of a review was read, as evidence names it.
pub(super) const SOURCE: &str = "admission";

/// Reads an object of a review. Where the API server has not made up a name yet, the prefix stands
/// for it.
pub(super) fn object<'a>(
    raw: &'a str,
    namespace: &str,
) -> Result<(Tree<'a>, Option<Object>), ObjectError> {
    let mut node: Tree<'_> = serde_json::from_str(raw)?;
    name_it(&mut node);
    let object = read(&node, namespace);
    Ok((node, object))
}

/// Why an object of a review cannot be read. Texts of the object have no place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ObjectError {
    /// A budget or the depth is exceeded.
    #[error("milvus-guard cannot read the object: {0}")]
    Exceeded(Exceeded),
    /// It is not an object as the API server writes it.
    #[error("milvus-guard cannot read the object (line {line}, column {column})")]
    Malformed {
        /// Line of the text, from 1.
        line: usize,
        /// Column in that line, from 1.
        column: usize,
    },
    /// The number of replicas of a `scale` request.
    #[error("milvus-guard cannot read the Scale")]
    Scale,
}

impl From<serde_json::Error> for ObjectError {
    fn from(error: serde_json::Error) -> Self {
        // The reader of trees reports its budget as a message.
        let exceeded = Exceeded::Values(MAX_VALUES);
        if error.to_string().starts_with(&exceeded.to_string()) {
            return Self::Exceeded(exceeded);
        }
        Self::Malformed {
            line: error.line(),
            column: error.column(),
        }
    }
}

/// The same from a review's tape; `None` if it has to be read from its text: it has no name yet, or
/// is not an object.
pub(super) fn object_at(at: ValueRef<'_, '_>, namespace: &str) -> Option<Object> {
    at.text_at(&["metadata", "name"])
        .filter(|name| !name.is_empty())?;
    read(at, namespace)
}

pub(super) fn read<'t>(object: impl DocumentValue<'t>, namespace: &str) -> Option<Object> {
    let origin = Origin {
        source: SOURCE.into(),
        document: 0,
        line: 0,
    };
    Object::read(
        object,
        &origin,
        Some(namespace).filter(|namespace| !namespace.is_empty()),
    )
}

pub(super) fn name_it(node: &mut Tree<'_>) {
    use crate::manifest::node::Kind;
    let unnamed = node
        .text_at(&["metadata", "name"])
        .is_none_or(str::is_empty);
    if !unnamed {
        return;
    }
    let prefix = node
        .text_at(&["metadata", "generateName"])
        .unwrap_or("unnamed")
        .to_owned();
    let Kind::Mapping(entries) = &mut node.kind else {
        return;
    };
    let Some((_, metadata)) = entries.iter_mut().find(|(key, _)| &**key == "metadata") else {
        return;
    };
    if let Kind::Mapping(fields) = &mut metadata.kind {
        fields.retain(|(key, _)| &**key != "name");
        fields.push(("name".into(), Tree::string(&prefix)));
    }
}
