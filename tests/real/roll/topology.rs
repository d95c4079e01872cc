//! The Milvus that is installed before a roll, and its target version.

use milvus_guard_testbed::MilvusVersion;
use serde_json::{Value, json};

/// A Milvus as it is installed, and its target version.
pub struct Topology {
    pub name: &'static str,
    pub from: MilvusVersion,
    pub to: MilvusVersion,
    /// Version of the chart.
    pub chart: &'static str,
    /// In-memory replicas of the data, each on its own query nodes.
    pub replicas: &'static str,
    /// Values of the chart.
    pub values: fn() -> Value,
    /// Seconds for which everything must be right after a roll before the watch ends.
    pub after: f64,
}

/// Within a minor version, with a standby for every component that supports one.
pub const WITHIN: Topology = Topology {
    name: "within",
    from: MilvusVersion::V2_3_2,
    to: MilvusVersion::V2_3_5,
    chart: "4.1.34",
    replicas: "2",
    values: || two_of_each(&recreated(with_standby())),
    after: 30.0,
};

/// The same with the default strategy of charts from 4.1.22 on: a new coordinator starts before an
/// old one ends.
pub const ROLLING: Topology = Topology {
    name: "rolling",
    values: || two_of_each(&with_standby()),
    ..WITHIN
};

/// To the next minor version, with one pod of each component.
pub const ACROSS: Topology = Topology {
    name: "across",
    from: MilvusVersion::V2_2_16,
    to: MilvusVersion::V2_3_5,
    chart: "4.0.31",
    replicas: "1",
    values: || json!({}),
    after: 30.0,
};

/// The topologies that `roll_compare` compares.
pub const COMPARED: [&Topology; 3] = [&WITHIN, &ROLLING, &ACROSS];

/// Like `WITHIN`, with one standby and with a shorter session TTL, so that the test waits less.
pub const SHORT: Topology = Topology {
    name: "short",
    values: || {
        json!({
            "extraConfigFiles": {"user.yaml": "common: {session: {ttl: 10}}\n"},
            "rootCoordinator": recreated(with_standby()),
            "queryNode": {"replicas": 2}, "proxy": {"replicas": 2},
        })
    },
    after: 15.0,
    ..WITHIN
};

fn two_of_each(coordinator: &Value) -> Value {
    json!({
        "rootCoordinator": coordinator, "dataCoordinator": coordinator,
        "indexCoordinator": coordinator, "queryCoordinator": coordinator,
        "queryNode": {"replicas": 2}, "proxy": {"replicas": 2},
    })
}

fn with_standby() -> Value {
    json!({"replicas": 2, "activeStandby": {"enabled": true}})
}

/// The charts of 2.3.2 and 2.3.5, up to 4.1.21, had only this strategy.
fn recreated(mut coordinator: Value) -> Value {
    coordinator["strategy"] = json!({"type": "Recreate"});
    coordinator
}
