//! MG504: the next upgrade reverts what was changed by hand.

use crate::{change::Upgrade, evidence::DriftFact, milvus::Release};

use super::{Category, DefaultAction, Findings, Missing, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG504",
    name: "live-drift",
    title: "the running release is the one that Helm installed",
    category: Category::Chart,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::Running, Need::Drift],
    what: "Warns if running images or the effective configuration differ from the last Helm \
           revision.",
    why: "The next helm upgrade restores the last revision: an image set with kubectl or \
          rollingUpdate.sh, or a manually enabled active-standby, is reverted on all components at \
          once.",
    example: "rollingUpdate.sh changed the images to 2.5.12; the Helm release still has 2.5.5.",
    fix: "Make the same change in the source of the release first.",
    sources: &["rollingUpdate.sh of the Milvus project"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    if before.is_operated() {
        findings.not_applicable("milvus-operator manages the release, not Helm");
        return;
    }
    let all = upgrade.facts.drift.as_deref().unwrap_or_default();
    let mine = || all.iter().filter(|drift| drift.release == before.name);
    // A list without this release is complete where it is empty. Else its own record must have been
    // read.
    if all.is_empty() || mine().next().is_some() || before.helm.is_some() {
        findings.checked();
    } else {
        findings.not_evaluated(Missing::fact(
            "the last Helm revision of this release could not be compared",
            "Use --before live with permission to read Helm's Secrets, or --facts FILE with the \
             key drift.",
        ));
    }
    let mut groups: Vec<(&DriftFact, Vec<&str>)> = Vec::new();
    let is_derived = upgrade.is_state || is_derived(before, after);
    for drift in mine().filter(|drift| is_derived || !is_kept(drift, before, after)) {
        let is_same = |other: &DriftFact| {
            other.what == drift.what && other.revision == drift.revision && other.live == drift.live
        };
        match groups.iter_mut().find(|(first, _)| is_same(first)) {
            Some((_, objects)) => objects.push(&drift.object),
            None => groups.push((drift, vec![&drift.object])),
        }
    }
    for (drift, objects) in groups {
        findings
            .warn(format!(
                "{} of {} was changed outside Helm",
                drift.what,
                objects.join(", ")
            ))
            .evidence_from(
                &drift.what,
                Some(drift.live.clone()),
                Some(drift.revision.clone()),
                "the last Helm revision",
            )
            .remedy(upgrade.advice().take_over());
    }
}

/// Whether the wanted state is the running one with another version (`check -t`): then it says
/// nothing about the source of the release.
fn is_derived(before: &Release, after: &Release) -> bool {
    let source = |release: &Release| {
        let first = release.components.first();
        first.map(|one| one.workload.meta.origin.source.clone())
    };
    source(before) == source(after)
}

/// Whether the change keeps what was changed outside Helm, so that nothing is reverted.
fn is_kept(drift: &DriftFact, before: &Release, after: &Release) -> bool {
    if drift.what == "image" {
        return images(before, &drift.object) == images(after, &drift.object);
    }
    let (old, new) = (
        before.config.get(&drift.what),
        after.config.get(&drift.what),
    );
    after.has_config() && old.map(|one| one.value) == new.map(|one| one.value)
}

/// The images of a component; `None` if the release does not have it.
fn images<'a>(release: &'a Release, object: &str) -> Option<Vec<&'a str>> {
    let mut components = release.components.iter();
    let found = components.find(|one| one.workload.meta.object.to_string() == object)?;
    let containers = &found.workload.pod.containers;
    Some(containers.iter().map(|one| &*one.image).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;

    use super::RULE;
    use crate::{
        change::Upgrade,
        evidence::{DriftFact, Facts},
        milvus::catalogue::Catalogue,
        rules,
        rules::testing::{Fixture, judge, judge_with},
    };

    fn drift() -> DriftFact {
        DriftFact {
            release: "my-release".into(),
            object: "Deployment/my-release-milvus-proxy".into(),
            what: "image".into(),
            revision: "milvusdb/milvus:v2.5.5".into(),
            live: "milvusdb/milvus:v2.5.12".into(),
        }
    }

    #[test]
    fn drift_warns_and_silence_is_named() {
        let (before, after) = (Fixture::cluster("2.5.12"), Fixture::cluster("2.5.27"));
        assert!(judge(&RULE, Some(&before), &after)[0].not_evaluated);
        let drift = drift();
        let facts = Facts {
            drift: Some(vec![drift.clone()]),
            ..Facts::default()
        };
        assert_eq!(judge_with(&RULE, Some(&before), &after, &facts).len(), 1);
        let both = Facts {
            drift: Some(vec![
                drift.clone(),
                DriftFact {
                    object: "Deployment/my-release-milvus-querynode".into(),
                    ..drift.clone()
                },
            ]),
            ..Facts::default()
        };
        let both = judge_with(&RULE, Some(&before), &after, &both);
        assert_eq!(both.len(), 1);
        assert_eq!(
            both[0].message,
            "image of Deployment/my-release-milvus-proxy, Deployment/my-release-milvus-querynode \
             was changed outside Helm"
        );
        let other = Facts {
            drift: Some(vec![DriftFact {
                release: "other".into(),
                ..drift
            }]),
            ..Facts::default()
        };
        let unknown = judge_with(&RULE, Some(&before), &after, &other);
        assert!(
            unknown.len() == 1 && unknown[0].not_evaluated,
            "no one says that this release was compared"
        );
        let with_record = before.clone().values("{}\n");
        assert!(judge_with(&RULE, Some(&with_record), &after, &other).is_empty());
        assert!(
            judge_with(
                &RULE,
                Some(&before),
                &after,
                &Facts {
                    drift: Some(vec![]),
                    ..Facts::default()
                }
            )
            .is_empty()
        );
    }

    /// A render with the running image was told to make the change that it makes.
    #[rstest]
    #[case::rendered("wanted.yaml", "2.5.12", false)]
    #[case::rendered_with_another_image("wanted.yaml", "2.5.27", true)]
    #[case::the_running_state_at_another_version("manifest.yaml", "2.5.12", true)]
    fn a_change_that_keeps_what_runs_reverts_nothing(
        #[case] source: &str,
        #[case] version: &str,
        #[case] warns: bool,
    ) {
        let before = Fixture::cluster("2.5.12").release();
        let mut after = Fixture::cluster(version).release();
        for one in &mut after.components {
            Arc::make_mut(&mut one.workload).meta.origin.source = source.into();
        }
        let drift = drift();
        let facts = Facts {
            drift: Some(vec![drift]),
            ..Facts::default()
        };
        let upgrade = Upgrade::new(Some(&before), &after, &facts, Catalogue::embedded());
        let found = rules::run(&upgrade, None).findings;
        assert_eq!(found.iter().any(|one| one.rule.id == RULE.id), warns);
    }
}
