//! MG104: releases with known defects are not worth moving to.

use crate::{
    change::Upgrade,
    milvus::{
        Build, Topology,
        catalogue::{BadRelease, Situation, Verdict},
    },
};

use super::{Behavior, Category, DefaultAction, Findings, Missing, Need, Rule, advice::Remedy};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG104",
    name: "bad-release",
    title: "the version has no known defect that applies here",
    category: Category::Version,
    default: DefaultAction::DenyOrWarn,
    data_loss: false,
    behavior: &[Behavior::SelfAcceptable, Behavior::RestoredByRollback],
    since: "0.1.0",
    needs: &[Need::After, Need::Version],
    what: "Looks up the target release in the table of bad releases. Some are bad only when \
           upgrading from certain versions, in a rolling upgrade, with one message queue, or in a \
           cluster; rows that do not apply to the release are left out.",
    why: "Users of that release have lost collections, rows or availability to these defects.",
    example: "2.4.13 without -hotfix: collections are lost after a restart once metadata snapshots \
              were garbage-collected.",
    fix: "Use the release that the finding names.",
    sources: &[
        "milvus#36933",
        "milvus#39125",
        "milvus#23828",
        "milvus#36114",
        "release notes of each line",
    ],
    check,
};

/// How to provide what the data lacks.
pub(super) const NEWER_DATA: &str =
    "Use a milvus-guard version with newer data, or add your own rows with --data FILE.";

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some(to) = upgrade.to() else { return };
    let from = upgrade.from();
    if from.as_ref() == Some(&to) {
        findings.not_applicable(format!("the version stays {to}"));
        return;
    }
    findings.checked();
    let situation = Situation::after(upgrade.before, upgrade.after);
    let by_source =
        |row: &&BadRelease| row.from.is_some() && row.describes(&to, &situation.variants);
    if upgrade.before.is_some()
        && from.is_none()
        && upgrade
            .catalogue
            .bad_releases
            .iter()
            .any(|row| by_source(&row))
    {
        findings.not_evaluated(Missing::new(
            format!("some defects of {to} depend on the running version, which cannot be read"),
            "Set the annotation guard.milvus.io/declared-version: \"VERSION for IMAGE\" on the \
             running workloads.",
        ));
    }
    let rolling = from.is_some()
        && upgrade.after.topology() == Topology::Cluster
        && !upgrade
            .before
            .is_some_and(crate::milvus::Release::is_stopped);
    source_defects(upgrade, findings);
    let mut rows: Vec<&BadRelease> = upgrade
        .catalogue
        .bad_releases(&to, from.as_ref(), &situation, rolling)
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.verdict));
    let Some(worst) = rows.first().map(|row| row.verdict) else {
        // No row is a good sign only where the data has the release.
        if let Some(unknown) = upgrade.catalogue.is_unknown(to.version) {
            findings.not_evaluated(Missing::new(
                format!("{unknown}, so its defects are not known"),
                NEWER_DATA,
            ));
        }
        return;
    };
    rows.retain(|row| row.verdict == worst);
    let source = upgrade
        .after
        .components
        .first()
        .map(|component| &component.workload.meta.origin);
    let defects = rows
        .iter()
        .map(|row| row.why.trim_end_matches('.'))
        .collect::<Vec<_>>()
        .join("; ");
    let finding = if to.is_undated() {
        // The head of the branch may have the repair.
        findings.warn(format!(
            "{to} may have known defects, because its tag has no day: {defects}"
        ))
    } else if worst == Verdict::Deny {
        findings.deny(format!("{to} must not be used here: {defects}"))
    } else {
        findings.warn(format!("{to} has known defects: {defects}"))
    };
    finding
        .evidence(
            "version",
            from.as_ref().map(ToString::to_string),
            Some(to.to_string()),
            source,
        )
        .remedy(remedy(upgrade, &rows, &to, from.as_ref(), &situation));
}

/// What to do: what the rows themselves say, and another release where that helps and one without
/// findings is known.
fn remedy(
    upgrade: &Upgrade<'_>,
    rows: &[&BadRelease],
    to: &Build,
    from: Option<&Build>,
    situation: &Situation,
) -> Remedy {
    let catalogue = upgrade.catalogue;
    let line = to.version.line();
    let mut said: Vec<String> = Vec::new();
    for row in rows.iter().filter(|row| !row.fix.is_empty()) {
        let text = catalogue.fill(&row.fix, from, situation).into_owned();
        if !said.contains(&text) {
            said.push(text);
        }
    }
    if rows.iter().all(|row| !row.fix.is_empty()) {
        return Remedy::words(said.join(" "));
    }
    let other = match (catalogue.target(line, from, situation), from) {
        (Some(target), Some(from)) if Build::of(target) == *from => format!("Stay on {target}."),
        (Some(target), _) => {
            return upgrade
                .advice()
                .set_version(&target.to_string())
                .and(&said.join(" "));
        }
        (None, Some(from)) => {
            format!(
                "Stay on {from}: no known release of the {line} line is free of such defects here \
                 and at least as new as the running version."
            )
        }
        (None, None) => {
            format!(
                "Use another version line: no known {line} release is free of such defects \
                     here."
            )
        }
    };
    said.push(other);
    Remedy::words(said.join(" "))
}

/// The running version may already have lost data: check the data before the upgrade.
fn source_defects(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let (Some(from), Some(before)) = (upgrade.from(), upgrade.before) else {
        return;
    };
    let situation = Situation::of(before);
    let rows: Vec<&str> = upgrade
        .catalogue
        .bad_sources(&from, &situation)
        .map(|row| row.why.trim_end_matches('.'))
        .collect();
    if rows.is_empty() {
        return;
    }
    let has = if from.is_undated() { "may have" } else { "has" };
    findings
        .warn(format!("the running version {from} {has} known defects: {}", rows.join("; ")))
        .because("The upgrade does not repair data that this version has already lost.")
        .fix("Check row counts and collections before the upgrade, and keep the backup until the new version is verified.");
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::{
        Severity,
        testing::{Fixture, judge},
    };

    #[rstest]
    #[case("2.2.5", "2.2.7", Some(Severity::Deny))]
    #[case("2.3.4", "2.3.6", Some(Severity::Deny))]
    #[case("2.4.9", "2.4.10", Some(Severity::Deny))]
    #[case("2.4.12", "2.4.13", Some(Severity::Deny))]
    #[case("2.4.17", "2.5.0", Some(Severity::Deny))]
    #[case("2.4.17", "2.5.3", Some(Severity::Deny))]
    #[case("2.4.17", "2.5-20241224-abcdef12", Some(Severity::Deny))]
    #[case("2.4.17", "2.5-latest", Some(Severity::Warn))]
    #[case("2.4.17", "2.5", Some(Severity::Warn))]
    #[case("2.5.5", "2.5.20", Some(Severity::Deny))]
    #[case("2.4.12", "2.4.13-hotfix", Some(Severity::Warn))]
    #[case("2.5.1", "2.5.3", Some(Severity::Warn))]
    #[case("2.4.17", "2.5.5", Some(Severity::Warn))]
    #[case("2.4.17", "2.4.24", None)]
    #[case("2.4.24", "2.5.27", None)]
    #[case("2.2.16", "2.3.22", None)]
    #[case("2.4.13", "2.4.13", None)]
    fn releases(#[case] from: &str, #[case] to: &str, #[case] expected: Option<Severity>) {
        let findings = judge(&RULE, Some(&Fixture::cluster(from)), &Fixture::cluster(to));
        let about_target = findings
            .iter()
            .filter(|finding| !finding.message.starts_with("the running version"));
        assert_eq!(
            about_target.map(|finding| finding.severity).max(),
            expected,
            "{findings:?}"
        );
    }

    #[rstest]
    #[case("2.5.99", "2.5.99 is newer than the data of ")]
    #[case("9.9.9", "9.9.9 is newer than the data of ")]
    #[case("2.7.1", " does not contain the release 2.7.1")]
    fn an_unknown_release_is_not_evaluated(#[case] to: &str, #[case] said: &str) {
        let findings = judge(
            &RULE,
            Some(&Fixture::cluster("2.3.22")),
            &Fixture::cluster(to),
        );
        let [finding] = findings.as_slice() else {
            panic!("{findings:?}")
        };
        assert!(
            finding.not_evaluated
                && finding.severity == Severity::Audit
                && finding.message.contains(said)
                && finding.message.contains("its defects are not known"),
            "{finding:?}"
        );
    }

    #[test]
    fn a_source_with_defects_is_named() {
        let findings = judge(
            &RULE,
            Some(&Fixture::cluster("2.5.13")),
            &Fixture::cluster("2.5.27"),
        );
        assert!(
            findings[0]
                .message
                .starts_with("the running version 2.5.13 has known defects"),
            "{findings:?}"
        );
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.5.13")),
                &Fixture::cluster("2.5.13")
            )
            .is_empty()
        );
    }

    #[test]
    fn a_standalone_does_not_roll() {
        let findings = judge(
            &RULE,
            Some(&Fixture::standalone("2.4.9")),
            &Fixture::standalone("2.4.10"),
        );
        assert_ne!(
            findings.iter().map(|finding| finding.severity).max(),
            Some(Severity::Deny)
        );
    }

    fn on(fixture: Fixture, queue: &str) -> Fixture {
        fixture.default_yaml(&format!("mq: {{type: {queue}}}\n"))
    }

    /// What is said about the target, message and fix.
    fn said(before: &Fixture, after: &Fixture) -> String {
        let findings = judge(&RULE, Some(before), after);
        let about_target = findings
            .iter()
            .filter(|finding| !finding.message.starts_with("the running version"));
        about_target
            .map(|finding| format!("{} | {}", finding.message, finding.fix.text))
            .collect()
    }

    #[rstest]
    #[case("pulsar", true)]
    #[case("kafka", false)]
    #[case("rocksmq", false)]
    #[case("woodpecker", false)]
    fn a_defect_of_one_queue_is_quoted_there_only(#[case] queue: &str, #[case] quoted: bool) {
        for run in [Fixture::cluster, Fixture::standalone] {
            let said = said(&on(run("2.5.27"), queue), &on(run("2.6.22"), queue));
            assert_eq!(
                said.contains("cut-over from 2.5 to streaming"),
                quoted,
                "{said}"
            );
            assert!(!quoted || said.contains("| Use 2.6.24 instead"), "{said}");
        }
        // Without a configuration the queue is not known, and the defect may be this release's.
        let (before, after) = (Fixture::cluster("2.5.27"), Fixture::cluster("2.6.22"));
        assert!(said(&before, &after).contains("cut-over"));
    }

    #[test]
    fn a_log_on_a_local_volume_stops_a_cluster() {
        let log = |fixture: Fixture, storage: &str| {
            fixture.default_yaml(&format!(
                "mq: {{type: woodpecker}}\nwoodpecker: {{storage: {{type: {storage}}}}}\n"
            ))
        };
        let cluster = |version: &str, storage: &str| log(Fixture::cluster(version), storage);
        let local = said(&cluster("2.6.10", "local"), &cluster("2.6.24", "local"));
        assert!(
            local.starts_with("2.6.24 must not be used here: ")
                && local.contains("| Stay on the running release"),
            "{local}"
        );
        assert_eq!(
            said(&cluster("2.6.10", "minio"), &cluster("2.6.24", "minio")),
            ""
        );
        let standalone = |version: &str| log(Fixture::standalone(version), "local");
        assert_eq!(said(&standalone("2.6.10"), &standalone("2.6.24")), "");
        let service = said(&cluster("2.6.24", "minio"), &cluster("3.0.2", "service"));
        assert!(
            service.contains("from embedded to service")
                && service.contains("Keep Woodpecker embedded"),
            "{service}"
        );
        assert_eq!(
            said(&cluster("3.0.1", "service"), &cluster("3.0.2", "service")),
            ""
        );
        assert!(
            said(&cluster("2.6.10", "minio"), &cluster("2.6.24", "service"))
                .contains("needs Milvus 3.0")
        );
    }

    #[test]
    fn a_gpu_image_is_asked_for_its_driver_once() {
        let gpu = |version: &str| Fixture::cluster(version).tag(&format!("v{version}-gpu"));
        let crossing = said(&on(gpu("2.6.18"), "kafka"), &on(gpu("2.6.24"), "kafka"));
        assert!(
            crossing.ends_with("| Check that the driver of the GPU nodes supports CUDA 12.9."),
            "{crossing}"
        );
        assert_eq!(
            said(&on(gpu("2.6.22"), "kafka"), &on(gpu("2.6.24"), "kafka")),
            ""
        );
        // Only the query nodes may run on GPUs.
        let mixed =
            Fixture::cluster("2.6.24").tag_of(crate::milvus::Component::QueryNode, "v2.6.24-gpu");
        assert!(
            said(
                &on(Fixture::cluster("2.6.18"), "kafka"),
                &on(mixed, "kafka")
            )
            .contains("CUDA 12.9")
        );
    }

    #[test]
    fn a_variant_is_no_other_release() {
        let plain = Fixture::cluster("2.5.12");
        for tag in [
            "v2.5.12-gpu",
            "v2.5.12-secure",
            "2.5.12-debian-12-r0",
            "v2.5.12-arm64",
        ] {
            assert!(
                judge(&RULE, Some(&plain), &Fixture::cluster("2.5.12").tag(tag)).is_empty(),
                "{tag}"
            );
        }
    }

    #[test]
    fn nobody_is_sent_back_to_an_older_release() {
        assert!(
            said(&Fixture::cluster("2.5.27"), &Fixture::cluster("2.5.19"))
                .ends_with("| Stay on 2.5.27.")
        );
        let (before, after) = (Fixture::cluster("2.6.25"), Fixture::cluster("2.6.23"));
        let said = said(&before, &after);
        assert!(
            said.contains("| Stay on 2.6.25: no known release of the 2.6 line is free"),
            "{said}"
        );
    }

    #[test]
    fn a_new_installation_is_judged_too() {
        assert!(!judge(&RULE, None, &Fixture::cluster("2.4.13")).is_empty());
    }
}
