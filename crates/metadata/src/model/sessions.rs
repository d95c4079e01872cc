//! Sessions: keys with a lease by which components of Milvus show that they run.

use serde::Deserialize;

use super::keys::{ROLES, SESSIONS};

/// Maximum bytes of a session.
const MAX_BYTES: usize = 16 * 1024;

/// The owner of a session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A component of Milvus, by its role (one of [`ROLES`]).
    Component(&'static str),
    /// The official migration tool.
    MigrationTool,
    /// Anything else; what follows `session/`.
    Other(String),
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Key, relative to the root.
    pub key: String,
    /// Its owner.
    pub holder: Holder,
    /// Number of the server.
    pub server_id: Option<i64>,
    /// Address of the component; the official tool writes the time of its start.
    pub address: Option<String>,
    /// Name of its host, which is the name of its pod (2.2 and later).
    pub host: Option<String>,
    /// Version of the component, as it is written (2.2.10 and later).
    pub version: Option<String>,
    /// The lease in the value of the session.
    pub lease_id: Option<i64>,
    /// Seconds until its lease expires, if etcd was asked.
    pub lease_left: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Stored {
    #[serde(rename = "ServerID")]
    server_id: Option<i64>,
    #[serde(rename = "Address")]
    address: Option<String>,
    #[serde(rename = "HostName")]
    host: Option<String>,
    #[serde(rename = "Version")]
    version: Option<String>,
    #[serde(rename = "LeaseID")]
    lease_id: Option<i64>,
}

impl Session {
    /// Reads a session. The counter `session/id` and other keys are not sessions. A value that
    /// cannot be read still counts as a session, because its key shows that something runs.
    #[must_use]
    pub fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let name = key
            .strip_prefix(SESSIONS.as_bytes())
            .filter(|name| *name != b"id" && !name.is_empty())?;
        let name = String::from_utf8_lossy(name).into_owned();
        let is = |role: &str| {
            name.strip_prefix(role)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let holder = if let Some(role) = ROLES.into_iter().find(|role| is(role)) {
            Holder::Component(role)
        } else if is("migration") {
            Holder::MigrationTool
        } else {
            Holder::Other(name.clone())
        };
        let stored: Option<Stored> = (value.len() <= MAX_BYTES)
            .then(|| serde_json::from_slice(value).ok())
            .flatten();
        let suffix = name.rsplit_once('-').and_then(|(_, id)| id.parse().ok());
        let stored = stored.unwrap_or_default();
        Some(Self {
            key: format!("{SESSIONS}{name}"),
            holder,
            server_id: stored.server_id.or(suffix),
            address: stored.address,
            host: stored.host.filter(|host| !host.is_empty()),
            version: stored.version.filter(|version| !version.is_empty()),
            lease_id: stored.lease_id.filter(|lease| *lease != 0),
            lease_left: None,
        })
    }
}

/// Relative key prefixes that must be empty while metadata is written: one for each role. They have
/// no slash at the end, because the keys have none.
#[must_use]
pub fn prefixes() -> [String; 8] {
    ROLES.map(|role| format!("{SESSIONS}{role}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("session/rootcoord", Some(Holder::Component("rootcoord")))]
    #[case("session/querynode-7", Some(Holder::Component("querynode")))]
    #[case("session/indexnode-9", Some(Holder::Component("indexnode")))]
    #[case("session/migration", Some(Holder::MigrationTool))]
    #[case("session/attu", Some(Holder::Other("attu".into())))]
    #[case("session/id", None)]
    #[case("session/", None)]
    #[case("sessions/proxy", None)]
    fn the_owner_of_a_session_is_read_from_its_key(
        #[case] key: &str,
        #[case] expected: Option<Holder>,
    ) {
        assert_eq!(
            Session::read(key.as_bytes(), b"").map(|session| session.holder),
            expected
        );
    }

    #[test]
    fn the_server_is_read_from_the_value() {
        let value =
            br#"{"ServerID":12,"ServerName":"querynode","Address":"10.0.0.7:21123","Exclusive":false,"Version":"2.3.5","LeaseID":77,"HostName":"querynode-0"}"#;
        let session = Session::read(b"session/querynode-12", value).unwrap();
        assert_eq!(session.host.as_deref(), Some("querynode-0"));
        assert_eq!(
            (session.version.as_deref(), session.lease_id),
            (Some("2.3.5"), Some(77))
        );
        assert_eq!(
            (session.server_id, session.address.as_deref()),
            (Some(12), Some("10.0.0.7:21123"))
        );
        let session = Session::read(b"session/proxy-3", b"\xff").unwrap();
        assert_eq!(
            (session.server_id, session.address),
            (Some(3), None),
            "a session with an invalid value still counts"
        );
    }
}
