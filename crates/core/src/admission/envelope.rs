//! An admission review from a tape: what `serde` would read of the same text, or nothing.

use std::borrow::Cow;

use crate::manifest::{
    DocumentValue,
    tape::{Tape, ValueRef},
};

use super::review::{Envelope, Operation, Options, Raw, Resource, Review, User};

/// The members of a mapping by name, each once. `None` if one stands twice, which `serde` refuses,
/// or where this is not a mapping.
pub(super) fn members<'t, 'a, const N: usize>(
    at: ValueRef<'t, 'a>,
    names: [&str; N],
) -> Option<[Option<ValueRef<'t, 'a>>; N]> {
    let mut found = [None; N];
    if !DocumentValue::is_mapping(at) {
        return None;
    }
    for (key, value) in at.pairs() {
        let key = key.string()?;
        if let Some(place) = names
            .iter()
            .position(|name| *name == key)
            .and_then(|position| found.get_mut(position))
            && place.replace(value).is_some()
        {
            return None;
        }
    }
    Some(found)
}

/// A text, empty where it is not there. `None` if something else is there.
pub(super) fn text<'a>(at: Option<ValueRef<'_, 'a>>) -> Option<Cow<'a, str>> {
    at.map_or(Some(Cow::Borrowed("")), ValueRef::string)
}

impl<'a> Envelope<'a> {
    /// Reads the same as `serde` does; `None` if a field is not as an API server writes it.
    pub(super) fn of(tape: Tape<'a>) -> Option<Self> {
        let [api_version, request] = members(tape.root(), ["apiVersion", "request"])?;
        let api_version = text(api_version)?;
        let mut request = Review::of(request?)?;
        request.tape = Some(tape);
        Some(Self {
            api_version,
            request: Some(request),
        })
    }
}

impl<'a> Review<'a> {
    /// Reads a request, its tape left out.
    fn of(request: ValueRef<'_, 'a>) -> Option<Self> {
        const NAMES: [&str; 11] = [
            "uid",
            "resource",
            "subResource",
            "name",
            "namespace",
            "operation",
            "userInfo",
            "object",
            "oldObject",
            "dryRun",
            "options",
        ];
        let [
            uid,
            resource,
            sub_resource,
            name,
            namespace,
            operation,
            user,
            object,
            old_object,
            dry_run,
            options,
        ] = members(request, NAMES)?;
        let raw = |at: Option<ValueRef<'_, 'a>>| match at {
            Some(at) if !at.is_null() => at.written().map(|text| {
                Some(Raw {
                    text,
                    position: at.position(),
                })
            }),
            _ => Some(None),
        };
        let resource = match resource {
            Some(resource) => {
                let [group, resource] = members(resource, ["group", "resource"])?;
                Resource {
                    group: text(group)?,
                    resource: text(resource)?,
                }
            }
            None => Resource::default(),
        };
        let user_info = match user {
            Some(user) => {
                let [username] = members(user, ["username"])?;
                User {
                    username: text(username)?,
                }
            }
            None => User::default(),
        };
        let options = match options {
            Some(options) if !options.is_null() => {
                let [manager] = members(options, ["fieldManager"])?;
                let manager = manager.filter(|manager| !manager.is_null());
                Some(Options {
                    field_manager: manager
                        .map(|manager| manager.string().ok_or(()))
                        .transpose()
                        .ok()?,
                })
            }
            _ => None,
        };
        let dry_run = match dry_run {
            Some(flag) if !flag.is_null() => Some(match flag.plain()? {
                "true" => true,
                "false" => false,
                _ => return None,
            }),
            _ => None,
        };
        let operation = match &*operation?.string()? {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            "DELETE" => Operation::Delete,
            "CONNECT" => Operation::Connect,
            _ => return None,
        };
        Some(Self {
            uid: text(uid)?,
            resource,
            sub_resource: text(sub_resource)?,
            name: text(name)?,
            namespace: text(namespace)?,
            operation,
            user_info,
            object: raw(object)?,
            old_object: raw(old_object)?,
            dry_run,
            options,
            tape: None,
        })
    }
}
