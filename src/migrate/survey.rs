//! What runs: the release, its etcd, the image to come. Read only.

use crate::{
    etcd::client::Endpoint,
    facts::Facts,
    migrate::fitness,
    milvus::Release,
    run::{Link, release},
};

pub use crate::run::release::SurveyError;

use super::settings::{Operation, Settings};

/// Port of etcd where an address names none.
const ETCD_PORT: u16 = 2379;

/// What is known before anything is decided.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The release as it runs.
    pub release: Release,
    /// What else is known about its namespace.
    pub facts: Facts,
    /// Where the metadata is.
    pub endpoint: Endpoint,
    /// etcd's addresses as the configuration spells them, for the evidence.
    pub configured: Vec<String>,
    /// Image of the new version.
    pub image: String,
}

/// Reads the release and all that a run is made from.
///
/// # Errors
/// Where the release cannot be migrated by this verb at all, or the cluster cannot be asked.
pub async fn survey(link: &Link, settings: &Settings, operation: Operation) -> Result<Survey, SurveyError> {
    let (release, facts) = read(link, settings).await?;
    if let Some(why) = fitness::never(&release) {
        return Err(SurveyError::Refused(why));
    }
    let configured = configured(&release);
    let endpoint = endpoint(settings, &release, &configured).map_err(SurveyError::Refused)?;
    let image = new_image(settings, &release, operation).map_err(SurveyError::Refused)?;
    Ok(Survey { release, facts, endpoint, configured, image })
}

/// Reads the release alone.
///
/// # Errors
/// Where it is not there, or the cluster cannot be asked.
pub async fn read(link: &Link, settings: &Settings) -> Result<(Release, Facts), SurveyError> {
    release::read(link, &settings.release).await
}

/// etcd's addresses as the configuration spells them.
fn configured(release: &Release) -> Vec<String> {
    let metadata = release.metadata();
    let written = metadata.endpoints.setting.map(|setting| setting.value).unwrap_or_default();
    written.split(',').map(str::trim).filter(|address| !address.is_empty()).map(str::to_owned).collect()
}

/// Where the metadata is: as the flags say, else as the configuration says, else the etcd of the release.
fn endpoint(settings: &Settings, release: &Release, configured: &[String]) -> Result<Endpoint, String> {
    let metadata = release.metadata();
    let root_path = root_path(settings, release)?;
    let service = format!("{}-etcd", release.name);
    let addresses = if !settings.etcd.is_empty() {
        settings.etcd.clone()
    } else if !configured.is_empty() {
        configured.iter().map(|address| in_cluster(address, &settings.release.namespace)).collect()
    } else if release.services.iter().any(|one| one.object.name == service) {
        vec![in_cluster(&service, &settings.release.namespace)]
    } else {
        return Err(format!(
            "nothing tells which etcd {} uses: its configuration could not be read and there is no Service {service}; name it with -e",
            release.name
        ));
    };
    Ok(Endpoint {
        addresses,
        root_path,
        meta_sub_path: metadata.meta_sub_path.value,
        tls: settings.etcd_tls.clone(),
        user: settings.etcd_user.clone(),
        release: Some(release.name.clone()),
    })
}

/// The root path, as it is configured. A wrong one would find nothing, migrate nothing and start 2.2 on it.
fn root_path(settings: &Settings, release: &Release) -> Result<String, String> {
    let metadata = release.metadata();
    let configured = &metadata.root_path.value;
    match &settings.root_path {
        None => Ok(configured.clone()),
        Some(given) if !release.has_config() || given.trim_matches('/') == configured => Ok(given.clone()),
        Some(given) => Err(format!(
            "-r says {given}, and {} is configured with etcd.rootPath {configured}; leave -r out, or correct it",
            release.name
        )),
    }
}

/// An address that means the same from every namespace: a bare Service name gets the release's.
fn in_cluster(address: &str, namespace: &str) -> String {
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port.to_owned()),
        _ => (rest, ETCD_PORT.to_string()),
    };
    let host =
        if host.contains(['.', ':', '[']) || host == "localhost" { host.to_owned() } else { format!("{host}.{namespace}.svc") };
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    format!("{scheme}{host}:{port}")
}

/// The image of the new version: as given, else the running repository at the target.
fn new_image(settings: &Settings, release: &Release, operation: Operation) -> Result<String, String> {
    match (&settings.image, operation) {
        (Some(image), Operation::Migrate) => {
            release::image_fits(image, "-t", settings.target)?;
            Ok(image.clone())
        }
        _ => release::image_at(release, settings.target),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("my-release-etcd:2379", "my-release-etcd.milvus.svc:2379")]
    #[case("my-release-etcd", "my-release-etcd.milvus.svc:2379")]
    #[case("http://etcd:2379", "http://etcd.milvus.svc:2379")]
    #[case("etcd.deps:2379", "etcd.deps:2379")]
    #[case("10.0.0.1:2379", "10.0.0.1:2379")]
    #[case("https://etcd.example.com", "https://etcd.example.com:2379")]
    fn addresses_mean_the_same_from_every_namespace(#[case] written: &str, #[case] expected: &str) {
        assert_eq!(in_cluster(written, "milvus"), expected);
    }
}
