//! MG104: releases with known defects are not worth moving to.

use crate::{
    milvus::{
        Topology,
        catalogue::{BadRelease, Verdict},
    },
    upgrade::Upgrade,
};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG104",
    name: "bad-release",
    title: "the target release has no known defect that matters here",
    category: Category::Version,
    default: DefaultAction::DenyOrWarn,
    data_loss: false,
    since: "0.1.0",
    needs: &[Need::After],
    what: "Looks the wanted release up in the table of bad releases, some of which are bad only when coming from certain \
           versions or in a rolling change.",
    why: "Each row stands for collections, rows or availability that users of that release have lost.",
    example: "2.4.13 without -hotfix: collections are gone after a restart once metadata snapshots were collected.",
    fix: "Take the release that the finding names.",
    sources: &["milvus#36933", "milvus#39125", "milvus#23828", "milvus#36114", "release notes of each line"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some(to) = upgrade.to() else { return };
    let from = upgrade.from();
    if from.as_ref() == Some(&to) {
        return;
    }
    let rolling = from.is_some()
        && upgrade.after.topology() == Topology::Cluster
        && !upgrade.before.is_some_and(crate::milvus::Release::is_stopped);
    source_defects(upgrade, findings);
    let mut rows: Vec<&BadRelease> = upgrade.catalogue.bad_releases(&to, from.as_ref(), rolling).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.verdict));
    let Some(worst) = rows.first() else { return };
    let source = upgrade.after.components.first().map(|component| &component.workload.meta.origin);
    let describe = |rows: &[&BadRelease]| rows.iter().map(|row| row.why.trim_end_matches('.')).collect::<Vec<_>>().join("; ");
    let (denied, warned): (Vec<&BadRelease>, Vec<&BadRelease>) = rows.iter().copied().partition(|row| row.verdict == Verdict::Deny);
    let finding = if worst.verdict == Verdict::Deny {
        findings.deny(format!("{to} must not be used here: {}", describe(&denied)))
    } else {
        findings.warn(format!("{to} has known defects: {}", describe(&warned)))
    };
    let landing = upgrade
        .catalogue
        .landing(to.version.line())
        .filter(|landing| landing.to_string() != worst.r#use)
        .map(|version| format!("The recommended release of the line is {version}."));
    finding
        .evidence("version", from.as_ref().map(ToString::to_string), Some(to.to_string()), source)
        .remedy(upgrade.advice().set_version(&worst.r#use).and(&landing.unwrap_or_default()));
}

/// What runs may already have lost something: worth a look at the data before it is carried on.
fn source_defects(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some(from) = upgrade.from() else { return };
    let rows: Vec<&str> = upgrade
        .catalogue
        .bad_releases
        .iter()
        .filter(|row| row.as_source && row.describes(&from))
        .map(|row| row.why.trim_end_matches('.'))
        .collect();
    if rows.is_empty() {
        return;
    }
    findings
        .warn(format!("{from}, which runs, has known defects: {}", rows.join("; ")))
        .because("What such a release has lost or left open is not mended by the upgrade.")
        .fix("Check row counts and collections before the upgrade, and keep the backup until the new version has proved good.");
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
        let about_target = findings.iter().filter(|finding| !finding.message.contains("which runs"));
        assert_eq!(about_target.map(|finding| finding.severity).max(), expected, "{findings:?}");
    }

    #[test]
    fn a_source_with_defects_is_named() {
        let findings = judge(&RULE, Some(&Fixture::cluster("2.5.13")), &Fixture::cluster("2.5.27"));
        assert!(findings[0].message.starts_with("2.5.13, which runs, has known defects"), "{findings:?}");
        assert!(judge(&RULE, Some(&Fixture::cluster("2.5.13")), &Fixture::cluster("2.5.13")).is_empty());
    }

    #[test]
    fn a_standalone_does_not_roll() {
        let findings = judge(&RULE, Some(&Fixture::standalone("2.4.9")), &Fixture::standalone("2.4.10"));
        assert_ne!(findings.iter().map(|finding| finding.severity).max(), Some(Severity::Deny));
    }

    #[test]
    fn a_new_installation_is_judged_too() {
        assert!(!judge(&RULE, None, &Fixture::cluster("2.4.13")).is_empty());
    }
}
