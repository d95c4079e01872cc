//! MG101: 2.1 metadata must be migrated before 2.2 or later reads it.

use crate::{
    change::Upgrade,
    evidence::{MetadataState, MigrationRecord},
    milvus::{Build, Line, Release, Version, catalogue::Situation, endpoint::Host},
};

use super::{Behavior, Category, DefaultAction, Findings, Missing, Need, Rule, advice::command};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG101",
    name: "skipped-metadata-migration",
    title: "metadata of 2.1 is migrated before 2.2 starts",
    category: Category::Version,
    default: DefaultAction::Deny,
    data_loss: true,
    behavior: &[Behavior::ComparesSharedData],
    since: "0.1.0",
    needs: &[Need::Before, Need::Metadata],
    what: "Requires evidence of a metadata migration if a release up to 2.1 would be upgraded to \
           2.2 or later, or to an image whose version cannot be read. Evidence is an UpgradeRun \
           with the condition MetadataMigrated that matches this release, or metadata of format \
           2.2 seen in etcd (--etcd).",
    why: "Milvus 2.2 stores indexes, aliases and load state under different etcd keys. It starts on unmigrated 2.1 metadata without an error, finds no indexes, and garbage-collects the index files.",
    example: "helm upgrade from chart 3.2.18 (2.1.4) to 4.0.31 (2.2.13) without a migration in between.",
    fix: "Migrate the metadata first: stop Milvus, back up, migrate, verify and start 2.2.",
    sources: &[
        "milvus#19708",
        "milvus#20199",
        "milvus#20221",
        "milvus#37614",
        "Milvus docs: upgrade to 2.2",
    ],
    check,
};

/// The first line that reads the new metadata only.
const NEW_FORMAT: Line = Line { major: 2, minor: 2 };

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    let Some(from) = upgrade.from() else {
        findings.not_evaluated(Missing::fact(
            "the running version cannot be read, so it is unknown whether its metadata must be \
             migrated",
            "Set the annotation guard.milvus.io/declared-version: \"VERSION for IMAGE\" on the \
             running workloads.",
        ));
        return;
    };
    if from.version.line() >= NEW_FORMAT || from.version.major < 2 {
        findings.not_applicable(format!(
            "the running version is {from}; only metadata of 2.0 and 2.1 must be migrated"
        ));
        return;
    }
    let target = upgrade.to();
    if !after.has_unknown_version()
        && target
            .as_ref()
            .is_some_and(|to| to.version.line() < NEW_FORMAT)
    {
        findings.not_applicable(format!(
            "{from} stays below {NEW_FORMAT}, so its metadata keeps its format"
        ));
        return;
    }
    findings.checked();
    let situation = Situation::of(before);
    let landing = upgrade
        .catalogue
        .target(NEW_FORMAT, Some(&from), &situation)
        .unwrap_or(Version::new(2, 2, 16));
    let change = change(&from, target.as_ref(), after);
    let root = before.metadata().root_path.value;
    let migrate = upgrade.advice().migrate(landing);
    let first = how_to_migrate(migrate.is_some());

    let seen = upgrade.facts.metadata.iter().find(|fact| {
        fact.release
            .as_ref()
            .is_none_or(|release| *release == before.name)
    });
    if let Some(fact) = seen {
        judge_seen(
            findings,
            &fact.state,
            &fact.source,
            &fact.root_path,
            &change,
            migrate.as_ref(),
            &root,
        );
        return;
    }
    let records = upgrade.facts.migrations.as_deref().unwrap_or_default();
    let mine: Vec<&MigrationRecord> = records
        .iter()
        .filter(|record| record.release == before.name)
        .collect();
    let reasons: Vec<String> = match mine
        .iter()
        .map(|record| mismatch(record, before, &from))
        .collect::<Option<Vec<_>>>()
    {
        None => return,
        Some(reasons) => reasons,
    };
    let mut message = format!("{change} without evidence of a metadata migration");
    if let Some(reason) = reasons.first() {
        message = format!("{message}: {reason}");
    }
    findings
        .deny(message)
        .evidence(
            "version",
            Some(from.to_string()),
            target.map(|to| to.to_string()),
            origin_of(after),
        )
        .fix(first)
        .command(migrate);
}

fn change(from: &Build, to: Option<&Build>, after: &Release) -> String {
    match to {
        Some(to) if !after.has_unknown_version() => format!("{from} would become {to}"),
        _ => format!("{from} would become a version that cannot be read"),
    }
}

fn origin_of(release: &Release) -> Option<&crate::manifest::Origin> {
    release
        .components
        .first()
        .map(|component| &component.workload.meta.origin)
}

/// The fix as text, with or without a command that does it all.
const fn how_to_migrate(has_command: bool) -> &'static str {
    if has_command {
        "Migrate the metadata first; the command stops Milvus, backs up, migrates, verifies and starts 2.2."
    } else {
        "Stop Milvus, back up its etcd, migrate it with milvus-guard meta migrate, then start 2.2."
    }
}

/// A command of `milvus-guard meta` on the etcd that was read.
fn meta(verb: &[&str], source: &str, root: &str) -> Option<String> {
    let mut words = vec!["milvus-guard", "meta"];
    words.extend(verb);
    words.extend(["--etcd", source, "--root-path", root]);
    command(&words.into_iter().map(str::to_owned).collect::<Vec<_>>())
}

/// Why a record is not evidence for this upgrade; `None` if it is.
fn mismatch(record: &MigrationRecord, before: &Release, from: &Build) -> Option<String> {
    let metadata = before.metadata();
    let namespace = before.namespace.as_deref();
    let uids: Vec<&str> = before
        .components
        .iter()
        .filter_map(|component| component.workload.meta.uid.as_deref())
        .collect();
    let endpoints = record
        .endpoints
        .iter()
        .map(|endpoint| Host::parse(endpoint, namespace))
        .collect::<Vec<_>>();
    if !record.migrated {
        Some(format!("the migration {} was rolled back", record.run))
    } else if let Some(unknown) = before
        .config
        .unknown("etcd.rootPath")
        .or_else(|| before.config.unknown("etcd.endpoints"))
    {
        Some(format!(
            "it is unknown whether {} is about this metadata: its location comes from {unknown}",
            record.run
        ))
    } else if namespace.is_some_and(|namespace| namespace != record.namespace) {
        Some(format!(
            "{} is about namespace {}",
            record.run, record.namespace
        ))
    } else if record.from.line() != from.version.line() || record.to.line() < NEW_FORMAT {
        Some(format!(
            "{} is about {} to {}",
            record.run, record.from, record.to
        ))
    } else if before.has_config() && record.root_path.trim_matches('/') != metadata.root_path.value
    {
        Some(format!(
            "{} migrated root path {}, this release uses {}",
            record.run, record.root_path, metadata.root_path.value
        ))
    } else if !metadata.endpoints.value.is_empty()
        && !endpoints.is_empty()
        && !endpoints
            .iter()
            .any(|endpoint| metadata.endpoints.value.contains(endpoint))
    {
        Some(format!("{} migrated another etcd", record.run))
    } else if !uids.is_empty()
        && !record
            .workload_uids
            .iter()
            .any(|uid| uids.contains(&uid.as_str()))
    {
        Some(format!(
            "{} is about workloads that no longer exist",
            record.run
        ))
    } else {
        None
    }
}

fn judge_seen(
    findings: &mut Findings,
    state: &MetadataState,
    source: &str,
    root: &str,
    change: &str,
    migrate: Option<&String>,
    own_root: &str,
) {
    let migrate = migrate.cloned();
    let first = how_to_migrate(migrate.is_some());
    let restore = "Restore the backup that was made before that migration (milvus-guard meta restore), then migrate again.";
    let (seen, fix, command): (String, String, Option<String>) = match state {
        MetadataState::V22 => return,
        MetadataState::Empty => (
            format!("root path {root} is empty in etcd"),
            "Give the root path that this release uses (etcd.rootPath); an empty root path is most \
             likely the wrong one.".into(),
            meta(&["inspect"], source, own_root),
        ),
        MetadataState::V21 => ("the metadata still has the format of 2.1".into(), first.into(), migrate),
        MetadataState::V21NoIndex => (
            "the metadata contains collections without any index, so it cannot prove a migration".into(),
            format!("{first} If no record must change, the run only records the evidence."),
            migrate,
        ),
        MetadataState::MixedSkipped => (
            "2.2 has already run on metadata that was never migrated".into(),
            "Stop Milvus. Restore a backup of the 2.1 metadata and migrate it; without a backup the indexes must be rebuilt."
                .into(),
            meta(&["inspect"], source, root),
        ),
        MetadataState::PartialApply => (
            "an earlier migration was interrupted".into(),
            "Run the same migration command again: it resumes where it stopped.".into(),
            migrate,
        ),
        MetadataState::PartialCleaned => (
            "the old metadata was deleted and the new metadata was never written (the official \
             tool was stopped between the two)".into(),
            restore.into(),
            None,
        ),
        MetadataState::PartialSaved => {
            ("only part of the new metadata was written (the official tool was stopped while it \
              wrote)".into(), restore.into(), None)
        }
        MetadataState::Unreadable(reason) => (
            format!("the metadata could not be read: {reason}"),
            "Make etcd readable for this check (endpoint, --etcd-user, --etcd-cacert ...), or \
             provide an UpgradeRun as evidence."
                .into(),
            meta(&["inspect"], source, root),
        ),
    };
    findings
        .deny(format!("{change}, but {seen}"))
        .evidence_from(
            "metadata format",
            Some(format_name(state).into()),
            Some("2.2".into()),
            source,
        )
        .fix(fix)
        .command(command);
}

const fn format_name(state: &MetadataState) -> &'static str {
    match state {
        MetadataState::Empty => "empty",
        MetadataState::V21 => "2.1",
        MetadataState::V21NoIndex => "2.1 without index",
        MetadataState::V22 => "2.2",
        MetadataState::MixedSkipped => "2.1, already used by 2.2",
        MetadataState::PartialApply => "half migrated",
        MetadataState::PartialCleaned => "old metadata deleted",
        MetadataState::PartialSaved => "half written",
        MetadataState::Unreadable(_) => "unreadable",
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        evidence::{Facts, MetadataFact, MetadataState, MigrationRecord},
        milvus::Version,
        rules::testing::{Fixture, judge, judge_with},
    };

    fn seen(state: MetadataState) -> Facts {
        Facts {
            metadata: vec![MetadataFact {
                release: None,
                root_path: "by-dev".into(),
                state,
                source: "http://etcd:2379".into(),
            }],
            ..Facts::default()
        }
    }

    fn record() -> MigrationRecord {
        MigrationRecord {
            run: "milvus/run-1".into(),
            release: "my-release".into(),
            namespace: "milvus".into(),
            from: Version::new(2, 1, 4),
            to: Version::new(2, 2, 16),
            root_path: "by-dev".into(),
            etcd_cluster_id: "cdf818194e3a8c32".into(),
            endpoints: vec!["http://my-release-etcd:2379".into()],
            workload_uids: vec![],
            migrated: true,
        }
    }

    fn recorded(record: MigrationRecord) -> Facts {
        Facts {
            migrations: Some(vec![record]),
            ..Facts::default()
        }
    }

    #[test]
    fn without_evidence_it_is_denied_with_the_command() {
        let findings = judge(
            &RULE,
            Some(&Fixture::cluster("2.1.4")),
            &Fixture::cluster("2.2.16"),
        );
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].message,
            "2.1.4 would become 2.2.16 without evidence of a metadata migration"
        );
        assert_eq!(
            findings[0].fix.command.as_deref(),
            Some("milvus-guard migrate -i my-release -n milvus -s 2.1.4 -t 2.2.16")
        );
    }

    #[test]
    fn an_unreadable_target_is_denied_too() {
        let findings = judge(
            &RULE,
            Some(&Fixture::cluster("2.1.4")),
            &Fixture::cluster("2.2.16").tag("latest"),
        );
        assert!(
            findings[0].message.contains("cannot be read"),
            "{}",
            findings[0].message
        );
    }

    #[rstest]
    #[case(MetadataState::Empty, "is empty in etcd", "meta inspect")]
    #[case(MetadataState::V21, "format of 2.1", "migrate -i")]
    #[case(MetadataState::V21NoIndex, "without any index", "migrate -i")]
    #[case(MetadataState::MixedSkipped, "never migrated", "meta inspect")]
    #[case(MetadataState::PartialApply, "interrupted", "migrate -i")]
    #[case(MetadataState::PartialCleaned, "never written", "meta restore")]
    #[case(MetadataState::PartialSaved, "only part", "meta restore")]
    #[case(MetadataState::Unreadable("connection refused".into()), "connection refused", "meta inspect")]
    fn each_state_has_its_own_reason(
        #[case] state: MetadataState,
        #[case] reason: &str,
        #[case] command: &str,
    ) {
        let findings = judge_with(
            &RULE,
            Some(&Fixture::cluster("2.1.4")),
            &Fixture::cluster("2.2.16"),
            &seen(state),
        );
        assert!(
            findings[0].message.contains(reason),
            "{}",
            findings[0].message
        );
        let fix = &findings[0].fix;
        assert!(
            fix.command
                .as_deref()
                .unwrap_or(&fix.text)
                .contains(command),
            "{fix:?}"
        );
    }

    #[test]
    fn migrated_metadata_is_let_through() {
        let (before, after) = (Fixture::cluster("2.1.4"), Fixture::cluster("2.2.16"));
        assert!(judge_with(&RULE, Some(&before), &after, &seen(MetadataState::V22)).is_empty());
        assert!(judge_with(&RULE, Some(&before), &after, &recorded(record())).is_empty());
    }

    #[rstest]
    #[case(MigrationRecord { migrated: false, ..record() }, "rolled back")]
    #[case(MigrationRecord { namespace: "other".into(), ..record() }, "namespace other")]
    #[case(MigrationRecord { root_path: "else".into(), ..record() }, "root path else")]
    #[case(MigrationRecord { endpoints: vec!["http://other-etcd:2379".into()], ..record() }, "another etcd")]
    fn evidence_about_something_else_is_none(
        #[case] record: MigrationRecord,
        #[case] reason: &str,
    ) {
        let findings = judge_with(
            &RULE,
            Some(&Fixture::cluster("2.1.4")),
            &Fixture::cluster("2.2.16"),
            &recorded(record),
        );
        assert!(
            findings[0].message.contains(reason),
            "{}",
            findings[0].message
        );
    }

    #[test]
    fn other_upgrades_need_no_migration() {
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.0.2")),
                &Fixture::cluster("2.1.4")
            )
            .is_empty()
        );
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.2.16")),
                &Fixture::cluster("2.3.22")
            )
            .is_empty()
        );
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.1.4")),
                &Fixture::cluster("2.1.4")
            )
            .is_empty()
        );
        assert!(judge(&RULE, None, &Fixture::cluster("2.2.16")).is_empty());
    }
}
