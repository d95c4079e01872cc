//! Data about Milvus releases that a running server reloads without a restart: rows of the user
//! from files or from a mounted `ConfigMap`, merged over the embedded ones. If a file cannot be
//! used, the previous data stays in use.

use std::{
    convert::Infallible,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::sleep};

use crate::mounted::read_settled;
use milvus_guard_core::{
    milvus::catalogue::{Catalogue, validate},
    rules,
};
use milvus_guard_sources::files::read_text_file;

use super::metrics::Metrics;

/// The current data. Clones share it.
#[derive(Clone)]
pub struct Data(Arc<RwLock<Arc<Catalogue>>>);

impl Data {
    /// Data that is used until it is replaced.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>) -> Self {
        Self(Arc::new(RwLock::new(catalogue)))
    }

    /// The current data. A review keeps the same data until it is answered.
    #[must_use]
    pub fn current(&self) -> Arc<Catalogue> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, catalogue: Arc<Catalogue>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = catalogue;
    }
}

impl Default for Data {
    fn default() -> Self {
        Self::new(Catalogue::shared())
    }
}

/// Why files with rows of the user cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataProblem(String);

impl fmt::Display for DataProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name and text of each file, in the order in which they are merged.
type Content = Result<Vec<(String, String)>, DataProblem>;

/// Files and folders with rows of the user.
#[derive(Clone, Debug)]
pub struct DataFiles {
    paths: Vec<PathBuf>,
}

/// Files that are polled, and their last content.
pub struct Follower {
    files: DataFiles,
    data: Data,
    metrics: Arc<Metrics>,
    seen: Content,
    broken: bool,
}

impl DataFiles {
    /// Files (`.yaml`, `.yml`, `.json` of a folder), in the order in which they are merged.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths }
    }

    /// Reads the data for the first time.
    ///
    /// # Errors
    /// If a named file cannot be used. A wrong row in a folder, such as a mounted `ConfigMap`, is
    /// not an error: a server that does not start would block every change of Milvus. It starts
    /// with the embedded data, logs the mistake and counts it.
    pub fn open(self, metrics: Arc<Metrics>) -> Result<Follower, DataProblem> {
        let seen = self.read();
        let data = Data::default();
        let mut follower = Follower {
            files: self,
            data,
            metrics,
            seen,
            broken: false,
        };
        match follower.seen.clone().and_then(|content| laid(&content)) {
            Ok(catalogue) => follower.data.put(catalogue),
            Err(problem) if follower.files.paths.iter().any(|path| path.is_dir()) => {
                follower.broken = true;
                follower.metrics.data_failures.inc();
                tracing::error!(%problem, "custom data cannot be used; the embedded data is used");
            }
            Err(problem) => return Err(problem),
        }
        follower.note();
        Ok(follower)
    }

    /// The files as they were at one time.
    fn read(&self) -> Content {
        read_settled(|| self.read_once())
    }

    fn read_once(&self) -> Content {
        let mut content = Vec::new();
        for path in &self.paths {
            let files = if path.is_dir() {
                listed(path)?
            } else {
                vec![path.clone()]
            };
            for file in files {
                let text = read_text_file(&file).map_err(|error| DataProblem(error.to_string()))?;
                content.push((file.display().to_string(), text));
            }
        }
        Ok(content)
    }
}

/// The data files of a folder, in order of their names, without hidden ones (kubelet's
/// `..data`).
fn listed(folder: &Path) -> Result<Vec<PathBuf>, DataProblem> {
    let unreadable = |error: std::io::Error| DataProblem(format!("{}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let is_data = path.extension().is_some_and(|extension| {
            ["yaml", "yml", "json"]
                .iter()
                .any(|known| extension == *known)
        });
        if !hidden && is_data && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The embedded tables with those of the files merged over them. A mistake in any file is an
/// error: no file is used then.
fn laid(content: &[(String, String)]) -> Result<Arc<Catalogue>, DataProblem> {
    if content.is_empty() {
        return Ok(Catalogue::shared());
    }
    let ids: Vec<&str> = rules::ALL.iter().map(|rule| rule.id).collect();
    let mut catalogue = Catalogue::embedded().clone();
    for (name, text) in content {
        if let Some(flaw) = validate(text, &catalogue, &ids).first() {
            let row = if flaw.row.is_empty() {
                String::new()
            } else {
                format!("{}: ", flaw.row)
            };
            return Err(DataProblem(format!(
                "{name}:{}: {row}{}",
                flaw.line, flaw.message
            )));
        }
        catalogue
            .add(name, text)
            .map_err(|error| DataProblem(error.to_string()))?;
    }
    Ok(Arc::new(catalogue))
}

impl Follower {
    /// A handle to the current data, also after each change of the files.
    #[must_use]
    pub fn data(&self) -> Data {
        self.data.clone()
    }

    /// Reloads changed files, and never returns. Files that cannot be used are logged once and
    /// counted at each poll.
    pub async fn follow(mut self, every: Duration) -> Infallible {
        loop {
            sleep(every).await;
            let files = self.files.clone();
            let content = spawn_blocking(move || files.read()).await;
            self.take(content.unwrap_or_else(|error| Err(DataProblem(error.to_string()))));
        }
    }

    fn take(&mut self, content: Content) {
        if content != self.seen {
            match content.clone().and_then(|content| laid(&content)) {
                Ok(catalogue) => {
                    self.broken = false;
                    self.data.put(catalogue);
                    self.note();
                    tracing::info!(
                        files = content.as_ref().map_or(0, Vec::len),
                        "new data about releases is used"
                    );
                }
                Err(problem) => {
                    self.broken = true;
                    tracing::error!(%problem, "new data about releases cannot be used; the \
                                               previous data is kept");
                }
            }
            self.seen = content;
        }
        if self.broken {
            self.metrics.data_failures.inc();
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "seconds of an epoch fit")]
    fn note(&self) {
        if let Some(day) = self.data.current().as_of() {
            self.metrics.data_day.set(day.seconds() as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWER: &str = "asOf: '2027-01-02'\nreleased: [{version: '2.6.26', date: '2026-12-20'}]\n";

    fn known(follower: &Follower) -> (bool, String) {
        let catalogue = follower.data().current();
        let has = catalogue.released("2.6.26".parse().unwrap()).is_some();
        (
            has,
            catalogue
                .as_of()
                .map(|day| day.to_string())
                .unwrap_or_default(),
        )
    }

    #[test]
    fn changes_in_a_folder_are_loaded_and_invalid_files_keep_the_last_good_data() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let files = DataFiles::new(vec![folder.path().to_owned()]);
        let mut follower = files.open(Arc::clone(&metrics)).unwrap();
        let poll = |follower: &mut Follower| {
            let content = follower.files.read();
            follower.take(content);
        };
        let embedded = Catalogue::embedded().as_of().unwrap().to_string();
        assert_eq!(
            known(&follower),
            (false, embedded.clone()),
            "an empty folder changes nothing"
        );

        fs::write(folder.path().join("rows.yaml"), NEWER).unwrap();
        fs::write(folder.path().join("notes.txt"), "no data").unwrap();
        poll(&mut follower);
        assert_eq!(known(&follower), (true, "2027-01-02".into()));
        assert!(
            metrics
                .render()
                .contains("milvus_guard_data_timestamp_seconds 1798848000"),
            "{}",
            metrics.render()
        );
        assert_eq!(metrics.data_failures.get(), 0);

        for broken in ["released: [", "released: [{version: x}]", "relesed: []"] {
            fs::write(folder.path().join("rows.yaml"), broken).unwrap();
            let before = metrics.data_failures.get();
            poll(&mut follower);
            poll(&mut follower);
            assert_eq!(known(&follower), (true, "2027-01-02".into()), "{broken}");
            assert_eq!(
                metrics.data_failures.get(),
                before + 2,
                "each poll counts: an alert must not end while the file is invalid"
            );
        }

        fs::remove_file(folder.path().join("rows.yaml")).unwrap();
        poll(&mut follower);
        assert_eq!(known(&follower), (false, embedded));
        let failures = metrics.data_failures.get();
        poll(&mut follower);
        assert_eq!(metrics.data_failures.get(), failures);
    }

    #[test]
    fn an_invalid_file_is_an_error_and_an_invalid_folder_starts_with_embedded_data() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rows.yaml");
        fs::write(&file, "released: [{version: x}]").unwrap();
        let metrics = Arc::new(Metrics::new());
        let follower = DataFiles::new(vec![folder.path().to_owned()])
            .open(Arc::clone(&metrics))
            .unwrap();
        assert!(!known(&follower).0);
        assert_eq!(metrics.data_failures.get(), 1);
        let problem = DataFiles::new(vec![file])
            .open(metrics)
            .err()
            .unwrap()
            .to_string();
        assert!(
            problem.contains("rows.yaml:1: released[0] (x)"),
            "{problem}"
        );
    }
}
