//! Checks a migration that another tool made, so that its evidence can be recorded.

use crate::{
    engine::StepError,
    metadata_migration::{
        context::{StepContext, failed},
        events::MetadataEvents,
        migratable, survey,
    },
};
use milvus_guard_core::evidence::MetadataState;
use milvus_guard_metadata::executor;

use super::record_evidence;

/// Checks that the metadata is that of 2.2, and that nothing of 2.1 can write to it.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let data = cx.data;
    let (release, _) = survey::read(cx.client, &data.settings).await?;
    if let Some(why) = migratable::unsupported(&release) {
        return Err(StepError::Refused(why));
    }
    let old = release.components.iter().find(|component| {
        component.is_running()
            && component
                .version()
                .build()
                .is_some_and(|build| build.version.line() == data.settings.source.line())
    });
    if let Some(old) = old {
        let name = &old.workload.meta.object.name;
        return Err(StepError::Refused(format!(
            "Deployment {name} still runs {}, which writes metadata of 2.1; stop it first",
            old.image()
        )));
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
            "a migration holds the lock in etcd: {}",
            lock.holder
        )));
    }
    if found.run.as_ref().is_some_and(|run| run.phase.is_open()) {
        return Err(StepError::Refused(
            "a migration in etcd was started and not finished; finish it first with milvus-guard \
             meta migrate"
                .into(),
        ));
    }
    match &found.state {
        MetadataState::V22 => record_evidence::draft(cx, found.cluster_id).await,
        // A migration would change nothing, so the metadata counts as migrated.
        MetadataState::V21NoIndex if found.plan.is_none() && found.problem.is_none() => {
            record_evidence::draft(cx, found.cluster_id).await
        }
        other => Err(StepError::Refused(format!(
            "the metadata under {} in etcd at {} is not that of 2.2 ({other:?}), so there is nothing to record",
            found.root,
            data.target.endpoint.shown()
        ))),
    }
}
