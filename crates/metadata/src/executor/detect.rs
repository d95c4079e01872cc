//! Detects the layout of Milvus' metadata, and reads only as much of etcd as needed.
//!
//! Only range requests and, with a user, `Authenticate` are sent. All ranges are linearizable and
//! at one revision, so that the result is consistent. Every failure becomes
//! [`MetadataState::Unreadable`] with its reason.

use etcd_client::{GetOptions, KvClient, TlsOptions};
use milvus_guard_core::evidence::{MetadataFact, MetadataState};
use milvus_guard_sources::etcd::{
    Endpoint, TOTAL_DEADLINE,
    connect::CONNECT_DEADLINE,
    failure::{Failure, Kind},
};
use tokio::time::{Instant, timeout_at};

use crate::model::{
    Root,
    format::{AREAS, Area, Depth, Evidence},
    keys::{SESSIONS, TOMBSTONE, after},
};

/// Keys in one page.
pub const PAGE: i64 = 500;
/// Bytes of one page. A page of collection records with 4096 partitions each is about 150 MB and is
/// then read in smaller pages; a single record cannot be larger than etcd's request limit (1.5 MiB
/// by default).
pub const MAX_PAGE_BYTES: usize = 32 * 1024 * 1024;

/// Reads the format of the metadata.
pub async fn detect(endpoint: &Endpoint) -> MetadataFact {
    let state = match read(endpoint).await {
        Ok(state) => state,
        Err(reason) => MetadataState::Unreadable(endpoint.told(reason)),
    };
    MetadataFact {
        release: endpoint.release.clone(),
        root_path: endpoint.root_path.clone(),
        state,
        source: endpoint.shown(),
    }
}

async fn read(endpoint: &Endpoint) -> Result<MetadataState, String> {
    let root = Root::new(&endpoint.root_path, &endpoint.meta_sub_path)
        .map_err(|error| error.to_string())?;
    let tls = endpoint.prepare().map_err(|error| error.to_string())?;
    let deadline = Instant::now() + TOTAL_DEADLINE;
    let mut failures = Vec::new();
    for address in &endpoint.addresses {
        let attempt = attempt(endpoint, address, tls.as_ref(), root.prefix(), deadline);
        match timeout_at(deadline, attempt).await {
            Ok(Ok(state)) => return Ok(state),
            Ok(Err(failure)) => {
                failures.push(format!("{address}: {}", failure.reason));
                if !failure.elsewhere() {
                    break;
                }
            }
            Err(_) => {
                failures.push(format!(
                    "{address}: not done within {} seconds",
                    TOTAL_DEADLINE.as_secs()
                ));
                break;
            }
        }
    }
    Err(failures.join("; "))
}

async fn attempt(
    endpoint: &Endpoint,
    address: &str,
    tls: Option<&TlsOptions>,
    prefix: &str,
    deadline: Instant,
) -> Result<MetadataState, Failure> {
    let connect = deadline.min(Instant::now() + CONNECT_DEADLINE);
    let silent = |_| {
        Failure::new(
            Kind::Unavailable,
            format!("no answer within {} seconds", CONNECT_DEADLINE.as_secs()),
        )
    };
    let mut reader = timeout_at(connect, open(endpoint, address, tls, prefix))
        .await
        .map_err(silent)??;
    let mut evidence = Evidence::default();
    for area in AREAS {
        if !(area.late && evidence.is_old()) {
            reader.area(&area, &mut evidence).await?;
        }
    }
    if !evidence.is_anything() {
        reader.anything_else(&mut evidence).await?;
    }
    Ok(evidence.state())
}

/// Connects and fixes the revision at which everything is read.
async fn open<'a>(
    endpoint: &Endpoint,
    address: &str,
    tls: Option<&TlsOptions>,
    prefix: &'a str,
) -> Result<Reader<'a>, Failure> {
    let client = endpoint.dial(address, tls).await?;
    let mut kv = client.kv_client().max_decoding_message_size(MAX_PAGE_BYTES);
    let answer = kv
        .get(
            prefix,
            Some(GetOptions::new().with_keys_only().with_limit(1)),
        )
        .await?;
    let revision = answer
        .header()
        .map_or(0, etcd_client::ResponseHeader::revision);
    Ok(Reader {
        kv,
        prefix,
        revision,
    })
}

struct Reader<'a> {
    kv: KvClient,
    prefix: &'a str,
    revision: i64,
}

impl Reader<'_> {
    async fn area(&mut self, area: &Area, evidence: &mut Evidence) -> Result<(), Failure> {
        let from = format!("{}{}", self.prefix, area.path).into_bytes();
        let to = if area.path.ends_with('/') {
            after(&from)
        } else {
            [&from[..], &[0]].concat()
        };
        self.range(from, &to, area.depth, evidence).await
    }

    /// Looks in all areas for any live key that is not a session.
    async fn anything_else(&mut self, evidence: &mut Evidence) -> Result<(), Failure> {
        let all = self.prefix.as_bytes().to_vec();
        let sessions = format!("{}{SESSIONS}", self.prefix).into_bytes();
        self.range(all.clone(), &sessions, Depth::AnyLive, evidence)
            .await?;
        if evidence.is_anything() {
            return Ok(());
        }
        self.range(after(&sessions), &after(&all), Depth::AnyLive, evidence)
            .await
    }

    async fn range(
        &mut self,
        mut from: Vec<u8>,
        to: &[u8],
        depth: Depth,
        evidence: &mut Evidence,
    ) -> Result<(), Failure> {
        let mut page = if depth == Depth::AnyKey { 1 } else { PAGE };
        loop {
            let mut options = GetOptions::new()
                .with_range(to)
                .with_limit(page)
                .with_revision(self.revision);
            if depth == Depth::AnyKey {
                options = options.with_keys_only();
            }
            let answer = match self
                .kv
                .get(from.clone(), Some(options))
                .await
                .map_err(Failure::from)
            {
                Err(failure) if failure.kind == Kind::AnswerTooLarge && page > 1 => {
                    page /= 2;
                    continue;
                }
                other => other?,
            };
            for record in answer.kvs() {
                let key = record
                    .key()
                    .strip_prefix(self.prefix.as_bytes())
                    .unwrap_or(record.key());
                evidence.add(key, (depth != Depth::AnyKey).then(|| record.value()));
                let enough = depth == Depth::AnyKey
                    || (depth == Depth::AnyLive && record.value() != TOMBSTONE);
                if enough {
                    return Ok(());
                }
            }
            match answer.kvs().last() {
                Some(last) if answer.more() => from = [last.key(), &[0]].concat(),
                _ => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use milvus_guard_sources::etcd::Tls;

    use super::*;

    fn endpoint(address: &str) -> Endpoint {
        Endpoint {
            addresses: vec![address.into()],
            root_path: "by-dev".into(),
            meta_sub_path: "meta".into(),
            ..Endpoint::default()
        }
    }

    async fn reason(endpoint: &Endpoint) -> String {
        match detect(endpoint).await.state {
            MetadataState::Unreadable(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_reported_as_the_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let reason = reason(&endpoint(&address)).await;
        assert!(
            reason.contains(&address) && reason.to_lowercase().contains("refused"),
            "{reason}"
        );
    }

    #[tokio::test]
    async fn a_port_without_an_answer_is_reported_as_the_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let reason = reason(&endpoint(&listener.local_addr().unwrap().to_string())).await;
        assert!(reason.contains("no answer within 5 seconds"), "{reason}");
    }

    #[tokio::test]
    async fn credentials_are_never_shown() {
        let mut secret = endpoint("http://root:hunter2@127.0.0.1:1");
        secret.user = Some(("root".into(), "hunter2".into()));
        let fact = detect(&secret).await;
        assert!(
            !format!("{fact:?}{secret:?}").contains("hunter2"),
            "{fact:?}"
        );
        assert_eq!(
            secret.told("login with hunter2 failed".into()),
            "login with (hidden) failed"
        );
    }

    #[tokio::test]
    async fn tls_files_are_checked_first() {
        let mut broken = endpoint("https://127.0.0.1:1");
        broken.tls = Some(Tls {
            ca: Some("/does/not/exist".into()),
            ..Tls::default()
        });
        assert!(
            reason(&broken)
                .await
                .contains("certificate authorities in /does/not/exist")
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        broken.tls = Some(Tls {
            ca: Some(file.path().into()),
            ..Tls::default()
        });
        assert!(reason(&broken).await.contains("no PEM block"));
        broken.tls = Some(Tls {
            cert: Some(file.path().into()),
            ..Tls::default()
        });
        assert!(reason(&broken).await.contains("belong together"));
    }
}
