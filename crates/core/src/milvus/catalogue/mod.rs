//! What changes with Milvus releases, as data: embedded tables, each row with its source,
//! extendable with `--data FILE`.

mod bad_release;
mod dates;
mod load;
mod order;
mod path;
mod situation;
mod tables;
mod target;
mod validate;
mod values;
mod wanted;

pub use bad_release::{BadRelease, HotfixRule};
pub use dates::Released;
pub use load::{DataError, DataFile, embedded_day};
pub use order::{Constraint, Gate, Order, OrderStep, OrderTopology, Removal};
pub use path::{
    Condition, Downgrade, Path, PointOfNoReturn, PrereleaseCondition, Requirement, RequirementKind,
    Rolling, Route,
};
pub use situation::{Circumstances, Situation, WoodpeckerStorage};
pub use tables::{Layer, LayerTable, Row, TABLES};
pub use validate::{Flaw, validate};
pub use values::{ChartName, ChartValue};
pub use wanted::{NoSuchRelease, Wanted};

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    day::Day,
    image::{Build, ImageRef},
    version::{Line, Range, Version},
};

/// All tables.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Of which day the data is.
    pub as_of: Option<Day>,
    /// The files that brought the rows, the embedded ones as one.
    pub layers: Vec<Layer>,
    /// When releases were published.
    pub released: Vec<Released>,
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
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
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
    /// Rule that reports it; absent for facts that only plans mention.
    #[serde(default)]
    pub rule: Option<String>,
    /// How bad.
    pub verdict: Verdict,
    /// When it matters: `queue`, `topology` and similar ones.
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
        self.mirrors
            .iter()
            .any(|mirror| mirror.repository == image.repository)
            || self.suffixes.iter().any(|suffix| {
                image.repository == *suffix
                    || image
                        .repository
                        .strip_suffix(suffix.as_str())
                        .is_some_and(|rest| rest.ends_with('/'))
            })
    }
}

/// Facts about dependency images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DependencyFacts {
    /// `MinIO`'s release from which on the filesystem backend no longer exists
    /// (`RELEASE.2022-10-29...` as a date).
    pub minio_filesystem_cutoff: String,
    /// Where that is known from.
    pub minio_source: Vec<String>,
    /// etcd's minor lines in their order. etcd moves one line at a time.
    #[serde(default)]
    pub etcd_lines: Vec<Line>,
    /// Where that is known from.
    #[serde(default)]
    pub etcd_source: Vec<String>,
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
    /// Path of a repository on Docker Hub, without the registry host; with `/` at its end, the
    /// beginning of one.
    pub prefix: String,
    /// Where the images went, with a registry host where that is another one. It takes the place
    /// of `prefix`.
    pub moved_to: Option<String>,
    /// Tags below this one went nowhere: no registry has them any more.
    #[serde(default)]
    pub lost_before: Option<String>,
    /// Where that is known from.
    pub source: Vec<String>,
}

impl VanishedImage {
    /// Whether an image comes from this repository.
    #[must_use]
    pub fn describes(&self, image: &ImageRef) -> bool {
        let on_docker_hub = image
            .registry()
            .is_none_or(|registry| registry == "docker.io" || registry.ends_with(".docker.io"));
        let path = image.path();
        on_docker_hub
            && if self.prefix.ends_with('/') {
                path.starts_with(&self.prefix)
            } else {
                path == self.prefix
            }
    }

    /// The same image at its new place. `None` if there is none for this tag.
    #[must_use]
    pub fn at_new_place(&self, image: &ImageRef) -> Option<ImageRef> {
        let lost = self
            .lost_before
            .as_deref()
            .zip(image.tag.as_deref())
            .is_some_and(|(first, tag)| tag < first);
        let moved = self.moved_to.as_deref().filter(|_| !lost)?;
        let rest = image.path().strip_prefix(&self.prefix)?;
        Some(ImageRef {
            repository: format!("{moved}{rest}"),
            ..image.clone()
        })
    }
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
    /// Rule that reports it when it changes.
    pub rule: Option<String>,
    /// What that rule does.
    pub verdict: Verdict,
    /// What a change does.
    #[serde(default)]
    pub effect: String,
    /// How a message names it; the key if absent.
    #[serde(default)]
    pub called: Option<String>,
    /// Versions between which the rule reports it also if the setting stays, where it is not at its
    /// default.
    #[serde(default)]
    pub crossing: Option<Crossing>,
    /// For an address: the key of its port.
    #[serde(default)]
    pub port: Option<String>,
    /// For the port of an address: the key of the address, with which it is compared.
    #[serde(default)]
    pub of: Option<String>,
    /// Conditions under which the setting counts, all of them, before and after.
    #[serde(
        default,
        deserialize_with = "conditions",
        serialize_with = "written_conditions"
    )]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    pub when: Vec<SettingCondition>,
    /// How it is compared.
    pub compare: Compare,
    /// Where that is known from.
    pub source: Vec<String>,
}

/// An upgrade from one range of versions to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Crossing {
    /// The running state.
    pub from: Range,
    /// What is wanted.
    pub to: Range,
    /// What goes wrong.
    pub effect: String,
}

impl SettingFact {
    /// How a message names the setting.
    #[must_use]
    pub fn called(&self) -> &str {
        self.called.as_deref().unwrap_or(&self.key)
    }
}

/// How two values of a setting are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compare {
    /// As text.
    Exact,
    /// As a truth value.
    Bool,
    /// As text without slashes at the ends.
    Path,
    /// The queue, metastore or storage that Milvus takes in the end.
    Kind,
    /// Members of one etcd.
    Etcd,
    /// Brokers of one Kafka.
    Brokers,
    /// Addresses of one Pulsar.
    Pulsar,
    /// Host names of one object store.
    Store,
    /// A path, by the place on a volume that it leads to.
    Volume,
    /// A number, of which only a lower value counts.
    Lower,
}

/// A condition under which a setting counts, each with the values that fulfil it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingCondition {
    /// Kind of the message queue.
    Queue(Vec<String>),
    /// `etcd`, `embedded`, `tikv` or `mysql`.
    Metastore(Vec<String>),
    /// `remote`, `local` or `opendal`.
    Storage(Vec<String>),
    /// Where Woodpecker keeps the log.
    Woodpecker(Vec<String>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

fn conditions<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SettingCondition>, D::Error> {
    let written = std::collections::BTreeMap::<String, OneOrMore>::deserialize(deserializer)?;
    let read = |(key, values): (String, OneOrMore)| {
        let values = match values {
            OneOrMore::One(value) => vec![value],
            OneOrMore::More(values) => values,
        };
        match key.as_str() {
            "queue" => Ok(SettingCondition::Queue(values)),
            "metastore" => Ok(SettingCondition::Metastore(values)),
            "storage" => Ok(SettingCondition::Storage(values)),
            "woodpecker" => Ok(SettingCondition::Woodpecker(values)),
            other => Err(serde::de::Error::unknown_field(
                other,
                &["queue", "metastore", "storage", "woodpecker"],
            )),
        }
    };
    written.into_iter().map(read).collect()
}

fn written_conditions<S: serde::Serializer>(
    conditions: &[SettingCondition],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(conditions.iter().map(|condition| match condition {
        SettingCondition::Queue(values) => ("queue", values),
        SettingCondition::Metastore(values) => ("metastore", values),
        SettingCondition::Storage(values) => ("storage", values),
        SettingCondition::Woodpecker(values) => ("woodpecker", values),
    }))
}

static EMBEDDED: OnceLock<Arc<Catalogue>> = OnceLock::new();

impl Catalogue {
    /// The tables of this build, read once. A test proves that they can be read, so that they are
    /// never empty.
    #[must_use]
    pub fn embedded() -> &'static Self {
        Self::once()
    }

    /// The same for anyone who shares it with data that may take its place.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        Arc::clone(Self::once())
    }

    fn once() -> &'static Arc<Self> {
        EMBEDDED.get_or_init(|| Arc::new(Self::read_embedded().unwrap_or_default()))
    }

    /// The keys of Milvus' configuration that rules guard, and those that decide which of them
    /// count. Ordered, each once.
    #[must_use]
    pub fn guarded_keys(&self) -> Vec<&str> {
        let rows = self.settings.iter().filter(|row| row.rule.is_some());
        let keys = rows.flat_map(|row| {
            let names = std::iter::once(&row.key)
                .chain(&row.aliases)
                .chain(&row.port);
            names.map(String::as_str)
        });
        let keys: BTreeSet<&str> = keys.chain(super::settings::DECIDING_KEYS).collect();
        keys.into_iter().collect()
    }

    /// The newest recommended release of a line.
    #[must_use]
    pub fn landing(&self, line: Line) -> Option<Version> {
        self.landing
            .iter()
            .find(|landing| landing.line == line)
            .map(|landing| landing.version)
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
                Build::from_tag(&chart.tag)
                    .is_some_and(|build| build.version == version && build.prerelease.is_none())
            })
            .max_by_key(|chart| chart.version)
    }
}
