//! Helm's turn: every Deployment that the change touches is paused, new ones are created paused,
//! removed ones are kept, then another process runs Helm. Nothing rolls before the run releases it.

use k8s_openapi::{
    api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    engine::{ApiError, StepError, originals},
    rolling_upgrade::{
        context::{StepContext, is_of},
        messages,
        plan::{Move, MoveKind},
        through_helm::{HelmCaller, HelmProgress, HelmTurn, MARK, change::marked},
    },
};
use milvus_guard_core::{
    api::{ConditionStatus, HelmRecord, Original, OriginalField, RunStatus},
    text::hexadecimal,
};
use milvus_guard_sources::kubernetes::{
    rollout::{Wanted, Watched},
    typed,
    workloads::{self, Change, FIELD_MANAGER},
};

use super::{leaving, predecessors};

/// Path under which the digest of a pod template is recorded: whether Helm has changed it.
pub(crate) const TEMPLATE: &str = "/spec/template";

/// Pauses what Helm will change, or notes that Helm has changed it.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    match &cx.data.settings.helm {
        Some(turn) if turn.progress == HelmProgress::Made => made(cx).await,
        turn => {
            if let Some(turn) = turn {
                hold(cx, turn).await?;
            }
            cx.record_waits_for_helm(ConditionStatus::True, "Held")
                .await?;
            Err(StepError::Waits(messages::turn_of_helm(cx.data)))
        }
    }
}

/// Releases what was paused with its old template, so that nothing rolls.
pub(crate) async fn undo(cx: &StepContext<'_>) -> Result<(), StepError> {
    await_rollback(cx).await?;
    cx.record_waits_for_helm(ConditionStatus::False, "RolledBack")
        .await?;
    for original in staying(cx)? {
        resume(cx, &original).await?;
    }
    for one in &cx.data.rollout.moves {
        if one.kind == MoveKind::Create {
            discard(cx, one).await?;
        }
    }
    leaving::release(cx).await
}

/// Releases a Deployment whose old template Helm has restored.
pub(crate) async fn back(cx: &StepContext<'_>, original: &Original) -> Result<(), StepError> {
    await_rollback(cx).await?;
    resume(cx, original).await
}

/// Refuses a rollback before Helm has rolled back, because the templates are Helm's.
async fn await_rollback(cx: &StepContext<'_>) -> Result<(), StepError> {
    let changed = changed(cx).await?;
    if changed.is_empty() {
        return Ok(());
    }
    let revision = cx.run().status.helm.unwrap_or_default().revision;
    let why = messages::helm_goes_back_first(cx.data, &changed, revision);
    Err(StepError::Refused(why))
}

/// Starts the pods of a component that Helm brought.
pub(crate) async fn start(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    for original in predecessors::originals_after_others(cx, one).await? {
        if originals::set(cx, &original, &released()).await? {
            cx.data.pace.began();
        }
    }
    Ok(())
}

/// The change that removes the pause and our mark.
pub(crate) fn released() -> Change {
    Change {
        paused: Some(false),
        annotations: vec![(MARK.into(), None)],
        ..Change::default()
    }
}

/// The digest of a pod template.
pub(crate) fn digest(deployment: &Deployment) -> Value {
    let template = serde_json::to_string(&deployment.spec.template).unwrap_or_default();
    let digest = Sha256::digest(template);
    format!("sha256:{}", hexadecimal(&digest)).into()
}

/// The recorded Deployments of which Helm has changed the pod template.
async fn changed(cx: &StepContext<'_>) -> Result<Vec<String>, StepError> {
    let mut changed = Vec::new();
    for original in staying(cx)? {
        let recorded = original.fields.iter().find(|field| field.path == TEMPLATE);
        let live = originals::live(cx, &original).await?;
        if recorded.is_some_and(|recorded| recorded.value.as_ref() != Some(&digest(&live))) {
            changed.push(original.name);
        }
    }
    Ok(changed)
}

/// The recorded Deployments that the change touches.
fn staying(cx: &StepContext<'_>) -> Result<Vec<Original>, StepError> {
    let moves = &cx.data.rollout.moves;
    let stays = |original: &Original| {
        let mut moves = moves.iter();
        moves.any(|one| one.kind == MoveKind::Update && is_of(original, one))
    };
    let mut recorded = originals::recorded(cx)?;
    recorded.retain(stays);
    Ok(recorded)
}

/// Pauses, creates and keeps. May be called again, because Helm may fail and delete new objects.
async fn hold(cx: &StepContext<'_>, turn: &HelmTurn) -> Result<(), StepError> {
    let change = &turn.change;
    let record = HelmRecord {
        revision: change.revision,
        leaving: change.leaving.clone(),
    };
    cx.record(|status| {
        status.helm.get_or_insert(record.clone());
    })
    .await?;
    let pause = Change {
        paused: Some(true),
        annotations: vec![(MARK.into(), Some(cx.data.run.clone()))],
        ..Change::default()
    };
    for original in staying(cx)? {
        originals::set(cx, &original, &pause).await?;
    }
    leaving::keep(cx).await?;
    // Helm 3 resumes paused objects that it finds when it returns from its hooks.
    let made_by_run = turn.caller == HelmCaller::Command;
    for arriving in change.arriving.iter().filter(|_| made_by_run) {
        make(cx, arriving).await?;
    }
    Ok(())
}

/// Creates a Deployment that Helm takes over.
async fn make(cx: &StepContext<'_>, arriving: &Value) -> Result<(), StepError> {
    // The error of the parser would contain values, which may be secret.
    let made: Deployment = typed(&marked(arriving, &cx.data.run)).map_err(|_| {
        let name = arriving["metadata"]["name"].as_str().unwrap_or_default();
        StepError::Failed(format!(
            "what the chart renders for {name} is not a Deployment"
        ))
    })?;
    let api = api(cx);
    let what = format!("Deployment {}", made.name_any());
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    };
    let request = async || api.create(&params, &made).await;
    match cx.write(&what, request).await {
        Ok(_) | Err(ApiError::Conflict { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    give_to_helm(cx, &made.name_any()).await
}

/// Makes Helm the field owner of what the run created for it, as of the other Deployments. Without
/// an owner, a later server-side apply would fail with a conflict.
async fn give_to_helm(cx: &StepContext<'_>, name: &str) -> Result<(), StepError> {
    let of = Original {
        name: name.to_owned(),
        ..Original::default()
    };
    let mut owner = None;
    for original in staying(cx)? {
        owner = owner.or(owner_of(&originals::live(cx, &original).await?));
    }
    let Some(owner) = owner else {
        return originals::hand_over(cx, &of, None).await;
    };
    let mark = format!("f:{MARK}");
    let except: [&[&str]; 2] = [
        &["f:spec", "f:paused"],
        &["f:metadata", "f:annotations", &mark],
    ];
    let (api, what) = (api(cx), format!("managed fields of Deployment {name}"));
    loop {
        let live = originals::live(cx, &of).await?;
        if !workloads::is_ours(&live.metadata) {
            return Ok(());
        }
        let request = async || workloads::give_to(&api, &live.metadata, &owner, &except).await;
        match cx.write(&what, request).await {
            Ok(()) => return Ok(()),
            Err(ApiError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The field owner of a Deployment's pod template: Helm, with its manager and operation.
fn owner_of(deployment: &Deployment) -> Option<ManagedFieldsEntry> {
    let owns = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields| fields["f:spec"]["f:template"]["f:spec"].is_object())
    };
    let is_helm = |entry: &&ManagedFieldsEntry| {
        let manager = entry.manager.as_deref();
        manager.is_some_and(|manager| manager.starts_with("helm"))
    };
    let managed = || deployment.metadata.managed_fields.iter().flatten();
    let of_helm = managed().filter(owns).find(is_helm);
    of_helm.or_else(|| managed().find(owns)).cloned()
}

/// Deletes a Deployment that the run created for Helm. Helm itself deletes what it has taken over.
pub(crate) async fn discard(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    await_rollback(cx).await?;
    let name = one.workload.as_deref().unwrap_or_default();
    let (api, what) = (api(cx), format!("Deployment {name}"));
    let found = cx
        .client
        .call(&what, async || api.get_opt(name).await)
        .await?;
    let Some(found) = found.filter(|found| found.annotations().contains_key(MARK)) else {
        return Ok(());
    };
    let request = async || api.delete(name, &DeleteParams::background()).await;
    match cx.write(&what, request).await {
        Ok(_) | Err(ApiError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let (watched, hopeless) = ([Watched::of(&found)], std::time::Duration::MAX);
    originals::wait_for(cx, &watched, Wanted::Gone, hopeless)
        .await
        .map(drop)
}

async fn resume(cx: &StepContext<'_>, original: &Original) -> Result<(), StepError> {
    let live = originals::live(cx, original).await?;
    // Without the mark, another client has paused it again on purpose.
    if live.annotations().contains_key(MARK) {
        originals::set(cx, original, &released()).await?;
    }
    Ok(())
}

/// Checks that Helm did what was planned, and records fields that a step changes temporarily.
async fn made(cx: &StepContext<'_>) -> Result<(), StepError> {
    let mut now: Vec<Deployment> = Vec::new();
    for original in originals::recorded(cx)? {
        let moves = cx.data.rollout.moves.iter();
        let mut kept = moves.filter(|one| one.kind != MoveKind::Remove);
        if !kept.any(|one| is_of(&original, one)) {
            continue;
        }
        let live = originals::live(cx, &original).await?;
        if let Some(image) = predecessors::off_target(&live, &original, &cx.data.rollout.image) {
            return Err(StepError::Failed(format!(
                "Helm has ended, but Deployment {} still has the image {image}",
                original.name
            )));
        }
        now.push(live);
    }
    cx.record(|status| {
        for live in &now {
            recall(status, live);
        }
    })
    .await?;
    cx.record_waits_for_helm(ConditionStatus::False, "HelmApplied")
        .await?;
    Ok(())
}

/// Records the strategy and the replicas that the chart has set.
fn recall(status: &mut RunStatus, live: &Deployment) {
    let name = live.name_any();
    let mut known = status.originals.iter_mut();
    let known = known.find(|known| known.component.is_some() && known.name == name);
    if let Some(known) = known {
        known.strategy = workloads::strategy(live);
        known.replicas = live.spec.replicas;
    }
}

/// The recorded value by which a change of Helm is noticed.
pub(crate) fn template_of(deployment: &Deployment) -> OriginalField {
    OriginalField {
        path: TEMPLATE.into(),
        value: Some(digest(deployment)),
    }
}

fn api(cx: &StepContext<'_>) -> Api<Deployment> {
    Api::namespaced(cx.client.kube(), &cx.data.settings.run.release.namespace)
}
