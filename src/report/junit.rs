//! For test reports of pipelines: one suite a release, one case a check.

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use crate::policy::Action;

use super::{FindingEntry, Outcome, Report, format::plain};

pub(super) fn render(report: &Report) -> String {
    let mut junit = Junit::new("milvus-guard");
    for release in &report.releases {
        let mut suite = TestSuite::new(plain(&release.name));
        for check in &report.checks {
            let findings: Vec<&FindingEntry> =
                report.findings.iter().filter(|finding| finding.rule == check.rule && finding.release == release.name).collect();
            let worst = findings.iter().filter(|finding| !finding.not_evaluated).max_by_key(|finding| finding.action);
            let mut status = match (worst, check.outcome) {
                (Some(finding), _) if finding.action == Action::Deny => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_message(plain(&finding.message)).set_type(finding.name.clone());
                    status
                }
                (None, Outcome::NotEvaluated | Outcome::Off | Outcome::Excepted | Outcome::Accepted) => TestCaseStatus::skipped(),
                _ => TestCaseStatus::success(),
            };
            let body = findings.iter().map(|finding| describe(finding)).collect::<Vec<_>>().join("\n\n");
            let denied = worst.is_some_and(|finding| finding.action == Action::Deny);
            if denied {
                status.set_description(body.clone());
            }
            let mut case = TestCase::new(format!("{} {}", check.rule, check.title), status);
            case.set_classname(format!("milvus-guard.{}", check.name));
            if !denied && !body.is_empty() {
                case.set_system_out(body);
            }
            suite.add_test_case(case);
        }
        junit.add_test_suite(suite);
    }
    junit.to_string().map_or_else(|_| String::new(), |text| if text.ends_with('\n') { text } else { text + "\n" })
}

fn describe(finding: &FindingEntry) -> String {
    let mut text = plain(&finding.message);
    if let Some(location) = &finding.location {
        text += &format!("\nat: {}", plain(&location.to_string()));
    }
    if !finding.not_evaluated {
        text += &format!("\nwhy: {}\nfix: {}", plain(&finding.why), plain(&finding.fix.text));
    }
    if let Some(command) = &finding.fix.command {
        text += &format!("\nrun: {}", plain(command));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn snapshot() {
        insta::assert_snapshot!(super::render(&super::super::sample::report()));
    }
}
