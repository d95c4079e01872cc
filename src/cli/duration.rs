//! The format of durations in all flags.

use std::time::Duration;

/// A text that is not a duration, as the user typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a valid duration; write 90s, 2m or 1h")]
pub(super) struct InvalidDuration(String);

/// A duration such as `10s`, `1h30m` or `0`; a number alone counts seconds.
pub(super) fn duration(text: &str) -> Result<Duration, InvalidDuration> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| duration.try_into().ok())
        .ok_or_else(|| InvalidDuration(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::seconds("120s", Some(120))]
    #[case::minutes("2m", Some(120))]
    #[case::hours_and_minutes("1h30m", Some(5_400))]
    #[case::a_number_alone("90", Some(90))]
    #[case::zero_turns_a_limit_off("0", Some(0))]
    #[case::negative("-5s", None)]
    #[case::negative_number("-5", None)]
    #[case::words("soon", None)]
    #[case::nothing("", None)]
    fn a_flag_takes_units_or_seconds(#[case] text: &str, #[case] seconds: Option<u64>) {
        let expected = seconds
            .map(Duration::from_secs)
            .ok_or_else(|| InvalidDuration(text.to_owned()));
        assert_eq!(duration(text), expected);
    }
}
