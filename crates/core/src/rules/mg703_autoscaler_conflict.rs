//! MG703: an autoscaler and an upgrade must not both own the replicas.

use crate::{
    change::Upgrade,
    manifest::object::Autoscaler,
    milvus::{Component, Release},
};

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG703",
    name: "autoscaler-conflict",
    title: "no autoscaler works against the upgrade",
    category: Category::Cluster,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[Behavior::PlannedByRun, Behavior::HandledByUpgrade],
    since: "0.1.0",
    needs: &[Need::Before, Need::Autoscalers],
    what: "Warns about an autoscaler on a component whose replicas the upgrade must change: every \
           component if the metadata is migrated, index nodes on an upgrade to 2.6, autoscalers \
           whose target would be deleted, and the two workloads (-0 and -1) between which \
           milvus-operator rolls query nodes.",
    why: "The autoscaler restarts pods that must stay stopped, or loses its target and the \
          replicas that the load needs. With milvus-operator it keeps the old group running: the \
          rollout does not complete, and both groups run.",
    example: "An HPA on query nodes during the 2.1 to 2.2 migration.",
    fix: "Suspend the autoscaler during the upgrade.",
    sources: &[
        "milvus-operator#298",
        "milvus-operator#416",
        "milvus-operator#458",
        "milvus-operator#469",
        "milvus-operator#481",
    ],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    findings.not_applicable("no autoscaler scales a component of the release");
    let known = upgrade
        .facts
        .autoscalers
        .iter()
        .flatten()
        .filter(|autoscaler| autoscaler.release == before.name);
    let mut owned: Vec<(&str, &str)> = known
        .map(|autoscaler| (autoscaler.name.as_str(), autoscaler.workload.as_str()))
        .collect();
    // One that is new has the change's replicas from the first minute on.
    for autoscaler in &after.autoscalers {
        let pair = (
            autoscaler.meta.object.name.as_str(),
            autoscaler.target_name.as_str(),
        );
        if !owned.contains(&pair) {
            owned.push(pair);
        }
    }
    // What the operator makes itself it also takes away for a roll.
    let managed = |name: &str| {
        let own = |autoscaler: &Autoscaler| {
            autoscaler.meta.object.name == name
                && autoscaler.meta.owner_kind.as_deref() == Some("Milvus")
        };
        before.autoscalers.iter().chain(&after.autoscalers).any(own)
    };
    owned.retain(|(name, _)| !managed(name));
    paired_groups(upgrade, before, &owned, findings);
    let Some((from, to)) = upgrade.versions() else {
        return;
    };
    let new_line = crate::milvus::Line { major: 2, minor: 2 };
    let stops_all = from.version.line() < new_line && to.version.line() >= new_line;
    for (name, workload) in owned {
        let named = |release: &Release| {
            release
                .components
                .iter()
                .find(|component| component.workload.meta.object.name == workload)
                .map(|component| component.component)
        };
        let Some(component) = named(before) else {
            continue;
        };
        findings.checked();
        let removed = named(after).is_none();
        let retired = component == Component::IndexNode
            && to.version.line() >= (crate::milvus::Line { major: 2, minor: 6 });
        if stops_all || removed || retired {
            findings
                .warn(format!(
                    "the autoscaler {name} controls the replicas of {component}, which \
                               this upgrade must change"
                ))
                .because(
                    "The autoscaler restarts pods that must stay stopped, or loses its target \
                          and the replicas that the load needs.",
                );
        }
    }
}

/// milvus-operator rolls query nodes (with rollingMode 3 everything) from one workload of a pair to
/// the other, `-0` and `-1`. Any change of their pods makes it do so.
fn paired_groups(
    upgrade: &Upgrade<'_>,
    before: &Release,
    owned: &[(&str, &str)],
    findings: &mut Findings,
) {
    if !before.is_operated() {
        return;
    }
    let stem = |name: &str| {
        name.strip_suffix("-0")
            .or_else(|| name.strip_suffix("-1"))
            .map(str::to_owned)
    };
    let mut seen: Vec<String> = Vec::new();
    for (old, new) in upgrade.changed_pairs() {
        let name = &new.workload.meta.object.name;
        let Some(pair) = stem(name).filter(|pair| !seen.contains(pair)) else {
            continue;
        };
        if old.workload.pod == new.workload.pod {
            continue;
        }
        let scalers: Vec<&(&str, &str)> = owned
            .iter()
            .filter(|(_, workload)| stem(workload).as_deref() == Some(&pair))
            .collect();
        if scalers.is_empty() {
            continue;
        }
        let names = scalers
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(" and ");
        let (verb, plural) = if scalers.len() == 1 {
            ("owns", "")
        } else {
            ("own", "s")
        };
        findings
            .warn(format!(
                "the autoscaler{plural} {names} {verb} replicas of {pair}-0 and \
                           {pair}-1, between which milvus-operator rolls the {}",
                new.component
            ))
            .on(new)
            .because(
                "The operator scales one group up and the other to zero. The autoscaler keeps \
                      the old group running, and the rollout does not complete.",
            )
            .fix(
                "Delete the autoscaler during the rollout, scale the old group to zero when the \
                 new one is ready, and create it again. Operators with \
                 spec.components.queryNode.hpa do this themselves: let the operator create the \
                 autoscaler.",
            )
            .command(format!(
                "kubectl delete hpa {} -n {}",
                scalers
                    .iter()
                    .map(|(name, _)| *name)
                    .collect::<Vec<_>>()
                    .join(" "),
                before.namespace.as_deref().unwrap_or("default")
            ));
        seen.push(pair);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        evidence::{AutoscalerFact, Facts},
        milvus::Component::Proxy,
        rules::testing::{Fixture, judge_with},
    };

    #[rstest]
    #[case("2.1.4", "2.2.16", "querynode", 1)]
    #[case("2.5.27", "2.6.22", "indexnode", 1)]
    #[case("2.5.27", "2.6.22", "querynode", 0)]
    #[case("2.4.5", "2.4.5", "querynode", 0)]
    fn autoscalers(
        #[case] from: &str,
        #[case] to: &str,
        #[case] component: &str,
        #[case] found: usize,
    ) {
        let autoscaler = AutoscalerFact {
            release: "my-release".into(),
            name: format!("my-release-milvus-{component}-hpa"),
            workload: format!("my-release-milvus-{component}"),
        };
        let facts = Facts {
            autoscalers: Some(vec![autoscaler]),
            ..Facts::default()
        };
        assert_eq!(
            judge_with(
                &RULE,
                Some(&Fixture::cluster(from)),
                &Fixture::cluster(to),
                &facts
            )
            .len(),
            found
        );
    }

    /// A release of the operator: two groups of query nodes, of which the second does not run.
    fn operated(version: &str, scaled: &[&str], owner: &str) -> Fixture {
        let group = |index: usize, replicas: usize| {
            format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: my-release-milvus-querynode-{index}\n  labels: {{app.kubernetes.io/managed-by: milvus-operator}}\nspec:\n  replicas: {replicas}\n  selector:\n    matchLabels: {{app.kubernetes.io/name: milvus, app.kubernetes.io/instance: my-release, app.kubernetes.io/component: querynode, g: \"{index}\"}}\n  template:\n    spec:\n      containers: [{{name: querynode, image: \"milvusdb/milvus:v{version}\", args: [milvus, run, querynode]}}]\n"
            )
        };
        let fixture = Fixture::of(version, &[Proxy])
            .object(&group(0, 3))
            .object(&group(1, 0));
        scaled.iter().fold(fixture, |fixture, target| {
            fixture.object(&format!(
                "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata:\n  name: {target}-hpa\n{owner}spec:\n  scaleTargetRef: {{kind: Deployment, name: {target}}}\n"
            ))
        })
    }

    #[rstest]
    #[case("2.5.16", "2.5.27", &["my-release-milvus-querynode-0", "my-release-milvus-querynode-1"], "", 1)]
    #[case("2.5.16", "2.5.27", &["my-release-milvus-querynode-0"], "", 1)]
    #[case("2.5.16", "2.5.27", &["my-release-milvus-querynode-1"], "", 1)]
    #[case("2.5.16", "2.5.27", &["my-release-milvus-querynode-0"], "  ownerReferences: [{kind: Milvus, name: x, controller: true}]\n", 0)]
    #[case("2.5.16", "2.5.27", &["my-release-milvus-proxy"], "", 0)]
    #[case("2.5.16", "2.5.16", &["my-release-milvus-querynode-0"], "", 0)]
    fn the_two_groups_of_the_operator(
        #[case] from: &str,
        #[case] to: &str,
        #[case] scaled: &[&str],
        #[case] owner: &str,
        #[case] found: usize,
    ) {
        let (before, after) = (operated(from, scaled, owner), operated(to, scaled, owner));
        let fact = |target: &&str| AutoscalerFact {
            release: "my-release".into(),
            name: format!("{target}-hpa"),
            workload: (*target).into(),
        };
        let facts = Facts {
            autoscalers: Some(scaled.iter().map(fact).collect()),
            ..Facts::default()
        };
        let findings = judge_with(&RULE, Some(&before), &after, &facts);
        assert_eq!(findings.len(), found, "{findings:?}");
        if scaled.len() == 2 {
            assert!(
                findings[0]
                    .message
                    .starts_with("the autoscalers my-release-milvus-querynode-0-hpa and"),
                "{}",
                findings[0].message
            );
        }
    }
}
