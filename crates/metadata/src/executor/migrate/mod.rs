//! `meta migrate`: plan from one revision, back up, write, check, delete, verify. The same call
//! continues after any interruption.

mod etcd_readiness;
mod outcome;
mod preview;
mod work;

use std::{path::PathBuf, time::Instant};

use etcd_readiness::has_room;
use jiff::Timestamp;
use milvus_guard_sources::etcd::connection::{EtcdConnection, Health};
use outcome::{nothing_to_do, without_plan};
use work::{Work, Written};

use crate::{
    executor::{
        apply::Applier,
        backup::{self, BackupFile, Form},
        compare::{compare, is_written},
        error::MetaError,
        events::{Event, Events, Running, Stage},
        guard::Guard,
        interruption,
        lock::Lock,
        process::Process,
        record,
        sessions::clear_of_sessions,
        summary::Summary,
        target::{Target, dump, journal},
    },
    model::{
        Phase, Plan, Root,
        compare::Remaining,
        journal::{FORM, Journal, JournalBackup, JournalPhase},
        spans::Checkpoint,
        versions::Transition,
    },
};

pub(super) use etcd_readiness::takes_writes;
pub use outcome::{MigrateOptions, Migrated, Outcome};
pub(super) use preview::planned;
pub use preview::preview;

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
    if options.transition()? == Transition::Compatible {
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

/// A run with the lock.
struct Run<'a> {
    target: &'a Target,
    store: &'a EtcdConnection<'a>,
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
            .map_err(|interruption| interruption::before_writing(interruption, &saved.path))?;
        let run = RecordedRun {
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
        .map_err(|error| interruption::under_way(&error, &journal))?;
        let unusable = |why: String| {
            MetaError::stopped(
                format!("the backup of the run: {why}"),
                interruption::data(journal.phase),
                format!(
                    "name the backup with --backup (sha256 {}) and run the same command again.",
                    journal.backup.sha256
                ),
            )
        };
        let (source, saved) =
            backup::load(&path, self.events).map_err(|error| unusable(error.to_string()))?;
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
            .map_err(|error| interruption::under_way(&error, &journal))?;
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
            RecordedRun {
                journal,
                guard,
                backup: saved,
                read_at,
                resumed: true,
            },
        )
        .await
    }

    /// Writes the rest, checks it, deletes, verifies.
    async fn carry_out(
        &self,
        work: Work<'_, '_>,
        mut run: RecordedRun<'_>,
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
            .map_err(|interruption| interruption::stopped(interruption, &run.journal))?;
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
            .map_err(|interruption| interruption::stopped(interruption, &run.journal))?;
        running.finish();
        drop(checked);
        let running = Running::begin(self.events, Stage::Verify, None);
        let (remaining, _) = self
            .remaining(plan, Checkpoint::Ended, running, &run.journal)
            .await?;
        if !remaining.is_empty() {
            return Err(interruption::not_as_planned(remaining.len(), &run.journal));
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

    /// Proves that everything is written and that no other client has changed anything, before the
    /// first deletion.
    ///
    /// All bytes that were written are read back; of everything else only what was written since
    /// the revision at which everything was read
    /// ([`WrittenCheck`](crate::model::spans::WrittenCheck) explains why that is enough). Any
    /// difference is then found and named by a full comparison.
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
            .map_err(|failure| interruption::stopped(failure.into(), journal))?
        {
            running.finish();
            return Ok(Written::AsPlanned);
        }
        running.restart();
        let (remaining, _) = self
            .remaining(plan, Checkpoint::Between, running, journal)
            .await?;
        if remaining.len() > remaining.deletes() {
            return Err(interruption::not_as_planned(remaining.len(), journal));
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

    async fn set(&self, run: &mut RecordedRun<'_>, phase: JournalPhase) -> Result<(), MetaError> {
        let next = Journal {
            phase,
            ..run.journal.clone()
        };
        record::write(self.store, &mut run.guard, &next)
            .await
            .map_err(|interruption| interruption::stopped(interruption, &run.journal))?;
        run.journal = next;
        Ok(())
    }

    /// What is left of the plan after everything was read again, and the revision of that read.
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
        .map_err(|failure| interruption::stopped(failure.into(), journal))?;
        Ok((
            compared.map_err(|foreign| interruption::foreign(&foreign, journal))?,
            revision,
        ))
    }
}

/// A run with a record in etcd.
struct RecordedRun<'g> {
    journal: Journal,
    guard: Guard<'g>,
    backup: BackupFile,
    /// The revision at which everything was read before the first write of this process.
    read_at: i64,
    resumed: bool,
}

/// The path of a backup that the user did not name: a new file in the current folder.
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
