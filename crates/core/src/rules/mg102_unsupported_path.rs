//! MG102: the path table must allow the step.

use crate::{
    change::Upgrade,
    milvus::{
        Build, Release,
        catalogue::{Catalogue, Path, Situation, Verdict},
        chart_ref::ChartRef,
    },
};

use super::{Behavior, Category, DefaultAction, Findings, Missing, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG102",
    name: "unsupported-path",
    title: "the target version may follow the running one",
    category: Category::Version,
    default: DefaultAction::DenyOrWarn,
    data_loss: false,
    behavior: &[Behavior::RestoredByRollback],
    since: "0.1.0",
    needs: &[Need::Before, Need::VersionChange],
    what: "Looks up the step from the running version to the target version in the path table, \
           with topology, coordinators and metastore.",
    why: "Each release can read the data of the releases just before it. If a step skips a \
          required stop, the new version finds formats and sessions that it does not support.",
    example: "2.4.17 to 2.6.11: 2.6 needs 2.5.16 or later with a mixed coordinator before it.",
    fix: "Upgrade through the required stops; `milvus-guard plan` prints the whole path.",
    sources: &["Milvus docs: upgrade pages 2.2 to 3.0", "milvus-docs#3274"],
    check,
};

/// What is known of the running release when its path is looked up.
pub fn situation(before: &Release) -> Situation {
    Situation::of(before)
}

/// What to say where the path table does not know the step.
pub(super) fn no_row(from: &Build, to: &Build) -> Missing {
    Missing::new(
        format!("the path data does not contain a row for {from} to {to}"),
        super::mg104_bad_release::NEWER_DATA,
    )
}

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let (Some((before, after)), Some((from, to))) = (upgrade.both(), upgrade.versions()) else {
        return;
    };
    if to.version < from.version && to.version.line() < from.version.line() {
        findings.not_applicable("this is a downgrade, which MG103 checks");
        return;
    }
    let situation = situation(before);
    let route = upgrade.catalogue.route(&from, &to, &situation);
    if route.rows.is_empty() {
        findings.not_evaluated(no_row(&from, &to));
        return;
    }
    findings.checked();
    if route.rows.iter().any(|row| row.keep_chart) {
        moved_chart(before, after, (&from, &to), findings);
    }
    let speaking: Vec<&Path> = route
        .of(RULE.id)
        .filter(|row| row.verdict >= Verdict::Warn)
        .collect();
    let Some(worst) = speaking.first() else {
        return;
    };
    for row in speaking.iter().filter(|row| row.verdict == worst.verdict) {
        let message = format!(
            "{from} cannot be upgraded directly to {to}: {}",
            lower_first(&row.reason)
        );
        let finding = if row.verdict == Verdict::Deny {
            findings.deny(message)
        } else {
            findings.warn(format!("{from} to {to}: {}", lower_first(&row.reason)))
        };
        finding
            .evidence(
                "version",
                Some(from.to_string()),
                Some(to.to_string()),
                after
                    .components
                    .first()
                    .map(|component| &component.workload.meta.origin),
            )
            .fix(fix(row, upgrade.catalogue, &from, &situation))
            .command(plan(upgrade, &from, &to));
    }
}

/// Warns about a chart that changes in a step that is known with one chart only.
fn moved_chart(
    before: &Release,
    after: &Release,
    (from, to): (&Build, &Build),
    findings: &mut Findings,
) {
    let (Some(old), Some(new)) = (&before.chart, &after.chart) else {
        return;
    };
    if old.version == new.version {
        return;
    }
    let text = |chart: &ChartRef| format!("{}-{}", chart.name, chart.version);
    findings
        .warn(format!(
            "{from} to {to}: the chart would change too, from {} to {}",
            text(old),
            text(new)
        ))
        .because(
            "This step is known to work with the image changed alone. Another chart also changes \
             templates and defaults, and a failure cannot be traced to one of the two.",
        )
        .evidence(
            "chart",
            Some(text(old)),
            Some(text(new)),
            after
                .components
                .first()
                .map(|component| &component.workload.meta.origin),
        )
        .fix("Keep the chart version and change the image alone. Change the chart afterwards.");
}

/// The command that prints the whole path, where `plan` takes the target.
fn plan(upgrade: &Upgrade<'_>, from: &Build, to: &Build) -> Option<String> {
    if !upgrade.catalogue.may_exist(to) {
        return None;
    }
    let words = ["--from", &argument(from), "--to", &argument(to)].map(str::to_owned);
    upgrade.advice().guard("plan", &words)
}

fn fix(row: &Path, catalogue: &Catalogue, from: &Build, situation: &Situation) -> String {
    let stops = row
        .via
        .iter()
        .map(|stop| catalogue.stop(*stop, Some(from), situation).to_string());
    let via = stops.collect::<Vec<_>>().join(", then ");
    match (via.is_empty(), row.fix.is_empty()) {
        (_, false) => catalogue.fill(&row.fix, Some(from), situation).into_owned(),
        (false, true) => format!("Go to {via} first."),
        (true, true) => RULE.fix.to_owned(),
    }
}

/// A build as `plan` takes it: a nightly is named by the newest release that it contains.
fn argument(build: &Build) -> String {
    if build.nightly.is_some() {
        build.version.to_string()
    } else {
        build.to_string()
    }
}

pub(super) fn lower_first(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    match (letters.next(), letters.clone().next()) {
        // An acronym or a name keeps its capital.
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().collect::<String>() + letters.as_str()
        }
        (Some(first), _) => first.to_string() + letters.as_str(),
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::{
        Severity,
        testing::{Fixture, judge},
    };

    fn severity(from: &str, to: &str) -> Option<Severity> {
        judge(&RULE, Some(&Fixture::cluster(from)), &Fixture::cluster(to))
            .iter()
            .map(|finding| finding.severity)
            .max()
    }

    #[rstest]
    #[case("2.1.4", "2.3.22", Some(Severity::Deny))]
    #[case("2.4.17", "2.6.11", Some(Severity::Deny))]
    #[case("2.5.5", "2.6.11", Some(Severity::Deny))]
    #[case("2.5.16", "3.0.2", Some(Severity::Deny))]
    #[case("1.1.1", "2.2.16", Some(Severity::Deny))]
    #[case("2.6.0-rc1", "2.6.11", Some(Severity::Deny))]
    #[case("2.2.9", "2.3.22", Some(Severity::Warn))]
    #[case("2.2.16", "2.5.27", Some(Severity::Warn))]
    #[case("2.2.16", "2.3.22", None)]
    #[case("2.3.22", "2.4.24", None)]
    #[case("2.4.24", "2.5.27", None)]
    #[case("2.5.27", "2.6.22", None)]
    #[case("2.4.5", "2.4.24", None)]
    #[case("2.4.5", "2.4.5", None)]
    fn paths(#[case] from: &str, #[case] to: &str, #[case] expected: Option<Severity>) {
        assert_eq!(severity(from, to), expected);
    }

    /// The message must not name a command that ends with an error.
    #[rstest]
    #[case("2.4.24", "9.9.9", false)]
    #[case("2.4.24", "3.5.0", false)]
    #[case("3.0.2", "3.1.0", false)]
    #[case("2.4.17", "2.6.11", true)]
    #[case("2.4.17", "2.6.99", true)]
    fn the_command_is_one_that_plan_takes(
        #[case] from: &str,
        #[case] to: &str,
        #[case] is_shown: bool,
    ) {
        let findings = judge(&RULE, Some(&Fixture::cluster(from)), &Fixture::cluster(to));
        assert!(!findings.is_empty());
        for finding in &findings {
            assert_eq!(finding.fix.command.is_some(), is_shown, "{finding:?}");
            assert!(!finding.message.contains("this table"), "{finding:?}");
        }
    }

    #[test]
    fn separate_coordinators_stop_before_2_6() {
        use crate::milvus::Component::{
            DataCoord, DataNode, IndexCoord, IndexNode, Proxy, QueryCoord, QueryNode, RootCoord,
        };
        let before = Fixture::of(
            "2.5.27",
            &[
                RootCoord, DataCoord, IndexCoord, QueryCoord, IndexNode, DataNode, QueryNode, Proxy,
            ],
        );
        let findings = judge(&RULE, Some(&before), &Fixture::cluster("2.6.22"));
        assert_eq!(
            findings.first().map(|finding| finding.severity),
            Some(Severity::Deny)
        );
    }

    #[test]
    fn mysql_is_a_dead_end() {
        let before = Fixture::cluster("2.2.14").default_yaml("metastore: {type: mysql}\n");
        let findings = judge(&RULE, Some(&before), &Fixture::cluster("2.3.22"));
        assert_eq!(
            findings.first().map(|finding| finding.severity),
            Some(Severity::Deny)
        );
    }

    #[test]
    fn a_new_installation_has_no_path() {
        assert!(judge(&RULE, None, &Fixture::cluster("2.6.11")).is_empty());
    }

    #[rstest]
    #[case::kept("2.6.22", "5.0.14", "3.0.2", "5.0.14", 0)]
    #[case::moved("2.6.22", "5.0.14", "3.0.2", "5.0.28", 1)]
    #[case::moved_far("2.6.22", "4.2.40", "3.0.2", "5.0.14", 1)]
    #[case::another_step("2.6.20", "5.0.14", "2.6.22", "5.0.28", 0)]
    fn a_step_that_is_known_with_one_chart_only(
        #[case] from: &str,
        #[case] old: &str,
        #[case] to: &str,
        #[case] new: &str,
        #[case] warnings: usize,
    ) {
        let before = Fixture::standalone(from).chart(old);
        let found = judge(&RULE, Some(&before), &Fixture::standalone(to).chart(new));
        assert_eq!(found.len(), warnings, "{found:?}");
        for finding in &found {
            assert_eq!(finding.severity, Severity::Warn);
            assert!(finding.message.contains("the chart would change too"));
        }
    }
}
