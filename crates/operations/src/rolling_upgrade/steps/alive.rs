//! Checks of a moved component that Kubernetes does not make: whether the active coordinator is one
//! of its new pods, whether sessions of its old pods are left, the health of the new pods
//! (`/healthz`), and of all components (`CheckHealth`). None of them stops a run: after a time
//! limit the user is warned.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use tokio::time::sleep;

use crate::{
    engine::{self, StepError},
    rolling_upgrade::{
        active::{self, PodName},
        context::{SessionRun, StepContext},
        plan::Move,
        serving,
    },
};
use milvus_guard_core::{
    error_text,
    milvus::{Component, Version},
};
use milvus_guard_sources::{
    kubernetes::{pods::is_pod_of, rollout::Watched},
    milvus,
};

use super::{
    pod_http::{self, NoAnswer},
    release::{self, Leftover},
};

/// Pods that are asked at the same time.
const AT_ONCE: usize = 16;
/// Bytes of an answer that are read at most.
const MAX_ANSWER: usize = 16 * 1024;
/// Interval between two looks.
const PAUSE: Duration = Duration::from_millis(300);
/// Time for available pods to become healthy, and for Milvus to report it.
const HEALTH: Duration = Duration::from_secs(30);
/// Time for the session of an ended process to expire (`common.session.ttl` is 60 s), and for the
/// next one to begin.
const TAKEOVER: Duration = Duration::from_secs(90);

/// A component that moved, with its versions; at the end of a run, the whole release.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    component: Option<Component>,
    from: Version,
    to: Version,
}

impl Moved {
    /// A move to the target.
    pub(crate) fn to(cx: &StepContext<'_>, one: &Move) -> Self {
        let rollout = &cx.data.rollout;
        Self {
            component: Some(one.component),
            from: rollout.from.version,
            to: rollout.to.version,
        }
    }

    /// A move of a rollback.
    pub(crate) fn back(cx: &StepContext<'_>, one: &Move) -> Self {
        let to = Self::to(cx, one);
        Self {
            from: to.to,
            to: to.from,
            ..to
        }
    }

    /// No component: only sessions that are left, and whether Milvus answers.
    pub(crate) fn all(cx: &StepContext<'_>) -> Self {
        let rollout = &cx.data.rollout;
        Self {
            component: None,
            from: rollout.from.version,
            to: rollout.to.version,
        }
    }
}

/// A condition that the run waits for; each has its own time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// The active coordinator is a new pod.
    Active,
    /// No session of a pod that has ended is left.
    Sessions,
    /// Pods report at `/healthz` that they are healthy.
    Pods,
    /// Milvus reports that all its components are healthy.
    Milvus,
}

impl Question {
    /// What the run waits for, after the words "waiting for".
    const fn awaited(self) -> &'static str {
        match self {
            Self::Active => "a new pod to become active",
            Self::Sessions => "sessions of ended pods to go",
            Self::Pods => "its pods to be healthy",
            Self::Milvus => "Milvus to be healthy",
        }
    }

    /// Time limit of the wait.
    const fn limit(self) -> Duration {
        match self {
            Self::Active | Self::Sessions => TAKEOVER,
            Self::Pods | Self::Milvus => HEALTH,
        }
    }
}

/// How long the run has waited for each condition.
#[derive(Debug, Default)]
struct Clocks(Vec<(Question, Duration)>);

impl Clocks {
    /// Adds time to a condition; returns whether its limit is reached.
    fn spend(&mut self, question: Question, time: Duration) -> bool {
        let known = self.0.iter_mut().find(|(known, _)| *known == question);
        let spent = if let Some((_, spent)) = known {
            *spent += time;
            *spent
        } else {
            self.0.push((question, time));
            time
        };
        spent >= question.limit()
    }

    fn is_over(&self, question: Question) -> bool {
        let over = |(known, spent): &(Question, Duration)| {
            *known == question && *spent >= question.limit()
        };
        self.0.iter().any(over)
    }
}

/// Asks until all is well or its time is over. Returns when it was well, if it had to wait.
pub(crate) async fn ask(
    cx: &StepContext<'_>,
    moved: &Moved,
    watched: &[Watched],
) -> Result<Option<Instant>, StepError> {
    let mut clocks = Clocks::default();
    let mut has_waited = false;
    loop {
        let began = Instant::now();
        let Some((question, why)) = missing(cx, moved, watched, &clocks).await? else {
            cx.going_on();
            return Ok(has_waited.then(Instant::now));
        };
        has_waited = true;
        cx.waiting(format!("{}: {why}", question.awaited()));
        sleep(PAUSE).await;
        if clocks.spend(question, began.elapsed()) {
            cx.reporter().warn(format!(
                "{why}, after {} s of waiting for {}; the run continues",
                question.limit().as_secs(),
                question.awaited()
            ));
            if question == Question::Milvus {
                cx.data.connections.give_up_on_health();
            }
        }
    }
}

/// The first condition that is not met and whose time is not over.
async fn missing(
    cx: &StepContext<'_>,
    moved: &Moved,
    watched: &[Watched],
    clocks: &Clocks,
) -> Result<Option<(Question, String)>, StepError> {
    let left = release::round(cx, watched).await?;
    let left = match left {
        Leftover::Sessions(left) => left,
        Leftover::Unread if clocks.is_over(Question::Sessions) => Vec::new(),
        Leftover::Unread => {
            let why = "etcd does not answer which sessions it holds";
            return Ok(Some((Question::Sessions, why.into())));
        }
    };
    let of_component = moved.component.is_some();
    let pods = if of_component {
        pods(cx, watched, &ListParams::default()).await?
    } else {
        Vec::new()
    };
    if !clocks.is_over(Question::Active)
        && let Some(why) = passive(cx, moved, &pods).await
    {
        return Ok(Some((Question::Active, why)));
    }
    if let ([first, rest @ ..], false) = (&left[..], clocks.is_over(Question::Sessions)) {
        let more = match rest.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return Ok(Some((
            Question::Sessions,
            format!("{first}{more}, which has ended, is still in etcd"),
        )));
    }
    if of_component
        && !clocks.is_over(Question::Pods)
        && let Some(why) = unwell(cx, &pods).await
    {
        return Ok(Some((Question::Pods, why)));
    }
    if !clocks.is_over(Question::Milvus)
        && let Some(why) = unhealthy(cx).await?
    {
        return Ok(Some((Question::Milvus, why)));
    }
    Ok(None)
}

/// Why the active coordinator is not one of these pods.
async fn passive(cx: &StepContext<'_>, moved: &Moved, pods: &[Pod]) -> Option<String> {
    let component = moved.component?;
    if !active::has_active(component, moved.to) {
        return None;
    }
    let sessions = cx.data.connections.sessions.read(cx).await?;
    let names: Vec<PodName> = pods.iter().map(named).collect();
    active::lacks(&sessions, component, moved.to, &names)
        .or_else(|| active::is_still_at(&sessions, component, moved.to, moved.from))
}

/// What Milvus reports as unhealthy; `None` if nothing is, or if it cannot be asked.
async fn unhealthy(cx: &StepContext<'_>) -> Result<Option<String>, StepError> {
    let connections = &cx.data.connections;
    if !connections.ask_health() || !connections.proxy.is_reached(cx).await? {
        return Ok(None);
    }
    let Ok(proxy) = connections.proxy.proxy(cx).await? else {
        return Ok(None);
    };
    Ok(match milvus::health(proxy).await {
        Ok(health) if health.healthy => None,
        Ok(health) => Some(format!(
            "Milvus is not healthy: {}",
            serving::shown(&health.reasons)
        )),
        Err(error) if error.is_lasting() => {
            connections.give_up_on_health();
            None
        }
        Err(error) => Some(format!("Milvus does not answer: {error}")),
    })
}

/// Pods of these Deployments that are not terminating: all that `list` gives of each.
pub(super) async fn pods<D: SessionRun>(
    cx: &engine::StepContext<'_, D>,
    watched: &[Watched],
    list: &ListParams,
) -> Result<Vec<Pod>, StepError> {
    let api: Api<Pod> = Api::namespaced(cx.client.kube(), &cx.data.name().namespace);
    let mut pods = Vec::new();
    for one in watched {
        let params = list.clone().labels(&one.selector);
        let request = async || api.list(&params).await;
        let listed = cx.client.call("pods", request).await?.items;
        pods.extend(listed.into_iter().filter(|pod| is_pod_of(pod, &one.name)));
    }
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(pods)
}

fn named(pod: &Pod) -> PodName {
    let status = pod.status.as_ref();
    let ips = status
        .into_iter()
        .flat_map(|status| status.pod_ips.iter().flatten().map(|one| one.ip.clone()));
    let ip = status.and_then(|status| status.pod_ip.clone());
    PodName {
        name: pod.name_any(),
        ips: ips.chain(ip).collect(),
    }
}

/// Why a pod is unhealthy; `None` if all are healthy, or if pods cannot be reached from here, which
/// is reported once.
async fn unwell(cx: &StepContext<'_>, pods: &[Pod]) -> Option<String> {
    if !cx.data.connections.reach_pods() {
        return None;
    }
    let asked = pods.iter().map(async |pod| {
        let answer = match pod_http::place(pod) {
            Some(place) => healthz(place).await,
            None => Answer::Unreached("it has no address".into()),
        };
        (pod.name_any(), answer)
    });
    let answers: Vec<(String, Answer)> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    for (name, answer) in answers {
        match answer {
            Answer::Well => {}
            Answer::Unwell(why) => return Some(format!("{name} says at /healthz: {why}")),
            Answer::Unreached(why) => {
                if cx.data.connections.give_up_on_pods() {
                    cx.reporter().note(format!(
                        "could not ask pods for /healthz from here ({name}: {why}); Kubernetes \
                         does"
                    ));
                }
                return None;
            }
        }
    }
    None
}

/// What a pod reports about itself.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It serves, or is a standby.
    Well,
    /// It does not serve: why.
    Unwell(String),
    /// It did not answer: why.
    Unreached(String),
}

/// Milvus answers 200 if every role of the process is healthy or in standby, else 500 with the
/// roles that are not.
async fn healthz(place: (IpAddr, u16)) -> Answer {
    match pod_http::get(place, "/healthz", MAX_ANSWER).await {
        Ok((StatusCode::OK, _)) => Answer::Well,
        Ok((status, text)) if text.is_empty() => Answer::Unwell(status.to_string()),
        Ok((_, text)) => Answer::Unwell(error_text::line(&text)),
        Err(NoAnswer::Unreached(why)) => Answer::Unreached(why),
        Err(NoAnswer::Late) => {
            Answer::Unwell(format!("nothing within {} s", pod_http::answer_seconds()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use axum::{Router, routing::get};
    use tokio::net::TcpListener;

    use super::*;

    async fn answer(status: StatusCode, text: &'static str) -> Answer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            unreachable!("it was bound so")
        };
        let app = Router::new().route("/healthz", get(move || async move { (status, text) }));
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let answer = healthz(((*address.ip()).into(), address.port())).await;
        server.abort();
        answer
    }

    #[tokio::test]
    async fn the_health_of_a_pod_is_read_from_its_answer() {
        assert_eq!(answer(StatusCode::OK, "OK").await, Answer::Well);
        let told = answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            r#"{"state":"component querynode state is Initializing"}"#,
        )
        .await;
        assert!(
            matches!(&told, Answer::Unwell(why) if why.contains("querynode state is Initializing")),
            "{told:?}"
        );
        assert_eq!(
            answer(StatusCode::SERVICE_UNAVAILABLE, "").await,
            Answer::Unwell("503 Service Unavailable".into())
        );
    }

    #[tokio::test]
    async fn the_health_of_an_unreachable_pod_is_unknown() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(matches!(
            healthz((Ipv4Addr::LOCALHOST.into(), port)).await,
            Answer::Unreached(_)
        ));
    }

    #[test]
    fn the_wait_for_a_takeover_does_not_reduce_the_time_for_health() {
        let mut clocks = Clocks::default();
        assert!(!clocks.spend(Question::Active, Duration::from_secs(60)));
        assert!(!clocks.spend(Question::Pods, Duration::from_secs(29)));
        assert!(!clocks.is_over(Question::Pods));
        assert!(clocks.spend(Question::Pods, Duration::from_secs(1)));
        assert!(clocks.is_over(Question::Pods) && !clocks.is_over(Question::Active));
        assert!(clocks.spend(Question::Active, Duration::from_secs(30)));
    }
}
