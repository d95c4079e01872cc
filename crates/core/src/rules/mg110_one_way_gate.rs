//! MG110: some versions cannot be left again.

use crate::{change::Upgrade, milvus::catalogue::PointOfNoReturn};

use super::{
    Behavior, Category, DefaultAction, Findings, Need, Rule,
    mg102_unsupported_path::{no_row, situation},
};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG110",
    name: "one-way-gate",
    title: "the upgrade can be rolled back",
    category: Category::Version,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[Behavior::RestoredByRollback],
    since: "0.1.0",
    needs: &[Need::Before, Need::VersionChange],
    what: "Warns if the upgrade passes a point after which a rollback is not safe, and names that \
           point.",
    why: "helm rollback changes images and configuration, never data. Back up before the upgrade \
          passes that point.",
    example: "2.5 to 2.6: once streaming nodes own the channels, 2.5 cannot read what was written.",
    fix: "Back up metadata and object storage first; test the new version on a copy.",
    sources: &["milvus#46451", "milvus#51946", "milvus#53262"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let (Some((before, after)), Some((from, to))) = (upgrade.both(), upgrade.versions()) else {
        return;
    };
    if to.version.line() <= from.version.line() {
        findings.not_applicable(format!("{from} to {to} goes to no later minor version"));
        return;
    }
    let route = upgrade.catalogue.route(&from, &to, &situation(before));
    if route.rows.is_empty() {
        findings.not_evaluated(no_row(&from, &to));
        return;
    }
    findings.checked();
    let Some(row) = route
        .rows
        .iter()
        .find(|row| row.point_of_no_return != PointOfNoReturn::None && !row.lost.is_empty())
    else {
        return;
    };
    let until = row.point_of_no_return.until(before.topology());
    let backup = if row.backup.is_empty() {
        RULE.fix.to_owned()
    } else {
        format!(
            "Back up first: {}.",
            upgrade.advice().manager().backups(&row.backup).join(", ")
        )
    };
    findings
        .warn(format!("{from} to {to} can be rolled back only {until}"))
        .because(format!(
            "A rollback after that point is not safe: {}.",
            row.lost.trim_end_matches('.')
        ))
        .evidence(
            "version",
            Some(from.to_string()),
            Some(to.to_string()),
            after
                .components
                .first()
                .map(|component| &component.workload.meta.origin),
        )
        .fix(backup);
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    #[test]
    fn crossing_a_line_says_until_when() {
        let findings = judge(
            &RULE,
            Some(&Fixture::cluster("2.5.27")),
            &Fixture::cluster("2.6.22"),
        );
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(
            findings[0]
                .message
                .starts_with("2.5.27 to 2.6.22 can be rolled back only until")
        );
    }

    #[test]
    fn patches_are_silent() {
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.5.5")),
                &Fixture::cluster("2.5.27")
            )
            .is_empty()
        );
        assert!(judge(&RULE, None, &Fixture::cluster("2.6.22")).is_empty());
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.5.5")),
                &Fixture::cluster("2.4.17")
            )
            .is_empty()
        );
    }
}
