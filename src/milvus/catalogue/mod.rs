//! What changes with Milvus releases, as data: embedded tables, each row with its source, extendable with `--data FILE`.

mod load;
mod order;
mod path;
mod values;

pub use load::{DataError, DataFile};
pub use order::{Constraint, Gate, Order, OrderStep, OrderTopology, Removal};
pub use path::{Condition, Downgrade, Path, PointOfNoReturn, Requirement, RequirementKind, Rolling, Route, Situation};
pub use values::{ChartName, ChartValue};

use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    image::{Build, ImageRef},
    version::{Line, Range, Version},
};

/// All tables.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Path table.
    pub paths: Vec<Path>,
    /// Special cases of going back.
    pub downgrades: Vec<Downgrade>,
    /// Releases that should not be used.
    pub bad_releases: Vec<BadRelease>,
    /// Recommended release of each line.
    pub landing: Vec<Landing>,
    /// Chart versions.
    pub charts: Vec<Chart>,
    /// Charts that hurt.
    pub hazards: Vec<Hazard>,
    /// Values that charts from 4.0.0 on ignore.
    pub removed_values: Vec<RemovedValue>,
    /// Defaults that flipped.
    pub default_flips: Vec<DefaultFlip>,
    /// Values that the charts read.
    pub chart_values: Vec<ChartValue>,
    /// Component orders.
    pub orders: Vec<Order>,
    /// Known forms of Milvus' repository.
    pub mirrors: Mirrors,
    /// Facts about dependency images.
    pub dependencies: DependencyFacts,
    /// Settings that must not change, with their defaults.
    pub settings: Vec<SettingFact>,
}

/// What a table says of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Worth knowing.
    Info,
    /// Fine.
    Allow,
    /// Risky.
    Warn,
    /// Unsafe.
    Deny,
}

/// A release that should not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BadRelease {
    /// Unique name of the row.
    pub id: String,
    /// Which releases.
    pub versions: Range,
    /// Bad only when coming from these; absent means always.
    #[serde(default)]
    pub from: Option<Range>,
    /// Bad only in a rolling change.
    #[serde(default)]
    pub rolling: bool,
    /// `excluded`: the `-hotfix` build is fine.
    #[serde(default)]
    pub hotfix: HotfixRule,
    /// Only builds with this suffix, such as `gpu`.
    #[serde(default)]
    pub variant: Option<String>,
    /// Worth a warning also where it is what runs.
    #[serde(default)]
    pub as_source: bool,
    /// How bad.
    pub verdict: Verdict,
    /// What goes wrong.
    pub why: String,
    /// Release to use instead.
    pub r#use: String,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// Whether a row means the project's own repair of a bad release too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HotfixRule {
    /// It does.
    #[default]
    Included,
    /// The `-hotfix` build is fine.
    Excluded,
}

/// The release of a line to land on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Landing {
    /// Line.
    pub line: Line,
    /// Release.
    pub version: Version,
    /// Where that is known from.
    #[serde(default)]
    pub source: Vec<String>,
}

/// A chart version and what it ships.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Chart {
    /// Chart version.
    pub version: Version,
    /// appVersion as written.
    pub app_version: String,
    /// Tag of the default image.
    pub tag: String,
    /// How it can be had.
    pub published: Published,
    /// Where that is known from, where not from the chart itself.
    #[serde(default)]
    pub source: Vec<String>,
}

/// How a chart version can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Published {
    /// In the chart repository's index.
    Index,
    /// As a git tag only.
    TagOnly,
    /// As a file of a GitHub release only.
    ReleaseAsset,
    /// Inferred from its neighbours.
    Inferred,
}

/// Charts that hurt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hazard {
    /// Unique name of the row.
    pub id: String,
    /// Target chart inside `charts`, or an upgrade that crosses `at`.
    pub kind: HazardKind,
    /// For a range.
    #[serde(default)]
    pub charts: Option<Range>,
    /// For a boundary: the first chart with the change.
    #[serde(default)]
    pub at: Option<Version>,
    /// Rule that speaks; absent for facts that only plans mention.
    #[serde(default)]
    pub rule: Option<String>,
    /// How bad.
    pub verdict: Verdict,
    /// When it matters: `queue`, `topology` and the like.
    #[serde(default)]
    pub when: std::collections::BTreeMap<String, String>,
    /// What happens.
    pub effect: String,
    /// Values that avoid it, as `--set` takes them.
    #[serde(default)]
    pub pin: Vec<String>,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// Range or boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HazardKind {
    /// Charts inside a range.
    Range,
    /// Crossing a version.
    Boundary,
}

/// A value that charts from 4.0.0 on no longer read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemovedValue {
    /// Dotted path, or the beginning of one.
    pub path: String,
    /// Key of Milvus' configuration that replaces it.
    #[serde(default)]
    pub became: Option<String>,
    /// What is at stake.
    pub danger: Danger,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// What is at stake when a value is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Danger {
    /// Data.
    Data,
    /// Access to data.
    Security,
    /// Performance.
    Tuning,
}

/// A default that flipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DefaultFlip {
    /// First chart with the new default.
    pub at: Version,
    /// What flips.
    pub text: String,
    /// Values that keep the old behaviour.
    pub pins: Vec<String>,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// Known forms of Milvus' repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirrors {
    /// Whole repositories.
    pub mirrors: Vec<Mirror>,
    /// Last path elements that mark a mirror (`milvusdb/milvus`).
    pub suffixes: Vec<String>,
    /// Repositories of development builds.
    #[serde(default)]
    pub dev_repositories: Vec<String>,
}

/// One known repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirror {
    /// Repository as written in a manifest.
    pub repository: String,
    /// Where it was seen.
    pub source: Vec<String>,
}

impl Mirrors {
    /// Whether a repository is a known form of Milvus' own.
    #[must_use]
    pub fn knows(&self, image: &ImageRef) -> bool {
        self.mirrors.iter().any(|mirror| mirror.repository == image.repository)
            || self.suffixes.iter().any(|suffix| {
                image.repository == *suffix
                    || image.repository.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('/'))
            })
    }
}

/// Facts about dependency images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DependencyFacts {
    /// `MinIO`'s release from which on the filesystem backend is gone (`RELEASE.2022-10-29...` as a date).
    pub minio_filesystem_cutoff: String,
    /// Where that is known from.
    pub minio_source: Vec<String>,
    /// Repositories that are no longer published.
    pub vanished: Vec<VanishedImage>,
    /// Service names whose injected variables break Milvus' configuration.
    pub shadowing_services: Vec<String>,
    /// Where that is known from.
    pub shadowing_source: Vec<String>,
}

/// A repository that is no longer published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VanishedImage {
    /// What the repository's path (without registry host) begins with.
    pub prefix: String,
    /// Where the images went.
    pub moved_to: Option<String>,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// A setting that must not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettingFact {
    /// Key of Milvus' configuration.
    pub key: String,
    /// Older spellings.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What Milvus takes where it is absent.
    #[serde(default)]
    pub default: Option<String>,
    /// Rule that watches it; absent for settings that only reports mention.
    #[serde(default)]
    pub rule: Option<String>,
    /// How bad a change is.
    pub verdict: Verdict,
    /// What a change does.
    #[serde(default)]
    pub effect: String,
    /// How it is compared.
    #[serde(default)]
    pub compare: Option<String>,
    /// Where that is known from.
    pub source: Vec<String>,
}

static EMBEDDED: OnceLock<Catalogue> = OnceLock::new();

impl Catalogue {
    /// The tables of this build, read once. A test proves that they can be read, so that they are never empty.
    pub fn embedded() -> &'static Self {
        EMBEDDED.get_or_init(|| Self::read_embedded().unwrap_or_default())
    }

    /// The newest recommended release of a line.
    #[must_use]
    pub fn landing(&self, line: Line) -> Option<Version> {
        self.landing.iter().find(|landing| landing.line == line).map(|landing| landing.version)
    }

    /// Rows about a target release, when coming from `from` (absent for a new installation) in a rolling change or not.
    pub fn bad_releases<'a>(
        &'a self,
        to: &'a Build,
        from: Option<&'a Build>,
        rolling: bool,
    ) -> impl Iterator<Item = &'a BadRelease> {
        self.bad_releases.iter().filter(move |row| {
            row.describes(to)
                && (!row.rolling || rolling)
                && row.from.as_ref().is_none_or(|range| from.is_some_and(|from| range.contains(from.version)))
        })
    }

    /// The chart of this version.
    #[must_use]
    pub fn chart(&self, version: Version) -> Option<&Chart> {
        self.charts.iter().find(|chart| chart.version == version)
    }

    /// The newest published chart whose default image is this Milvus release.
    #[must_use]
    pub fn chart_for(&self, version: Version) -> Option<&Chart> {
        self.charts
            .iter()
            .filter(|chart| chart.published == Published::Index)
            .filter(|chart| {
                Build::from_tag(&chart.tag).is_some_and(|build| build.version == version && build.prerelease.is_none())
            })
            .max_by_key(|chart| chart.version)
    }
}

impl BadRelease {
    /// Whether the row means this build.
    #[must_use]
    pub fn describes(&self, build: &Build) -> bool {
        self.versions.contains(build.version)
            && !(self.hotfix == HotfixRule::Excluded && build.is_hotfix())
            && self.variant.as_ref().is_none_or(|variant| build.suffixes.contains(variant))
    }
}
