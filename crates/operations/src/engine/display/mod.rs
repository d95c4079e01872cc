//! The output of a run, for a terminal, a log or a program: one file per format. All receive the
//! same events.

use std::time::Duration;

mod json;
mod lines;
mod terminal;

pub use json::Json;
pub use lines::Lines;
pub use terminal::Terminal;

/// A duration for people, such as `850 ms`, `12.3 s` or `2 min 5 s`.
#[must_use]
pub fn took(time: Duration) -> String {
    let ms = time.as_millis();
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
    }
}
