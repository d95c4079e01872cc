//! From documents to a snapshot, in every form in which objects travel: single objects, lists, Helm's records,
//! admission reviews.

use std::sync::Arc;

use crate::{
    helm::decode,
    manifest::{Node, Object, Origin, Tree, documents, object::ConfigMap},
    milvus::{Snapshot, snapshot::Builder},
};

use super::{
    InputError, Role,
    record::{Summary, is_record, summary},
};

/// Lists inside lists that are opened.
const MAX_LIST_DEPTH: u8 = 4;

/// Collects the objects of one input.
pub struct Collector {
    role: Role,
    namespace: Option<String>,
    builder: Builder,
    records: Vec<Record>,
    seen: usize,
    /// What could not be used, with the reason.
    pub not_read: Vec<String>,
}

/// One of Helm's records, kept until all are known, because an input may hold many revisions.
struct Record {
    summary: Summary,
    object: Node,
    origin: Origin,
}

impl Collector {
    /// A collector for one side of a change; `namespace` is where objects live that name none.
    #[must_use]
    pub fn new(role: Role, namespace: Option<&str>) -> Self {
        Self {
            role,
            namespace: namespace.map(str::to_owned),
            builder: Builder::default(),
            records: Vec::new(),
            seen: 0,
            not_read: Vec::new(),
        }
    }

    /// Reads the documents of a text.
    ///
    /// # Errors
    /// Where the text is not YAML or JSON; the error names document and line.
    pub fn add_text(&mut self, text: &str, source: &str) -> Result<(), InputError> {
        let source: Arc<str> = source.into();
        for document in documents(text) {
            let document = document.map_err(|error| InputError::Parse { path: source.to_string(), error })?;
            let origin = Origin { source: source.clone(), document: document.index, line: document.root.line };
            self.add_node(document.root, &origin, MAX_LIST_DEPTH);
        }
        Ok(())
    }

    /// Takes in one object, whatever form it has.
    pub fn add_node(&mut self, node: Tree<'_>, origin: &Origin, depth: u8) {
        let kind = node.text_at(&["kind"]).unwrap_or_default();
        if kind.ends_with("List") && node.get("items").is_some() {
            if depth == 0 {
                self.not_read.push(format!("{origin}: lists nested too deep"));
                return;
            }
            if let Some(items) = take(node, "items") {
                for item in into_items(items) {
                    let origin = origin.at_line(item.line.max(origin.line));
                    self.add_node(item, &origin, depth - 1);
                }
            }
            return;
        }
        if kind == "AdmissionReview" {
            let keys: [&str; 2] = if self.role == Role::Before { ["oldObject", "object"] } else { ["object", "oldObject"] };
            let namespace = node.text_at(&["request", "namespace"]).map(str::to_owned);
            let object = keys.iter().find_map(|key| node.at(&["request", key])).cloned();
            match object {
                Some(object) if depth > 0 => {
                    if self.namespace.is_none() {
                        self.namespace = namespace;
                    }
                    self.add_node(object, origin, depth - 1);
                }
                _ => self.not_read.push(format!("{origin}: the admission review holds no object")),
            }
            return;
        }
        if is_record(&node) {
            self.seen += 1;
            match summary(&node) {
                Some(summary) => self.records.push(Record { summary, object: node.into_owned(), origin: origin.clone() }),
                None => self.not_read.push(format!("{origin}: a Helm record without name or revision")),
            }
            return;
        }
        match Object::read(&node, origin, self.namespace.as_deref()) {
            Some(object) => {
                self.seen += 1;
                self.builder.add(object);
            }
            None => self.not_read.push(format!("{origin}: document {} is no Kubernetes object", origin.document)),
        }
    }

    /// The configurations read so far; those inside Helm's records come when they are unpacked.
    #[must_use]
    pub fn configs(&self) -> &[Arc<ConfigMap>] {
        self.builder.configs()
    }

    /// Groups what was read. Of several revisions of a release the deployed one counts before a change, and the pending
    /// one (else the newest) after it.
    ///
    /// # Errors
    /// Where one of Helm's records cannot be unpacked, or nothing was read at all.
    pub fn finish(mut self, source: &str) -> Result<(Snapshot, Vec<String>), InputError> {
        if self.seen == 0 {
            return Err(InputError::NoObjects { path: source.to_owned() });
        }
        for record in choose(std::mem::take(&mut self.records), self.role) {
            let name = format!("{} revision {}", record.summary.name, record.summary.revision);
            let damaged = |reason: String| InputError::Record {
                path: record.origin.source.to_string(),
                document: record.origin.document,
                line: record.origin.line,
                object: format!("Helm release {name}"),
                reason,
            };
            let mut revision = decode(&record.object.to_json()).map_err(|error| damaged(error.to_string()))?;
            revision.namespace =
                revision.namespace.or_else(|| record.summary.namespace.clone()).or_else(|| self.namespace.clone());
            if revision.status.is_empty() {
                revision.status.clone_from(&record.summary.status);
            }
            revision.lay_into(&mut self.builder).map_err(|error| damaged(error.to_string()))?;
        }
        Ok((self.builder.build(), self.not_read))
    }
}

fn take<'a>(node: Tree<'a>, wanted: &str) -> Option<Tree<'a>> {
    match node.kind {
        crate::manifest::node::Kind::Mapping(entries) => {
            entries.into_iter().find(|(key, _)| &**key == wanted).map(|(_, value)| value)
        }
        _ => None,
    }
}

fn into_items(node: Tree<'_>) -> Vec<Tree<'_>> {
    match node.kind {
        crate::manifest::node::Kind::Sequence(items) => items,
        _ => Vec::new(),
    }
}

/// One record of each release.
fn choose(mut records: Vec<Record>, role: Role) -> Vec<Record> {
    let rank = |record: &Record| {
        let status = record.summary.status.as_str();
        let preferred = match role {
            Role::Before => status == "deployed",
            Role::After => status.starts_with("pending-"),
        };
        (preferred, record.summary.revision)
    };
    records.sort_by_key(|record| std::cmp::Reverse(rank(record)));
    let mut chosen: Vec<Record> = Vec::new();
    for record in records {
        let known = chosen
            .iter()
            .any(|other| other.summary.name == record.summary.name && other.summary.namespace == record.summary.namespace);
        if !known {
            chosen.push(record);
        }
    }
    chosen
}
