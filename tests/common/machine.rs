//! Who has the machine: the tests of one target run at the same time, and a test that measures
//! times or memory under load must not be measured next to another.
//!
//! A test takes one of these once, before it starts anything. Taken twice in one thread, it would
//! wait for itself.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

/// The machine for one test alone, until the value is dropped. Waits for the others.
pub type Alone = RwLockWriteGuard<'static, ()>;

/// Waits until every other test that takes the machine has ended.
pub fn alone() -> Alone {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Runs together with others that say this, but not together with a test that is [`alone`].
pub fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}
