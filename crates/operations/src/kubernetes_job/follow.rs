//! Follows a Job: reports the events of its run, and how it ended.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{Api, api::ListParams, core::DynamicObject};
use serde::Deserialize;
use serde_json::Value;

use crate::engine::{ApiError, End, Event, Intent, RetryingClient};
use milvus_guard_core::api::{RunPhase, UPGRADE_RUN, UpgradeRun};
use milvus_guard_sources::kubernetes::{guard::api_resource, pods::trouble};

use super::spec::JobSpec;

/// Interval between two looks at a Job and its run. The Job itself shows its events at once.
pub const LOOK: Duration = Duration::from_secs(1);

/// Whether a Job has ended, successfully or not.
#[must_use]
pub fn has_ended(job: &Job) -> bool {
    let conditions = job
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True")
}

/// Follows the Job to its end; `None` if this process was asked to stop following.
///
/// # Errors
/// If the cluster can no longer be queried.
pub async fn follow(client: &RetryingClient, spec: &JobSpec) -> Result<Option<End>, End> {
    let jobs: Api<Job> = Api::namespaced(client.kube(), &spec.home);
    let pods: Api<Pod> = Api::namespaced(client.kube(), &spec.home);
    let runs: Api<DynamicObject> =
        Api::namespaced_with(client.kube(), &spec.home, &api_resource(UPGRADE_RUN));
    let mut shown = ShownEvents::default();
    loop {
        match look(client, spec, &jobs, &pods, &runs, &mut shown).await {
            Ok(Some(end)) => return Ok(Some(end)),
            Ok(None) => {}
            Err(ApiError::Cancelled { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = client.cancellation.cancelled() => return Ok(None),
        }
    }
}

async fn look(
    client: &RetryingClient,
    spec: &JobSpec,
    jobs: &Api<Job>,
    pods: &Api<Pod>,
    runs: &Api<DynamicObject>,
    shown: &mut ShownEvents,
) -> Result<Option<End>, ApiError> {
    let name = &spec.name;
    // The Job is read before its run, so that everything the Job did to the run is seen.
    let job = client
        .call(&format!("Job {name}"), async || jobs.get_opt(name).await)
        .await?;
    let run = client
        .call(&format!("UpgradeRun {}", spec.run), async || {
            runs.get_opt(&spec.run).await
        })
        .await?;
    let run = run
        .and_then(|object| serde_json::to_value(object).ok())
        .and_then(|value| serde_json::from_value(value).ok());
    if let Some(run) = &run {
        shown.show(client, run);
    }
    let Some(job) = job else {
        return Ok(Some(ended(spec, run.as_ref(), None, "the Job was deleted")));
    };
    let params = ListParams::default().labels(&format!("job-name={name}"));
    let found = client
        .call(&format!("pods of Job {name}"), async || {
            pods.list(&params).await
        })
        .await?
        .items;
    if has_ended(&job) {
        let last = found
            .iter()
            .filter_map(|pod| final_report(pod, spec.verb))
            .next_back();
        let conditions = job
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        let why = conditions
            .iter()
            .find(|one| one.type_ == "Failed" && one.status == "True");
        let why = why
            .and_then(|one| one.message.clone().or_else(|| one.reason.clone()))
            .unwrap_or_default();
        return Ok(Some(ended(spec, run.as_ref(), last, &why)));
    }
    if let Some(trouble) = found.iter().find_map(trouble) {
        client.wait_for(trouble);
    }
    Ok(None)
}

/// The events of the run that were already shown.
#[derive(Default)]
struct ShownEvents {
    /// Times and texts of the events in the history.
    events: BTreeSet<(jiff::Timestamp, String)>,
}

impl ShownEvents {
    fn show(&mut self, client: &RetryingClient, run: &UpgradeRun) {
        let plan = &run.spec.plan;
        for event in &run.status.history {
            if !self
                .events
                .insert((event.time, format!("{} {}", event.reason, event.message)))
            {
                continue;
            }
            let id = event.step.clone().unwrap_or_default();
            let number = plan
                .iter()
                .position(|step| step.id == id)
                .map_or(0, |place| place + 1);
            let (of, back) = (plan.len(), event.message.starts_with("undoing: "));
            let event = match event.reason.as_str() {
                "RunBegan" => Event::Note {
                    text: event.message.clone(),
                },
                "StepBegan" => {
                    let title = event.message.trim_start_matches("undoing: ").to_owned();
                    Event::StepBegan {
                        step: id,
                        number,
                        of,
                        title,
                        attempt: 1,
                        back,
                    }
                }
                "StepDone" => {
                    let ms = event
                        .message
                        .split(' ')
                        .nth(1)
                        .and_then(|ms| ms.parse().ok())
                        .unwrap_or(0);
                    Event::StepDone {
                        step: id,
                        number,
                        of,
                        took: Duration::from_millis(ms),
                        back: run.status.phase == RunPhase::RollingBack,
                    }
                }
                "StepFailed" => Event::StepFailed {
                    step: id,
                    reason: event.message.clone(),
                },
                "Warning" => Event::Warning {
                    text: event.message.clone(),
                },
                "Note" => Event::Note {
                    text: event.message.clone(),
                },
                _ => continue,
            };
            client.reporter.emit(&event);
        }
        match run
            .status
            .step
            .as_ref()
            .and_then(|step| step.waiting_for.clone())
        {
            Some(on) => client.wait_for(on),
            None => client.go_on(),
        }
    }
}

/// The result that the process of a pod reported when it ended.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FinalReport {
    outcome: String,
    message: String,
}

fn final_report(pod: &Pod, container: &str) -> Option<FinalReport> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ended = containers
        .iter()
        .find(|one| one.name == container)?
        .state
        .as_ref()?
        .terminated
        .as_ref()?;
    let text = ended.message.as_deref()?;
    let known: Option<FinalReport> = serde_json::from_str::<Value>(text)
        .ok()
        .and_then(|value| serde_json::from_value(value).ok());
    // Without a result, the message is the end of the log: an error before the run began.
    known.or_else(|| {
        let outcome = match ended.exit_code {
            1 => "refused",
            5 => "locked",
            _ => "stopped",
        };
        Some(FinalReport {
            outcome: outcome.into(),
            message: milvus_guard_core::error_text::line(text),
        })
    })
}

/// How the Job ended: as its process reported, else according to the phase of its run.
fn ended(spec: &JobSpec, run: Option<&UpgradeRun>, last: Option<FinalReport>, why: &str) -> End {
    if let Some(FinalReport { outcome, message }) = last {
        return match outcome.as_str() {
            "reached" => End::Reached(message),
            "waits" => End::Waits(message),
            "refused" => End::Refused(message),
            "rolled-back" => End::RolledBack(message),
            "locked" => End::Locked(message),
            _ => End::Stopped(message),
        };
    }
    let message = run
        .and_then(|run| run.status.message.clone())
        .unwrap_or_default();
    let phase = run.map(|run| run.status.phase);
    match phase {
        Some(RunPhase::Succeeded) => End::Reached(message),
        Some(RunPhase::Paused) => End::Waits(message),
        Some(RunPhase::Refused) => End::Refused(message),
        Some(RunPhase::RolledBack) if spec.intent == Intent::Back => End::Reached(message),
        Some(RunPhase::RolledBack) => End::RolledBack(message),
        Some(RunPhase::Aborted) if spec.intent == Intent::End => End::Reached(message),
        _ => {
            let stood = phase.map_or("before it began", RunPhase::name);
            End::Stopped(format!(
                "Stopped: Job {}/{} ended without reporting a result ({}); its run was at \
                 {stood}. Next: rerun the same command, which resumes; kubectl logs -n {} \
                 job/{} shows its output",
                spec.home,
                spec.name,
                if why.is_empty() {
                    "for an unknown reason"
                } else {
                    why
                },
                spec.home,
                spec.name
            ))
        }
    }
}
