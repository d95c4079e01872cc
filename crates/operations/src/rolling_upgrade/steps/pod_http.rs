//! Reads what Milvus' pods report at their port for metrics and health.

use std::{net::IpAddr, time::Duration};

use http::{
    HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use tokio::{net::TcpStream, time::timeout};

use milvus_guard_core::error_text;

/// The port if a pod names none as `metrics`.
pub(super) const PORT: u16 = 9091;
/// Time limit of the connection to a pod.
const CONNECT: Duration = Duration::from_secs(1);
/// Time limit of its answer.
const ANSWER: Duration = Duration::from_secs(3);

/// Why a pod did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    /// The pod was not reached, or the connection broke: why.
    #[error("{0}")]
    Unreached(String),
    /// The pod was reached and did not answer in time.
    #[error("no answer in time")]
    Late,
}

/// Address and port of a pod; `None` if it has no address.
pub(super) fn place(pod: &Pod) -> Option<(IpAddr, u16)> {
    let ip = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    let ports = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .flat_map(|container| container.ports.iter().flatten());
    let named = ports
        .filter(|port| port.name.as_deref() == Some("metrics"))
        .find_map(|port| u16::try_from(port.container_port).ok());
    Some((ip, named.unwrap_or(PORT)))
}

/// Status and text of an answer; no text if it has more bytes than `most`.
pub(super) async fn get(
    place: (IpAddr, u16),
    path: &'static str,
    most: usize,
) -> Result<(StatusCode, String), NoAnswer> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = Uri::from_static(path);
    exchange(place, request, most, ANSWER).await
}

/// The same for a posted form, with another time limit.
pub(super) async fn post(
    place: (IpAddr, u16),
    path: &'static str,
    form: String,
    most: usize,
    limit: Duration,
) -> Result<(StatusCode, String), NoAnswer> {
    let mut request = Request::new(Full::from(form));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(path);
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, form);
    exchange(place, request, most, limit).await
}

async fn exchange(
    place: (IpAddr, u16),
    mut request: Request<Full<Bytes>>,
    most: usize,
    limit: Duration,
) -> Result<(StatusCode, String), NoAnswer> {
    let unreached = |error: &hyper::Error| NoAnswer::Unreached(error_text::chain(error));
    let stream = match timeout(CONNECT, TcpStream::connect(place)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(NoAnswer::Unreached(error_text::chain(&error))),
        Err(_) => {
            let why = format!("no connection within {} s", CONNECT.as_secs());
            return Err(NoAnswer::Unreached(why));
        }
    };
    let host = HeaderValue::from_static("milvus");
    request.headers_mut().insert(HOST, host);
    let exchange = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // The task ends when the sender is dropped.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), most).collect().await;
        let text = body
            .map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned())
            .unwrap_or_default();
        Ok::<_, hyper::Error>((status, text))
    };
    match timeout(limit, exchange).await {
        Ok(answer) => answer.map_err(|error| unreached(&error)),
        Err(_) => Err(NoAnswer::Late),
    }
}

/// Time limit of a pod's answer in seconds.
pub(super) const fn answer_seconds() -> u64 {
    ANSWER.as_secs()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_asked_at_its_metrics_port() {
        let pod = |ports: serde_json::Value| -> Pod {
            let spec = json!({"containers": [{"name": "proxy", "ports": ports}]});
            serde_json::from_value(json!({"spec": spec, "status": {"podIP": "10.0.0.7"}})).unwrap()
        };
        let port = |ports| place(&pod(ports)).map(|(_, port)| port);
        let named = json!([{"name": "milvus", "containerPort": 19530},
            {"name": "metrics", "containerPort": 9191}]);
        assert_eq!(port(named), Some(9191));
        assert_eq!(port(json!([])), Some(PORT));
        assert_eq!(place(&Pod::default()), None);
    }
}
