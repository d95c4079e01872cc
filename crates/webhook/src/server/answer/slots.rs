//! Limits for the number of reviews that are judged at the same time.

use tokio::sync::SemaphorePermit;

use super::Answerer;

/// Reviews that are judged at the same time for each core. They need the CPU, and a few wait for
/// the API server.
pub(super) const PER_CORE: usize = 4;

/// Heavy reviews (large, packed or with much YAML) that are judged at the same time. Each may take
/// about 30 MiB.
pub(super) const HEAVY: u32 = 2;

/// Records of Helm that unpack to more than
/// [`milvus_guard_core::manifest::budget::SMALL_INPUT_BYTES`] and are judged at the same time. Each
/// may take 100 MiB, so no other heavy review is judged with them.
pub(super) const HUGE: usize = 1;

/// Permits to use the CPU.
pub(super) struct Turn<'s> {
    pub(super) heavy: Option<SemaphorePermit<'s>>,
    _slot: SemaphorePermit<'s>,
}

impl Answerer {
    /// Waits for a turn with this many permits for heavy reviews; takes no slot until it has them.
    /// `None` if the server shuts down.
    pub(super) async fn turn(&self, heavy: u32) -> Option<Turn<'_>> {
        let heavy = if heavy > 0 {
            Some(self.heavy.acquire_many(heavy).await.ok()?)
        } else {
            None
        };
        Some(Turn {
            heavy,
            _slot: self.slots.acquire().await.ok()?,
        })
    }
}
