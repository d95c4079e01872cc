//! Reports for people. Each ends with the state of the data and the next command.

use milvus_guard_core::{evidence::MetadataState, text::plain};
use milvus_guard_metadata::executor::{
    BackupFile, Inspection, Migrated, Outcome, Restored, Verified, inspect::SessionSeen,
    summary::Summary,
};

/// Entries of a long list that are printed.
const NAMED: usize = 20;

/// `1234567` as `1,234,567`.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn row(name: &str, what: &str) -> String {
    format!("{name:<11}{}\n", plain(what))
}

pub(super) fn inspection(seen: &Inspection, flags: &str) -> String {
    let mut text = row(
        "metadata",
        &format!(
            "{} in etcd cluster {:x} at revision {}",
            seen.root, seen.cluster_id, seen.revision
        ),
    );
    text += &row("format", &format(&seen.state));
    text += &row(
        "keys",
        &format!("{} ({} bytes)", count(seen.keys), count(seen.bytes)),
    );
    text += &row("etcd", &health(seen));
    text += &row("sessions", &sessions(&seen.sessions));
    let lock = seen.lock.as_ref().map(|lock| match lock.seconds_left {
        Some(seconds) => format!("held: {} ({seconds} s left)", lock.holder),
        None => format!("held: {}", lock.holder),
    });
    text += &row("lock", &lock.unwrap_or_else(|| "free".into()));
    if let Some(run) = &seen.run {
        let phase = format!("{:?}", run.phase).to_lowercase();
        text += &row(
            "last run",
            &format!(
                "{phase}: {} -> {}, started by {} at {}, backup {}",
                run.source, run.target, run.started_by, run.started_at, run.backup.path
            ),
        );
    }
    if let Some(summary) = &seen.plan {
        text += &plan(summary);
    }
    text + "\n" + &next(seen, flags)
}

fn next(seen: &Inspection, flags: &str) -> String {
    let restore = format!("milvus-guard meta restore FILE {flags}");
    if let Some(run) = seen.run.as_ref().filter(|run| run.phase.is_open()) {
        let verb = match run.phase {
            milvus_guard_metadata::model::journal::JournalPhase::Restoring => {
                format!("restore {}", run.backup.path)
            }
            _ => format!("migrate -s {} -t {}", run.source, run.target),
        };
        return format!(
            "A run is not finished; start neither 2.1 nor 2.2.\nnext: milvus-guard meta {verb} \
             {flags}\n"
        );
    }
    if let Some(problem) = &seen.problem {
        return format!("It cannot be migrated: {}\n", plain(problem));
    }
    match &seen.state {
        MetadataState::V21 | MetadataState::V21NoIndex if seen.plan.is_some() => {
            let first = if seen.sessions.is_empty() {
                ""
            } else {
                "stop Milvus, then "
            };
            format!(
                "It can be migrated.\nnext: {first}milvus-guard meta migrate -s 2.1.4 -t 2.2.16 {flags}\n"
            )
        }
        MetadataState::V21 | MetadataState::V21NoIndex | MetadataState::V22 => {
            "A migration is not needed.\n".into()
        }
        MetadataState::Empty => {
            "The root path does not contain metadata.\nnext: check --root-path and \
             --meta-sub-path\n"
                .into()
        }
        _ => format!("It cannot be migrated in this state.\nnext: {restore}\n"),
    }
}

fn format(state: &MetadataState) -> String {
    match state {
        MetadataState::Empty => "empty: only sessions".into(),
        MetadataState::V21 => "2.1, not migrated".into(),
        MetadataState::V21NoIndex => "2.1 without any index, or 2.2 (both look the same)".into(),
        MetadataState::V22 => "2.2".into(),
        MetadataState::MixedSkipped => {
            "mixed: 2.2 has run on metadata that was never migrated".into()
        }
        MetadataState::PartialApply => "partly migrated by this tool".into(),
        MetadataState::PartialCleaned => "partly migrated by the official tool: the old records \
                                          were deleted, the new ones were not written"
            .into(),
        MetadataState::PartialSaved => {
            "partly migrated by the official tool: it was stopped while it wrote the new records"
                .into()
        }
        MetadataState::Unreadable(why) => format!("unclear: {why}"),
    }
}

fn health(seen: &Inspection) -> String {
    let health = &seen.health;
    let size = match (health.db_size, health.quota) {
        (0, _) => "size unknown to this user".into(),
        (size, 0) => format!("{} bytes", count(size.unsigned_abs())),
        (size, quota) => format!(
            "{} of {} bytes",
            count(size.unsigned_abs()),
            count(quota.unsigned_abs())
        ),
    };
    let writes = if health.no_space {
        "refuses writes: alarm NOSPACE"
    } else if health.corrupt {
        "alarm CORRUPT"
    } else {
        "takes writes"
    };
    format!("{} {size}, {writes}", health.version)
}

fn sessions(sessions: &[SessionSeen]) -> String {
    if sessions.is_empty() {
        return "none".into();
    }
    let mut named: Vec<String> = sessions
        .iter()
        .take(NAMED)
        .map(|session| {
            let address = session
                .address
                .as_ref()
                .map(|address| format!(" at {address}"))
                .unwrap_or_default();
            let left = session.seconds_left.map_or_else(
                || ", no lease".into(),
                |seconds| format!(", {seconds} s left"),
            );
            format!(
                "{}{address}{left}",
                session.key.trim_start_matches("session/")
            )
        })
        .collect();
    if sessions.len() > NAMED {
        named.push(format!("and {} more", sessions.len() - NAMED));
    }
    named.join("; ")
}

pub(super) fn plan(summary: &Summary) -> String {
    let mut text = row(
        "migration",
        &format!(
            "{} new keys, {} changed, {} deleted (plan {})",
            count(summary.puts),
            count(summary.rewrites),
            count(summary.deletes),
            summary.digest.get(..12).unwrap_or_default()
        ),
    );
    for (kind, number) in &summary.records {
        let name = serde_json::to_value(kind)
            .ok()
            .and_then(|name| name.as_str().map(|name| name.replace('-', " ")))
            .unwrap_or_default();
        text += &format!("{:11}{:>9} {name}\n", "", count(*number));
    }
    if !summary.unloadable.is_empty() {
        text += &row(
            "cannot load",
            " 2.2 can load these collections only once they have an index:",
        );
        for collection in summary.unloadable.iter().take(NAMED) {
            let loaded = if collection.is_loaded {
                ", loaded now"
            } else {
                ""
            };
            text += &format!(
                "{:11}  {} ({}{loaded})\n",
                "",
                plain(&collection.name),
                collection.collection_id
            );
        }
        text += &more(summary.unloadable.len());
    }
    if !summary.notes.is_empty() {
        text += &row("notes", &count(summary.note_counts.values().sum()));
        for note in summary.notes.iter().take(NAMED) {
            text += &format!("{:11}  {}\n", "", plain(note));
        }
        text +=
            &more(usize::try_from(summary.note_counts.values().sum::<u64>()).unwrap_or(usize::MAX));
    }
    text
}

fn more(all: usize) -> String {
    if all > NAMED {
        format!(
            "{:11}  and {} more (--format json has them)\n",
            "",
            all - NAMED
        )
    } else {
        String::new()
    }
}

pub(super) fn backup(file: &BackupFile) -> String {
    row("backup", &file.path.display().to_string())
        + &row("sha256", &file.sha256)
        + &row(
            "records",
            &format!(
                "{} of {} at revision {}, {} bytes",
                count(file.records),
                file.root,
                file.revision,
                count(file.bytes)
            ),
        )
        + "\nThe backup is complete: it was read back and compared. Nothing was changed in etcd.\n"
}

pub(super) fn migrated(done: &Migrated, flags: &str) -> String {
    let mut text = String::new();
    if let Some(summary) = &done.plan {
        text += &plan(summary);
    }
    if let Some(file) = &done.backup {
        text += &row(
            "backup",
            &format!("{} (sha256 {})", file.path.display(), file.sha256),
        );
    }
    let root = &done.root;
    text + &match done.outcome {
        Outcome::Migrated => {
            let back = done
                .backup
                .as_ref()
                .map(|file| file.path.display().to_string())
                .unwrap_or_default();
            let resumed = if done.resumed {
                ", resumed where an earlier run had stopped"
            } else {
                ""
            };
            format!(
                "\nMigrated and verified in {:.1} s{resumed}: {root} contains metadata of 2.2; 2.1 \
                 must not be started on it.\nnext: start Milvus 2.2. To go back instead: \
                 milvus-guard meta restore {back} {flags}\n",
                done.seconds
            )
        }
        Outcome::AlreadyMigrated => {
            format!("{root} already contains metadata of 2.2. Nothing was changed.\n")
        }
        Outcome::NothingToDo => format!(
            "{root} does not contain anything to migrate. Nothing was changed.\nnext: if that \
             is unexpected, check --root-path\n"
        ),
        Outcome::Compatible => {
            "Both versions have the same metadata format; a migration is not needed. Nothing was \
             changed.\n"
                .into()
        }
        Outcome::Planned => {
            "\nThis was a dry run: nothing was changed.\nnext: the same command without --dry-run\n"
                .into()
        }
    }
}

pub(super) fn verified(done: &Verified) -> String {
    let recorded = if done.recorded {
        ", as the run recorded"
    } else {
        ""
    };
    plan(&done.plan)
        + &row(
            "backup",
            &format!(
                "{} (sha256 {})",
                done.backup.path.display(),
                done.backup.sha256
            ),
        )
        + &format!(
            "\nVerified: {} contains exactly the result of the plan from this backup{recorded}. \
             Nothing was changed.\n",
            done.root
        )
}

pub(super) fn restored(done: &Restored) -> String {
    let mut text = row(
        "restore",
        &format!(
            "{} missing, {} changed, {} left by 2.2",
            count(done.puts),
            count(done.rewrites),
            count(done.deletes)
        ),
    ) + &row(
        "backup",
        &format!(
            "{} (sha256 {})",
            done.backup.path.display(),
            done.backup.sha256
        ),
    );
    if done.foreign > 0 {
        text += &row(
            "kept",
            &format!(
                "{} keys that are not Milvus': {}",
                count(done.foreign),
                done.kept.join(", ")
            ),
        );
    }
    if done.lost_total > 0 {
        text += &row(
            "lost",
            &format!(
                "{} things that 2.2 has served since the backup",
                count(done.lost_total)
            ),
        );
        for loss in &done.lost {
            text += &format!("{:11}  {}\n", "", plain(loss));
        }
    }
    text + &if done.dry_run {
        "\nThis was a dry run: nothing was changed.\n".to_owned()
    } else {
        format!(
            "\nRestored and verified in {:.1} s: {} is the metadata of the backup again; 2.2 must \
             not be started on it.\nnext: start the Milvus version of the backup\n",
            done.seconds, done.root
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0, 12, 123, 1234, 1_234_567].map(count),
            ["0", "12", "123", "1,234", "1,234,567"]
        );
    }
}
