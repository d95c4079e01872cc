//! A case of `policy test`: a folder with current state, desired state and expected result.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

use milvus_guard_core::{
    evaluate::{Evaluation, EvaluationInput, Verdict, judge},
    evidence::Facts,
    manifest::documents,
    milvus::{Snapshot, catalogue::Catalogue},
    policy::{Action, PolicySet, read::WRONG_TIME},
};
use milvus_guard_sources::files::{self, Loaded, Role, read_text_file, reason};

use crate::cli::{
    exit::Failure,
    gather::{self, Source},
};

/// The expected result of a case.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Expectation {
    pub(super) verdict: Option<ExpectedVerdict>,
    #[serde(default)]
    pub(super) findings: Vec<ExpectedFinding>,
    #[serde(default)]
    pub(super) absent: Vec<String>,
    #[serde(default)]
    pub(super) now: Option<Timestamp>,
    #[serde(default)]
    pub(super) before: Option<String>,
    #[serde(default)]
    pub(super) after: Option<String>,
    #[serde(default)]
    pub(super) namespace: Option<String>,
    #[serde(default)]
    pub(super) rollback: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ExpectedVerdict {
    Allow,
    Warn,
    Deny,
}

impl ExpectedVerdict {
    pub(super) const fn verdict(self) -> Verdict {
        match self {
            Self::Allow => Verdict::Allow,
            Self::Warn => Verdict::Warn,
            Self::Deny => Verdict::Deny,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExpectedFinding {
    pub(super) rule: String,
    #[serde(default)]
    pub(super) action: Option<Action>,
    #[serde(default)]
    pub(super) component: Option<String>,
}

pub(super) fn find_cases(
    folder: &Path,
    depth: u8,
    found: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    if named(folder, "expect").is_some() {
        found.push(folder.to_owned());
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).map_err(|error| {
        Failure::usage(format!(
            "cannot read {}: {}",
            folder.display(),
            reason(&error)
        ))
    })?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    for inner in folders.iter().filter(|_| depth > 0) {
        find_cases(inner, depth - 1, found)?;
    }
    Ok(())
}

/// A file or folder of a case.
fn named(folder: &Path, name: &str) -> Option<PathBuf> {
    ["yaml", "yml", "json"]
        .iter()
        .map(|extension| folder.join(format!("{name}.{extension}")))
        .find(|path| path.is_file())
        .or_else(|| Some(folder.join(name)).filter(|path| path.is_dir()))
}

pub(super) fn expectation(folder: &Path) -> Result<Expectation, Failure> {
    let path = named(folder, "expect")
        .ok_or_else(|| Failure::usage(format!("{} has no expect.yaml", folder.display())))?;
    let text = read_text_file(&path).map_err(Failure::usage)?;
    let name = path.display();
    let Some(document) = documents(&text).next() else {
        return Err(Failure::usage(format!("{name} is empty")));
    };
    let document = document.map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    serde_path_to_error::deserialize(document.root.to_json()).map_err(|error| {
        let path = error.path().to_string();
        let why = match path.as_str() {
            "now" => WRONG_TIME.to_owned(),
            _ => error.inner().to_string(),
        };
        Failure::usage(format!("{name}: {path}: {why}"))
    })
}

pub(super) fn judge_case(
    folder: &Path,
    expectation: &Expectation,
    policies: &PolicySet,
    catalogue: &Catalogue,
) -> Result<Evaluation, Failure> {
    let mut facts: Facts = gather::facts(named(folder, "facts").as_ref())?;
    let after = expectation
        .after
        .as_ref()
        .map(|after| after.parse::<Source>())
        .transpose()
        .map_err(Failure::usage)?;
    let load = |role: Role, path: &Path, keep: Vec<(String, String)>| -> Result<Loaded, Failure> {
        let how = files::Reading {
            namespace: expectation.namespace.as_deref(),
            keep,
        };
        files::load(role, &path.display().to_string(), &how).map_err(Failure::usage)
    };
    let wanted = match &after {
        Some(Source::Version(_)) => None,
        Some(Source::File(name)) => Some(folder.join(name)),
        Some(_) => {
            return Err(Failure::usage(format!(
                "{}: a case cannot read a cluster",
                folder.display()
            )));
        }
        None => {
            let none = || Failure::usage(format!("{} has no after.yaml", folder.display()));
            Some(named(folder, "after").ok_or_else(none)?)
        }
    };
    let mut wanted = wanted
        .map(|path| Ok((load(Role::After, &path, Vec::new())?, path)))
        .transpose()?;
    let patches = wanted
        .as_ref()
        .map(|(loaded, _)| loaded.content.patches())
        .unwrap_or_default();
    let holds_milvus = |snapshot: &Snapshot, path: &Path| {
        let no_milvus = || Failure::usage(format!("{} does not contain Milvus", path.display()));
        snapshot.releases.first().map(|_| ()).ok_or_else(no_milvus)
    };
    let running = expectation
        .before
        .as_ref()
        .map(|name| folder.join(name))
        .or_else(|| named(folder, "before"));
    let before = if let Some(path) = running {
        let loaded = load(Role::Before, &path, patches)?;
        holds_milvus(&loaded.snapshot, &path)?;
        if let Some((wanted, _)) = &mut wanted {
            files::part::settle(&loaded, wanted, files::part::Choice::Seen)
                .map_err(Failure::usage)?;
        }
        Some(loaded.snapshot)
    } else {
        if let Some((wanted, _)) = &mut wanted {
            wanted.snapshot = wanted.content.builder().build();
        }
        None
    };
    if let Some(before) = &before {
        files::evidence::complete(before, &mut facts);
    }
    let after = match (after, wanted) {
        (_, Some((loaded, path))) => {
            holds_milvus(&loaded.snapshot, &path)?;
            loaded.snapshot
        }
        (Some(Source::Version(wanted)), None) => {
            let Some(running) = &before else {
                return Err(Failure::usage(format!(
                    "{}: after: version:... needs a before.yaml",
                    folder.display()
                )));
            };
            gather::at_version(running, &wanted, catalogue)?.0
        }
        (_, None) => {
            return Err(Failure::usage(format!(
                "{} has no after.yaml",
                folder.display()
            )));
        }
    };
    Ok(judge(&EvaluationInput {
        before: before.as_ref(),
        after: &after,
        facts: &facts,
        catalogue,
        policies,
        is_rollback: expectation.rollback,
        deletes: None,
        accepted: &[],
        overdue: None,
    }))
}
