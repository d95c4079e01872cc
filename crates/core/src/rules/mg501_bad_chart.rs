//! MG501: some charts should be skipped.

use crate::{
    change::Upgrade,
    milvus::{
        Range, Release, Version,
        catalogue::{Hazard, HazardKind, Verdict},
        dependency::Family,
        settings::QueueKind,
    },
};

use super::{
    Category, DefaultAction, Findings, Need, Rule, advice::ChartPin,
    mg505_chart_image_mismatch::has_unmerged,
};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG501",
    name: "bad-chart",
    title: "the chart version has no known defects",
    category: Category::Chart,
    default: DefaultAction::DenyOrWarn,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::After, Need::Chart],
    what: "Looks up the chart in the table of chart hazards: denies 4.2.21 to 4.2.29 if Pulsar v2 \
           contains data, and Woodpecker as a separate service with images below 3.0 or in the \
           same change as the upgrade to 3.0; warns about charts whose default image is a \
           pre-release, and about an upgrade past chart 4.2.0 with an image below 2.4.",
    why: "Such charts render wrong names, install a Milvus version that was not chosen, or render a \
          configuration that Milvus cannot use.",
    example: "Upgrade of a release with Pulsar v2 to chart 4.2.28.",
    fix: "Use a later chart version.",
    sources: &[
        "milvus-helm#153",
        "milvus-helm#154",
        "milvus-helm#155",
        "woodpecker#216",
        "milvus#50201",
        "milvus-docs#3539",
    ],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    woodpecker(upgrade, findings);
    if upgrade.after.manager.is_bitnami() {
        findings.not_applicable("the rule applies to the Milvus project's chart, not to Bitnami's");
        return;
    }
    let Some(chart) = &upgrade.after.chart else {
        return;
    };
    if upgrade.before.and_then(|before| before.chart.as_ref()) == Some(chart)
        && upgrade.versions().is_none()
    {
        findings.not_applicable(format!(
            "the chart stays {} and the version stays too",
            chart.version
        ));
        return;
    }
    findings.checked();
    let pulsar_v2 = |release: &Release| release.dependencies_of(Family::PulsarV2).next().is_some();
    let has_v2 = upgrade.before.is_some_and(pulsar_v2) || pulsar_v2(upgrade.after);
    for hazard in rows(upgrade).filter(|hazard| !hazard.when.contains_key(WOODPECKER)) {
        let inside = match hazard.kind {
            HazardKind::Range => hazard
                .charts
                .as_ref()
                .is_some_and(|charts| charts.contains(chart.version)),
            HazardKind::Boundary => crosses(upgrade, hazard),
        };
        let condition = hazard
            .when
            .get("queue")
            .is_none_or(|queue| queue == "pulsar-v2" && has_v2);
        // A default image is not a hazard where another one was chosen.
        let default_image = upgrade
            .catalogue
            .chart(chart.version)
            .map(|known| known.tag.as_str());
        let about_image = hazard.id.starts_with("default-");
        let chosen = about_image
            && !upgrade
                .after
                .components
                .iter()
                .any(|component| component.image().tag.as_deref() == default_image);
        if !inside || !condition || chosen {
            continue;
        }
        let message = format!("chart {}: {}", chart.version, hazard.effect);
        let finding = if hazard.verdict == Verdict::Deny {
            findings.deny(message)
        } else {
            findings.warn(message)
        };
        let source = upgrade
            .after
            .components
            .first()
            .map(|component| &component.workload.meta.origin);
        finding.evidence(
            "chart",
            upgrade
                .before
                .and_then(|before| before.chart.as_ref())
                .map(|chart| chart.version.to_string()),
            Some(chart.version.to_string()),
            source,
        );
        if hazard.kind == HazardKind::Boundary {
            finding.fix(format!(
                "Use a chart below {} until the image is new enough.",
                hazard.at.unwrap_or(chart.version)
            ));
        } else if hazard.pin.is_empty() {
            finding.remedy(upgrade.advice().set_chart("chart 4.2.33 or later"));
        } else {
            let pins: Vec<ChartPin> = hazard
                .pin
                .iter()
                .filter_map(|pin| ChartPin::parse(pin))
                .collect();
            // Another image is another change: words only.
            let mut remedy = upgrade
                .advice()
                .set_values(&pins, "the image is a release")
                .and("Or use another chart version.");
            remedy.cure = None;
            finding.remedy(remedy);
        }
    }
}

/// Whether the change crosses a boundary with an image that the row means, and the chart's part
/// that the row is about is missing in what is rendered.
fn crosses(upgrade: &Upgrade<'_>, hazard: &Hazard) -> bool {
    let version = |release: &Release| release.chart.as_ref().map(|chart| chart.version);
    let (Some(at), Some((before, after))) = (hazard.at, upgrade.both()) else {
        return false;
    };
    let image = after.lowest().map(|build| build.version);
    version(before).is_some_and(|from| from < at)
        && version(after).is_some_and(|to| to >= at)
        && is_within(hazard, "image", image)
        && has_unmerged(after)
}

/// Whether a version is in the range that a row names under a key; without the key it is.
fn is_within(hazard: &Hazard, key: &str, version: Option<Version>) -> bool {
    hazard.when.get(key).is_none_or(|range| {
        let range = range.parse::<Range>().ok();
        version.is_some_and(|version| range.is_some_and(|range| range.contains(version)))
    })
}

/// The condition of rows about Woodpecker as a separate service.
const WOODPECKER: &str = "woodpecker";

fn rows<'a>(upgrade: &Upgrade<'a>) -> impl Iterator<Item = &'a Hazard> {
    upgrade
        .catalogue
        .hazards
        .iter()
        .filter(|hazard| hazard.rule.as_deref() == Some(RULE.id))
}

/// Woodpecker as a separate service, seen by its workload. Where two configurations can be
/// compared, MG301 reports it.
fn woodpecker(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let after = upgrade.after;
    let Some(service) = after.dependencies_of(Family::Woodpecker).next() else {
        return;
    };
    let unused = after.has_config() && after.queue().kind.value != QueueKind::Woodpecker;
    let compared = upgrade.before.is_some_and(Release::has_config)
        && after.config.value("woodpecker.storage.type") == Some("service");
    if unused || compared {
        return;
    }
    // A service that ran before the change has been moved to already.
    let ran = upgrade
        .before
        .is_some_and(|before| before.dependencies_of(Family::Woodpecker).next().is_some());
    let (from, to) = (
        upgrade.from_version(),
        after.lowest().map(|build| build.version),
    );
    for hazard in rows(upgrade).filter(|hazard| {
        hazard
            .when
            .get(WOODPECKER)
            .is_some_and(|mode| mode == "service")
    }) {
        let about_change = hazard.when.contains_key("from");
        if !is_within(hazard, "image", to)
            || !is_within(hazard, "from", from)
            || (about_change && ran)
        {
            continue;
        }
        let message = format!("{}: {}", service.workload.meta.object, hazard.effect);
        let finding = if hazard.verdict == Verdict::Deny {
            findings.deny(message)
        } else {
            findings.warn(message)
        };
        finding
            .object(&service.workload.meta)
            .because(
                "Milvus 2.6 writes its log with the Woodpecker inside the streaming nodes. A \
                      separate service does not have that log.",
            )
            .evidence(
                "Woodpecker",
                Some(if ran { "a service" } else { "inside Milvus" }.to_owned()),
                Some("a service".to_owned()),
                Some(&service.workload.meta.origin),
            )
            .fix(format!(
                "Keep the embedded Woodpecker: set {} in the Helm values. Do not copy the \
                          value from the documentation for new installations.",
                hazard.pin.join(",")
            ));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        milvus::Component::Standalone,
        rules::{
            Severity,
            testing::{Fixture, judge},
        },
    };

    #[rstest]
    #[case("4.2.28", "v2.4.17", true, Some(Severity::Deny))]
    #[case("4.2.28", "v2.4.17", false, None)]
    #[case("4.2.30", "v2.5.0-beta", true, Some(Severity::Warn))]
    #[case("4.2.30", "v2.5.27", true, None)]
    #[case("4.2.40", "v2.5.5", true, None)]
    fn charts(
        #[case] chart: &str,
        #[case] tag: &str,
        #[case] pulsar: bool,
        #[case] expected: Option<Severity>,
    ) {
        let mut after = Fixture::cluster("2.5.5").chart(chart).tag(tag);
        if pulsar {
            after = after.stateful_set(
                "my-release-pulsar-bookie",
                "app: pulsar",
                "apachepulsar/pulsar:2.9.5",
            );
        }
        let findings = judge(&RULE, None, &after);
        assert_eq!(
            findings.iter().map(|finding| finding.severity).max(),
            expected,
            "{findings:?}"
        );
    }

    #[rstest]
    #[case(None, "2.6.22", true, 1)]
    #[case(Some(("2.6.22", false)), "2.6.24", true, 1)]
    #[case(Some(("2.6.22", true)), "2.6.24", true, 1)]
    #[case(Some(("2.6.22", false)), "3.0.2", true, 1)]
    #[case(Some(("2.6.22", true)), "3.0.2", true, 0)]
    #[case(Some(("2.6.22", false)), "3.0.2", false, 0)]
    #[case(Some(("3.0.1", true)), "3.0.2", true, 0)]
    #[case(None, "3.0.2", true, 0)]
    fn woodpecker_as_a_service(
        #[case] before: Option<(&str, bool)>,
        #[case] to: &str,
        #[case] service: bool,
        #[case] found: usize,
    ) {
        let run = |version: &str, service: bool, yaml: &str| {
            let fixture = Fixture::cluster(version).chart("5.0.22").default_yaml(yaml);
            if service {
                fixture.stateful_set(
                    "my-release-milvus-woodpecker",
                    "component: woodpecker",
                    "milvusdb/woodpecker:latest",
                )
            } else {
                fixture
            }
        };
        let queue = "mq: {type: woodpecker}\n";
        let before = before.map(|(version, service)| run(version, service, queue));
        let findings = judge(&RULE, before.as_ref(), &run(to, service, queue));
        assert_eq!(findings.len(), found, "{findings:?}");
        assert!(
            findings
                .iter()
                .all(|finding| finding.severity == Severity::Deny)
        );
        // What the configuration says is another rule's, and a service that Milvus does not use
        // does no harm.
        let compared = "mq: {type: woodpecker}\nwoodpecker: {storage: {type: service}}\n";
        assert!(
            before.is_none()
                || judge(&RULE, before.as_ref(), &run(to, service, compared)).is_empty()
        );
        assert!(
            judge(
                &RULE,
                before.as_ref(),
                &run(to, service, "mq: {type: kafka}\n")
            )
            .is_empty()
        );
    }

    #[rstest]
    #[case("2.3.3", "4.1.36", "4.2.13", "", 1)]
    #[case("2.3.3", "4.2.0", "4.2.13", "", 0)]
    #[case("2.4.5", "4.1.36", "4.2.13", "", 0)]
    #[case("2.3.3", "4.1.34", "4.1.36", "", 0)]
    #[case(
        "2.3.3",
        "4.1.36",
        "4.2.13",
        "initContainers:\n  - {name: config, image: \"milvusdb/milvus-config-tool:v0.1.2\"}",
        0
    )]
    fn an_old_image_over_the_boundary(
        #[case] image: &str,
        #[case] from: &str,
        #[case] to: &str,
        #[case] pod: &str,
        #[case] found: usize,
    ) {
        let run = |chart: &str| {
            let fixture = Fixture::standalone(image).chart(chart);
            if pod.is_empty() {
                fixture
            } else {
                fixture.pod(Standalone, pod)
            }
        };
        assert_eq!(judge(&RULE, Some(&run(from)), &run(to)).len(), found);
    }
}
