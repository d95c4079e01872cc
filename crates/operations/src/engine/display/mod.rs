//! What a person or a program at the other end of a pipe sees of a run: one file a form, all of
//! them fed by the same events.

use std::time::Duration;

mod json;
mod lines;
mod terminal;

pub use json::Json;
pub use lines::Lines;
pub use terminal::Terminal;

/// A time as people say it.
#[must_use]
pub fn took(time: Duration) -> String {
    let ms = time.as_millis();
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
    }
}
