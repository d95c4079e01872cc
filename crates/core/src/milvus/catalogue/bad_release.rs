//! Releases that should not be used.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::milvus::{build::Build, version::Range, version::Version};

use super::{Catalogue, Circumstances, Situation, Verdict};

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
    /// When it matters; absent means always.
    #[serde(default)]
    pub when: Circumstances,
    /// Bad only in a rolling change.
    #[serde(default)]
    pub rolling: bool,
    /// `excluded`: the `-hotfix` build is fine.
    #[serde(default)]
    pub hotfix: HotfixRule,
    /// Only builds with this suffix, such as `gpu`.
    #[serde(default)]
    pub variant: Option<String>,
    /// Worth a warning also where it is the running state.
    #[serde(default)]
    pub as_source: bool,
    /// How bad.
    pub verdict: Verdict,
    /// What goes wrong.
    pub why: String,
    /// A release without the defect. Absent if no other release helps; then `fix` says what does.
    /// What is recommended is chosen by [`Catalogue::target`], which passes over a release
    /// that another row warns about.
    #[serde(default)]
    pub r#use: Option<Version>,
    /// What to do, if it is something else than to take another release.
    #[serde(default)]
    pub fix: String,
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

impl BadRelease {
    /// Whether the row means this build, for a release with these variants of images.
    #[must_use]
    pub fn describes(&self, build: &Build, variants: &[String]) -> bool {
        self.versions.contains(build.version)
            && !(self.hotfix == HotfixRule::Excluded && build.is_hotfix())
            && self.variant.as_ref().is_none_or(|variant| {
                build.suffixes.contains(variant) || variants.contains(variant)
            })
    }
}

impl Catalogue {
    /// Rows about a target release, coming from `from` (`None` for a new installation) in a rolling
    /// change or not. A row whose condition is about something unknown counts.
    pub fn bad_releases<'a>(
        &'a self,
        to: &'a Build,
        from: Option<&'a Build>,
        situation: &'a Situation,
        rolling: bool,
    ) -> impl Iterator<Item = &'a BadRelease> {
        self.bad_releases.iter().filter(move |row| {
            row.describes(to, &situation.variants)
                && (!row.rolling || rolling)
                && row.when.may_be(situation)
                && row
                    .from
                    .as_ref()
                    .is_none_or(|range| from.is_some_and(|from| range.contains(from.version)))
        })
    }

    /// Rows about a release that already runs.
    pub fn bad_sources<'a>(
        &'a self,
        from: &'a Build,
        situation: &'a Situation,
    ) -> impl Iterator<Item = &'a BadRelease> {
        self.bad_releases.iter().filter(move |row| {
            row.as_source && row.describes(from, &situation.variants) && row.when.may_be(situation)
        })
    }
}
