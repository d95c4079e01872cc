//! MG403: etcd, object storage and queue must not go back to an older version, and etcd must not
//! skip one.

use std::{cmp::Ordering, fmt};

use crate::{
    change::Upgrade,
    manifest::object::Container,
    milvus::{
        Line,
        catalogue::KafkaRaft,
        dependency::{Dependency, Family},
        image::ImageRef,
    },
};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG403",
    name: "dependency-version",
    title: "the new version of each dependency can read its data",
    category: Category::Dependencies,
    default: DefaultAction::DenyOrWarn,
    data_loss: true,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::Before, Need::Dependencies],
    what: "Denies an image of etcd, MinIO, Pulsar, Kafka or ZooKeeper with a lower major or minor \
           version (for MinIO: an earlier release date), and an etcd upgrade that skips a minor \
           version, and a Kafka that cannot use its ZooKeeper any more. Checks every container that runs the dependency. Warns if an image changes and \
           a version cannot be read.",
    why: "The files were written by the newer version, and an older one may refuse to start or \
          misread them. An etcd can read only the data of the minor version directly below it.",
    example: "etcd is upgraded from 3.5.25 to 3.7.2: 3.6 is required in between.",
    fix: "Keep the running image tag of the dependency, or upgrade one minor version at a time.",
    sources: &[
        "milvus#40706",
        "milvus#17647",
        "milvus#25321",
        "etcd documentation: upgrade policy",
        "k0smotron#1581",
        "Apache Kafka 4.0 upgrade notes",
        "milvus-operator#360",
    ],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let after = &upgrade.after.dependencies;
    if upgrade.before.is_some_and(|before| {
        before
            .dependencies
            .iter()
            .any(|old| after.iter().any(|new| new.family == old.family))
    }) {
        findings.checked();
    }
    let mut seen = Vec::new();
    for (old, new) in upgrade.changed_dependencies() {
        let family = old.family;
        let name = &old.workload.meta.object.name;
        // Two charts of one umbrella may render the same object twice.
        if seen.contains(&&old.workload.meta.object) {
            continue;
        }
        seen.push(&old.workload.meta.object);
        for (was, is) in paired(old, new) {
            let (was, is) = (ImageRef::parse(&was.image), ImageRef::parse(&is.image));
            if is_same(&was, &is) {
                continue;
            }
            let (from, to) = (Age::of(family, &was), Age::of(family, &is));
            let finding = match (from, to) {
                (Some(from), Some(to)) => match from.compare(to) {
                    Some(Ordering::Greater) => findings.deny(format!(
                        "{family} {name} would be downgraded from {from} to \
                                               {to}"
                    )),
                    Some(Ordering::Equal) => continue,
                    Some(Ordering::Less) => {
                        let facts = &upgrade.catalogue.dependencies;
                        let raft = facts
                            .kafka_raft
                            .as_ref()
                            .filter(|_| family == Family::Kafka);
                        if let Some(step) = skipped(family, from, to, &facts.etcd_lines) {
                            findings
                                .deny(format!("{family} {name} would be upgraded from {from} to {to} \
                                               and skip {step}"))
                                .because("An etcd that skips a minor version cannot read its own data and does not start.")
                                .fix(format!("Upgrade etcd to the latest release of {step} first, wait \
                                              until every member is healthy, then continue."))
                        } else if let Some(raft) = raft.filter(|raft| leaves(raft, from, to)) {
                            match metadata_of(upgrade, old, raft, from) {
                                Metadata::InKafka => continue,
                                Metadata::InZookeeper => findings.deny(format!(
                                    "Kafka {name} would be upgraded from {from} to {to}, which \
                                     cannot use its ZooKeeper"
                                )),
                                Metadata::Unknown => findings.warn(format!(
                                    "Kafka {name} would be upgraded from {from} to {to}, which \
                                     does not start if its metadata is in ZooKeeper"
                                )),
                            }
                            .because("Kafka does not start without its metadata, and Milvus stops.")
                            .fix("Upgrade to the last release that can use ZooKeeper, migrate the metadata of Kafka to KRaft, then continue.")
                        } else {
                            continue;
                        }
                    }
                    None => unreadable(
                        findings,
                        old,
                        "the old and the new tag use different version schemes",
                    ),
                },
                (None, Some(_)) => unreadable(
                    findings,
                    old,
                    &format!("the running image {was} does not name a version"),
                ),
                (Some(_), None) => unreadable(
                    findings,
                    old,
                    &format!(
                        "the new image {is} does not name a \
                                                        version"
                    ),
                ),
                (None, None) => unreadable(findings, old, "neither image names a version"),
            };
            finding.object(&new.workload.meta).evidence(
                "image",
                Some(was.to_string()),
                Some(is.to_string()),
                Some(&new.workload.meta.origin),
            );
        }
    }
}

fn unreadable<'f>(
    findings: &'f mut Findings,
    old: &Dependency,
    why: &str,
) -> &'f mut super::Finding {
    findings
        .warn(format!(
            "the version of {} {} cannot be compared: {why}",
            old.family, old.workload.meta.object.name
        ))
        .because("The change may be a downgrade, or skip a required version.")
        .fix(
            "Use a tag that names the version, or compare the versions yourself before you apply \
              the change.",
        )
}

/// The containers that run the dependency on both sides: those of one name, else those at the same
/// place.
fn paired<'a>(old: &'a Dependency, new: &'a Dependency) -> Vec<(&'a Container, &'a Container)> {
    let (before, after) = (old.containers(), new.containers());
    let mut pairs = Vec::new();
    for (at, is) in after.iter().enumerate() {
        let was = before
            .iter()
            .find(|was| was.name == is.name)
            .or_else(|| before.get(at));
        let Some(was) = was.copied() else { continue };
        // Containers with one pair of images are one finding.
        let known = pairs.iter().any(|(other, now): &(&Container, &Container)| {
            other.image == was.image && now.image == is.image
        });
        if !known {
            pairs.push((was, *is));
        }
    }
    pairs
}

/// Whether both references are the same build for certain. A moving tag such as `latest` is the
/// same only by its digest.
fn is_same(was: &ImageRef, is: &ImageRef) -> bool {
    match (&was.digest, &is.digest) {
        (Some(was), Some(is)) => was == is,
        _ => was == is,
    }
}

/// How old a version is, as far as its tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    /// Major and minor.
    Line(Line),
    /// Year, month, day: `RELEASE.2024-12-18T13-15-44Z`, or `2024.12.18` of bitnami.
    Day(u16, u16, u16),
    /// Major and minor of the Confluent Platform, which counts otherwise than Kafka does.
    Confluent(Line),
}

impl Age {
    /// `None` if the tag names no version.
    fn of(family: Family, image: &ImageRef) -> Option<Self> {
        let tag = image.tag.as_deref()?;
        if let Some(date) = tag.strip_prefix("RELEASE.") {
            let day = date.split(['T', '.']).next()?;
            let [year, month, day] = numbers(day, '-')?;
            return Some(Self::Day(year, month, day));
        }
        // Strimzi names itself first: 0.38.0-kafka-3.6.0. Others name Scala first: 2.13-2.8.1.
        let tag = match tag.split_once("-kafka-") {
            Some((_, kafka)) if family == Family::Kafka => kafka,
            _ => tag,
        };
        let tag = match tag.split_once('-') {
            Some(("2.11" | "2.12" | "2.13", rest))
                if family == Family::Kafka && rest.contains('.') =>
            {
                rest
            }
            _ => tag,
        };
        let head = tag.split(['-', '_', '+']).next()?;
        let head = head.strip_prefix(['v', 'V']).unwrap_or(head);
        if let Some([year, month, day]) = numbers(head, '.')
            && year >= 2000
        {
            return Some(Self::Day(year, month, day));
        }
        let mut parts = head.split('.');
        let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let line = Line { major, minor };
        let confluent =
            matches!(family, Family::Kafka | Family::Zookeeper) && image.name().starts_with("cp-");
        Some(if confluent {
            Self::Confluent(line)
        } else {
            Self::Line(line)
        })
    }

    /// `None` if the two count differently.
    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Line(one), Self::Line(two)) | (Self::Confluent(one), Self::Confluent(two)) => {
                Some(one.cmp(&two))
            }
            (Self::Day(..), Self::Day(..)) => Some(self.day().cmp(&other.day())),
            _ => None,
        }
    }

    const fn day(self) -> (u16, u16, u16) {
        match self {
            Self::Day(year, month, day) => (year, month, day),
            _ => (0, 0, 0),
        }
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "{line}"),
            Self::Confluent(line) => write!(f, "Confluent {line}"),
            Self::Day(year, month, day) => write!(f, "the release of {year}-{month:02}-{day:02}"),
        }
    }
}

/// Exactly three numbers.
fn numbers(text: &str, separator: char) -> Option<[u16; 3]> {
    let mut parts = text.split(separator).map(|part| part.parse().ok());
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

/// The line of etcd that lies between two versions and must be passed. `None` if the step is
/// allowed.
fn skipped(family: Family, from: Age, to: Age, lines: &[Line]) -> Option<Line> {
    let (Family::Etcd, Age::Line(from), Age::Line(to)) = (family, from, to) else {
        return None;
    };
    let above = Line {
        major: from.major,
        minor: from.minor.checked_add(1)?,
    };
    // The table says which line is a major's last; of a major that it does not know, or beyond its
    // last, only the target can.
    let is_known = lines.contains(&above);
    let next = if is_known || to.major == from.major {
        above
    } else {
        Line {
            major: from.major.checked_add(1)?,
            minor: 0,
        }
    };
    (next < to).then_some(next)
}

/// Whether an upgrade leaves the versions of Kafka that can use `ZooKeeper`.
fn leaves(raft: &KafkaRaft, from: Age, to: Age) -> bool {
    match (from, to) {
        (Age::Line(from), Age::Line(to)) => from < raft.only && to >= raft.only,
        (Age::Confluent(from), Age::Confluent(to)) => {
            from < raft.only_confluent && to >= raft.only_confluent
        }
        _ => false,
    }
}

/// Where Kafka keeps its metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metadata {
    InZookeeper,
    InKafka,
    Unknown,
}

fn metadata_of(upgrade: &Upgrade<'_>, kafka: &Dependency, raft: &KafkaRaft, from: Age) -> Metadata {
    let containers = kafka.containers();
    let names = || {
        let variables = containers.iter().map(|container| container.env.iter());
        variables.flatten().map(|(name, _)| name)
    };
    let words = || containers.iter().flat_map(|container| &container.command);
    let is_old = matches!(from, Age::Line(line) if line < raft.since);
    let runs_zookeeper = upgrade.before.is_some_and(|before| {
        let mut dependencies = before.dependencies.iter();
        dependencies.any(|one| one.family == Family::Zookeeper)
    });
    if names().any(|name| name.contains("PROCESS_ROLES") || name.contains("KRAFT")) {
        Metadata::InKafka
    } else if is_old
        || runs_zookeeper
        || names().any(|name| name.contains("ZOOKEEPER_CONNECT"))
        || words().any(|word| word.contains("zookeeper.connect"))
    {
        Metadata::InZookeeper
    } else {
        Metadata::Unknown
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

    const ETCD: &str = "app.kubernetes.io/name: etcd";
    const MINIO: &str = "app: minio";
    const KAFKA: &str = "app.kubernetes.io/name: kafka";

    #[rstest]
    #[case(
        ETCD,
        "milvusdb/etcd:3.5.14-r1",
        "milvusdb/etcd:3.4.20",
        Some("3.5 to 3.4")
    )]
    #[case(
        ETCD,
        "docker.io/bitnami/etcd:3.5.18-debian-12-r1",
        "bitnami/etcd:3.4.30-debian-12-r0",
        Some("3.5 to 3.4")
    )]
    #[case(
        ETCD,
        "quay.io/coreos/etcd:v3.5.25",
        "quay.io/coreos/etcd:v3.7.2",
        Some("skip 3.6")
    )]
    #[case(
        ETCD,
        "quay.io/coreos/etcd:v3.4.1",
        "quay.io/coreos/etcd:v3.7.2",
        Some("skip 3.5")
    )]
    #[case(
        ETCD,
        "quay.io/coreos/etcd:v2.3.8",
        "quay.io/coreos/etcd:v3.1.0",
        Some("skip 3.0")
    )]
    #[case(
        ETCD,
        "quay.io/coreos/etcd:v2.2.5",
        "quay.io/coreos/etcd:v3.0.0",
        Some("skip 2.3")
    )]
    #[case(
        ETCD,
        "quay.io/coreos/etcd:v3.5.25",
        "quay.io/coreos/etcd:v4.0.0",
        Some("skip 3.6")
    )]
    #[case(
        ETCD,
        "quay.io/coreos/etcd:v3.7.2",
        "quay.io/coreos/etcd:v4.1.0",
        Some("skip 4.0")
    )]
    #[case(
        ETCD,
        "quay.io/coreos/etcd:v3.7.2",
        "quay.io/coreos/etcd:v3.9.0",
        Some("skip 3.8")
    )]
    #[case(ETCD, "quay.io/coreos/etcd:v3.7.2", "quay.io/coreos/etcd:v4.0.0", None)]
    #[case(ETCD, "quay.io/coreos/etcd:v2.3.8", "quay.io/coreos/etcd:v3.0.0", None)]
    #[case(
        ETCD,
        "quay.io/coreos/etcd:v3.5.25",
        "quay.io/coreos/etcd:v3.6.5",
        None
    )]
    #[case(ETCD, "milvusdb/etcd:3.5.5-r4", "milvusdb/etcd:3.5.5-r2", None)]
    #[case(ETCD, "milvusdb/etcd:3.5.0-r6", "milvusdb/etcd:3.5.14", None)]
    #[case(
        MINIO,
        "minio/minio:RELEASE.2023-03-20T20-16-18Z",
        "minio/minio:RELEASE.2022-03-17T06-34-49Z",
        Some("2022-03-17")
    )]
    #[case(
        MINIO,
        "minio/minio:RELEASE.2023-03-20T20-16-18Z",
        "minio/minio:RELEASE.2023-03-13T19-46-17Z",
        Some("2023-03-13")
    )]
    #[case(
        MINIO,
        "minio/minio:RELEASE.2024-12-18T13-15-44Z",
        "bitnami/minio:2024.5.28-debian-12-r1",
        Some("2024-05-28")
    )]
    #[case(
        MINIO,
        "minio/minio:RELEASE.2024-12-18T13-15-44Z",
        "minio/minio:RELEASE.2024-12-18T13-15-44Z.fips",
        None
    )]
    #[case(
        MINIO,
        "minio/minio:RELEASE.2023-03-20T20-16-18Z",
        "minio/minio:RELEASE.2024-05-28T17-19-04Z",
        None
    )]
    #[case(
        MINIO,
        "minio/minio:RELEASE.2024-12-18T13-15-44Z",
        "docker.io/pgsty/silo:RELEASE.2026-09-16T00-00-00Z",
        None
    )]
    #[case(
        "app: pulsar",
        "apachepulsar/pulsar:2.9.5",
        "apachepulsar/pulsar:2.8.2",
        Some("2.9 to 2.8")
    )]
    #[case(
        "app: pulsar",
        "streamnative/pulsar:2.9.1.2",
        "streamnative/pulsar:2.8.4.1",
        Some("2.9 to 2.8")
    )]
    #[case(
        KAFKA,
        "bitnami/kafka:3.9.0-debian-12-r1",
        "bitnamilegacy/kafka:3.1.0-debian-10-r52",
        Some("3.9 to 3.1")
    )]
    #[case(
        KAFKA,
        "quay.io/strimzi/kafka:0.38.0-kafka-3.6.0",
        "quay.io/strimzi/kafka:0.39.0-kafka-3.5.1",
        Some("3.6 to 3.5")
    )]
    #[case(
        KAFKA,
        "wurstmeister/kafka:2.12-2.5.0",
        "wurstmeister/kafka:2.13-2.4.1",
        Some("2.5 to 2.4")
    )]
    #[case(
        KAFKA,
        "confluentinc/cp-kafka:7.4.0",
        "confluentinc/cp-kafka:7.3.1",
        Some("Confluent 7.4 to Confluent 7.3")
    )]
    #[case(KAFKA, "bitnami/kafka:3.1.0", "bitnamilegacy/kafka:3.9.0", None)]
    fn known_versions(
        #[case] label: &str,
        #[case] before: &str,
        #[case] after: &str,
        #[case] denied: Option<&str>,
    ) {
        let run =
            |image: &str| Fixture::cluster("2.4.17").stateful_set("my-release-dep", label, image);
        let found = judge(&RULE, Some(&run(before)), &run(after));
        match denied {
            Some(text) => {
                assert_eq!(
                    (found.len(), found[0].severity),
                    (1, Severity::Deny),
                    "{found:?}"
                );
                assert!(found[0].message.contains(text), "{}", found[0].message);
            }
            None => assert!(found.is_empty(), "{found:?}"),
        }
    }

    #[rstest]
    #[case(ETCD, "milvusdb/etcd:3.5.18", "milvusdb/etcd:latest", 1)]
    #[case(ETCD, "milvusdb/etcd:latest", "milvusdb/etcd:3.5.18", 1)]
    #[case(ETCD, "milvusdb/etcd:3.5.18", "milvusdb/etcd@sha256:aa", 1)]
    #[case(ETCD, "milvusdb/etcd@sha256:aa", "milvusdb/etcd@sha256:bb", 1)]
    #[case(
        ETCD,
        "milvusdb/etcd:stable@sha256:aa",
        "milvusdb/etcd:stable@sha256:bb",
        1
    )]
    #[case(KAFKA, "confluentinc/cp-kafka:7.4.0", "apache/kafka:3.7.0", 1)]
    #[case(ETCD, "milvusdb/etcd@sha256:aa", "registry.local/etcd@sha256:aa", 0)]
    #[case(ETCD, "milvusdb/etcd:latest", "milvusdb/etcd:latest", 0)]
    #[case(
        ETCD,
        "milvusdb/etcd:3.5.18@sha256:aa",
        "milvusdb/etcd:3.5.25@sha256:bb",
        0
    )]
    fn unknown_versions_are_named(
        #[case] label: &str,
        #[case] before: &str,
        #[case] after: &str,
        #[case] warned: usize,
    ) {
        let run =
            |image: &str| Fixture::cluster("2.4.17").stateful_set("my-release-dep", label, image);
        let found = judge(&RULE, Some(&run(before)), &run(after));
        assert_eq!(found.len(), warned, "{found:?}");
        assert!(
            found
                .iter()
                .all(|finding| finding.severity == Severity::Warn
                    && finding.message.contains("cannot be compared"))
        );
    }

    fn pod(containers: &[(&str, &str)]) -> Fixture {
        let lines: String = containers
            .iter()
            .map(|(name, image)| format!("        - {{name: {name}, image: \"{image}\"}}\n"))
            .collect();
        Fixture::cluster("2.4.17").object(&format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-etcd}}\nspec:\n  selector:\n    matchLabels: {{app.kubernetes.io/name: etcd, app.kubernetes.io/instance: my-release}}\n  template:\n    spec:\n      containers:\n{lines}"
        ))
    }

    #[test]
    fn the_container_of_etcd_counts_wherever_it_stands() {
        let (old, new) = (
            ("etcd", "milvusdb/etcd:3.5.18"),
            ("etcd", "milvusdb/etcd:3.4.20"),
        );
        let (exporter, newer) = (
            ("exporter", "x/etcd-exporter:2.0.0"),
            ("exporter", "x/etcd-exporter:1.0.0"),
        );
        assert_eq!(
            judge(&RULE, Some(&pod(&[exporter, old])), &pod(&[exporter, new])).len(),
            1
        );
        assert_eq!(
            judge(&RULE, Some(&pod(&[old])), &pod(&[exporter, new])).len(),
            1
        );
        assert!(judge(&RULE, Some(&pod(&[exporter, old])), &pod(&[newer, old])).is_empty());
        let mirror = |tag: &str| ("etcd", format!("registry.local/base/{tag}"));
        let (from, to) = (mirror("kv:3.5.18"), mirror("kv:3.4.1"));
        assert_eq!(
            judge(
                &RULE,
                Some(&pod(&[exporter, (from.0, &from.1)])),
                &pod(&[exporter, (to.0, &to.1)])
            )
            .len(),
            1
        );
        let second = ("etcd-2", "milvusdb/etcd:3.5.18");
        assert_eq!(
            judge(
                &RULE,
                Some(&pod(&[old, second])),
                &pod(&[old, ("etcd-2", "milvusdb/etcd:3.4.20")])
            )
            .len(),
            1
        );
    }

    #[test]
    fn an_object_that_stands_twice_in_an_input_is_one() {
        let run = |image: &str| {
            let set = |fixture: Fixture| fixture.stateful_set("my-release-etcd", ETCD, image);
            set(set(Fixture::cluster("2.4.17")))
        };
        assert_eq!(
            judge(
                &RULE,
                Some(&run("milvusdb/etcd:3.5.18")),
                &run("milvusdb/etcd:3.4.20")
            )
            .len(),
            1
        );
    }

    #[rstest]
    #[case::old("bitnami/kafka:3.1.0", "", "bitnami/kafka:4.0.0", Some(Severity::Deny))]
    #[case::named(
        "bitnami/kafka:3.9.0",
        "{name: KAFKA_CFG_ZOOKEEPER_CONNECT, value: zk}",
        "apache/kafka:4.1.0",
        Some(Severity::Deny)
    )]
    #[case::raft(
        "bitnami/kafka:3.9.0",
        "{name: KAFKA_CFG_PROCESS_ROLES, value: 'broker,controller'}",
        "bitnami/kafka:4.0.0",
        None
    )]
    #[case::unknown("bitnami/kafka:3.9.0", "", "bitnami/kafka:4.0.0", Some(Severity::Warn))]
    #[case::stays_below("bitnami/kafka:3.1.0", "", "bitnami/kafka:3.9.0", None)]
    #[case::is_above("bitnami/kafka:4.0.0", "", "bitnami/kafka:4.1.0", None)]
    #[case::confluent(
        "confluentinc/cp-kafka:7.9.0",
        "{name: KAFKA_ZOOKEEPER_CONNECT, value: zk}",
        "confluentinc/cp-kafka:8.0.0",
        Some(Severity::Deny)
    )]
    fn kafka_leaves_zookeeper_before_it_cannot_use_it(
        #[case] from: &str,
        #[case] variable: &str,
        #[case] to: &str,
        #[case] expected: Option<Severity>,
    ) {
        let run = |image: &str| {
            Fixture::cluster("2.5.16").object(&format!(
                "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-kafka}}\nspec:\n  selector:\n    matchLabels: {{app.kubernetes.io/name: kafka, app.kubernetes.io/instance: my-release}}\n  template:\n    spec:\n      containers: [{{name: kafka, image: \"{image}\", env: [{variable}]}}]\n"
            ))
        };
        let findings = judge(&RULE, Some(&run(from)), &run(to));
        assert_eq!(
            findings.first().map(|one| one.severity),
            expected,
            "{findings:?}"
        );
        // The ZooKeeper of the release tells as well.
        let keeper = |run: Fixture| {
            run.stateful_set(
                "my-release-zookeeper",
                "app.kubernetes.io/name: zookeeper",
                "bitnami/zookeeper:3.9.0",
            )
        };
        if expected == Some(Severity::Warn) {
            let findings = judge(&RULE, Some(&keeper(run(from))), &keeper(run(to)));
            assert_eq!(findings[0].severity, Severity::Deny, "{findings:?}");
        }
    }
}
