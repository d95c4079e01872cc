//! MG306: a change of the shared configuration restarts everything.

use crate::change::Upgrade;

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG306",
    name: "config-restarts-all",
    title: "the shared configuration stays the same",
    category: Category::Configuration,
    default: DefaultAction::Audit,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::Before, Need::Config],
    what: "Reports that the configuration changes, by the checksum in the pod template or by its content.",
    why: "Every pod has the checksum of the whole configuration, so a setting of one component \
          restarts all components at once.",
    example: "proxy.maxTaskNum is raised: eight Deployments restart.",
    fix: "Change the configuration in a separate step, at a time of low load.",
    sources: &["milvus-helm chart templates"],
    check,
};

/// Names of keys in a message before the rest is counted.
const SHOWN: usize = 5;

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else {
        return;
    };
    findings.checked();
    let changes = [
        after.config.file_changes(&before.config),
        before.config.file_changes(&after.config),
    ];
    let mut keys: Vec<&str> = changes
        .iter()
        .flatten()
        .map(|setting| setting.key)
        .collect();
    if keys.is_empty() {
        return;
    }
    keys.sort_unstable();
    keys.dedup();
    let shown = keys
        .iter()
        .take(SHOWN)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    let rest = keys.len().saturating_sub(SHOWN);
    let rest = if rest == 0 {
        String::new()
    } else {
        format!(" and {rest} more")
    };
    let change = if keys.len() == 1 {
        "1 setting changes".to_owned()
    } else {
        format!("{} settings change", keys.len())
    };
    let restart = match after.components.len() {
        1 => "the workload of Milvus restarts".to_owned(),
        many => format!("all {many} workloads of Milvus restart"),
    };
    findings.audit(format!("{change} ({shown}{rest}), so {restart}"));
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    #[test]
    fn one_setting_restarts_all() {
        let run = |yaml: &str| Fixture::cluster("2.4.5").default_yaml(yaml);
        let findings = judge(
            &RULE,
            Some(&run("proxy: {maxTaskNum: 1}")),
            &run("proxy: {maxTaskNum: 2}"),
        );
        assert_eq!(
            findings[0].message,
            "1 setting changes (proxy.maxTaskNum), so all 8 workloads of Milvus restart"
        );
        assert!(judge(&RULE, Some(&run("a: 1\nb: 2")), &run("b: 2\na: 1")).is_empty());
    }
}
