//! The time for an answer, as the API server grants it.

use std::time::Duration;

/// Time for an answer if the request does not set one: the API server's own default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time that the API server grants.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the answer may take: the time that the API server grants, minus a tenth for the
/// network.
pub(super) fn deadline(timeout: Option<&str>) -> Duration {
    let granted = timeout
        .and_then(duration)
        .unwrap_or(DEFAULT_TIMEOUT)
        .min(MAX_TIMEOUT);
    granted.mul_f64(0.9)
}

/// A duration as Go writes it: `10s`, `1m30s`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        let unit = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        total += number
            * match &tail[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                _ => return None,
            };
        rest = &tail[unit..];
    }
    (total > 0.0)
        .then(|| Duration::try_from_secs_f64(total).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_the_timeout_of_the_api_server_minus_a_tenth() {
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        for wrong in [
            "",
            "5",
            "s",
            "-1s",
            "1e9s",
            "5 s",
            "0s",
            "99999999999999999999999999h",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        assert_eq!(deadline(Some("10s")), Duration::from_secs(9));
        assert_eq!(deadline(Some("1h")), Duration::from_secs(27));
        assert_eq!(deadline(None), Duration::from_secs(9));
    }
}
