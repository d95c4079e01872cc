//! Waits until Deployments are in a wanted state, by watching them and their pods.
//!
//! The condition that Kubernetes calls complete is not enough: for Milvus, pods of an old template
//! that are still terminating are alive, and a status may be of an earlier generation.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::SelectAll};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};

use milvus_guard_core::{
    error_text,
    text::{count, count_is},
};

use super::pods::{
    has_ended, has_failed, is_hopeless, is_pod_of, is_ready, is_unprobed, last_end, phase,
    ready_since, start, trouble,
};

/// How long a pod must be up after a restart: long enough that a pod that crashes at start has
/// crashed again (its back-off begins at 10 s).
const CALM: SignedDuration = SignedDuration::from_secs(30);
/// How long a pod without readiness probes must be up: Kubernetes calls it ready as soon as it
/// starts, even if it ends immediately.
const UNPROBED: SignedDuration = SignedDuration::from_secs(10);
/// How long a new pod must be ready before the rollout may end an old pod. In this time a caller
/// can still stop the rollout from ending the next old pod.
pub const STEADY: Duration = Duration::from_secs(10);
/// Duration of one watch, in seconds. Then the server ends it, and the next watch continues there.
/// Shorter than the time after which the client closes a silent connection.
const WATCH_SECONDS: u32 = 20;
/// Interval of checks while a Deployment lacks only time.
const LOOKS: Duration = Duration::from_millis(500);
/// A Deployment to watch, and the selector of its pods in the syntax of `kubectl -l`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its name.
    pub name: String,
    /// `a=b,c=d`.
    pub selector: String,
}

impl Watched {
    /// This Deployment.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Self {
        let labels = deployment.spec.selector.match_labels.iter().flatten();
        let selector = labels
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(",");
        Self {
            name: deployment.name_any(),
            selector,
        }
    }
}

/// The state to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Every pod is of the current template and available, and no other pod is left, not even a
    /// terminating one.
    Complete,
    /// Every pod is of the current template and its containers run, ready or not.
    Running,
    /// At least this number of pods of the current template is ready, all for [`STEADY`], and no
    /// pod is terminating.
    Surged(usize),
    /// At most this number of pods of another template is left, without terminating ones.
    Old(usize),
    /// No pod is left, not even a terminating one.
    Gone,
}

/// The objects that were read of one Deployment.
#[derive(Clone, Debug, Default)]
struct Seen {
    deployment: Option<Deployment>,
    pods: BTreeMap<String, Pod>,
    /// Whether each of the two lists was read once: until then the state is unknown.
    listed: [bool; 2],
    /// Pods that do not start, and since when.
    hopeless: BTreeMap<String, Instant>,
}

enum News {
    Deployment(Box<Event<Deployment>>),
    Pod(Box<Event<Pod>>),
    Trouble(String),
}

/// A Deployment with a pod that did not start for too long; the text names what is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoHope(String);

/// Returns when all of these Deployments are in the wanted state, with the time. Calls `tell` with
/// what is missing after each possible change.
///
/// # Errors
/// If a pod does not start for longer than `hopeless`, with the reason. There is no other time
/// limit: the caller sets it.
pub async fn until(
    client: &Client,
    namespace: &str,
    watched: &[Watched],
    wanted: Wanted,
    hopeless: Duration,
    mut tell: impl FnMut(String),
) -> Result<Instant, NoHope> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut news = SelectAll::new();
    for (index, one) in watched.iter().enumerate() {
        let config = Config::default().timeout(WATCH_SECONDS);
        let config = config.fields(&format!("metadata.name={}", one.name));
        let stream = watcher(deployments.clone(), config).default_backoff();
        let told = |event| News::Deployment(Box::new(event));
        news.push(
            stream
                .map(move |event| {
                    (
                        index,
                        event.map_or_else(|e| News::Trouble(error_text::chain(&e)), told),
                    )
                })
                .boxed(),
        );
        let stream = watcher(
            pods.clone(),
            Config::default()
                .timeout(WATCH_SECONDS)
                .labels(&one.selector),
        )
        .default_backoff();
        let told = |event| News::Pod(Box::new(event));
        news.push(
            stream
                .map(move |event| {
                    (
                        index,
                        event.map_or_else(|e| News::Trouble(error_text::chain(&e)), told),
                    )
                })
                .boxed(),
        );
    }
    let mut all: Vec<Seen> = vec![Seen::default(); watched.len()];
    let mut by_time = false;
    loop {
        let event = tokio::select! {
            event = news.next() => event,
            () = tokio::time::sleep(LOOKS), if by_time => None,
        };
        match event {
            Some((index, News::Deployment(event))) => all[index].of_deployment(*event),
            Some((index, News::Pod(event))) => all[index].of_pod(*event, &watched[index].name),
            Some((index, News::Trouble(reason))) => {
                tell(format!(
                    "the API server (watch of {}): {reason}",
                    watched[index].name
                ));
                continue;
            }
            None => {}
        }
        if all.iter().any(|seen| seen.listed != [true, true]) {
            continue;
        }
        let now = Timestamp::now();
        let mut missing = Vec::new();
        by_time = false;
        for (one, seen) in watched.iter().zip(&mut all) {
            let pods: Vec<&Pod> = seen.pods.values().collect();
            let Some(lack) = lack(seen.deployment.as_ref(), &pods, wanted, now) else {
                continue;
            };
            by_time |= lack.ends_by_time || !seen.hopeless.is_empty();
            let text = format!("{}: {}", one.name, lack.text);
            if wanted != Wanted::Gone
                && seen
                    .hopeless
                    .values()
                    .any(|since| since.elapsed() >= hopeless)
            {
                return Err(NoHope(text));
            }
            missing.push(text);
        }
        if missing.is_empty() {
            return Ok(Instant::now());
        }
        tell(missing.join("; "));
    }
}

impl Seen {
    fn of_deployment(&mut self, event: Event<Deployment>) {
        match event {
            Event::Init => self.deployment = None,
            Event::InitApply(object) | Event::Apply(object) => self.deployment = Some(object),
            Event::InitDone => self.listed[0] = true,
            Event::Delete(_) => self.deployment = None,
        }
    }

    fn of_pod(&mut self, event: Event<Pod>, deployment: &str) {
        match event {
            Event::InitApply(pod) | Event::Apply(pod) | Event::Delete(pod)
                if !is_pod_of(&pod, deployment) => {}
            Event::Init => {
                self.listed[1] = false;
                self.pods.clear();
            }
            Event::InitApply(pod) | Event::Apply(pod) => {
                let name = pod.name_any();
                if is_ready(&pod) {
                    self.hopeless.remove(&name);
                } else if pod.metadata.deletion_timestamp.is_none() && is_hopeless(&pod) {
                    self.hopeless
                        .entry(name.clone())
                        .or_insert_with(Instant::now);
                }
                self.pods.insert(name, pod);
            }
            Event::InitDone => {
                self.listed[1] = true;
                self.hopeless.retain(|name, _| self.pods.contains_key(name));
            }
            Event::Delete(pod) => {
                self.pods.remove(&pod.name_any());
                self.hopeless.remove(&pod.name_any());
            }
        }
    }
}

/// What a Deployment lacks for the wanted state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// As text for a person.
    pub text: String,
    /// Whether only time has to pass, so that no event will report the end.
    pub ends_by_time: bool,
}

/// What a Deployment lacks; `None` if it is in the wanted state.
#[must_use]
pub fn lack(
    deployment: Option<&Deployment>,
    pods: &[&Pod],
    wanted: Wanted,
    now: Timestamp,
) -> Option<Lack> {
    if let Some(text) = missing(deployment, pods, wanted) {
        return Some(Lack {
            text,
            ends_by_time: false,
        });
    }
    if let Wanted::Surged(_) = wanted {
        let young = pods.iter().find(|pod| {
            ready_since(pod).is_some_and(|at| now.duration_since(at).unsigned_abs() < STEADY)
        })?;
        return Some(Lack {
            text: format!(
                "{} must stay ready for {} s",
                young.name_any(),
                STEADY.as_secs()
            ),
            ends_by_time: true,
        });
    }
    if wanted != Wanted::Complete {
        return None;
    }
    let restarted = pods.iter().find_map(|pod| {
        let at = pod
            .status
            .as_ref()?
            .container_statuses
            .iter()
            .flatten()
            .filter_map(last_end)
            .max()?;
        (now.duration_since(at) < CALM).then(|| {
            format!(
                "{} restarted at {at:.0}; it must stay up for 30 s",
                pod.name_any()
            )
        })
    });
    let unproven = || {
        pods.iter().filter(|pod| is_unprobed(pod)).find_map(|pod| {
            let at = pod
                .status
                .as_ref()?
                .container_statuses
                .iter()
                .flatten()
                .filter_map(start)
                .max()?;
            (now.duration_since(at) < UNPROBED).then(|| {
                format!(
                    "{} has no readiness probe; it must stay up for 10 s",
                    pod.name_any()
                )
            })
        })
    };
    restarted.or_else(unproven).map(|text| Lack {
        text,
        ends_by_time: true,
    })
}

/// What a Deployment lacks, without times of waiting; `None` if it is in the wanted state.
#[must_use]
pub fn missing(deployment: Option<&Deployment>, pods: &[&Pod], wanted: Wanted) -> Option<String> {
    let Some(deployment) = deployment else {
        return (wanted != Wanted::Gone).then(|| "the Deployment does not exist".into());
    };
    // A pod that has ended has no process left.
    let pods: Vec<&&Pod> = pods.iter().filter(|pod| !has_ended(pod)).collect();
    let spec = &deployment.spec;
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return Some("its controller has not seen the last change yet".into());
    }
    let replicas = spec.replicas.unwrap_or(1);
    if let Wanted::Surged(_) | Wanted::Old(_) = wanted {
        return missing_between(deployment, &pods, wanted);
    }
    if wanted == Wanted::Gone {
        let left = pods.len();
        return match (left, replicas) {
            (0, 0) => None,
            (0, replicas) => Some(format!("it was scaled to {replicas} by another client")),
            (1, _) => Some(format!("1 pod is left ({})", pods[0].name_any())),
            (left, _) => Some(format!("{} left", count_is(left, "pod"))),
        };
    }
    let old: Vec<&&&Pod> = pods
        .iter()
        .filter(|pod| is_ending(pod) || !is_new(deployment, pod))
        .collect();
    let [updated, ready, available] = [
        status.updated_replicas,
        status.ready_replicas,
        status.available_replicas,
    ]
    .map(|count| count.unwrap_or(0));
    let paused = if spec.paused == Some(true) {
        " (it is paused: kubectl rollout resume)"
    } else {
        ""
    };
    let why = why(deployment, &pods);
    if updated < replicas {
        return Some(format!(
            "{updated} of {replicas} pods have the current template{paused}{why}"
        ));
    }
    if wanted == Wanted::Running {
        let running = pods
            .iter()
            .filter(|pod| phase(pod) == Some("Running"))
            .count();
        let all = usize::try_from(replicas).unwrap_or(0);
        return (running < all).then(|| format!("{running} of {all} pods run{why}"));
    }
    if !old.is_empty() {
        let ending = old.iter().find(|pod| is_ending(pod));
        let ending = ending.map_or_else(String::new, |pod| {
            format!(" ({} is ending)", pod.name_any())
        });
        let left = count_is(old.len(), "old pod");
        Some(format!("{left} left{ending}{why}"))
    } else if ready < replicas || available < replicas {
        Some(format!("{available} of {replicas} pods available{why}"))
    } else if let Some(pod) = pods.iter().find(|pod| has_failed(pod)) {
        // The Deployment's status follows its pods.
        Some(format!("{} is not ready any more{why}", pod.name_any()))
    } else if status.replicas.unwrap_or(0) != replicas
        || pods.len() != usize::try_from(replicas).unwrap_or(0)
    {
        let counted = status.replicas.unwrap_or(0);
        let (pods, listed) = (
            count(usize::try_from(counted).unwrap_or(0), "pod"),
            pods.len(),
        );
        Some(if counted == replicas {
            format!("{pods} by its status, {listed} found{why}")
        } else {
            format!("{pods} instead of {replicas}{why}")
        })
    } else {
        None
    }
}

/// What is missing while old and new pods run together.
fn missing_between(deployment: &Deployment, pods: &[&&Pod], wanted: Wanted) -> Option<String> {
    let living = pods.iter().filter(|pod| !is_ending(pod));
    let (new, old): (Vec<&&&Pod>, Vec<&&&Pod>) = living.partition(|pod| is_new(deployment, pod));
    let why = why(deployment, pods);
    match wanted {
        Wanted::Old(most) if old.len() > most => {
            Some(format!("{} left{why}", count_is(old.len(), "old pod")))
        }
        Wanted::Surged(least) => {
            let ready = new.iter().filter(|pod| is_ready(pod)).count();
            if ready < least {
                return Some(format!("{ready} of {} ready{why}", count(least, "new pod")));
            }
            let ending = pods.iter().find(|pod| is_ending(pod))?;
            Some(format!("{} is ending", ending.name_any()))
        }
        _ => None,
    }
}

/// Pods of a Deployment that are neither terminating nor ended.
#[derive(Clone, Debug, Default)]
pub struct ByTemplate {
    /// Pods of the current template.
    pub new: Vec<Pod>,
    /// Pods of another template.
    pub old: Vec<Pod>,
}

/// Splits pods by template, without pods that are terminating or have ended.
#[must_use]
pub fn by_template(deployment: &Deployment, pods: impl IntoIterator<Item = Pod>) -> ByTemplate {
    let living = pods
        .into_iter()
        .filter(|pod| !has_ended(pod) && !is_ending(pod));
    let (new, old) = living.partition(|pod| is_new(deployment, pod));
    ByTemplate { new, old }
}

fn is_ending(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether a pod has the images of the current template.
fn is_new(deployment: &Deployment, pod: &Pod) -> bool {
    let template = deployment.spec.template.spec.iter();
    let template = template.flat_map(|spec| &spec.containers);
    let own = pod.spec.iter().flat_map(|spec| &spec.containers);
    own.filter_map(|one| one.image.as_ref())
        .eq(template.filter_map(|one| one.image.as_ref()))
}

/// Why pods do not start, in parentheses; empty if unknown.
fn why(deployment: &Deployment, pods: &[&&Pod]) -> String {
    pods.iter()
        .find_map(|pod| trouble(pod))
        .or_else(|| refused(deployment))
        .map_or_else(String::new, |why| format!(" ({why})"))
}

/// Why no pod could be made at all, such as a quota.
fn refused(deployment: &Deployment) -> Option<String> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions.iter().find(|one| {
        one.type_.as_deref() == Some("ReplicaFailure") && one.status.as_deref() == Some("True")
    })?;
    Some(error_text::line(
        failure.message.as_deref().or(failure.reason.as_deref())?,
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn deployment(replicas: i64, status: &Value) -> Deployment {
        let template = json!({"spec": {"containers": [{"name": "proxy", "image": "milvus:2"}]}});
        let spec = json!({"replicas": replicas, "selector": {}, "template": template});
        serde_json::from_value(
            json!({"metadata": {"generation": 2}, "spec": spec, "status": status}),
        )
        .unwrap()
    }

    fn status(seen: i64, all: i64, updated: i64, available: i64) -> Value {
        json!({"observedGeneration": seen, "replicas": all, "updatedReplicas": updated, "readyReplicas": available, "availableReplicas": available})
    }

    fn pod(image: &str, more: &Value) -> Pod {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "proxy", "image": image}]}});
        json_patch::merge(&mut pod, more);
        serde_json::from_value(pod).unwrap()
    }

    #[rstest]
    #[case::whole(status(2, 1, 1, 1), vec![pod("milvus:2", &json!({}))], None)]
    #[case::unseen(status(1, 1, 1, 1), vec![pod("milvus:2", &json!({}))], Some("its controller has \
        not seen the last change yet"))]
    #[case::old(status(2, 1, 1, 1), vec![pod("milvus:2", &json!({})), pod("milvus:1", &json!({}))], Some("1 old pod is left"))]
    #[case::ending(
        status(2, 1, 1, 1),
        vec![pod("milvus:2", &json!({})), pod("milvus:2", &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))],
        Some("1 old pod is left (p is ending)")
    )]
    #[case::done(status(2, 1, 1, 1), vec![pod("milvus:2", &json!({})), pod("milvus:1", &json!({"status": {"phase": "Failed"}}))], None)]
    #[case::unready(status(2, 1, 1, 0), vec![pod("milvus:2", &json!({}))], Some("0 of 1 pods available"))]
    #[case::unpulled(
        status(2, 1, 1, 0),
        vec![pod("milvus:2", &json!({"status": {"containerStatuses": [{"name": "proxy", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}}))],
        Some("0 of 1 pods available (p ImagePullBackOff)")
    )]
    #[case::behind_its_pods(
        status(2, 1, 1, 1),
        vec![pod("milvus:2", &json!({"status": {"containerStatuses": [{"name": "proxy", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": 1}}}]}}))],
        Some("p is not ready any more")
    )]
    #[case::unready_by_itself(
        status(2, 1, 1, 1),
        vec![pod("milvus:2", &json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}))],
        Some("p is not ready any more")
    )]
    fn a_deployment_is_complete_or_its_lack_is_named(
        #[case] status: Value,
        #[case] pods: Vec<Pod>,
        #[case] expected: Option<&str>,
    ) {
        let pods: Vec<&Pod> = pods.iter().collect();
        assert_eq!(
            missing(Some(&deployment(1, &status)), &pods, Wanted::Complete).as_deref(),
            expected
        );
    }

    #[rstest]
    #[case(&[], Wanted::Surged(1), Some("0 of 1 new pod ready"))]
    #[case(&["2"], Wanted::Surged(1), Some("0 of 1 new pod ready"))]
    #[case(&["1", "1", "2 ready"], Wanted::Surged(1), None)]
    #[case(&["1 ending", "1", "2 ready"], Wanted::Surged(1), Some("p is ending"))]
    #[case(&["1", "2 ready", "2"], Wanted::Surged(2), Some("1 of 2 new pods ready"))]
    #[case(&["1", "1", "2 ready"], Wanted::Old(1), Some("2 old pods are left"))]
    #[case(&["1", "2 ready"], Wanted::Old(0), Some("1 old pod is left"))]
    #[case(&["1 ending", "1", "2 ready"], Wanted::Old(1), None)]
    #[case(&["2 ready"], Wanted::Old(0), None)]
    fn the_lack_is_named_while_old_and_new_pods_run_together(
        #[case] pods: &[&str],
        #[case] wanted: Wanted,
        #[case] expected: Option<&str>,
    ) {
        let pod = |words: &&str| {
            let (version, state) = words.split_once(' ').unwrap_or((words, ""));
            let more = match state {
                "ready" => json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
                "ending" => json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
                _ => json!({}),
            };
            pod(&format!("milvus:{version}"), &more)
        };
        let pods: Vec<Pod> = pods.iter().map(pod).collect();
        let pods: Vec<&Pod> = pods.iter().collect();
        let of = |seen| deployment(2, &status(seen, 3, 1, 2));
        assert_eq!(missing(Some(&of(2)), &pods, wanted).as_deref(), expected);
        assert!(
            missing(Some(&of(1)), &pods, wanted).is_some(),
            "the controller has not seen the last change yet"
        );
    }

    #[rstest]
    #[case("05", true)]
    #[case("10", false)]
    fn a_surge_is_done_after_new_pods_were_ready_for_10_seconds(
        #[case] now: &str,
        #[case] lacks: bool,
    ) {
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let new = pod("milvus:2", &json!({"status": {"conditions": [ready]}}));
        let now = format!("2026-01-01T00:00:{now}Z").parse().unwrap();
        let whole = deployment(2, &status(2, 3, 1, 2));
        let lack = lack(Some(&whole), &[&new], Wanted::Surged(1), now);
        assert_eq!(lack.is_some_and(|lack| lack.ends_by_time), lacks);
    }

    #[test]
    fn gone_means_that_no_pod_is_left() {
        let none = deployment(0, &json!({"observedGeneration": 2}));
        let ending = pod(
            "milvus:2",
            &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        );
        assert_eq!(missing(Some(&none), &[], Wanted::Gone), None);
        assert_eq!(missing(None, &[], Wanted::Gone), None);
        assert_eq!(
            missing(Some(&none), &[&ending], Wanted::Gone).as_deref(),
            Some("1 pod is left (p)")
        );
        let up = deployment(1, &json!({"observedGeneration": 2}));
        assert_eq!(
            missing(Some(&up), &[], Wanted::Gone).as_deref(),
            Some("it was scaled to 1 by another client")
        );
    }

    #[rstest]
    #[case(json!({}), "00:05", true)]
    #[case(json!({}), "00:10", false)]
    #[case(json!({"readinessProbe": {}}), "00:05", false)]
    #[case(json!({"startupProbe": {}}), "00:05", false)]
    fn a_pod_without_a_probe_must_stay_up_for_10_seconds(
        #[case] probes: Value,
        #[case] now: &str,
        #[case] lacks: bool,
    ) {
        let mut container = json!({"name": "proxy", "image": "milvus:2"});
        json_patch::merge(&mut container, &probes);
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let started = pod(
            "milvus:2",
            &json!({"spec": {"containers": [container]}, "status": {"containerStatuses": [
                {"name": "proxy", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": running}]}}),
        );
        let now = format!("2026-01-01T00:{now}Z").parse().unwrap();
        let lack = lack(
            Some(&deployment(1, &status(2, 1, 1, 1))),
            &[&started],
            Wanted::Complete,
            now,
        );
        assert_eq!(
            lack.as_ref().is_some_and(|lack| lack.ends_by_time),
            lacks,
            "{lack:?}"
        );
    }

    #[test]
    fn a_restarted_pod_must_stay_up_for_30_seconds() {
        let at =
            |second: &str| -> Timestamp { format!("2026-01-01T00:00:{second}Z").parse().unwrap() };
        let restarted = pod(
            "milvus:2",
            &json!({"status": {"containerStatuses": [{"name": "proxy", "image": "", "imageID": "", "ready": true, "restartCount": 1,
                "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:05Z"}}}]}}),
        );
        let whole = deployment(1, &status(2, 1, 1, 1));
        let seen = lack(Some(&whole), &[&restarted], Wanted::Complete, at("20")).unwrap();
        assert!(seen.ends_by_time);
        assert_eq!(
            seen.text,
            "p restarted at 2026-01-01T00:00:05Z; it must stay up for 30 s"
        );
        assert_eq!(
            lack(Some(&whole), &[&restarted], Wanted::Complete, at("35")),
            None
        );
    }

    #[test]
    fn running_pods_need_not_be_ready_and_an_exceeded_quota_is_named() {
        let running = pod("milvus:2", &json!({"status": {"phase": "Running"}}));
        let unready = deployment(1, &status(2, 1, 1, 0));
        assert_eq!(missing(Some(&unready), &[&running], Wanted::Running), None);
        let pending = pod("milvus:2", &json!({"status": {"phase": "Pending"}}));
        assert_eq!(
            missing(Some(&unready), &[&pending], Wanted::Running).as_deref(),
            Some("0 of 1 pods run")
        );
        let mut none = status(2, 0, 0, 0);
        none["conditions"] = json!([{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"}]);
        let expected = "0 of 1 pods have the current template (exceeded quota: pods)";
        assert_eq!(
            missing(Some(&deployment(1, &none)), &[], Wanted::Complete).as_deref(),
            Some(expected)
        );
    }
}
