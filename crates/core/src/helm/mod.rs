//! What Helm stores about a release: [`codec`] takes it out of a Secret or `ConfigMap`,
//! [`StoredRelease::lay_into`] reads the manifest inside.

use std::sync::Arc;

use crate::{
    manifest::{Budget, Exceeded, Object, Origin, ParseError, Tree, documents_within},
    milvus::{release::HelmRevision, snapshot::Builder},
};

pub mod codec;
mod few;
pub mod order_hooks;
mod prefilter;
mod values;

pub use codec::{CodecError, StoredRelease, decode};

/// The object of a document, or the objects of its list (`List`, `DeploymentList`): Helm applies
/// each of them, however deep lists nest. The reader of YAML bounds the depth.
fn flatten(
    node: &Tree<'_>,
    budget: &Budget<'_>,
    take: &mut dyn FnMut(&Tree<'_>),
) -> Result<(), Exceeded> {
    let is_list = node
        .text_at(&["kind"])
        .is_some_and(|kind| kind.ends_with("List"))
        && node.get("items").is_some();
    if !is_list {
        take(node);
        return Ok(());
    }
    let items = node.items_at(&["items"]);
    budget.objects(items.len())?;
    items
        .into_iter()
        .try_for_each(|item| flatten(item, budget, take))
}

impl StoredRelease {
    /// The name under which a report shows this revision.
    #[must_use]
    pub fn source(&self) -> String {
        format!("release:{}@{}", self.name, self.revision)
    }

    /// The objects of the manifest, then the workloads among the hooks, and the `ConfigMap`s and
    /// Secrets, which workloads may read (a hook's other objects come and go with it).
    /// `namespace` is where objects live that name none.
    ///
    /// Items are errors where the stored manifest is not valid YAML, or holds more than the budget
    /// allows.
    pub fn objects<'a>(
        &'a self,
        namespace: Option<&'a str>,
        budget: &'a Budget<'a>,
    ) -> impl Iterator<Item = Result<Object, ParseError>> + 'a {
        let source: Arc<str> = self.source().into();
        let manifest = std::iter::once((self.manifest.as_str(), false));
        let texts = manifest.chain(self.hooks.iter().map(|hook| (hook.as_str(), true)));
        let all = || std::iter::once(&self.manifest).chain(&self.hooks);
        let is_named_elsewhere = move |own: &str, name: &str| {
            all()
                .filter(|text| text.as_str() != own)
                .any(|text| text.contains(name))
        };
        let length: usize = all().map(String::len).sum();
        let parts = texts.flat_map(move |(text, is_hook)| {
            let elsewhere = length.saturating_sub(text.len());
            let (parts, exceeded) = match prefilter::parts(
                text,
                &|name| is_named_elsewhere(text, name),
                elsewhere,
                budget,
            ) {
                Ok(parts) => (parts, None),
                Err(exceeded) => (Vec::new(), Some(ParseError::too_much(exceeded))),
            };
            let parts = parts.into_iter().map(move |part| Ok((part, is_hook)));
            parts.chain(exceeded.map(Err))
        });
        let documents = parts.flat_map(move |part| {
            let (part, is_hook, exceeded) = match part {
                Ok((part, is_hook)) => (part, is_hook, None),
                Err(exceeded) => (prefilter::Part::default(), false, Some(exceeded)),
            };
            let documents =
                documents_within(part.text, budget).map(move |document| (document, part, is_hook));
            documents.chain(exceeded.map(|exceeded| (Err(exceeded), part, false)))
        });
        documents.flat_map(move |(document, part, is_hook)| match document {
            Ok(document) => {
                let origin = Origin {
                    source: Arc::clone(&source),
                    document: part.index - 1 + document.index,
                    line: 0,
                };
                let mut objects = Vec::new();
                let all = flatten(&document.root, budget, &mut |item| {
                    let object = Object::read(item, &origin, namespace);
                    objects.extend(object.filter(|object| {
                        !is_hook || matches!(object, Object::Workload(_) | Object::Config(_))
                    }));
                });
                let exceeded = all.err().map(ParseError::too_much);
                objects
                    .into_iter()
                    .map(Ok)
                    .chain(exceeded.map(Err))
                    .collect::<Vec<_>>()
            }
            Err(error) => {
                let (document, line) = (part.index - 1 + error.document, part.lines + error.line);
                vec![Err(ParseError {
                    document,
                    line,
                    ..error
                })]
            }
        })
    }

    /// Lays the manifest's objects and what else Helm knows into a snapshot.
    ///
    /// # Errors
    /// Where the stored manifest is not valid YAML.
    pub fn lay_into(&self, builder: &mut Builder) -> Result<(), ParseError> {
        let budget = Budget::default();
        for object in self.objects(self.namespace.as_deref(), &budget) {
            builder.add(object?);
        }
        self.describe_to(builder);
        Ok(())
    }

    /// Adds to a snapshot what Helm's record has besides the objects.
    pub fn describe_to(&self, builder: &mut Builder) {
        builder.add_helm(&self.name, self.namespace.as_deref(), self.kept());
        if let Some(chart) = &self.chart {
            builder.add_chart(&self.name, self.namespace.as_deref(), chart);
        }
    }

    /// What rules ask for in addition to the manifest.
    #[must_use]
    pub fn kept(&self) -> HelmRevision {
        HelmRevision {
            revision: self.revision,
            status: self.status.clone(),
            user_values: self.user_values.clone(),
            unread_values: self.unread_values.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Tree;

    fn stored(manifest: &str) -> StoredRelease {
        StoredRelease {
            name: "my-release".into(),
            namespace: Some("milvus".into()),
            revision: 3,
            status: "deployed".into(),
            manifest: manifest.into(),
            hooks: Vec::new(),
            user_values: Tree::string("x"),
            chart: None,
            unread_values: None,
        }
    }

    #[test]
    fn a_manifest_becomes_a_release() {
        let manifest = "---\n# Source: milvus/templates/standalone-deployment.yaml\napiVersion: apps/v1\nkind: Deployment\n\
            metadata: {name: my-release-milvus-standalone, labels: {app.kubernetes.io/instance: my-release}}\n\
            spec: {template: {spec: {containers: [{name: standalone, image: 'milvusdb/milvus:v2.3.1', args: [milvus, run, standalone]}]}}}\n";
        let mut builder = Builder::default();
        stored(manifest).lay_into(&mut builder).unwrap();
        let snapshot = builder.build();
        let release = &snapshot.releases[0];
        assert_eq!(
            (release.name.as_str(), release.namespace.as_deref()),
            ("my-release", Some("milvus"))
        );
        assert_eq!(release.helm.as_ref().unwrap().revision, 3);
        assert_eq!(
            &*release.components[0].workload.meta.origin.source,
            "release:my-release@3"
        );
    }

    #[test]
    fn a_broken_manifest_is_an_error() {
        assert!(stored("a: {b").lay_into(&mut Builder::default()).is_err());
    }
}
