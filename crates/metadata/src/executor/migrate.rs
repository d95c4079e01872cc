//! `meta migrate`: plan from one revision, back up, write, check, delete, verify. The same call
//! continues after any interruption.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::model::{
    Dump, Options, Phase, Plan, PlanError, Root,
    batch::Batch,
    compare::Remaining,
    journal::{FORM, Journal, JournalBackup, JournalPhase},
    plan,
    spans::Checkpoint,
    versions::{Transition, transition},
};
use milvus_guard_core::evidence::MetadataState;
use milvus_guard_sources::etcd::store::{Health, Store};

use super::{
    apply::Applier,
    backup::{self, BackupFile, Form},
    compare::{compare, is_written},
    error::MetaError,
    events::{Event, Events, Running, Stage},
    guard::Guard,
    halt,
    lock::Lock,
    process::Process,
    record,
    sessions::clear_of_sessions,
    summary::Summary,
    target::{Target, dump, journal},
};

/// How to migrate.
#[derive(Clone, Debug)]
pub struct MigrateOptions {
    /// Version before, such as 2.1.4.
    pub source: String,
    /// Version after, such as 2.2.16.
    pub target: String,
    /// The backup to make, or to go on from; absent means a new file in the current folder, or the
    /// one that the record of the run names.
    pub backup: Option<PathBuf>,
    /// End in exactly the state in which the official tool ends, its defects included.
    pub strict_upstream: bool,
    /// Change nothing, only plan.
    pub dry_run: bool,
    /// For sessions of Milvus to end; absent refuses at once.
    pub wait_sessions: Option<Duration>,
    /// Refuse any other plan than the one with this digest, which someone has seen and approved.
    pub approved_plan: Option<String>,
}

impl MigrateOptions {
    /// The options of the plan.
    #[must_use]
    pub fn plan_options(&self) -> Options {
        if self.strict_upstream {
            Options::strict_upstream()
        } else {
            Options::default()
        }
    }
}

/// How a migration ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The metadata is that of 2.2, written and verified.
    Migrated,
    /// It was that of 2.2 before.
    AlreadyMigrated,
    /// There is no metadata, or none that changes.
    NothingToDo,
    /// Both versions have the same metadata.
    Compatible,
    /// It was a dry run.
    Planned,
}

/// A migration that ended well.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Migrated {
    /// How.
    pub outcome: Outcome,
    /// What was planned; absent where nothing had to be.
    pub plan: Option<Summary>,
    /// The backup; absent where nothing was changed.
    pub backup: Option<BackupFile>,
    /// The record of the run that migrated this metadata, now or before.
    pub run: Option<Journal>,
    /// It went on where an earlier run had stopped.
    pub resumed: bool,
    /// Identity of the etcd cluster.
    #[serde(serialize_with = "super::hexadecimal")]
    pub cluster_id: u64,
    /// Root of the metadata.
    pub root: String,
    /// Seconds from the first write to the last verification.
    pub seconds: f64,
}

/// Migrates, or resumes a migration.
///
/// # Errors
/// See [`MetaError`]; [`MetaError::Stopped`] resumes when the same call is made again.
pub async fn migrate(
    target: &Target,
    options: &MigrateOptions,
    events: &dyn Events,
) -> Result<Migrated, MetaError> {
    let root = target.root()?;
    if judge_versions(options)? == Transition::Compatible {
        return Ok(without_plan(Outcome::Compatible, &root, 0));
    }
    if options.dry_run {
        return preview(target, options, events, &mut |_| {}).await;
    }
    let tell = |what: &str| {
        events.event(Event::Waiting {
            what: what.to_owned(),
        });
    };
    let store = target.connect(Some(&tell)).await?;
    let health = takes_writes(&store, &root).await?;
    let lock = Lock::take(&store, &root, "meta migrate", events).await?;
    let run = Run {
        target,
        store: &store,
        root: &root,
        options,
        events,
        lock: &lock,
        health,
    };
    let done = run.go().await;
    lock.release().await;
    done
}

/// Plans and changes nothing; `show` sees the whole plan.
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
    if judge_versions(options)? == Transition::Compatible {
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

fn judge_versions(options: &MigrateOptions) -> Result<Transition, MetaError> {
    transition(&options.source, &options.target)
        .map_err(|error| MetaError::Usage(error.to_string()))
}

fn without_plan(outcome: Outcome, root: &Root, cluster_id: u64) -> Migrated {
    Migrated {
        outcome,
        plan: None,
        backup: None,
        run: None,
        resumed: false,
        cluster_id,
        root: root.to_string(),
        seconds: 0.0,
    }
}

/// The outcome where the plan is empty.
fn nothing_to_do(plan: &Plan<'_>) -> Option<Outcome> {
    if !plan.is_empty() {
        return None;
    }
    Some(if *plan.state() == MetadataState::V22 {
        Outcome::AlreadyMigrated
    } else {
        Outcome::NothingToDo
    })
}

/// The plan, or why there is none.
pub(super) fn planned<'d>(
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

/// Refuses to write to an etcd that would not take it.
pub(super) async fn takes_writes(store: &Store<'_>, root: &Root) -> Result<Health, MetaError> {
    let health = store.health().await.map_err(MetaError::unread)?;
    let refused = if health.no_space {
        MetaError::refused(
            "etcd has raised the alarm NOSPACE: it refuses writes",
            "compact and defragment etcd or raise its quota, disarm the alarm (`etcdctl alarm \
             disarm`), then run the same command again.",
        )
    } else if health.corrupt {
        MetaError::refused(
            "etcd has raised the alarm CORRUPT: its members disagree",
            "repair the etcd cluster first.",
        )
    } else {
        return Ok(health);
    };
    match journal(store, root).await? {
        (Some(journal), _) if journal.phase.is_open() => Err(halt::under_way(&refused, &journal)),
        _ => Err(refused),
    }
}

/// A run that holds the lock.
struct Run<'a> {
    target: &'a Target,
    store: &'a Store<'a>,
    root: &'a Root,
    options: &'a MigrateOptions,
    events: &'a dyn Events,
    lock: &'a Lock,
    health: Health,
}

impl Run<'_> {
    async fn go(&self) -> Result<Migrated, MetaError> {
        let (journal, revision) = journal(self.store, self.root).await?;
        match journal {
            Some(journal) if journal.phase == JournalPhase::Restoring => {
                Err(record::under_way(&journal))
            }
            Some(journal) if journal.phase.is_open() => self.go_on(journal, revision).await,
            before => self.begin(before, revision).await,
        }
    }

    async fn begin(
        &self,
        before: Option<Journal>,
        journal_revision: i64,
    ) -> Result<Migrated, MetaError> {
        clear_of_sessions(
            self.store,
            self.root,
            self.options.wait_sessions,
            &self.target.stop,
            self.events,
        )
        .await?;
        let dump = dump(self.store, self.root, self.events)
            .await
            .map_err(MetaError::unread)?;
        let plan = planned(&dump, &self.options.plan_options(), self.events)?;
        if let Some(outcome) = nothing_to_do(&plan) {
            return Ok(Migrated {
                run: before,
                ..without_plan(outcome, self.root, dump.cluster_id)
            });
        }
        let digest = plan.digest();
        if self
            .options
            .approved_plan
            .as_ref()
            .is_some_and(|approved| *approved != digest)
        {
            return Err(MetaError::refused(
                "the metadata has changed since its plan was shown and approved",
                "run the same command again and look at the new plan.",
            ));
        }
        has_room(&self.health, &plan)?;
        let path = self
            .options
            .backup
            .clone()
            .unwrap_or_else(|| default_file(self.root));
        let saved = backup::save(
            &dump,
            &path,
            Form::Own,
            Some(&self.options.source),
            self.events,
        )
        .map_err(|why| {
            MetaError::refused(
                format!("the backup: {why}"),
                "name a writable file with --backup.",
            )
        })?;
        let journal = Journal {
            form: FORM,
            id: format!(
                "{}-{}",
                digest.get(..12).unwrap_or_default(),
                Timestamp::now().as_second()
            ),
            source: self.options.source.clone(),
            target: self.options.target.clone(),
            options: plan.options().clone(),
            backup: JournalBackup {
                path: saved.path.display().to_string(),
                sha256: saved.sha256.clone(),
            },
            plan_digest: digest,
            source_revision: dump.revision,
            cluster_id: dump.cluster_id,
            phase: JournalPhase::Writing,
            started_by: {
                let this = Process::this();
                format!("{}/{}", this.host, this.pid)
            },
            started_at: format!("{:.0}", Timestamp::now()),
        };
        let mut guard = Guard::new(self.lock, self.root, journal_revision);
        record::write(self.store, &mut guard, &journal)
            .await
            .map_err(|halt| halt::before_writing(halt, &saved.path))?;
        let run = Begun {
            journal,
            guard,
            backup: saved,
            read_at: dump.revision,
            resumed: false,
        };
        self.carry_out(Work::All(&plan), run).await
    }

    async fn go_on(&self, journal: Journal, revision: i64) -> Result<Migrated, MetaError> {
        let path = self
            .options
            .backup
            .clone()
            .unwrap_or_else(|| PathBuf::from(&journal.backup.path));
        self.events.event(Event::Note {
            note: format!(
                "resuming the migration that {} started at {}",
                journal.started_by, journal.started_at
            ),
        });
        if self.options.plan_options() != journal.options {
            return Err(record::under_way(&journal));
        }
        clear_of_sessions(
            self.store,
            self.root,
            self.options.wait_sessions,
            &self.target.stop,
            self.events,
        )
        .await
        .map_err(|error| halt::under_way(&error, &journal))?;
        let unusable = |why: String| {
            MetaError::stopped(
                format!("the backup of the run: {why}"),
                halt::data(journal.phase),
                format!(
                    "name the backup with --backup (sha256 {}) and run the same command again.",
                    journal.backup.sha256
                ),
            )
        };
        let (source, saved) = backup::load(&path, self.events).map_err(unusable)?;
        if saved.sha256 != journal.backup.sha256 {
            return Err(unusable(format!(
                "{} is another file (sha256 {})",
                path.display(),
                saved.sha256
            )));
        }
        if source.root.prefix() != self.root.prefix()
            || journal.cluster_id != self.store.cluster_id()
        {
            return Err(unusable(format!(
                "it is of {} in another cluster",
                source.root
            )));
        }
        let plan = planned(&source, &journal.options, self.events)
            .map_err(|error| halt::under_way(&error, &journal))?;
        if plan.digest() != journal.plan_digest {
            return Err(unusable(
                "this version of milvus-guard makes another plan than the version that began the \
                 run"
                .into(),
            ));
        }
        let running = Running::begin(self.events, Stage::Read, None);
        let (remaining, read_at) = self
            .remaining(&plan, Checkpoint::Between, running, &journal)
            .await?;
        let guard = Guard::new(self.lock, self.root, revision);
        self.carry_out(
            Work::Left(&plan, &remaining),
            Begun {
                journal,
                guard,
                backup: saved,
                read_at,
                resumed: true,
            },
        )
        .await
    }

    /// Writes what is left, checks it, deletes, verifies.
    async fn carry_out(
        &self,
        work: Work<'_, '_>,
        mut run: Begun<'_>,
    ) -> Result<Migrated, MetaError> {
        let began = Instant::now();
        let plan = work.plan();
        let writes = work
            .batches()
            .take_while(|batch| batch.phase != Phase::Delete);
        let mut running = Running::begin(
            self.events,
            Stage::Write,
            Some((work.len() - work.deletes()) as u64),
        );
        self.applier(&run.guard)
            .apply(writes, &mut running)
            .await
            .map_err(|halt| halt::stopped(halt, &run.journal))?;
        running.finish();
        let checked = self.check_written(work, run.read_at, &run.journal).await?;
        let work = match &checked {
            Written::AsPlanned => work,
            Written::Compared(remaining) => Work::Left(plan, remaining),
        };
        self.set(&mut run, JournalPhase::Deleting).await?;
        let deletes = work
            .batches()
            .skip_while(|batch| batch.phase != Phase::Delete);
        let mut running = Running::begin(self.events, Stage::Delete, Some(work.deletes() as u64));
        self.applier(&run.guard)
            .apply(deletes, &mut running)
            .await
            .map_err(|halt| halt::stopped(halt, &run.journal))?;
        running.finish();
        drop(checked);
        let running = Running::begin(self.events, Stage::Verify, None);
        let (remaining, _) = self
            .remaining(plan, Checkpoint::Ended, running, &run.journal)
            .await?;
        if !remaining.is_empty() {
            return Err(halt::not_as_planned(remaining.len(), &run.journal));
        }
        self.set(&mut run, JournalPhase::Verified).await?;
        Ok(Migrated {
            outcome: Outcome::Migrated,
            plan: Some(Summary::of(plan)),
            backup: Some(run.backup),
            run: Some(run.journal),
            resumed: run.resumed,
            cluster_id: self.store.cluster_id(),
            root: self.root.to_string(),
            seconds: began.elapsed().as_secs_f64(),
        })
    }

    /// Proves that everything is written and no one else has changed anything, before the first
    /// deletion.
    ///
    /// All bytes that were written are read back; of everything else only what was written since
    /// the revision at which all of it was read
    /// ([`WrittenCheck`](crate::model::spans::WrittenCheck) says why that is enough). Whatever is
    /// not exactly so is found out, and named, by comparing everything.
    async fn check_written<'p, 'd>(
        &self,
        work: Work<'p, 'd>,
        read_at: i64,
        journal: &Journal,
    ) -> Result<Written<'p, 'd>, MetaError> {
        let plan = work.plan();
        let mut running = Running::begin(self.events, Stage::CheckWritten, None);
        if is_written(self.store, self.root, plan, read_at, &mut running)
            .await
            .map_err(|failure| halt::stopped(failure.into(), journal))?
        {
            running.finish();
            return Ok(Written::AsPlanned);
        }
        running.restart();
        let (remaining, _) = self
            .remaining(plan, Checkpoint::Between, running, journal)
            .await?;
        if remaining.len() > remaining.deletes() {
            return Err(halt::not_as_planned(remaining.len(), journal));
        }
        Ok(Written::Compared(remaining))
    }

    fn applier<'a>(&'a self, guard: &'a Guard<'a>) -> Applier<'a> {
        Applier {
            store: self.store,
            root: self.root,
            guard,
            stop: &self.target.stop,
        }
    }

    async fn set(&self, run: &mut Begun<'_>, phase: JournalPhase) -> Result<(), MetaError> {
        let next = Journal {
            phase,
            ..run.journal.clone()
        };
        record::write(self.store, &mut run.guard, &next)
            .await
            .map_err(|halt| halt::stopped(halt, &run.journal))?;
        run.journal = next;
        Ok(())
    }

    /// What is left of the plan, by reading all of it again, and the revision at which it was read.
    async fn remaining<'p, 'd>(
        &self,
        plan: &'p Plan<'d>,
        standpoint: Checkpoint,
        running: Running<'_>,
        journal: &Journal,
    ) -> Result<(Remaining<'p, 'd>, i64), MetaError> {
        let (compared, revision) = compare(
            self.store,
            self.root,
            plan,
            standpoint,
            self.events,
            running,
        )
        .await
        .map_err(|failure| halt::stopped(failure.into(), journal))?;
        Ok((
            compared.map_err(|foreign| halt::foreign(&foreign, journal))?,
            revision,
        ))
    }
}

/// A run whose record is in etcd.
struct Begun<'g> {
    journal: Journal,
    guard: Guard<'g>,
    backup: BackupFile,
    /// The revision at which everything was read before the first write of this process.
    read_at: i64,
    resumed: bool,
}

/// What is to be done of a plan.
#[derive(Clone, Copy)]
enum Work<'p, 'd> {
    /// All of it, to what it was made from.
    All(&'p Plan<'d>),
    /// What an earlier process has left.
    Left(&'p Plan<'d>, &'p Remaining<'p, 'd>),
}

impl<'p, 'd> Work<'p, 'd> {
    const fn plan(self) -> &'p Plan<'d> {
        match self {
            Self::All(plan) | Self::Left(plan, _) => plan,
        }
    }

    fn len(self) -> usize {
        match self {
            Self::All(plan) => plan.len(),
            Self::Left(_, remaining) => remaining.len(),
        }
    }

    fn deletes(self) -> usize {
        match self {
            Self::All(plan) => plan.deletes().len(),
            Self::Left(_, remaining) => remaining.deletes(),
        }
    }

    fn batches(self) -> Box<dyn Iterator<Item = Batch<'p>> + Send + 'p> {
        match self {
            Self::All(plan) => Box::new(plan.batches()),
            Self::Left(_, remaining) => Box::new(remaining.batches()),
        }
    }
}

/// How it was proved that everything is written.
enum Written<'p, 'd> {
    /// By what was written, and by nothing else having changed.
    AsPlanned,
    /// By comparing everything; this is left.
    Compared(Remaining<'p, 'd>),
}

/// Where a backup goes that no one named: a new file in the current folder.
pub(super) fn default_file(root: &Root) -> PathBuf {
    let name: String = root
        .to_string()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    PathBuf::from(format!(
        "milvus-meta-{}-{}.backup",
        name.trim_start_matches('_'),
        Timestamp::now().strftime("%Y%m%dT%H%M%SZ")
    ))
}

/// Refuses where the new records may not fit. Each change is kept next to the old value until etcd
/// is compacted.
fn has_room(health: &Health, plan: &Plan<'_>) -> Result<(), MetaError> {
    let bytes: u64 = plan.batches().map(|batch| batch.bytes as u64).sum();
    let (Ok(size), Ok(quota)) = (u64::try_from(health.db_size), u64::try_from(health.quota)) else {
        return Ok(());
    };
    if quota == 0 || size.saturating_add(bytes) < quota {
        return Ok(());
    }
    Err(MetaError::refused(
        format!("etcd has {size} bytes of at most {quota}; the migration needs about {bytes} more"),
        "compact and defragment etcd or raise its quota, then run the same command again.",
    ))
}
