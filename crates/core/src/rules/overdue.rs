//! The end of the time for an answer.

/// Asks whether the time for an answer is over. The core reads no clock, so the door brings one.
#[derive(Clone, Copy)]
pub struct Overdue<'a>(pub &'a (dyn Fn() -> bool + Sync));

impl std::fmt::Debug for Overdue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Overdue")
    }
}
