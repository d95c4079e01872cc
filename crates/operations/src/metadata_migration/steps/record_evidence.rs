//! Records the evidence that the webhook trusts: bound to the release, the versions, the etcd and
//! the workloads.

use jiff::Timestamp;

use crate::{
    engine::{StepError, originals::recorded},
    metadata_migration::context::StepContext,
};
use milvus_guard_core::api::{Condition, ConditionStatus, Evidence, progress::METADATA_MIGRATED};

/// Notes what was verified. It becomes evidence only with the condition.
pub(super) async fn draft(cx: &StepContext<'_>, cluster_id: u64) -> Result<(), StepError> {
    let data = cx.data;
    let settings = &data.settings;
    let evidence = Evidence {
        release: data.release.name.clone(),
        namespace: settings.run.release.namespace.clone(),
        from: settings.source,
        to: settings.target,
        root_path: data.target.endpoint.root_path.clone(),
        etcd_cluster_id: format!("{cluster_id:x}"),
        endpoints: if data.configured.is_empty() {
            data.target.endpoint.addresses.clone()
        } else {
            data.configured.clone()
        },
        workload_uids: Vec::new(),
    };
    cx.record(|status| status.evidence = Some(evidence.clone()))
        .await?;
    Ok(())
}

/// Makes it evidence, after the verification and before the new version starts.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let Some(drafted) = cx.run().status.evidence else {
        return Err(StepError::Refused(
            "the run has not verified anything that could be evidence".into(),
        ));
    };
    let evidence = Evidence {
        workload_uids: recorded(cx)?
            .into_iter()
            .filter_map(|original| original.uid)
            .collect(),
        ..drafted
    };
    cx.record(|status| {
        status.evidence = Some(evidence.clone());
        condition(
            ConditionStatus::True,
            "Verified",
            "the metadata was read back and compared with the plan",
        )
        .set(&mut status.conditions);
    })
    .await?;
    Ok(())
}

/// Removes the evidence, before the metadata is restored.
pub(crate) async fn undo(cx: &StepContext<'_>) -> Result<(), StepError> {
    if cx.run().status.evidence.is_some() {
        cx.record(|status| {
            condition(
                ConditionStatus::False,
                "RolledBack",
                "the run is rolled back",
            )
            .set(&mut status.conditions);
        })
        .await?;
    }
    Ok(())
}

fn condition(status: ConditionStatus, reason: &str, message: &str) -> Condition {
    Condition {
        r#type: METADATA_MIGRATED.into(),
        status,
        reason: reason.into(),
        message: message.into(),
        last_transition_time: Timestamp::now(),
        observed_generation: None,
    }
}
