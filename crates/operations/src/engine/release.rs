//! The release that a run is about: found, read, and the image that it gets.

use milvus_guard_core::{
    evidence::Facts,
    milvus::{Build, ImageRef, Release, Version},
};

use super::{ApiError, ReleaseName, RetryingClient};

/// Why a release could not be surveyed. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SurveyError {
    /// The request does not fit the running release.
    #[error("{0}")]
    Refused(String),
    /// There is no such release, or more than one.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// This verb does not support this release; the reason names a verb that does.
    #[error("{0}")]
    Unsupported(String),
    /// The cluster could not be queried.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Why a name does not identify one release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// Several installations have the name.
    #[error(
        "several Milvus installations in namespace {} have the name {}",
        .0.namespace, .0.name
    )]
    Several(ReleaseName),
    /// No installation has it.
    #[error(
        "Milvus {} does not exist in namespace {}; found: {}",
        .wanted.name, .wanted.namespace, listed(.found)
    )]
    Missing {
        /// The requested name.
        wanted: ReleaseName,
        /// Names of the releases that exist.
        found: Vec<String>,
    },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "no Milvus".to_owned()
    } else {
        names.join(", ")
    }
}

/// Why the image of a version could not be determined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The running images are from several repositories.
    #[error(
        "the components of {release} come from several repositories ({}); choose the image with -w",
        .images.join(", ")
    )]
    SeveralRepositories {
        /// The release.
        release: String,
        /// What its images would be at the version.
        images: Vec<String>,
    },
    /// The tag of the given image names another version.
    #[error(
        "-w {image} is {found}, but {flag} is {wanted}: use an image and a version that agree, or \
         remove -w"
    )]
    OtherVersion {
        /// The image that was given.
        image: String,
        /// The version of its tag.
        found: Version,
        /// The flag that names the version.
        flag: &'static str,
        /// The version that it names.
        wanted: Version,
    },
}

/// Reads the running release, and what else is known about its namespace.
///
/// # Errors
/// If it does not exist, or the cluster cannot be queried.
pub async fn read(
    client: &RetryingClient,
    of: &ReleaseName,
) -> Result<(Release, Facts), SurveyError> {
    let namespace = &of.namespace;
    let what = format!("the workloads in namespace {namespace}");
    let reading = client
        .call(&what, async || client.cluster.read(namespace, false).await)
        .await?;
    let found = find(&reading.snapshot.releases, of)?;
    Ok((found.clone(), reading.facts))
}

/// Finds a release in its namespace by the name of its Helm release, or by its own name.
///
/// # Errors
/// If there is none, or several.
pub fn find<'a>(releases: &'a [Release], wanted: &ReleaseName) -> Result<&'a Release, NotFound> {
    let is = |release: &&Release| {
        let marks: Vec<&str> = release
            .components
            .iter()
            .filter_map(|component| {
                component
                    .workload
                    .meta
                    .annotation("meta.helm.sh/release-name")
            })
            .collect();
        if marks.is_empty() {
            release.name == wanted.name
        } else {
            marks.contains(&&*wanted.name)
        }
    };
    let mut found = releases.iter().filter(is);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(NotFound::Several(wanted.clone())),
        (None, _) => Err(NotFound::Missing {
            wanted: wanted.clone(),
            found: releases
                .iter()
                .map(|release| release.name.clone())
                .collect(),
        }),
    }
}

/// The image of a version: the running image with that version.
///
/// # Errors
/// If the components come from several repositories.
pub fn image_at(release: &Release, version: Version) -> Result<String, ImageError> {
    let build = Build::of(version);
    let mut images: Vec<String> = release
        .components
        .iter()
        .map(|component| component.image().at(&build).to_string())
        .collect();
    images.sort();
    images.dedup();
    match images.as_slice() {
        [only] => Ok(only.clone()),
        _ => Err(ImageError::SeveralRepositories {
            release: release.name.clone(),
            images,
        }),
    }
}

/// Refuses an image whose tag names another version than the requested one.
///
/// # Errors
/// If the image has another version.
pub fn image_fits(image: &str, flag: &'static str, version: Version) -> Result<(), ImageError> {
    match ImageRef::parse(image).build() {
        Some(build) if build.version != version => Err(ImageError::OtherVersion {
            image: image.to_owned(),
            found: build.version,
            flag,
            wanted: version,
        }),
        _ => Ok(()),
    }
}

/// Why a tool would undo each step, and how to prevent that; `None` if no tool would.
#[must_use]
pub fn self_healing(release: &Release, facts: &Facts) -> Option<String> {
    let deployer = facts
        .deployers
        .iter()
        .flatten()
        .find(|one| one.release == release.name && one.self_heal)?;
    let suspend = if deployer.tool == "flux" {
        format!("flux suspend helmrelease {}", deployer.name)
    } else {
        format!("argocd app set {} --sync-policy none", deployer.name)
    };
    Some(format!(
        "{} {} reverts changes by others, and would start the old version again; suspend it first: \
         {suspend}",
        deployer.tool, deployer.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_versions_agree() {
        let target = "2.2.16".parse().unwrap();
        assert!(image_fits("milvusdb/milvus:v2.2.16", "-t", target).is_ok());
        assert!(image_fits("registry:5000/milvus:v2.2.16-gpu", "-t", target).is_ok());
        assert!(
            image_fits("milvusdb/milvus:ours", "-t", target).is_ok(),
            "a tag without a version is accepted"
        );
        assert!(
            image_fits("milvusdb/milvus:v2.2.0", "-t", target)
                .unwrap_err()
                .to_string()
                .contains("is 2.2.0, but -t is 2.2.16")
        );
    }
}
