use std::thread;
use std::time::{Duration, Instant};

/// The pause before a condition is looked at again: as long as the look took, within these limits.
/// A look that runs kubectl thus takes half of a core at the most, while others wait for theirs.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(500);

/// Waits until `condition` holds, at most for `deadline`; says whether it came to hold. It is
/// looked at once at least.
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

/// Like [`wait_until`], for a condition without which the test cannot go on.
///
/// # Panics
/// When `condition` does not hold within `deadline`; the message names `what`.
#[track_caller]
pub fn wait_for(what: &str, deadline: Duration, condition: impl FnMut() -> bool) {
    assert!(
        wait_until(deadline, condition),
        "waited {} s in vain for {what}",
        deadline.as_secs_f64()
    );
}
