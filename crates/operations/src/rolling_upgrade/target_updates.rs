//! The best time for an old query node to end. Pure.
//!
//! In Milvus 2.3 the new leader of a shard learns every 10 s, counted from the takeover of the
//! query coordinator, what it may read; until then it answers searches with no results. It gets its
//! segments at a whole second of the coordinator that is 1.0 to 1.2 s or more after its begin (0.2
//! to 0.4 s after SIGTERM of the old leader), and the old leader gives up the shard 0.4 s after
//! that. An update before the segments, or at the same time, has no effect. Measured on a real
//! Milvus 2.3.5, by the seconds from SIGTERM to the next update: 2.5 and 2.7, no wrong answer; 1.9
//! (twice) and 2.5, 7 to 10 s of wrong answers; 9.2, 7 s of them. With 3.0 in four rolls: 0 to 26
//! wrong answers in two query nodes together.
//! So an old query node ends 3.1 s (`BEFORE`) before an update: the segments arrive one second
//! before the update, and the proxies notice the new leader after it.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use milvus_guard_metadata::model::sessions::Session;

/// How long before an update an old query node is told to end; it gets the signal 0.1 s later.
const BEFORE: Duration = Duration::from_millis(3_100);
/// The key of the active query coordinator.
const KEY: &str = "session/querycoord";

/// When the active query coordinator took over, if this process observed it.
#[derive(Debug, Default)]
pub struct Takeover(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    looked: Option<Instant>,
    holder: Option<Holder>,
    since: Option<Instant>,
}

/// The holder of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    server_id: Option<i64>,
    host: Option<String>,
}

impl Takeover {
    /// Notes the current sessions.
    pub fn see<'s>(&self, sessions: impl IntoIterator<Item = &'s Session>, now: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sessions = sessions.into_iter();
        let holder = sessions.find(|one| one.key == KEY).map(|one| Holder {
            server_id: one.server_id,
            host: one.host.clone(),
        });
        if holder.is_some() && seen.holder.is_some() && holder != seen.holder {
            // The middle between two looks.
            let looked = seen.looked.unwrap_or(now);
            seen.since = Some(looked + now.saturating_duration_since(looked) / 2);
        }
        if holder.is_some() {
            seen.holder = holder;
        }
        seen.looked = Some(now);
    }

    /// When the active coordinator took over; `None` if this process did not observe it.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.since
    }
}

/// How long to wait until a query node should end, if updates come every `interval` since a
/// takeover `ago`.
#[must_use]
pub fn until_turn(ago: Duration, interval: Duration) -> Duration {
    if interval <= BEFORE {
        return Duration::ZERO;
    }
    let (ago, interval, before) = (ago.as_millis(), interval.as_millis(), BEFORE.as_millis());
    let next = (ago + before).div_ceil(interval) * interval - before;
    Duration::from_millis(u64::try_from(next - ago).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use milvus_guard_metadata::model::sessions::Holder as Role;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn active(server_id: i64) -> Session {
        Session {
            key: KEY.into(),
            holder: Role::Component("querycoord"),
            server_id: Some(server_id),
            address: None,
            host: Some(format!("querycoord-{server_id}")),
            version: None,
            lease_id: None,
            lease_left: None,
        }
    }

    #[test]
    fn a_takeover_is_halfway_between_the_looks_before_and_after_it() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let takeover = Takeover::default();
        takeover.see([&active(1)], at(0));
        assert_eq!(
            takeover.since(),
            None,
            "the first holder was there before the first look"
        );
        takeover.see([], at(200));
        assert_eq!(takeover.since(), None);
        takeover.see([&active(2)], at(400));
        assert_eq!(takeover.since(), Some(at(300)));
        takeover.see([&active(2)], at(600));
        assert_eq!(takeover.since(), Some(at(300)));
        takeover.see([&active(3)], at(1_000));
        assert_eq!(takeover.since(), Some(at(800)));
    }

    #[rstest]
    #[case(0, 10, 6_900)]
    #[case(6_900, 10, 0)]
    #[case(6_901, 10, 9_999)]
    #[case(41_000, 10, 5_900)]
    #[case(500, 2, 0)]
    #[case(500, 0, 0)]
    fn a_query_node_ends_before_an_update(
        #[case] ago: u64,
        #[case] interval: u64,
        #[case] expected: u64,
    ) {
        let wait = until_turn(Duration::from_millis(ago), Duration::from_secs(interval));
        assert_eq!(wait, Duration::from_millis(expected));
    }

    proptest! {
        #[test]
        fn the_turn_is_within_an_interval(ago in 0_u64..10_000_000, interval in 0_u64..3600) {
            let (ago, interval) = (Duration::from_millis(ago), Duration::from_secs(interval));
            let wait = until_turn(ago, interval);
            prop_assert!(wait <= interval);
            if interval > BEFORE {
                let update = (ago + wait + BEFORE).as_millis();
                prop_assert_eq!(update % interval.as_millis(), 0);
            }
        }
    }
}
