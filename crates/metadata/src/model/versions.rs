//! Versions between which metadata can be migrated: the rules of the official tool.

use semver::Version;

/// What a pair of versions requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The metadata has to be migrated.
    Migrate,
    /// Both have the metadata of 2.1; there is nothing to do.
    Compatible,
}

/// Versions without a migration between them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionsError {
    /// A text is not a version.
    #[error("'{0}' is not a version: write all three numbers and no v, such as 2.1.4")]
    Text(String),
    /// The target is lower than the source.
    #[error(
        "the target {target} is lower than the source {source_version}; to go back, restore a \
         backup"
    )]
    Backwards {
        /// Version before.
        source_version: Version,
        /// Version after.
        target: Version,
    },
    /// The source has the new metadata already.
    #[error("{0} already has the metadata of 2.2: it needs no migration, upgrade it directly")]
    AlreadyNew(Version),
    /// The source is older than 2.1.
    #[error(
        "metadata of {0} cannot be migrated: upgrade Milvus to 2.1.4 first, then migrate from there"
    )]
    TooOld(Version),
    /// The target is newer than 2.2.
    #[error(
        "metadata can be migrated to 2.2 only, not to {0}: migrate to 2.2.16 first, then upgrade Milvus from there"
    )]
    TooNew(Version),
}

/// Checks a source and a target as given (`x.y.z`, by semantic versioning: `2.2.0-rc1` is before
/// `2.2.0`).
///
/// # Errors
/// If one is not a version, or there is no migration from one to the other.
pub fn transition(source: &str, target: &str) -> Result<Transition, VersionsError> {
    let (source, target) = (version(source)?, version(target)?);
    let (v21, v22, v23) = (
        Version::new(2, 1, 0),
        Version::new(2, 2, 0),
        Version::new(2, 3, 0),
    );
    if target < source {
        return Err(VersionsError::Backwards {
            source_version: source,
            target,
        });
    }
    if target < v22 {
        return Ok(Transition::Compatible);
    }
    if source < v21 {
        return Err(VersionsError::TooOld(source));
    }
    if source >= v22 {
        return Err(VersionsError::AlreadyNew(source));
    }
    if target >= v23 {
        Err(VersionsError::TooNew(target))
    } else {
        Ok(Transition::Migrate)
    }
}

fn version(text: &str) -> Result<Version, VersionsError> {
    Version::parse(text).map_err(|_| VersionsError::Text(text.into()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // Case 39.
    #[rstest]
    #[case("2.1.4", "2.2.16", Ok(Transition::Migrate))]
    #[case("2.1.0", "2.2.0", Ok(Transition::Migrate))]
    #[case("2.2.0-rc1", "2.2.0", Ok(Transition::Migrate))]
    #[case("2.1.4", "2.1.5", Ok(Transition::Compatible))]
    #[case("2.1.4", "2.2.0-rc1", Ok(Transition::Compatible))]
    #[case("2.0.2", "2.2.0", Err("2.0.2 cannot be migrated"))]
    #[case("2.1.4", "2.3.1", Err("to 2.2 only, not to 2.3.1"))]
    #[case("v2.1.4", "2.2.0", Err("'v2.1.4' is not a version"))]
    #[case("2.1", "2.2.0", Err("'2.1' is not a version"))]
    #[case("2.2.1", "2.1.0", Err("lower than the source 2.2.1"))]
    #[case("2.2.3", "2.2.16", Err("already has the metadata of 2.2"))]
    fn pairs_are_checked_by_the_rules_of_the_official_tool(
        #[case] source: &str,
        #[case] target: &str,
        #[case] expected: Result<Transition, &str>,
    ) {
        match (transition(source, target), expected) {
            (Ok(transition), Ok(expected)) => assert_eq!(transition, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (judged, expected) => panic!("{judged:?} instead of {expected:?}"),
        }
    }
}
