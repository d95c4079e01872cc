//! Which coordinator is active, according to the sessions in etcd. Kubernetes also calls a
//! coordinator ready that waits in standby for the session of a process that has ended (2.3 keeps
//! it for its whole lease, 60 s). Pure.

use std::collections::BTreeSet;

use milvus_guard_core::{
    error_text,
    milvus::{Component, Version},
};
use milvus_guard_metadata::model::sessions::Session;

/// A pod of the component that was updated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodName {
    /// Its name, which is also the name of its host.
    pub name: String,
    /// Its addresses.
    pub ips: Vec<String>,
}

/// The roles that a component holds in etcd, each under one key, and whether all must be held.
fn roles(component: Component, to: Version) -> (&'static [&'static str], bool) {
    match component {
        Component::RootCoord => (&["rootcoord"], true),
        Component::DataCoord => (&["datacoord"], true),
        Component::QueryCoord => (&["querycoord"], true),
        // From 2.3 on the data coordinator holds the role.
        Component::IndexCoord if (to.line().major, to.line().minor) < (2, 3) => {
            (&["indexcoord"], true)
        }
        Component::MixCoord | Component::Standalone => (
            &[
                "mixcoord",
                "rootcoord",
                "datacoord",
                "querycoord",
                "indexcoord",
            ],
            false,
        ),
        _ => (&[], false),
    }
}

/// Whether only one of several coordinators of a component is active.
#[must_use]
pub fn has_active(component: Component, to: Version) -> bool {
    !roles(component, to).0.is_empty()
}

/// Hosts of the active coordinators of a component, one for each role that is held.
#[must_use]
pub fn hosts(sessions: &[Session], component: Component, version: Version) -> Vec<String> {
    let (roles, _) = roles(component, version);
    let held = roles.iter().filter_map(|role| holder(sessions, role));
    held.filter_map(|session| session.host.clone()).collect()
}

fn holder<'s>(sessions: &'s [Session], role: &str) -> Option<&'s Session> {
    sessions
        .iter()
        .find(|session| session.key.strip_prefix("session/") == Some(role))
}

/// Why the active coordinator is not certainly one of these pods; `None` if it is, or if the
/// sessions do not show it.
#[must_use]
pub fn lacks(
    sessions: &[Session],
    component: Component,
    to: Version,
    pods: &[PodName],
) -> Option<String> {
    let (roles, all) = roles(component, to);
    let held: Vec<_> = roles
        .iter()
        .filter_map(|role| Some((*role, holder(sessions, role)?)))
        .collect();
    if all && held.len() < roles.len() || held.is_empty() && !roles.is_empty() {
        return Some(format!("no {component} is active in etcd"));
    }
    held.into_iter()
        .find(|(_, session)| !may_be_of(session, pods))
        .map(|(role, session)| {
            let at = session
                .host
                .as_deref()
                .or(session.address.as_deref())
                .unwrap_or("another host");
            format!(
                "the active {role} in etcd is still {}, which is none of the new pods",
                error_text::line(at)
            )
        })
}

/// The message if the version before still holds a role, according to its session.
#[must_use]
pub fn is_still_at(
    sessions: &[Session],
    component: Component,
    to: Version,
    from: Version,
) -> Option<String> {
    let (roles, _) = roles(component, to);
    let old = roles.iter().find(|role| {
        let version = holder(sessions, role).and_then(|session| session.version.as_deref());
        let version = version.and_then(|text| text.trim_start_matches('v').parse().ok());
        from != to && version == Some(from)
    })?;
    Some(format!(
        "the active {old} in etcd still says that it is {from}"
    ))
}

/// Whether a session can be of one of these pods, by its host or its address. True if it has
/// neither.
#[must_use]
pub fn may_be_of(session: &Session, pods: &[PodName]) -> bool {
    let ip = session
        .address
        .as_deref()
        .and_then(|address| address.rsplit_once(':'))
        .map(|(ip, _)| ip.trim_matches(['[', ']']));
    let has_ip = ip.is_some() && pods.iter().any(|pod| !pod.ips.is_empty());
    let by_name = session
        .host
        .as_ref()
        .is_some_and(|host| pods.iter().any(|pod| pod.name == *host));
    let by_ip = ip.is_some_and(|ip| pods.iter().any(|pod| pod.ips.iter().any(|own| own == ip)));
    by_name || by_ip || (session.host.is_none() && !has_ip)
}

/// Ids of the nodes that have a session; `None` if no serving node has one, because the sessions
/// are then elsewhere.
#[must_use]
pub fn live_nodes(sessions: &[Session]) -> Option<BTreeSet<i64>> {
    let serves = |session: &&Session| {
        ["session/querynode", "session/streamingnode"]
            .iter()
            .any(|prefix| session.key.starts_with(prefix))
    };
    sessions.iter().find(serves)?;
    Some(
        sessions
            .iter()
            .filter_map(|session| session.server_id)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn session(role: &str, host: &str, address: &str) -> Session {
        let host = if host.is_empty() {
            String::new()
        } else {
            format!(r#","HostName":"{host}""#)
        };
        let value = format!(r#"{{"ServerID":7,"Address":"{address}"{host}}}"#);
        Session::read(format!("session/{role}").as_bytes(), value.as_bytes()).unwrap()
    }

    fn pods(ip: &str) -> Vec<PodName> {
        vec![PodName {
            name: "new".into(),
            ips: [ip]
                .iter()
                .filter(|ip| !ip.is_empty())
                .map(|ip| (*ip).to_owned())
                .collect(),
        }]
    }

    #[rstest]
    #[case(Component::RootCoord, &[session("rootcoord", "new", "10.0.0.1:1")], "", None)]
    #[case(Component::RootCoord, &[session("rootcoord", "node-1", "10.0.0.2:1")], "10.0.0.2", None)]
    #[case(Component::RootCoord, &[session("rootcoord", "old", "10.0.0.1:1")], "10.0.0.2", Some("active rootcoord in etcd is still old"))]
    #[case(Component::RootCoord, &[session("rootcoord", "", "10.0.0.1:1")], "10.0.0.2", Some("is still 10.0.0.1:1"))]
    #[case(Component::RootCoord, &[session("rootcoord", "", "10.0.0.1:1")], "", None)]
    #[case(Component::RootCoord, &[session("rootcoord-7", "new", "10.0.0.2:1")], "10.0.0.2", Some("no rootcoord is active"))]
    #[case(Component::MixCoord, &[session("rootcoord", "new", "a:1"), session("querycoord", "new", "a:1")], "", None)]
    #[case(Component::MixCoord, &[session("rootcoord", "new", "a:1"), session("querycoord", "old", "a:1")], "", Some("active querycoord"))]
    #[case(Component::MixCoord, &[], "", Some("no mixcoord is active"))]
    #[case(Component::IndexCoord, &[session("indexcoord", "old", "a:1")], "", None)]
    #[case(Component::QueryNode, &[], "", None)]
    fn the_active_coordinator_must_be_a_new_pod(
        #[case] component: Component,
        #[case] sessions: &[Session],
        #[case] ip: &str,
        #[case] expected: Option<&str>,
    ) {
        let why = lacks(sessions, component, "2.3.5".parse().unwrap(), &pods(ip));
        match (&why, expected) {
            (None, None) => {}
            (Some(why), Some(part)) => assert!(why.contains(part), "{why}"),
            _ => panic!("{why:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn up_to_2_2_the_index_coordinator_is_a_separate_role() {
        let why = lacks(
            &[],
            Component::IndexCoord,
            "2.2.16".parse().unwrap(),
            &pods(""),
        );
        assert_eq!(why.as_deref(), Some("no indexcoord is active in etcd"));
    }

    #[test]
    fn a_session_with_the_old_version_is_not_of_the_new_pod() {
        let said = |version: &str| {
            let value = format!(r#"{{"ServerID":7,"HostName":"new","Version":"{version}"}}"#);
            let session = Session::read(b"session/rootcoord", value.as_bytes()).unwrap();
            let [from, to] = ["2.3.2", "2.3.5"].map(|version| version.parse().unwrap());
            is_still_at(&[session], Component::RootCoord, to, from)
        };
        assert!(
            said("2.3.2")
                .unwrap()
                .contains("still says that it is 2.3.2")
        );
        // A custom build may report any other version.
        assert_eq!((said("2.3.5"), said(""), said("fork")), (None, None, None));
    }

    #[test]
    fn live_nodes_are_those_with_a_session() {
        assert_eq!(
            live_nodes(&[session("querynode-7", "", "a:1")]),
            Some([7].into())
        );
        assert_eq!(live_nodes(&[session("proxy-7", "", "a:1")]), None);
    }
}
