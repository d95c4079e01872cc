//! MG407: members of etcd do not join or leave by a change of manifests.

use std::collections::BTreeSet;

use crate::{
    change::Upgrade,
    milvus::{
        Release,
        dependency::{Dependency, Family},
    },
};

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG407",
    name: "etcd-members",
    title: "etcd keeps its members",
    category: Category::Dependencies,
    default: DefaultAction::DenyOrWarn,
    data_loss: true,
    behavior: &[Behavior::JudgesDeletions],
    since: "0.1.0",
    needs: &[Need::Before, Need::Dependency(Family::Etcd)],
    what: "Compares the number of etcd members (replicas of its workloads, ETCD_INITIAL_CLUSTER, \
           --initial-cluster). Denies a change that leaves fewer members than the quorum, and a \
           stop of etcd while Milvus runs. Warns about every other change.",
    why: "etcd stores its list of members in its data. Removed pods still count as members, and \
          without a majority etcd does not answer, so Milvus stops. Added pods do not join \
          automatically.",
    example: "etcd.replicaCount goes from 3 to 1: one of three members is not a majority.",
    fix: "Keep the number of members. Change it with `etcdctl member remove` or `member add`, one member at a time, in a separate change.",
    sources: &[
        "milvus#21636",
        "milvus#17647",
        "etcd documentation: runtime reconfiguration",
    ],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    let wanted = clusters(after);
    for old in clusters(before) {
        // A cluster of which nothing is left is removed, not changed in size.
        let left: Vec<&Cluster<'_>> = wanted
            .iter()
            .filter(|new| new.shares_a_workload_with(&old))
            .collect();
        if let Some(first) = left.first().and_then(|new| new.workloads.first()) {
            findings.checked();
            if !old.workloads.iter().all(|one| upgrade.is_unused(one)) {
                compare(&old, &left, first, after.is_stopped(), findings);
            }
        }
    }
}

fn compare(
    old: &Cluster<'_>,
    left: &[&Cluster<'_>],
    first: &Dependency,
    is_stopped: bool,
    findings: &mut Findings,
) {
    let name = &first.workload.meta.object.name;
    let (ran, runs) = (
        old.running(),
        left.iter().map(|new| new.running()).sum::<usize>(),
    );
    // A cluster that does not run has no quorum to lose; how many members it has says its list
    // only.
    if ran == 0 {
        return;
    }
    let members = old.listed.len().max(ran);
    let quorum = members / 2 + 1;
    let open = ran > 1
        && left.iter().flat_map(|new| &new.workloads).any(|new| {
            let was =
                |old: &&&Dependency| old.workload.meta.object.name == new.workload.meta.object.name;
            new.workload.replicas.is_none()
                && old
                    .workloads
                    .iter()
                    .find(was)
                    .is_some_and(|old| old.workload.replicas.is_some())
        });
    let finding = if open {
        findings
            .warn(format!(
                "the manifest no longer sets the number of members of etcd {name}; \
                               {ran} are running"
            ))
            .because(
                "Helm then sets one member; kubectl apply keeps the current number. With one of \
             several members left, etcd has no majority.",
            )
    } else if runs == 0 && is_stopped {
        return;
    } else if runs == 0 {
        findings
            .deny(format!("etcd {name} would stop while Milvus runs"))
            .because(
                "Milvus immediately loses its sessions and its metadata store, and every \
                      component stops.",
            )
            .fix("Stop Milvus first, or keep etcd's replicas.")
    } else if runs < quorum && ran >= quorum {
        let message = format!(
            "etcd {name} would be scaled from {} to {runs}: of {members}, {quorum} are needed for \
             a majority",
            counted(ran)
        );
        if is_stopped {
            findings.warn(format!(
                "{message}; Milvus is stopped, but etcd will not serve it when it starts"
            ))
        } else {
            findings.deny(message)
        }
    } else if runs < ran {
        findings
            .warn(format!(
                "etcd {name} would be scaled from {} to {runs}",
                counted(ran)
            ))
            .because(
                "The removed pods still count as members, so etcd tolerates fewer failures \
                      than before.",
            )
    } else if runs > ran {
        findings
            .warn(format!("etcd {name} would be scaled from {} to {runs}", counted(ran)))
            .because(
                "The members of etcd are fixed at its first start (static bootstrap): added pods \
                 do not join. With ETCD_INITIAL_CLUSTER_STATE=new they form a second, empty etcd, \
                 and Milvus' list of endpoints then contains both.",
            )
            .fix(
                "Take a snapshot, add the members one at a time with `etcdctl member add`, and start each with ETCD_INITIAL_CLUSTER_STATE=existing. \
                 Do this in a separate change, not together with a new version of Milvus.",
            )
    } else {
        let listed: BTreeSet<&str> = left
            .iter()
            .flat_map(|new| new.listed.iter().copied())
            .collect();
        if listed.is_empty() || old.listed.is_empty() || listed == old.listed {
            return;
        }
        findings
            .warn(format!("the members of etcd {name} would have other names"))
            .because(
                "etcd identifies its members by the names of their first start. A pod with a \
                      new name does not replace the old member.",
            )
            .evidence(
                "initial cluster",
                Some(joined(&old.listed)),
                Some(joined(&listed)),
                Some(&first.workload.meta.origin),
            )
    };
    finding.object(&first.workload.meta).evidence(
        "members",
        Some(ran.to_string()),
        Some(if open {
            "not written".to_owned()
        } else {
            runs.to_string()
        }),
        Some(&first.workload.meta.origin),
    );
}

fn counted(members: usize) -> String {
    if members == 1 {
        "1 member".to_owned()
    } else {
        format!("{members} members")
    }
}

fn joined(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

/// Workloads that form one etcd: a StatefulSet, or several workloads that list one another.
struct Cluster<'a> {
    workloads: Vec<&'a Dependency>,
    /// Names in the initial cluster; empty where none is written.
    listed: BTreeSet<&'a str>,
}

impl Cluster<'_> {
    fn running(&self) -> usize {
        let replicas = |dependency: &&Dependency| {
            usize::try_from(dependency.workload.wanted_replicas()).unwrap_or(0)
        };
        self.workloads.iter().map(replicas).sum()
    }

    fn shares_a_workload_with(&self, other: &Self) -> bool {
        let name = |dependency: &Dependency| dependency.workload.meta.object.name.clone();
        self.workloads
            .iter()
            .any(|one| other.workloads.iter().any(|two| name(one) == name(two)))
    }
}

fn clusters(release: &Release) -> Vec<Cluster<'_>> {
    let mut clusters: Vec<Cluster<'_>> = Vec::new();
    let mut seen = BTreeSet::new();
    for dependency in release.dependencies_of(Family::Etcd) {
        // Two charts of one umbrella may render the same object twice; in the cluster it is one.
        let object = &dependency.workload.meta.object;
        if !seen.insert((object.kind.as_str(), object.name.as_str())) {
            continue;
        }
        let listed = listed(dependency);
        match clusters
            .iter_mut()
            .find(|cluster| !listed.is_empty() && cluster.listed == listed)
        {
            Some(cluster) => cluster.workloads.push(dependency),
            None => clusters.push(Cluster {
                workloads: vec![dependency],
                listed,
            }),
        }
    }
    clusters
}

/// The names in `ETCD_INITIAL_CLUSTER` or `--initial-cluster`: `a=http://a:2380,b=http://b:2380`.
fn listed(dependency: &Dependency) -> BTreeSet<&str> {
    let containers = dependency.containers();
    let variable = containers
        .iter()
        .flat_map(|container| container.env.iter())
        .find(|(name, _)| *name == "ETCD_INITIAL_CLUSTER");
    let list = variable.and_then(|(_, value)| value).or_else(|| {
        let mut words = containers
            .iter()
            .flat_map(|container| &container.command)
            .flat_map(|word| word.split_whitespace());
        while let Some(word) = words.next() {
            let flag = word.trim_start_matches('-');
            if word.starts_with('-') && flag == "initial-cluster" {
                return words.next();
            }
            if let Some(list) = flag.strip_prefix("initial-cluster=") {
                return Some(list);
            }
        }
        None
    });
    let names = list
        .into_iter()
        .flat_map(|list| list.trim_matches(['"', '\'']).split(','));
    names
        .filter_map(|member| member.split_once('='))
        .map(|(name, _)| name.trim())
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        milvus::Component::{Proxy, StreamingNode},
        rules::{
            Severity,
            testing::{Fixture, judge},
        },
    };

    fn workload(kind: &str, name: &str, replicas: Option<i64>, container: &str) -> String {
        let replicas = replicas
            .map(|replicas| format!("  replicas: {replicas}\n"))
            .unwrap_or_default();
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{replicas}  selector:\n    matchLabels: {{app.kubernetes.io/name: etcd, app.kubernetes.io/instance: my-release}}\n  template:\n    spec:\n      containers:\n        - {{name: exporter, image: \"x/exporter:1.0\"}}\n        - {{name: etcd, image: \"milvusdb/etcd:3.5.18\"{container}}}\n"
        )
    }

    fn etcd(replicas: i64) -> Fixture {
        Fixture::cluster("2.5.16").object(&workload(
            "StatefulSet",
            "my-release-etcd",
            Some(replicas),
            "",
        ))
    }

    #[test]
    fn members_of_an_etcd_that_milvus_does_not_use_are_free() {
        let other =
            |fixture: Fixture| fixture.default_yaml("etcd: {endpoints: [etcd.example.com:2379]}\n");
        let findings = judge(&RULE, Some(&other(etcd(3))), &other(etcd(1)));
        assert!(findings.is_empty(), "{findings:?}");
        let findings = judge(&RULE, Some(&etcd(3)), &other(etcd(1)));
        assert_eq!(findings[0].severity, Severity::Deny);
    }

    #[rstest]
    #[case(3, 1, Some(Severity::Deny))]
    #[case(5, 2, Some(Severity::Deny))]
    #[case(2, 1, Some(Severity::Deny))]
    #[case(1, 0, Some(Severity::Deny))]
    #[case(3, 0, Some(Severity::Deny))]
    #[case(3, 2, Some(Severity::Warn))]
    #[case(5, 3, Some(Severity::Warn))]
    #[case(1, 3, Some(Severity::Warn))]
    #[case(3, 5, Some(Severity::Warn))]
    #[case(3, 3, None)]
    #[case(0, 3, None)]
    fn replicas(#[case] before: i64, #[case] after: i64, #[case] expected: Option<Severity>) {
        let findings = judge(&RULE, Some(&etcd(before)), &etcd(after));
        assert_eq!(
            findings.iter().map(|finding| finding.severity).max(),
            expected,
            "{findings:?}"
        );
        assert!(findings.len() <= 1, "{findings:?}");
    }

    #[test]
    fn an_object_that_stands_twice_in_an_input_is_one() {
        let twice = |replicas: i64| {
            etcd(replicas).object(&workload(
                "StatefulSet",
                "my-release-etcd",
                Some(replicas),
                "",
            ))
        };
        assert!(judge(&RULE, Some(&twice(1)), &twice(1)).is_empty());
        assert_eq!(judge(&RULE, Some(&twice(3)), &twice(1)).len(), 1);
        assert!(judge(&RULE, Some(&twice(3)), &etcd(3)).is_empty());
    }

    #[test]
    fn a_stopped_milvus_may_stop_its_etcd_but_not_take_its_majority() {
        let stopped = |replicas: i64| etcd(replicas).stopped();
        assert!(judge(&RULE, Some(&etcd(3)), &stopped(0)).is_empty());
        assert!(judge(&RULE, Some(&stopped(3)), &stopped(0)).is_empty());
        assert!(judge(&RULE, Some(&stopped(0)), &etcd(3)).is_empty());
        assert_eq!(
            judge(&RULE, Some(&stopped(3)), &stopped(1))[0].severity,
            Severity::Warn
        );
        assert_eq!(
            judge(&RULE, Some(&stopped(3)), &etcd(1))[0].severity,
            Severity::Deny
        );
        // One component that runs is enough.
        let one = stopped(0).replicas(Proxy, 1);
        assert_eq!(
            judge(&RULE, Some(&etcd(3)), &one)[0].severity,
            Severity::Deny
        );
    }

    const LIST: &str = "a=http://a:2380,b=http://b:2380,c=http://c:2380";

    fn raw(members: &[(&str, i64)], form: &str) -> Fixture {
        let container = form.replace("LIST", LIST);
        let add = |fixture: Fixture, (name, replicas): &(&str, i64)| {
            fixture.object(&workload("Deployment", name, Some(*replicas), &container))
        };
        members.iter().fold(Fixture::cluster("2.5.16"), add)
    }

    #[rstest]
    #[case(", env: [{name: ETCD_INITIAL_CLUSTER, value: \"LIST\"}]")]
    #[case(", args: [etcd, --initial-cluster, \"LIST\"]")]
    #[case(", command: [etcd, \"--initial-cluster=LIST\"]")]
    #[case(
        ", command: [sh, -c, \"exec etcd --name $HOSTNAME --initial-cluster LIST --data-dir /d\"]"
    )]
    fn one_workload_for_each_member(#[case] form: &str) {
        let all = raw(&[("a", 1), ("b", 1), ("c", 1)], form);
        let severity = |after: &[(&str, i64)]| {
            let findings = judge(&RULE, Some(&all), &raw(after, form));
            assert!(findings.len() <= 1, "{findings:?}");
            findings.first().map(|finding| finding.severity)
        };
        assert_eq!(severity(&[("a", 1), ("b", 1), ("c", 1)]), None);
        assert_eq!(
            severity(&[("a", 1), ("b", 1), ("c", 0)]),
            Some(Severity::Warn)
        );
        assert_eq!(severity(&[("a", 1), ("b", 1)]), Some(Severity::Warn));
        assert_eq!(
            severity(&[("a", 1), ("b", 0), ("c", 0)]),
            Some(Severity::Deny)
        );
        assert_eq!(severity(&[("a", 1)]), Some(Severity::Deny));
        let single = Fixture::cluster("2.5.16").object(&workload("Deployment", "a", Some(1), ""));
        assert_eq!(
            judge(&RULE, Some(&single), &all)[0].severity,
            Severity::Warn
        );
    }

    #[test]
    fn the_list_counts_members_that_do_not_run() {
        // Two of three run: the third is still counted, and one alone is not a majority.
        let list = format!(", env: [{{name: ETCD_INITIAL_CLUSTER, value: \"{LIST}\"}}]");
        let run = |replicas: i64| {
            Fixture::cluster("2.5.16").object(&workload(
                "StatefulSet",
                "my-release-etcd",
                Some(replicas),
                &list,
            ))
        };
        assert_eq!(
            judge(&RULE, Some(&run(2)), &run(1))[0].severity,
            Severity::Deny
        );
        let other = Fixture::cluster("2.5.16").object(&workload(
            "StatefulSet",
            "my-release-etcd",
            Some(3),
            &list.replace("a=", "z="),
        ));
        assert_eq!(
            judge(&RULE, Some(&run(3)), &other)[0].message,
            "the members of etcd my-release-etcd would have other names"
        );
    }

    #[test]
    fn replicas_that_are_no_longer_written_are_named() {
        let open = Fixture::cluster("2.5.16").object(&workload(
            "StatefulSet",
            "my-release-etcd",
            None,
            "",
        ));
        assert_eq!(
            judge(&RULE, Some(&etcd(3)), &open)[0].severity,
            Severity::Warn
        );
        assert!(judge(&RULE, Some(&etcd(1)), &open).is_empty());
        assert!(judge(&RULE, Some(&open), &open).is_empty());
    }

    #[test]
    fn an_etcd_elsewhere_or_inside_milvus_has_no_members_to_judge() {
        let external = |endpoints: &str| {
            Fixture::cluster("2.6.11").default_yaml(&format!("etcd: {{endpoints: [{endpoints}]}}"))
        };
        assert!(
            judge(
                &RULE,
                Some(&external("a:2379, b:2379, c:2379")),
                &external("a:2379")
            )
            .is_empty()
        );
        let embedded = Fixture::standalone("2.6.11").user_yaml("etcd: {use: {embed: true}}");
        assert!(judge(&RULE, Some(&embedded), &embedded).is_empty());
        // Another dependency may go to any number of pods.
        let kafka = |replicas: i64| {
            let yaml = workload("StatefulSet", "my-release-kafka", Some(replicas), "")
                .replace("etcd", "kafka");
            Fixture::cluster("2.6.11")
                .replicas(StreamingNode, 2)
                .object(&yaml)
        };
        assert!(judge(&RULE, Some(&kafka(3)), &kafka(1)).is_empty());
    }
}
