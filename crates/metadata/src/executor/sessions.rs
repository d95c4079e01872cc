//! Waits until no component of Milvus runs, before anything is written.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::model::{Root, sessions::Session};
use milvus_guard_core::{error_text, text::count};
use milvus_guard_sources::etcd::connection::EtcdConnection;

use super::{
    error::MetaError,
    events::{Event, Events},
    target::{Stop, Target, components, listed, sessions},
};

/// Interval between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Maximum number of sessions that a message names.
const NAMED: usize = 10;

/// Waits until no component of Milvus has a session.
///
/// # Errors
/// Refused, if some are left at the end of that time.
pub async fn await_sessions(
    target: &Target,
    timeout: Duration,
    events: &dyn Events,
) -> Result<(), MetaError> {
    let root = target.root()?;
    let tell = |what: &str| {
        events.event(Event::Waiting {
            what: what.to_owned(),
        });
    };
    let store = target.connect(Some(&tell)).await?;
    clear_of_sessions(&store, &root, Some(timeout), &target.stop, events).await
}

/// The current sessions of components of Milvus.
///
/// # Errors
/// If etcd cannot be read.
pub async fn running(target: &Target) -> Result<Vec<Session>, MetaError> {
    let root = target.root()?;
    let store = target.connect(None).await?;
    let all = listed(&store, &root).await.map_err(MetaError::unread)?;
    Ok(components(
        all.into_iter().map(|(session, _)| session).collect(),
    ))
}

/// Refuses while components run; waits at most this time for them to end.
pub(super) async fn clear_of_sessions(
    store: &EtcdConnection<'_>,
    root: &Root,
    wait: Option<Duration>,
    stop: &Stop,
    events: &dyn Events,
) -> Result<(), MetaError> {
    let began = Instant::now();
    let mut told = String::new();
    loop {
        let alive = components(sessions(store, root).await.map_err(MetaError::unread)?);
        if alive.is_empty() {
            return Ok(());
        }
        let names = alive
            .iter()
            .take(NAMED)
            .map(described)
            .collect::<Vec<_>>()
            .join(", ");
        let more = if alive.len() > NAMED {
            format!(" and {} more", alive.len() - NAMED)
        } else {
            String::new()
        };
        let what = format!("components of Milvus are running: {names}{more}");
        if stop.is_asked() {
            return Err(MetaError::refused(
                "it was asked to stop while waiting",
                "run the same command again.",
            ));
        }
        if wait.is_none_or(|wait| began.elapsed() >= wait) {
            let next = match wait {
                None => {
                    "stop Milvus and run the same command again; with --wait-sessions 120s it \
                     waits for the sessions to end."
                }
                Some(_) => "stop Milvus and run the same command again.",
            };
            return Err(MetaError::refused(what, next));
        }
        let keys = alive
            .iter()
            .map(|session| session.key.as_str())
            .collect::<Vec<_>>()
            .join(",");
        if keys != told {
            let left = alive
                .iter()
                .filter_map(|session| session.lease_left)
                .max()
                .unwrap_or_default();
            events.event(Event::Waiting {
                what: format!(
                    "{} to end ({names}{more}; the last within {left} s)",
                    count(alive.len(), "session")
                ),
            });
            told = keys;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// `querynode-7 at 10.0.0.7:21123`.
fn described(session: &Session) -> String {
    let name = error_text::line(session.key.trim_start_matches("session/"));
    match &session.address {
        Some(address) => format!("{name} at {}", error_text::line(address)),
        None => name,
    }
}
