//! MG703: an autoscaler and an upgrade must not both own the replicas.

use crate::{milvus::Component, upgrade::Upgrade};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG703",
    name: "autoscaler-conflict",
    title: "no autoscaler works against the upgrade",
    category: Category::Cluster,
    default: DefaultAction::Warn,
    data_loss: false,
    since: "0.1.0",
    needs: &[Need::Before, Need::Autoscalers],
    what: "Warns about an autoscaler on a component whose replicas the path must change: every component where the metadata is \
           migrated, index nodes where 2.6 follows, and autoscalers whose target would be gone.",
    why: "The autoscaler starts pods again that must stay stopped, or loses its target and with it the replicas that the load needs.",
    example: "An HPA on query nodes during the 2.1 to 2.2 migration.",
    fix: "Suspend the autoscaler for the time of the upgrade.",
    sources: &["milvus-operator#481", "milvus-operator#458"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let (Some((before, after)), Some((from, to))) = (upgrade.both(), upgrade.versions()) else { return };
    let new_line = crate::milvus::Line { major: 2, minor: 2 };
    let stops_all = from.version.line() < new_line && to.version.line() >= new_line;
    for autoscaler in upgrade.facts.autoscalers.iter().flatten().filter(|autoscaler| autoscaler.release == before.name) {
        let named = |release: &crate::milvus::Release| {
            release
                .components
                .iter()
                .find(|component| component.workload.meta.object.name == autoscaler.workload)
                .map(|component| component.component)
        };
        let Some(component) = named(before) else { continue };
        let removed = named(after).is_none();
        let retired = component == Component::IndexNode && to.version.line() >= (crate::milvus::Line { major: 2, minor: 6 });
        if stops_all || removed || retired {
            findings.warn(format!("the autoscaler {} owns the replicas of {component}, which this path must change", autoscaler.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        facts::{AutoscalerFact, Facts},
        rules::testing::{Fixture, judge_with},
    };

    #[rstest]
    #[case("2.1.4", "2.2.16", "querynode", 1)]
    #[case("2.5.27", "2.6.22", "indexnode", 1)]
    #[case("2.5.27", "2.6.22", "querynode", 0)]
    #[case("2.4.5", "2.4.5", "querynode", 0)]
    fn autoscalers(#[case] from: &str, #[case] to: &str, #[case] component: &str, #[case] found: usize) {
        let autoscaler = AutoscalerFact {
            release: "my-release".into(),
            name: format!("my-release-milvus-{component}-hpa"),
            workload: format!("my-release-milvus-{component}"),
        };
        let facts = Facts { autoscalers: Some(vec![autoscaler]), ..Facts::default() };
        assert_eq!(judge_with(&RULE, Some(&Fixture::cluster(from)), &Fixture::cluster(to), &facts).len(), found);
    }
}
