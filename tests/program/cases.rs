//! Cases from public reports: the running state, the desired state, and the right answer. The
//! source is in `case.json` of each folder.

use std::{fs, path::PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::common::{guard, run};

/// The right answer to one case.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
struct Case {
    title: String,
    source: String,
    verdict: OneOrMore,
    must: Vec<Wanted>,
    must_not: Vec<String>,
    must_not_warn: Vec<String>,
    from: Option<OneOrMore>,
    to: Option<OneOrMore>,
}

/// A rule that must report a finding, with the accepted actions.
#[derive(Debug, Deserialize)]
struct Wanted {
    rule: OneOrMore,
    action: OneOrMore,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn holds(&self, text: &str) -> bool {
        match self {
            Self::One(one) => one == text,
            Self::More(more) => more.iter().any(|one| one == text),
        }
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// Differences between the report and the right answer of a case.
fn flaws(case: &Case, report: &Value, code: i32) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let verdict = text(&report["verdict"]);
    let findings: Vec<(String, String)> = report["findings"]
        .as_array()
        .map(|all| {
            all.iter()
                .map(|finding| (text(&finding["rule"]), text(&finding["action"])))
                .collect()
        })
        .unwrap_or_default();
    let mut flaws = Vec::new();
    if !case.verdict.holds(&verdict) {
        flaws.push(format!(
            "the verdict is {verdict}, but must be {:?}; {findings:?}",
            case.verdict
        ));
    }
    for wanted in &case.must {
        if !findings
            .iter()
            .any(|(rule, action)| wanted.rule.holds(rule) && wanted.action.holds(action))
        {
            flaws.push(format!("{wanted:?} is missing"));
        }
    }
    for (rule, action) in &findings {
        let is_denial =
            action == "deny" && (case.must_not.contains(rule) || case.must_not_warn.contains(rule));
        if is_denial || (action == "warn" && case.must_not_warn.contains(rule)) {
            flaws.push(format!("{rule} is a false {action}"));
        }
    }
    for (side, wanted) in [("from", &case.from), ("to", &case.to)] {
        let seen = text(&report[side]);
        if wanted
            .as_ref()
            .is_some_and(|wanted| !wanted.holds(seen.trim_start_matches('v')))
        {
            flaws.push(format!("{side} is {seen}, and must be {wanted:?}"));
        }
    }
    if code != i32::from(verdict == "deny") {
        flaws.push(format!(
            "the exit code is {code} with the verdict {verdict}"
        ));
    }
    flaws
}

#[test]
fn every_case_has_the_right_answer() {
    let mut folders: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("case.json").is_file())
        .collect();
    folders.sort();
    assert!(folders.len() >= 47, "{} cases", folders.len());
    let mut wrong = Vec::new();
    for path in folders {
        let case: Case =
            serde_json::from_str(&fs::read_to_string(path.join("case.json")).unwrap()).unwrap();
        assert!(!case.source.is_empty(), "{} has no source", path.display());
        let side = |name: &str| path.join(name).to_str().unwrap().to_owned();
        let (before, after) = (side("before.yaml"), side("after.yaml"));
        let (code, out, error) = run(guard().args([
            "check", "--before", &before, "--after", &after, "--format", "json",
        ]));
        match serde_json::from_str(&out) {
            Ok(report) => wrong.extend(
                flaws(&case, &report, code)
                    .into_iter()
                    .map(|flaw| format!("{}: {flaw}", case.title)),
            ),
            Err(_) => wrong.push(format!(
                "{}: no report, exit code {code}: {error}",
                case.title
            )),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
