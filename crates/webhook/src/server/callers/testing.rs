//! Durations and times for the tests.

use jiff::{SignedDuration, Timestamp};

use super::Times;

pub(super) const TIMES: Times = Times {
    life: SignedDuration::from_secs(3600),
    settle: SignedDuration::from_secs(60),
    grace: SignedDuration::from_secs(300),
};

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}
