//! The addresses of a release's etcd, and how to connect to it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use milvus_guard_core::milvus::Release;
use milvus_guard_sources::etcd::Tls;

/// Port of etcd if an address does not name one.
const PORT: u16 = 2379;

/// How to connect to the etcd of a release.
#[derive(Clone, Default)]
pub struct EtcdAccess {
    /// Addresses (`-e`); empty means those of the configuration.
    pub addresses: Vec<String>,
    /// TLS settings, if the system's certificate authorities are not enough.
    pub tls: Option<Tls>,
    /// User and password.
    pub user: Option<(String, String)>,
}

impl fmt::Debug for EtcdAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdAccess")
            .field("addresses", &self.addresses)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// etcd's addresses as written in the configuration.
#[must_use]
pub fn configured(release: &Release) -> Vec<String> {
    let metadata = release.metadata();
    let written = metadata
        .endpoints
        .setting
        .map(|setting| setting.value)
        .unwrap_or_default();
    written
        .split(',')
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The addresses of a release's etcd are unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the etcd of {release} is unknown: its configuration could not be read and Service {service} \
     does not exist; name it with -e"
)]
pub struct UnknownEtcd {
    /// The release.
    pub release: String,
    /// The Service that the chart would create.
    pub service: String,
}

/// etcd's addresses, usable from every pod of the cluster: the given ones, else those of the
/// configuration, else the Service of the chart.
///
/// # Errors
/// If no address is known.
pub fn addresses(
    given: &[String],
    release: &Release,
    namespace: &str,
) -> Result<Vec<String>, UnknownEtcd> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let configured = configured(release);
    if !configured.is_empty() {
        return Ok(configured
            .iter()
            .map(|address| in_cluster(address, namespace))
            .collect());
    }
    let service = format!("{}-etcd", release.name);
    if release
        .services
        .iter()
        .any(|one| one.object.name == service)
    {
        return Ok(vec![in_cluster(&service, namespace)]);
    }
    Err(UnknownEtcd {
        release: release.name.clone(),
        service,
    })
}

/// An address that works in every namespace: a bare Service name gets the release's namespace.
fn in_cluster(address: &str, namespace: &str) -> String {
    let (scheme, rest) = address
        .split_once("://")
        .map_or(("", address), |(scheme, rest)| (scheme, rest));
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host, port.to_owned())
        }
        _ => (rest, PORT.to_string()),
    };
    let host = if host.contains(['.', ':', '[']) || host == "localhost" {
        host.to_owned()
    } else {
        format!("{host}.{namespace}.svc")
    };
    let scheme = if scheme.is_empty() {
        String::new()
    } else {
        format!("{scheme}://")
    };
    format!("{scheme}{host}:{port}")
}

/// The name of a Service in an address, as pods of the cluster use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    scheme: String,
    port: u16,
}

impl ServiceName {
    /// From `http://etcd.milvus.svc:2379`, `etcd.milvus:2379` or
    /// `etcd-0.etcd-headless.milvus.svc.cluster.local:2379`; `None` if it is something else.
    #[must_use]
    pub fn in_address(address: &str) -> Option<Self> {
        let (scheme, rest) = address
            .split_once("://")
            .map_or(("", address), |(scheme, rest)| (scheme, rest));
        let (host, port) = rest.rsplit_once(':')?;
        if host.parse::<IpAddr>().is_ok() {
            return None;
        }
        let host = host.strip_suffix(".cluster.local").unwrap_or(host);
        let labels: Vec<&str> = host.split('.').collect();
        let ([name, namespace] | [name, namespace, "svc"] | [_, name, namespace, "svc"]) =
            labels[..]
        else {
            return None;
        };
        let scheme = if scheme.is_empty() {
            String::new()
        } else {
            format!("{scheme}://")
        };
        Some(Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            scheme,
            port: port.parse().ok()?,
        })
    }

    /// The address with this IP address in place of the name.
    #[must_use]
    pub fn at(&self, ip: IpAddr) -> String {
        format!("{}{}", self.scheme, SocketAddr::new(ip, self.port))
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
    fn addresses_work_in_every_namespace(#[case] written: &str, #[case] expected: &str) {
        assert_eq!(in_cluster(written, "milvus"), expected);
    }

    #[rstest]
    #[case("my-release-etcd.milvus.svc:2379", "10.0.0.7:2379")]
    #[case("http://etcd.deps:2379", "http://10.0.0.7:2379")]
    #[case("etcd-0.etcd-headless.milvus.svc.cluster.local:2380", "10.0.0.7:2380")]
    fn a_service_is_reached_by_its_address_too(#[case] written: &str, #[case] expected: &str) {
        let name = ServiceName::in_address(written).unwrap();
        assert_eq!(name.at("10.0.0.7".parse().unwrap()), expected);
    }

    #[rstest]
    #[case("10.0.0.1:2379")]
    #[case("localhost:2379")]
    #[case("https://etcd.eu.example.com:2379")]
    fn other_addresses_name_no_service(#[case] written: &str) {
        assert_eq!(ServiceName::in_address(written), None);
    }
}
