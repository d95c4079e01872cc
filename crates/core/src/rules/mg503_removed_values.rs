//! MG503: values that the chart does not read.

use crate::{
    change::Upgrade,
    manifest::{Tree, node::Kind},
    milvus::{
        Release, Version,
        catalogue::{Danger, RemovedValue},
        release::{HelmRevision, UnreadValue},
    },
    text::count,
};

use super::{Category, DefaultAction, Findings, Missing, Need, Rule, advice::Remedy};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG503",
    name: "removed-values",
    title: "no Helm value is silently ignored",
    category: Category::Chart,
    default: DefaultAction::DenyOrWarn,
    data_loss: true,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::After, Need::Chart, Need::Values],
    what: "Looks for values that the user set and the chart does not read: values that the chart \
           does not define, as Helm's record of the release shows, and, on an upgrade from a chart \
           up to 3.x to 4.0.0 or later, values that only the old chart read. Denies if such a \
           value is a root path, a channel prefix or authorization, and the setting would change \
           or is new. The values come from Helm's storage (release:NAME, a release Secret, a live \
           cluster). Without them the rule is not evaluated.",
    why: "The Milvus chart has no schema, so Helm accepts unknown names and ignores them. An \
          ignored root path, channel prefix or authorization setting falls back to its default: an \
          empty database, other channels, or a database that is open to everyone.",
    example: "image.tag=v2.6.0, where the chart reads image.all.tag; metadata.rootPath=prod with chart 3.2.18, upgraded to 4.0.31.",
    fix: "Remove the value, or set it under the name that the chart reads.",
    sources: &[
        "milvus-helm README",
        "milvus-helm values 3.3.6 to 4.0.0",
        "milvus#43800",
    ],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let after = upgrade.after;
    let known =
        |release: Option<&'_ Release>| release.and_then(|release| release.helm.as_ref()).is_some();
    if !known(Some(after)) && !known(upgrade.before) {
        // Who does not use Helm has no values.
        if after.chart.is_some() && !after.is_operated() {
            findings.not_evaluated(if crosses_boundary(upgrade) {
                UNKNOWN_AT_THE_BOUNDARY
            } else {
                UNKNOWN
            });
        }
        return;
    }
    findings.checked();
    let removed = removed(upgrade, findings);
    unread(upgrade, &removed, findings);
}

/// How to provide the user's values.
const PROVIDE: &str = "Give Helm's own record with --before live, a file with its Secret, or --after release:NAME of \
     milvus-guard check.";
/// Where no value of old charts is lost, ignored values change nothing that runs: a check of
/// rendered manifests stays quiet.
const UNKNOWN: Missing = Missing::minor("the Helm values that the user set are unknown", PROVIDE);
/// Over chart 4.0.0 an ignored value may be a root path.
const UNKNOWN_AT_THE_BOUNDARY: Missing = Missing::fact(
    "the Helm values that the user set are unknown, and the chart ignores some that the old chart \
     read",
    PROVIDE,
);

/// The first chart that ignores values which earlier ones read.
fn boundary(upgrade: &Upgrade<'_>) -> Option<Version> {
    upgrade
        .catalogue
        .hazards
        .iter()
        .find(|hazard| hazard.rule.as_deref() == Some(RULE.id))
        .and_then(|hazard| hazard.at)
}

/// Only versions of the Milvus project's chart are compared.
fn crosses_boundary(upgrade: &Upgrade<'_>) -> bool {
    if upgrade.after.manager.is_bitnami() {
        return false;
    }
    let from = upgrade.before.and_then(|before| before.chart.as_ref());
    match (boundary(upgrade), from, &upgrade.after.chart) {
        (Some(boundary), Some(from), Some(to)) => from.version < boundary && to.version >= boundary,
        _ => false,
    }
}

/// Values that charts before the boundary read and later ones do not. Returns their paths.
fn removed<'a>(upgrade: &Upgrade<'a>, findings: &mut Findings) -> Vec<&'a RemovedValue> {
    let Some((before, after)) = upgrade.both() else {
        return Vec::new();
    };
    let Some(to) = after.chart.as_ref().filter(|_| crosses_boundary(upgrade)) else {
        return Vec::new();
    };
    let values: Vec<&Tree<'_>> = [before, after]
        .into_iter()
        .filter_map(|release: &Release| release.helm.as_ref())
        .map(|helm| &helm.user_values)
        .collect();
    let set: Vec<&RemovedValue> = upgrade
        .catalogue
        .removed_values
        .iter()
        .filter(|row| values.iter().any(|values| is_set(values, &row.path)))
        .filter(|row| {
            // What the wanted configuration says with the same value was moved already.
            row.became.as_ref().is_none_or(|key| {
                before.config.value(key).is_none()
                    || after.config.value(key) != before.config.value(key)
            })
        })
        .collect();
    for row in set.iter().filter(|row| row.danger != Danger::Tuning) {
        let key = row.became.clone().unwrap_or_default();
        findings
            .deny(format!(
                "chart {} ignores the value {}, which is set",
                to.version, row.path
            ))
            .evidence(
                "value",
                Some(format!("{} is set", row.path)),
                Some("ignored".into()),
                None,
            )
            .remedy(upgrade.advice().configure(&[(&key, "(the same value)")]));
    }
    let tuning: Vec<&str> = set
        .iter()
        .filter(|row| row.danger == Danger::Tuning)
        .map(|row| row.path.as_str())
        .collect();
    if !tuning.is_empty() {
        findings
            .warn(format!(
                "chart {} ignores {} that {} set: {}",
                to.version,
                count(tuning.len(), "value"),
                if tuning.len() == 1 { "is" } else { "are" },
                tuning.join(", ")
            ))
            .because("Milvus then uses its defaults for them.")
            .fix("Move them into extraConfigFiles.user.yaml under the keys of Milvus' own configuration.");
    }
    set
}

/// Values that the chart of Helm's record does not have.
fn unread(upgrade: &Upgrade<'_>, removed: &[&RemovedValue], findings: &mut Findings) {
    // The record of the wanted revision counts; if only the running one is known, it is used
    // for its own chart.
    let record = |release: &'_ Release| {
        release.helm.as_ref().map(|helm| {
            (
                helm.clone(),
                release.chart.as_ref().map(|chart| chart.version),
            )
        })
    };
    let wanted = record(upgrade.after);
    let is_wanted = wanted.is_some();
    let Some((helm, chart)): Option<(HelmRevision, Option<Version>)> =
        wanted.or_else(|| upgrade.before.and_then(record))
    else {
        return;
    };
    let Some(values) = helm.unread_values else {
        findings.not_evaluated(Missing::minor(
            "Helm's record does not contain the chart's own values",
            PROVIDE,
        ));
        return;
    };
    let is_new: Vec<&UnreadValue> = values
        .iter()
        .filter(|value| {
            !removed
                .iter()
                .any(|row| is_or_is_below(&value.path, &row.path))
        })
        .collect();
    let chart = chart.map_or_else(|| "the chart".to_owned(), |chart| format!("chart {chart}"));
    let chart = if is_wanted {
        chart
    } else {
        format!("the running {chart}")
    };
    let (grave, others): (Vec<&UnreadValue>, Vec<&UnreadValue>) = is_new
        .into_iter()
        .partition(|value| at_stake(&value.path).is_some_and(|keys| !stays(upgrade, keys)));
    for value in grave {
        let finding = findings.deny(format!(
            "{chart} does not read the value {}, which is set",
            value.path
        ));
        finding
            .because(
                "Milvus uses the default instead: an empty database, other channels, or a \
                      database that is open to everyone.",
            )
            .evidence(
                "value",
                None,
                Some(format!("{} is set and ignored", value.path)),
                None,
            );
        let keys = at_stake(&value.path).unwrap_or_default().join(" or ");
        finding.fix(match &value.nearest {
            Some(nearest) => {
                format!("The chart reads {nearest}. Or set {keys} under extraConfigFiles.user.yaml, if that is what you want.")
            }
            None => format!("Set {keys} under extraConfigFiles.user.yaml, if that is what you \
                             want, or remove the value."),
        });
    }
    if others.is_empty() {
        return;
    }
    let shown: Vec<&str> = others
        .iter()
        .take(SHOWN)
        .map(|value| value.path.as_str())
        .collect();
    let more = if others.len() > SHOWN {
        format!(" and {} more", others.len() - SHOWN)
    } else {
        String::new()
    };
    let plural = if others.len() == 1 {
        "the value"
    } else {
        "the values"
    };
    let finding = findings.warn(format!(
        "{chart} does not read {plural} {}{more}",
        shown.join(", ")
    ));
    finding.because("Helm accepts any name, so these values have no effect.");
    for value in others.iter().take(SHOWN) {
        finding.evidence(
            "value",
            None,
            Some(format!("{} is set and ignored", value.path)),
            None,
        );
    }
    let hints: Vec<String> = others
        .iter()
        .take(SHOWN)
        .filter_map(|value| {
            Some(format!(
                "{} instead of {}",
                value.nearest.as_ref()?,
                value.path
            ))
        })
        .collect();
    let words = if hints.is_empty() {
        "Remove the value, or set it under the name that the chart reads.".to_owned()
    } else {
        format!(
            "Remove the values, or use the name that the chart reads: {}.",
            hints.join(", ")
        )
    };
    let open = others
        .iter()
        .any(|value| value.nearest.is_none() && means_authorization(&value.path));
    let key = "common.security.authorizationEnabled";
    let own = open.then(|| {
        upgrade
            .advice()
            .configure(&[(key, "(the same value)")])
            .text
    });
    finding.remedy(Remedy::words(words).and(&own.unwrap_or_default()));
}

/// Whether a value that the chart does not read was meant to close the database.
fn means_authorization(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.contains("authorization") || path == "auth.enabled" || path.ends_with(".auth.enabled")
}

/// Paths that a message lists.
const SHOWN: usize = 10;

/// The keys of Milvus' configuration that a value means by its name, where data or access hangs on
/// it.
fn at_stake(path: &str) -> Option<&'static [&'static str]> {
    let path = path.to_ascii_lowercase();
    let last = path.rsplit('.').next()?;
    if path.contains("authorization") {
        return Some(&["common.security.authorizationEnabled"]);
    }
    if path.contains("channameprefix") || path.contains("channelnameprefix") {
        return Some(&["msgChannel.chanNamePrefix.cluster"]);
    }
    if path.contains("subnameprefix") {
        return Some(&["msgChannel.subNamePrefix.dataCoordSubNamePrefix"]);
    }
    match last {
        "rootpath" if path.contains("minio") || path.contains("s3") || path.contains("storage") => {
            Some(&["minio.rootPath"])
        }
        "rootpath" if path.contains("etcd") => Some(&["etcd.rootPath"]),
        "rootpath" => Some(&["etcd.rootPath", "minio.rootPath"]),
        "metasubpath" => Some(&["etcd.metaSubPath"]),
        "kvsubpath" => Some(&["etcd.kvSubPath"]),
        _ => None,
    }
}

/// Whether the change leaves the keys as they are: then the value was ignored before too, and
/// nothing moves.
fn stays(upgrade: &Upgrade<'_>, keys: &[&str]) -> bool {
    upgrade.both().is_some_and(|(before, after)| {
        before.has_config()
            && after.has_config()
            && keys
                .iter()
                .all(|key| before.config.value(key) == after.config.value(key))
    })
}

/// Whether a path is another one or lies below it.
fn is_or_is_below(path: &str, other: &str) -> bool {
    path.strip_prefix(other)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
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
    use crate::{
        change::Upgrade,
        evidence::Facts,
        milvus::catalogue::Catalogue,
        rules::{
            Findings, Severity,
            testing::{Fixture, judge},
        },
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
        let findings = judge(
            &RULE,
            Some(&before),
            &Fixture::cluster("2.2.13").chart("4.0.31"),
        );
        assert_eq!(
            findings
                .iter()
                .filter(|finding| !finding.not_evaluated)
                .map(|finding| finding.severity)
                .max(),
            expected
        );
        assert!(
            findings
                .iter()
                .all(|finding| !finding.message.contains("prod")),
            "values stay in the process"
        );
    }

    #[test]
    fn moved_values_and_other_charts_are_fine() {
        let values = "metadata: {rootPath: prod}";
        let before = Fixture::cluster("2.1.4")
            .chart("3.2.18")
            .values(values)
            .default_yaml("etcd: {rootPath: prod}");
        let after = Fixture::cluster("2.2.13")
            .chart("4.0.31")
            .user_yaml("etcd: {rootPath: prod}");
        assert!(
            judge(&RULE, Some(&before), &after)
                .iter()
                .all(|finding| finding.not_evaluated)
        );
        let before = Fixture::cluster("2.2.13").chart("4.0.31").values(values);
        assert!(
            judge(
                &RULE,
                Some(&before),
                &Fixture::cluster("2.3.22").chart("4.1.24")
            )
            .iter()
            .all(|finding| finding.not_evaluated)
        );
    }

    const CHART: &str = "cluster: {enabled: true}\nimage: {all: {repository: milvusdb/milvus, tag: v2.5.14}, tools: {tag: v0.1.2}}\nstandalone: {persistence: {enabled: true, persistentVolumeClaim: {size: 50Gi}}}\nnodeSelector: {}\n";

    fn run(values: &str) -> Fixture {
        Fixture::cluster("2.5.14")
            .chart("4.2.54")
            .values(values)
            .chart_values(CHART)
    }

    #[rstest]
    #[case("image: {tag: v2.6.0}", Some("image.all.tag instead of image.tag"))]
    #[case(
        "standalone: {persistence: {size: 5Gi}}",
        Some("standalone.persistence.persistentVolumeClaim.size instead of")
    )]
    #[case("nothing: 1", Some("Remove the value, or"))]
    #[case(
        "auth: {enabled: true}",
        Some(
            "Remove the value, or set it under the name that the chart reads. Set \
             common.security.authorizationEnabled: (the same value) in the text user.yaml"
        )
    )]
    #[case(
        "image: {all: {tag: v2.6.0}}\nnodeSelector: {pool: x}\netcd: {any: 1}",
        None
    )]
    #[case("{}", None)]
    fn values_that_the_chart_does_not_have(#[case] values: &str, #[case] fix: Option<&str>) {
        for before in [None, Some(run(values)), Some(run("{}"))] {
            let findings = judge(&RULE, before.as_ref(), &run(values));
            assert_eq!(findings.len(), usize::from(fix.is_some()), "{findings:?}");
            if let (Some(fix), Some(finding)) = (fix, findings.first()) {
                assert_eq!(finding.severity, Severity::Warn);
                assert!(finding.fix.text.contains(fix), "{}", finding.fix.text);
            }
        }
    }

    #[rstest]
    #[case("metadata: {rootPath: secret}")]
    #[case("etcdRoot: {rootPath: secret}")]
    #[case("authorization: {enabled: secret}")]
    #[case("common: {security: {authorizationEnabled: secret}}")]
    #[case("msgChannel: {chanNamePrefix: {cluster: secret}}")]
    #[case("config: {etcd: {kvSubPath: secret}}")]
    fn data_and_access_deny_where_something_changes(#[case] values: &str) {
        let findings = judge(&RULE, None, &run(values));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].severity, Severity::Deny);
        assert!(
            !format!("{:?}", findings[0]).contains("secret"),
            "values stay in the process"
        );
        // What was ignored all along moves nothing.
        let findings = judge(&RULE, Some(&run(values)), &run(values));
        assert_eq!(
            (findings.len(), findings[0].severity),
            (1, Severity::Warn),
            "{findings:?}"
        );
        let moved = "etcd: {rootPath: a, kvSubPath: a}\nminio: {rootPath: a}\ncommon: {security: {authorizationEnabled: true}}\nmsgChannel: {chanNamePrefix: {cluster: a}}\n";
        let findings = judge(&RULE, Some(&run("{}").default_yaml(moved)), &run(values));
        assert_eq!(findings[0].severity, Severity::Deny, "{findings:?}");
    }

    #[test]
    fn only_the_running_release_may_be_known() {
        // At the gate the wanted revision always has a record, so this is a case of `check --before
        // release:NAME` only.
        let (before, after) = (
            run("image: {tag: v2.6.0}").release(),
            Fixture::cluster("2.5.16").chart("4.2.58").release(),
        );
        let facts = Facts::default();
        let upgrade = Upgrade::new(Some(&before), &after, &facts, Catalogue::embedded());
        let mut findings = Findings::of(&RULE);
        super::check(&upgrade, &mut findings);
        let messages: Vec<String> = findings
            .into_vec()
            .into_iter()
            .map(|finding| finding.message)
            .collect();
        assert_eq!(
            messages,
            ["the running chart 4.2.54 does not read the value image.tag"]
        );
    }

    #[test]
    fn what_is_not_known_is_said() {
        let message = |before: Option<&Fixture>, after: &Fixture| {
            judge(&RULE, before, after)
                .first()
                .map(|finding| (finding.not_evaluated, finding.message.clone()))
        };
        let plain = Fixture::cluster("2.5.14").chart("4.2.54");
        assert!(
            message(None, &plain).is_some_and(|(silent, text)| silent
                && text.contains("Helm values that the user set are unknown"))
        );
        let bare = Fixture::cluster("2.5.14")
            .chart("4.2.54")
            .values("image: {tag: x}");
        assert!(
            message(Some(&plain), &bare)
                .is_some_and(|(silent, text)| silent && text.contains("chart's own values"))
        );
    }
}
