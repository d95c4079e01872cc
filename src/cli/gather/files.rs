//! Files in addition to the two sides: `--facts` and `--data`.

use std::path::PathBuf;

use milvus_guard_core::{
    evidence::Facts,
    manifest::documents,
    milvus::catalogue::{Catalogue, Flaw, validate},
    rules,
};
use milvus_guard_sources::files::read_text_file;

use crate::cli::exit::Failure;

/// Reads `--facts`.
pub(in crate::cli) fn facts(path: Option<&PathBuf>) -> Result<Facts, Failure> {
    let Some(path) = path else {
        return Ok(Facts::default());
    };
    let text = read_text_file(path).map_err(Failure::usage)?;
    let name = path.display();
    let Some(document) = documents(&text).next() else {
        return Ok(Facts::default());
    };
    let document = document.map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    serde_path_to_error::deserialize(document.root.to_json())
        .map_err(|error| Failure::usage(format!("{name}: {}: {}", error.path(), error.inner())))
}

/// The first mistake in a file with the user's rows, with the row: the reader of the tables does
/// not name it.
fn first_flaw(name: &str, text: &str, base: &Catalogue) -> Option<String> {
    let ids: Vec<&str> = rules::ALL.iter().map(|rule| rule.id).collect();
    let Flaw {
        line, row, message, ..
    } = validate(text, base, &ids).into_iter().next()?;
    let row = if row.is_empty() {
        row
    } else {
        format!("{row}: ")
    };
    Some(format!(
        "{name}:{line}: {row}{message}\nnext: milvus-guard data validate {name}"
    ))
}

/// Applies `--data` files to the embedded tables; `None` without such files.
pub(in crate::cli) fn catalogue(paths: &[PathBuf]) -> Result<Option<Catalogue>, Failure> {
    let mut catalogue: Option<Catalogue> = None;
    for path in paths {
        let text = read_text_file(path).map_err(Failure::usage)?;
        let name = path.display().to_string();
        let mut known = catalogue
            .take()
            .unwrap_or_else(|| Catalogue::embedded().clone());
        if let Err(error) = known.add(&name, &text) {
            return Err(Failure::usage(
                first_flaw(&name, &text, &known).unwrap_or_else(|| error.to_string()),
            ));
        }
        catalogue = Some(known);
    }
    Ok(catalogue)
}
