//! MG503: values that the new chart no longer reads.

use crate::{
    manifest::{Tree, node::Kind},
    milvus::{Release, catalogue::Danger},
    upgrade::Upgrade,
};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG503",
    name: "removed-values",
    title: "no Helm value is silently ignored",
    category: Category::Chart,
    default: DefaultAction::DenyOrWarn,
    data_loss: true,
    since: "0.1.0",
    needs: &[Need::Before, Need::Values],
    what: "Where a chart up to 3.x is followed by 4.0.0 or later, looks for user values that the new chart ignores. The \
           values come from Helm's storage (release:NAME, a release Secret, a live cluster); without them it says so.",
    why: "A root path, channel prefix or authorization that is silently ignored falls back to its default: an empty database, \
          other channels, or a database open to everybody.",
    example: "metadata.rootPath=prod with chart 3.2.18, upgraded to 4.0.31.",
    fix: "Set the same values under the keys of Milvus' own configuration.",
    sources: &["milvus-helm README", "milvus-helm values 3.3.6 to 4.0.0"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else { return };
    let boundary = upgrade.catalogue.hazards.iter().find(|hazard| hazard.rule.as_deref() == Some(RULE.id)).and_then(|hazard| hazard.at);
    let (Some(boundary), Some(from), Some(to)) = (boundary, &before.chart, &after.chart) else { return };
    if from.version >= boundary || to.version < boundary {
        return;
    }
    let values: Vec<&Tree<'_>> =
        [before, after].into_iter().filter_map(|release: &Release| release.helm.as_ref()).map(|helm| &helm.user_values).collect();
    let rows = || upgrade.catalogue.removed_values.iter();
    if values.is_empty() {
        findings.not_evaluated("the user's Helm values are not known");
        return;
    }
    let set: Vec<_> = rows()
        .filter(|row| values.iter().any(|values| is_set(values, &row.path)))
        .filter(|row| {
            // What the wanted configuration says with the same value was moved already.
            row.became.as_ref().is_none_or(|key| before.config.value(key).is_none() || after.config.value(key) != before.config.value(key))
        })
        .collect();
    for row in set.iter().filter(|row| row.danger != Danger::Tuning) {
        let key = row.became.clone().unwrap_or_default();
        findings
            .deny(format!("chart {} ignores the value {} that is set", to.version, row.path))
            .evidence("value", Some(format!("{} is set", row.path)), Some("ignored".into()), None)
            .remedy(upgrade.advice().configure(&[(&key, "(the same value)")]));
    }
    let tuning: Vec<&str> = set.iter().filter(|row| row.danger == Danger::Tuning).map(|row| row.path.as_str()).collect();
    if !tuning.is_empty() {
        findings
            .warn(format!("chart {} ignores {} values that are set: {}", to.version, tuning.len(), tuning.join(", ")))
            .because("Milvus then runs with its defaults for them.");
    }
}

/// Whether a dotted path, or anything below it, is set.
fn is_set(values: &Tree<'_>, path: &str) -> bool {
    let mut node = values;
    for key in path.split('.') {
        match node.get(key) {
            Some(next) => node = next,
            None => return false,
        }
    }
    match &node.kind {
        Kind::Mapping(entries) => !entries.is_empty(),
        Kind::Sequence(items) => !items.is_empty(),
        Kind::Scalar { .. } => !node.is_null(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::{
        Severity,
        testing::{Fixture, judge},
    };

    #[rstest]
    #[case("metadata: {rootPath: prod}", Some(Severity::Deny))]
    #[case("msgChannel: {chanNamePrefix: {cluster: prod}}", Some(Severity::Deny))]
    #[case("authorization: {enabled: true}", Some(Severity::Deny))]
    #[case("queryNode: {segcore: {chunkRows: 1}}", Some(Severity::Warn))]
    #[case("queryNode: {replicas: 3}", None)]
    #[case("metadata: {}", None)]
    fn removed(#[case] values: &str, #[case] expected: Option<Severity>) {
        let before = Fixture::cluster("2.1.4").chart("3.2.18").values(values);
        let findings = judge(&RULE, Some(&before), &Fixture::cluster("2.2.13").chart("4.0.31"));
        assert_eq!(findings.iter().map(|finding| finding.severity).max(), expected);
        assert!(findings.iter().all(|finding| !finding.message.contains("prod")), "values stay in the process");
    }

    #[test]
    fn moved_values_and_other_charts_are_fine() {
        let values = "metadata: {rootPath: prod}";
        let before = Fixture::cluster("2.1.4").chart("3.2.18").values(values).default_yaml("etcd: {rootPath: prod}");
        let after = Fixture::cluster("2.2.13").chart("4.0.31").user_yaml("etcd: {rootPath: prod}");
        assert!(judge(&RULE, Some(&before), &after).is_empty());
        let before = Fixture::cluster("2.2.13").chart("4.0.31").values(values);
        assert!(judge(&RULE, Some(&before), &Fixture::cluster("2.3.22").chart("4.1.24")).is_empty());
    }
}
