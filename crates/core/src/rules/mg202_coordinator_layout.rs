//! MG202: no two active coordinators of one kind.

use crate::{
    change::Upgrade,
    milvus::{Component, Coordinators, Version, release::ComponentWorkload},
};

use super::{Category, DefaultAction, Findings, Missing, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG202",
    name: "coordinator-layout",
    title: "no kind of coordinator has two active instances",
    category: Category::Topology,
    default: DefaultAction::Deny,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::After, Need::Distributed],
    what: "Denies mixed and separate coordinators side by side, and several replicas of a coordinator without active-standby.",
    why: "Both register in etcd, fail alternately with CompareAndSwap errors, and assign the same \
          work twice.",
    example: "Chart 4.2.4 enables the mixed coordinator by default; rootCoordinator.enabled=true \
              from old values stays set.",
    fix: "Run either the mixed coordinator or the four coordinators, with active-standby for more than one replica.",
    sources: &[
        "milvus-helm#14",
        "milvus-helm#115",
        "Milvus docs: coordinator high availability",
        "Milvus blog 2025-12-25 on 2.5 to 2.6",
    ],
    check,
};

/// From here on the mixed coordinator is always active-standby.
const ALWAYS_STANDBY: Version = Version::new(2, 6, 8);
/// The first release in which `mixCoord.enableActiveStandby`, else `rootCoord.enableActiveStandby`,
/// serves every role.
const ONE_SWITCH: Version = Version::new(2, 6, 0);
fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let after = upgrade.after;
    if after
        .components
        .iter()
        .any(|component| component.component.is_coordinator())
    {
        findings.checked();
    }
    if after.coordinators() == Coordinators::Both {
        let separate: Vec<&ComponentWorkload> = after
            .components
            .iter()
            .filter(|component| {
                component.component.is_separate_coordinator() && component.is_running()
            })
            .collect();
        let names = separate
            .iter()
            .map(|component| component.component.name())
            .collect::<Vec<_>>()
            .join(", ");
        let finding = findings.deny(format!(
            "the mixed coordinator and {names} are both enabled"
        ));
        if let Some(first) = separate.first() {
            finding.on(first);
        }
        let four: Vec<Component> = separate
            .iter()
            .map(|component| component.component)
            .collect();
        // From 2.6 on there is only the mixed one.
        let separate_before: Vec<Component> = upgrade
            .before
            .filter(|before| {
                before.coordinators() == Coordinators::Separate
                    && upgrade.to_version().is_none_or(|to| to < ONE_SWITCH)
            })
            .into_iter()
            .flat_map(|before| Component::ALL.into_iter().filter(|one| before.runs(*one)))
            .filter(|one| one.is_separate_coordinator())
            .collect();
        let advice = upgrade.advice();
        finding.remedy(if separate_before.is_empty() {
            advice.components(&[], &four)
        } else {
            // All that ran, also those that the change leaves out.
            advice.components(&separate_before, &[Component::MixCoord])
        });
    }
    if !after.has_config() {
        let several = |component: &&ComponentWorkload| {
            component.component.is_coordinator() && component.workload.wanted_replicas() > 1
        };
        if let Some(component) = after.components.iter().find(several) {
            findings.not_evaluated(Missing::new(
                format!(
                    "{} has several replicas, and without the configuration it is unknown whether \
                     active-standby is enabled",
                    component.component
                ),
                "Give all manifests with their ConfigMaps.",
            ));
        }
        return;
    }
    for component in after
        .components
        .iter()
        .filter(|component| component.component.is_coordinator())
    {
        let replicas = component.workload.wanted_replicas();
        if replicas <= 1 {
            continue;
        }
        let missing = without_standby(upgrade, component);
        let Some(first) = missing.first() else {
            continue;
        };
        let roles = if component.component == Component::MixCoord {
            format!(
                " for {}",
                missing
                    .iter()
                    .filter_map(|key| key.split('.').next())
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        } else {
            String::new()
        };
        let setting = after.config.get(first);
        findings
            .deny(format!(
                "{} would run {replicas} replicas, but its configuration does not enable \
                 active-standby{roles}",
                component.component
            ))
            .on(component)
            .evidence(
                *first,
                None,
                Some(setting.map_or("absent", |setting| setting.value).to_owned()),
                setting.map(|setting| setting.origin),
            )
            .remedy(upgrade.advice().standby(component.component, &missing));
    }
}

/// The switches of active-standby that the coordinator needs and that are not on. Inside a mixed
/// coordinator each role has its own below 2.6; from then on one serves all, and stands in for the
/// other.
fn without_standby(upgrade: &Upgrade<'_>, component: &ComponentWorkload) -> Vec<&'static str> {
    let version = component.version().build().map(|build| build.version);
    let keys: &[&'static str] = match component.component {
        Component::RootCoord => &["rootCoord.enableActiveStandby"],
        Component::DataCoord => &["dataCoord.enableActiveStandby"],
        Component::IndexCoord => &["indexCoord.enableActiveStandby"],
        Component::MixCoord => match version {
            Some(version) if version >= ALWAYS_STANDBY => &[],
            Some(version) if version < ONE_SWITCH => &[
                "rootCoord.enableActiveStandby",
                "queryCoord.enableActiveStandby",
                "dataCoord.enableActiveStandby",
            ],
            _ if upgrade.after.config.is_true("mixCoord.enableActiveStandby") => &[],
            _ => &["rootCoord.enableActiveStandby"],
        },
        _ => &["queryCoord.enableActiveStandby"],
    };
    keys.iter()
        .copied()
        .filter(|key| !upgrade.after.config.is_true(key))
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        milvus::Component::{self, MixCoord, RootCoord},
        rules::testing::{Fixture, judge},
    };

    #[test]
    fn both_layouts_at_once_are_denied() {
        assert_eq!(
            judge(&RULE, None, &Fixture::cluster("2.5.5").with(RootCoord)).len(),
            1
        );
        assert!(
            judge(
                &RULE,
                None,
                &Fixture::cluster("2.5.5")
                    .with(RootCoord)
                    .replicas(RootCoord, 0)
            )
            .is_empty()
        );
    }

    #[test]
    fn no_kind_of_coordinator_is_left_out_by_the_fix() {
        let four = Fixture::cluster("2.4.5");
        let separate = Fixture::cluster("2.3.0").chart("4.1.0");
        // Chart 4.2 with one old value: the mixed one, with only the root coordinator in addition.
        let after = |version: &str| {
            Fixture::of(version, &[MixCoord, RootCoord, Component::Proxy]).chart("4.2.40")
        };
        let text = |before: &Fixture, after: &Fixture| {
            judge(&RULE, Some(before), after)[0].fix.text.to_string()
        };
        assert!(
            text(&separate, &after("2.4.5")).starts_with(
                "Set dataCoordinator.enabled=true, indexCoordinator.enabled=true, \
                 queryCoordinator.enabled=true and mixCoordinator.enabled=false in"
            ),
            "{}",
            text(&separate, &after("2.4.5"))
        );
        for (before, version) in [
            (&separate, "2.6.11"),
            (&Fixture::cluster("2.4.17"), "2.4.24"),
        ] {
            let text = text(before, &after(version));
            assert!(
                text.starts_with("Set rootCoordinator.enabled=false in"),
                "{text}"
            );
        }
        assert!(judge(&RULE, Some(&separate), &four).is_empty());
    }

    #[test]
    fn replicas_need_active_standby() {
        let two = Fixture::cluster("2.4.5").replicas(RootCoord, 2);
        assert_eq!(judge(&RULE, None, &two).len(), 1);
        assert!(
            judge(
                &RULE,
                None,
                &two.clone()
                    .user_yaml("rootCoord: {enableActiveStandby: true}")
            )
            .is_empty()
        );
        let mixed = |version: &str, yaml: &str| {
            judge(
                &RULE,
                None,
                &Fixture::cluster(version)
                    .replicas(MixCoord, 2)
                    .default_yaml(yaml),
            )
            .len()
        };
        assert_eq!(mixed("2.6.5", "mixCoord: {enableActiveStandby: true}"), 0);
        assert_eq!(mixed("2.6.5", "rootCoord: {enableActiveStandby: true}"), 0);
        assert_eq!(mixed("2.6.5", "queryCoord: {enableActiveStandby: true}"), 1);
        assert_eq!(mixed("2.5.5", "rootCoord: {enableActiveStandby: true}"), 1);
        let all = "rootCoord: {enableActiveStandby: true}\nqueryCoord: {enableActiveStandby: true}\ndataCoord: {enableActiveStandby: true}";
        assert_eq!(mixed("2.5.5", all), 0);
        assert!(
            judge(
                &RULE,
                None,
                &Fixture::cluster("2.6.11").replicas(MixCoord, 2)
            )
            .is_empty()
        );
        assert!(judge(&RULE, None, &Fixture::cluster("2.4.5")).is_empty());
    }

    #[rstest]
    #[case(
        "4.1.0",
        MixCoord,
        "Set rootCoord.enableActiveStandby: true, queryCoord.enableActiveStandby",
        "under extraConfigFiles"
    )]
    #[case(
        "4.1.1",
        MixCoord,
        "Set mixCoordinator.activeStandby.enabled=true",
        "one replica of mixcoord"
    )]
    #[case(
        "4.1.0",
        RootCoord,
        "Set rootCoordinator.activeStandby.enabled=true",
        "one replica of rootcoord"
    )]
    #[case(
        "3.3.6",
        RootCoord,
        "Set rootCoord.enableActiveStandby: true",
        "under extraConfigFiles"
    )]
    fn the_fix_names_what_the_chart_passes_on(
        #[case] chart: &str,
        #[case] component: Component,
        #[case] begins: &str,
        #[case] holds: &str,
    ) {
        let after = Fixture::of("2.3.0", &[component])
            .chart(chart)
            .replicas(component, 2)
            .default_yaml("rootCoord: {enableActiveStandby: false}");
        let found = judge(&RULE, None, &after);
        let text = &found[0].fix.text;
        assert!(text.starts_with(begins) && text.contains(holds), "{text}");
        assert!(
            component != MixCoord
                || found[0]
                    .message
                    .ends_with("active-standby for rootCoord, queryCoord, dataCoord"),
            "{}",
            found[0].message
        );
    }
}
