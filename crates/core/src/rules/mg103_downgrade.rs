//! MG103: Milvus must not go back to an older line.

use crate::{
    change::Upgrade,
    milvus::{Build, Component, catalogue::PointOfNoReturn},
};

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG103",
    name: "downgrade",
    title: "the version does not go down",
    category: Category::Version,
    default: DefaultAction::DenyOrWarn,
    data_loss: true,
    behavior: &[Behavior::RestoredByRollback, Behavior::ComparesSharedData],
    since: "0.1.0",
    needs: &[Need::Before, Need::VersionChange],
    what: "Denies a major.minor that is lower than the running version of any component. Warns \
           about a lower patch of the same line. A rollback inside an interrupted upgrade, before \
           its point of no return, does not count as a downgrade.",
    why: "The newer version has written metadata and indexes that the older one cannot read; \
          coordinators from about 2.6.8 on also refuse to start if a higher version has run \
          before.",
    example: "helm rollback from 2.5.5 to 2.4.17: 2.4 cannot read inverted indexes that 2.5 built.",
    fix: "Stay on the running version line, or restore the backup of metadata and data from before \
          the upgrade.",
    sources: &[
        "milvus#46451",
        "milvus#50694",
        "milvus#39203",
        "milvus#33242",
        "milvus#26612",
    ],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((_, after)) = upgrade.both() else {
        return;
    };
    let last_available = upgrade.last_available();
    let highest = upgrade.builds_before().last().cloned();
    let (Some(from), Some(to)) = (highest.max(last_available.clone()), upgrade.to()) else {
        return;
    };
    findings.checked();
    // One component may go back while others stay, or come back after it was deleted.
    let (subject, is_added, from, to) = if to < from {
        ("the version".to_owned(), false, from, to)
    } else if let Some((component, from, to)) = lowered(upgrade) {
        (component.to_string(), false, from, to)
    } else if let Some((component, from, to)) = added_below(upgrade) {
        (component.to_string(), true, from, to)
    } else {
        return;
    };
    let source = after
        .components
        .first()
        .map(|component| &component.workload.meta.origin);
    if to.version.line() == from.version.line() {
        findings
            .warn(format!(
                "{} would go down from {from} to {to}{}",
                what_goes_down(&from, &to),
                of(&subject)
            ))
            .because(
                "Later patches may have changed data permanently, and earlier patches have \
                      known defects.",
            )
            .evidence(
                "version",
                Some(from.to_string()),
                Some(to.to_string()),
                source,
            )
            .fix(format!(
                "Stay on {from} unless a support case asks for {to}."
            ));
        return;
    }
    if returns_from_interrupted(upgrade, &from, &to) {
        return;
    }
    let effect = upgrade
        .catalogue
        .downgrades
        .iter()
        .find(|row| row.from.contains(from.version) && row.to.contains(to.version))
        .map(|row| row.effect.clone());
    let mut message = if is_added {
        format!("{subject} would start at {to}, below {from} that runs")
    } else {
        format!("{subject} would go down from {from} to {to}")
    };
    if last_available.as_ref() == Some(&from) {
        message += &format!(
            ": {from} is the last known version; the version of the running image cannot be read"
        );
    }
    let finding = findings.deny(message);
    finding.evidence(
        "version",
        Some(from.to_string()),
        Some(to.to_string()),
        source,
    );
    if let Some(effect) = effect {
        finding.because(effect);
    }
}

/// Whether the change walks back out of an upgrade that may still be taken back.
pub(super) fn returns(upgrade: &Upgrade<'_>) -> bool {
    let whole = upgrade
        .before
        .and_then(crate::milvus::Release::highest)
        .zip(upgrade.to())
        .filter(|(from, to)| to < from);
    let lower = whole.or_else(|| {
        let one = lowered(upgrade).or_else(|| added_below(upgrade));
        one.map(|(_, from, to)| (from, to))
    });
    lower.is_some_and(|(from, to)| returns_from_interrupted(upgrade, &from, &to))
}

/// The component that goes down furthest, where one does.
fn lowered(upgrade: &Upgrade<'_>) -> Option<(Component, Build, Build)> {
    upgrade
        .changed_pairs()
        .filter_map(|(before, after)| {
            let (from, to) = (
                before.version().build()?.clone(),
                after.version().build()?.clone(),
            );
            (to < from).then_some((after.component, from, to))
        })
        .min_by(|(_, _, one), (_, _, other)| one.cmp(other))
}

/// A component that did not run, at a lower major.minor than everything that runs: one that was
/// deleted first, for example.
fn added_below(upgrade: &Upgrade<'_>) -> Option<(Component, Build, Build)> {
    let before = upgrade.before?;
    let from = upgrade.builds_before().first()?;
    let added = upgrade
        .after
        .components
        .iter()
        .filter(|one| one.component != Component::Cdc && !before.has(one.component));
    added
        .filter_map(|one| Some((one.component, one.version().build()?.clone())))
        .filter(|(_, to)| to.version.line() < from.version.line())
        .min_by(|(_, one), (_, other)| one.cmp(other))
        .map(|(component, to)| (component, from.clone(), to))
}

/// Within a line, what the difference is.
fn what_goes_down(from: &Build, to: &Build) -> &'static str {
    if from.version == to.version {
        "the build"
    } else {
        "the patch version"
    }
}

fn of(subject: &str) -> String {
    if subject == "the version" {
        String::new()
    } else {
        format!(" ({subject})")
    }
}

/// Whether this walks back out of an upgrade that has not passed its point of no return: to the
/// last version at which every component was available (where no one knows it, to one that some
/// component still runs), while nothing of the new version that touches data for good was ever
/// available.
fn returns_from_interrupted(upgrade: &Upgrade<'_>, from: &Build, to: &Build) -> bool {
    let Some(before) = upgrade.before else {
        return false;
    };
    // Metadata that was migrated is for the new version only, whether or not that ever came up: the
    // rollback is part of the migration.
    if upgrade
        .facts
        .is_migrated_past(&before.name, before.namespace.as_deref(), to.version)
    {
        return false;
    }
    let known = match upgrade.settled() {
        Some(fact) => fact.version == to.version,
        None => upgrade
            .builds_before()
            .first()
            .is_some_and(|lowest| lowest.version == to.version),
    };
    if !known {
        return false;
    }
    let situation = super::mg102_unsupported_path::situation(before);
    let point = upgrade
        .catalogue
        .route(to, from, &situation)
        .deciding()
        .map_or(PointOfNoReturn::FirstCoordinator, |row| {
            row.point_of_no_return
        });
    let Some(rollouts) = &upgrade.facts.rollouts else {
        return false;
    };
    let new = |test: fn(Component) -> bool| {
        before.components.iter().any(|component| {
            test(component.component)
                && component
                    .version()
                    .build()
                    .is_some_and(|build| build.version == from.version)
                && rollouts
                    .iter()
                    .find(|fact| fact.workload == component.workload.meta.object.name)
                    .is_none_or(|fact| fact.ever_available)
        })
    };
    match point {
        PointOfNoReturn::None | PointOfNoReturn::End => true,
        // A standalone is its own coordinator.
        PointOfNoReturn::FirstCoordinator => {
            !new(|component| component.is_coordinator() || component == Component::Standalone)
        }
        PointOfNoReturn::FirstWorker => !new(|component| !component.is_coordinator()),
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::{
        evidence::{Facts, MigrationRecord, RolloutFact, SettledFact},
        milvus::{Component, Version},
        rules::{
            Severity,
            testing::{Fixture, judge, judge_with},
        },
    };

    #[test]
    fn a_component_that_was_deleted_does_not_come_back_at_a_lower_minor() {
        let before = Fixture::cluster("2.5.5").without(Component::QueryNode);
        let after = |version: &str| {
            Fixture::cluster("2.5.5").tag_of(Component::QueryNode, &format!("v{version}"))
        };
        let findings = judge(&RULE, Some(&before), &after("2.4.17"));
        assert_eq!(findings[0].severity, Severity::Deny);
        assert_eq!(
            findings[0].message,
            "querynode would start at 2.4.17, below 2.5.5 that runs"
        );
        for version in ["2.5.5", "2.5.4", "2.5.27"] {
            assert!(
                judge(&RULE, Some(&before), &after(version)).is_empty(),
                "{version}"
            );
        }
    }

    #[test]
    fn a_lower_minor_is_denied_with_its_effect() {
        let findings = judge(
            &RULE,
            Some(&Fixture::cluster("2.5.5")),
            &Fixture::cluster("2.4.17"),
        );
        assert_eq!(findings[0].severity, Severity::Deny);
        assert_eq!(
            findings[0].message,
            "the version would go down from 2.5.5 to 2.4.17"
        );
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("3.0.2")),
                &Fixture::cluster("2.6.22")
            )[0]
            .severity
                == Severity::Deny
        );
    }

    #[test]
    fn one_component_may_not_go_down_alone() {
        let after = Fixture::cluster("2.3.22").tag_of(Component::RootCoord, "v2.2.16");
        let findings = judge(&RULE, Some(&Fixture::cluster("2.3.22")), &after);
        assert_eq!(
            findings[0].message,
            "rootcoord would go down from 2.3.22 to 2.2.16"
        );
        assert_eq!(findings[0].severity, Severity::Deny);
    }

    #[test]
    fn a_lower_patch_warns() {
        let findings = judge(
            &RULE,
            Some(&Fixture::cluster("2.4.17")),
            &Fixture::cluster("2.4.5"),
        );
        assert_eq!(
            findings
                .iter()
                .map(|finding| finding.severity)
                .collect::<Vec<_>>(),
            [Severity::Warn]
        );
    }

    #[test]
    fn forward_is_fine() {
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.4.5")),
                &Fixture::cluster("2.5.5")
            )
            .is_empty()
        );
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.4.13")),
                &Fixture::cluster("2.4.13-hotfix")
            )
            .is_empty()
        );
        assert!(judge(&RULE, None, &Fixture::cluster("2.4.5")).is_empty());
    }

    #[test]
    fn a_nightly_goes_down_by_its_day() {
        let run = |tag: &str| Fixture::cluster("2.5.5").tag(tag);
        let found = |from: &str, to: &str| {
            let findings = judge(&RULE, Some(&run(from)), &run(to));
            findings
                .first()
                .map(|finding| (finding.severity, finding.message.clone()))
        };
        let patch = "the patch version would go down from 2.5.11 to 2.5-20250410".to_owned();
        assert_eq!(
            found("v2.5.11", "2.5-20250410-3e3a92fc8"),
            Some((Severity::Warn, patch))
        );
        assert_eq!(found("2.5-20250410-3e3a92fc8", "v2.5.11"), None);
        assert_eq!(
            found("2.5-20250410-3e3a92fc8", "2.5-20250501-3e3a92fc8"),
            None
        );
        assert!(
            found("v2.6.0", "2.6-20250601-3e3a92fc8").is_some(),
            "older than the first release of its branch"
        );
        assert_eq!(found("v2.5.5", "v2.5.5-gpu"), None);
        assert_eq!(found("2.4.5-debian-12-r0", "v2.4.5"), None);
    }

    #[test]
    fn a_failed_upgrade_of_all_components_goes_back_to_what_was_available_last() {
        let (all_new, back) = (Fixture::cluster("2.3.22"), Fixture::cluster("2.2.16"));
        let facts = |version: &str, ever_available| Facts {
            settled: Some(vec![SettledFact {
                release: "my-release".into(),
                namespace: "milvus".into(),
                version: version.parse().unwrap(),
            }]),
            rollouts: Some(
                [
                    "rootcoord",
                    "datacoord",
                    "indexcoord",
                    "querycoord",
                    "indexnode",
                    "datanode",
                    "querynode",
                    "proxy",
                ]
                .map(|name| RolloutFact {
                    release: "my-release".into(),
                    component: name.parse().unwrap(),
                    workload: format!("my-release-milvus-{name}"),
                    complete: false,
                    ever_available,
                    detail: String::new(),
                })
                .to_vec(),
            ),
            ..Facts::default()
        };
        assert!(judge_with(&RULE, Some(&all_new), &back, &facts("2.2.16", false)).is_empty());
        assert_eq!(
            judge_with(&RULE, Some(&all_new), &back, &facts("2.2.16", true)).len(),
            1,
            "the new version has served"
        );
        assert_eq!(
            judge_with(&RULE, Some(&all_new), &back, &facts("2.2.12", false)).len(),
            1,
            "another version never ran"
        );
    }

    #[test]
    fn an_image_without_a_version_in_between_hides_no_downgrade() {
        let facts = |version: Version| Facts {
            settled: Some(vec![SettledFact {
                release: "my-release".into(),
                namespace: "milvus".into(),
                version,
            }]),
            ..Facts::default()
        };
        for (now, last, to, denied) in [
            (
                Fixture::cluster("2.4.5").tag("prod"),
                "2.4.5",
                "2.3.22",
                true,
            ),
            (
                Fixture::cluster("2.4.5").tag("@sha256:aa"),
                "2.5.4",
                "2.4.17",
                true,
            ),
            (
                Fixture::cluster("2.3.22").tag_of(Component::Proxy, "prod"),
                "2.4.5",
                "2.3.22",
                true,
            ),
            (
                Fixture::cluster("2.4.5").tag("prod"),
                "2.4.5",
                "2.4.5",
                false,
            ),
            (
                Fixture::cluster("2.4.5").tag("prod"),
                "2.4.5",
                "2.4.17",
                false,
            ),
            // The running image shows its version, so the memory is not used.
            (Fixture::cluster("2.3.22"), "2.4.5", "2.3.22", false),
        ] {
            let findings = judge_with(
                &RULE,
                Some(&now),
                &Fixture::cluster(to),
                &facts(last.parse().unwrap()),
            );
            let is_denied = findings
                .iter()
                .any(|finding| finding.severity == Severity::Deny);
            assert_eq!(is_denied, denied, "{last} {to} {findings:?}");
        }
        let unknown = judge(
            &RULE,
            Some(&Fixture::cluster("2.4.5").tag("prod")),
            &Fixture::cluster("2.3.22"),
        );
        assert!(
            unknown
                .iter()
                .all(|finding| finding.severity != Severity::Deny),
            "{unknown:?}"
        );
    }

    #[test]
    fn migrated_metadata_prevents_a_rollback_by_image() {
        let facts = |migrated| Facts {
            settled: Some(vec![SettledFact {
                release: "my-release".into(),
                namespace: "milvus".into(),
                version: Version::new(2, 1, 4),
            }]),
            rollouts: Some(Vec::new()),
            migrations: Some(vec![MigrationRecord {
                run: "milvus/run-1".into(),
                release: "my-release".into(),
                namespace: "milvus".into(),
                from: Version::new(2, 1, 4),
                to: Version::new(2, 2, 16),
                root_path: "by-dev".into(),
                etcd_cluster_id: "cdf818194e3a8c32".into(),
                endpoints: Vec::new(),
                workload_uids: Vec::new(),
                migrated,
            }]),
            ..Facts::default()
        };
        let (now, back) = (
            Fixture::cluster("2.2.16").stopped(),
            Fixture::cluster("2.1.4"),
        );
        let one = Fixture::cluster("2.2.16").tag_of(Component::Proxy, "v2.1.4");
        for back in [&back, &one] {
            assert_eq!(judge_with(&RULE, Some(&now), back, &facts(true)).len(), 1);
        }
    }

    #[test]
    fn the_way_out_of_a_failed_upgrade_is_open() {
        let stuck = Fixture::cluster("2.2.16").tag_of(Component::RootCoord, "v2.3.22");
        let back = Fixture::cluster("2.2.16");
        let rollout = |ever_available| Facts {
            rollouts: Some(vec![RolloutFact {
                release: "my-release".into(),
                component: Component::RootCoord,
                workload: "my-release-milvus-rootcoord".into(),
                complete: false,
                ever_available,
                detail: "0 of 1 pods available".into(),
            }]),
            ..Facts::default()
        };
        assert!(
            judge_with(&RULE, Some(&stuck), &back, &rollout(false)).is_empty(),
            "the new coordinator never came up"
        );
        assert_eq!(
            judge_with(&RULE, Some(&stuck), &back, &rollout(true)).len(),
            1,
            "it has served: beyond the point of no return"
        );
    }
}
