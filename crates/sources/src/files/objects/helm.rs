//! Releases from Helm: its output for people, its records, and releases printed as JSON or YAML.

use std::collections::HashSet;

use milvus_guard_core::{
    helm::{StoredRelease, codec, decode},
    manifest::{Budget, Node, Object, Origin, ParseError, Tree, documents, object::ObjectRef},
};

use crate::files::{InputError, Role, helm_output::HelmOutput, record::summary};

use super::{
    Collector, Form,
    record::{Record, choose},
};

impl Collector {
    /// Reads Helm's output for people: the manifest, the workloads among the hooks, and the values
    /// if printed.
    pub(super) fn add_output(
        &mut self,
        output: &HelmOutput<'_>,
        source: &str,
    ) -> Result<(), InputError> {
        let broken = |error| InputError::Parse {
            path: source.to_owned(),
            error,
        };
        let inherited = self.namespace.clone();
        self.namespace = self
            .namespace
            .take()
            .or_else(|| output.namespace.map(str::to_owned));
        if let Some(manifest) = &output.manifest {
            self.add_documents(&manifest.padded(), source)
                .map_err(broken)?;
        }
        if let Some(hooks) = &output.hooks {
            // Other objects of a hook are temporary, like the hook.
            let before = self.content.objects.len();
            self.add_documents(&hooks.padded(), source)
                .map_err(broken)?;
            let hooks = self.content.objects.split_off(before);
            self.content.objects.extend(
                hooks
                    .into_iter()
                    .filter(|object| matches!(object, Object::Workload(_))),
            );
        }
        self.namespace = inherited;
        self.seen += 1;
        self.content.form = Form::Whole;
        // Without --debug Helm prints no values. That does not mean that none are set.
        if let Some(values) = &output.user_values {
            let document = documents(values.text).next().transpose();
            match document {
                Ok(document) => self.content.helm.push(StoredRelease {
                    name: output.name.to_owned(),
                    namespace: output.namespace.map(str::to_owned),
                    revision: output.revision,
                    status: output.status.to_owned(),
                    manifest: String::new(),
                    hooks: Vec::new(),
                    user_values: document.map_or_else(
                        || Node::from_json(&serde_json::Value::Null),
                        |document| document.root.into_owned(),
                    ),
                    chart: output
                        .chart
                        .map(|(name, version)| (name.to_owned(), version.to_owned())),
                    unread_values: None,
                }),
                Err(_) => self.remark(format!(
                    "{source}: the values that Helm printed are not YAML"
                )),
            }
        }
        Ok(())
    }

    pub(super) fn add_record(&mut self, node: Tree<'_>, origin: &Origin) {
        self.seen += 1;
        match summary(&node) {
            Some(summary) if !self.is_elsewhere(summary.namespace.as_deref()) => {
                self.records.push(Record {
                    summary,
                    object: node.into_owned(),
                    origin: origin.clone(),
                });
            }
            Some(summary) => self.leave_out(summary.namespace.as_deref()),
            None => self.remark(format!("{origin}: a Helm record without name or revision")),
        }
    }

    /// A release as Helm prints it with `-o json` or `-o yaml`.
    pub(super) fn add_release(&mut self, node: &Tree<'_>, origin: &Origin) {
        match codec::from_json(&node.to_json())
            .map_err(|error| error.to_string())
            .and_then(|release| {
                let namespace = release.namespace.clone();
                self.add_stored(release, namespace.as_deref())
                    .map_err(|error| error.to_string())
            }) {
            Ok(()) => self.seen += 1,
            Err(reason) => self.remark(format!(
                "{origin}: the release that Helm printed cannot be read: {reason}"
            )),
        }
    }

    /// The objects of a Helm release, and Helm's other data about it.
    pub(super) fn add_stored(
        &mut self,
        mut release: StoredRelease,
        namespace: Option<&str>,
    ) -> Result<(), ParseError> {
        let budget = Budget::default();
        let objects: Vec<Object> = release
            .objects(namespace, &budget)
            .collect::<Result<_, _>>()?;
        for object in objects {
            self.put(object);
        }
        release.namespace = namespace.map(str::to_owned);
        release.manifest = String::new();
        release.hooks = Vec::new();
        self.content.helm.push(release);
        self.content.form = Form::Whole;
        Ok(())
    }

    /// The objects of those of the records that count on this side of a change. An object that the
    /// input holds as well, as a cluster lists it, counts above that of the record. After a change a
    /// pending record counts above it.
    pub(super) fn add_recorded(&mut self) -> Result<(), InputError> {
        let objects = self.content.objects.iter();
        let listed: HashSet<ObjectRef> =
            objects.map(|object| object.meta().object.clone()).collect();
        for record in choose(std::mem::take(&mut self.records), self.role) {
            let is_wanted =
                self.role == Role::After && record.summary.status.starts_with("pending-");
            let before = self.content.objects.len();
            let name = format!(
                "{} revision {}",
                record.summary.name, record.summary.revision
            );
            let damaged = |reason: String| InputError::Record {
                path: record.origin.source.to_string(),
                document: record.origin.document,
                line: record.origin.line,
                object: format!("Helm release {name}"),
                reason,
            };
            let mut revision =
                decode(&record.object.to_json()).map_err(|error| damaged(error.to_string()))?;
            let namespace = revision
                .namespace
                .clone()
                .or_else(|| record.summary.namespace.clone())
                .or_else(|| self.namespace.clone());
            if revision.status.is_empty() {
                revision.status.clone_from(&record.summary.status);
            }
            self.add_stored(revision, namespace.as_deref())
                .map_err(|error| damaged(error.to_string()))?;
            if listed.is_empty() {
                continue;
            }
            let mut recorded = self.content.objects.split_off(before);
            if is_wanted {
                let replaced: HashSet<&ObjectRef> = recorded
                    .iter()
                    .map(|object| &object.meta().object)
                    .collect();
                self.content
                    .objects
                    .retain(|object| !replaced.contains(&object.meta().object));
            } else {
                recorded.retain(|object| !listed.contains(&object.meta().object));
            }
            self.content.objects.append(&mut recorded);
        }
        Ok(())
    }
}
