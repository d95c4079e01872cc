//! MG106: the wanted state should have one version.

use crate::change::Upgrade;

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG106",
    name: "mixed-versions",
    title: "all components have the same version",
    category: Category::Version,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[Behavior::SelfAcceptable, Behavior::PlannedByRun],
    since: "0.1.0",
    needs: &[Need::After, Need::Version],
    what: "Warns if the components of one release would run different Milvus versions after the \
           change.",
    why: "Components of different versions may run together only during a rollout. Some features \
          stay disabled, and writes can stay blocked, until the last old component is replaced.",
    example: "queryNode.image.tag was set manually in the values and was not updated together with \
              image.all.tag.",
    fix: "Give all components the same image.",
    sources: &["milvus#42082", "milvus#40532"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    if let [] | [_] = upgrade.after.components.as_slice() {
        findings.not_applicable("Milvus has one workload");
        return;
    }
    findings.checked();
    let builds = upgrade.builds_after();
    let [lowest, .., highest] = builds else {
        return;
    };
    if lowest.version == highest.version && lowest.prerelease == highest.prerelease {
        return;
    }
    let odd = upgrade.after.components.iter().find(|component| {
        component
            .version()
            .build()
            .is_some_and(|build| build.version != highest.version)
    });
    let groups = builds
        .iter()
        .map(|build| {
            let names: Vec<&str> = upgrade
                .after
                .components
                .iter()
                .filter(|component| component.version().build() == Some(build))
                .map(|component| component.component.name())
                .collect();
            format!("{build}: {}", names.join(", "))
        })
        .collect::<Vec<_>>();
    let remedy = upgrade.advice().one_version();
    let finding = findings.warn(format!(
        "components have different versions ({})",
        groups.join("; ")
    ));
    finding.remedy(remedy);
    if let Some(odd) = odd {
        finding.on(odd).evidence(
            "image",
            None,
            Some(odd.image().to_string()),
            Some(&odd.workload.meta.origin),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::{
        milvus::Component,
        rules::testing::{Fixture, judge},
    };

    #[test]
    fn one_forgotten_component_warns() {
        let findings = judge(
            &RULE,
            None,
            &Fixture::cluster("2.5.5").tag_of(Component::QueryNode, "v2.4.17"),
        );
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].message.contains("2.4.17: querynode"),
            "{}",
            findings[0].message
        );
    }

    #[test]
    fn builds_of_one_version_are_one() {
        assert!(
            judge(
                &RULE,
                None,
                &Fixture::cluster("2.5.5").tag_of(Component::QueryNode, "v2.5.5-gpu")
            )
            .is_empty()
        );
        assert!(judge(&RULE, None, &Fixture::cluster("2.5.5")).is_empty());
        let attu = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: my-release-milvus-attu\n  labels: {component: attu}\nspec:\n  selector:\n    matchLabels: {app.kubernetes.io/name: milvus, app.kubernetes.io/instance: my-release, component: attu}\n  template:\n    spec:\n      containers:\n        - {name: attu, image: \"zilliz/attu:v2.3.0\"}\n";
        assert!(judge(&RULE, None, &Fixture::cluster("2.5.5").object(attu)).is_empty());
    }
}
