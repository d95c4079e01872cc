//! The configuration that Milvus itself stores in etcd.

use etcd_client::{GetOptions, TlsOptions};
use tokio::time::{Instant, timeout_at};

use super::{Endpoint, TOTAL_DEADLINE, connect::EndpointError, failure::Failure};

/// Most keys of Milvus' own configuration in etcd that are read; Milvus stores only a few.
const MAX_SETTINGS: i64 = 1000;

/// Why the configuration in etcd could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Invalid settings of the connection.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No address answered; each with its reason.
    #[error("{0}")]
    Unanswered(String),
}

/// Reads the configuration that Milvus itself stores in etcd under `<root path>/config/`: it takes
/// precedence over files and variables. Keys are as Milvus writes them: `mq/type` or `mqtype`.
///
/// # Errors
/// Why it cannot be read.
pub async fn settings(endpoint: &Endpoint) -> Result<Vec<(String, String)>, SettingsError> {
    let tls = endpoint.prepare()?;
    let prefix = format!("{}/config/", endpoint.root_path.trim_matches('/'));
    let deadline = Instant::now() + TOTAL_DEADLINE;
    let mut failures = Vec::new();
    for address in &endpoint.addresses {
        match timeout_at(
            deadline,
            settings_at(endpoint, address, tls.as_ref(), &prefix),
        )
        .await
        {
            Ok(Ok(settings)) => return Ok(settings),
            Ok(Err(failure)) => failures.push(format!("{address}: {}", failure.reason)),
            Err(_) => failures.push(format!(
                "{address}: not done within {} seconds",
                TOTAL_DEADLINE.as_secs()
            )),
        }
    }
    Err(SettingsError::Unanswered(
        endpoint.told(failures.join("; ")),
    ))
}

async fn settings_at(
    endpoint: &Endpoint,
    address: &str,
    tls: Option<&TlsOptions>,
    prefix: &str,
) -> Result<Vec<(String, String)>, Failure> {
    let client = endpoint.dial(address, tls).await?;
    let options = GetOptions::new().with_prefix().with_limit(MAX_SETTINGS);
    let answer = client.kv_client().get(prefix, Some(options)).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let setting = |record: &etcd_client::KeyValue| {
        let key = text(record.key());
        (
            key.strip_prefix(prefix).unwrap_or(&key).to_owned(),
            text(record.value()),
        )
    };
    Ok(answer.kvs().iter().map(setting).collect())
}
