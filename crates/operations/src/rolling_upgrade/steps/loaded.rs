//! Whether Milvus serves all collections again after query nodes moved. Kubernetes calls a query
//! node ready before its segments are loaded, and searches then return nothing or half.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    engine::{StepError, display::took},
    rolling_upgrade::{
        active,
        context::{Direction, StepContext},
        milvus::unasked,
        plan::Move,
        serving::{self, Gone, Question},
    },
};
use milvus_guard_core::{
    api::{LoadedBefore, RunStatus},
    text::count,
};
use milvus_guard_sources::milvus::{self, ApiError, Loaded, Proxy};

/// Time for Milvus to serve all before something is changed: coordinators that were just replaced
/// need some seconds.
const SETTLING: Duration = Duration::from_secs(10);
/// Time for Milvus to put new nodes into replicas. Its coordinator checks every few seconds.
const SPREADING: Duration = Duration::from_secs(60);
/// Shortest pause between two questions; after large answers it is as long as they took.
const PAUSE: Duration = Duration::from_millis(300);
/// Longest pause between two questions.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a coordinator may list nodes that no longer exist: the lifetime of a session whose
/// process was killed (`common.session.ttl`).
const STALE: Duration = Duration::from_secs(60);
/// How long Milvus must refuse before the refusal counts, if it answered before: proxies that have
/// just started cannot check a login yet.
const REFUSAL: Duration = Duration::from_secs(30);
/// Time for Milvus to serve all during a rollback. What is missing may come back only after more
/// components are rolled back.
const ON_THE_WAY_BACK: Duration = Duration::from_secs(60);

/// The question of a move, its position, and the id of the step before which the baseline is taken.
fn question(cx: &StepContext<'_>, one: &Move) -> Option<(Question, usize, String)> {
    let data = cx.data;
    let moves = &data.rollout.moves;
    let at = moves.iter().position(|other| other == one)?;
    let question = serving::question(moves, at)?;
    Some((
        question,
        at,
        moves[question.before].id(&data.release.fullname),
    ))
}

/// Notes what is loaded, before a move that replaces nodes that serve. `is_begun`: the move is in
/// progress already, so what is loaded now may be only a part.
pub(crate) async fn before(
    cx: &StepContext<'_>,
    one: &Move,
    is_begun: impl AsyncFnOnce() -> Result<bool, StepError>,
) -> Result<(), StepError> {
    let Some((question, _, id)) =
        question(cx, one).filter(|(question, at, _)| question.before == *at)
    else {
        return Ok(());
    };
    let status = cx.run().status;
    if status.loaded.is_some_and(|loaded| loaded.step == id)
        || !cx.data.connections.proxy.is_reached(cx).await?
    {
        return Ok(());
    }
    if is_begun().await? {
        if status.step.is_some_and(|cursor| cursor.attempts > 1) {
            unasked(cx, "what was loaded before they were replaced is not known");
        }
        return Ok(());
    }
    let Ok(proxy) = cx.data.connections.proxy.proxy(cx).await? else {
        return Ok(());
    };
    let loaded = match settled(cx, proxy).await {
        Ok(loaded) => loaded,
        Err(error) => {
            unasked(cx, &error.to_string());
            return Ok(());
        }
    };
    for note in &loaded.notes {
        cx.reporter().note(note.clone());
    }
    if !loaded.is_complete() {
        cx.reporter().warn(format!(
            "Milvus had collections that were not fully served before {} moved; the run will not \
             wait for them: {}",
            one.component,
            serving::shown(&loaded.missing())
        ));
    }
    let replaced = if question.replaces_all {
        loaded.nodes()
    } else {
        BTreeSet::new()
    };
    let kept = LoadedBefore::new(&id, loaded.baseline(), replaced);
    if kept.left_out > 0 {
        cx.reporter().warn(format!(
            "not waited for: {} with the fewest rows",
            count(kept.left_out, "collection")
        ));
    }
    cx.record(|status| status.loaded = Some(kept.clone()))
        .await?;
    Ok(())
}

/// What is loaded, once it is complete or [`SETTLING`] is over.
pub(crate) async fn settled(cx: &StepContext<'_>, proxy: &Proxy) -> Result<Loaded, ApiError> {
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        let answer = milvus::loaded(proxy).await;
        let missing = match &answer {
            Ok(loaded) => serving::shown(&loaded.missing()),
            Err(error) if error.is_lasting() => return answer,
            Err(error) => error.to_string(),
        };
        if missing.is_empty() || began.elapsed() >= SETTLING {
            cx.going_on();
            return answer;
        }
        cx.waiting(format!(
            "all collections to be served before anything moves: {missing}"
        ));
        pause(asked).await;
    }
}

/// Waits until all that was loaded before is served again, and returns when it was; `None` if
/// Milvus was not asked.
pub(crate) async fn again(cx: &StepContext<'_>, one: &Move) -> Result<Option<Instant>, StepError> {
    let Some((_, _, id)) = question(cx, one).filter(|(question, at, _)| question.after == *at)
    else {
        return Ok(None);
    };
    let Some(before) = cx.run().status.loaded.filter(|loaded| loaded.step == id) else {
        return Ok(None);
    };
    // Milvus answered before, maybe to another process. So the run waits for a Milvus that does not
    // answer now.
    let proxy = match cx.data.connections.proxy.proxy(cx).await? {
        Ok(proxy) => proxy,
        Err(why) => {
            unasked(cx, &why.to_string());
            return Ok(None);
        }
    };
    Ok(whole(cx, proxy, &before, None).await)
}

/// Whether Milvus can be asked between two pods: what was loaded was noted, and the next component
/// need not follow at once.
pub(crate) async fn can_ask_between(
    cx: &StepContext<'_>,
    one: &Move,
    direction: Direction,
) -> Result<bool, StepError> {
    let Some((question, at, id)) = question(cx, one) else {
        return Ok(false);
    };
    let Some(loaded) = cx.run().status.loaded else {
        return Ok(false);
    };
    let alone = question.before == at && question.after == at;
    Ok(match direction {
        Direction::Forward => alone && loaded.step == id,
        // Another process may have noted what was loaded, and a later step may have noted it again.
        Direction::Back => alone && cx.data.connections.proxy.is_reached(cx).await?,
    })
}

/// Copies in memory of the collection with the most copies; 1 if that is unknown.
pub(crate) fn copies(status: &RunStatus) -> usize {
    let collections = status.loaded.iter().flat_map(|loaded| &loaded.collections);
    let most = collections.map(|collection| collection.replicas).max();
    most.unwrap_or(1).max(1)
}

/// Waits for a limited time until Milvus has put a new node into each replica, if there are several
/// and the nodes before the step are known.
pub(crate) async fn spread(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    let status = cx.run().status;
    let has_several = copies(&status) > 1;
    let known = |loaded: &LoadedBefore| has_several && !loaded.replaced_nodes.is_empty();
    let Some(before) = status.loaded.filter(known) else {
        return Ok(());
    };
    let Ok(proxy) = cx.data.connections.proxy.proxy(cx).await? else {
        return Ok(());
    };
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        let lacking = match milvus::loaded(proxy).await {
            Ok(loaded) => {
                serving::shown(&serving::without_new_node(&loaded, &before.replaced_nodes))
            }
            Err(error) => error.to_string(),
        };
        if lacking.is_empty() {
            cx.going_on();
            return Ok(());
        }
        if began.elapsed() >= SPREADING {
            cx.going_on();
            cx.reporter().note(format!(
                "Milvus gave no new {} to {lacking}; the step continues",
                one.component
            ));
            return Ok(());
        }
        cx.waiting(format!(
            "Milvus to give a new {} to each replica: {lacking}",
            one.component
        ));
        pause(asked).await;
    }
}

/// Waits between two pods until all that was loaded before is served, during a rollback for a
/// limited time only. Returns whether it is. Nodes from before the run still serve.
pub(crate) async fn between(cx: &StepContext<'_>, direction: Direction) -> Result<bool, StepError> {
    let Some(before) = cx.run().status.loaded else {
        return Ok(true);
    };
    let Ok(proxy) = cx.data.connections.proxy.proxy(cx).await? else {
        return Ok(true);
    };
    let before = LoadedBefore {
        replaced_nodes: Vec::new(),
        ..before
    };
    let limit = (direction == Direction::Back).then_some(ON_THE_WAY_BACK);
    let whole = whole(cx, proxy, &before, limit).await;
    // Forward, the step continues without a Milvus that may no longer be asked.
    Ok(whole.is_some() || direction == Direction::Forward)
}

/// The same during a rollback, for a limited time.
pub(crate) async fn back(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    if !serving::serves(one.component) {
        return Ok(());
    }
    let Some(before) = cx.run().status.loaded else {
        return Ok(());
    };
    if !cx.data.connections.proxy.is_reached(cx).await? {
        return Ok(());
    }
    if let Ok(proxy) = cx.data.connections.proxy.proxy(cx).await? {
        // Nodes from before the run serve again or still.
        let before = LoadedBefore {
            replaced_nodes: Vec::new(),
            ..before
        };
        whole(cx, proxy, &before, Some(ON_THE_WAY_BACK)).await;
    }
    Ok(())
}

/// Asks until all is served. The limit is the time of the step, or a shorter one after which the
/// user is warned.
async fn whole(
    cx: &StepContext<'_>,
    proxy: &Proxy,
    before: &LoadedBefore,
    limit: Option<Duration>,
) -> Option<Instant> {
    let began = Instant::now();
    let mut refused: Option<Instant> = None;
    loop {
        let asked = Instant::now();
        let missing = match milvus::loaded(proxy).await {
            Ok(loaded) => {
                refused = None;
                let live = cx
                    .data
                    .connections
                    .sessions
                    .read(cx)
                    .await
                    .and_then(|sessions| active::live_nodes(&sessions));
                let replaced = if began.elapsed() < STALE {
                    &before.replaced_nodes[..]
                } else {
                    &[]
                };
                serving::judge(
                    loaded,
                    before,
                    &Gone {
                        live: live.as_ref(),
                        replaced,
                    },
                )
                .err()
                .map(|missing| missing.to_string())
            }
            Err(error)
                if error.is_lasting()
                    && refused.get_or_insert_with(Instant::now).elapsed() >= REFUSAL =>
            {
                cx.going_on();
                unasked(cx, &error.to_string());
                return None;
            }
            Err(error) => Some(error.to_string()),
        };
        let Some(missing) = missing else {
            cx.going_on();
            let collections = before.collections.len();
            let all = if collections == 1 {
                "the collection".to_owned()
            } else {
                format!("all {collections} collections")
            };
            cx.reporter().note(format!(
                "Milvus serves {all} that it had loaded, {} after its pods were ready",
                took(began.elapsed())
            ));
            return Some(Instant::now());
        };
        if limit.is_some_and(|limit| began.elapsed() >= limit) {
            cx.going_on();
            cx.reporter().warn(format!(
                "Milvus does not serve all that it had loaded: {missing}"
            ));
            return None;
        }
        cx.waiting(format!(
            "Milvus to serve again what it had loaded: {missing}"
        ));
        pause(asked).await;
    }
}

async fn pause(asked: Instant) {
    sleep(asked.elapsed().clamp(PAUSE, LONGEST_PAUSE)).await;
}
