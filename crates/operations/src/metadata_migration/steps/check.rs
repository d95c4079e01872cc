//! Checks the preconditions before anything is changed.

use crate::{
    engine::StepError,
    metadata_migration::{
        context::{StepContext, failed},
        events::MetadataEvents,
        migratable, survey,
    },
};
use milvus_guard_core::evidence::MetadataState;
use milvus_guard_metadata::{executor, model::keys::ROLES};

/// Checks the release, then its metadata.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let data = cx.data;
    let (release, facts) = survey::read(cx.client, &data.settings).await?;
    if let Some(why) = migratable::unsupported(&release)
        .or_else(|| migratable::blocked(&release, &facts, data.settings.source, data.again))
    {
        return Err(StepError::Refused(why));
    }
    let found = executor::inspect(
        &data.target,
        &milvus_guard_metadata::model::Options::default(),
        &MetadataEvents::of_run(cx.client),
    )
    .await
    .map_err(|e| failed(&e))?;
    if let Some(lock) = &found.lock {
        return Err(StepError::Locked(format!(
            "another migration holds the lock in etcd: {}",
            lock.holder
        )));
    }
    let shown = data.target.endpoint.shown();
    let why = match &found.state {
        MetadataState::V21 | MetadataState::V21NoIndex => found.problem.clone(),
        MetadataState::V22 => Some(format!(
            "the metadata under {} is already that of 2.2; if another tool migrated it, record \
             that with --record-only",
            found.root
        )),
        MetadataState::Empty => Some(format!(
            "the path {} in etcd at {shown} does not contain metadata: the root path (-r) or the \
             etcd (-e) is wrong",
            found.root
        )),
        MetadataState::PartialApply => Some(format!(
            "a migration of the metadata under {} was started with another tool and not finished; finish it first with milvus-guard meta migrate, or roll \
             back with milvus-guard meta restore",
            found.root
        )),
        MetadataState::MixedSkipped
        | MetadataState::PartialCleaned
        | MetadataState::PartialSaved
        | MetadataState::Unreadable(_) => Some(found.problem.clone().unwrap_or_else(|| {
            format!(
                "the metadata under {} cannot be migrated in its current state",
                found.root
            )
        })),
    };
    if let Some(why) = why {
        return Err(StepError::Refused(why));
    }
    // Running components are registered in the etcd that has their metadata, so no registration
    // means that this is another etcd or root path.
    let component = |key: &str| {
        ROLES
            .iter()
            .any(|role| key.contains(&format!("session/{role}")))
    };
    let registered = found.sessions.iter().any(|session| component(&session.key));
    if !release.is_stopped() && !registered {
        return Err(StepError::Refused(format!(
            "{} runs, but its components are not registered under {} in etcd at {shown}: the etcd \
             (-e) or the root path (-r) is wrong",
            release.name, found.root
        )));
    }
    for collection in found.plan.iter().flat_map(|plan| &plan.unloadable) {
        let name = &collection.name;
        cx.reporter().warn(format!(
            "collection {name} was loaded without an index, which 2.2 does not support; build an \
             index afterwards"
        ));
    }
    Ok(())
}
