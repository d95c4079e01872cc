//! How many reviews are judged at once.

use tokio::sync::SemaphorePermit;

use super::Answerer;

/// Reviews that are judged at once for each core. They need the CPU, and a few wait for the API
/// server.
pub(super) const PER_CORE: usize = 4;

/// Reviews that are judged at once of those that are large, packed or full of YAML. Each may take
/// some 30 MiB.
pub(super) const HEAVY: u32 = 2;

/// Records of Helm that unpack to more than
/// [`milvus_guard_core::manifest::budget::SMALL_INPUT_BYTES`] at once. Each may take 100 MiB, so
/// nothing else that is heavy is judged meanwhile.
pub(super) const HUGE: usize = 1;

/// Leave to use the CPU.
pub(super) struct Turn<'s> {
    pub(super) heavy: Option<SemaphorePermit<'s>>,
    _slot: SemaphorePermit<'s>,
}

impl Answerer {
    /// Waits for a turn that takes so many of the heavy ones; anyone who waits for them holds no
    /// slot meanwhile. `None` if the server goes down.
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
