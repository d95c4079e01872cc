//! MG000: one sentence that says why this rule exists.

use crate::change::Upgrade;

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG000",
    name: "rule-name",
    title: "what is so when the rule passes",
    category: Category::Version,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Warns if ...",
    why: "What happens to the user otherwise.",
    example: "A change that it catches.",
    fix: "What to do instead.",
    sources: &["the issue, page or measurement that this is known from"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    if before.components.is_empty() {
        findings.not_applicable("the release has no component");
        return;
    }
    findings.checked();
    if before.components.len() > after.components.len() {
        findings.warn(format!(
            "{} components would become {}",
            before.components.len(),
            after.components.len()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::{
        milvus::Component,
        rules::testing::{Fixture, judge},
    };

    #[test]
    fn a_case_that_it_catches_and_one_that_it_passes() {
        let before = Fixture::cluster("2.4.5");
        let after = Fixture::cluster("2.4.5").without(Component::IndexNode);
        assert_eq!(judge(&RULE, Some(&before), &after).len(), 1);
        assert_eq!(judge(&RULE, Some(&before), &before).len(), 0);
    }
}
