//! MG502: chart 5 turns a standalone's RocksMQ into Woodpecker if it cannot look up the running
//! Deployment.

use crate::{
    change::Upgrade,
    milvus::{Topology, Version, catalogue::Hazard, settings::QueueKind},
};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG502",
    name: "queue-default-flip",
    title: "chart defaults do not change the message queue of a standalone",
    category: Category::Chart,
    default: DefaultAction::Deny,
    data_loss: true,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::Before, Need::Chart, Need::Config],
    what: "Denies charts from 5.0.0 on that configure Woodpecker for a standalone whose data is in \
           RocksMQ.",
    why: "The chart keeps RocksMQ only if it can look up the running Deployment. In helm template, \
          Argo CD and client dry runs it cannot, so it changes the queue. The same change \
          overwrites the annotation that records the old queue.",
    example: "Argo CD syncs chart 5.0.14 to a standalone that was installed with 4.2.40.",
    fix: "Set the queue explicitly.",
    sources: &["milvus-helm#252", "milvus#44486"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    if after.manager.is_bitnami() {
        findings.not_applicable("the rule applies to the Milvus project's chart, not to Bitnami's");
        return;
    }
    let flip = upgrade
        .catalogue
        .hazards
        .iter()
        .find(|hazard| hazard.rule.as_deref() == Some(RULE.id));
    let Some(since): Option<Version> = flip.and_then(|flip: &Hazard| flip.at) else {
        return;
    };
    let Some(chart) = after.chart.as_ref().filter(|chart| chart.version >= since) else {
        findings.not_applicable(format!(
            "the chart is older than {since}, the first one that changes the queue"
        ));
        return;
    };
    let (old, new) = (before.queue(), after.queue());
    if before.topology() == Topology::Standalone
        && after.topology() == Topology::Standalone
        && old.kind.value == QueueKind::RocksMq
    {
        findings.checked();
    } else {
        findings.not_applicable("the rule is only for a standalone on RocksMQ");
    }
    // MG301 judges a queue that is set explicitly: it is not the default.
    let is_named = upgrade
        .advice()
        .is_set("standalone.messageQueue", "woodpecker")
        || new.kind.setting.is_some_and(|setting| {
            let mut views = after.located();
            views.any(|located| !located.upper_places(setting.key).is_empty())
        });
    if before.topology() == Topology::Standalone
        && after.topology() == Topology::Standalone
        && old.kind.value == QueueKind::RocksMq
        && new.kind.value == QueueKind::Woodpecker
        && !is_named
    {
        findings
            .deny(format!(
                "chart {} would change the queue of the standalone from rocksmq to woodpecker by \
                 default",
                chart.version
            ))
            .setting(
                "standalone.messageQueue",
                ("rocksmq", old.kind.setting),
                ("woodpecker", new.kind.setting),
            )
            .remedy(upgrade.advice().keep_queue());
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    fn run(version: &str, chart: &str, queue: &str) -> Fixture {
        Fixture::standalone(version)
            .chart(chart)
            .default_yaml(&format!("mq: {{type: {queue}}}\nmessageQueue: {queue}\n"))
    }

    #[test]
    fn the_flip_is_denied() {
        let findings = judge(
            &RULE,
            Some(&run("2.5.5", "4.2.40", "rocksmq")),
            &run("2.6.11", "5.0.14", "woodpecker"),
        );
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0]
                .fix
                .text
                .contains("standalone.messageQueue=rocksmq"),
            "{:?}",
            findings[0].fix
        );
        assert_eq!(
            findings[0].fix.command, None,
            "the user's values are not known"
        );
    }

    #[test]
    fn a_kept_or_old_woodpecker_is_fine() {
        assert!(
            judge(
                &RULE,
                Some(&run("2.5.5", "4.2.40", "rocksmq")),
                &run("2.6.11", "5.0.14", "rocksmq")
            )
            .is_empty()
        );
        assert!(
            judge(
                &RULE,
                Some(&run("2.6.9", "5.0.12", "woodpecker")),
                &run("2.6.11", "5.0.14", "woodpecker")
            )
            .is_empty()
        );
        assert!(judge(&RULE, None, &run("2.6.11", "5.0.14", "woodpecker")).is_empty());
    }
}
