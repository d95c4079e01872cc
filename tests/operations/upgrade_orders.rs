//! The order in which pods really change, read from the API server's watch, equals the order data:
//! for every source, target and layout with `MILVUS_GUARD_FULL`, else for a sample.

use crate::common::{self, Chart, roll::Roll, run};
use milvus_guard_core::milvus::{
    Component, Version,
    catalogue::{Catalogue, OrderTopology, OrderTopology::*},
};
use milvus_guard_testbed::Helm;

/// The chart with the source's layout, source, target, layout.
const TABLE: [(&str, &str, &str, OrderTopology); 12] = [
    ("4.0.31", "2.2.9", "2.2.16", Separate),
    ("4.0.31", "2.2.16", "2.3.22", Separate),
    ("4.1.34", "2.3.5", "2.3.22", Separate),
    ("4.1.34", "2.3.22", "2.4.24", Separate),
    ("4.1.34", "2.2.9", "2.2.16", Mixed),
    ("4.1.34", "2.2.16", "2.3.22", Mixed),
    ("4.1.34", "2.3.22", "2.4.24", Mixed),
    ("4.2.40", "2.4.24", "2.5.27", Mixed),
    ("4.2.40", "2.5.27", "2.6.22", StreamingIntroduction),
    ("5.0.14", "2.6.11", "2.6.22", Streaming),
    ("5.0.14", "2.6.22", "3.0.2", Streaming),
    ("4.1.34", "2.4.5", "2.4.24", Standalone),
];
/// Rows that are tested without `MILVUS_GUARD_FULL`.
const SAMPLE: [usize; 3] = [1, 8, 11];

#[test]
fn pods_change_in_the_order_of_the_data() {
    let roll = Roll::start();
    let full = common::is_full();
    for (index, (chart, from, to, topology)) in TABLE
        .into_iter()
        .enumerate()
        .filter(|(index, _)| full || SAMPLE.contains(index))
    {
        let case = format!("{from} to {to}, {topology:?}");
        eprintln!("{case}");
        let namespace = format!("case-{index}");
        let mut values = vec!["querynode.replicas=2"];
        match topology {
            Standalone => values.push("cluster.enabled=false"),
            Mixed | StreamingIntroduction => values.push("mixCoordinator.enabled=true"),
            _ => {}
        }
        let with = if index % 2 == 0 { Helm::V3 } else { Helm::V4 };
        roll.install(
            with,
            &namespace,
            &Chart::compact(chart),
            &format!("v{from}"),
            &values,
        );
        let shape = roll.shape(&namespace);
        let watch = roll.watch(&namespace);
        let (code, stdout, stderr) = run(&mut roll.upgrade(&namespace, to));
        assert_eq!(code, 0, "{case}: {stdout}\n{stderr}");
        let version = |text: &str| text.parse::<Version>().unwrap();
        let order = Catalogue::embedded()
            .order(version(from), version(to), topology)
            .unwrap();
        let image = format!("milvusdb/milvus:v{to}");
        let comes = |component: Component| {
            component == Component::StreamingNode && topology == StreamingIntroduction
        };
        let there = |component: Component| {
            shape
                .iter()
                .any(|line| line.contains(&format!("-{component} ")))
                || comes(component)
        };
        let expected: Vec<Component> = order
            .steps
            .iter()
            .flat_map(|step| &step.components)
            .copied()
            .filter(|component| there(*component))
            .collect();
        assert_eq!(watch.order(&image), expected, "{case}");
        watch.assert_order(
            &image,
            |component| order.before(component).collect(),
            &[Component::StreamingNode],
        );
        for removal in &order.remove {
            let gone = roll.deployment(&namespace, removal.component.name());
            assert_eq!(
                gone["spec"]["replicas"], 0,
                "{case}: {} must be stopped",
                removal.component
            );
        }
        assert_eq!(roll.owned_by_runs(&namespace), [""; 0], "{case}");
    }
}

#[test]
fn every_order_of_the_data_is_in_the_table_or_needs_helm() {
    let tried: Vec<&str> = TABLE
        .iter()
        .map(|(_, from, to, topology)| {
            Catalogue::embedded()
                .order(from.parse().unwrap(), to.parse().unwrap(), *topology)
                .unwrap()
                .id
                .as_str()
        })
        .collect();
    let untried: Vec<&str> = Catalogue::embedded()
        .orders
        .iter()
        .map(|order| order.id.as_str())
        .filter(|id| !tried.contains(id))
        .collect();
    // Denied as a path (one step over several minors), or a change of layout, which only Helm can
    // make.
    let expected = [
        "separate-2.2-to-later",
        "streaming-3.0",
        "separate-to-mixed-from-2.2",
        "separate-to-mixed",
    ];
    assert_eq!(untried, expected);
}
