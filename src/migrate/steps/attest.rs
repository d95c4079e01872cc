//! The evidence that the webhook believes: bound to the release, the versions, the etcd and the workloads.

use jiff::Timestamp;

use crate::{
    meta,
    migrate::world::{Cx, Told, failed, recorded},
    objects::{Condition, ConditionStatus, Evidence, progress::METADATA_MIGRATED},
    run::StepError,
};

/// Records the evidence, after verification and before anything of the new version starts.
pub(crate) async fn apply(cx: &Cx<'_>) -> Result<(), StepError> {
    let world = cx.world;
    let settings = &world.settings;
    let id = meta::cluster_id(&world.target, &Told::new(cx.link)).await.map_err(|error| failed(&error))?;
    let evidence = Evidence {
        release: world.release.name.clone(),
        namespace: settings.release.namespace.clone(),
        from: settings.source,
        to: settings.target,
        root_path: world.target.endpoint.root_path.clone(),
        etcd_cluster_id: format!("{id:x}"),
        endpoints: if world.configured.is_empty() { world.target.endpoint.addresses.clone() } else { world.configured.clone() },
        workload_uids: recorded(cx)?.into_iter().filter_map(|original| original.uid).collect(),
    };
    cx.record(|status| {
        status.evidence = Some(evidence.clone());
        condition(ConditionStatus::True, "Verified", "the metadata was read back and compared with the plan").set(&mut status.conditions);
    })
    .await?;
    Ok(())
}

/// Takes the evidence back, before the metadata goes back.
pub(crate) async fn undo(cx: &Cx<'_>) -> Result<(), StepError> {
    if cx.run().status.evidence.is_some() {
        cx.record(|status| {
            condition(ConditionStatus::False, "RolledBack", "the run goes back").set(&mut status.conditions);
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
