//! Which release to recommend. Everything that names a release to move to asks here, so that
//! nothing recommends a release that a row of the tables warns about for this very case.

use std::{borrow::Cow, collections::BTreeSet};

use crate::milvus::{
    build::Build,
    component::Topology,
    version::{Line, Version},
};

use super::{Catalogue, Situation, Verdict};

impl Catalogue {
    /// The release of a line to move to from `from` (`None` for a new installation): the landing
    /// release, else the newest one that no row denies or warns about for this situation. Never
    /// an older one than `from`.
    ///
    /// `None` if the tables know no such release.
    #[must_use]
    pub fn target(
        &self,
        line: Line,
        from: Option<&Build>,
        situation: &Situation,
    ) -> Option<Version> {
        let named = self.bad_releases.iter().filter_map(|row| row.r#use);
        let known: BTreeSet<Version> = self
            .released
            .iter()
            .map(|row| row.version)
            .chain(named)
            .collect();
        self.landing(line)
            .into_iter()
            .chain(known.into_iter().rev())
            .filter(|version| version.line() == line)
            .find(|version| self.is_good(*version, from, situation))
    }

    /// A stop that a row names: that very release, or the one of its line that fits the situation.
    #[must_use]
    pub fn stop(&self, named: Version, from: Option<&Build>, situation: &Situation) -> Version {
        if self.is_good(named, from, situation) {
            return named;
        }
        self.target(named.line(), from, situation).unwrap_or(named)
    }

    /// A text of a row with each `{X.Y}` replaced by the release of that line to move to.
    #[must_use]
    pub fn fill<'a>(
        &self,
        text: &'a str,
        from: Option<&Build>,
        situation: &Situation,
    ) -> Cow<'a, str> {
        let mut filled = Cow::Borrowed(text);
        for landing in &self.landing {
            let token = format!("{{{}}}", landing.line);
            if filled.contains(&token) {
                filled = Cow::Owned(filled.replace(
                    &token,
                    &self.stop(landing.version, from, situation).to_string(),
                ));
            }
        }
        filled
    }

    fn is_good(&self, version: Version, from: Option<&Build>, situation: &Situation) -> bool {
        let build = Build::of(version);
        let rolling = from.is_some() && situation.topology != Some(Topology::Standalone);
        from.is_none_or(|from| *from <= build)
            && !self
                .bad_releases(&build, from, situation, rolling)
                .any(|row| row.verdict >= Verdict::Warn)
    }
}
