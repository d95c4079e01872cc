//! For code scanning: SARIF 2.1.0, with the rules' own texts as metadata.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    policy::Action,
    project, rules,
    text::{hexadecimal, plain},
};

use super::{FindingEntry, Outcome, Report, format::Show};

/// GitHub makes an alert of every result of any kind, so `--show warn` or `--show deny`
/// leaves out what is less.
pub(super) fn render(report: &Report, show: Show) -> String {
    let rules: Vec<Value> = rules::ALL
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "name": rule.name,
                "shortDescription": {"text": rule.title},
                "fullDescription": {"text": rule.what},
                "helpUri": project::rule_page(rule.id),
                "help": {
                    "text": format!("{}\n\n{}", rule.why, rule.fix),
                    "markdown": format!(
                        "{}\n\n**Fix:** {}\n\n[More about {}]({})",
                        rule.why, rule.fix, rule.id, project::rule_page(rule.id)
                    ),
                },
                "defaultConfiguration": {"level": match rule.default {
                    rules::DefaultAction::Deny | rules::DefaultAction::DenyOrWarn => "error",
                    rules::DefaultAction::Warn => "warning",
                    rules::DefaultAction::Audit => "note",
                }},
                "properties": {"category": rule.category, "dataLoss": rule.data_loss, "since": rule.since},
            })
        })
        .collect();
    let shown = |action: Action| match show {
        Show::Releases | Show::Deny => action == Action::Deny,
        Show::Warn => action >= Action::Warn,
        Show::Audit | Show::All => true,
    };
    let found = report
        .findings
        .iter()
        .filter(|finding| !finding.not_evaluated && shown(finding.action));
    let artifact = artifact(report);
    let results: Vec<Value> = found
        .map(|finding| result(report, finding, &artifact))
        .collect();
    let states = states(report, show, &artifact);
    let excepted: Vec<Value> = report
        .exceptions
        .iter()
        .map(|exception| {
            json!({
                "ruleId": exception.rule,
                "ruleIndex": rules::ALL.iter().position(|rule| rule.id == exception.rule),
                "kind": "fail",
                "level": "note",
                "message": {"text": plain(&exception.message)},
                "locations": [{
                    "physicalLocation": physical(report, &artifact, 1),
                    "logicalLocations": [{"name": plain(&exception.release), "kind": "resource"}],
                }],
                "suppressions": [{"kind": "external", "justification": plain(&format!("{}: {}", exception.name, exception.reason))}],
            })
        })
        .collect();
    let mut all: Vec<Value> = results.into_iter().chain(excepted).chain(states).collect();
    let left_out = all.len().saturating_sub(MAX_RESULTS);
    // The worst findings come first.
    all.truncate(MAX_RESULTS);
    let sarif = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": report.tool.name,
                "version": report.tool.version,
                "informationUri": project::page("README.md"),
                "rules": rules,
            }},
            "columnKind": "utf16CodeUnits",
            "results": all,
            "properties": {
                "verdict": report.verdict, "subject": report.subject, "health": report.health, "data": report.data,
                "leftOut": left_out,
            },
        }],
    });
    let mut text = serde_json::to_string_pretty(&sarif).unwrap_or_default();
    text.push('\n');
    text
}

/// Results of a run: GitHub rejects a file with more.
const MAX_RESULTS: usize = 25_000;

/// Releases that a result names as its places.
const PLACES: usize = 20;

/// What did not find anything: the standard's kinds `pass`, `notApplicable` and, where a fact is
/// missing, `open`. A rule that guards data and could not be evaluated on a change is a warning, so
/// it keeps the kind `fail` that goes with a level (SARIF 2.1.0, 3.27.9 and 3.27.10: any other kind
/// demands the level `none`). One result stands for all releases of which the same is true.
fn states(report: &Report, show: Show, artifact: &str) -> Vec<Value> {
    let mut results = Vec::new();
    for (index, check) in report.checks.iter().enumerate() {
        let mut add = |kind: &str, level: &str, text: &str, outcome: Outcome, at: &[usize]| {
            let releases = || at.iter().filter_map(|at| report.releases.get(*at));
            let places: Vec<Value> = releases()
                .take(PLACES)
                .map(|release| {
                    let (name, label) = (plain(&release.name), plain(&release.label()));
                    json!({
                        "physicalLocation": physical(report, artifact, 1),
                        "logicalLocations": [{"name": name, "fullyQualifiedName": label, "kind": "resource"}],
                    })
                })
                .collect();
            let first = releases()
                .next()
                .map(super::ReleaseEntry::label)
                .unwrap_or_default();
            results.push(json!({
                "ruleId": check.rule,
                "ruleIndex": index,
                "kind": kind,
                "level": level,
                "message": {"text": plain(text)},
                "locations": places,
                "partialFingerprints": {"finding/v1": fingerprint(&[&check.rule, kind, text, &first])},
                "properties": {"outcome": outcome, "releases": at.len()},
            }));
        };
        let passed: Vec<usize> = (0..report.releases.len())
            .filter(|at| report.releases[*at].checks.get(&*check.rule) == Some(&Outcome::Passed))
            .collect();
        if !passed.is_empty() && show >= Show::Audit {
            add(
                "pass",
                "none",
                &format!("passed: {}", check.title),
                Outcome::Passed,
                &passed,
            );
        }
        for reason in &check.reasons {
            let text = format!("{}: {}.", reason.outcome.words(), reason.reason);
            let text = reason
                .provide
                .as_ref()
                .map_or_else(|| text.clone(), |provide| format!("{text} {provide}"));
            match (reason.outcome, reason.warns()) {
                (_, true) if show <= Show::Deny => {}
                (_, false) if show < Show::Audit => {}
                (Outcome::NotApplicable, _) => {
                    add("notApplicable", "none", &text, reason.outcome, &reason.at);
                }
                (_, true) => add("fail", "warning", &text, reason.outcome, &reason.at),
                (_, false) => add("open", "none", &text, reason.outcome, &reason.at),
            }
        }
    }
    results
}

fn fingerprint(parts: &[&str]) -> String {
    hexadecimal(&Sha256::digest(parts.join("\u{0}")))
}

fn result(report: &Report, finding: &FindingEntry, artifact: &str) -> Value {
    let level = match finding.action {
        Action::Deny => "error",
        Action::Hold | Action::Warn => "warning",
        Action::Audit => "note",
    };
    let mut message = plain(&finding.message);
    if finding.action > Action::Audit {
        message = format!("{message}. {}", plain(&finding.fix.text));
    }
    if let Some(command) = &finding.fix.command {
        message = format!("{message} Run: {}", plain(command));
    }
    let label = super::label(finding.namespace.as_deref(), &finding.release);
    let object = finding.object.as_ref().map(ToString::to_string);
    let mut location = json!({"logicalLocations": [{
        "name": plain(object.as_deref().unwrap_or(&finding.release)),
        "fullyQualifiedName": plain(&object.as_ref().map_or_else(|| label.clone(), |object| format!("{label}/{object}"))),
        "kind": "resource",
    }]});
    let (source, line) = finding
        .location
        .as_ref()
        .map_or((artifact, 1), |place| (&*place.source, place.line.max(1)));
    location["physicalLocation"] = physical(report, source, line);
    let fingerprint = fingerprint(&[
        &finding.rule,
        &label,
        object.as_deref().unwrap_or_default(),
        &finding.message,
    ]);
    json!({
        "ruleId": finding.rule,
        "ruleIndex": rules::ALL.iter().position(|rule| rule.id == finding.rule),
        "kind": "fail",
        "level": level,
        "message": {"text": message},
        "locations": [location],
        "partialFingerprints": {"finding/v1": fingerprint},
        "properties": {"action": finding.action, "evidence": finding.evidence},
    })
}

/// The artifact of results that are about no line of a file. GitHub rejects a whole upload in which
/// one result has no physical location, so such a result points to the first line of what was
/// judged: the file of another finding, else the input as it was named.
fn artifact(report: &Report) -> String {
    let found = report.findings.iter().find_map(|finding| {
        finding
            .location
            .as_ref()
            .map(|place| place.source.to_string())
    });
    let input = || {
        ["after", "running", "before"].iter().find_map(|role| {
            let mut inputs = report.inputs.iter().filter(|input| input.role == *role);
            inputs.find_map(|input| Some(input.source.clone()).filter(|source| !source.is_empty()))
        })
    };
    found.or_else(input).unwrap_or_else(|| "milvus".to_owned())
}

/// A place in an artifact.
fn physical(report: &Report, source: &str, line: u32) -> Value {
    let path = relative(source, report.root.as_deref());
    json!({"artifactLocation": {"uri": uri(&path)}, "region": {"startLine": line}})
}

/// A source as a path relative to the repository, which is all that GitHub shows. What is not a
/// file gets a name of one: `live`, `release/my-release/3`.
fn relative(source: &str, root: Option<&str>) -> String {
    let is_name = ["live,", "release:", "version:"];
    if is_name.iter().any(|prefix| source.starts_with(prefix)) {
        let name = source.split([',', ' ']).next().unwrap_or_default();
        return name.replace([':', '@'], "/");
    }
    let below = root
        .and_then(|root| source.strip_prefix(root))
        .filter(|rest| rest.starts_with('/'));
    let mut path = below.unwrap_or(source);
    while let Some(rest) = ["/", "./", "../"]
        .iter()
        .find_map(|start| path.strip_prefix(start))
    {
        path = rest;
    }
    match path {
        "-" => "stdin".to_owned(),
        "" | "." | ".." => "milvus".to_owned(),
        path => path.to_owned(),
    }
}

/// A path as a URI: what SARIF viewers resolve against the repository.
fn uri(path: &str) -> String {
    path.bytes()
        .fold(String::with_capacity(path.len()), |mut out, byte| {
            match byte {
                b'A'..=b'Z'
                | b'a'..=b'z'
                | b'0'..=b'9'
                | b'/'
                | b'.'
                | b'-'
                | b'_'
                | b'~'
                | b'@' => out.push(byte.into()),
                byte => out.push_str(&format!("%{byte:02X}")),
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{
        super::{Report, sample},
        Show,
    };

    fn rendered(report: &Report) -> Value {
        serde_json::from_str(&super::render(report, Show::Audit)).unwrap()
    }

    #[test]
    fn snapshot_of_the_results() {
        let mut sarif = rendered(&sample::report());
        for result in sarif["runs"][0]["results"].as_array_mut().unwrap() {
            // It moves when a rule is added; another test follows it.
            result.as_object_mut().unwrap().remove("ruleIndex");
        }
        insta::assert_json_snapshot!(sarif["runs"][0]["results"]);
        assert_eq!(sarif["version"], "2.1.0");
        assert_eq!(
            sarif["runs"][0]["tool"]["driver"]["rules"]
                .as_array()
                .unwrap()
                .len(),
            crate::rules::ALL.len()
        );
    }

    #[test]
    fn each_state_has_its_kind_and_every_result_a_place() {
        for report in [
            sample::report_by_every_rule(),
            sample::audit_by_every_rule(),
        ] {
            let sarif = rendered(&report);
            let results = sarif["runs"][0]["results"].as_array().unwrap();
            let mut kinds = std::collections::BTreeSet::new();
            for result in results {
                let (kind, level) = (
                    result["kind"].as_str().unwrap(),
                    result["level"].as_str().unwrap(),
                );
                assert_eq!(kind == "fail", level != "none", "{result}");
                // GitHub rejects the upload if one place is not in an artifact.
                let places = result["locations"].as_array().unwrap();
                assert!(!places.is_empty(), "{result}");
                for place in places {
                    let place = &place["physicalLocation"];
                    assert!(
                        place["region"]["startLine"].as_u64().unwrap() >= 1
                            && !place["artifactLocation"]["uri"]
                                .as_str()
                                .unwrap()
                                .is_empty(),
                        "{result}"
                    );
                }
                assert!(
                    !result["message"]["text"].as_str().unwrap().is_empty(),
                    "{result}"
                );
                kinds.insert(kind);
            }
            assert_eq!(
                kinds.into_iter().collect::<Vec<_>>(),
                ["fail", "notApplicable", "open", "pass"]
            );
            let shown: Value = serde_json::from_str(&super::render(&report, Show::Warn)).unwrap();
            for result in shown["runs"][0]["results"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|result| result.get("suppressions").is_none())
            {
                assert!(
                    ["error", "warning"].contains(&result["level"].as_str().unwrap()),
                    "{result}"
                );
            }
        }
    }

    #[test]
    fn places_are_relative_to_the_repository() {
        for (source, uri) in [
            ("-", "stdin"),
            ("a/b.yaml", "a/b.yaml"),
            ("./b.yaml", "b.yaml"),
            ("../../b.yaml", "b.yaml"),
            ("/work/repository/b c.yaml", "b%20c.yaml"),
            ("/work/repository-2/b.yaml", "work/repository-2/b.yaml"),
            ("live, namespace milvus at https://10.0.0.1", "live"),
            (
                "release:my-release@3 (deployed) in namespace a",
                "release/my-release/3",
            ),
            ("/", "milvus"),
        ] {
            let report = Report {
                root: Some("/work/repository".into()),
                ..sample::audit()
            };
            let place = super::physical(&report, source, 1);
            assert_eq!(place["artifactLocation"]["uri"], uri, "{source}");
        }
    }

    #[test]
    fn every_result_points_to_its_rule() {
        let sarif = rendered(&sample::report_by_every_rule());
        let run = &sarif["runs"][0];
        for result in run["results"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|result| result.get("ruleIndex").is_some())
        {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(
                run["tool"]["driver"]["rules"][index]["id"],
                result["ruleId"]
            );
        }
    }
}
