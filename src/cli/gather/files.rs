//! Files in addition to the two sides: `--facts` and `--data`.

use std::path::PathBuf;

use milvus_guard_core::{evidence::Facts, manifest::documents, milvus::catalogue::Catalogue};
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

/// Reads `--data` files over the embedded tables; without any, the embedded ones serve.
pub(in crate::cli) fn catalogue(paths: &[PathBuf]) -> Result<Option<Catalogue>, Failure> {
    let mut catalogue: Option<Catalogue> = None;
    for path in paths {
        let text = read_text_file(path).map_err(Failure::usage)?;
        let name = path.display().to_string();
        catalogue = Some(match catalogue.take() {
            None => Catalogue::with(&name, &text).map_err(Failure::usage)?,
            Some(mut known) => {
                known.add(&name, &text).map_err(Failure::usage)?;
                known
            }
        });
    }
    Ok(catalogue)
}
