//! Files that are complete or do not exist, and that never replace another file.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    thread,
};

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// The system refused.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried, such as "create".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The path ends in `..` or is a root.
    #[error("{} does not name a file", .0.display())]
    NoName(PathBuf),
    /// A running process writes the same file.
    #[error("another process is writing {}", .0.display())]
    Busy(PathBuf),
}

/// An error of the system, with the action that failed.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |error| FileError::Io {
        action,
        path,
        error,
    }
}

/// Writes a file under a temporary name, checks it by reading it again from disk, and only then
/// renames it.
///
/// An incomplete temporary file of a killed process is removed; that of a running process is not
/// changed.
///
/// # Errors
/// [`FileError`] if the system refuses, else the error of `write` or `check`. The file does not
/// exist then.
pub(super) fn save<T, E: From<FileError>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, E>,
    check: impl FnOnce(&mut BufReader<File>, &T) -> Result<(), E>,
) -> Result<T, E> {
    let partial = partial(path)?;
    remove_leftover(&partial)?;
    let file = create(&partial).map_err(failed("create", &partial))?;
    let written = fill(file, &partial, write, check);
    let named = written.and_then(|written| {
        give_name(&partial, path).map_err(failed("create", path))?;
        sync_folder(path).map_err(failed("sync the folder of", path))?;
        Ok(written)
    });
    if named.is_err() {
        // The first failure is reported.
        let _ = fs::remove_file(&partial);
    }
    named
}

fn fill<T, E: From<FileError>>(
    file: File,
    partial: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, E>,
    check: impl FnOnce(&mut BufReader<File>, &T) -> Result<(), E>,
) -> Result<T, E> {
    // If files cannot be locked (on some network volumes), two processes still cannot create the
    // same file.
    let _ = file.try_lock();
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    let written = write(&mut writer)?;
    writer.flush().map_err(failed("write", partial))?;
    let file = writer
        .into_inner()
        .map_err(|error| failed("write", partial)(error.into_error()))?;
    let again = File::open(partial).map_err(failed("read", partial))?;
    // Writing to disk takes time, and what is read back comes from the memory of the system in any
    // case. So both are done in parallel, and the file gets its name only if both succeed.
    let (synced, checked) = thread::scope(|scope| {
        let syncing = scope.spawn(|| file.sync_all());
        let checked = check(&mut BufReader::with_capacity(1 << 20, again), &written);
        (
            syncing
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("syncing it failed"))),
            checked,
        )
    });
    synced.map_err(failed("write", partial))?;
    checked?;
    Ok(written)
}

/// The temporary name: `.backup.partial` in the same folder for `backup`.
fn partial(path: &Path) -> Result<PathBuf, FileError> {
    let name = path
        .file_name()
        .ok_or_else(|| FileError::NoName(path.to_owned()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".partial");
    Ok(path.with_file_name(hidden))
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn remove_leftover(partial: &Path) -> Result<(), FileError> {
    let Ok(file) = File::open(partial) else {
        return Ok(());
    };
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        return Err(FileError::Busy(partial.to_owned()));
    }
    fs::remove_file(partial).map_err(failed("remove", partial))
}

/// A hard link fails if the name exists; a rename would replace the other file.
fn give_name(partial: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(partial, path) {
        Ok(()) => fs::remove_file(partial),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // The volume does not support hard links.
        Err(_) if !path.try_exists()? => fs::rename(partial, path),
        Err(error) => Err(error),
    }
}

/// Without this, a power cut may lose the new name, although the content is on disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error(transparent)]
        File(#[from] FileError),
        #[error("it reads otherwise")]
        Differs,
    }

    fn text(text: &'static str) -> impl FnOnce(&mut BufWriter<File>) -> Result<(), Failed> {
        move |file| {
            file.write_all(text.as_bytes()).unwrap();
            Ok(())
        }
    }

    fn same(
        expected: &'static str,
    ) -> impl FnOnce(&mut BufReader<File>, &()) -> Result<(), Failed> {
        move |file, ()| {
            let mut seen = String::new();
            file.read_to_string(&mut seen).unwrap();
            if seen == expected {
                Ok(())
            } else {
                Err(Failed::Differs)
            }
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_complete_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.backup");
        save(&path, text("one"), same("one")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(names(folder.path()), ["a.backup"]);
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap()) & 0o777,
            0o600
        );
    }

    #[test]
    fn another_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.backup");
        fs::write(&path, "precious").unwrap();
        assert!(
            save(&path, text("one"), same("one"))
                .unwrap_err()
                .to_string()
                .contains("a.backup")
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(names(folder.path()), ["a.backup"]);
    }

    #[test]
    fn a_file_with_other_content_gets_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let refused = save(&folder.path().join("a.backup"), text("one"), same("two")).unwrap_err();
        assert_eq!(
            (refused.to_string().as_str(), names(folder.path()).len()),
            ("it reads otherwise", 0)
        );
        assert!(save(Path::new("/"), text(""), same("")).is_err());
        assert!(
            save(Path::new("/does/not/exist/a"), text(""), same(""))
                .unwrap_err()
                .to_string()
                .contains("/does/not/exist")
        );
    }

    #[test]
    fn partial_files_of_ended_processes_are_removed_and_those_of_running_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.backup");
        fs::write(partial(&path).unwrap(), "half").unwrap();
        save(&path, text("one"), same("one")).unwrap();
        let other = folder.path().join("b.backup");
        let living = create(&partial(&other).unwrap()).unwrap();
        living.lock().unwrap();
        let busy = save(&other, text("one"), same("one")).unwrap_err();
        assert!(matches!(busy, Failed::File(FileError::Busy(_))), "{busy}");
        assert_eq!(names(folder.path()), [".b.backup.partial", "a.backup"]);
    }
}
