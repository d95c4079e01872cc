//! For code scanning: SARIF 2.1.0, with the rules' own texts as metadata.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{policy::Action, rules};

use super::{FindingEntry, Report, format::plain};

pub(super) fn render(report: &Report) -> String {
    let rules: Vec<Value> = rules::ALL
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "name": rule.name,
                "shortDescription": {"text": rule.title},
                "fullDescription": {"text": rule.what},
                "help": {
                    "text": format!("{}\n\n{}", rule.why, rule.fix),
                    "markdown": format!("{}\n\n**Fix:** {}", rule.why, rule.fix),
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
    let results: Vec<Value> = report.findings.iter().filter(|finding| !finding.not_evaluated).map(result).collect();
    let excepted: Vec<Value> = report
        .exceptions
        .iter()
        .map(|exception| {
            json!({
                "ruleId": exception.rule,
                "level": "note",
                "message": {"text": plain(&exception.message)},
                "locations": [{"logicalLocations": [{"name": plain(&exception.release), "kind": "resource"}]}],
                "suppressions": [{"kind": "external", "justification": plain(&format!("{}: {}", exception.name, exception.reason))}],
            })
        })
        .collect();
    let sarif = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": report.tool.name,
                "version": report.tool.version,
                "rules": rules,
            }},
            "columnKind": "utf16CodeUnits",
            "results": results.into_iter().chain(excepted).collect::<Vec<_>>(),
            "properties": {"verdict": report.verdict},
        }],
    });
    let mut text = serde_json::to_string_pretty(&sarif).unwrap_or_default();
    text.push('\n');
    text
}

fn result(finding: &FindingEntry) -> Value {
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
    let object = finding.object.as_ref().map_or_else(|| finding.release.clone(), ToString::to_string);
    let mut location = json!({"logicalLocations": [{
        "name": plain(&object),
        "fullyQualifiedName": plain(&format!("{}/{object}", finding.release)),
        "kind": "resource",
    }]});
    if let Some(place) = finding.location.as_ref().filter(|place| place.line > 0) {
        location["physicalLocation"] = json!({
            "artifactLocation": {"uri": uri(&place.source)},
            "region": {"startLine": place.line},
        });
    }
    let fingerprint =
        format!("{:x}", Sha256::digest(format!("{}\u{0}{}\u{0}{object}\u{0}{}", finding.rule, finding.release, finding.message)));
    json!({
        "ruleId": finding.rule,
        "ruleIndex": rules::ALL.iter().position(|rule| rule.id == finding.rule),
        "level": level,
        "message": {"text": message},
        "locations": [location],
        "partialFingerprints": {"finding/v1": fingerprint},
        "properties": {"action": finding.action, "evidence": finding.evidence},
    })
}

/// A path as a URI: what SARIF viewers resolve against the repository.
fn uri(path: &str) -> String {
    path.bytes().fold(String::with_capacity(path.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' | b'@' => out.push(byte.into()),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn snapshot_of_the_results() {
        let sarif: Value = serde_json::from_str(&super::render(&super::super::sample::report())).unwrap();
        insta::assert_json_snapshot!(sarif["runs"][0]["results"]);
        assert_eq!(sarif["version"], "2.1.0");
        assert_eq!(sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap().len(), crate::rules::ALL.len());
    }

    #[test]
    fn every_result_points_to_its_rule() {
        let sarif: Value = serde_json::from_str(&super::render(&super::super::sample::report())).unwrap();
        let run = &sarif["runs"][0];
        for result in run["results"].as_array().unwrap().iter().filter(|result| result.get("ruleIndex").is_some()) {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
        }
    }
}
