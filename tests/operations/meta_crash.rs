//! `kill -9` after every single write of a migration and of a restore, before and after its
//! acknowledgement: the same command resumes to the planned end, and a restore goes back to the
//! original.
//!
//! `MILVUS_GUARD_FULL=1` tries every point, otherwise a sample of every kind.

use std::{env, fs, process::Command, time::Duration};

use crate::common::metadata::{
    Bed, Pairs, assert_same, collect, finish, metadata, planned, small, start,
};
use crate::common::proxy::When;
use milvus_guard_metadata::model::{Dump, Options};

/// Crash points of each kind in the sample.
const SAMPLE: usize = 5;
/// Longer than a run takes to reach any of its writes.
const REACHED: Duration = Duration::from_secs(60);

/// What is killed, and what is done afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// A migration; the same command again.
    Resume,
    /// A migration; a restore.
    Undo,
    /// A restore after a migration; the same command again.
    ResumeRestore,
}

struct Matrix {
    bed: Bed,
    dump: Dump,
    original: Pairs,
    planned: Pairs,
}

impl Matrix {
    fn new() -> Self {
        let dump = small().dump().unwrap();
        let (original, planned) = (metadata(&dump), planned(&dump, &Options::default()));
        Self {
            bed: Bed::with_small_transactions(),
            dump,
            original,
            planned,
        }
    }

    /// Restores the metadata of 2.1, and removes every other key.
    fn begin(&self) {
        for (key, ..) in self.bed.read("by-dev/") {
            self.bed.delete(key);
        }
        let _ = fs::remove_file(self.bed.file("a.backup"));
        self.bed.fill(&self.dump);
    }

    fn command(&self, endpoint: &str, course: Course) -> Command {
        match course {
            Course::Resume | Course::Undo => self.bed.migration_at(endpoint, "a.backup"),
            Course::ResumeRestore => {
                let mut command = self.bed.command_at(endpoint, "restore");
                command.args(["a.backup", "--yes"]);
                command
            }
        }
    }

    fn prepare(&self, course: Course) {
        self.begin();
        if course == Course::ResumeRestore {
            self.bed.migrate(&[]).expect(0);
        }
    }

    /// Writes of an undisturbed run.
    fn writes(&self, course: Course) -> i64 {
        self.prepare(course);
        let before = self.bed.revision();
        finish(&mut self.command(&self.bed.etcd.endpoint(), course)).expect(0);
        self.bed.revision() - before
    }

    /// Kills a run at one of its `all` writes, and completes the work with the command.
    fn kill(&self, course: Course, write: i64, all: i64, when: When) {
        self.prepare(course);
        let proxy = self.bed.proxy_after(write, when);
        let mut child = start(&mut self.command(&proxy.endpoint(), course));
        let reached = proxy.wait(REACHED);
        child.kill().unwrap();
        let killed = collect(child);
        // A process that has the response to its last write may end before it is killed.
        let ended = killed.code == 0 && write == all && when == When::AfterAcknowledgement;
        assert!(
            reached && (killed.code == -1 || ended),
            "{course:?} {write} {when:?}: reached {reached}, {killed:?}"
        );
        let expected = match course {
            Course::Resume => {
                self.bed.migrate(&[]).expect(0);
                &self.planned
            }
            // Without a backup file, no record has changed and there is nothing to restore.
            Course::Undo if !self.bed.file("a.backup").exists() => {
                assert_same(&self.bed.metadata(), &self.original);
                return;
            }
            Course::Undo | Course::ResumeRestore => {
                self.bed.restore(&[]).expect(0);
                &self.original
            }
        };
        assert_same(&self.bed.metadata(), expected);
        assert!(
            self.bed
                .read("by-dev/meta/session/")
                .iter()
                .all(|(.., lease)| *lease == 0),
            "the lock must be released"
        );
    }
}

fn is_full() -> bool {
    env::var_os("MILVUS_GUARD_FULL").is_some_and(|value| !value.is_empty() && value != "0")
}

/// All points, or an evenly spread sample with the first and the last.
fn points(writes: i64) -> Vec<i64> {
    let all: Vec<i64> = (1..=writes).collect();
    if is_full() {
        return all;
    }
    let last = all.len() - 1;
    (0..SAMPLE)
        .map(|number| all[number * last / (SAMPLE - 1)])
        .collect()
}

fn matrix(course: Course) -> usize {
    let matrix = Matrix::new();
    let writes = matrix.writes(course);
    assert!(writes >= 40, "{writes} writes are too few for a matrix");
    let points = points(writes);
    for write in &points {
        for when in [When::BeforeAcknowledgement, When::AfterAcknowledgement] {
            matrix.kill(course, *write, writes, when);
        }
    }
    eprintln!("{course:?}: {} of {} points", 2 * points.len(), 2 * writes);
    2 * points.len()
}

#[test]
fn a_killed_migration_resumes() {
    let tried = matrix(Course::Resume);
    assert!(tried >= if is_full() { 100 } else { 8 });
}

#[test]
fn a_killed_migration_is_undone() {
    let tried = matrix(Course::Undo);
    assert!(tried >= if is_full() { 100 } else { 8 });
}

#[test]
fn a_killed_restore_resumes() {
    let tried = matrix(Course::ResumeRestore);
    assert!(tried >= if is_full() { 100 } else { 8 });
}
