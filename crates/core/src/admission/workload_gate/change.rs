//! What a request changes: the object before and after, read no further than needed. Nothing is
//! judged here.

use serde::Deserialize;

use crate::{
    admission::{
        object::{ObjectError, object, object_at},
        partial_object::PartialObject,
        review::{Operation, Raw, Review},
    },
    manifest::{
        Object, Tree,
        object::{ConfigMap, Meta, NoText, Workload},
    },
    milvus::{
        dependency::{self, may_be_ours},
        identify,
    },
};

#[derive(Debug)]
pub(super) enum Change<'a> {
    Put {
        new: Object,
        old: Option<Old<'a>>,
    },
    Scale {
        kind: &'static str,
        name: String,
        replicas: i64,
    },
    Delete(Object),
}

/// An object before it changes. It is read as a whole only where memory does not know it.
#[derive(Debug)]
pub(super) struct Old<'a> {
    text: &'a str,
    pub(super) head: Option<PartialObject<'a>>,
}

impl Old<'_> {
    pub(super) fn read(&self, namespace: &str) -> Result<Option<Object>, ObjectError> {
        object(self.text, namespace).map(|(_, object)| object)
    }
}

pub(super) fn change<'a>(review: &Review<'a>) -> Result<Option<Change<'a>>, ObjectError> {
    let kind = match &*review.resource.resource {
        "statefulsets" => "StatefulSet",
        "replicasets" => "ReplicaSet",
        "replicationcontrollers" => "ReplicationController",
        _ => "Deployment",
    };
    match (&*review.sub_resource, review.operation) {
        ("scale", Operation::Update) => scale(review, kind),
        ("", Operation::Create | Operation::Update) => put(review),
        ("", Operation::Delete) => delete(review),
        _ => Ok(None),
    }
}

/// The object before a request that gives it a new owner, if its loss would be a loss of data.
pub(super) fn adopted(review: &Review<'_>) -> Result<Option<Object>, ObjectError> {
    let (Some(new), Some(old)) = (review.object.map(Raw::get), review.old_object.map(Raw::get))
    else {
        return Ok(None);
    };
    if review.operation != Operation::Update
        || !review.sub_resource.is_empty()
        || !new.contains("ownerReferences")
    {
        return Ok(None);
    }
    let owned = |text: &str| {
        serde_json::from_str::<Owned>(text)
            .map(Owned::uids)
            .unwrap_or_default()
    };
    let before = owned(old);
    if owned(new).iter().all(|uid| before.contains(uid)) {
        return Ok(None);
    }
    Ok(object(old, &review.namespace)?
        .1
        .filter(|object| match object {
            Object::Workload(workload) => is_ours(workload),
            Object::Claim(_) => true,
            _ => false,
        }))
}

/// The owners of an object.
#[derive(Deserialize)]
struct Owned {
    #[serde(default)]
    metadata: OwnedMetadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnedMetadata {
    #[serde(default)]
    owner_references: Vec<OwnerReference>,
}

#[derive(Deserialize)]
struct OwnerReference {
    #[serde(default)]
    uid: String,
}

impl Owned {
    fn uids(self) -> Vec<String> {
        self.metadata
            .owner_references
            .into_iter()
            .map(|owner| owner.uid)
            .collect()
    }
}

fn scale<'a>(review: &Review<'a>, kind: &'static str) -> Result<Option<Change<'a>>, ObjectError> {
    let Some(raw) = review.object else {
        return Ok(None);
    };
    let node: Tree<'_> = serde_json::from_str(raw.get()).map_err(|_| ObjectError::Scale)?;
    let replicas = node
        .at(&["spec", "replicas"])
        .and_then(Tree::as_i64)
        .unwrap_or(0);
    let name = if review.name.is_empty() {
        node.text_at(&["metadata", "name"]).unwrap_or_default()
    } else {
        &review.name
    };
    Ok(Some(Change::Scale {
        kind,
        name: name.to_owned(),
        replicas,
    }))
}

fn put<'a>(review: &Review<'a>) -> Result<Option<Change<'a>>, ObjectError> {
    let Some(new) = review.object.map(Raw::get) else {
        return Ok(None);
    };
    // `null` is how the API server writes an absent object.
    let old = review.old_object.map(Raw::get).filter(|old| *old != "null");
    let mut old = old.map(|text| Old { text, head: None });
    if review.resource.group == "apps" {
        let head = review
            .object_at()
            .map_or_else(|| PartialObject::of(new), PartialObject::at);
        if let Some(old) = &mut old {
            old.head = review
                .old_object_at()
                .map_or_else(|| PartialObject::of(old.text), PartialObject::at);
        }
        let old_head = old.as_ref().and_then(|old| old.head.as_ref());
        // Rules look at nothing else of a workload, and most updates are of metadata: they cost a
        // scan and no tree.
        if let (Some(new), Some(old)) = (&head, old_head)
            && new.has_same_rest(old)
        {
            return Ok(None);
        }
        let ours = |head: Option<&PartialObject<'_>>, text: &str| {
            head.map_or_else(|| may_be_ours(text), PartialObject::may_be_ours)
        };
        if !ours(head.as_ref(), new)
            && old
                .as_ref()
                .is_none_or(|old| !ours(old.head.as_ref(), old.text))
        {
            return Ok(None);
        }
    }
    let new = match review
        .object_at()
        .and_then(|at| object_at(at, &review.namespace))
    {
        Some(new) => Some(new),
        None => object(new, &review.namespace)?.1,
    };
    Ok(new.map(|new| Change::Put { new, old }))
}

fn delete<'a>(review: &Review<'a>) -> Result<Option<Change<'a>>, ObjectError> {
    let Some(raw) = review.old_object.or(review.object) else {
        return Ok(None);
    };
    let Some(old) = object(raw.get(), &review.namespace)?.1 else {
        return Ok(None);
    };
    let matters = match &old {
        Object::Workload(workload) => is_ours(workload),
        Object::Claim(_) => true,
        _ => false,
    };
    Ok(matters.then_some(Change::Delete(old)))
}

fn is_ours(workload: &Workload) -> bool {
    identify::component(workload).is_some() || dependency::family(workload).is_some()
}

/// Whether anything changes that a rule could look at.
pub(super) fn matters(new: &Object, old: Option<&Object>) -> bool {
    match (new, old) {
        (Object::Workload(new), Some(Object::Workload(old))) => {
            !new.has_same_spec(old) && (is_ours(new) || is_ours(old))
        }
        (Object::Workload(new), _) => is_ours(new),
        (Object::Config(new), Some(Object::Config(old))) => files(new) != files(old),
        (Object::Config(_), _) => true,
        // Milvus' configuration taken out of its map.
        (Object::Other(Meta { object, .. }), Some(Object::Config(_))) => {
            matches!(object.kind.as_str(), "ConfigMap" | "Secret")
        }
        (Object::Claim(new), Some(Object::Claim(old))) => !new.has_same_spec(old),
        _ => false,
    }
}

fn files(config: &ConfigMap) -> Vec<(&str, Result<&str, NoText>)> {
    config
        .files
        .iter()
        .map(|file| {
            (
                file.key.as_str(),
                file.text.as_deref().map_err(|reason| *reason),
            )
        })
        .collect()
}
