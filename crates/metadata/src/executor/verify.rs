//! `meta verify`: whether etcd contains what the plan from the backup contains.

use std::path::Path;

use serde::Serialize;

use crate::model::{Options, spans::Checkpoint};

use super::{
    backup::{self, BackupFile},
    compare::compare,
    error::MetaError,
    events::{Event, Events, Running, Stage},
    migrate::planned,
    summary::Summary,
    target::{Target, journal},
};

/// Options of a verification.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Whether the migration was made with the same option. Ignored if the record of the run
    /// exists, because it contains the option.
    pub strict_upstream: bool,
}

/// Metadata that is exactly as planned.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// The plan, made again from the backup.
    pub plan: Summary,
    /// The backup.
    pub backup: BackupFile,
    /// Identity of the etcd cluster.
    #[serde(serialize_with = "super::hexadecimal")]
    pub cluster_id: u64,
    /// Root of the metadata.
    pub root: String,
    /// Whether the record of the run names this backup and this plan.
    pub recorded: bool,
}

/// Plans again from the backup and compares every record with the current one. Changes nothing.
///
/// # Errors
/// [`MetaError::Refused`] with the first keys that differ.
pub async fn verify(
    target: &Target,
    backup: &Path,
    options: &VerifyOptions,
    events: &dyn Events,
) -> Result<Verified, MetaError> {
    let root = target.root()?;
    let (source, file) = backup::open(backup, events)?;
    if source.root.prefix() != root.prefix() {
        return Err(MetaError::refused(
            format!("the backup is of {}, not of {root}", source.root),
            "give the root path of the backup, or the backup of this root path.",
        ));
    }
    let tell = |what: &str| {
        events.event(Event::Waiting {
            what: what.to_owned(),
        });
    };
    let store = target.connect(Some(&tell)).await?;
    let recorded = journal(&store, &root)
        .await?
        .0
        .filter(|journal| journal.backup.sha256 == file.sha256);
    let plan_options = match &recorded {
        Some(journal) => journal.options.clone(),
        None if options.strict_upstream => Options::strict_upstream(),
        None => Options::default(),
    };
    let plan = planned(&source, &plan_options, events)?;
    let next = "resume with `milvus-guard meta migrate`, or roll back with `milvus-guard meta \
                restore`; if 2.2 has run since, its changes are expected.";
    let running = Running::begin(events, Stage::Verify, None);
    let (compared, _) = compare(&store, &root, &plan, Checkpoint::Ended, events, running)
        .await
        .map_err(MetaError::unread)?;
    let remaining = compared.map_err(|foreign| {
        MetaError::refused(format!("etcd differs from the plan: {foreign}"), next)
    })?;
    if !remaining.is_empty() {
        let (done, all) = (plan.len() - remaining.len(), plan.len());
        return Err(MetaError::refused(
            format!("etcd differs from the plan: {done} of {all} changes are made"),
            next,
        ));
    }
    Ok(Verified {
        recorded: recorded.is_some_and(|journal| journal.plan_digest == plan.digest()),
        plan: Summary::of(&plan),
        backup: file,
        cluster_id: store.cluster_id(),
        root: root.to_string(),
    })
}
