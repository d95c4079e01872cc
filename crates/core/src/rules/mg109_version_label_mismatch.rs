//! MG109: the version label should show the running version.

use crate::{change::Upgrade, milvus::Build};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG109",
    name: "version-label-mismatch",
    title: "version labels agree with the images",
    category: Category::Version,
    default: DefaultAction::Audit,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::After],
    what: "Reports if the label app.kubernetes.io/version (the chart's appVersion) names another \
           version than the image.",
    why: "People and dashboards rely on the label. The webhook adds the label \
          guard.milvus.io/version with the version of the image.",
    example: "Chart 4.2.58 (2.5.16) with image.all.tag=v2.5.27, as the Milvus documentation \
              recommends.",
    fix: "No action is needed. If the webhook is installed, the label guard.milvus.io/version has \
          the version of the image.",
    sources: &["milvus-helm chart templates"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let wrong = upgrade.after.components.iter().find_map(|component| {
        let label = component.workload.meta.label("app.kubernetes.io/version")?;
        let said = Build::from_tag(label)?;
        let version = component.version();
        let runs = version.build()?;
        findings.checked();
        (said.version != runs.version || said.prerelease != runs.prerelease)
            .then(|| (component, label.to_owned(), runs.to_string()))
    });
    if let Some((component, label, runs)) = wrong {
        findings
            .audit(format!(
                "the label app.kubernetes.io/version is {label}, the image version is {runs}"
            ))
            .on(component)
            .evidence(
                "app.kubernetes.io/version",
                None,
                Some(label),
                Some(&component.workload.meta.origin),
            );
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    #[test]
    fn a_tag_over_an_older_chart_is_reported_once() {
        let findings = judge(
            &RULE,
            None,
            &Fixture::cluster("2.5.27").app_version("2.5.16"),
        );
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].message,
            "the label app.kubernetes.io/version is 2.5.16, the image version is 2.5.27"
        );
    }

    #[test]
    fn agreement_and_silence_are_fine() {
        assert!(judge(&RULE, None, &Fixture::cluster("2.5.16")).is_empty());
        assert!(judge(&RULE, None, &Fixture::cluster("2.5.16").tag("v2.5.16-gpu")).is_empty());
        assert!(
            judge(
                &RULE,
                None,
                &Fixture::cluster("2.5.16").app_version("latest")
            )
            .is_empty()
        );
    }
}
