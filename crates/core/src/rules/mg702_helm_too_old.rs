//! MG702: Helm must be new enough for the chart.

use crate::{change::Upgrade, milvus::Version};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG702",
    name: "helm-too-old",
    title: "Helm is new enough for the chart",
    category: Category::Cluster,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::After, Need::Chart, Need::Helm],
    what: "Warns about Helm below 3.14 with charts from 4.2.21 on.",
    why: "Those charts contain Pulsar's 3.x chart, which old Helm cannot render, and need \
          --reset-then-reuse-values, which old Helm does not support.",
    example: "Helm 3.9 with chart 4.2.40.",
    fix: "Upgrade Helm to 3.14 or later.",
    sources: &["Milvus docs: prerequisites of the upgrade"],
    check,
};

const OLDEST_HELM: Version = Version::new(3, 14, 0);
const FIRST_CHART: Version = Version::new(4, 2, 21);

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let (Some(helm), Some(chart)) = (upgrade.facts.helm, &upgrade.after.chart) else {
        return;
    };
    if upgrade.after.manager.is_bitnami() {
        findings.not_applicable("the rule applies to the Milvus project's chart, not to Bitnami's");
        return;
    }
    if chart.version < FIRST_CHART {
        findings.not_applicable(format!(
            "chart {} does not need a newer Helm; charts from {FIRST_CHART} on do",
            chart.version
        ));
        return;
    }
    findings.checked();
    if helm < OLDEST_HELM && chart.version >= FIRST_CHART {
        findings.warn(format!(
            "Helm is {helm}, chart {} needs {OLDEST_HELM} or later",
            chart.version
        ));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        evidence::Facts,
        milvus::Version,
        rules::testing::{Fixture, judge_with},
    };

    #[rstest]
    #[case(Version::new(3, 9, 0), "4.2.40", 1)]
    #[case(Version::new(3, 22, 0), "4.2.40", 0)]
    #[case(Version::new(4, 3, 1), "5.0.14", 0)]
    #[case(Version::new(3, 9, 0), "4.1.34", 0)]
    fn versions(#[case] helm: Version, #[case] chart: &str, #[case] found: usize) {
        let facts = Facts {
            helm: Some(helm),
            ..Facts::default()
        };
        assert_eq!(
            judge_with(&RULE, None, &Fixture::cluster("2.5.5").chart(chart), &facts).len(),
            found
        );
    }
}
