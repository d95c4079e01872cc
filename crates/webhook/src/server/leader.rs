//! Leader election with a Lease: one replica does the tasks that only one replica may do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kube::Client;

use milvus_guard_core::error_text;
use milvus_guard_sources::kubernetes::lease::{Claim, Seen, Slot};

/// Name of the Lease in the guard's namespace.
pub const LEASE: &str = "milvus-guard-leader";
/// How long the Lease is valid without renewal; then another replica may lead.
const HOLDS: Duration = Duration::from_secs(15);
/// How often it is renewed: two attempts may fail.
const RENEW: Duration = Duration::from_secs(5);

/// Whether this replica leads.
#[derive(Clone, Default)]
pub struct Leader(Arc<AtomicBool>);

impl Leader {
    /// Whether this replica leads now.
    #[must_use]
    pub fn is_me(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Campaigns for leadership until the process ends.
    #[must_use]
    pub fn start(client: Client, namespace: &str, identity: &str) -> Self {
        let leader = Self::default();
        tokio::spawn(strive(
            Slot::new(client, namespace, LEASE, identity, HOLDS),
            leader.clone(),
        ));
        leader
    }

    fn set(&self, leads: bool) {
        if self.0.swap(leads, Ordering::Relaxed) != leads {
            tracing::info!(leads, "leadership changed");
        }
    }
}

async fn strive(slot: Slot, leader: Leader) {
    let mut seen = Seen::default();
    let mut renewed = Instant::now();
    loop {
        // Other replicas count from the time at which they see the renewal, which is later.
        let begun = Instant::now();
        match tokio::time::timeout(RENEW, slot.attempt(&mut seen)).await {
            Ok(Ok(Claim::Mine { .. })) => {
                renewed = begun;
                leader.set(true);
            }
            Ok(Ok(Claim::Theirs(_) | Claim::Contended)) => leader.set(false),
            Ok(Err(error)) => {
                tracing::debug!(
                    reason = error_text::chain(&error),
                    "the Lease could not be renewed"
                );
            }
            Err(_) => {}
        }
        // Stop leading before another replica may take the Lease.
        if renewed.elapsed() >= HOLDS.saturating_sub(RENEW) {
            leader.set(false);
        }
        tokio::time::sleep(RENEW).await;
    }
}
