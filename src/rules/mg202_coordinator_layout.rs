//! MG202: one active coordinator of each kind.

use crate::{
    milvus::{Component, Coordinators, Version, release::ComponentWorkload},
    upgrade::Upgrade,
};

use super::{Category, DefaultAction, Findings, Missing, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG202",
    name: "coordinator-layout",
    title: "there is one active coordinator of each kind",
    category: Category::Topology,
    default: DefaultAction::Deny,
    data_loss: false,
    since: "0.1.0",
    needs: &[Need::After, Need::Distributed],
    what: "Denies mixed and separate coordinators side by side, and several replicas of a coordinator without active-standby.",
    why: "Both register in etcd, take turns in failing, and hand out the same work twice.",
    example: "Chart 4.2.4 switches the mixed coordinator on by default; rootCoordinator.enabled=true from old values stays.",
    fix: "Enable either mixCoordinator or the four coordinators; set activeStandby.enabled=true for more than one replica.",
    sources: &["milvus-helm#115", "Milvus docs: coordinator high availability"],
    check,
};

/// From here on the mixed coordinator is always active-standby.
const ALWAYS_STANDBY: Version = Version::new(2, 6, 8);

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let after = upgrade.after;
    if after.components.iter().any(|component| component.component.is_coordinator()) {
        findings.checked();
    }
    if after.coordinators() == Coordinators::Both {
        let separate: Vec<&ComponentWorkload> = after
            .components
            .iter()
            .filter(|component| component.component.is_separate_coordinator() && component.is_running())
            .collect();
        let names = separate.iter().map(|component| component.component.name()).collect::<Vec<_>>().join(", ");
        let finding = findings.deny(format!("the mixed coordinator and {names} are both enabled"));
        if let Some(first) = separate.first() {
            finding.on(first);
        }
    }
    if !after.has_config() {
        let several = |component: &&ComponentWorkload| component.component.is_coordinator() && component.workload.wanted_replicas() > 1;
        if let Some(component) = after.components.iter().find(several) {
            findings.not_evaluated(Missing::new(
                format!("{} has several replicas, and without the configuration it is not known whether active-standby is on", component.component),
                "Give all manifests with their ConfigMaps.",
            ));
        }
        return;
    }
    for component in after.components.iter().filter(|component| component.component.is_coordinator()) {
        let replicas = component.workload.wanted_replicas();
        let key = match component.component {
            Component::RootCoord | Component::MixCoord => "rootCoord.enableActiveStandby",
            Component::DataCoord => "dataCoord.enableActiveStandby",
            Component::IndexCoord => "indexCoord.enableActiveStandby",
            _ => "queryCoord.enableActiveStandby",
        };
        let mixed = component.component == Component::MixCoord;
        let always = mixed && component.version().build().is_some_and(|build| build.version >= ALWAYS_STANDBY);
        let on = after.config.is_true(key) || (mixed && after.config.is_true("mixCoord.enableActiveStandby"));
        if replicas > 1 && !always && !on {
            findings
                .deny(format!("{} has {replicas} replicas without active-standby", component.component))
                .on(component)
                .evidence(key, None, Some("not true".into()), after.config.get(key).map(|setting| setting.origin))
                .fix(format!("Set activeStandby.enabled=true for {} in the Helm values, or one replica.", component.component));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::{
        milvus::Component::{MixCoord, RootCoord},
        rules::testing::{Fixture, judge},
    };

    #[test]
    fn both_layouts_at_once_are_denied() {
        assert_eq!(judge(&RULE, None, &Fixture::cluster("2.5.5").with(RootCoord)).len(), 1);
        assert!(judge(&RULE, None, &Fixture::cluster("2.5.5").with(RootCoord).replicas(RootCoord, 0)).is_empty());
    }

    #[test]
    fn replicas_need_active_standby() {
        let two = Fixture::cluster("2.4.5").replicas(RootCoord, 2);
        assert_eq!(judge(&RULE, None, &two).len(), 1);
        assert!(judge(&RULE, None, &two.clone().user_yaml("rootCoord: {enableActiveStandby: true}")).is_empty());
        let mixed = Fixture::cluster("2.5.5").replicas(MixCoord, 2);
        assert!(judge(&RULE, None, &mixed.default_yaml("mixCoord: {enableActiveStandby: true}")).is_empty());
        assert!(judge(&RULE, None, &Fixture::cluster("2.6.11").replicas(MixCoord, 2)).is_empty());
        assert!(judge(&RULE, None, &Fixture::cluster("2.4.5")).is_empty());
    }
}
