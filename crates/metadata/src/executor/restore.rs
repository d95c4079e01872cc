//! `meta restore`: exactly the metadata of the backup, from any state.

use std::{
    iter,
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::model::{
    Dump, Options, Root,
    journal::{FORM, Journal, JournalBackup, JournalPhase},
    keys::shown,
    restore::{RestorePlan, Restorer},
};
use milvus_guard_sources::etcd::connection::EtcdConnection;

use super::{
    apply::Applier,
    backup::{self, BackupFile},
    error::MetaError,
    events::{Event, Events, Running, Stage},
    guard::Guard,
    interruption,
    lock::Lock,
    migrate::takes_writes,
    process::Process,
    record,
    sessions::clear_of_sessions,
    target::{Seen, Target, journal, scan, spans_at},
};

/// Maximum number of losses that a message names.
const NAMED: usize = 20;

/// Options of a restore.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Whether to restore even if changes by 2.2 since the backup are lost.
    pub accept_data_loss: bool,
    /// Whether to restore to a root path that differs from the one in the backup.
    pub other_root: bool,
    /// Whether to plan without changing anything.
    pub dry_run: bool,
    /// How long to wait for sessions of Milvus to end; absent means no wait.
    pub wait_sessions: Option<Duration>,
}

/// A restore that ended without an error.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// Whether it was a dry run.
    pub dry_run: bool,
    /// Records that were missing.
    pub puts: u64,
    /// Records that had another value.
    pub rewrites: u64,
    /// Records of 2.2 that were deleted.
    pub deletes: u64,
    /// Number of keys that are not Milvus' and were not changed.
    pub foreign: u64,
    /// The first of these keys.
    pub kept: Vec<String>,
    /// What was created or changed in 2.2 since the backup, and is lost.
    pub lost: Vec<String>,
    /// Number of losses.
    pub lost_total: u64,
    /// The backup.
    pub backup: BackupFile,
    /// Identity of the etcd cluster.
    #[serde(serialize_with = "super::hexadecimal")]
    pub cluster_id: u64,
    /// Root of the metadata.
    pub root: String,
    /// Seconds from the first write to the last verification.
    pub seconds: f64,
}

/// Restores a backup, or resumes a restore. The whole file is checked before anything is written.
///
/// # Errors
/// See [`MetaError`]; [`MetaError::Stopped`] resumes when the same call is made again.
pub async fn restore(
    target: &Target,
    backup: &Path,
    options: &RestoreOptions,
    events: &dyn Events,
) -> Result<Restored, MetaError> {
    if options.dry_run {
        return preview_restore(target, backup, options, events, &mut |_| {}).await;
    }
    let root = target.root()?;
    let (source, file) = readable(backup, &root, options, events)?;
    let tell = |what: &str| {
        events.event(Event::Waiting {
            what: what.to_owned(),
        });
    };
    let store = target.connect(Some(&tell)).await?;
    let run = Run {
        target,
        store: &store,
        root: &root,
        options,
        events,
        source: &source,
        file,
    };
    run.warn_of_another_cluster();
    takes_writes(&store, &root).await?;
    let lock = Lock::take(&store, &root, "meta restore", events).await?;
    let done = run.go(&lock).await;
    lock.release().await;
    done
}

/// Plans a restore and changes nothing; `show` gets the whole plan.
///
/// # Errors
/// See [`MetaError`].
pub async fn preview_restore(
    target: &Target,
    backup: &Path,
    options: &RestoreOptions,
    events: &dyn Events,
    show: &mut (dyn FnMut(&RestorePlan<'_>) + Send),
) -> Result<Restored, MetaError> {
    let root = target.root()?;
    let (source, file) = readable(backup, &root, options, events)?;
    let tell = |what: &str| {
        events.event(Event::Waiting {
            what: what.to_owned(),
        });
    };
    let store = target.connect(Some(&tell)).await?;
    let run = Run {
        target,
        store: &store,
        root: &root,
        options,
        events,
        source: &source,
        file,
    };
    run.warn_of_another_cluster();
    let plan = run.plan(Stage::Read).await.map_err(MetaError::unread)?;
    show(&plan);
    Ok(Restored {
        dry_run: true,
        ..run.restored(&plan, 0.0)
    })
}

/// The complete backup, if it is of this root.
fn readable(
    backup: &Path,
    root: &Root,
    options: &RestoreOptions,
    events: &dyn Events,
) -> Result<(Dump, BackupFile), MetaError> {
    let (source, file) = backup::open(backup, events)?;
    if source.root.prefix() != root.prefix() && !options.other_root {
        return Err(MetaError::refused(
            format!("the backup is of {}, not of {root}", source.root),
            "give the root path of the backup; or, to restore it to this one, --other-root.",
        ));
    }
    Ok((source, file))
}

struct Run<'a> {
    target: &'a Target,
    store: &'a EtcdConnection<'a>,
    root: &'a Root,
    options: &'a RestoreOptions,
    events: &'a dyn Events,
    source: &'a Dump,
    file: BackupFile,
}

impl Run<'_> {
    fn warn_of_another_cluster(&self) {
        if self.source.cluster_id != 0 && self.source.cluster_id != self.store.cluster_id() {
            self.events.event(Event::Warning {
                note: "the backup is of another etcd cluster".into(),
            });
        }
    }

    async fn go(&self, lock: &Lock) -> Result<Restored, MetaError> {
        let (before, revision) = journal(self.store, self.root).await?;
        let stopped_before = before.as_ref().filter(|journal| journal.phase.is_open());
        let refuse = |error: MetaError| match stopped_before {
            Some(journal) => interruption::under_way(&error, journal),
            None => error,
        };
        clear_of_sessions(
            self.store,
            self.root,
            self.options.wait_sessions,
            &self.target.stop,
            self.events,
        )
        .await
        .map_err(refuse)?;
        let plan = self
            .plan(Stage::Read)
            .await
            .map_err(|failure| refuse(MetaError::unread(failure)))?;
        if !plan.would_lose().is_empty() && !self.options.accept_data_loss {
            return Err(refuse(would_lose(&plan)));
        }
        let mut journal = self.journal(before.clone());
        let mut guard = Guard::new(lock, self.root, revision);
        record::write(self.store, &mut guard, &journal)
            .await
            .map_err(|interruption| {
                refuse(interruption::before_writing(interruption, &self.file.path))
            })?;
        let began = Instant::now();
        let mut running = Running::begin(self.events, Stage::Write, Some(plan.len() as u64));
        let applier = Applier {
            store: self.store,
            root: self.root,
            guard: &guard,
            stop: &self.target.stop,
        };
        applier
            .apply(plan.batches(), &mut running)
            .await
            .map_err(|interruption| interruption::stopped(interruption, &journal))?;
        running.finish();
        let left = self
            .plan(Stage::Verify)
            .await
            .map_err(|failure| interruption::stopped(failure.into(), &journal))?;
        if !left.is_empty() {
            return Err(interruption::not_as_planned(left.len(), &journal));
        }
        let done = Journal {
            phase: JournalPhase::Restored,
            ..journal.clone()
        };
        record::write(self.store, &mut guard, &done)
            .await
            .map_err(|interruption| interruption::stopped(interruption, &journal))?;
        journal = done;
        debug_assert!(!journal.phase.is_open());
        Ok(self.restored(&plan, began.elapsed().as_secs_f64()))
    }

    /// The rollback from the current state.
    async fn plan(
        &self,
        stage: Stage,
    ) -> Result<RestorePlan<'_>, milvus_guard_sources::etcd::failure::Failure> {
        let mut running = Running::begin(self.events, stage, None);
        let mut restorer = Restorer::new(self.source);
        let spans = || spans_at(self.root, iter::empty());
        scan(
            self.store,
            self.root,
            spans,
            self.events,
            &mut |seen| match seen {
                Seen::Again => {
                    restorer = Restorer::new(self.source);
                    running.restart();
                }
                Seen::Record(record) => {
                    restorer.see(&record.into());
                    running.advance(1);
                }
            },
        )
        .await?;
        running.finish();
        Ok(restorer.finish())
    }

    /// The record of this restore: that of the migration which it undoes, if there is one.
    fn journal(&self, before: Option<Journal>) -> Journal {
        let this = Process::this();
        let backup = JournalBackup {
            path: self.file.path.display().to_string(),
            sha256: self.file.sha256.clone(),
        };
        let began = (
            format!("{}/{}", this.host, this.pid),
            format!("{:.0}", Timestamp::now()),
        );
        let (started_by, started_at) = began;
        match before {
            Some(journal) => Journal {
                backup,
                phase: JournalPhase::Restoring,
                started_by,
                started_at,
                ..journal
            },
            None => Journal {
                form: FORM,
                id: format!("restore-{}", self.file.sha256.get(..12).unwrap_or_default()),
                source: String::new(),
                target: String::new(),
                options: Options::default(),
                backup,
                plan_digest: String::new(),
                source_revision: self.source.revision,
                cluster_id: self.store.cluster_id(),
                phase: JournalPhase::Restoring,
                started_by,
                started_at,
            },
        }
    }

    fn restored(&self, plan: &RestorePlan<'_>, seconds: f64) -> Restored {
        Restored {
            dry_run: false,
            puts: plan.puts().len() as u64,
            rewrites: plan.rewrites().len() as u64,
            deletes: plan.deletes().len() as u64,
            foreign: plan.foreign().len() as u64,
            kept: plan
                .foreign()
                .iter()
                .take(NAMED)
                .map(|key| shown(key))
                .collect(),
            lost: plan
                .would_lose()
                .iter()
                .take(NAMED)
                .map(ToString::to_string)
                .collect(),
            lost_total: plan.would_lose().counts().values().sum(),
            backup: self.file.clone(),
            cluster_id: self.store.cluster_id(),
            root: self.root.to_string(),
            seconds,
        }
    }
}

fn would_lose(plan: &RestorePlan<'_>) -> MetaError {
    let losses = plan.would_lose();
    let named: Vec<String> = losses
        .iter()
        .take(NAMED)
        .map(|loss| format!("  {loss}"))
        .collect();
    let more = losses
        .counts()
        .values()
        .sum::<u64>()
        .saturating_sub(named.len() as u64);
    let more = if more == 0 {
        String::new()
    } else {
        format!("\n  and {more} more")
    };
    MetaError::refused(
        format!(
            "2.2 has served this metadata since the backup; a restore would lose:\n{}{more}",
            named.join("\n")
        ),
        "run the same command with --accept-data-loss if you accept this loss.",
    )
}
