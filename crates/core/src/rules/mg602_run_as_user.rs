//! MG602: images before 3.0 run as root only.

use crate::{
    change::Upgrade,
    milvus::{Version, release::ComponentWorkload},
};

use super::{Category, DefaultAction, Findings, Missing, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG602",
    name: "run-as-user",
    title: "the image can run as the user that is set",
    category: Category::Image,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::After],
    what: "Warns about a non-zero runAsUser on images before 3.0.",
    why: "In images before 3.0 only root may execute the programs. The container stops with \
          'permission denied'.",
    example: "runAsUser: 1000 with milvusdb/milvus:v2.6.1.",
    fix: "Do not set runAsUser until the image is 3.0 or later.",
    sources: &["caipe-io#2746"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    findings.not_applicable("no component sets runAsUser");
    for component in &upgrade.after.components {
        let user = user(component);
        let version = component.version();
        let Some(number) = user else { continue };
        let Some(build) = version.build() else {
            findings.not_evaluated(Missing::new(
                format!("{} sets runAsUser, and the version of its image cannot be read", component.component),
                "Use a tag that names a release, or set the annotation guard.milvus.io/declared-version on the workload.",
            ));
            continue;
        };
        findings.checked();
        let unchanged = upgrade.pairs().any(|(old, new)| {
            std::ptr::eq(new, component)
                && self::user(old) == user
                && old.version() == new.version()
        });
        if number != 0
            && !has_a_user(component)
            && build.version < Version::new(3, 0, 0)
            && !unchanged
        {
            findings
                .warn(format!(
                    "{} would run as user {number}, which {build} does not support",
                    component.component
                ))
                .on(component);
            return;
        }
    }
}

/// Whether the image is made for a separate user: bitnami's are, in every version
/// (bitnami/charts, milvus: `runAsUser: 1001`).
fn has_a_user(component: &ComponentWorkload) -> bool {
    component
        .image()
        .repository
        .split('/')
        .any(|part| matches!(part, "bitnami" | "bitnamilegacy" | "bitnamisecure"))
}

/// The user that the container of Milvus runs as; what the pod says counts where the container says
/// nothing.
fn user(component: &ComponentWorkload) -> Option<i64> {
    component
        .main()
        .and_then(|container| container.run_as_user)
        .or(component.workload.pod.run_as_user)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        milvus::Component::Standalone,
        rules::testing::{Fixture, judge},
    };

    #[rstest]
    #[case("2.6.1", "securityContext: {runAsUser: 1000}", 1)]
    #[case("2.6.1", "securityContext: {runAsUser: 0}", 0)]
    #[case("3.0.2", "securityContext: {runAsUser: 1000}", 0)]
    #[case("2.6.1", "securityContext: {fsGroup: 1000}", 0)]
    fn users(#[case] version: &str, #[case] pod: &str, #[case] found: usize) {
        assert_eq!(
            judge(
                &RULE,
                None,
                &Fixture::standalone(version).pod(Standalone, pod)
            )
            .len(),
            found
        );
    }
}
