//! MG202: one active coordinator of each kind.

use crate::{
    milvus::{Component, Coordinators, Version, release::ComponentWorkload},
    upgrade::Upgrade,
};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG202",
    name: "coordinator-layout",
    title: "there is one active coordinator of each kind",
    category: Category::Topology,
    default: DefaultAction::Deny,
    data_loss: false,
    since: "0.1.0",
    needs: &[Need::After],
    what: "Denies mixed and separate coordinators side by side, and several replicas of a coordinator without active-standby.",
    why: "Both register in etcd, take turns in failing, and hand out the same work twice.",
    example: "Chart 4.2.4 switches the mixed coordinator on by default; rootCoordinator.enabled=true from old values stays.",
    fix: "Run either the mixed coordinator or the four coordinators, with active-standby for more than one replica.",
    sources: &["milvus-helm#115", "Milvus docs: coordinator high availability"],
    check,
};

/// From here on the mixed coordinator is always active-standby.
const ALWAYS_STANDBY: Version = Version::new(2, 6, 8);

/// What a mixed coordinator reads: the four coordinators in it.
const STANDBY: [&str; 4] = [
    "rootCoord.enableActiveStandby",
    "queryCoord.enableActiveStandby",
    "dataCoord.enableActiveStandby",
    "indexCoord.enableActiveStandby",
];

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let after = upgrade.after;
    if after.coordinators() == Coordinators::Both {
        let separate: Vec<&ComponentWorkload> = after
            .components
            .iter()
            .filter(|component| component.component.is_separate_coordinator() && component.is_running())
            .collect();
        let names = separate.iter().map(|component| component.component.name()).collect::<Vec<_>>().join(", ");
        let finding = findings.deny(format!("the mixed coordinator and {names} would run side by side"));
        if let Some(first) = separate.first() {
            finding.on(first);
        }
        let four: Vec<Component> = separate.iter().map(|component| component.component).collect();
        let were_separate = upgrade.before.is_some_and(|before| before.coordinators() == Coordinators::Separate);
        let advice = upgrade.advice();
        finding.remedy(if were_separate {
            advice.components(&[], &[Component::MixCoord])
        } else {
            advice.components(&[], &four)
        });
    }
    if !after.has_config() {
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
                .deny(format!("{} would run {replicas} replicas without active-standby", component.component))
                .on(component)
                .evidence(key, None, Some("not true".into()), after.config.get(key).map(|setting| setting.origin))
                .remedy(upgrade.advice().standby(component.component, if mixed { &STANDBY } else { std::slice::from_ref(&key) }));
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
