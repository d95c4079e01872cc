//! MG207: components need time to hand over.

use crate::{change::Upgrade, milvus::release::ComponentWorkload};

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG207",
    name: "graceful-stop",
    title: "grace periods, probes and preStop hooks are kept",
    category: Category::Topology,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[Behavior::PlannedByRun],
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Warns if the termination grace period is shortened, or if a probe or preStop hook is \
           removed.",
    why: "A query node that is killed cannot hand over its segments, and without a readiness probe \
          a rollout continues although new pods do not serve.",
    example: "terminationGracePeriodSeconds 600, set by a patch, is dropped by the next helm upgrade: 30 s remain.",
    fix: "Keep the grace period, the probes and the hooks as they are.",
    sources: &["milvus-helm#313", "milvus-helm#262", "milvus#36664"],
    check,
};

/// What Kubernetes takes where nothing is written.
const DEFAULT_GRACE: i64 = 30;

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    if upgrade.pairs().next().is_some() {
        findings.checked();
    }
    for (before, after) in upgrade.changed_pairs() {
        let grace = |component: &ComponentWorkload| {
            component
                .workload
                .pod
                .termination_grace_seconds
                .unwrap_or(DEFAULT_GRACE)
        };
        let (old, new) = (grace(before), grace(after));
        if new < old {
            findings
                .warn(format!(
                    "the termination grace period of {} would be shortened from {old} s to {new} s",
                    after.component
                ))
                .on(after)
                .evidence(
                    "terminationGracePeriodSeconds",
                    Some(old.to_string()),
                    Some(new.to_string()),
                    Some(&after.workload.meta.origin),
                );
        }
        let (Some(old), Some(new)) = (before.main(), after.main()) else {
            continue;
        };
        let removed = [
            (
                "liveness probe",
                old.probes.liveness && !new.probes.liveness,
            ),
            (
                "readiness probe",
                old.probes.readiness && !new.probes.readiness,
            ),
            ("startup probe", old.probes.startup && !new.probes.startup),
            ("preStop hook", old.pre_stop && !new.pre_stop),
        ];
        for (what, _) in removed.into_iter().filter(|(_, removed)| *removed) {
            findings
                .warn(format!(
                    "the {what} of {} would be removed",
                    after.component
                ))
                .on(after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::{
        milvus::Component::QueryNode,
        rules::testing::{Fixture, judge},
    };

    fn grace(seconds: u32) -> Fixture {
        Fixture::cluster("2.4.5").pod(
            QueryNode,
            &format!("terminationGracePeriodSeconds: {seconds}"),
        )
    }

    #[test]
    fn less_time_or_fewer_probes_warn() {
        assert_eq!(
            judge(&RULE, Some(&grace(600)), &Fixture::cluster("2.4.5")).len(),
            1
        );
        let probed = Fixture::cluster("2.4.5").container(
            QueryNode,
            "readinessProbe: {httpGet: {path: /healthz, port: 9091}}",
        );
        assert_eq!(
            judge(&RULE, Some(&probed), &Fixture::cluster("2.4.5")).len(),
            1
        );
    }

    #[test]
    fn more_time_or_other_probes_are_fine() {
        assert!(judge(&RULE, Some(&grace(30)), &grace(600)).is_empty());
        assert!(judge(&RULE, Some(&grace(30)), &Fixture::cluster("2.4.5")).is_empty());
        let http = Fixture::cluster("2.4.5").container(
            QueryNode,
            "livenessProbe: {httpGet: {path: /healthz, port: 9091}}",
        );
        let tcp = Fixture::cluster("2.4.5")
            .container(QueryNode, "livenessProbe: {tcpSocket: {port: 9091}}");
        assert!(judge(&RULE, Some(&http), &tcp).is_empty());
    }
}
