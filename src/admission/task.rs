//! Which gate a review belongs to, and what it holds. Whatever is of no interest leaves here.

use crate::manifest::{Object, Origin, Tree, View, tape::At};

use super::{
    documents_gate::DocumentTask,
    release_gate::{RecordError, ReleaseTask},
    review::{Operation, Response, Review},
    ruling::Ruling,
    scene::Scene,
    workload_gate::WorkloadTask,
};

/// Where everything of a review was read, as evidence names it.
const SOURCE: &str = "admission";

/// One of the doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// Helm's release records.
    Release,
    /// Single objects of Milvus.
    Workload,
    /// The guard's own documents.
    Documents,
    /// The version label.
    Mutate,
}

impl Gate {
    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Workload => "workload",
            Self::Documents => "documents",
            Self::Mutate => "mutate",
        }
    }
}

/// What is left to judge.
#[derive(Debug)]
pub enum Task<'a> {
    /// Nothing: the review is of no interest, or answered already.
    Done(Gate, Box<Ruling>),
    /// A release of Helm.
    Release(Box<ReleaseTask>),
    /// A single object.
    Workload(Box<WorkloadTask<'a>>),
    /// A document of the guard.
    Documents(Box<DocumentTask>),
}

impl<'a> Task<'a> {
    /// Reads a review as far as its gate needs.
    #[must_use]
    pub fn of(review: &Review<'a>) -> Self {
        let nothing = |gate| Self::Done(gate, Box::new(Ruling::pass()));
        let resource = (&*review.resource.group, &*review.resource.resource);
        match resource {
            ("guard.milvus.io", _) => {
                DocumentTask::of(review).map_or_else(|| nothing(Gate::Documents), |task| Self::Documents(Box::new(task)))
            }
            ("", "secrets" | "configmaps") if review.operation == Operation::Create && ReleaseTask::is_record(review) => {
                match ReleaseTask::of(review) {
                    Ok(Some(task)) => Self::Release(Box::new(task)),
                    Ok(None) => nothing(Gate::Release),
                    Err(error @ RecordError::Disagrees { .. }) => {
                        Self::Done(Gate::Release, Box::new(Ruling::of(Response::deny(format!("milvus-guard: {error}.")))))
                    }
                    // A payload that cannot be read says nothing about Milvus; the workload gate judges its objects.
                    Err(RecordError::Unreadable(reason)) => {
                        let text = format!("milvus-guard could not read this Helm release, so nobody judged it: {reason}");
                        Self::Done(Gate::Release, Box::new(Ruling::of(Response::warn(text))))
                    }
                }
            }
            ("", "secrets" | "configmaps" | "persistentvolumeclaims" | "pods" | "replicationcontrollers")
            | ("apps" | "batch", _) => match WorkloadTask::of(review) {
                Ok(Some(task)) => Self::Workload(Box::new(task)),
                Ok(None) => nothing(Gate::Workload),
                Err(reason) => Self::Done(Gate::Workload, Box::new(Ruling::of(Response::deny(reason)))),
            },
            // Custom kinds with a pod template, such as InstanceSet or Rollout.
            (group, _) if group.contains('.') => match WorkloadTask::of(review) {
                Ok(Some(task)) => Self::Workload(Box::new(task)),
                _ => nothing(Gate::Workload),
            },
            _ => nothing(Gate::Workload),
        }
    }

    /// The gate.
    #[must_use]
    pub const fn gate(&self) -> Gate {
        match self {
            Self::Done(gate, _) => *gate,
            Self::Release(_) => Gate::Release,
            Self::Workload(_) => Gate::Workload,
            Self::Documents(_) => Gate::Documents,
        }
    }

    /// The namespace whose scene is needed; nothing where none is.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Done(..) => None,
            Self::Release(task) => Some(&task.namespace),
            Self::Workload(task) => Some(&task.namespace),
            Self::Documents(_) => Some(""),
        }
    }

    /// The ruling, with what is known.
    #[must_use]
    pub fn judge(&self, scene: &Scene<'_>) -> Ruling {
        match self {
            Self::Done(_, ruling) => Ruling::clone(ruling),
            Self::Release(task) => task.judge(scene),
            Self::Workload(task) => task.judge(scene),
            Self::Documents(task) => task.judge(scene),
        }
    }
}

/// Reads an object of a review. Where the API server has not made up a name yet, the prefix stands for it.
pub(super) fn object<'a>(raw: &'a str, namespace: &str) -> Result<(Tree<'a>, Option<Object>), String> {
    let mut node: Tree<'_> = serde_json::from_str(raw)
        .map_err(|error| format!("milvus-guard cannot read the object (line {}, column {})", error.line(), error.column()))?;
    name_it(&mut node);
    let object = read(&node, namespace);
    Ok((node, object))
}

/// The same from a review's tape; nothing where it has to be read from its text: it has no name yet, or is no object.
pub(super) fn object_at(at: At<'_, '_>, namespace: &str) -> Option<Object> {
    at.text_at(&["metadata", "name"]).filter(|name| !name.is_empty())?;
    read(at, namespace)
}

fn read<'t>(object: impl View<'t>, namespace: &str) -> Option<Object> {
    let origin = Origin { source: SOURCE.into(), document: 0, line: 0 };
    Object::read(object, &origin, Some(namespace).filter(|namespace| !namespace.is_empty()))
}

fn name_it(node: &mut Tree<'_>) {
    use crate::manifest::node::Kind;
    let unnamed = node.text_at(&["metadata", "name"]).is_none_or(str::is_empty);
    if !unnamed {
        return;
    }
    let prefix = node.text_at(&["metadata", "generateName"]).unwrap_or("unnamed").to_owned();
    let Kind::Mapping(entries) = &mut node.kind else { return };
    let Some((_, metadata)) = entries.iter_mut().find(|(key, _)| &**key == "metadata") else { return };
    if let Kind::Mapping(fields) = &mut metadata.kind {
        fields.retain(|(key, _)| &**key != "name");
        fields.push(("name".into(), Tree::string(&prefix)));
    }
}
