//! MG705: the new layout needs the room that it takes.

use crate::{
    change::Upgrade,
    evidence::RoomFact,
    manifest::{
        object::{Amounts, Container, Resources, VolumeSource, Workload},
        quantity,
    },
    milvus::{Component, ImageRef, Release, Topology, Version, release::ComponentWorkload},
};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG705",
    name: "capacity",
    title: "no component has too few resources for its work",
    category: Category::Cluster,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::Before],
    what: "On an upgrade to 2.6, compares the data nodes' replicas, CPU and memory with those of \
           the index nodes whose work they take over, and the limits of new streaming nodes with \
           the smallest recommended size. Warns if a rollout starts a second pod on a volume that \
           only one pod may mount, and if a quota or the nodes do not have enough free resources \
           for the additional pods (facts: `room`).",
    why: "Data nodes with the previous size run out of memory when they build indexes, and \
          streaming nodes with too few resources stop writes.",
    example: "Index nodes had 16Gi of memory, data nodes keep 4Gi.",
    fix: "Give the data nodes at least what the index nodes had, and the streaming nodes what the query nodes have under heavy writes.",
    sources: &[
        "milvus#43036",
        "milvus#37665",
        "milvus#27591",
        "milvus-operator#217",
        "Milvus blog 2025-12-25 on 2.5 to 2.6",
    ],
    check,
};

/// The first release in which data nodes build indexes and streaming nodes write.
const MERGED: Version = Version::new(2, 6, 0);
/// What a streaming node needs for light writes, in thousandths of a CPU and in bytes.
const SMALLEST_STREAMING_NODE: Amounts = Amounts {
    cpu: Some(2000),
    memory: Some(8 << 30),
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    shared_volumes(upgrade, after, findings);
    room(upgrade, findings);
    let crosses = upgrade.from_version().is_some_and(|from| from < MERGED)
        && upgrade.to_version().is_some_and(|to| to >= MERGED);
    if crosses && after.topology() == Topology::Cluster {
        findings.checked();
        data_nodes(before, after, findings);
        streaming_nodes(before, after, findings);
    }
}

/// Additional resources that the change needs at its peak: pods that are added, and the pods of the
/// largest roll that start before the old ones end. Pods that go free their room later.
fn room(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    let mut needed = Needed::default();
    let mut surge = Needed::default();
    for new in &after.components {
        let name = &new.workload.meta.object.name;
        let old = before
            .of(new.component)
            .find(|old| old.workload.meta.object.name == *name);
        let pods = |component: &ComponentWorkload| {
            u64::try_from(component.workload.wanted_replicas()).unwrap_or(0)
        };
        let (had, has) = (old.map_or(0, pods), pods(new));
        needed.add(new, has.saturating_sub(had));
        let rolls = old.is_some_and(|old| old.workload.pod != new.workload.pod)
            && new.workload.meta.object.kind == "Deployment"
            && new.workload.strategy.as_deref() != Some("Recreate");
        if rolls && had > 0 {
            // A quarter more, rounded up, as Kubernetes does where nothing else is said.
            let mut own = Needed::default();
            own.add(new, has.div_ceil(4));
            surge = surge.larger(own);
        }
    }
    let needed = needed.plus(surge);
    let here = |fact: &&RoomFact| {
        fact.namespace.is_none()
            || after.namespace.is_none()
            || fact.namespace.as_deref() == after.namespace.as_deref()
    };
    for fact in upgrade.facts.room.iter().flatten().filter(here) {
        let cpu = fact.cpu.as_deref().and_then(quantity::thousandths);
        let memory = fact
            .memory
            .as_deref()
            .and_then(quantity::thousandths)
            .map(|amount| amount / 1000);
        let mut short = Vec::new();
        for (what, needed, left, show) in [
            (
                "memory",
                needed.memory,
                memory,
                quantity::bytes as fn(u64) -> String,
            ),
            ("CPU", needed.cpu, cpu, quantity::cpu as fn(u64) -> String),
            ("pods", needed.pods, fact.pods, |amount| amount.to_string()),
        ] {
            if let Some(left) = left.filter(|left| *left < needed) {
                short.push((what, show(needed), show(left)));
            }
        }
        if short.is_empty() {
            continue;
        }
        let words = short
            .iter()
            .map(|(what, needed, left)| format!("{what} {needed}, but only {left} is free"))
            .collect::<Vec<_>>()
            .join("; ");
        let finding = findings.warn(format!(
            "the change temporarily needs at least {words} ({})",
            fact.bound
        ));
        finding
            .because("Pods that cannot be scheduled stay pending, and the rollout stops.")
            .fix(
                "Free resources first: raise the quota, add nodes, or scale other workloads \
                  down.",
            );
        for (what, needed, left) in short {
            finding.evidence_from(
                what,
                Some(format!("{left} left")),
                Some(format!("{needed} needed")),
                &fact.bound,
            );
        }
    }
}

/// Requests of pods, added up. A container without requests counts as zero.
#[derive(Clone, Copy, Default)]
struct Needed {
    pods: u64,
    cpu: u64,
    memory: u64,
}

impl Needed {
    fn add(&mut self, component: &ComponentWorkload, pods: u64) {
        self.pods = self.pods.saturating_add(pods);
        for container in &component.workload.pod.containers {
            let Resources { requests, limits } = container.resources;
            let of = |request: Option<u64>, limit: Option<u64>| {
                request.or(limit).unwrap_or(0).saturating_mul(pods)
            };
            self.cpu = self.cpu.saturating_add(of(requests.cpu, limits.cpu));
            self.memory = self
                .memory
                .saturating_add(of(requests.memory, limits.memory));
        }
    }

    fn larger(self, other: Self) -> Self {
        Self {
            pods: self.pods.max(other.pods),
            cpu: self.cpu.max(other.cpu),
            memory: self.memory.max(other.memory),
        }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            pods: self.pods.saturating_add(other.pods),
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
        }
    }
}

fn data_nodes(before: &Release, after: &Release, findings: &mut Findings) {
    let index_nodes: Vec<&ComponentWorkload> = before
        .of(Component::IndexNode)
        .filter(|node| node.is_running())
        .collect();
    let data_nodes: Vec<&ComponentWorkload> = after
        .of(Component::DataNode)
        .filter(|node| node.is_running())
        .collect();
    let (Some(index), Some(data)) = (index_nodes.first(), data_nodes.first()) else {
        return;
    };
    let mut short = Vec::new();
    let (had, has) = (largest(&index_nodes), smallest(&data_nodes));
    // Without a limit a pod may use what its node has.
    for (what, had, has, show) in [
        (
            "memory",
            had.memory,
            has.memory,
            quantity::bytes as fn(u64) -> String,
        ),
        ("CPU", had.cpu, has.cpu, quantity::cpu as fn(u64) -> String),
    ] {
        match (had, has) {
            (Some(had), Some(has)) if has < had => short.push((what, show(had), show(has))),
            (None, Some(has)) => short.push((what, "no limit".to_owned(), show(has))),
            _ => {}
        }
    }
    // An autoscaler may own replicas that no one writes.
    let counted = |nodes: &[&ComponentWorkload]| {
        nodes
            .iter()
            .map(|node| node.workload.replicas)
            .sum::<Option<i64>>()
    };
    if let (Some(had), Some(has)) = (counted(&index_nodes), counted(&data_nodes))
        && has < had
    {
        short.push(("replicas", had.to_string(), has.to_string()));
    }
    if short.is_empty() {
        return;
    }
    let words = short
        .iter()
        .map(|(what, had, has)| format!("{what} {has} instead of {had}"))
        .collect::<Vec<_>>()
        .join(", ");
    let finding = findings.warn(format!(
        "data nodes take over the work of the index nodes and would have less: {words}"
    ));
    finding.on(data);
    for (what, had, has) in short {
        let source = format!(
            "{} and {}",
            index.workload.meta.object, data.workload.meta.object
        );
        finding.evidence_from(what, Some(had), Some(has), &source);
    }
}

fn streaming_nodes(before: &Release, after: &Release, findings: &mut Findings) {
    if before.has(Component::StreamingNode) {
        return;
    }
    let nodes: Vec<&ComponentWorkload> = after
        .of(Component::StreamingNode)
        .filter(|node| node.is_running())
        .collect();
    let Some(first) = nodes.first() else { return };
    let has = smallest(&nodes);
    let mut short = Vec::new();
    if let (Some(has), Some(least)) = (has.memory, SMALLEST_STREAMING_NODE.memory)
        && has < least
    {
        short.push(format!(
            "memory {} of {}",
            quantity::bytes(has),
            quantity::bytes(least)
        ));
    }
    if let (Some(has), Some(least)) = (has.cpu, SMALLEST_STREAMING_NODE.cpu)
        && has < least
    {
        short.push(format!(
            "CPU {} of {}",
            quantity::cpu(has),
            quantity::cpu(least)
        ));
    }
    if !short.is_empty() {
        findings
            .warn(format!("streaming nodes would have less than the smallest recommended size: {}", short.join(", ")))
            .because("Every write passes through the streaming nodes. A node that runs out of \
                      memory stops the writes of its channels.")
            .on(first)
            .fix("Give streaming nodes 2 CPUs and 8Gi for light writes, and what the query nodes have for heavy ones.");
    }
}

/// A roll that starts the new pod before the old one ends needs a volume that both can mount.
fn shared_volumes(upgrade: &Upgrade<'_>, after: &Release, findings: &mut Findings) {
    for (old, new) in upgrade.changed_pairs() {
        let workload = &*new.workload;
        let surges = workload.meta.object.kind == "Deployment"
            && !matches!(workload.strategy.as_deref(), Some("Recreate"))
            && workload.wanted_replicas() > 0
            && old.is_running()
            && old.workload.pod != workload.pod;
        if !surges {
            continue;
        }
        let Some(claim) = single_writer_claim(workload, after) else {
            continue;
        };
        findings.checked();
        findings
            .warn(format!(
                "the rollout of {} starts a second pod, but the volume of claim {claim} can be \
                 mounted on one node only",
                workload.meta.object
            ))
            .because(
                "On another node the new pod cannot mount the volume. On the same node two \
                      processes write to the same directory.",
            )
            .on(new)
            .evidence(
                "strategy",
                None,
                Some(
                    workload
                        .strategy
                        .clone()
                        .unwrap_or_else(|| "RollingUpdate (default)".to_owned()),
                ),
                Some(&workload.meta.origin),
            )
            .fix("Set the strategy of the workload to Recreate.");
    }
}

fn single_writer_claim<'a>(workload: &'a Workload, release: &Release) -> Option<&'a str> {
    workload.pod.volumes.iter().find_map(|volume| {
        let VolumeSource::Claim(name) = &volume.source else {
            return None;
        };
        let claim = release
            .claims
            .iter()
            .find(|claim| claim.meta.object.name == *name)?;
        let single = claim
            .access_modes
            .iter()
            .any(|mode| matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod"));
        let many = claim
            .access_modes
            .iter()
            .any(|mode| mode == "ReadWriteMany");
        (single && !many).then_some(name.as_str())
    })
}

/// What the container of Milvus may use: its limit. `None` means no limit.
fn limits(component: &ComponentWorkload) -> Amounts {
    let image = component.image();
    let own = |container: &&Container| ImageRef::parse(&container.image) == image;
    component
        .workload
        .pod
        .containers
        .iter()
        .find(own)
        .map(|container| container.resources.limits)
        .unwrap_or_default()
}

/// The largest limits; `None` where one has no limit.
fn largest(nodes: &[&ComponentWorkload]) -> Amounts {
    let of = |pick: fn(Amounts) -> Option<u64>| {
        let amounts: Option<Vec<u64>> = nodes.iter().map(|node| pick(limits(node))).collect();
        amounts.and_then(|amounts| amounts.into_iter().max())
    };
    Amounts {
        cpu: of(|amounts| amounts.cpu),
        memory: of(|amounts| amounts.memory),
    }
}

/// The smallest limits; `None` where none has a limit.
fn smallest(nodes: &[&ComponentWorkload]) -> Amounts {
    let of =
        |pick: fn(Amounts) -> Option<u64>| nodes.iter().filter_map(|node| pick(limits(node))).min();
    Amounts {
        cpu: of(|amounts| amounts.cpu),
        memory: of(|amounts| amounts.memory),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        evidence::{Facts, RoomFact},
        milvus::Component::{self, DataNode, IndexNode, QueryNode, Standalone, StreamingNode},
        rules::testing::{Fixture, judge, judge_with},
    };

    fn limited(fixture: Fixture, component: Component, limits: &str) -> Fixture {
        if limits.is_empty() {
            fixture
        } else {
            fixture.container(component, &format!("resources: {{limits: {{{limits}}}}}"))
        }
    }

    #[rstest]
    #[case(
        "memory: 16Gi",
        1,
        "memory: 4Gi",
        1,
        Some("memory 4Gi instead of 16Gi")
    )]
    #[case(
        "cpu: 4, memory: 4Gi",
        1,
        "cpu: 500m, memory: 4Gi",
        1,
        Some("CPU 500m instead of 4")
    )]
    #[case("memory: 4Gi", 4, "memory: 4Gi", 2, Some("replicas 2 instead of 4"))]
    #[case("", 1, "memory: 4Gi", 1, Some("memory 4Gi instead of no limit"))]
    #[case("memory: 4Gi", 1, "memory: 4096Mi", 1, None)]
    #[case("memory: 4Gi", 1, "memory: 8Gi", 2, None)]
    #[case("memory: 16Gi", 1, "", 1, None)]
    #[case("", 1, "", 1, None)]
    fn data_nodes_need_what_index_nodes_had(
        #[case] had: &str,
        #[case] replicas: i64,
        #[case] has: &str,
        #[case] now: i64,
        #[case] expected: Option<&str>,
    ) {
        let before = limited(
            Fixture::cluster("2.5.27").replicas(IndexNode, replicas),
            IndexNode,
            had,
        );
        let after = limited(
            Fixture::cluster("2.6.22").replicas(DataNode, now),
            DataNode,
            has,
        );
        let found = judge(&RULE, Some(&before), &after);
        assert_eq!(
            found
                .first()
                .map(|finding| finding.message.split("less: ").nth(1).unwrap().to_owned())
                .as_deref(),
            expected
        );
        // Within a line nothing is taken over.
        let within = limited(
            Fixture::cluster("2.6.24").replicas(DataNode, now),
            DataNode,
            has,
        );
        assert!(judge(&RULE, Some(&after), &within).is_empty());
    }

    #[test]
    fn index_nodes_that_do_not_run_have_no_work_to_take_over() {
        let before =
            limited(Fixture::cluster("2.5.27"), IndexNode, "memory: 16Gi").replicas(IndexNode, 0);
        assert!(
            judge(
                &RULE,
                Some(&before),
                &limited(Fixture::cluster("2.6.22"), DataNode, "memory: 4Gi")
            )
            .is_empty()
        );
    }

    #[rstest]
    #[case("memory: 4Gi", 1)]
    #[case("cpu: 1", 1)]
    #[case("cpu: 2, memory: 8Gi", 0)]
    #[case("", 0)]
    fn streaming_nodes_need_room(#[case] limits: &str, #[case] found: usize) {
        let after = limited(Fixture::cluster("2.6.22"), StreamingNode, limits);
        assert_eq!(
            judge(&RULE, Some(&Fixture::cluster("2.5.27")), &after).len(),
            found
        );
        assert!(
            judge(
                &RULE,
                Some(&limited(Fixture::cluster("2.6.11"), StreamingNode, limits)),
                &after
            )
            .is_empty()
        );
    }

    fn standalone(version: &str, claim: &str, modes: &str, strategy: &str) -> Fixture {
        let yaml = format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {claim}, labels: {{app.kubernetes.io/instance: my-release}}}}\nspec: {{accessModes: [{modes}]}}\n"
        );
        let workload = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: my-release-milvus-standalone}}\nspec:\n{strategy}  selector:\n    matchLabels: {{app.kubernetes.io/name: milvus, app.kubernetes.io/instance: my-release, component: standalone}}\n  template:\n    spec:\n      containers: [{{name: standalone, image: \"milvusdb/milvus:v{version}\", args: [milvus, run, standalone]}}]\n      volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]\n"
        );
        Fixture::standalone(version)
            .without(Standalone)
            .object(&yaml)
            .object(&workload)
    }

    #[rstest]
    #[case("data", "ReadWriteOnce", "", 1)]
    #[case("data", "ReadWriteOnce", "  strategy: {type: RollingUpdate}\n", 1)]
    #[case("data", "ReadWriteOnce", "  strategy: {type: Recreate}\n", 0)]
    #[case("data", "ReadWriteMany", "", 0)]
    #[case("other", "ReadWriteOnce", "", 0)]
    fn a_surge_needs_a_volume_for_two(
        #[case] claim: &str,
        #[case] modes: &str,
        #[case] strategy: &str,
        #[case] found: usize,
    ) {
        let run = |version: &str| standalone(version, claim, modes, strategy);
        assert_eq!(
            judge(&RULE, Some(&run("2.5.16")), &run("2.5.27")).len(),
            found
        );
        assert!(judge(&RULE, Some(&run("2.5.16")), &run("2.5.16")).is_empty());
    }

    #[rstest]
    #[case("2.6.22", RoomFact { memory: Some("8Gi".into()), ..quota() }, 1)]
    #[case("2.6.22", RoomFact { memory: Some("12Gi".into()), ..quota() }, 0)]
    #[case("2.6.22", RoomFact { cpu: Some("500m".into()), ..quota() }, 1)]
    #[case("2.6.22", RoomFact { pods: Some(1), ..quota() }, 1)]
    #[case("2.6.22", RoomFact { pods: Some(2), ..quota() }, 0)]
    #[case("2.6.22", RoomFact { pods: Some(0), namespace: Some("other".into()), ..quota() }, 0)]
    #[case("2.6.22", RoomFact { memory: Some("much".into()), ..quota() }, 0)]
    #[case("2.5.27", RoomFact { memory: Some("2Gi".into()), ..quota() }, 1)]
    #[case("2.5.16", RoomFact { memory: Some("0".into()), pods: Some(0), ..quota() }, 0)]
    fn more_pods_need_room(#[case] to: &str, #[case] room: RoomFact, #[case] found: usize) {
        let sized = |version: &str| {
            let fixture = limited(Fixture::cluster(version), QueryNode, "cpu: 1, memory: 4Gi");
            if version.starts_with("2.6") {
                limited(fixture, StreamingNode, "cpu: 2, memory: 8Gi")
            } else {
                fixture
            }
        };
        let facts = Facts {
            room: Some(vec![room]),
            ..Facts::default()
        };
        let findings = judge_with(&RULE, Some(&sized("2.5.16")), &sized(to), &facts);
        assert_eq!(findings.len(), found, "{findings:?}");
    }

    fn quota() -> RoomFact {
        RoomFact {
            namespace: None,
            bound: "ResourceQuota/compute".into(),
            memory: None,
            cpu: None,
            pods: None,
        }
    }
}
