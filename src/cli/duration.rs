//! Durations of the server, as its flags take them.

use std::time::Duration;

/// A duration such as `10s`, `5m` or `0`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("'{text}' is not a valid duration; write 10s or 5m"))
}
