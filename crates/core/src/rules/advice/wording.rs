//! Lists and addresses in sentences. Credentials never get into one.

use std::borrow::Cow;

use crate::milvus::config::Setting;

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list_of(parts: impl IntoIterator<Item = String>) -> String {
    let parts: Vec<String> = parts.into_iter().collect();
    match parts.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

pub(super) fn spaced(list: &str) -> String {
    list.split(',')
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A value without credentials: what stands before `@` in an address is dropped.
pub(super) fn clean(value: &str) -> Cow<'_, str> {
    if !value.contains('@') {
        return Cow::Borrowed(value);
    }
    let strip = |address: &str| match address.rsplit_once('@') {
        Some((before, host)) => before.split_once("://").map_or_else(
            || host.to_owned(),
            |(scheme, _)| format!("{scheme}://{host}"),
        ),
        None => address.to_owned(),
    };
    Cow::Owned(value.split(',').map(strip).collect::<Vec<_>>().join(","))
}

/// The value of a setting that may be in a command; that of a Secret may not.
pub(in crate::rules) fn public(setting: Setting<'_>) -> &str {
    if setting.is_secret { "" } else { setting.value }
}

/// Host and port of an address, without its scheme.
pub(super) fn host_and_port(address: &str) -> (&str, Option<&str>) {
    let address = address.trim();
    let address = address.split_once("://").map_or(address, |(_, rest)| rest);
    let address = address.split('/').next().unwrap_or_default();
    match address.rsplit_once(':') {
        Some((host, port))
            if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            (host, Some(port))
        }
        _ => (address, None),
    }
}
