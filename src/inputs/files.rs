//! Files, directories and standard input.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{milvus::Place, report::InputEntry};

use super::{InputError, Loaded, Role, objects::Collector};

/// What one input may hold in all. A cluster of thousands of objects stays below 100 MiB.
pub const MAX_INPUT: u64 = 256 * 1024 * 1024;
/// Folders inside folders that are opened.
const MAX_DEPTH: u8 = 16;

/// Reads a file, a directory or `-` (standard input).
///
/// # Errors
/// Where it cannot be read, is no text, no YAML or JSON, or holds no Kubernetes object; the error names the place.
pub fn load(role: Role, source: &str, namespace: Option<&str>) -> Result<Loaded, InputError> {
    let (collector, read, skipped) = collect(role, source, namespace)?;
    let shown = if source == "-" { "stdin" } else { source };
    let (snapshot, mut not_read) = collector.finish(shown)?;
    not_read.extend(skipped);
    Ok(Loaded { snapshot, entry: InputEntry { role: role.name().into(), source: shown.into(), read, not_read } })
}

/// Reads the same as what runs in one namespace.
///
/// # Errors
/// As [`load`].
pub fn load_place(source: &str, namespace: Option<&str>) -> Result<Place, InputError> {
    let (collector, ..) = collect(Role::Before, source, namespace)?;
    let configs = collector.configs().to_vec();
    let (snapshot, _) = collector.finish(source)?;
    Ok(Place { snapshot, configs })
}

/// A collector with everything, the names of what was read, and what was passed over.
fn collect(role: Role, source: &str, namespace: Option<&str>) -> Result<(Collector, Vec<String>, Vec<String>), InputError> {
    let mut collector = Collector::new(role, namespace);
    let mut read = Vec::new();
    let mut skipped = Vec::new();
    if source == "-" {
        collector.add_text(&read_text("stdin", io::stdin().lock(), MAX_INPUT)?, "stdin")?;
        read.push("stdin".to_owned());
    } else {
        let path = Path::new(source);
        let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        let files = if metadata.is_dir() { directory(path, &mut skipped)? } else { vec![path.to_owned()] };
        let mut left = MAX_INPUT;
        for file in files {
            let name = file.display().to_string();
            let handle = fs::File::open(&file).map_err(|error| unreadable(&file, &error))?;
            let text = read_text(&name, handle, left)?;
            left -= text.len() as u64;
            collector.add_text(&text, &name)?;
            read.push(name);
        }
    }
    Ok((collector, read, skipped))
}

/// Reads one text file (facts, policies, data).
///
/// # Errors
/// Where it cannot be read, is too large or no text.
pub fn read_text_file(path: &Path) -> Result<String, InputError> {
    let handle = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    read_text(&path.display().to_string(), handle, MAX_INPUT)
}

/// The manifest files below a directory, in order of their names; what is passed over goes into `skipped`.
///
/// # Errors
/// Where it cannot be listed, is a chart, or holds none.
pub fn directory(path: &Path, skipped: &mut Vec<String>) -> Result<Vec<PathBuf>, InputError> {
    if path.join("Chart.yaml").is_file() && path.join("templates").is_dir() {
        return Err(InputError::Chart { path: path.display().to_string() });
    }
    let mut files = Vec::new();
    walk(path, MAX_DEPTH, &mut files, skipped)?;
    if files.is_empty() {
        return Err(InputError::EmptyDirectory { path: path.display().to_string() });
    }
    Ok(files)
}

fn walk(path: &Path, depth: u8, files: &mut Vec<PathBuf>, skipped: &mut Vec<String>) -> Result<(), InputError> {
    let entries = fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(path, &error))?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            // A link may lead back up; folders behind links are passed over.
            if path.is_symlink() || depth == 0 {
                skipped.push(format!("{}: folder not followed", path.display()));
            } else {
                walk(&path, depth - 1, files, skipped)?;
            }
        } else if path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known)) {
            files.push(path);
        } else {
            skipped.push(format!("{}: not .yaml, .yml or .json", path.display()));
        }
    }
    Ok(())
}

fn read_text(name: &str, source: impl Read, limit: u64) -> Result<String, InputError> {
    let mut bytes = Vec::new();
    source
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| InputError::Unreadable { path: name.to_owned(), reason: reason(&error) })?;
    if bytes.len() as u64 > limit {
        return Err(InputError::TooLarge { path: name.to_owned(), limit: MAX_INPUT / 1024 / 1024 });
    }
    if let Some(position) = bytes.iter().position(|byte| *byte == 0) {
        return Err(InputError::Binary { path: name.to_owned(), position });
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| InputError::Binary { path: name.to_owned(), position: error.utf8_error().valid_up_to() })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn unreadable(path: &Path, error: &io::Error) -> InputError {
    InputError::Unreadable { path: path.display().to_string(), reason: reason(error) }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
