//! MG202: no two active coordinators of one kind.

use crate::{
    change::{Aspect, Upgrade},
    milvus::{
        Component, Coordinators, Release, Topology, Version, release::ComponentWorkload,
        settings::QueueKind, shared_data::Shared,
    },
};

use super::{Behavior, Category, DefaultAction, Findings, Missing, Need, Rule, advice::Remedy};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG202",
    name: "coordinator-layout",
    title: "no kind of coordinator has two active instances",
    category: Category::Topology,
    default: DefaultAction::Deny,
    data_loss: false,
    behavior: &[Behavior::JudgesNeighbors],
    since: "0.1.0",
    needs: &[Need::After],
    what: "Denies mixed and separate coordinators side by side, several replicas of a coordinator, or of a standalone, which contains them, without active-standby, and a second release on the metadata of one that runs.",
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
    if let Aspect::Neighbor(shared) = upgrade.aspect {
        if shared == Shared::Metadata {
            next_to_another(upgrade, findings);
        }
        return;
    }
    let after = upgrade.after;
    let is_several = |component: &ComponentWorkload| {
        component.component.coordinates() && several(upgrade, component).is_some()
    };
    if after
        .components
        .iter()
        .any(|component| component.component.is_coordinator() || is_several(component))
    {
        findings.checked();
    } else if after.topology() == Topology::Standalone {
        findings.not_applicable("Milvus is a standalone, which has one component");
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
        let mut components = after.components.iter();
        if let Some(component) = components.find(|component| is_several(component)) {
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
        .filter(|component| component.component.coordinates())
    {
        let Some(replicas) = several(upgrade, component) else {
            continue;
        };
        if component.component == Component::Standalone
            && let Some(what) = of_one_replica(after)
        {
            findings
                .deny(format!(
                    "standalone would run {replicas}, but {what} belongs to one replica"
                ))
                .because(
                    "Each replica has its own part of the data, or several write to the same \
                     files: data is lost.",
                )
                .on(component)
                .remedy(Remedy::words("Run one replica of standalone."));
            continue;
        }
        let missing = without_standby(upgrade, component);
        let Some(first) = missing.first() else {
            continue;
        };
        let roles = if component.component.is_separate_coordinator() {
            String::new()
        } else {
            format!(
                " for {}",
                missing
                    .iter()
                    .filter_map(|key| key.split('.').next())
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        };
        let setting = after.config.get(first);
        findings
            .deny(format!(
                "{} would run {replicas}, but its configuration does not enable \
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

/// Coordinators of two releases on the same metadata.
fn next_to_another(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    findings.checked();
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    let runs = |kind: Component| {
        let mut components = before.components.iter().filter(|one| one.is_running());
        components.any(|one| has_kind_in_common(one.component, kind))
    };
    let starts = after.components.iter().find(|one| {
        one.is_running() && runs(one.component) && !without_standby(upgrade, one).is_empty()
    });
    if let Some(component) = starts {
        findings
            .deny(format!(
                "{} would run at the same time as the coordinators of {} on the same metadata",
                component.component,
                before.label()
            ))
            .on(component)
            .remedy(Remedy::words(
                "Stop the other release first, or use another root path of etcd, another bucket \
                 or root path of the object storage, and another prefix of the channels.",
            ));
    }
}

/// How many pods of the component are wanted, as text, where it may be more than one. How many
/// nodes a `DaemonSet` has is not known: one that runs already is left alone.
fn several(upgrade: &Upgrade<'_>, component: &ComponentWorkload) -> Option<String> {
    let this = &component.workload.meta.object;
    if this.kind == "DaemonSet" {
        let runs_already = upgrade.before.is_some_and(|before| {
            before.of(component.component).any(|one| {
                let one = &one.workload.meta.object;
                one.kind == this.kind && one.name == this.name
            })
        });
        return (!runs_already).then(|| "one replica on each node".to_owned());
    }
    let alike: Vec<&ComponentWorkload> = upgrade
        .after
        .of(component.component)
        .filter(|one| one.is_running() && one.workload.meta.object.kind != "DaemonSet")
        .collect();
    // Of several workloads the first speaks. milvus-operator moves pods between two of them.
    let is_first = alike
        .first()
        .is_none_or(|first| std::ptr::eq(*first, component));
    if alike.len() > 1 && is_first && !upgrade.after.is_operated() {
        let replicas: i64 = alike.iter().map(|one| one.workload.wanted_replicas()).sum();
        return Some(format!("{replicas} replicas in {} workloads", alike.len()));
    }
    let replicas = component.workload.wanted_replicas();
    (replicas > 1).then(|| format!("{replicas} replicas"))
}

/// Whether both contain a coordinator of the same kind. The mixed coordinator and a standalone
/// contain every kind.
fn has_kind_in_common(one: Component, other: Component) -> bool {
    let has_all = |component| matches!(component, Component::MixCoord | Component::Standalone);
    one.coordinates() && other.coordinates() && (one == other || has_all(one) || has_all(other))
}

/// What of a standalone lies in its own process or on its own disk, where other replicas do not see
/// it.
fn of_one_replica(release: &Release) -> Option<&'static str> {
    let queue = release.located().find_map(|located| located.queue().ok());
    match queue.map(|queue| queue.value) {
        Some(QueueKind::RocksMq) => return Some("its message queue, rocksmq,"),
        Some(QueueKind::NatsMq) => return Some("its message queue, natsmq,"),
        Some(QueueKind::Woodpecker)
            if release
                .located()
                .any(|located| located.woodpecker().is_ok_and(|place| place == "local")) =>
        {
            return Some("its message queue, woodpecker on a local disk,");
        }
        _ => {}
    }
    let setting = |key| release.config.get(key);
    if release.config.is_true("etcd.use.embed") {
        Some("its embedded etcd")
    } else if setting("common.storageType")
        .is_some_and(|setting| setting.value.trim().eq_ignore_ascii_case("local"))
    {
        Some("its local storage")
    } else {
        None
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
        Component::MixCoord | Component::Standalone => match version {
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
        rules::testing::{Fixture, judge, judge_releases, release_of},
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

    const EXTERNAL: &str = "mq: {type: kafka}\nkafka: {brokerList: kafka:9092}\n";
    const STANDBY: &str = "rootCoord: {enableActiveStandby: true}\nqueryCoord: {enableActiveStandby: true}\ndataCoord: {enableActiveStandby: true}\n";

    #[rstest]
    #[case("2.5.27", "", "rocksmq")]
    #[case("2.5.27", STANDBY, "rocksmq")]
    #[case("2.6.20", "mq: {type: rocksmq}", "rocksmq")]
    #[case("2.5.27", "mq: {type: natsmq}", "natsmq")]
    #[case(
        "2.6.20",
        "mq: {type: woodpecker}\nwoodpecker: {storage: {type: local}}",
        "woodpecker"
    )]
    #[case(
        "2.6.20",
        "mq: {type: kafka}\nkafka: {brokerList: k:1}\ncommon: {storageType: local}",
        "local storage"
    )]
    #[case(
        "2.6.20",
        "mq: {type: kafka}\nkafka: {brokerList: k:1}\netcd: {use: {embed: true}}",
        "embedded etcd"
    )]
    #[case(
        "2.5.27",
        EXTERNAL,
        "active-standby for rootCoord, queryCoord, dataCoord"
    )]
    #[case("2.6.20", EXTERNAL, "")]
    fn a_standalone_contains_the_coordinators(
        #[case] version: &str,
        #[case] yaml: &str,
        #[case] says: &str,
    ) {
        let one = Fixture::standalone(version).default_yaml(yaml);
        assert!(judge(&RULE, None, &one).is_empty());
        let found = judge(&RULE, None, &one.replicas(Component::Standalone, 2));
        if says.is_empty() {
            assert!(found.is_empty(), "{found:?}");
        } else {
            assert_eq!(found.len(), 1);
            assert!(found[0].message.contains(says), "{}", found[0].message);
        }
    }

    #[test]
    fn a_standalone_with_active_standby_may_have_replicas() {
        let text = format!("{EXTERNAL}{STANDBY}");
        let two = Fixture::standalone("2.5.27")
            .default_yaml(&text)
            .replicas(Component::Standalone, 2);
        assert!(judge(&RULE, None, &two).is_empty());
    }

    #[test]
    fn a_standalone_on_each_node_has_several_replicas() {
        let release = |kind: &str| {
            release_of(&format!(
                "kind: {kind}\nmetadata: {{name: milvus}}\nspec:\n  template:\n    spec:\n      containers:\n        - name: a\n          image: \"milvusdb/milvus:v2.5.27\"\n          args: [milvus, run, standalone]\n          env: [{{name: ETCD_ENDPOINTS, value: \"etcd:2379\"}}]\n"
            ))
        };
        let (one, each) = (release("Deployment"), release("DaemonSet"));
        let found = judge_releases(&RULE, &one, &each);
        assert_eq!(
            found[0].message,
            "standalone would run one replica on each node, but its message queue, rocksmq, \
             belongs to one replica"
        );
        assert!(judge_releases(&RULE, &one, &one).is_empty());
        assert!(judge_releases(&RULE, &each, &each).is_empty());
    }

    #[test]
    fn a_coordinator_on_each_node_has_several_replicas() {
        let one = Fixture::cluster("2.5.5").default_yaml("etcd: {endpoints: [\"etcd:2379\"]}\n");
        let on_each = |text: &str| {
            let yaml = Fixture::cluster("2.5.5").default_yaml(text).yaml();
            let parts = yaml.split("---\n").map(|part| {
                if part.contains("name: my-release-milvus-mixcoord\n") {
                    part.replace("kind: Deployment", "kind: DaemonSet")
                } else {
                    part.to_owned()
                }
            });
            release_of(&parts.collect::<Vec<_>>().join("---\n"))
        };
        let each = on_each("etcd: {endpoints: [\"etcd:2379\"]}\n");
        let found = judge_releases(&RULE, &one.release(), &each);
        assert_eq!(
            found[0].message,
            "mixcoord would run one replica on each node, but its configuration does not enable \
             active-standby for rootCoord, queryCoord, dataCoord"
        );
        assert!(judge_releases(&RULE, &each, &each).is_empty());
        let standby = on_each(STANDBY);
        assert!(judge_releases(&RULE, &one.release(), &standby).is_empty());
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

    #[rstest]
    #[case::one("mixcoord", 1, 0)]
    #[case::a_second_workload("mixcoord", 2, 1)]
    #[case::workers("querynode", 2, 0)]
    #[case::a_second_root_coordinator("rootcoord", 2, 1)]
    fn the_replicas_of_all_workloads_of_a_coordinator_count(
        #[case] role: &str,
        #[case] workloads: usize,
        #[case] found: usize,
    ) {
        let deployment = |name: &str, replicas: usize| {
            format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: vdb-{name}, labels: {{app: vdb}}}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: vdb, component: {name}}}}}\n  template:\n    metadata: {{labels: {{app: vdb, component: {name}}}}}\n    spec:\n      containers:\n        - {{name: milvus, image: \"milvusdb/milvus:v2.5.27\", args: [milvus, run, ROLE], env: [{{name: ETCD_ENDPOINTS, value: \"etcd:2379\"}}]}}\n---\n"
            )
        };
        let run = |replicas: usize| {
            let names = ["one", "two"].into_iter().take(workloads);
            let text: String = names
                .map(|name| deployment(name, replicas).replace("ROLE", role))
                .collect();
            release_of(&(text + &deployment("proxy", 1).replace("ROLE", "proxy")))
        };
        let findings = judge_releases(&RULE, &run(1), &run(1));
        assert_eq!(findings.len(), found, "{findings:?}");
        let stopped = judge_releases(&RULE, &run(1), &run(0));
        assert!(stopped.is_empty(), "{stopped:?}");
    }
}
