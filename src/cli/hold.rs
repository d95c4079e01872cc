//! The flags of `serve` for Hold, and the controller that releases what is held.

use std::{sync::Arc, time::Duration};

use clap::Args as ClapArgs;

use milvus_guard_core::policy::resolve::{HoldScope, Holding};
use milvus_guard_operations::{
    engine::{EtcdAccess, ReleaseName},
    held_upgrade::{Controller, HoldSettings},
    rolling_upgrade::SessionHelp,
};
use milvus_guard_sources::kubernetes::Cluster;
use milvus_guard_webhook::server::{leader::Leader, metrics::Metrics, watch_cache::WatchCache};

use super::{duration::duration, exit::Failure, gather::ClusterArgs};

/// The flags for Hold.
#[derive(Debug, ClapArgs)]
pub(super) struct HoldArgs {
    /// Hold changes whose components must move in order: the webhook pauses them, and the leading
    /// replica releases them one by one. Needs the right to patch Deployments
    #[arg(long, help_heading = "Hold")]
    hold: bool,

    /// Hold changes in this namespace only; may be repeated
    #[arg(
        long,
        value_name = "NAMESPACE",
        requires = "hold",
        help_heading = "Hold"
    )]
    hold_namespace: Vec<String>,

    /// Time after which a held component that does not become complete is reported as stuck
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration, help_heading = "Hold")]
    hold_stuck_after: Duration,

    /// Leave the sessions in etcd of pods that have ended to the end of their leases
    #[arg(long, requires = "hold", help_heading = "Hold")]
    no_hold_session_help: bool,
}

impl HoldArgs {
    /// In which namespaces changes are held.
    pub(super) fn holding(&self) -> Holding {
        let scope = match (self.hold, self.hold_namespace.as_slice()) {
            (false, _) => HoldScope::Nowhere,
            (true, []) => HoldScope::Everywhere,
            (true, names) => HoldScope::Namespaces(names.into()),
        };
        scope.into()
    }

    /// Releases what is held, while this replica leads.
    ///
    /// # Errors
    /// If the cluster or a thread is not available.
    pub(super) async fn release(
        &self,
        cluster: &ClusterArgs,
        namespace: &str,
        leader: &Leader,
        store: &Arc<WatchCache>,
        metrics: &Arc<Metrics>,
    ) -> Result<(), Failure> {
        if !self.hold {
            return Ok(());
        }
        let cluster = Cluster::connect(&cluster.access())
            .await
            .map_err(Failure::no_verdict)?;
        let (leader, store) = (leader.clone(), Arc::clone(store));
        let metrics = Arc::clone(metrics);
        let held = move || {
            let releases = store.held_releases().into_iter();
            releases
                .map(|(namespace, name)| ReleaseName { name, namespace })
                .collect()
        };
        let controller = Controller {
            cluster,
            home: namespace.to_owned(),
            settings: HoldSettings {
                stuck_after: self.hold_stuck_after,
                session_help: if self.no_hold_session_help {
                    SessionHelp::Off
                } else {
                    SessionHelp::On
                },
                // For many releases: no login, and the addresses that each release configures.
                etcd: EtcdAccess::default(),
            },
            leads: move || leader.is_me(),
            held,
            report_stuck: move |count| {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                metrics.stuck_holds.set(count);
            },
        };
        controller
            .start()
            .map_err(|error| Failure::no_verdict(format!("cannot start a thread: {error}")))
    }
}
