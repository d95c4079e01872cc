//! Every row of the data has an effect: for each row of `bad-releases.yaml`, `paths.yaml`,
//! `orders.yaml` and of the bad charts in `hazards.yaml` some upgrade is constructed at which the
//! rule named there reports with the action named there. A row that no upgrade can reach fails, and
//! so do rows that contradict each other.
//!
//! | module | holds |
//! |---|---|
//! | `releases` | rows about bad releases |
//! | `paths` | rows about paths of versions |
//! | `orders` | rows about the order of components |
//! | `charts` | rows about charts |
//! | `recommended` | releases that the data recommends |

mod charts;
mod orders;
mod paths;
mod recommended;
mod releases;

use std::collections::BTreeSet;

use crate::{
    change::Upgrade,
    evidence::Facts,
    milvus::{
        Build,
        Component::{
            DataCoord, DataNode, IndexCoord, IndexNode, MixCoord, Proxy, QueryCoord, QueryNode,
            RootCoord,
        },
        Coordinators, Release, Topology, Version,
        catalogue::{BadRelease, Catalogue, PulsarTenant, Verdict, WoodpeckerStorage},
        settings::QueueKind,
    },
    rules::{Finding, Findings, Rule, Severity, testing::Fixture},
};

/// The rule alone, without the gates: thousands of upgrades are tried here.
fn found(
    rule: &'static Rule,
    before: Option<&Release>,
    after: &Release,
    catalogue: &Catalogue,
) -> Vec<Finding> {
    let facts = Facts::default();
    let upgrade = Upgrade::new(before, after, &facts, catalogue);
    let mut findings = Findings::of(rule);
    (rule.check)(&upgrade, &mut findings);
    findings.into_vec()
}

const fn severity(verdict: Verdict) -> Severity {
    match verdict {
        Verdict::Deny => Severity::Deny,
        Verdict::Warn => Severity::Warn,
        Verdict::Allow | Verdict::Info => Severity::Audit,
    }
}

/// Every release that the data names, and one below and one above each.
fn releases(catalogue: &Catalogue) -> Vec<Version> {
    let mut versions: BTreeSet<Version> =
        catalogue.released.iter().map(|row| row.version).collect();
    versions.extend(catalogue.landing.iter().map(|row| row.version));
    versions.extend(
        catalogue
            .charts
            .iter()
            .filter_map(|chart| Build::from_tag(&chart.tag))
            .map(|build| build.version),
    );
    versions.extend(
        [
            (0, 10, 6),
            (1, 1, 1),
            (2, 5, 20),
            (2, 6, 23),
            (2, 7, 0),
            (2, 7, 1),
            (3, 0, 1),
            (3, 1, 0),
            (3, 1, 1),
        ]
        .map(|(major, minor, patch)| Version::new(major, minor, patch)),
    );
    versions.into_iter().collect()
}

const QUEUES: [QueueKind; 5] = [
    QueueKind::Pulsar,
    QueueKind::Kafka,
    QueueKind::RocksMq,
    QueueKind::NatsMq,
    QueueKind::Woodpecker,
];

/// A running release of this shape; the configuration says what the shape says.
fn fixture(version: Version, shape: &Shape) -> Fixture {
    let mut fixture = match shape.topology {
        Topology::Standalone => Fixture::standalone(&version.to_string()),
        Topology::Cluster if shape.coordinators == Some(Coordinators::Separate) => Fixture::of(
            &version.to_string(),
            &[
                RootCoord, DataCoord, IndexCoord, QueryCoord, IndexNode, DataNode, QueryNode, Proxy,
            ],
        ),
        Topology::Cluster
            if shape.coordinators == Some(Coordinators::Mixed)
                && version < Version::new(2, 6, 0) =>
        {
            Fixture::of(
                &version.to_string(),
                &[MixCoord, IndexNode, DataNode, QueryNode, Proxy],
            )
        }
        Topology::Cluster => Fixture::cluster(&version.to_string()),
    };
    if let Some(tag) = &shape.tag {
        fixture = fixture.tag(tag);
    } else if let Some(suffix) = &shape.suffix {
        fixture = fixture.tag(&format!("v{version}-{suffix}"));
    }
    let metastore = shape.metastore.as_deref().unwrap_or("etcd");
    let storage = shape.storage.unwrap_or("minio");
    let tenant = match shape.tenant {
        None | Some(PulsarTenant::Default) => "public",
        Some(PulsarTenant::Other) => "other",
    };
    fixture.default_yaml(&format!(
        "etcd: {{endpoints: [my-release-etcd:2379]}}\nmq: {{type: {}}}\nmetastore: {{type: {metastore}}}\nwoodpecker: {{storage: {{type: {storage}}}}}\npulsar: {{tenant: {tenant}}}\n",
        shape.queue
    ))
}

#[derive(Clone, Debug)]
struct Shape {
    topology: Topology,
    coordinators: Option<Coordinators>,
    queue: QueueKind,
    storage: Option<&'static str>,
    metastore: Option<String>,
    tenant: Option<PulsarTenant>,
    suffix: Option<String>,
    tag: Option<String>,
}

impl Shape {
    fn of(topology: Topology) -> Self {
        Self {
            topology,
            coordinators: None,
            queue: QueueKind::Pulsar,
            storage: None,
            metastore: None,
            tenant: None,
            suffix: None,
            tag: None,
        }
    }

    fn of_row(row: &BadRelease) -> Self {
        let storage = row.when.woodpecker_storage.map(|storage| match storage {
            WoodpeckerStorage::Minio => "minio",
            WoodpeckerStorage::Local => "local",
            WoodpeckerStorage::Service => "service",
        });
        Self {
            queue: row
                .when
                .queue
                .first()
                .copied()
                .unwrap_or(if storage.is_some() {
                    QueueKind::Woodpecker
                } else {
                    QueueKind::Kafka
                }),
            storage,
            tenant: row.when.pulsar_tenant,
            suffix: row.variant.clone(),
            ..Self::of(row.when.topology.unwrap_or(Topology::Cluster))
        }
    }
}
