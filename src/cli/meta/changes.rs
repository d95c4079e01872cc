//! Dry runs: every key that would change, printed one by one while the plan is read, so that a
//! million keys need no memory.

use std::{
    fmt::Display,
    io::{self, BufWriter, Write as _},
};

use serde::Serialize;

use milvus_guard_metadata::executor::MetaError;

use super::{
    super::{
        exit::{Done, Exit, Failure},
        output::{Screen, print},
        structured::{FormatArg, Structured},
    },
    Access, Common,
};

/// Prints the changes; for programs the list stays open for [`end`].
pub(super) fn show<C: Display + Serialize>(
    changes: impl Iterator<Item = C>,
    format: FormatArg,
) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut changes = changes.peekable();
    match format {
        FormatArg::Text => {}
        FormatArg::Json => write!(out, "{{\n\"changes\": [")?,
        FormatArg::Yaml if changes.peek().is_none() => writeln!(out, "changes: []")?,
        FormatArg::Yaml => writeln!(out, "changes:")?,
    }
    for (position, change) in changes.enumerate() {
        match format {
            FormatArg::Text => writeln!(out, "{change}")?,
            FormatArg::Json => {
                writeln!(out, "{}", if position == 0 { "" } else { "," })?;
                serde_json::to_writer(&mut out, &change)?;
            }
            // JSON is valid YAML: each change is one line here too.
            FormatArg::Yaml => {
                write!(out, "- ")?;
                serde_json::to_writer(&mut out, &change)?;
                writeln!(out)?;
            }
        }
    }
    out.flush()
}

/// Prints the rest of the report. `shown` is the result of [`show`], if it was called.
pub(super) fn end<T: Serialize>(
    common: &Common,
    screen: &Screen,
    shown: Option<io::Result<()>>,
    done: Result<T, MetaError>,
    text: impl FnOnce(&T) -> String,
) -> Done {
    match (shown, &done, common.format.structured()) {
        (Some(Err(error)), ..) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Reached),
        (Some(Err(error)), ..) => Err(Failure::usage(format!(
            "cannot write to standard output: {error}"
        ))),
        // The list of changes is still open; the rest of the report closes it.
        (Some(Ok(())), Ok(report), Some(structured)) => {
            let rest = structured.render(report)?;
            print(&match structured {
                Structured::Yaml => rest,
                Structured::Json => format!("\n],\n{}", rest.trim_start_matches("{\n")),
            })?;
            Ok(Exit::Reached)
        }
        _ => common.end(screen, Access::Changes, done, text),
    }
}
