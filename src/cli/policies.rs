//! `--policy`: files and folders of policies and exceptions.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use milvus_guard_core::policy::{PolicyDocument, PolicySet, read::read};
use milvus_guard_sources::files::{read::directory, read_text_file};

use super::exit::Failure;

/// Reads every document of files and folders, in order.
pub(super) fn documents(paths: &[PathBuf]) -> Result<Vec<PolicyDocument>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        for file in expand(path)? {
            let text = read_text_file(&file).map_err(Failure::usage)?;
            let (documents, errors) = read(&text, &file.display().to_string());
            if let Some(first) = errors.first() {
                let more = if errors.len() > 1 {
                    format!(
                        " (and {} more; see milvus-guard policy lint)",
                        errors.len() - 1
                    )
                } else {
                    String::new()
                };
                return Err(Failure::usage(format!("{first}{more}")));
            }
            all.extend(documents);
        }
    }
    Ok(all)
}

/// The files of a path: the file itself, or the files of the folder.
pub(super) fn expand(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if path.is_dir() {
        directory(path, &mut Vec::new()).map_err(Failure::usage)
    } else {
        Ok(vec![path.to_owned()])
    }
}

/// The policies and exceptions that apply at a time.
pub(super) fn set(documents: Vec<PolicyDocument>, now: Timestamp) -> PolicySet {
    let mut set = PolicySet {
        now: Some(now),
        ..PolicySet::default()
    };
    for document in documents {
        set.add(document);
    }
    set
}
