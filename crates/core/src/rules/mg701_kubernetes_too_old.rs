//! MG701: Kubernetes must be new enough.

use crate::{change::Upgrade, milvus::Version};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG701",
    name: "kubernetes-too-old",
    title: "Kubernetes is 1.20 or later",
    category: Category::Cluster,
    default: DefaultAction::Deny,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::After, Need::Kubernetes],
    what: "Denies a cluster below 1.20.",
    why: "The charts use APIs that older clusters do not have, and their installation fails.",
    example: "Kubernetes 1.19.",
    fix: "Upgrade Kubernetes first.",
    sources: &["Milvus docs: prerequisites of the upgrade"],
    check,
};

const OLDEST: Version = Version::new(1, 20, 0);

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    findings.checked();
    if let Some(version) = upgrade.facts.kubernetes.filter(|version| *version < OLDEST) {
        findings.deny(format!(
            "Kubernetes is {version}, Milvus' charts need {} or later",
            OLDEST.line()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::{
        evidence::Facts,
        milvus::Version,
        rules::testing::{Fixture, judge_with},
    };

    #[test]
    fn versions() {
        let found = |minor| {
            let facts = Facts {
                kubernetes: Some(Version::new(1, minor, 5)),
                ..Facts::default()
            };
            judge_with(&RULE, None, &Fixture::cluster("2.5.5"), &facts).len()
        };
        assert_eq!((found(19), found(20), found(36)), (1, 0, 0));
    }
}
