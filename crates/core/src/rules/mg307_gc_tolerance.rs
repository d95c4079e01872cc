//! MG307: garbage collection should not get sharper in the same change.

use crate::{change::Upgrade, milvus::EffectiveConfig};

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule, guarded_settings};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG307",
    name: "gc-tolerance",
    title: "garbage collection tolerances are not shortened",
    category: Category::Configuration,
    default: DefaultAction::Warn,
    data_loss: true,
    behavior: &[Behavior::ComparesSettings],
    since: "0.1.0",
    needs: &[Need::Before, Need::Config],
    what: "Warns if dataCoord.gc.missingTolerance or dropTolerance is shortened.",
    why: "During this time a wrong root path, or a restored etcd backup, can be noticed before \
          objects are deleted.",
    example: "missingTolerance 86400 becomes 600 in the same upgrade that changes the chart.",
    fix: "Shorten it after the upgrade, when the data is known to be complete.",
    sources: &["milvus#18574", "Milvus docs: dataCoord configuration"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    findings.not_applicable("the configuration does not set a garbage collection tolerance");
    for fact in upgrade
        .catalogue
        .settings
        .iter()
        .filter(|fact| fact.rule.as_deref() == Some(RULE.id))
    {
        let seconds =
            |config: &EffectiveConfig| -> Option<f64> { config.value(&fact.key)?.parse().ok() };
        if let Some(unknown) = before
            .config
            .unknown(&fact.key)
            .or_else(|| after.config.unknown(&fact.key))
        {
            findings.not_evaluated(guarded_settings::not_known(&fact.key, unknown));
            return;
        }
        let default: Option<f64> = fact
            .default
            .as_ref()
            .and_then(|default| default.parse().ok());
        // Only what is written counts: defaults of the image differ between versions in ways no
        // file shows.
        let (Some(old), Some(new)) = (seconds(&before.config).or(default), seconds(&after.config))
        else {
            continue;
        };
        findings.checked();
        if new < old {
            let (old, new) = (old.to_string(), new.to_string());
            findings
                .warn(format!(
                    "{} would be shortened from {old} s to {new} s",
                    fact.key
                ))
                .setting(
                    &fact.key,
                    (&old, before.config.get(&fact.key)),
                    (&new, after.config.get(&fact.key)),
                );
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    #[rstest]
    #[case("missingTolerance: 86400", "missingTolerance: 600", 1)]
    #[case("interval: 3600", "missingTolerance: 600", 1)]
    #[case("missingTolerance: 3600", "missingTolerance: 86400", 0)]
    #[case("missingTolerance: 86400", "missingTolerance: 86400", 0)]
    #[case("missingTolerance: 86400", "interval: 3600", 0)]
    fn tolerances(#[case] before: &str, #[case] after: &str, #[case] found: usize) {
        let run = |line: &str| {
            Fixture::cluster("2.4.5").default_yaml(&format!("dataCoord:\n  gc:\n    {line}\n"))
        };
        assert_eq!(judge(&RULE, Some(&run(before)), &run(after)).len(), found);
    }
}
