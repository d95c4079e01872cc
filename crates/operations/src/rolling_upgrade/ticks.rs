//! Whether time ticks resume after another root coordinator took over, by the metrics of Milvus'
//! pods. Pure.
//!
//! The root coordinator sends a time tick to all channels when every proxy with a session has
//! reported one, and searches with bounded consistency stop 5 s after the last tick. A client of
//! Milvus 2.3 that was between two attempts when another one reset the connection keeps the closed
//! connection for all 10 attempts ("the client connection is closing", 52.8 s by the comment in
//! `internal/util/grpcclient/client.go`), or until the request has no time left. Seen on a real
//! Milvus 2.3.2:
//!
//! - The report of a proxy is in this state: it reports nothing, and holds up the ticks for 48 to
//!   50 s (3 of the first 7 takeovers). Such a proxy is ended.
//! - The request of a proxy for a timestamp is in this state, which gets 10 s: it reports its last
//!   tick again, and holds up the ticks for 10 s. Searches do not answer for the last 5 s. To
//!   end such a proxy costs its clients as much, so nothing is done.

use std::time::Duration;

/// How long ticks must have stopped before a proxy counts as the cause. They are sent every 200 ms.
pub const STALL: Duration = Duration::from_millis(1_500);
/// Number of looks with the same result after which a proxy counts as stuck.
const SAME: u32 = 3;
/// Number of looks in a row with a new round after which ticks count as sent again. When a proxy
/// leaves, one round is sent although another proxy still reports nothing.
const RESUMED: u32 = 3;

/// Rounds of ticks that a root coordinator has sent (`rootcoord_sync_timetick_latency`).
const ROUNDS: &str = "milvus_rootcoord_sync_timetick_latency_count";
/// Age of the tick that a proxy reported last; written with every report.
const LAG: &str = "milvus_proxy_tt_lag_ms";
/// The labels of the series that every proxy has.
const LAG_OF: &str = "channel_name=\"default\"";

/// Rounds of ticks that a root coordinator has sent; `None` if its metrics do not contain them.
#[must_use]
pub fn rounds(metrics: &str) -> Option<f64> {
    values(metrics, ROUNDS)
        .map(|(_, value)| value)
        .reduce(|a, b| a + b)
}

/// The age in the last report of a proxy; `None` if its metrics do not contain it.
#[must_use]
pub fn lag(metrics: &str) -> Option<f64> {
    values(metrics, LAG)
        .find(|(labels, _)| labels.contains(LAG_OF))
        .map(|(_, value)| value)
}

/// Labels and values of the series with this name.
fn values<'m>(metrics: &'m str, name: &'static str) -> impl Iterator<Item = (&'m str, f64)> {
    metrics.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest.strip_prefix(' ')?),
        };
        let value: f64 = value.split_ascii_whitespace().next()?.parse().ok()?;
        value.is_finite().then_some((labels, value))
    })
}

/// What is known of the ticks of one active root coordinator.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticks {
    host: String,
    rounds: Option<f64>,
    /// For how long the number of rounds has been the same.
    stopped: Duration,
    /// Looks in a row that found a new round.
    sent: u32,
}

impl Ticks {
    /// For the coordinator on this host, before the first look.
    #[must_use]
    pub fn of(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            rounds: None,
            stopped: Duration::ZERO,
            sent: 0,
        }
    }

    /// Whether they are of the coordinator on this host.
    #[must_use]
    pub fn is_of(&self, host: &str) -> bool {
        self.host == host
    }

    /// Adds a look, made `since` after the one before. A look without a result changes nothing.
    pub fn look(&mut self, rounds: Option<f64>, since: Duration) {
        let Some(now) = rounds else { return };
        match self.rounds {
            Some(before) if now > before => {
                self.sent = self.sent.saturating_add(1);
                self.stopped = Duration::ZERO;
            }
            Some(_) => {
                self.sent = 0;
                self.stopped += since;
            }
            None => {}
        }
        self.rounds = Some(now);
    }

    /// Whether the number of rounds is known, and not each of the last looks found a new round.
    #[must_use]
    pub fn are_missing(&self) -> bool {
        self.rounds.is_some() && self.sent < RESUMED
    }

    /// Whether the coordinator has sent no tick for [`STALL`].
    #[must_use]
    pub fn have_stopped(&self) -> bool {
        self.rounds.is_some() && self.stopped >= STALL
    }
}

/// What is known of the reports of one proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reports {
    lag: Option<f64>,
    same: u32,
}

impl Reports {
    /// Adds a look. A look without a result does not show that the proxy is stuck.
    #[expect(
        clippy::float_cmp,
        reason = "an unchanged number means that nothing was reported"
    )]
    pub fn look(&mut self, lag: Option<f64>) {
        self.same = match (self.lag, lag) {
            (Some(before), Some(now)) if before == now => self.same + 1,
            _ => 0,
        };
        self.lag = lag;
    }

    /// Whether the proxy has reported nothing for several looks.
    #[must_use]
    pub const fn have_stopped(&self) -> bool {
        self.same >= SAME
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// Metrics of a root coordinator of 2.3.2.
    const ROOT: &str = "# TYPE milvus_rootcoord_sync_timetick_latency histogram\n\
        milvus_rootcoord_sync_timetick_latency_bucket{le=\"1\"} 0\n\
        milvus_rootcoord_sync_timetick_latency_bucket{le=\"+Inf\"} 184\n\
        milvus_rootcoord_sync_timetick_latency_sum 2711\n\
        milvus_rootcoord_sync_timetick_latency_count 184\n";
    /// Metrics of a proxy of 2.3.2.
    const PROXY: &str = "milvus_proxy_tt_lag_ms{channel_name=\"by-dev-dml_0\",node_id=\"11\"} 5\n\
        milvus_proxy_tt_lag_ms{channel_name=\"default\",node_id=\"11\"} 127\n";

    #[rstest]
    #[case(ROOT, Some(184.0))]
    #[case(
        "milvus_rootcoord_sync_timetick_latency_count{node_id=\"1\"} 7 1700000000\n",
        Some(7.0)
    )]
    #[case("milvus_rootcoord_sync_timetick_latency_count NaN\n", None)]
    #[case("milvus_rootcoord_sync_timetick_latency_counter 7\n", None)]
    #[case(PROXY, None)]
    #[case("", None)]
    fn the_rounds_of_ticks_are_in_the_metrics_of_a_root_coordinator(
        #[case] metrics: &str,
        #[case] expected: Option<f64>,
    ) {
        assert_eq!(rounds(metrics), expected);
    }

    #[test]
    fn the_age_of_the_last_report_is_in_the_metrics_of_a_proxy() {
        assert_eq!(lag(PROXY), Some(127.0));
        assert_eq!(lag(ROOT), None);
        assert_eq!(lag("milvus_proxy_tt_lag_ms{channel_name=\"a\"} 1\n"), None);
    }

    #[test]
    fn ticks_count_as_stopped_only_after_looks_without_a_new_round() {
        let mut ticks = Ticks::of("rootcoord-new");
        ticks.look(None, STALL * 2);
        assert!(
            !ticks.have_stopped() && !ticks.are_missing(),
            "the look had no result"
        );
        ticks.look(Some(3.0), STALL);
        assert!(!ticks.have_stopped(), "one look is not enough");
        assert!(ticks.are_missing(), "no round was seen");
        ticks.look(Some(3.0), STALL / 2);
        ticks.look(None, STALL);
        assert!(!ticks.have_stopped(), "{ticks:?}");
        ticks.look(Some(3.0), STALL / 2);
        assert!(ticks.have_stopped() && ticks.are_missing());
        ticks.look(Some(4.0), STALL);
        assert!(!ticks.have_stopped());
        assert!(ticks.are_missing(), "one round may be the last one");
        ticks.look(Some(4.0), STALL);
        assert!(ticks.have_stopped() && ticks.are_missing());
        for round in [5.0, 7.0, 8.0] {
            assert!(ticks.are_missing());
            ticks.look(Some(round), STALL);
        }
        assert!(!ticks.are_missing() && !ticks.have_stopped());
        assert!(ticks.is_of("rootcoord-new") && !ticks.is_of("rootcoord-old"));
    }

    #[test]
    fn a_proxy_is_stuck_only_after_several_equal_looks() {
        let mut reports = Reports::default();
        for _ in 0..=SAME {
            assert!(!reports.have_stopped());
            reports.look(Some(127.0));
        }
        assert!(reports.have_stopped());
        reports.look(Some(124.0));
        assert!(!reports.have_stopped());
        for _ in 0..10 {
            reports.look(None);
        }
        assert!(
            !reports.have_stopped(),
            "a proxy that was not reached does not count as stuck"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(?s).{0,400}") {
            for name in ["", ROUNDS, LAG] {
                let text = format!("{name}{text}");
                prop_assert!(rounds(&text).is_none_or(f64::is_finite));
                prop_assert!(lag(&text).is_none_or(f64::is_finite));
            }
        }
    }
}
