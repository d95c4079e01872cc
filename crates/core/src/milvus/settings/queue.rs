//! The message queue that a component uses.

use super::{comparable::ComparableValue, located::Located};
use crate::milvus::{component::Topology, config::Unknown, endpoint::Host, queue_kind::QueueKind};
use std::collections::BTreeSet;

/// The message queue with everything that decides which topics are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue<'a> {
    /// Which system.
    pub kind: ComparableValue<'a, QueueKind>,
    /// Its brokers; empty for embedded queues.
    pub endpoints: ComparableValue<'a, BTreeSet<Host>>,
}

pub(super) fn default_queue(topology: Topology) -> QueueKind {
    match topology {
        Topology::Standalone => QueueKind::RocksMq,
        Topology::Cluster => QueueKind::Pulsar,
    }
}

impl<'a> Located<'a> {
    /// The message queue. The type is `mq.type` or `messageQueue` where one is set (not `default`).
    /// Charts up to 3.3.1 write neither. Then a standalone takes RocksMQ if `rocksmq.path` is set,
    /// else Pulsar, else Kafka (`initMQLocalService` and `initMQRemoteService` of Milvus 2.1); a
    /// cluster takes Pulsar before Kafka. The image's own `milvus.yaml` sets `rocksmq.path`, so its
    /// absence counts only where the file is replaced, as these charts do.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn queue(&self) -> Result<ComparableValue<'a, QueueKind>, &'a Unknown> {
        for key in ["mq.type", "messageQueue"] {
            if let Some(setting) = self.value(key)?
                && let Some(value) = QueueKind::named(setting.value)
            {
                return Ok(ComparableValue {
                    value,
                    setting: Some(setting),
                });
            }
        }
        let topology = self.release.topology();
        let is_remote = match topology {
            Topology::Standalone => {
                self.view.replaces_own_file() && self.value("rocksmq.path")?.is_none()
            }
            Topology::Cluster => true,
        };
        let value = if !is_remote {
            default_queue(topology)
        } else if self.value("pulsar.address")?.is_some() {
            QueueKind::Pulsar
        } else if self.value("kafka.brokerList")?.is_some() {
            QueueKind::Kafka
        } else {
            default_queue(topology)
        };
        Ok(ComparableValue {
            value,
            setting: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::{
        milvus::{queue_kind::QueueKind, snapshot::Builder},
        rules::testing::objects_of,
    };

    /// The queue of a standalone or cluster with this file of settings, as charts up to 3.3.1 mount
    /// it.
    fn queue(role: &str, path: &str, yaml: &str) -> QueueKind {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata:\n  file: |\n    {yaml}\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: my-release-milvus-{role}}}\nspec:\n  \
             template:\n    spec:\n      containers:\n      - name: {role}\n        image: \
             milvusdb/milvus:v2.1.4\n        args: [milvus, run, {role}]\n        volumeMounts:\n        \
             - {{name: c, mountPath: {path}, subPath: file}}\n      volumes:\n      \
             - {{name: c, configMap: {{name: c}}}}\n"
        );
        let mut builder = Builder::default();
        for object in objects_of(&text) {
            builder.add(object);
        }
        builder.build().releases[0].queue().kind.value
    }

    const OWN: &str = "/milvus/configs/milvus.yaml";
    const ABOVE: &str = "/milvus/configs/user.yaml";

    #[rstest]
    #[case::rocksmq_first(
        "standalone",
        OWN,
        "{rocksmq: {path: /d}, pulsar: {address: p}}",
        QueueKind::RocksMq
    )]
    #[case::pulsar_next(
        "standalone",
        OWN,
        "{pulsar: {address: p}, kafka: {brokerList: k}}",
        QueueKind::Pulsar
    )]
    #[case::then_kafka("standalone", OWN, "{kafka: {brokerList: k}}", QueueKind::Kafka)]
    #[case::no_queue_written("standalone", OWN, "{etcd: {rootPath: x}}", QueueKind::RocksMq)]
    #[case::the_images_own_file_below(
        "standalone",
        ABOVE,
        "{pulsar: {address: p}}",
        QueueKind::RocksMq
    )]
    #[case::a_type_wins(
        "standalone",
        OWN,
        "{mq: {type: rocksmq}, pulsar: {address: p}}",
        QueueKind::RocksMq
    )]
    #[case::cluster(
        "proxy",
        OWN,
        "{rocksmq: {path: /d}, kafka: {brokerList: k}}",
        QueueKind::Kafka
    )]
    #[case::cluster_with_both(
        "proxy",
        OWN,
        "{pulsar: {address: p}, kafka: {brokerList: k}}",
        QueueKind::Pulsar
    )]
    fn without_a_type(
        #[case] role: &str,
        #[case] path: &str,
        #[case] yaml: &str,
        #[case] expected: QueueKind,
    ) {
        assert_eq!(queue(role, path, yaml), expected);
    }
}
