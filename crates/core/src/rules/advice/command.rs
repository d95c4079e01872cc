//! Commands that fit the release: milvus-guard, kubectl and `helm upgrade`. A command is made only
//! if everything that it needs is known.

use std::{borrow::Cow, sync::Arc};

use super::{Advice, remedy::ChartPin, shell::command};
use crate::{
    manifest::{Tree, node::Kind},
    milvus::{
        Build, Release, Topology, Version,
        catalogue::Published,
        manager::{ChartSource, Tool},
        release::ComponentWorkload,
    },
};

/// The chart of the Milvus project, under the name that its documentation gives its repository.
pub const CHART: &str = "zilliztech/milvus";

/// The first Helm with `--reset-then-reuse-values` (Helm 3.14.0 release notes).
const REUSES_VALUES: Version = Version::new(3, 14, 0);

/// The image values that differ between the user's values of both sides; `None` if anything else
/// differs, too.
fn image_values(old: &Tree<'_>, new: &Tree<'_>) -> Option<Vec<ChartPin>> {
    const IMAGE: [&str; 2] = ["image.all.repository", "image.all.tag"];
    let (before, after) = (leaves(old), leaves(new));
    let other = |leaves: &[(String, Cow<'_, str>)]| -> Vec<(String, String)> {
        leaves
            .iter()
            .filter(|(path, _)| !IMAGE.contains(&path.as_str()))
            .map(|(path, value)| (path.clone(), value.to_string()))
            .collect()
    };
    if other(&before) != other(&after) {
        return None;
    }
    let find = |leaves: &[(String, Cow<'_, str>)], path: &str| {
        leaves
            .iter()
            .find(|(name, _)| name == path)
            .map(|(_, value)| value.to_string())
    };
    let mut pins = Vec::new();
    for path in IMAGE {
        match (find(&before, path), find(&after, path)) {
            (old, Some(new)) if old.as_ref() != Some(&new) => pins.push(ChartPin::new(path, new)),
            // The chart's default is wanted again: no flag says that for sure.
            (Some(_), None) => return None,
            _ => {}
        }
    }
    Some(pins)
}

/// Every leaf of a tree of values with its path, ordered by path. Empty maps and lists count as
/// leaves.
fn leaves<'t>(root: &'t Tree<'_>) -> Vec<(String, Cow<'t, str>)> {
    fn walk<'t>(node: &'t Tree<'_>, path: &mut String, found: &mut Vec<(String, Cow<'t, str>)>) {
        let mut step = |key: &str, next: &'t Tree<'_>, path: &mut String| {
            let length = path.len();
            if length > 0 {
                path.push('.');
            }
            path.push_str(key);
            walk(next, path, found);
            path.truncate(length);
        };
        match &node.kind {
            Kind::Mapping(entries) if !entries.is_empty() => {
                for (key, next) in entries {
                    step(key, next, path);
                }
            }
            Kind::Sequence(items) if !items.is_empty() => {
                for (at, next) in items.iter().enumerate() {
                    step(&at.to_string(), next, path);
                }
            }
            Kind::Mapping(_) if path.is_empty() => {}
            Kind::Mapping(_) => found.push((path.clone(), "{}".into())),
            Kind::Sequence(_) => found.push((path.clone(), "[]".into())),
            Kind::Scalar { .. } if path.is_empty() && node.is_null() => {}
            Kind::Scalar { .. } => {
                found.push((path.clone(), node.as_str().unwrap_or("null").into()));
            }
        }
    }
    let mut found = Vec::new();
    walk(root, &mut String::new(), &mut found);
    found.sort();
    found
}

/// A value as `--set` reads it: commas, braces, brackets and backslashes lose their meaning.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, ',' | '\\' | '{' | '}' | '[' | ']' | '=') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

impl Advice<'_, '_> {
    /// A command of milvus-guard that only reads, on this release.
    #[must_use]
    pub fn guard(&self, verb: &str, more: &[String]) -> Option<String> {
        let before = self.before();
        let mut words = vec![
            "milvus-guard".to_owned(),
            verb.to_owned(),
            "-i".to_owned(),
            before.title(),
        ];
        if let Some(namespace) = &before.namespace {
            words.extend(["-n".to_owned(), namespace.clone()]);
        }
        words.extend(more.iter().cloned());
        command(&words)
    }

    /// A read-only command of kubectl on an object of the release.
    #[must_use]
    pub fn kubectl(&self, words: &[&str]) -> Option<String> {
        let mut all: Vec<String> = std::iter::once("kubectl")
            .chain(words.iter().copied())
            .map(str::to_owned)
            .collect();
        if let Some(namespace) = &self.before().namespace {
            all.extend(["-n".to_owned(), namespace.clone()]);
        }
        command(&all)
    }

    /// Why `milvus-guard upgrade` and `migrate` cannot work on this release; `None` if they can.
    #[must_use]
    pub fn cannot_run(&self) -> Option<&'static str> {
        let before = self.before();
        if !self.manager.is_chart()
            || before
                .manager
                .alias()
                .or(self.manager.alias())
                .is_some_and(|alias| alias != "milvus")
        {
            return Some("is not a release of the Milvus chart");
        }
        let deployments = before
            .components
            .iter()
            .all(|component| component.workload.meta.object.kind == "Deployment");
        (!deployments).then_some("does not run as Deployments")
    }

    /// The command for an ordered upgrade to what is wanted; `None` if it cannot be made, or not
    /// with the wanted image.
    #[must_use]
    pub fn ordered_upgrade(&self) -> Option<String> {
        let (before, to) = (self.upgrade.before?, self.upgrade.to()?);
        if self.cannot_run().is_some() || to.prerelease.is_some() {
            return None;
        }
        let mut more = vec!["-t".to_owned(), to.version.to_string()];
        more.extend(self.wanted_image(before, to.version)?);
        self.guard("upgrade", &more)
    }

    /// The flags for the wanted image: none where it is the running one at the wanted version, as
    /// the verbs derive it; `None` if the components want several images.
    fn wanted_image(&self, before: &Release, version: Version) -> Option<Vec<String>> {
        let image = self.new_image()?;
        let plain = Build::of(version);
        let derived = before
            .components
            .iter()
            .all(|component| component.image().at(&plain).to_string() == image);
        Some(if derived {
            Vec::new()
        } else {
            vec!["-w".to_owned(), image]
        })
    }

    /// The image that components get by this change, if they all get the same. Those that stay as
    /// they are wait for their turn, as at the workload gate, where one component changes at a
    /// time.
    fn new_image(&self) -> Option<String> {
        let is_new = |component: &&ComponentWorkload| {
            let pair = self
                .upgrade
                .pairs()
                .find(|(_, after)| Arc::ptr_eq(&after.workload, &component.workload));
            pair.is_none_or(|(before, after)| before.image() != after.image())
        };
        let mut images = self
            .upgrade
            .after
            .components
            .iter()
            .filter(is_new)
            .map(|component| component.image().to_string());
        let first = images.next()?;
        images.all(|image| image == first).then_some(first)
    }

    /// The command for a migration of the metadata; `None` if the release cannot be migrated by it.
    #[must_use]
    pub fn migrate(&self, landing: Version) -> Option<String> {
        let before = self.upgrade.before?;
        let from = self.upgrade.from()?;
        let metadata = before.metadata();
        if self.cannot_run().is_some()
            || before.topology() == Topology::Standalone
            || metadata.metastore.value != "etcd"
        {
            return None;
        }
        let mut more = vec![
            "-s".to_owned(),
            from.version.to_string(),
            "-t".to_owned(),
            landing.to_string(),
        ];
        if metadata.root_path.value != "by-dev" {
            more.extend(["-r".to_owned(), metadata.root_path.value.to_string()]);
        }
        if self.upgrade.to_version() == Some(landing) {
            more.extend(self.wanted_image(before, landing)?);
        }
        self.guard("migrate", &more)
    }

    /// The `helm upgrade` that makes the wanted change with these values on top; `None` unless
    /// everything that the change differs in from the running state is known: the user's values on
    /// both sides, the chart and the image.
    pub(in crate::rules) fn helm_upgrade(&self, pins: &[ChartPin]) -> Option<String> {
        let (before, after) = self.upgrade.both()?;
        let chart = self.manager.chart()?;
        if self.manager.tool != Tool::Helm || *chart != ChartSource::default() {
            return None;
        }
        let wanted = after
            .chart
            .as_ref()
            .filter(|chart| chart.name == "milvus")?;
        let published = self
            .upgrade
            .catalogue
            .chart(wanted.version)
            .is_some_and(|row| row.published == Published::Index);
        // Helm reuses the values of the revision that is deployed.
        let (old, new) = (before.helm.as_ref()?, after.helm.as_ref()?);
        let supported = self
            .upgrade
            .facts
            .helm
            .is_none_or(|helm| helm >= REUSES_VALUES);
        if !published || old.status != "deployed" || before.name != after.name || !supported {
            return None;
        }
        let images = image_values(&old.user_values, &new.user_values)?;
        let mut words: Vec<String> = [
            "helm",
            "upgrade",
            &after.name,
            CHART,
            "-n",
            after.namespace.as_deref()?,
        ]
        .map(str::to_owned)
        .into();
        words.extend([
            "--version".to_owned(),
            wanted.version.to_string(),
            "--reset-then-reuse-values".to_owned(),
        ]);
        for pin in images.iter().chain(pins) {
            words.extend([
                "--set".to_owned(),
                format!("{}={}", pin.path, escaped(&pin.value)),
            ]);
        }
        command(&words)
    }
}
