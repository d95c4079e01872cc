//! Files, directories and standard input.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use milvus_guard_core::{
    milvus::{NamespaceState, Snapshot},
    report::InputEntry,
    text::count,
};

use super::{
    InputError, Loaded, Role,
    encoding::{self, NotText},
    objects::Collector,
};

/// Largest input in bytes. A cluster of thousands of objects has less than 100 MiB.
pub const MAX_INPUT: u64 = 256 * 1024 * 1024;
/// Namespaces that a remark names.
const MAX_NAMESPACES: usize = 5;
/// Largest depth of folders inside folders.
const MAX_DEPTH: u8 = 16;

/// A directory with a file of one of these names is a kustomization.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// How an input is read.
#[derive(Clone, Debug, Default)]
pub struct Reading<'a> {
    /// Namespace of objects that name none; objects of other namespaces are left out.
    pub namespace: Option<&'a str>,
    /// Objects (kind and name) whose documents are kept, to apply patches to them.
    pub keep: Vec<(String, String)>,
}

/// Reads a file, a directory or `-` (standard input). The state before a change is grouped here;
/// the state after it is grouped by [`settle`](super::part::settle), with the running state.
///
/// # Errors
/// If it cannot be read, is not text, not YAML or JSON, or contains no Kubernetes object; the error
/// names the place, and the format of the input.
pub fn load(role: Role, source: &str, how: &Reading<'_>) -> Result<Loaded, InputError> {
    let (collector, read, skipped) = collect(role, source, how)?;
    let shown = if source == "-" { "stdin" } else { source };
    loaded(role, shown, collector, (read, skipped), how)
}

/// Reads a text in memory; `shown` is its name in the report and in errors.
///
/// # Errors
/// As [`load`].
pub fn load_text(
    role: Role,
    shown: &str,
    text: &str,
    how: &Reading<'_>,
) -> Result<Loaded, InputError> {
    let mut collector = collector(role, how);
    collector.add_text(text, shown)?;
    loaded(
        role,
        shown,
        collector,
        (vec![shown.to_owned()], Vec::new()),
        how,
    )
}

/// The collected content with its entry in the report: the names of read and of skipped files.
fn loaded(
    role: Role,
    shown: &str,
    collector: Collector,
    (read, skipped): (Vec<String>, Vec<String>),
    how: &Reading<'_>,
) -> Result<Loaded, InputError> {
    let content = collector.content(shown)?;
    let mut not_read = content.not_read.clone();
    not_read.extend(skipped);
    not_read.extend(
        content
            .foreign
            .iter()
            .filter(|foreign| !foreign.is_used)
            .map(|foreign| format!("left out: {}", foreign.what)),
    );
    let left_out: usize = content.left_out.values().sum();
    if left_out > 0 {
        let names: Vec<&str> = content
            .left_out
            .keys()
            .map(String::as_str)
            .take(MAX_NAMESPACES)
            .collect();
        let more = content.left_out.len().saturating_sub(MAX_NAMESPACES);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let wanted = how.namespace.unwrap_or_default();
        let objects = count(left_out, "object");
        not_read.push(format!(
            "{objects} of other namespaces ({}{more}) left out by -n {wanted}",
            names.join(", ")
        ));
    }
    let snapshot = match role {
        Role::Before => content.builder().build(),
        Role::After => Snapshot::default(),
    };
    let entry = InputEntry {
        role: role.name().into(),
        source: shown.into(),
        read,
        not_read,
        notes: Vec::new(),
    };
    Ok(Loaded {
        content,
        snapshot,
        entry,
    })
}

/// Reads an input as the running state of one namespace.
///
/// # Errors
/// As [`load`].
pub fn load_place(source: &str, namespace: Option<&str>) -> Result<NamespaceState, InputError> {
    let (collector, ..) = collect(
        Role::Before,
        source,
        &Reading {
            namespace,
            keep: Vec::new(),
        },
    )?;
    let content = collector.content(source)?;
    Ok(NamespaceState {
        snapshot: content.builder().build(),
        configs: content.configs(),
    })
}

fn collector(role: Role, how: &Reading<'_>) -> Collector {
    Collector::new(role, how.namespace)
        .only(how.namespace)
        .keep(how.keep.iter().cloned())
}

/// A collector with all documents, the names of what was read, and what was skipped.
fn collect(
    role: Role,
    source: &str,
    how: &Reading<'_>,
) -> Result<(Collector, Vec<String>, Vec<String>), InputError> {
    let mut collector = collector(role, how);
    let mut read = Vec::new();
    let mut skipped = Vec::new();
    if source == "-" {
        collector.add_text(&read_text("stdin", io::stdin().lock(), MAX_INPUT)?, "stdin")?;
        read.push("stdin".to_owned());
    } else {
        let path = Path::new(source);
        let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        let files = if metadata.is_dir() {
            manifests(path, &mut skipped)?
        } else {
            vec![path.to_owned()]
        };
        let mut left = MAX_INPUT;
        for file in files {
            let name = file.display().to_string();
            let handle = fs::File::open(&file).map_err(|error| unreadable(&file, &error))?;
            let text = read_text(&name, handle, left)?;
            left = left.saturating_sub(text.len() as u64);
            collector.add_text(&text, &name)?;
            read.push(name);
        }
    }
    Ok((collector, read, skipped))
}

/// The files of a directory of manifests. Charts and kustomizations are refused: their files are
/// not final objects.
fn manifests(path: &Path, skipped: &mut Vec<String>) -> Result<Vec<PathBuf>, InputError> {
    let files = directory(path, skipped)?;
    let folders: BTreeSet<&Path> = files
        .iter()
        .filter_map(|file| file.parent())
        .chain([path])
        .collect();
    for folder in folders {
        let holds = |name: &str| folder.join(name).is_file();
        let path = folder.display().to_string();
        if holds("Chart.yaml") {
            return Err(InputError::Chart { path });
        }
        if KUSTOMIZATIONS.iter().any(|name| holds(name)) {
            return Err(InputError::Kustomization { path });
        }
    }
    Ok(files)
}

/// Reads one text file (facts, policies, data).
///
/// # Errors
/// If it cannot be read, is too large or is not text.
pub fn read_text_file(path: &Path) -> Result<String, InputError> {
    let handle = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    read_text(&path.display().to_string(), handle, MAX_INPUT)
}

/// The name and the text of a file; `-` is standard input. For a command that reads nothing else
/// from there.
///
/// # Errors
/// As [`read_text_file`].
pub fn read_named_text(path: &Path) -> Result<(String, String), InputError> {
    if path.as_os_str() == "-" {
        let text = read_text("stdin", io::stdin().lock(), MAX_INPUT)?;
        return Ok(("stdin".to_owned(), text));
    }
    Ok((path.display().to_string(), read_text_file(path)?))
}

/// The manifest files below a directory, in order of their names; skipped files are added to
/// `skipped`.
///
/// # Errors
/// If it cannot be listed, is a chart, or contains no manifest file.
pub fn directory(path: &Path, skipped: &mut Vec<String>) -> Result<Vec<PathBuf>, InputError> {
    if path.join("Chart.yaml").is_file() && path.join("templates").is_dir() {
        return Err(InputError::Chart {
            path: path.display().to_string(),
        });
    }
    let mut files = Vec::new();
    walk(path, MAX_DEPTH, &mut files, skipped)?;
    if files.is_empty() {
        return Err(InputError::EmptyDirectory {
            path: path.display().to_string(),
        });
    }
    Ok(files)
}

fn walk(
    path: &Path,
    depth: u8,
    files: &mut Vec<PathBuf>,
    skipped: &mut Vec<String>,
) -> Result<(), InputError> {
    let entries = fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(path, &error))?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            // A link may lead to a parent folder, so folders behind links are skipped.
            if path.is_symlink() || depth == 0 {
                skipped.push(format!("{}: folder not followed", path.display()));
            } else {
                walk(&path, depth - 1, files, skipped)?;
            }
        } else if path.extension().is_some_and(|extension| {
            ["yaml", "yml", "json"]
                .iter()
                .any(|known| extension == *known)
        }) {
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
        .map_err(|error| InputError::Unreadable {
            path: name.to_owned(),
            reason: reason(&error),
        })?;
    if bytes.len() as u64 > limit {
        return Err(InputError::TooLarge {
            path: name.to_owned(),
            limit: MAX_INPUT / 1024 / 1024,
        });
    }
    encoding::decode(bytes).map_err(|what| {
        let path = name.to_owned();
        match what {
            NotText::ChartArchive => InputError::Chart { path },
            NotText::Packed(format) => InputError::Packed { path, format },
            NotText::Encoding(encoding) => InputError::Encoding { path, encoding },
            NotText::Binary(position) => InputError::Binary { path, position },
        }
    })
}

fn unreadable(path: &Path, error: &io::Error) -> InputError {
    InputError::Unreadable {
        path: path.display().to_string(),
        reason: reason(error),
    }
}

/// Why a file or a folder cannot be read, for a person.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
