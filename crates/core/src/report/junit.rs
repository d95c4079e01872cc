//! For test reports of pipelines: one suite a release, one case a check.

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use crate::{evaluate::Subject, policy::Action};

use super::{CheckEntry, FindingEntry, Outcome, Report};
use crate::text::plain;

pub(super) fn render(report: &Report) -> String {
    let state = report.subject == Subject::State;
    let mut junit = Junit::new(if state {
        "milvus-guard audit"
    } else {
        "milvus-guard"
    });
    for (at, (release, of_release)) in report.releases.iter().zip(report.by_release()).enumerate() {
        let mut suite = TestSuite::new(plain(&release.label()));
        for check in &report.checks {
            let outcome = release
                .checks
                .get(&*check.rule)
                .copied()
                .unwrap_or(check.outcome);
            let findings: Vec<&FindingEntry> = of_release
                .iter()
                .copied()
                .filter(|finding| finding.rule == check.rule)
                .collect();
            suite.add_test_case(case(check, at, outcome, &findings));
        }
        junit.add_test_suite(suite);
    }
    junit.to_string().unwrap_or_default()
}

/// One check of one release. A denial is a failure; what only warns passes with its text. What did
/// not apply and what could not be evaluated are both skipped and told apart by the type and by the
/// first words of the message.
fn case(check: &CheckEntry, at: usize, outcome: Outcome, findings: &[&FindingEntry]) -> TestCase {
    let mut status = match outcome {
        Outcome::Deny => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Passed | Outcome::Audit | Outcome::Warn => TestCaseStatus::success(),
        Outcome::NotApplicable
        | Outcome::Off
        | Outcome::Accepted
        | Outcome::Excepted
        | Outcome::NotEvaluated => TestCaseStatus::skipped(),
    };
    let reasons = check
        .reasons
        .iter()
        .filter(|reason| reason.outcome == outcome && reason.holds(at));
    let reasons = reasons
        .map(|reason| reason.reason.as_str())
        .collect::<Vec<_>>()
        .join("; ");
    let body = findings
        .iter()
        .map(|finding| describe(finding))
        .collect::<Vec<_>>()
        .join("\n\n");
    match outcome {
        Outcome::Deny => {
            if let Some(worst) = findings
                .iter()
                .find(|finding| finding.action == Action::Deny)
            {
                status
                    .set_message(plain(&worst.message))
                    .set_type(worst.name.clone());
            }
            status.set_description(body.clone());
        }
        Outcome::NotApplicable | Outcome::NotEvaluated => {
            let kind = if outcome == Outcome::NotApplicable {
                "not-applicable"
            } else {
                "not-evaluated"
            };
            status
                .set_message(format!("{}: {}", outcome.words(), plain(&reasons)))
                .set_type(kind);
        }
        Outcome::Off | Outcome::Accepted | Outcome::Excepted => {
            status.set_message(outcome.words());
        }
        Outcome::Passed | Outcome::Audit | Outcome::Warn => {}
    }
    let mut case = TestCase::new(format!("{} {}", check.rule, check.title), status);
    case.set_classname(format!("milvus-guard.{}", check.name));
    if outcome != Outcome::Deny && !body.is_empty() {
        case.set_system_out(body);
    }
    case
}

fn describe(finding: &FindingEntry) -> String {
    let mut text = plain(&finding.message);
    if let Some(location) = &finding.location {
        text += &format!("\nat: {}", plain(&location.to_string()));
    }
    if finding.not_evaluated {
        text += &format!("\ndo: {}", plain(&finding.fix.text));
    } else {
        text += &format!(
            "\nwhy: {}\nfix: {}",
            plain(&finding.why),
            plain(&finding.fix.text)
        );
    }
    if let Some(command) = &finding.fix.command {
        text += &format!("\nrun: {}", plain(command));
    }
    text += &format!("\ndocs: {}", finding.docs_url);
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_state_has_its_own_form() {
        let text = super::render(&super::super::sample::report());
        assert!(!text.contains("disabled="), "{text}");
        assert!(text.contains(r#"<skipped message="not applicable: the release contains no MinIO" type="not-applicable"/>"#));
        assert!(
            text.contains(r#"type="not-evaluated"/>"#)
                && text.contains(r#"message="not evaluated: "#),
            "{text}"
        );
        let suite = text
            .lines()
            .find(|line| line.contains("<testsuite "))
            .unwrap();
        let skipped = text.matches("<skipped").count();
        assert!(
            suite.contains(&format!(r#" skipped="{skipped}""#)),
            "{suite}"
        );
    }

    #[test]
    fn snapshot_of_an_audit() {
        insta::assert_snapshot!(super::render(&super::super::sample::audit()));
    }

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(super::render(&super::super::sample::report()));
    }
}
