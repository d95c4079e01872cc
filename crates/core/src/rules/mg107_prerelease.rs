//! MG107: pre-releases are for trying out.

use crate::{change::Upgrade, milvus::catalogue::Situation};

use super::{
    Category, DefaultAction, Findings, Missing, Need, Rule, mg104_bad_release::NEWER_DATA,
};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG107",
    name: "prerelease",
    title: "the version is a release",
    category: Category::Version,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::After, Need::Version],
    what: "Warns about alpha, beta, rc, dev and preview builds and about nightlies of a release \
           branch. Other suffixes (-gpu, -debian-12-r0, -secure) name a build of that version and \
           are not pre-releases.",
    why: "Formats may still change between a pre-release and the release, and an upgrade path \
          between them may not exist.",
    example: "Charts 4.2.26 to 4.2.32 install v2.5.0-beta by default.",
    fix: "Use a released version.",
    sources: &["milvus#43538", "milvus-helm chart history"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some(to) = upgrade.to() else { return };
    if upgrade.from().as_ref() == Some(&to) {
        findings.not_applicable(format!("the version stays {to}"));
        return;
    }
    findings.checked();
    if to.prerelease.is_none() {
        if let Some(unknown) = upgrade.catalogue.is_unknown(to.version) {
            findings.not_evaluated(Missing::new(
                format!("{unknown}, so it is not known whether it was released"),
                NEWER_DATA,
            ));
        }
        return;
    }
    let Some(component) = upgrade
        .after
        .components
        .iter()
        .find(|component| component.version().build() == Some(&to))
    else {
        return;
    };
    let situation = Situation::after(upgrade.before, upgrade.after);
    let target = upgrade
        .catalogue
        .target(to.version.line(), upgrade.from().as_ref(), &situation);
    let what = match &to.nightly {
        Some(_) => format!(
            "{to} is a nightly build of the {} branch",
            to.version.line()
        ),
        None => format!("{to} is a pre-release"),
    };
    findings
        .warn(what)
        .on(component)
        .evidence(
            "image",
            None,
            Some(component.image().to_string()),
            Some(&component.workload.meta.origin),
        )
        .fix(target.map_or_else(
            || RULE.fix.to_owned(),
            |target| format!("Use a released version, preferably {target}."),
        ));
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    #[rstest]
    #[case("2.5.99")]
    #[case("9.9.9")]
    #[case("2.5.99-gpu")]
    fn an_unknown_version_may_be_no_release(#[case] version: &str) {
        let findings = judge(&RULE, None, &Fixture::cluster(version));
        assert!(
            findings.len() == 1
                && findings[0].not_evaluated
                && findings[0].message.contains("whether it was released"),
            "{findings:?}"
        );
    }

    #[rstest]
    #[case("v2.5.0-beta", true)]
    #[case("v2.6.0-rc1", true)]
    #[case("2.6-20260604-7aac2a2c", true)]
    #[case("v2.5.5-dev", true)]
    #[case("v2.5.5", false)]
    #[case("v2.4.13-hotfix", false)]
    #[case("v2.5.5-gpu-arm64", false)]
    #[case("v2.5.5-secure", false)]
    #[case("2.5.5-debian-12-r0", false)]
    #[case("v2.5.5-patched.1", false)]
    #[case("v2.5.5-preview", true)]
    #[case("2.5.0-dev-20241001-abcdef12", true)]
    fn tags(#[case] tag: &str, #[case] found: bool) {
        assert_eq!(
            !judge(&RULE, None, &Fixture::cluster("2.5.5").tag(tag)).is_empty(),
            found
        );
    }
}
