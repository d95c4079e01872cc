//! The running state: the release, its etcd, the new image. Read-only.

use crate::{
    engine::{RetryingClient, etcd, release},
    metadata_migration::migratable,
};
use milvus_guard_core::{evidence::Facts, milvus::Release};
use milvus_guard_sources::etcd::Endpoint;

pub use crate::engine::release::SurveyError;

use crate::engine::release::ImageError;

use super::settings::{Operation, Settings};

/// The state before the plan is made.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The running release.
    pub release: Release,
    /// What else is known about its namespace.
    pub facts: Facts,
    /// The addresses and the root path of the metadata.
    pub endpoint: Endpoint,
    /// etcd's addresses as written in the configuration, for the evidence.
    pub configured: Vec<String>,
    /// Image of the new version.
    pub image: String,
}

/// Reads the release and all other inputs of a run.
///
/// # Errors
/// If the release cannot be migrated by this verb at all, or the cluster cannot be queried.
pub async fn survey(
    client: &RetryingClient,
    settings: &Settings,
    operation: Operation,
) -> Result<Survey, SurveyError> {
    let (release, facts) = read(client, settings).await?;
    if let Some(why) = migratable::unsupported(&release) {
        return Err(SurveyError::Unsupported(why));
    }
    let configured = etcd::configured(&release);
    let endpoint = endpoint(settings, &release)?;
    let image = new_image(settings, &release, operation)
        .map_err(|error| SurveyError::Refused(error.to_string()))?;
    Ok(Survey {
        release,
        facts,
        endpoint,
        configured,
        image,
    })
}

/// Reads only the release.
///
/// # Errors
/// If it does not exist, or the cluster cannot be queried.
pub async fn read(
    client: &RetryingClient,
    settings: &Settings,
) -> Result<(Release, Facts), SurveyError> {
    release::read(client, &settings.run.release).await
}

/// Where the metadata is: as given by flags, else as configured, else in the etcd of the release.
fn endpoint(settings: &Settings, release: &Release) -> Result<Endpoint, SurveyError> {
    let metadata = release.metadata();
    let root_path = root_path(settings, release)?;
    let addresses = etcd::addresses(
        &settings.etcd.addresses,
        release,
        &settings.run.release.namespace,
    )
    .map_err(|error| SurveyError::Refused(error.to_string()))?;
    Ok(Endpoint {
        addresses,
        root_path,
        meta_sub_path: metadata.meta_sub_path.value.into_owned(),
        tls: settings.etcd.tls.clone(),
        user: settings.etcd.user.clone(),
        release: Some(release.name.clone()),
    })
}

/// The configured root path. With a wrong path, the run would find no metadata, migrate nothing and
/// start 2.2 on 2.1 metadata.
fn root_path(settings: &Settings, release: &Release) -> Result<String, SurveyError> {
    let metadata = release.metadata();
    let configured = &metadata.root_path.value;
    match &settings.root_path {
        None => Ok(configured.to_string()),
        Some(given) if !release.has_config() || given.trim_matches('/') == configured => {
            Ok(given.clone())
        }
        Some(given) => Err(SurveyError::Refused(format!(
            "-r is {given}, but {} is configured with etcd.rootPath {configured}; remove -r, or \
             correct it",
            release.name
        ))),
    }
}

/// The image of the new version: as given, else the running repository at the target.
fn new_image(
    settings: &Settings,
    release: &Release,
    operation: Operation,
) -> Result<String, ImageError> {
    match (&settings.image, operation) {
        (Some(image), Operation::Migrate) => {
            release::image_fits(image, "-t", settings.target)?;
            Ok(image.clone())
        }
        _ => release::image_at(release, settings.target),
    }
}
