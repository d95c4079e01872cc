//! Which gate a review belongs to, and what it holds. Reviews that no gate needs end here.

use crate::manifest::{Budget, Exceeded, Object, Origin, Tree, View, budget::MAX_VALUES, tape::At};

use super::{
    documents_gate::DocumentTask,
    release_gate::{RecordError, ReleaseTask},
    review::{Operation, Response, Review},
    review_context::ReviewContext,
    ruling::Ruling,
    workload_gate::WorkloadTask,
};

/// Where everything of a review was read, as evidence names it.
const SOURCE: &str = "admission";

/// Which admission gate handles a review.
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
    /// It cannot be judged, because.
    Unjudged(Gate, String),
    /// It is larger than the budget for small inputs: read it again with the whole one.
    NeedsRoom(Gate),
}

impl<'a> Task<'a> {
    /// Reads a review as far as its gate needs.
    #[must_use]
    pub fn of(review: &Review<'a>) -> Self {
        Self::within(review, &Budget::default())
    }

    /// The same, where no more is built than the budget allows.
    #[must_use]
    pub fn within(review: &Review<'a>, budget: &Budget<'_>) -> Self {
        let nothing = |gate| Self::Done(gate, Box::new(Ruling::pass()));
        let resource = (&*review.resource.group, &*review.resource.resource);
        match resource {
            ("guard.milvus.io", _) => match DocumentTask::of(review) {
                Ok(Some(task)) => Self::Documents(Box::new(task)),
                Ok(None) => nothing(Gate::Documents),
                Err(reason) => Self::Unjudged(Gate::Documents, reason),
            },
            ("", "secrets" | "configmaps")
                if review.operation == Operation::Create && ReleaseTask::is_record(review) =>
            {
                match ReleaseTask::of(review, budget) {
                    Ok(Some(task)) => Self::Release(Box::new(task)),
                    Ok(None) => nothing(Gate::Release),
                    Err(RecordError::NeedsRoom) => Self::NeedsRoom(Gate::Release),
                    Err(error @ RecordError::Disagrees { .. }) => Self::Done(
                        Gate::Release,
                        Box::new(Ruling::of(Response::deny(format!(
                            "milvus-guard: {error}."
                        )))),
                    ),
                    Err(RecordError::Unreadable(reason)) => Self::Unjudged(
                        Gate::Release,
                        format!("milvus-guard could not read this Helm release: {reason}"),
                    ),
                }
            }
            (
                "",
                "secrets"
                | "configmaps"
                | "persistentvolumeclaims"
                | "pods"
                | "replicationcontrollers",
            )
            | ("apps" | "batch", _) => match WorkloadTask::of(review) {
                Ok(Some(task)) => Self::Workload(Box::new(task)),
                Ok(None) => nothing(Gate::Workload),
                Err(reason) => Self::Unjudged(Gate::Workload, reason),
            },
            // Custom kinds with a pod template, such as InstanceSet or Rollout.
            (group, _) if group.contains('.') => match WorkloadTask::of(review) {
                Ok(Some(task)) => Self::Workload(Box::new(task)),
                Ok(None) => nothing(Gate::Workload),
                Err(reason) => Self::Unjudged(Gate::Workload, reason),
            },
            _ => nothing(Gate::Workload),
        }
    }

    /// The gate.
    #[must_use]
    pub const fn gate(&self) -> Gate {
        match self {
            Self::Done(gate, _) | Self::Unjudged(gate, _) | Self::NeedsRoom(gate) => *gate,
            Self::Release(_) => Gate::Release,
            Self::Workload(_) => Gate::Workload,
            Self::Documents(_) => Gate::Documents,
        }
    }

    /// The namespace whose context is needed; `None` if none is.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Done(..) | Self::Unjudged(..) | Self::NeedsRoom(_) => None,
            Self::Release(task) => Some(&task.namespace),
            Self::Workload(task) => Some(&task.namespace),
            Self::Documents(_) => Some(""),
        }
    }

    /// The ruling, with what is known.
    #[must_use]
    pub fn judge(&self, context: &ReviewContext<'_>) -> Ruling {
        match self {
            Self::Done(_, ruling) => Ruling::clone(ruling),
            // Anyone who asks for a ruling all the same gets the safe one; the door knows its
            // failure policy.
            Self::Unjudged(_, reason) => Ruling::of(Response::deny(reason.as_str())),
            Self::NeedsRoom(_) => Ruling::of(Response::deny("it needs too much memory")),
            Self::Release(task) => task.judge(context),
            Self::Workload(task) => task.judge(context),
            Self::Documents(task) => task.judge(context),
        }
    }
}

/// Reads an object of a review. Where the API server has not made up a name yet, the prefix stands
/// for it.
pub(super) fn object<'a>(
    raw: &'a str,
    namespace: &str,
) -> Result<(Tree<'a>, Option<Object>), String> {
    let mut node: Tree<'_> = serde_json::from_str(raw).map_err(|error| unread(&error))?;
    name_it(&mut node);
    let object = read(&node, namespace);
    Ok((node, object))
}

/// Why an object is not a tree. Texts of the object have no place in it.
pub(super) fn unread(error: &serde_json::Error) -> String {
    // The API server takes no object that is not JSON, so a budget or the depth is exceeded.
    let exceeded = Exceeded::Values(MAX_VALUES);
    if error.to_string().starts_with(&exceeded.to_string()) {
        return format!("milvus-guard cannot read the object: {exceeded}");
    }
    format!(
        "milvus-guard cannot read the object (line {}, column {})",
        error.line(),
        error.column()
    )
}

/// The same from a review's tape; `None` if it has to be read from its text: it has no name yet, or
/// is not an object.
pub(super) fn object_at(at: At<'_, '_>, namespace: &str) -> Option<Object> {
    at.text_at(&["metadata", "name"])
        .filter(|name| !name.is_empty())?;
    read(at, namespace)
}

fn read<'t>(object: impl View<'t>, namespace: &str) -> Option<Object> {
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

fn name_it(node: &mut Tree<'_>) {
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
