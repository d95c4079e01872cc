//! From findings to the words of an answer.

use crate::{
    api::DecisionSpec,
    evaluate::{JudgedFinding, JudgedRelease, Verdict},
    policy::{Action, PolicySet, resolve::Applied, resolve::Scope},
    project,
    rules::{Failed, Finding, Missing},
    text::shortened,
};

use super::{
    acceptance,
    gate::Gate,
    review::{MAX_WARNING, Response},
};

/// Findings that a message names; the rest is counted.
const MAX_NAMED: usize = 6;
/// Bytes of a denial. Helm prints it whole; the API server does not cut it, etcd does not keep it.
const MAX_MESSAGE: usize = 4096;

/// What a gate says to one review.
#[derive(Clone, Debug, Default)]
pub struct Ruling {
    /// The answer for the API server.
    pub response: Response,
    /// The verdict in a word.
    pub verdict: Option<Verdict>,
    /// `namespace/name` of the release that it is about, where one is.
    pub release: Option<(String, String)>,
    /// Each rule that found something, with what it does.
    pub rules: Vec<(&'static str, Action)>,
    /// Rules that the deployer accepted.
    pub accepted: Vec<&'static str>,
    /// Rules that an exception allowed, with its name.
    pub excepted: Vec<(&'static str, String)>,
    /// Rule evaluations that failed.
    pub failed: Vec<(&'static str, Failed)>,
    /// What is to be recorded before the answer is given.
    pub decision: Option<DecisionSpec>,
    /// Whether the denial depends on the running state, so that it must be repeated with the live
    /// state.
    pub by_state: bool,
}

impl Ruling {
    /// Nothing of interest.
    #[must_use]
    pub fn pass() -> Self {
        Self::default()
    }

    /// An answer without findings.
    #[must_use]
    pub fn of(response: Response) -> Self {
        let verdict = match (&response.denied, response.warnings.is_empty()) {
            (Some(_), _) => Verdict::Deny,
            (None, false) => Verdict::Warn,
            (None, true) => Verdict::Allow,
        };
        Self {
            response,
            verdict: Some(verdict),
            ..Self::default()
        }
    }
}

/// How a denial of this gate can be accepted or repeated.
#[derive(Clone, Copy, Debug)]
pub enum AcceptanceHint {
    /// By a label of Helm's next revision.
    Helm {
        /// That revision.
        revision: u64,
    },
    /// By an annotation on the object.
    Object,
}

/// What is left of a judgement after the gate's own rules, ready for an answer.
pub struct Outcome<'a> {
    /// The gate.
    pub gate: Gate,
    /// The release and what was found about it.
    pub releases: &'a [(&'a JudgedRelease, Vec<(&'a JudgedFinding, Action)>)],
    /// Policies, for what may be accepted and for the names of exceptions.
    pub policies: &'a PolicySet,
    /// How it can be accepted.
    pub way: AcceptanceHint,
}

impl Outcome<'_> {
    /// The ruling.
    #[must_use]
    pub fn ruling(&self) -> Ruling {
        let mut ruling = Ruling::default();
        let mut worst = Verdict::Allow;
        let mut denials: Vec<&JudgedFinding> = Vec::new();
        let mut hints: Vec<String> = Vec::new();
        let mut audit_only: Vec<&str> = Vec::new();
        let mut lacking: Vec<&Finding> = Vec::new();
        for (release, findings) in self.releases {
            if let (None, Some(namespace)) = (&ruling.release, &release.namespace) {
                ruling.release = Some((namespace.clone(), release.name.clone()));
            }
            let denied_before = denials.len();
            for (judged, action) in findings {
                let rule = judged.finding.rule;
                if let Some(failed) = judged.finding.failed {
                    ruling.failed.push((rule.id, failed));
                }
                if !judged.finding.not_evaluated {
                    ruling.rules.push((rule.id, *action));
                }
                match action {
                    Action::Deny => denials.push(judged),
                    Action::Hold => ruling.response.warnings.push(held(judged, release)),
                    Action::Warn if judged.finding.missing.is_some() => {
                        lacking.push(&judged.finding);
                    }
                    Action::Warn => ruling.response.warnings.push(warning(judged)),
                    Action::Audit if !judged.finding.not_evaluated => audit_only.push(rule.id),
                    Action::Audit => {}
                }
            }
            for judged in &release.findings {
                match &judged.applied {
                    Applied::Accepted => ruling.accepted.push(judged.finding.rule.id),
                    Applied::Excepted { exception } => {
                        let name = self
                            .policies
                            .exceptions
                            .get(*exception)
                            .map(|exception| exception.metadata.name.clone());
                        ruling
                            .excepted
                            .push((judged.finding.rule.id, name.unwrap_or_default()));
                    }
                    Applied::Acts { .. } | Applied::Off { .. } => {}
                }
            }
            if denials.len() > denied_before {
                hints.extend(self.hint(release, findings));
            }
        }
        ruling.response.warnings.extend(not_evaluated(&lacking));
        for (rule, name) in dedup(&ruling.excepted) {
            ruling.response.warnings.push(format!(
                "milvus-guard: {rule} is allowed by the UpgradeException {name}"
            ));
        }
        for rule in dedup(&ruling.accepted) {
            ruling.response.warnings.push(format!(
                "milvus-guard: {rule} was accepted by the deployer, for this change only"
            ));
        }
        if !ruling.response.warnings.is_empty() {
            worst = Verdict::Warn;
        }
        if !denials.is_empty() {
            worst = Verdict::Deny;
            ruling.response.denied = Some(message(self.gate, &denials, &hints));
        }
        ruling.verdict = Some(worst);
        ruling.audit(worst, &audit_only);
        ruling
    }

    /// How the denial may be accepted, where all of it may be.
    fn hint(
        &self,
        release: &JudgedRelease,
        findings: &[(&JudgedFinding, Action)],
    ) -> Option<String> {
        let scope = Scope {
            release: &release.name,
            namespace: release.namespace.as_deref(),
            from: release.from.as_ref().map(|build| build.version),
            to: release.to.as_ref().map(|build| build.version),
        };
        let acceptable = self.policies.self_accept(&scope);
        let mut denied: Vec<&str> = findings
            .iter()
            .filter(|(_, action)| *action == Action::Deny)
            .map(|(judged, _)| judged.finding.rule.id)
            .collect();
        denied.dedup();
        if denied.is_empty() || !denied.iter().all(|rule| acceptable.contains(rule)) {
            return None;
        }
        Some(match self.way {
            AcceptanceHint::Helm { revision } => {
                format!(
                    "To accept it once: helm upgrade ... {}",
                    acceptance::helm_flag(&denied, revision)
                )
            }
            AcceptanceHint::Object => {
                format!(
                    "To accept it once, set the annotation {}: {} in the same change",
                    acceptance::ACCEPT,
                    denied.join(",")
                )
            }
        })
    }
}

impl Ruling {
    fn audit(&mut self, verdict: Verdict, audit_only: &[&str]) {
        let word = match verdict {
            Verdict::Allow => "allow",
            Verdict::Warn => "warn",
            Verdict::Deny => "deny",
        };
        let audit = &mut self.response.audit;
        audit.push(("verdict", word.to_owned()));
        if let Some((namespace, name)) = &self.release {
            audit.push(("release", format!("{namespace}/{name}")));
        }
        let acting: Vec<&str> = self
            .rules
            .iter()
            .filter(|(_, action)| *action > Action::Audit)
            .map(|(rule, _)| *rule)
            .collect();
        for (key, rules) in [
            ("rules", acting),
            ("audited", audit_only.to_vec()),
            ("accepted", self.accepted.clone()),
        ] {
            let rules = dedup(&rules);
            if !rules.is_empty() {
                audit.push((key, rules.join(",")));
            }
        }
        if !self.excepted.is_empty() {
            let names: Vec<String> = dedup(&self.excepted)
                .iter()
                .map(|(rule, name)| format!("{rule} by {name}"))
                .collect();
            audit.push(("excepted", names.join(", ")));
        }
    }
}

fn dedup<T: Clone + PartialEq>(items: &[T]) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for item in items {
        if !kept.contains(item) {
            kept.push(item.clone());
        }
    }
    kept
}

/// Rule, what was seen, why, what to do; of what else the rule saw only how much it is, so that no
/// rule hides another.
fn sentence(judged: &JudgedFinding, others: usize, gate: Gate) -> String {
    let finding = &judged.finding;
    let why = finding.why.as_deref().unwrap_or(finding.rule.why);
    let act = finding.fix.command.as_deref().map_or_else(
        || finding.fix.text.to_string(),
        |command| format!("run: {command}"),
    );
    let separator = if gate == Gate::Release { "\n  " } else { " | " };
    let others = if others == 0 {
        String::new()
    } else {
        format!(" (and {others} more)")
    };
    format!(
        "{} {}: {}{others}.{separator}why: {why}{separator}do: {act}{separator}docs: {}",
        finding.rule.id,
        finding.rule.name,
        finding.message,
        project::rule_page(finding.rule.id)
    )
}

fn warning(judged: &JudgedFinding) -> String {
    let finding = &judged.finding;
    format!(
        "{} {}: {}. {}",
        finding.rule.id, finding.rule.name, finding.message, finding.fix.text
    )
}

/// What is held, and the command that waits for its end. Helm's `--wait` does not: it takes a
/// paused Deployment for a complete one.
fn held(judged: &JudgedFinding, release: &JudgedRelease) -> String {
    let finding = &judged.finding;
    let namespace = release.namespace.as_deref().unwrap_or_default();
    format!(
        "{} {}: {}; milvus-guard pauses what must wait and releases it in order. Wait for the end with: \
         milvus-guard status -i {} -n {namespace} --wait",
        finding.rule.id, finding.rule.name, finding.message, release.name
    )
}

/// One warning for each missing fact, with every rule that lacks it. What the command line could be
/// given is of no use here, so the warning names the command that takes it.
fn not_evaluated(lacking: &[&Finding]) -> Vec<String> {
    let mut facts: Vec<(&str, Vec<&str>)> = Vec::new();
    for finding in lacking {
        let what = finding
            .missing
            .as_ref()
            .map_or(&*finding.message, Missing::what);
        match facts.iter_mut().find(|(known, _)| *known == what) {
            Some((_, rules)) if rules.contains(&finding.rule.id) => {}
            Some((_, rules)) => rules.push(finding.rule.id),
            None => facts.push((what, vec![finding.rule.id])),
        }
    }
    facts
        .into_iter()
        .map(|(what, rules)| {
            let advice = ". Run milvus-guard check first.";
            let text = format!("{} not evaluated: {what}", rules.join(" "));
            format!("{}{advice}", shortened(&text, MAX_WARNING - advice.len()))
        })
        .collect()
}

/// The most telling first: the sentences come worst first, and the gate's word about the state of
/// things last.
fn message(gate: Gate, found: &[&JudgedFinding], hints: &[String]) -> String {
    let rules = dedup(
        &found
            .iter()
            .map(|judged| judged.finding.rule.id)
            .collect::<Vec<_>>(),
    );
    let denials: Vec<String> = rules
        .iter()
        .filter_map(|rule| {
            let all: Vec<&&JudgedFinding> = found
                .iter()
                .filter(|judged| judged.finding.rule.id == *rule)
                .collect();
            let messages = dedup(
                &all.iter()
                    .map(|judged| &judged.finding.message)
                    .collect::<Vec<_>>(),
            );
            Some(sentence(all.first()?, messages.len() - 1, gate))
        })
        .collect();
    let separator = if gate == Gate::Release { "\n" } else { " || " };
    let mut parts: Vec<String> = denials.iter().take(MAX_NAMED).cloned().collect();
    if denials.len() > MAX_NAMED {
        parts.push(format!(
            "and {} more; milvus-guard check lists all",
            denials.len() - MAX_NAMED
        ));
    }
    parts.extend(dedup(hints));
    if gate == Gate::Release {
        parts.push(
            "Nothing was changed: neither the Helm release nor the running workloads.".into(),
        );
    }
    let lead = if gate == Gate::Release {
        "milvus-guard denied this release.\n"
    } else {
        "milvus-guard: "
    };
    shortened(&format!("{lead}{}", parts.join(separator)), MAX_MESSAGE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{
        Review, Task,
        parity::{review, state},
        review_state::Accounts,
    };
    use super::MAX_MESSAGE;
    use crate::{
        admission::review::MAX_WARNING, evaluate::Verdict, evidence::Facts, project,
        rules::testing::Fixture,
    };

    #[test]
    fn a_denial_names_the_page_of_each_rule_on_a_line_of_its_own() {
        let (before, after) = (Fixture::cluster("2.1.4"), Fixture::cluster("2.5.27"));
        let accounts = Accounts::default();
        let text = review(Some(&before), &after, "pending-upgrade", &json!({}));
        let ruling = Task::of(&Review::parse(text.as_bytes()).unwrap()).judge(&state(
            Some(&before),
            &Facts::default(),
            &accounts,
        ));
        let denied = ruling.response.denied.unwrap();
        assert!(denied.len() <= MAX_MESSAGE, "{denied}");
        let page = format!("  docs: {}", project::rule_page("MG101"));
        assert!(denied.lines().any(|line| line == page), "{denied}");
        for line in denied.lines().filter(|line| line.starts_with("MG")) {
            let rule = line.split(' ').next().unwrap();
            assert!(denied.contains(&project::rule_page(rule)), "{denied}");
        }
    }

    #[test]
    fn what_guards_data_and_could_not_look_is_one_short_warning() {
        let (before, after) = (
            Fixture::cluster("2.5.27"),
            Fixture::cluster("2.5.27").tag(&"t".repeat(120)),
        );
        let accounts = Accounts::default();
        let text = review(Some(&before), &after, "pending-upgrade", &json!({}));
        let ruling = Task::of(&Review::parse(text.as_bytes()).unwrap()).judge(&state(
            Some(&before),
            &Facts::default(),
            &accounts,
        ));
        assert_eq!(
            (ruling.verdict, ruling.response.denied),
            (Some(Verdict::Warn), None)
        );
        let lacking: Vec<&String> = ruling
            .response
            .warnings
            .iter()
            .filter(|text| text.contains("not evaluated"))
            .collect();
        assert_eq!(lacking.len(), 1, "{lacking:?}");
        assert!(
            lacking[0].starts_with("MG103 not evaluated: the version of milvusdb/milvus:ttt"),
            "{lacking:?}"
        );
        assert!(
            lacking[0].ends_with("Run milvus-guard check first.")
                && lacking[0].len() <= MAX_WARNING,
            "{lacking:?}"
        );
    }
}
