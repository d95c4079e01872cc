//! Applies a patch (kustomize, `kubectl patch`) to its workload: the strategic merge
//! of Kubernetes (<https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md>).

use std::{borrow::Cow, collections::BTreeSet};

use milvus_guard_core::manifest::{
    Node, Object, Tree,
    node::Kind,
    object::{Meta, ObjectRef},
};

use super::{
    InputError,
    objects::{Content, RawObject},
};

/// Lists whose elements are merged by a key; all other lists are replaced.
const MERGED_LISTS: [(&str, &str); 8] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("ephemeralContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("volumeMounts", "mountPath"),
    ("ports", "containerPort"),
];

/// Replaces the patches among the objects after a change by the patched objects, and returns their
/// names. A workload without a selector is a patch if the workload of that name before the change
/// has one.
///
/// # Errors
/// If the document of that workload was not kept.
pub(super) fn lay(
    before: &Content,
    after: &mut Content,
) -> Result<BTreeSet<ObjectRef>, InputError> {
    let mut laid = BTreeSet::new();
    for patch in std::mem::take(&mut after.partial) {
        let is_patched = |object: &&Object| {
            matches!(object, Object::Workload(workload) if workload.selector.iter().next().is_some())
                && is_same(&object.meta().object, &patch.object)
        };
        let Some(patched) = before.objects.iter().find(is_patched) else {
            continue;
        };
        let whole = before
            .raw
            .iter()
            .find(|whole| whole.object == patched.meta().object);
        let merged = whole.and_then(|whole| merged(whole, &patch));
        let place = after
            .objects
            .iter_mut()
            .find(|object| object.meta().object == patch.object);
        let (Some(merged), Some(place)) = (merged, place) else {
            return Err(InputError::Patch {
                path: patch.origin.source.to_string(),
                object: patch.object.to_string(),
            });
        };
        laid.insert(merged.meta().object.clone());
        *place = merged;
    }
    Ok(laid)
}

/// Whether two identities match; a missing namespace matches any.
pub(super) fn is_same(one: &ObjectRef, other: &ObjectRef) -> bool {
    one.kind == other.kind
        && one.name == other.name
        && (one.namespace.is_none()
            || other.namespace.is_none()
            || one.namespace == other.namespace)
}

fn merged(whole: &RawObject, patch: &RawObject) -> Option<Object> {
    let mut document = merge(whole.document.clone(), &patch.document)?;
    document.line = patch.document.line;
    let namespace = patch
        .object
        .namespace
        .as_deref()
        .or(whole.object.namespace.as_deref());
    let mut object = Object::read(&document, &patch.origin, namespace)?;
    let Meta { uid, .. } = object.meta_mut();
    *uid = None;
    Some(object)
}

/// The patched value; `None` if the patch deletes it.
fn merge(base: Node, patch: &Node) -> Option<Node> {
    match (base.kind, &patch.kind) {
        (Kind::Mapping(entries), Kind::Mapping(changes)) => match patch.text_at(&["$patch"]) {
            Some("delete") => None,
            Some("replace") => Some(without_directives(patch)),
            _ => Some(Tree {
                line: base.line,
                kind: Kind::Mapping(merge_entries(entries, changes)),
            }),
        },
        _ => Some(without_directives(patch)),
    }
}

fn merge_entries(
    mut entries: Vec<(Cow<'static, str>, Node)>,
    changes: &[(Cow<'static, str>, Node)],
) -> Vec<(Cow<'static, str>, Node)> {
    for (key, change) in changes.iter().filter(|(key, _)| !key.starts_with('$')) {
        let at = entries.iter().position(|(name, _)| name == key);
        match at {
            Some(at) if change.is_null() => {
                entries.remove(at);
            }
            None if change.is_null() => {}
            None => entries.push((key.clone(), without_directives(change))),
            Some(at) => {
                let (_, base) = entries.swap_remove(at);
                let element_key = MERGED_LISTS
                    .iter()
                    .find(|(list, _)| *list == key)
                    .map(|(_, element)| *element);
                let value = match (element_key, base.kind, &change.kind) {
                    (Some(element), Kind::Sequence(items), Kind::Sequence(more)) => {
                        let kind = Kind::Sequence(merge_lists(items, more, element, key == "env"));
                        Some(Tree {
                            line: base.line,
                            kind,
                        })
                    }
                    (_, kind, _) => merge(
                        Tree {
                            line: base.line,
                            kind,
                        },
                        change,
                    ),
                };
                entries.extend(value.map(|value| (key.clone(), value)));
            }
        }
    }
    entries
}

/// Elements with the same key are merged, or replaced if `replaces`; others are added.
fn merge_lists(mut items: Vec<Node>, changes: &[Node], key: &str, replaces: bool) -> Vec<Node> {
    if changes
        .iter()
        .any(|change| change.text_at(&["$patch"]) == Some("replace"))
    {
        let own = changes
            .iter()
            .filter(|change| change.text_at(&["$patch"]).is_none());
        return own.map(without_directives).collect();
    }
    for change in changes {
        let name = change.text_at(&[key]);
        let at = items
            .iter()
            .position(|item| name.is_some() && item.text_at(&[key]) == name);
        let Some(at) = at else {
            if change.text_at(&["$patch"]) != Some("delete") {
                items.push(without_directives(change));
            }
            continue;
        };
        let deletes = change.text_at(&["$patch"]) == Some("delete");
        match items.get(at).cloned() {
            Some(base) if !replaces && !deletes => {
                if let Some(value) = merge(base, change) {
                    items[at] = value;
                }
            }
            _ if deletes => {
                items.remove(at);
            }
            _ => items[at] = without_directives(change),
        }
    }
    items
}

/// A value without the keys that only direct a merge.
fn without_directives(node: &Node) -> Node {
    let kind = match &node.kind {
        Kind::Mapping(entries) => Kind::Mapping(
            entries
                .iter()
                .filter(|(key, _)| !key.starts_with('$'))
                .map(|(key, value)| (key.clone(), without_directives(value)))
                .collect(),
        ),
        Kind::Sequence(items) => Kind::Sequence(items.iter().map(without_directives).collect()),
        scalar @ Kind::Scalar { .. } => scalar.clone(),
    };
    Tree {
        line: node.line,
        kind,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use milvus_guard_core::manifest::documents;

    fn read(text: &str) -> Node {
        documents(text).next().unwrap().unwrap().root.into_owned()
    }

    #[rstest]
    #[case("{a: 1, b: {c: 2}}", "{b: {d: 3}}", "{a: 1, b: {c: 2, d: 3}}")]
    #[case("{a: 1, b: 2}", "{b: null}", "{a: 1}")]
    #[case("{a: {b: 1, c: 2}}", "{a: {$patch: replace, c: 3}}", "{a: {c: 3}}")]
    #[case("{args: [a, b]}", "{args: [c]}", "{args: [c]}")]
    #[case(
        "{containers: [{name: x, image: a, env: [{name: E, value: 1}]}]}",
        "{containers: [{name: x, image: b}]}",
        "{containers: [{name: x, image: b, env: [{name: E, value: 1}]}]}"
    )]
    #[case(
        "{containers: [{name: x}]}",
        "{containers: [{name: y}]}",
        "{containers: [{name: x}, {name: y}]}"
    )]
    #[case(
        "{containers: [{name: x}, {name: y}]}",
        "{containers: [{name: x, $patch: delete}]}",
        "{containers: [{name: y}]}"
    )]
    #[case(
        "{containers: [{name: x}, {name: y}]}",
        "{containers: [{$patch: replace}, {name: z}]}",
        "{containers: [{name: z}]}"
    )]
    #[case(
        "{env: [{name: E, value: 1}]}",
        "{env: [{name: E, valueFrom: {x: 1}}]}",
        "{env: [{name: E, valueFrom: {x: 1}}]}"
    )]
    #[case(
        "{volumeMounts: [{mountPath: /a, name: v}]}",
        "{volumeMounts: [{mountPath: /a, name: w}]}",
        "{volumeMounts: [{mountPath: /a, name: w}]}"
    )]
    fn a_patch_is_merged_as_in_kubernetes(
        #[case] base: &str,
        #[case] patch: &str,
        #[case] expected: &str,
    ) {
        // The order of the keys of a mapping does not matter.
        let merged = merge(read(base), &read(patch)).unwrap().to_json();
        assert_eq!(merged, read(expected).to_json());
    }
}
