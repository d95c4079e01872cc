//! The address of Milvus' proxies: that of their Service, by name or IP, or the given one.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use k8s_openapi::api::core::v1::Service;
use kube::{Api, ResourceExt, api::ListParams};
use tokio::time::{sleep, timeout};

use crate::engine::{ApiError as ClusterError, CancelReason, RetryingClient};
use milvus_guard_core::milvus::{Component, Release};
use milvus_guard_sources::milvus::{ApiError, Proxy, version};

use super::settings::{AskMilvus, MilvusAccess};

/// Time limit of the first connection. An unreachable Milvus must not hold up the run for longer.
const CONNECT: Duration = Duration::from_secs(1);
/// Pause before the second and last attempt.
const PAUSE: Duration = Duration::from_millis(200);
/// The port of Milvus's proxies.
const PORT: i32 = 19530;
/// The setting of how clients connect: 0 plain, 1 TLS, 2 with client certificates.
const TLS_MODE: &str = "common.security.tlsMode";

/// Why Milvus cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum NoProxy {
    /// The user does not want it to be asked.
    #[error("--milvus {}", AskMilvus::NEVER)]
    Unwanted,
    /// No Service selects its proxies.
    #[error("no Service selects its proxies; give their address with --milvus")]
    NoService,
    /// Services cannot be read.
    #[error(transparent)]
    Services(#[from] ClusterError),
}

/// The proxy of a release, or why there is none.
///
/// # Errors
/// If the process must stop.
pub async fn locate(
    client: &RetryingClient,
    release: &Release,
    namespace: &str,
    access: &MilvusAccess,
) -> Result<Result<Proxy, NoProxy>, CancelReason> {
    let place = match &access.ask {
        AskMilvus::Never => return Ok(Err(NoProxy::Unwanted)),
        AskMilvus::At(address) => return Ok(Ok(proxy_at(access, address.clone()))),
        AskMilvus::AtService => {
            let api: Api<Service> = Api::namespaced(client.kube(), namespace);
            let request = async || api.list(&ListParams::default()).await;
            match client.call("Services", request).await {
                Ok(list) => match service(&list.items, release) {
                    Some(place) => place,
                    None => return Ok(Err(NoProxy::NoService)),
                },
                Err(ClusterError::Cancelled { cause, .. }) => return Err(cause),
                Err(error) => return Ok(Err(error.into())),
            }
        }
    };
    let by_name = proxy_at(access, place.address());
    // Names of Services can be resolved only in the cluster; on some networks outside it their
    // addresses can be reached.
    if let Some(by_ip) = place.address_by_ip()
        && matches!(knock(&by_name).await, Err(ApiError::Unreachable { .. }))
    {
        let mut by_ip = proxy_at(access, by_ip);
        by_ip.server_name.get_or_insert(place.host);
        if !matches!(knock(&by_ip).await, Err(ApiError::Unreachable { .. })) {
            return Ok(Ok(by_ip));
        }
    }
    Ok(Ok(by_name))
}

fn proxy_at(access: &MilvusAccess, address: String) -> Proxy {
    Proxy {
        address,
        tls: access.tls.clone(),
        server_name: access.server_name.clone(),
        login: access.login.clone(),
        databases: Vec::new(),
    }
}

/// The address of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ServiceAddress {
    scheme: &'static str,
    host: String,
    /// The address of the Service, if it has one.
    ip: Option<IpAddr>,
    port: i32,
}

impl ServiceAddress {
    fn address(&self) -> String {
        format!("{}{}:{}", self.scheme, self.host, self.port)
    }

    fn address_by_ip(&self) -> Option<String> {
        let port = u16::try_from(self.port).ok()?;
        Some(format!(
            "{}{}",
            self.scheme,
            SocketAddr::new(self.ip?, port)
        ))
    }
}

/// The address of the Service that selects the pods that answer clients, usable from every pod of
/// the cluster. The chart's own Service has the release's full name; others are tried in the order
/// of their names.
fn service(services: &[Service], release: &Release) -> Option<ServiceAddress> {
    let entrance = |component| release.of(component).next();
    let pods = &entrance(Component::Proxy)
        .or_else(|| entrance(Component::Standalone))?
        .workload
        .pod
        .labels;
    let leads_there = |service: &&Service| {
        let selector = service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| {
            !selector.is_empty()
                && selector
                    .iter()
                    .all(|(key, value)| pods.get(key) == Some(value.as_str()))
        })
    };
    let with_port = |service: &Service| {
        let ports = service.spec.as_ref()?.ports.as_ref()?;
        let named = ports
            .iter()
            .find(|port| port.name.as_deref() == Some("milvus"));
        let port = named
            .or_else(|| ports.iter().find(|port| port.port == PORT))?
            .port;
        let ip = service.spec.as_ref()?.cluster_ip.as_ref();
        Some((service.name_any(), port, ip.and_then(|ip| ip.parse().ok())))
    };
    let mut found: Vec<(String, i32, Option<IpAddr>)> = services
        .iter()
        .filter(leads_there)
        .filter_map(with_port)
        .collect();
    found.sort_by_key(|(name, ..)| (*name != release.fullname, name.clone()));
    let (name, port, ip) = found.into_iter().next()?;
    let scheme = if matches!(release.config.value(TLS_MODE), Some("1" | "2")) {
        "https://"
    } else {
        ""
    };
    let namespace = release.namespace.as_deref().unwrap_or("default");
    Some(ServiceAddress {
        scheme,
        host: format!("{name}.{namespace}.svc"),
        ip,
        port,
    })
}

/// Asks for the version: an answer shows that the address and the login are right.
///
/// # Errors
/// If Milvus does not answer.
pub async fn knock(proxy: &Proxy) -> Result<String, ApiError> {
    match first_answer(proxy).await {
        Err(error) if !error.is_lasting() => {
            sleep(PAUSE).await;
            first_answer(proxy).await
        }
        answer => answer,
    }
}

async fn first_answer(proxy: &Proxy) -> Result<String, ApiError> {
    match timeout(CONNECT, proxy.connect()).await {
        Ok(Ok(_)) => version(proxy).await,
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ApiError::Unreachable {
            address: proxy.address.clone(),
            reason: format!("no connection within {} s", CONNECT.as_secs()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use milvus_guard_core::rules::testing::Fixture;

    fn services(all: &[(&str, Value, Value)]) -> Vec<Service> {
        let one = |(name, selector, ports): &(&str, Value, Value)| json!({"metadata": {"name": name}, "spec": {"selector": selector, "ports": ports}});
        serde_json::from_value(Value::Array(all.iter().map(one).collect())).unwrap()
    }

    #[test]
    fn the_service_of_the_proxies_is_found_by_any_name() {
        let release = Fixture::cluster("2.4.5").release();
        let pods = &release
            .of(Component::Proxy)
            .next()
            .unwrap()
            .workload
            .pod
            .labels;
        let labels: serde_json::Map<String, Value> = pods
            .iter()
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect();
        let namespace = release
            .namespace
            .clone()
            .unwrap_or_else(|| "default".into());
        let (ports, metrics) = (
            json!([{"name": "metrics", "port": 9091}, {"name": "milvus", "port": 29530}]),
            json!([{"port": 9091}]),
        );
        let of = |all: &[(&str, Value, Value)]| {
            service(&services(all), &release).map(|place| place.address())
        };
        let selector = Value::Object(labels);
        assert_eq!(
            of(&[
                ("other", selector.clone(), ports.clone()),
                (&release.fullname, selector.clone(), ports.clone())
            ]),
            Some(format!("{}.{namespace}.svc:29530", release.fullname))
        );
        assert_eq!(
            of(&[
                ("b", selector.clone(), ports.clone()),
                ("a", selector.clone(), json!([{"port": 19530}]))
            ]),
            Some(format!("a.{namespace}.svc:19530"))
        );
        assert_eq!(
            of(&[
                ("a", json!({"component": "no one"}), ports.clone()),
                ("b", selector, metrics)
            ]),
            None
        );
        assert_eq!(of(&[("headless", json!({}), ports)]), None);
    }

    #[test]
    fn a_service_has_an_address_besides_its_name() {
        let place = |ip: Option<&str>| ServiceAddress {
            scheme: "",
            host: "a.milvus.svc".into(),
            ip: ip.map(|ip| ip.parse().unwrap()),
            port: 19530,
        };
        let by_ip = |ip| place(ip).address_by_ip();
        assert_eq!(by_ip(Some("10.96.0.7")).as_deref(), Some("10.96.0.7:19530"));
        assert_eq!(by_ip(Some("fd00::7")).as_deref(), Some("[fd00::7]:19530"));
        assert_eq!(by_ip(None), None, "a headless Service has no address");
    }
}
