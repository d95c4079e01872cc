//! Use of the machine: the tests of one target run at the same time, but a test that measures time
//! or memory under load must not run next to another.
//!
//! A test takes one of these locks once, before it starts anything. Taken twice in one thread, it
//! would deadlock.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

/// The machine for one test alone, until the value is dropped.
pub type Alone = RwLockWriteGuard<'static, ()>;

/// Waits until every other test that holds a lock of this module has ended.
pub fn alone() -> Alone {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// Runs together with other `shared` tests, but not together with a test that is [`alone`].
pub fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}
