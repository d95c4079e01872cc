//! From documents to objects, in every supported form: single objects, lists, Helm's records and
//! printed output, Terraform's JSON, admission reviews.

mod content;
mod helm;
mod record;

use std::{collections::BTreeSet, sync::Arc};

use memchr::memmem;
use milvus_guard_core::{
    helm::{codec, order_hooks},
    manifest::{Object, Origin, Tree, documents, node::Kind},
    milvus::{Snapshot, identify::component},
};
use record::Record;
use serde::de::IgnoredAny;

use crate::files::{
    InputError, Role,
    foreign::{self, Foreign, shown},
    helm_output,
    record::is_record,
    terraform,
};

pub use content::{Content, Form, RawObject};

/// Largest depth of lists inside lists.
const MAX_LIST_DEPTH: u8 = 4;

/// Most remarks about unusable documents; further ones are only counted.
const MAX_REMARKS: usize = 50;

/// Collects the objects of one input.
pub struct Collector {
    role: Role,
    namespace: Option<String>,
    only: Option<String>,
    raw: BTreeSet<(String, String)>,
    content: Content,
    records: Vec<Record>,
    seen: usize,
    remarks: usize,
}

impl Collector {
    /// A collector for one side of a change; `namespace` is that of objects that name none.
    #[must_use]
    pub fn new(role: Role, namespace: Option<&str>) -> Self {
        Self {
            role,
            namespace: namespace.map(str::to_owned),
            only: None,
            raw: BTreeSet::new(),
            content: Content::default(),
            records: Vec::new(),
            seen: 0,
            remarks: 0,
        }
    }

    /// Ignores objects of other namespaces.
    #[must_use]
    pub fn only(mut self, namespace: Option<&str>) -> Self {
        self.only = namespace.map(str::to_owned);
        self
    }

    /// Keeps the documents of these objects (kind and name), to lay patches over them.
    #[must_use]
    pub fn keep(mut self, objects: impl IntoIterator<Item = (String, String)>) -> Self {
        self.raw.extend(objects);
        self
    }

    /// Reads the documents of a text.
    ///
    /// # Errors
    /// If the text is not YAML or JSON; the error names document and line, or the format of the
    /// text.
    pub fn add_text(&mut self, text: &str, source: &str) -> Result<(), InputError> {
        if let Some(output) = helm_output::read(text).filter(|output| output.manifest.is_some()) {
            return self.add_output(&output, source);
        }
        if is_rendered(text) && self.content.form == Form::Manifests {
            self.content.form = Form::Rendered;
        }
        let before = self.seen;
        let found = self.content.foreign.len();
        if let Err(error) = self.add_documents(text, source) {
            return Err(match foreign::of_text(text, source) {
                Some(foreign) if self.seen == before => InputError::Foreign {
                    path: source.to_owned(),
                    found: vec![foreign],
                },
                _ => InputError::Parse {
                    path: source.to_owned(),
                    error,
                },
            });
        }
        if self.seen == before && self.content.foreign.len() == found {
            self.content.foreign.extend(foreign::of_text(text, source));
        }
        Ok(())
    }

    fn add_documents(
        &mut self,
        text: &str,
        source: &str,
    ) -> Result<(), milvus_guard_core::manifest::ParseError> {
        let source: Arc<str> = source.into();
        let separated = separate_json(text);
        let text = separated.as_deref().unwrap_or(text);
        let mut templates = is_rendered(text).then(|| Templates::of(text));
        for document in documents(text) {
            let document = document?;
            let template = templates
                .as_mut()
                .and_then(|templates| templates.above(document.root.line));
            let before = self.content.objects.len();
            let origin = Origin {
                source: source.clone(),
                document: document.index,
                line: document.root.line,
            };
            self.add_node(document.root, &origin, MAX_LIST_DEPTH);
            let new = self.content.objects.iter().skip(before);
            for object in new.filter(|object| matches!(object, Object::Workload(_))) {
                if let Some(template) = template {
                    self.content.places.add(&object.meta().object, template);
                }
            }
        }
        Ok(())
    }

    /// Reads one document in any form.
    pub fn add_node(&mut self, node: Tree<'_>, origin: &Origin, depth: u8) {
        let Tree {
            line,
            kind: Kind::Sequence(items),
        } = node
        else {
            return self.add_mapping(node, origin, depth);
        };
        if depth == 0 {
            return self.remark(format!("{origin}: lists nested too deep"));
        }
        for item in items {
            let origin = origin.at_line(item.line.max(line));
            self.add_node(item, &origin, depth - 1);
        }
    }

    fn add_mapping(&mut self, node: Tree<'_>, origin: &Origin, depth: u8) {
        let kind = node.text_at(&["kind"]).unwrap_or_default();
        if kind.ends_with("List") && (kind == "List" || node.get("items").is_some()) {
            return self.add_list(node, origin, depth);
        }
        if kind == "AdmissionReview" {
            return self.add_review(&node, origin, depth);
        }
        if is_record(&node) {
            return self.add_record(node, origin);
        }
        if kind.is_empty() {
            if codec::is_printed_release(&node) {
                return self.add_release(&node, origin);
            }
            if terraform::is_plan(&node) {
                return self.add_plan(&node, origin, depth);
            }
            if let Some(objects) = terraform::objects_of_map(&node) {
                self.content.form = Form::Whole;
                return self.add_found(objects, origin, depth);
            }
            if is_of_ansible(&node) {
                return self.add_items(take(node, "resources"), None, origin, depth);
            }
        }
        let mut foreign = foreign::of_document(&node, &origin.source);
        let read = Object::read(&node, origin, self.namespace.as_deref());
        if let (Some(foreign), Some(Object::Deployer(_))) = (&mut foreign, &read) {
            foreign.is_used = true;
        }
        match read {
            Some(object) => self.add_object(object, node, origin),
            None if foreign.is_none() => {
                self.remark(format!(
                    "{origin}: document {} is not a Kubernetes object",
                    origin.document
                ));
            }
            None => {}
        }
        if let Some(foreign) = foreign
            && self.content.foreign.len() < MAX_REMARKS
        {
            self.content.foreign.push(foreign);
        }
    }

    fn add_list(&mut self, node: Tree<'_>, origin: &Origin, depth: u8) {
        let item_type = item_type(&node);
        self.add_items(take(node, "items"), item_type.as_ref(), origin, depth);
    }

    fn add_items(
        &mut self,
        list: Option<Tree<'_>>,
        item_type: Option<&(String, String)>,
        origin: &Origin,
        depth: u8,
    ) {
        if depth == 0 {
            return self.remark(format!("{origin}: lists nested too deep"));
        }
        let items = list.map(into_items).unwrap_or_default();
        if items.is_empty() {
            self.content.foreign.push(Foreign {
                what: "it is an empty list: kubectl did not find objects".into(),
                instead: "Name the namespace (-n) in which Milvus runs".into(),
                is_used: false,
            });
        }
        for item in items {
            let origin = origin.at_line(item.line.max(origin.line));
            let item = match item_type {
                Some((kind, version)) => of_type(item, kind, version),
                None => item,
            };
            self.add_node(item, &origin, depth - 1);
        }
    }

    fn add_review(&mut self, node: &Tree<'_>, origin: &Origin, depth: u8) {
        let keys: [&str; 2] = if self.role == Role::Before {
            ["oldObject", "object"]
        } else {
            ["object", "oldObject"]
        };
        let namespace = node.text_at(&["request", "namespace"]).map(str::to_owned);
        let object = keys
            .iter()
            .find_map(|key| node.at(&["request", key]))
            .cloned();
        match object {
            Some(object) if depth > 0 => {
                if self.namespace.is_none() {
                    self.namespace = namespace;
                }
                self.add_node(object, origin, depth - 1);
            }
            _ => self.remark(format!(
                "{origin}: the admission review does not contain an object"
            )),
        }
    }

    fn add_plan(&mut self, node: &Tree<'_>, origin: &Origin, depth: u8) {
        let found = terraform::objects_of_plan(node, self.role);
        self.content.form = Form::Whole;
        for reason in found.not_read {
            self.remark(format!("{origin}: {reason}"));
        }
        self.add_found(found.objects, origin, depth);
    }

    fn add_found(&mut self, found: Vec<terraform::Found<'_>>, origin: &Origin, depth: u8) {
        for found in found {
            match found {
                terraform::Found::Tree(node) if depth > 0 => {
                    let origin = origin.at_line(node.line.max(origin.line));
                    self.add_node(node.clone(), &origin, depth - 1);
                }
                terraform::Found::Text(name, text) if depth > 0 => {
                    for document in documents(text) {
                        match document {
                            Ok(document) => self.add_node(document.root, origin, depth - 1),
                            Err(_) => self
                                .remark(format!("{origin}: {} is not YAML or JSON", shown(name))),
                        }
                    }
                }
                _ => self.remark(format!("{origin}: objects nested too deep")),
            }
        }
    }

    fn add_object(&mut self, object: Object, node: Tree<'_>, origin: &Origin) {
        if let Object::Workload(workload) = &object {
            let identity = &workload.meta.object;
            let is_wanted = self
                .raw
                .contains(&(identity.kind.clone(), identity.name.clone()));
            let is_partial = self.role == Role::After && workload.selector.iter().next().is_none();
            if is_wanted || is_partial {
                let raw = RawObject {
                    object: identity.clone(),
                    origin: origin.clone(),
                    document: node.into_owned(),
                };
                let kept = if is_wanted {
                    &mut self.content.raw
                } else {
                    &mut self.content.partial
                };
                kept.push(raw);
            }
        }
        self.put(object);
    }

    fn put(&mut self, object: Object) {
        self.seen += 1;
        self.content.hooks.extend(order_hooks::as_hook(&object));
        let elsewhere = match &object {
            // These are in the namespace of their tool, and name the namespace that they deploy to.
            Object::Deployer(deployer) => deployer.target_namespace.as_deref(),
            other => other.meta().object.namespace.as_deref(),
        };
        if self.is_elsewhere(elsewhere) {
            self.content.has_left_out_milvus |= matches!(
                &object,
                Object::Workload(workload) if component(workload).is_some()
            );
            return self.leave_out(elsewhere);
        }
        self.content.objects.push(object);
    }

    fn is_elsewhere(&self, namespace: Option<&str>) -> bool {
        matches!((&self.only, namespace), (Some(only), Some(namespace)) if only != namespace)
    }

    fn leave_out(&mut self, namespace: Option<&str>) {
        *self
            .content
            .left_out
            .entry(namespace.unwrap_or_default().to_owned())
            .or_default() += 1;
    }

    fn remark(&mut self, text: String) {
        self.remarks += 1;
        if self.remarks <= MAX_REMARKS {
            self.content.not_read.push(text);
        }
    }

    /// The collected content. If there are several revisions of a release, the deployed one counts
    /// before a change, and the pending one (else the newest) after it.
    ///
    /// # Errors
    /// If one of Helm's records cannot be unpacked, or nothing was read at all.
    pub fn content(mut self, source: &str) -> Result<Content, InputError> {
        if self.seen == 0 {
            let path = source.to_owned();
            return Err(match std::mem::take(&mut self.content.foreign) {
                found if found.is_empty() => InputError::NoObjects { path },
                found => InputError::Foreign { path, found },
            });
        }
        self.add_recorded()?;
        if self.remarks > MAX_REMARKS {
            self.content.not_read.push(format!(
                "{} more that could not be used",
                self.remarks - MAX_REMARKS
            ));
        }
        Ok(self.content)
    }

    /// The same, grouped into releases, with the remarks about unusable documents.
    ///
    /// # Errors
    /// As [`Collector::content`].
    pub fn finish(self, source: &str) -> Result<(Snapshot, Vec<String>), InputError> {
        let content = self.content(source)?;
        Ok((content.builder().build(), content.not_read))
    }
}

/// The comment with which Helm names the template of a document.
const TEMPLATE: &str = "# Source: ";

/// Finds the template of each document, in the order of the text.
struct Templates<'t> {
    lines: std::iter::Zip<std::ops::RangeFrom<u32>, std::str::Lines<'t>>,
    last: Option<&'t str>,
}

impl<'t> Templates<'t> {
    fn of(text: &'t str) -> Self {
        Self {
            lines: (1..).zip(text.lines()),
            last: None,
        }
    }

    /// The template in the last comment above a line that is not of an earlier document.
    fn above(&mut self, line: u32) -> Option<&'t str> {
        for (number, text) in &mut self.lines {
            if text.starts_with("---") {
                self.last = None;
            } else if let Some(template) = text.strip_prefix(TEMPLATE) {
                self.last = Some(template);
            }
            if number >= line {
                break;
            }
        }
        self.last.take()
    }
}

/// Whether a text has these comments.
fn is_rendered(text: &str) -> bool {
    text.starts_with(TEMPLATE) || memmem::find(text.as_bytes(), b"\n# Source: ").is_some()
}

fn take<'a>(node: Tree<'a>, wanted: &str) -> Option<Tree<'a>> {
    match node.kind {
        Kind::Mapping(entries) => entries
            .into_iter()
            .find(|(key, _)| &**key == wanted)
            .map(|(_, value)| value),
        _ => None,
    }
}

/// Kind and version of the items of a list of one kind: the API server leaves them out
/// (`kubectl get --raw`).
fn item_type(list: &Tree<'_>) -> Option<(String, String)> {
    let kind = list.text_at(&["kind"])?;
    let kind = kind.strip_suffix("List").filter(|kind| !kind.is_empty())?;
    let version = list.text_at(&["apiVersion"])?;
    Some((kind.to_owned(), version.to_owned()))
}

/// Adds kind and version to an item of a list that does not have them.
fn of_type<'a>(mut item: Tree<'a>, kind: &str, version: &str) -> Tree<'a> {
    let line = item.line;
    if let Kind::Mapping(entries) = &mut item.kind {
        for (key, value) in [("kind", kind), ("apiVersion", version)] {
            if !entries.iter().any(|(known, _)| known == key) {
                let mut value = Tree::string(value);
                value.line = line;
                entries.push((key.into(), value));
            }
        }
    }
    item
}

/// JSON documents that follow one another without a separator (`kubectl get -o json` of several
/// commands, `jq -c`), as YAML documents that begin on the same lines. `None` if the text is
/// something else.
fn separate_json(text: &str) -> Option<String> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut ends = Vec::new();
    while let Some(value) = values.next() {
        value.ok()?;
        ends.push(values.byte_offset());
    }
    if ends.len() < 2 {
        return None;
    }
    let mut separated = String::with_capacity(text.len() + ends.len() * 5);
    let mut start = 0;
    for end in ends {
        let document = text.get(start..end)?;
        let space = document.len() - document.trim_start().len();
        let (space, document) = document.split_at(space);
        match space.rfind('\n') {
            Some(line) => separated.push_str(&space[..=line]),
            None if start > 0 => separated.push('\n'),
            None => {}
        }
        separated.push_str("--- ");
        separated.push_str(document);
        start = end;
    }
    Some(separated)
}

/// Whether this is what Ansible's `kubernetes.core.k8s_info` returns: objects under `resources`,
/// where a kustomization has paths.
fn is_of_ansible(node: &Tree<'_>) -> bool {
    let mut items = node.items_at(&["resources"]).peekable();
    items.peek().is_some() && items.all(|item| item.get("kind").is_some())
}

fn into_items(node: Tree<'_>) -> Vec<Tree<'_>> {
    match node.kind {
        Kind::Sequence(items) => items,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_document_gets_the_template_of_its_own_comment() {
        let text = "---\n# Source: a/templates/x.yaml\n\n# more\nkind: A\n---\nkind: B\ntext: |\n  # Source: no\n---\n# Source: c/templates/z.yaml\n# Source: d/templates/z.yaml\nkind: C\n";
        let mut templates = Templates::of(text);
        let found: Vec<Option<&str>> = documents(text)
            .map(|document| templates.above(document.unwrap().root.line))
            .collect();
        assert_eq!(
            found,
            [Some("a/templates/x.yaml"), None, Some("d/templates/z.yaml")]
        );
    }
}
