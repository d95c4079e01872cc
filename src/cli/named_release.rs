//! `-t` of the verbs that need one release: later a line or `latest` may mean another release.

use milvus_guard_core::milvus::{
    Version,
    catalogue::{Catalogue, Situation, Wanted},
};

use super::exit::Failure;

/// Texts of the message with which a verb asks for one release.
pub(super) struct Ask {
    /// Why it needs one, after a colon.
    pub(super) why: &'static str,
    /// How to name a build in addition to the release; follows the release in the message.
    pub(super) with_build: &'static str,
}

impl Ask {
    /// The release that `-t` names.
    ///
    /// # Errors
    /// A build of a release; a line or `latest`, with the release that the data recommends.
    pub(super) fn release(&self, wanted: &Wanted) -> Result<Version, Failure> {
        match wanted {
            Wanted::Build(build) if build.suffixes.is_empty() => Ok(build.version),
            Wanted::Build(build) => Err(Failure::usage(format!(
                "'{build}' is not a release; give -t {}{}",
                build.version, self.with_build
            ))),
            Wanted::Line(_) | Wanted::Latest => {
                let chosen = Catalogue::embedded()
                    .choose(wanted, None, &Situation::default())
                    .map_err(Failure::usage)?;
                Err(Failure::usage(format!(
                    "'{wanted}' is not a release: {}. The recommended one is {chosen}: -t {chosen}",
                    self.why
                )))
            }
        }
    }
}
