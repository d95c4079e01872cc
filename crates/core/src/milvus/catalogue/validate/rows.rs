//! What a row of each part must hold beyond its form.

use super::{At, Check};
use crate::{
    manifest::Tree,
    milvus::{
        build::Build,
        catalogue::{
            BadRelease, Catalogue, Chart, Circumstances, Condition, Downgrade, Hazard, HazardKind,
            HotfixRule, Landing, Path, Released, SettingFact, Verdict,
        },
        version::Range,
    },
};

/// A row that judges what it covers: no two rows may judge the same differently.
trait Judgement {
    /// What a row covers, as a message says it.
    const COVERED: &'static str;
    /// What tells two rows that cover the same.
    type Scope<'a>: PartialEq
    where
        Self: 'a;

    fn id(&self) -> &str;
    fn verdict(&self) -> Verdict;
    fn scope(&self) -> Self::Scope<'_>;
}

impl Judgement for Path {
    const COVERED: &'static str = "steps";
    type Scope<'a> = (&'a Range, &'a Range, &'a Condition);

    fn id(&self) -> &str {
        &self.id
    }

    fn verdict(&self) -> Verdict {
        self.verdict
    }

    fn scope(&self) -> Self::Scope<'_> {
        (&self.from, &self.to, &self.when)
    }
}

impl Judgement for BadRelease {
    const COVERED: &'static str = "releases";
    type Scope<'a> = (
        (&'a Range, Option<&'a Range>, &'a Circumstances),
        (bool, HotfixRule, Option<&'a str>),
    );

    fn id(&self) -> &str {
        &self.id
    }

    fn verdict(&self) -> Verdict {
        self.verdict
    }

    fn scope(&self) -> Self::Scope<'_> {
        (
            (&self.versions, self.from.as_ref(), &self.when),
            (self.rolling, self.hotfix, self.variant.as_deref()),
        )
    }
}

impl Check<'_> {
    /// Reports a row that another one of the same table contradicts.
    fn contradictions<'r, T: Judgement + 'r>(
        &mut self,
        row: &At<T>,
        table: impl IntoIterator<Item = &'r T>,
    ) {
        let judged = &row.value;
        let contradicts = |other: &&T| {
            other.id() != judged.id()
                && other.scope() == judged.scope()
                && other.verdict() != judged.verdict()
        };
        if let Some(other) = table.into_iter().find(contradicts) {
            let message = format!(
                "contradicts the row {}, which covers the same {}",
                other.id(),
                T::COVERED
            );
            self.add(row.line, &row.row, message);
        }
    }

    pub(super) fn released(&mut self, node: &Tree<'_>) -> Vec<Released> {
        self.rows("released", node)
            .into_iter()
            .map(|row: At<Released>| row.value)
            .collect()
    }

    pub(super) fn downgrades(&mut self, node: &Tree<'_>) -> Vec<Downgrade> {
        let rows: Vec<At<Downgrade>> = self.rows("downgrades", node);
        for row in &rows {
            self.source(row, &row.value.source);
            self.range(row, "from", &row.value.from);
            self.range(row, "to", &row.value.to);
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    pub(super) fn paths(&mut self, node: &Tree<'_>, base: &Catalogue) -> Vec<Path> {
        let rows: Vec<At<Path>> = self.rows("paths", node);
        for row in &rows {
            let path = &row.value;
            self.source(row, &path.source);
            self.range(row, "from", &path.from);
            self.range(row, "to", &path.to);
            self.rule(row, &path.rule);
            if !path.via.is_sorted_by(|one, next| one < next) {
                self.add(
                    row.line,
                    &row.row,
                    "via: the stops must be in ascending order",
                );
            }
            if path.verdict >= Verdict::Warn && (path.reason.is_empty() || path.fix.is_empty()) {
                self.add(
                    row.line,
                    &row.row,
                    "a row that warns or denies needs a reason and a fix",
                );
            }
            self.contradictions(
                row,
                base.paths.iter().chain(rows.iter().map(|row| &row.value)),
            );
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    pub(super) fn releases(&mut self, node: &Tree<'_>, base: &Catalogue) -> Vec<BadRelease> {
        let rows: Vec<At<BadRelease>> = self.rows("releases", node);
        for row in &rows {
            let bad = &row.value;
            self.source(row, &bad.source);
            self.range(row, "versions", &bad.versions);
            if let Some(from) = &bad.from {
                self.range(row, "from", from);
            }
            match bad.r#use {
                None if bad.fix.is_empty() => {
                    self.add(
                        row.line,
                        &row.row,
                        "needs either use (a release without the defect) or fix (what else to do)",
                    );
                }
                Some(better) if bad.versions.contains(better) => {
                    self.add(
                        row.line,
                        &row.row,
                        format!("use: {better} is itself in '{}'", bad.versions),
                    );
                }
                _ => {}
            }
            self.contradictions(
                row,
                base.bad_releases
                    .iter()
                    .chain(rows.iter().map(|row| &row.value)),
            );
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    pub(super) fn landing(&mut self, node: &Tree<'_>) -> Vec<Landing> {
        let rows: Vec<At<Landing>> = self.rows("landing", node);
        for row in &rows {
            if row.value.version.line() != row.value.line {
                self.add(
                    row.line,
                    &row.row,
                    format!(
                        "version: {} is not a release of {}",
                        row.value.version, row.value.line
                    ),
                );
            }
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    pub(super) fn charts(&mut self, node: &Tree<'_>) -> Vec<Chart> {
        let rows: Vec<At<Chart>> = self.rows("charts", node);
        for row in &rows {
            if Build::from_tag(&row.value.tag).is_none() {
                self.add(
                    row.line,
                    &row.row,
                    format!(
                        "tag: no version of Milvus can be read from '{}'",
                        row.value.tag
                    ),
                );
            }
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    pub(super) fn hazards(&mut self, node: &Tree<'_>) -> Vec<Hazard> {
        let rows: Vec<At<Hazard>> = self.rows("hazards", node);
        for row in &rows {
            self.source(row, &row.value.source);
            if let Some(rule) = &row.value.rule {
                self.rule(row, rule);
            }
            match (row.value.kind, &row.value.charts, row.value.at) {
                (HazardKind::Range, None, _) => {
                    self.add(row.line, &row.row, "a row of kind range needs charts");
                }
                (HazardKind::Boundary, _, None) => {
                    self.add(row.line, &row.row, "a row of kind boundary needs at");
                }
                (HazardKind::Range, Some(charts), _) => self.range(row, "charts", charts),
                (HazardKind::Boundary, ..) => {}
            }
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    pub(super) fn settings(&mut self, node: &Tree<'_>) -> Vec<SettingFact> {
        let rows: Vec<At<SettingFact>> = self.rows("settings", node);
        for row in &rows {
            self.source(row, &row.value.source);
            if let Some(rule) = &row.value.rule {
                self.rule(row, rule);
            }
        }
        rows.into_iter().map(|row| row.value).collect()
    }

    /// A landing release that a row warns about in every situation would be recommended by no one.
    pub(super) fn landings_are_good(&mut self, merged: &Catalogue, root: &Tree<'_>) {
        let known = crate::milvus::catalogue::Situation {
            woodpecker_storage: Some("minio".into()),
            ..crate::milvus::catalogue::Situation::default()
        };
        for item in root.items_at(&["landing"]) {
            let Some(version) = item
                .text_at(&["version"])
                .and_then(|text| text.parse().ok())
            else {
                continue;
            };
            let build = Build::of(version);
            let bad = merged
                .bad_releases(&build, None, &known, false)
                .find(|row| {
                    row.verdict >= Verdict::Warn
                        && row.when == Circumstances::default()
                        && row.variant.is_none()
                });
            if let Some(bad) = bad {
                self.add(
                    item.line,
                    "landing",
                    format!("{version} is a release to avoid (row {})", bad.id),
                );
            }
        }
    }
}
