//! A run as JSON, one event per line, for programs.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use crate::engine::{Event, Listener};

/// Version of the JSON format.
pub const SCHEMA_VERSION: &str = "guard.milvus.io/run-event/v1";

/// Writes events as JSON lines.
pub struct Json<W>(Mutex<W>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    schema_version: &'static str,
    time: Timestamp,
    #[serde(flatten)]
    event: &'a Event,
}

impl<W: Write + Send> Json<W> {
    /// Writes to this writer.
    pub const fn new(writer: W) -> Self {
        Self(Mutex::new(writer))
    }
}

impl<W: Write + Send> Listener for Json<W> {
    fn on_event(&self, at: Timestamp, event: &Event) {
        let Ok(line) = serde_json::to_string(&Line {
            schema_version: SCHEMA_VERSION,
            time: at,
            event,
        }) else {
            return;
        };
        // The run continues if the reader of the output has closed it.
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(writer, "{line}");
        let _ = writer.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_event_with_its_time() {
        let json = Json::new(Vec::new());
        json.on_event(
            "2026-01-31T10:00:00Z".parse().unwrap(),
            &Event::Progress {
                what: "records".into(),
                done: 3,
                total: Some(7),
            },
        );
        let text = String::from_utf8(json.0.into_inner().unwrap()).unwrap();
        let expected = r#"{"schemaVersion":"guard.milvus.io/run-event/v1","time":"2026-01-31T10:00:00Z","event":"Progress","what":"records","done":3,"total":7}"#;
        assert_eq!(text.trim_end(), expected);
    }
}
