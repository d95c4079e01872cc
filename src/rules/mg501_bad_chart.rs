//! MG501: some charts should be skipped.

use crate::{
    milvus::{
        catalogue::{HazardKind, Verdict},
        dependency::Family,
    },
    upgrade::Upgrade,
};

use super::{Category, DefaultAction, Findings, Need, Rule, advice::ChartPin};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG501",
    name: "bad-chart",
    title: "the chart version is a good one",
    category: Category::Chart,
    default: DefaultAction::DenyOrWarn,
    data_loss: false,
    since: "0.1.0",
    needs: &[Need::After],
    what: "Looks the chart up in the table of chart hazards: denies 4.2.21 to 4.2.29 where Pulsar v2 holds data, warns about charts \
           whose default image is a pre-release.",
    why: "Such charts mix up templates and names, or bring a version of Milvus that nobody chose.",
    example: "Chart 4.2.28 over a release with Pulsar v2.",
    fix: "Use a later chart version.",
    sources: &["milvus-helm#153", "milvus-helm#154", "milvus-helm#155"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some(chart) = &upgrade.after.chart else { return };
    if upgrade.before.and_then(|before| before.chart.as_ref()) == Some(chart) && upgrade.versions().is_none() {
        return;
    }
    let pulsar_v2 = |release: &crate::milvus::Release| release.dependencies_of(Family::PulsarV2).next().is_some();
    let has_v2 = upgrade.before.is_some_and(pulsar_v2) || pulsar_v2(upgrade.after);
    for hazard in upgrade.catalogue.hazards.iter().filter(|hazard| hazard.rule.as_deref() == Some(RULE.id)) {
        let inside = hazard.kind == HazardKind::Range && hazard.charts.as_ref().is_some_and(|charts| charts.contains(chart.version));
        let condition = hazard.when.get("queue").is_none_or(|queue| queue == "pulsar-v2" && has_v2);
        // A default image is no hazard where another one was chosen.
        let default_image = upgrade.catalogue.chart(chart.version).map(|known| known.tag.as_str());
        let about_image = hazard.id.starts_with("default-");
        let chosen = about_image && !upgrade.after.components.iter().any(|component| component.image().tag.as_deref() == default_image);
        if !inside || !condition || chosen {
            continue;
        }
        let message = format!("chart {}: {}", chart.version, hazard.effect);
        let finding = if hazard.verdict == Verdict::Deny { findings.deny(message) } else { findings.warn(message) };
        let source = upgrade.after.components.first().map(|component| &component.workload.meta.origin);
        finding.evidence(
            "chart",
            upgrade.before.and_then(|before| before.chart.as_ref()).map(|chart| chart.version.to_string()),
            Some(chart.version.to_string()),
            source,
        );
        if hazard.pin.is_empty() {
            finding.remedy(upgrade.advice().set_chart("chart 4.2.30 or later"));
        } else {
            let pins: Vec<ChartPin> = hazard.pin.iter().filter_map(|pin| ChartPin::parse(pin)).collect();
            // Another image is another change: words only.
            let mut remedy = upgrade.advice().set_values(&pins, "the image is a released one").and("Or use another chart version.");
            remedy.cure = None;
            finding.remedy(remedy);
        }
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
    #[case("4.2.28", "v2.4.17", true, Some(Severity::Deny))]
    #[case("4.2.28", "v2.4.17", false, None)]
    #[case("4.2.30", "v2.5.0-beta", true, Some(Severity::Warn))]
    #[case("4.2.30", "v2.5.27", true, None)]
    #[case("4.2.40", "v2.5.5", true, None)]
    fn charts(#[case] chart: &str, #[case] tag: &str, #[case] pulsar: bool, #[case] expected: Option<Severity>) {
        let mut after = Fixture::cluster("2.5.5").chart(chart).tag(tag);
        if pulsar {
            after = after.stateful_set("my-release-pulsar-bookie", "app: pulsar", "apachepulsar/pulsar:2.9.5");
        }
        let findings = judge(&RULE, None, &after);
        assert_eq!(findings.iter().map(|finding| finding.severity).max(), expected, "{findings:?}");
    }
}
