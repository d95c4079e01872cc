//! MG205: a component that disappears leaves its work undone.

use crate::{
    change::{Aspect, Upgrade},
    milvus::{Component, Release, Topology, Version},
};

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG205",
    name: "component-removed",
    title: "no component is removed",
    category: Category::Topology,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[
        Behavior::SelfAcceptable,
        Behavior::PlannedByRun,
        Behavior::JudgesRemovals,
    ],
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Warns if a component is removed or scaled to zero, unless the target version no longer \
           has it.",
    why: "Requests fail without proxies, writes without data or streaming nodes, and searches \
          without query nodes. Without index nodes, indexes are not built.",
    example: "queryNode.enabled=false remained in the values after a test.",
    fix: "Keep the component, or accept this rule if the removal is intended.",
    sources: &["milvus-helm chart templates"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    if upgrade.aspect == Aspect::Removal {
        whole(before, findings);
        return;
    }
    if before.topology() != after.topology()
        || after.topology() == Topology::Standalone
            && after.has(Component::Standalone)
            && after.runs(Component::Standalone)
    {
        if before.topology() == after.topology() {
            findings.checked();
        } else {
            findings.not_applicable("MG204 checks the change between standalone and cluster");
        }
        return;
    }
    if !before.components.is_empty() {
        findings.checked();
    }
    let streaming = upgrade
        .to_version()
        .is_some_and(|to| to >= Version::new(2, 6, 0));
    let becomes_mixed = after.runs(Component::MixCoord);
    let becomes_separate = after
        .components
        .iter()
        .any(|component| component.component.is_separate_coordinator() && component.is_running());
    if becomes_mixed && !streaming {
        coordinators_replaced(upgrade, before, findings);
    }
    for component in Component::ALL {
        if !before.runs(component) || after.runs(component) {
            continue;
        }
        let asked_for = match component {
            Component::IndexNode => streaming,
            coordinator if coordinator.is_separate_coordinator() => becomes_mixed,
            Component::MixCoord => becomes_separate,
            Component::Cdc => true,
            _ => false,
        };
        if asked_for {
            continue;
        }
        let scaled = after.of(component).next();
        let message = match scaled {
            Some(_) => format!("{component} would be scaled to zero"),
            None => format!("{component} would be removed"),
        };
        let remedy = upgrade
            .advice()
            .components(&[component], &[])
            .and("Accept this rule if the removal is intended.");
        let finding = findings.warn(message);
        finding.remedy(remedy);
        if let Some(workload) = scaled.or_else(|| before.of(component).next()) {
            finding.on(workload);
        }
    }
}

/// A release that Helm would delete as a whole.
fn whole(before: &Release, findings: &mut Findings) {
    findings.checked();
    if before.is_stopped() {
        return;
    }
    let finding = findings.warn(format!(
        "Milvus {} would be removed: the manifests no longer contain it",
        before.fullname
    ));
    finding
        .because("Helm deletes its workloads, and its clients lose the connection.")
        .fix(
            "If this is not intended, check the alias and the condition of this dependency in \
             Chart.yaml and in the Helm values.",
        );
    if let Some(first) = before.components.first() {
        finding.on(first);
    }
}

/// Four coordinators that become one while the version does not ask for it: most often the default
/// that flipped in chart 4.2.4. All of them stop at once.
fn coordinators_replaced(upgrade: &Upgrade<'_>, before: &Release, findings: &mut Findings) {
    let separate: Vec<Component> = Component::ALL
        .into_iter()
        .filter(|component| {
            component.is_separate_coordinator()
                && before.runs(*component)
                && !upgrade.after.runs(*component)
        })
        .collect();
    let replaced: Vec<&str> = separate.iter().map(|component| component.name()).collect();
    let Some(mixed) = upgrade
        .after
        .of(Component::MixCoord)
        .next()
        .filter(|_| !replaced.is_empty())
    else {
        return;
    };
    findings
        .warn(format!(
            "{} would be replaced by one mixed coordinator",
            replaced.join(", ")
        ))
        .because(
            "The old coordinators are deleted and the new one is created at the same time, so \
             Milvus is without a coordinator until the new one is ready.",
        )
        .on(mixed)
        .evidence(
            "coordinators",
            Some(replaced.join(", ")),
            Some("mixcoord".into()),
            Some(&mixed.workload.meta.origin),
        )
        .remedy(
            upgrade
                .advice()
                .components(&separate, &[Component::MixCoord])
                .and("Or make this change in a separate step, without a version change."),
        );
}

#[cfg(test)]
mod tests {
    use super::{Aspect, RULE};
    use crate::{
        milvus::Component::{DataNode, Proxy, QueryNode, Standalone},
        rules::testing::{Fixture, judge},
    };

    #[test]
    fn a_missing_or_stopped_component_warns() {
        let before = Fixture::cluster("2.4.5");
        assert_eq!(
            judge(
                &RULE,
                Some(&before),
                &Fixture::cluster("2.4.5").without(QueryNode)
            )[0]
            .message,
            "querynode would be removed"
        );
        assert_eq!(
            judge(
                &RULE,
                Some(&before),
                &Fixture::cluster("2.4.5").replicas(Proxy, 0)
            )[0]
            .message,
            "proxy would be scaled to zero"
        );
        let stopped = Fixture::standalone("2.4.5").replicas(Standalone, 0);
        assert_eq!(
            judge(&RULE, Some(&Fixture::standalone("2.4.5")), &stopped).len(),
            1
        );
    }

    #[test]
    fn a_release_that_is_removed_as_a_whole_is_named() {
        let found = |fixture: &Fixture| {
            let release = fixture.release();
            let facts = crate::evidence::Facts::default();
            let mut upgrade = crate::change::Upgrade::new(
                Some(&release),
                &release,
                &facts,
                crate::milvus::catalogue::Catalogue::embedded(),
            );
            upgrade.aspect = Aspect::Removal;
            crate::rules::run(&upgrade, None).findings
        };
        let findings = found(&Fixture::cluster("2.4.5"));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(
            findings[0].message,
            "Milvus my-release-milvus would be removed: the manifests no longer contain it"
        );
        assert!(found(&Fixture::standalone("2.4.5").replicas(Standalone, 0)).is_empty());
    }

    #[test]
    fn coordinators_that_become_one_are_named_once() {
        let findings = judge(
            &RULE,
            Some(&Fixture::cluster("2.4.5")),
            &Fixture::cluster("2.4.17"),
        );
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].message,
            "rootcoord, datacoord, indexcoord, querycoord would be replaced by one mixed coordinator"
        );
        assert!(
            findings[0]
                .fix
                .text
                .contains("mixCoordinator.enabled=false")
        );
    }

    #[test]
    fn what_the_target_asks_for_is_fine() {
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.5.27")),
                &Fixture::cluster("2.6.22")
            )
            .is_empty()
        );
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.4.5").replicas(DataNode, 0)),
                &Fixture::cluster("2.4.5").replicas(DataNode, 0)
            )
            .is_empty()
        );
        assert!(
            judge(
                &RULE,
                Some(&Fixture::cluster("2.4.5")),
                &Fixture::cluster("2.4.5").replicas(QueryNode, 9)
            )
            .is_empty()
        );
    }
}
