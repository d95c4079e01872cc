use std::thread;
use std::time::{Duration, Instant};

/// The pause between two checks of a condition: as long as the check took, within these limits. So
/// a check by kubectl uses at most half of a core.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(500);

/// Waits until `condition` is true, for at most `deadline`; returns whether it became true. It is
/// checked at least once.
pub fn wait_until(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        let begun = Instant::now();
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(begun.elapsed().clamp(SHORTEST, LONGEST));
    }
}

/// Like [`wait_until`], but panics if the condition does not become true.
///
/// # Panics
/// When `condition` is not true within `deadline`; the message contains `what`.
#[track_caller]
pub fn wait_for(what: &str, deadline: Duration, condition: impl FnMut() -> bool) {
    assert!(
        wait_until(deadline, condition),
        "waited {} s in vain for {what}",
        deadline.as_secs_f64()
    );
}
