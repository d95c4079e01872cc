//! The plan of a migration, without a write.

use milvus_guard_core::evidence::MetadataState;

use super::outcome::{MigrateOptions, Migrated, Outcome, nothing_to_do, without_plan};
use crate::{
    executor::{
        error::MetaError,
        events::{Event, Events, Running, Stage},
        record,
        summary::Summary,
        target::{Target, dump, journal},
    },
    model::{Dump, Options, Plan, PlanError, plan, versions::Transition},
};

/// Plans and changes nothing; `show` gets the whole plan.
///
/// # Errors
/// See [`MetaError`].
pub async fn preview(
    target: &Target,
    options: &MigrateOptions,
    events: &dyn Events,
    show: &mut (dyn FnMut(&Plan<'_>) + Send),
) -> Result<Migrated, MetaError> {
    let root = target.root()?;
    if options.transition()? == Transition::Compatible {
        return Ok(without_plan(Outcome::Compatible, &root, 0));
    }
    let tell = |what: &str| {
        events.event(Event::Waiting {
            what: what.to_owned(),
        });
    };
    let store = target.connect(Some(&tell)).await?;
    if let (Some(journal), _) = journal(&store, &root).await?
        && journal.phase.is_open()
    {
        return Err(record::under_way(&journal));
    }
    let dump = dump(&store, &root, events)
        .await
        .map_err(MetaError::unread)?;
    let plan = planned(&dump, &options.plan_options(), events)?;
    if let Some(outcome) = nothing_to_do(&plan) {
        return Ok(without_plan(outcome, &root, store.cluster_id()));
    }
    show(&plan);
    Ok(Migrated {
        plan: Some(Summary::of(&plan)),
        ..without_plan(Outcome::Planned, &root, store.cluster_id())
    })
}

/// The plan, or why there is none.
pub(in crate::executor) fn planned<'d>(
    dump: &'d Dump,
    options: &Options,
    events: &dyn Events,
) -> Result<Plan<'d>, MetaError> {
    let running = Running::begin(events, Stage::Plan, None);
    let plan = plan(dump, options).map_err(|error| {
        let next = match &error {
            PlanError::State(
                MetadataState::PartialApply
                | MetadataState::PartialCleaned
                | MetadataState::PartialSaved,
            ) => "`milvus-guard meta restore FILE` with the backup from before that.",
            PlanError::State(MetadataState::MixedSkipped) => {
                "restore a backup of 2.1 (`milvus-guard meta restore FILE`), or rebuild the \
                 indexes under 2.2."
            }
            _ => "check the named keys (`milvus-guard meta inspect`) and the root path.",
        };
        MetaError::refused(error.to_string(), next)
    })?;
    running.finish_at(plan.len() as u64);
    Ok(plan)
}
