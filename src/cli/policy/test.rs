//! `policy test`: whether the result of each case is the expected one.

use std::path::PathBuf;

use clap::ValueEnum;
use jiff::Timestamp;
use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use milvus_guard_core::{
    evaluate::Evaluation,
    milvus::catalogue::Catalogue,
    policy::Action,
    text::{count, plain},
};

use super::case::{Expectation, ExpectedVerdict, expectation, find_cases, judge_case};
use crate::cli::{
    exit::{Done, Exit, Failure},
    gather,
    output::{Screen, print},
    policies,
    structured::Structured,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TestFormat {
    /// For a person
    Text,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
    /// For test reports of pipelines
    Junit,
}

/// The result of a case.
#[derive(Serialize)]
struct Outcome {
    case: String,
    passed: bool,
    differences: Vec<String>,
}

pub(super) fn run(
    cases: &[PathBuf],
    policy: &[PathBuf],
    data: &[PathBuf],
    format: TestFormat,
    screen: &Screen,
) -> Done {
    let own_data = gather::catalogue(data)?;
    let catalogue = own_data.as_ref().unwrap_or_else(|| Catalogue::embedded());
    let documents = policies::documents(policy)?;
    let mut folders = Vec::new();
    for root in cases {
        find_cases(root, 8, &mut folders)?;
    }
    if folders.is_empty() {
        let shown = cases
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(", ");
        return Err(Failure::usage(format!(
            "no case below {shown}: a case is a folder with expect.yaml"
        )));
    }
    let mut outcomes = Vec::new();
    for folder in &folders {
        let expectation = expectation(folder)?;
        let set = policies::set(
            documents.clone(),
            expectation.now.unwrap_or_else(Timestamp::now),
        );
        let differences = differences(
            &expectation,
            &judge_case(folder, &expectation, &set, catalogue)?,
        );
        outcomes.push(Outcome {
            case: folder.display().to_string(),
            passed: differences.is_empty(),
            differences,
        });
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    print(&match format {
        TestFormat::Json => Structured::Json.render(&outcomes)?,
        TestFormat::Yaml => Structured::Yaml.render(&outcomes)?,
        TestFormat::Junit => junit(&outcomes),
        TestFormat::Text => {
            let mut out = String::new();
            for outcome in &outcomes {
                out += &format!(
                    "{} {}\n",
                    if outcome.passed { "ok  " } else { "FAIL" },
                    plain(&outcome.case)
                );
                for difference in &outcome.differences {
                    out += &format!("       {}\n", plain(difference));
                }
            }
            out += &format!(
                "{} passed, {failed} failed\n",
                count(outcomes.len() - failed, "case")
            );
            screen.lines(&out)
        }
    })?;
    Ok(if failed > 0 { Exit::Found } else { Exit::Clean })
}

fn differences(expectation: &Expectation, judgement: &Evaluation) -> Vec<String> {
    let mut differences = Vec::new();
    let findings: Vec<_> = judgement
        .releases
        .iter()
        .flat_map(|release| &release.findings)
        .filter(|judged| !judged.finding.not_evaluated)
        .filter_map(|judged| judged.action().map(|action| (judged, action)))
        .collect();
    if let Some(expected) = expectation
        .verdict
        .map(ExpectedVerdict::verdict)
        .filter(|expected| *expected != judgement.verdict())
    {
        // A rule that could not be evaluated may be the only reason for a warning.
        let why = judgement
            .releases
            .iter()
            .flat_map(|release| &release.findings)
            .filter(|judged| judged.action() >= Some(Action::Warn))
            .map(|judged| format!("{}: {}", judged.finding.rule.id, judged.finding.message))
            .collect::<Vec<_>>()
            .join("; ");
        let verdicts = format!(
            "verdict is {:?}, expected {expected:?}",
            judgement.verdict()
        );
        differences.push(format!("{} ({why})", verdicts.to_lowercase()));
    }
    for expected in &expectation.findings {
        let fits = findings.iter().any(|(judged, action)| {
            judged.finding.rule.id.eq_ignore_ascii_case(&expected.rule)
                && expected.action.is_none_or(|expected| expected == *action)
                && expected.component.as_ref().is_none_or(|name| {
                    judged
                        .finding
                        .component
                        .is_some_and(|component| component.name() == name)
                })
        });
        if !fits {
            let seen: Vec<String> = findings
                .iter()
                .filter(|(judged, _)| judged.finding.rule.id.eq_ignore_ascii_case(&expected.rule))
                .map(|(judged, action)| {
                    let action = format!("{action:?}").to_lowercase();
                    format!("{action}: {}", judged.finding.message)
                })
                .collect();
            let seen = if seen.is_empty() {
                "no finding of this rule".to_owned()
            } else {
                seen.join("; ")
            };
            let action = expected.action.map_or(String::new(), |action| {
                format!(" with {action:?}").to_lowercase()
            });
            differences.push(format!(
                "{}{action} was not found (found: {seen})",
                expected.rule
            ));
        }
    }
    for absent in &expectation.absent {
        if let Some((judged, action)) = findings
            .iter()
            .find(|(judged, _)| judged.finding.rule.id.eq_ignore_ascii_case(absent))
        {
            differences.push(format!(
                "{absent} was found ({action:?}: {})",
                judged.finding.message
            ));
        }
    }
    differences
}

fn junit(outcomes: &[Outcome]) -> String {
    let mut suite = TestSuite::new("policy");
    for outcome in outcomes {
        let status = if outcome.passed {
            TestCaseStatus::success()
        } else {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(plain(&outcome.differences.join("; ")));
            status
        };
        suite.add_test_case(TestCase::new(plain(&outcome.case), status));
    }
    let mut report = Junit::new("milvus-guard policy test");
    report.add_test_suite(suite);
    report.to_string().unwrap_or_default() + "\n"
}
