//! The message queue that holds the data, kept.

use std::borrow::Cow;

use super::{
    Advice,
    dependency::switch,
    remedy::{ChartPin, Remedy},
    wording::{clean, host_and_port, list_of, public, spaced},
};
use crate::milvus::{
    Release, Topology,
    dependency::Family,
    manager::{Source, Vendor},
    settings::QueueKind,
};

/// The key of Milvus' configuration that says where Woodpecker stores the log.
const LOG: &str = "woodpecker.storage.type";

/// The keys of Milvus' configuration that say which queue it uses.
fn queue_settings<'s>(
    kind: QueueKind,
    name: &'s str,
    endpoints: &'s str,
) -> Vec<(&'static str, &'s str)> {
    let mut settings = vec![("mq.type", name)];
    match kind {
        QueueKind::Kafka if !endpoints.is_empty() => settings.push(("kafka.brokerList", endpoints)),
        QueueKind::Pulsar if !endpoints.is_empty() => settings.push(("pulsar.address", endpoints)),
        _ => {}
    }
    settings
}

impl Advice<'_, '_> {
    /// Keeps the message queue that holds the data.
    #[must_use]
    pub fn keep_queue(&self) -> Remedy {
        let before = self.before();
        let queue = before.queue();
        let kind = queue.kind.value;
        let endpoints = clean(queue.endpoints.setting.map_or("", public)).into_owned();
        let name = kind.to_string();
        match &self.manager.source {
            Source::Operator { resource } => {
                let mut fields = vec![format!("spec.dependencies.msgStreamType: {name}")];
                if kind == QueueKind::Kafka
                    && self.is_external("kafka.brokerList")
                    && !endpoints.is_empty()
                {
                    fields.push("spec.dependencies.kafka.external: true".to_owned());
                    fields.push(format!(
                        "spec.dependencies.kafka.brokerList: [{}]",
                        spaced(&endpoints)
                    ));
                }
                let also = if kind == QueueKind::Pulsar {
                    " Do not change spec.dependencies.pulsar."
                } else {
                    ""
                };
                Remedy::words(format!(
                    "Set {} in the Milvus resource {resource}.{also}",
                    list_of(fields)
                ))
            }
            Source::Chart(chart) if chart.vendor == Vendor::Zilliz => {
                match self.queue_pins(kind, &endpoints) {
                    Some(pins) => self.set_values(&pins, &format!("Milvus stays on {name}")),
                    None => self.configure(&queue_settings(kind, &name, &endpoints)),
                }
            }
            Source::Chart(_) | Source::Manifests => {
                self.configure(&queue_settings(kind, &name, &endpoints))
            }
        }
    }

    /// Keeps the place where Woodpecker stores the log.
    #[must_use]
    pub fn keep_log(&self) -> Remedy {
        let storage = self.log_storage();
        match self.log_pins(&storage) {
            Some(pins) => self.set_values(&pins, "Woodpecker keeps its log"),
            None => self.configure(&[(LOG, &storage)]),
        }
    }

    /// Where Woodpecker stores the log now.
    fn log_storage(&self) -> String {
        let mut views = self.upgrade.before.into_iter().flat_map(Release::located);
        let storage = views.find_map(|located| located.woodpecker().ok());
        storage.map_or_else(|| "minio".to_owned(), Cow::into_owned)
    }

    /// The values with which a chart keeps the place of Woodpecker's log.
    fn log_pins(&self, storage: &str) -> Option<Vec<ChartPin>> {
        let (embedded, kind) = (
            "streaming.woodpecker.embedded",
            "streaming.woodpecker.storage.type",
        );
        if !self.manager.is_chart() || !self.reads(embedded) || !self.reads(kind) {
            return None;
        }
        Some(if storage == "service" {
            vec![
                ChartPin::new("woodpecker.enabled", "true"),
                ChartPin::new(embedded, "false"),
            ]
        } else {
            vec![
                ChartPin::new(embedded, "true"),
                ChartPin::new(kind, storage),
            ]
        })
    }

    /// The values with which a chart of the Milvus project keeps a queue; `None` if it has none for
    /// it. What the change has so already is left out.
    fn queue_pins(&self, kind: QueueKind, endpoints: &str) -> Option<Vec<ChartPin>> {
        let (before, after) = (self.before(), self.upgrade.after);
        let runs = |family| before.dependencies_of(family).next().is_some();
        let comes = |family| after.dependencies_of(family).next().is_some();
        let switches = after.queue().kind.value != kind;
        let mut pins = Vec::new();
        let mut add = |path: &str, value: &str| {
            if self.reads(path) {
                pins.push(ChartPin::new(path, value));
            }
        };
        let standalone = before.topology() == Topology::Standalone;
        if standalone && switches {
            add("standalone.messageQueue", &kind.to_string());
        }
        let (own, families): (bool, &[Family]) = match kind {
            QueueKind::RocksMq | QueueKind::NatsMq | QueueKind::Woodpecker if standalone => {
                (true, &[])
            }
            QueueKind::Woodpecker if self.reads("woodpecker.enabled") => {
                if switches {
                    add("woodpecker.enabled", "true");
                    let log = self.log_pins(&self.log_storage()).unwrap_or_default();
                    for pin in log.iter().filter(|pin| pin.path != "woodpecker.enabled") {
                        add(&pin.path, &pin.value);
                    }
                }
                (true, &[])
            }
            QueueKind::RocksMq | QueueKind::NatsMq | QueueKind::Woodpecker => return None,
            QueueKind::Pulsar => (
                runs(Family::PulsarV2) || runs(Family::PulsarV3),
                &[Family::PulsarV2, Family::PulsarV3],
            ),
            QueueKind::Kafka => (runs(Family::Kafka), &[Family::Kafka]),
        };
        for family in families
            .iter()
            .filter(|family| runs(**family) && !comes(**family))
        {
            add(switch(*family).unwrap_or_default(), "true");
        }
        if !own {
            let was_external = !switches && !families.iter().any(|family| comes(*family));
            match kind {
                _ if endpoints.is_empty() => return None,
                QueueKind::Pulsar => {
                    let (host, port) =
                        host_and_port(endpoints.split(',').next().unwrap_or_default());
                    if !was_external {
                        add("externalPulsar.enabled", "true");
                    }
                    add("externalPulsar.host", host);
                    add(
                        "externalPulsar.port",
                        port.or_else(|| before.config.value("pulsar.port"))
                            .unwrap_or("6650"),
                    );
                }
                _ => {
                    if !was_external {
                        add("externalKafka.enabled", "true");
                    }
                    add("externalKafka.brokerList", endpoints);
                }
            }
        }
        // An external queue goes before the one in the release.
        match after.queue().kind.value {
            QueueKind::Kafka if !comes(Family::Kafka) && (own || kind != QueueKind::Kafka) => {
                add("externalKafka.enabled", "false");
            }
            QueueKind::Pulsar
                if !comes(Family::PulsarV2)
                    && !comes(Family::PulsarV3)
                    && (own || kind != QueueKind::Pulsar) =>
            {
                add("externalPulsar.enabled", "false");
            }
            QueueKind::Woodpecker if !standalone && kind != QueueKind::Woodpecker => {
                add("woodpecker.enabled", "false");
            }
            _ => {}
        }
        for family in [Family::PulsarV2, Family::PulsarV3, Family::Kafka] {
            if comes(family) && !runs(family) {
                add(switch(family).unwrap_or_default(), "false");
            }
        }
        (!pins.is_empty()).then_some(pins)
    }
}
