//! What changes with Milvus releases, as data: embedded tables, each row with its source,
//! extendable with `--data FILE`.

mod bad_release;
mod chart;
mod dates;
mod hazard;
mod images;
mod load;
mod management;
mod order;
mod path;
mod setting;
mod situation;
mod tables;
mod target;
mod validate;
mod values;
mod verdict;
mod wanted;

pub use bad_release::{BadRelease, HotfixRule};
pub use chart::{Chart, Danger, DefaultFlip, Published, RemovedValue};
pub use dates::Released;
pub use hazard::{Hazard, HazardKind};
pub use images::{
    DependencyFacts, ImageFolders, KafkaRaft, Mirror, Mirrors, QueueVersions, VanishedImage,
};
pub use load::{DataError, DataFile, embedded_day};
pub use management::{Management, ManagementCall, TargetUpdate};
pub use order::{Constraint, Gate, Order, OrderStep, OrderTopology, Removal};
pub use path::{
    Condition, Downgrade, Path, PointOfNoReturn, PrereleaseCondition, Requirement, RequirementKind,
    Rolling, Route,
};
pub use setting::{Compare, Crossing, Ignored, SettingCondition, SettingFact};
pub(super) use situation::WOODPECKER_STORAGE;
pub use situation::{Circumstances, PulsarTenant, Situation, WoodpeckerStorage};
pub use tables::{Layer, LayerTable, Row, TABLES};
pub use validate::{Flaw, validate};
pub use values::{ChartName, ChartValue};
pub use verdict::Verdict;
pub use wanted::{NoSuchRelease, Wanted};

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::{
    build::Build,
    day::Day,
    version::{Line, Version},
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
    /// Orders that are to be measured: a run uses one only where it is named.
    pub candidate_orders: Vec<Order>,
    /// What Milvus offers at its management port.
    pub management: Vec<Management>,
    /// How query coordinators update the target of what is served.
    pub target_updates: Vec<TargetUpdate>,
    /// Known forms of Milvus' repository.
    pub mirrors: Mirrors,
    /// Facts about dependency images.
    pub dependencies: DependencyFacts,
    /// Settings that must not change, with their defaults.
    pub settings: Vec<SettingFact>,
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
        let keys: BTreeSet<&str> = keys.chain(setting::DECIDING_KEYS).collect();
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
