//! Which sessions in etcd are of pods that have ended. Pure.
//!
//! A session belongs to a process. It may be removed only if that process can no longer serve. The
//! proof, for one session, is made of three readings in this order:
//!
//! 1. the session, with its revision, names a host that is a pod the run has recorded;
//! 2. after that, the API server lists no pod of this name, or only one that is terminating;
//! 3. at its removal, the session still has that revision.
//!
//! A process that wrote the session before 1 runs in a pod that existed then, so 2 would list that
//! pod if it still existed. A session that is written after 1 has another revision, so 3 fails.

use milvus_guard_core::api::SeenPod;
use milvus_guard_metadata::executor::Registered;

/// A pod as the API server listed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPod {
    /// Name of the pod.
    pub name: String,
    /// UID of the pod.
    pub uid: String,
    /// Whether it is terminating (`deletionTimestamp` is set). This is final.
    pub is_ending: bool,
}

/// When a session of a component may be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// As soon as its pod is terminating: another coordinator waits to take over.
    AtTermination,
    /// When its pod no longer exists: until then it may serve, or move its segments away.
    AtTheEnd,
}

/// What is known of the pod of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    /// The pod may serve, so nothing is done.
    Lives,
    /// The pod is terminating.
    Terminating,
    /// The pod no longer exists.
    Gone,
}

impl PodState {
    /// Whether the session of such a pod may be released.
    #[must_use]
    pub fn allows(self, release: Release) -> bool {
        match self {
            Self::Lives => false,
            Self::Terminating => release == Release::AtTermination,
            Self::Gone => true,
        }
    }

    /// The reason as a short phrase.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Lives => "the pod is there",
            Self::Terminating => "the pod is terminating",
            Self::Gone => "the pod no longer exists",
        }
    }
}

/// The recorded pod that a session names, if its session may ever be released: it has a lease, and
/// the lease in its value is the lease in etcd.
#[must_use]
pub fn holder<'p>(one: &Registered, seen: &'p [SeenPod]) -> Option<&'p SeenPod> {
    let leased = one.lease != 0 && one.session.lease_id.is_none_or(|id| id == one.lease);
    let host = one.session.host.as_ref().filter(|_| leased)?;
    seen.iter().rev().find(|pod| pod.name == *host)
}

/// The state of the pod of a host, by the pods that were listed after its session was read: either
/// all pods of the namespace, or those of this name.
#[must_use]
pub fn pod_state(host: &str, listed: &[ListedPod]) -> PodState {
    let mut same = listed.iter().filter(|pod| pod.name == host).peekable();
    if same.peek().is_none() {
        PodState::Gone
    } else if same.all(|pod| pod.is_ending) {
        PodState::Terminating
    } else {
        PodState::Lives
    }
}

/// Sessions that may be released, grouped by process: it wrote them under one lease, so they are
/// removed together.
#[must_use]
pub fn releasable<'s>(
    sessions: &'s [Registered],
    seen: &[SeenPod],
    state: impl Fn(&SeenPod) -> PodState,
    release: impl Fn(&SeenPod) -> Release,
) -> Vec<(Vec<&'s Registered>, PodState)> {
    let mut groups: Vec<(Vec<&Registered>, PodState)> = Vec::new();
    for one in sessions {
        let Some(pod) = holder(one, seen) else {
            continue;
        };
        let state = state(pod);
        if !state.allows(release(pod)) {
            continue;
        }
        let same = |first: &&Registered| {
            first.lease == one.lease && first.session.host == one.session.host
        };
        match groups
            .iter_mut()
            .find(|(group, _)| group.first().is_some_and(same))
        {
            Some((group, _)) => group.push(one),
            None => groups.push((vec![one], state)),
        }
    }
    groups
}

/// Sessions of pods that are terminating which may be released only when the pod no longer exists.
#[must_use]
pub fn waiting<'s>(
    sessions: &'s [Registered],
    seen: &[SeenPod],
    state: impl Fn(&SeenPod) -> PodState,
    release: impl Fn(&SeenPod) -> Release,
) -> Vec<&'s Registered> {
    let waits = |one: &&Registered| {
        holder(one, seen).is_some_and(|pod| {
            let state = state(pod);
            state == PodState::Terminating && !state.allows(release(pod))
        })
    };
    sessions.iter().filter(waits).collect()
}

#[cfg(test)]
mod tests {
    use milvus_guard_metadata::model::sessions::Session;
    use rstest::rstest;

    use super::*;

    fn registered(lease: i64, value: &str) -> Registered {
        Registered {
            session: Session::read(b"session/proxy-7", value.as_bytes()).unwrap(),
            lease,
            mod_revision: 5,
        }
    }

    fn seen() -> Vec<SeenPod> {
        vec![SeenPod {
            name: "proxy-a".into(),
            uid: "1".into(),
            workload: "proxy".into(),
        }]
    }

    #[rstest]
    #[case::named(7, r#"{"HostName":"proxy-a","LeaseID":7}"#, true)]
    #[case::without_its_lease(7, r#"{"HostName":"proxy-a"}"#, true)]
    #[case::another_lease(7, r#"{"HostName":"proxy-a","LeaseID":8}"#, false)]
    #[case::no_lease(0, r#"{"HostName":"proxy-a"}"#, false)]
    #[case::node_name(7, r#"{"HostName":"node-1","LeaseID":7}"#, false)]
    #[case::no_host(7, r#"{"LeaseID":7}"#, false)]
    #[case::unreadable(7, "\u{1}", false)]
    fn only_a_session_that_names_a_recorded_pod_has_a_holder(
        #[case] lease: i64,
        #[case] value: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(
            holder(&registered(lease, value), &seen()).is_some(),
            expected
        );
    }

    #[rstest]
    #[case(&[], PodState::Gone)]
    #[case(&[("proxy-b", "2", false)], PodState::Gone)]
    #[case(&[("proxy-a", "1", true)], PodState::Terminating)]
    #[case(&[("proxy-a", "1", false)], PodState::Lives)]
    #[case::reused_name(&[("proxy-a", "9", false)], PodState::Lives)]
    fn a_pod_that_may_serve_keeps_its_session(
        #[case] listed: &[(&str, &str, bool)],
        #[case] expected: PodState,
    ) {
        let listed: Vec<ListedPod> = listed
            .iter()
            .map(|(name, uid, is_ending)| ListedPod {
                name: (*name).to_owned(),
                uid: (*uid).to_owned(),
                is_ending: *is_ending,
            })
            .collect();
        assert_eq!(pod_state("proxy-a", &listed), expected);
    }

    #[test]
    fn only_sessions_of_coordinators_are_released_before_their_pod_has_ended() {
        assert!(PodState::Terminating.allows(Release::AtTermination));
        assert!(!PodState::Terminating.allows(Release::AtTheEnd));
        assert!(
            PodState::Gone.allows(Release::AtTheEnd)
                && PodState::Gone.allows(Release::AtTermination)
        );
        assert!(!PodState::Lives.allows(Release::AtTermination));
    }

    #[test]
    fn sessions_of_one_process_are_released_together() {
        let (first, second) = (
            registered(7, r#"{"HostName":"proxy-a"}"#),
            registered(8, r#"{"HostName":"proxy-a"}"#),
        );
        let sessions = [first.clone(), second, first];
        let groups = releasable(
            &sessions,
            &seen(),
            |_| PodState::Gone,
            |_| Release::AtTheEnd,
        );
        let sizes: Vec<usize> = groups.iter().map(|(group, _)| group.len()).collect();
        assert_eq!(sizes, [2, 1], "{groups:?}");
        let none = releasable(
            &sessions,
            &seen(),
            |_| PodState::Lives,
            |_| Release::AtTermination,
        );
        assert!(none.is_empty());
    }

    #[test]
    fn the_run_waits_for_the_session_of_a_terminating_pod() {
        let sessions = [registered(7, r#"{"HostName":"proxy-a"}"#)];
        let count = |state, release| {
            let waiting = waiting(&sessions, &seen(), |_| state, |_| release);
            waiting.len()
        };
        assert_eq!(count(PodState::Terminating, Release::AtTheEnd), 1);
        assert_eq!(count(PodState::Terminating, Release::AtTermination), 0);
        assert_eq!(count(PodState::Gone, Release::AtTheEnd), 0, "released");
        assert_eq!(count(PodState::Lives, Release::AtTheEnd), 0);
    }
}
