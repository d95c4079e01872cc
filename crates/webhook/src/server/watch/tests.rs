//! How the cache follows an API server that answers, is slow, or breaks connections.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// How the fake API server answers one watch.
#[derive(Clone)]
enum Turn {
    /// It fails immediately with this status.
    Refuse(u16),
    /// It sends these lines, stays open for this time, and ends normally.
    Last(Vec<Value>, Duration),
    /// It begins after this time, sends these lines and stays open.
    Late(Duration, Vec<Value>),
    /// It sends these lines, stays open for this time, and breaks in the middle of a line.
    Break(Vec<Value>, Duration),
}

/// The requests so far, and the next answers; the last one is repeated.
struct Script {
    turns: Mutex<VecDeque<Turn>>,
    asked: Mutex<Vec<String>>,
}

impl Script {
    fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn watches(&self) -> Vec<String> {
        self.asked()
            .into_iter()
            .filter(|path| path.contains("watch=true"))
            .collect()
    }

    fn listings(&self) -> usize {
        self.asked().len() - self.watches().len()
    }

    fn next(&self) -> Turn {
        let mut turns = self.turns.lock().unwrap();
        if turns.len() > 1 {
            turns.pop_front().unwrap()
        } else {
            turns[0].clone()
        }
    }

    async fn answer(&self, mut stream: TcpStream) {
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let path = String::from_utf8_lossy(&request)
            .split(' ')
            .nth(1)
            .unwrap()
            .to_owned();
        self.asked.lock().unwrap().push(path.clone());
        let whole = |status: u16, body: &Value| {
            let body = body.to_string();
            format!(
                "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        if !path.contains("watch=true") {
            let list = json!({"metadata": {"resourceVersion": "10"}, "items": []});
            let _ = stream.write_all(whole(200, &list).as_bytes()).await;
            return;
        }
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let (lines, lasts, end) = match self.next() {
            Turn::Refuse(code) => {
                let status = json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "x", "code": code});
                let _ = stream.write_all(whole(code, &status).as_bytes()).await;
                return;
            }
            Turn::Last(lines, lasts) => (lines, lasts, "0\r\n\r\n".to_owned()),
            Turn::Late(time, lines) => {
                tokio::time::sleep(time).await;
                (lines, FOREVER, "0\r\n\r\n".to_owned())
            }
            // The chunk is cut, so the line is not valid JSON.
            Turn::Break(lines, lasts) => (lines, lasts, chunk("nonsense\n")),
        };
        let mut text =
            "HTTP/1.1 200 X\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
        for line in lines {
            text += &chunk(&format!("{line}\n"));
        }
        let _ = stream.write_all(text.as_bytes()).await;
        tokio::time::sleep(lasts).await;
        let _ = stream.write_all(end.as_bytes()).await;
    }
}

fn bookmark(version: &str) -> Value {
    json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "X", "metadata": {"resourceVersion": version}}})
}

fn policy(version: &str) -> Value {
    json!({"type": "ADDED", "object": {"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy",
        "metadata": {"name": "p", "resourceVersion": version}, "spec": {"rules": [{"id": "MG201", "action": "Warn"}]}}})
}

const KIND: Watched = Watched::Policies;

async fn followed(turns: Vec<Turn>) -> (Arc<Script>, Arc<WatchCache>) {
    followed_for(turns, Duration::from_secs(60)).await
}

/// Starts a follower whose watches last this long.
async fn followed_for(turns: Vec<Turn>, lasts: Duration) -> (Arc<Script>, Arc<WatchCache>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new(Script {
        turns: Mutex::new(turns.into()),
        asked: Mutex::default(),
    });
    let answering = Arc::clone(&script);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let script = Arc::clone(&answering);
            tokio::spawn(async move { script.answer(stream).await });
        }
    });
    let client = Client::try_from(kube::Config::new(
        format!("http://{address}").parse().unwrap(),
    ))
    .unwrap();
    let store = Arc::new(WatchCache::new("guard"));
    let follower = Follower {
        kind: KIND,
        api: api(KIND, client, "guard"),
        store: Arc::clone(&store),
        lasts,
    };
    tokio::spawn(follower.follow());
    (script, store)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "not reached within 20 s: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn age(store: &WatchCache) -> f64 {
    store
        .health()
        .into_iter()
        .find(|(kind, ..)| *kind == KIND)
        .unwrap()
        .2
}

const FOREVER: Duration = Duration::from_secs(600);

#[tokio::test]
async fn after_a_normal_end_the_next_watch_resumes_from_the_last_version() {
    let lasts = Duration::from_millis(600);
    let ends = |version: &str| Turn::Last(vec![bookmark(version)], lasts);
    let (script, store) = followed(vec![
        ends("11"),
        ends("12"),
        ends("13"),
        Turn::Last(vec![policy("14")], FOREVER),
    ])
    .await;
    until("the first watch stands", || {
        store.unwatched(&[KIND]).is_none()
    })
    .await;
    let mut oldest: f64 = 0.0;
    while store.picture("").policies.policies.is_empty() {
        assert_eq!(store.unwatched(&[KIND]), None, "{:?}", script.asked());
        oldest = oldest.max(age(&store));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        oldest < 1.0,
        "each watch and each bookmark counts as contact, also without events: {oldest}"
    );
    assert_eq!(script.listings(), 1);
    let from: Vec<String> = script
        .watches()
        .iter()
        .map(|path| path.rsplit('=').next().unwrap().to_owned())
        .collect();
    assert_eq!(from, ["10", "11", "12", "13"]);
    assert!(script.watches().iter().all(
        |path| path.contains("allowWatchBookmarks=true") && path.contains("timeoutSeconds=60")
    ));
}

fn removed(version: &str) -> Value {
    json!({"type": "DELETED", "object": {"apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradePolicy",
        "metadata": {"name": "p", "resourceVersion": version}}})
}

#[tokio::test]
async fn the_next_watch_begins_before_the_last_one_ends_with_a_slow_api_server() {
    let lasts = Duration::from_secs(3);
    // The second watch repeats events that the first one has shown after the second request.
    let repeats = vec![policy("12"), removed("13"), policy("14")];
    let (script, store) = followed_for(
        vec![
            Turn::Last(vec![policy("14")], lasts),
            Turn::Late(Duration::from_millis(1_500), repeats),
        ],
        lasts,
    )
    .await;
    until("the first watch shows a policy", || {
        !store.picture("").policies.policies.is_empty()
    })
    .await;
    let begun = Instant::now();
    // The first watch ends after three seconds. Without the overlap the second one would begin
    // after it.
    while begun.elapsed() < Duration::from_secs(4) {
        assert_eq!(store.unwatched(&[KIND]), None, "{:?}", script.asked());
        assert!(
            !store.picture("").policies.policies.is_empty(),
            "an old event is ignored"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let from: Vec<String> = script
        .watches()
        .iter()
        .take(2)
        .map(|path| path.rsplit('=').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        (script.listings(), from),
        (1, vec!["10".to_owned(), "14".to_owned()])
    );
}

#[tokio::test]
async fn a_watch_that_cannot_be_renewed_continues_until_its_end() {
    let lasts = Duration::from_secs(3);
    let (script, store) = followed_for(
        vec![
            Turn::Last(vec![bookmark("11")], lasts),
            Turn::Refuse(500),
            Turn::Last(Vec::new(), FOREVER),
        ],
        lasts,
    )
    .await;
    until("the second watch was refused", || {
        script.watches().len() == 2
    })
    .await;
    let refused = Instant::now();
    while refused.elapsed() < Duration::from_secs(1) {
        assert_eq!(store.unwatched(&[KIND]), None);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until("a third watch stands", || {
        script.watches().len() == 3 && store.unwatched(&[KIND]).is_none()
    })
    .await;
    assert_eq!(script.listings(), 1);
}

#[tokio::test]
async fn after_a_failure_a_kind_without_events_is_watched_again() {
    for broken in [
        Turn::Break(vec![bookmark("11")], Duration::from_millis(100)),
        Turn::Refuse(500),
        Turn::Refuse(403),
        Turn::Last(
            vec![
                json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "message": "no",
            "reason": "InternalError", "code": 500}}),
            ],
            FOREVER,
        ),
    ] {
        let (script, store) = followed(vec![broken, Turn::Last(Vec::new(), FOREVER)]).await;
        until("the watch is in trouble", || {
            !script.watches().is_empty() && store.unwatched(&[KIND]).is_some()
        })
        .await;
        until("it stands again", || {
            script.watches().len() == 2 && store.unwatched(&[KIND]).is_none()
        })
        .await;
        assert!(age(&store) < 2.0);
        assert_eq!(
            (
                store.missing().contains(&KIND.kind().to_owned()),
                script.listings()
            ),
            (false, 1)
        );
    }
}

#[tokio::test]
async fn after_an_expired_version_everything_is_listed_again() {
    let gone = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410}});
    for turn in [Turn::Last(vec![gone], FOREVER), Turn::Refuse(410)] {
        let (script, store) = followed(vec![turn, Turn::Last(Vec::new(), FOREVER)]).await;
        until("it is listed and watched again", || {
            script.listings() == 2 && script.watches().len() == 2
        })
        .await;
        until("it stands", || store.unwatched(&[KIND]).is_none()).await;
    }
    // A version that the API server refuses for another reason is tried only three times.
    let (script, store) = followed(vec![
        Turn::Refuse(400),
        Turn::Refuse(502),
        Turn::Refuse(500),
        Turn::Last(Vec::new(), FOREVER),
    ])
    .await;
    until("it stands", || store.unwatched(&[KIND]).is_none()).await;
    assert_eq!(script.listings(), 2);
}

#[tokio::test]
async fn a_watch_that_ends_immediately_is_repeated_only_after_pauses() {
    let (script, _store) = followed(vec![Turn::Last(Vec::new(), Duration::ZERO)]).await;
    until("three attempts", || script.watches().len() >= 3).await;
    let begun = Instant::now();
    until("five attempts", || script.watches().len() >= 5).await;
    assert!(
        begun.elapsed() > Duration::from_millis(500),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn pauses_grow_to_a_few_seconds_and_are_reset() {
    let mut backoff = Backoff::default();
    assert!(backoff.pause() <= Duration::from_millis(200));
    for _ in 0..10 {
        backoff.pause();
    }
    for _ in 0..100 {
        let pause = backoff.pause();
        assert!(pause >= PAUSES[1] / 2 && pause <= PAUSES[1], "{pause:?}");
    }
}

#[test]
fn watches_of_decisive_kinds_last_at_most_30_seconds() {
    assert_eq!(
        lasts_for(Watched::Runs, Duration::from_secs(290)),
        Duration::from_secs(30)
    );
    assert_eq!(
        lasts_for(Watched::Runs, Duration::from_secs(3)),
        Duration::from_secs(3)
    );
    assert_eq!(
        lasts_for(Watched::Deployments, Duration::from_secs(290)),
        Duration::from_secs(290)
    );
}
