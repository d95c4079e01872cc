//! The memory budget of the cache. Each namespace has a limit, and if the total is used up, the
//! largest namespace must shrink: no namespace can fill the memory of a replica, or displace the
//! objects of another one.

use std::collections::HashMap;

pub use milvus_guard_core::manifest::weight::{MAX_NAMESPACE_BYTES, SMALL};

/// Most bytes of all objects. Ten thousand Deployments of Milvus take 25 MiB.
pub const MAX_BYTES: usize = 48 * 1024 * 1024;
/// Used bytes by namespace, and in total.
#[derive(Debug, Default)]
pub struct CacheBudget {
    namespaces: HashMap<String, usize>,
    total: usize,
}

impl CacheBudget {
    /// Records that the size of an object has changed.
    pub fn change(&mut self, namespace: &str, before: usize, after: usize) {
        self.total = self.total.saturating_sub(before) + after;
        let used = self.namespaces.entry(namespace.to_owned()).or_default();
        *used = used.saturating_sub(before) + after;
        if *used == 0 {
            self.namespaces.remove(namespace);
        }
    }

    /// Bytes of one namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> usize {
        self.namespaces.get(namespace).copied().unwrap_or(0)
    }

    /// The namespace that must shrink after one of them grew; `None` if everything fits.
    #[must_use]
    pub fn too_full(&self, grown: &str) -> Option<String> {
        if self.of(grown) > MAX_NAMESPACE_BYTES {
            return Some(grown.to_owned());
        }
        if self.total <= MAX_BYTES {
            return None;
        }
        self.namespaces
            .iter()
            .max_by_key(|(name, used)| (**used, *name))
            .map(|(name, _)| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_namespace_must_shrink() {
        let mut budget = CacheBudget::default();
        budget.change("milvus", 0, 1000);
        for n in 0..6 {
            budget.change(&format!("n{n}"), 0, MAX_NAMESPACE_BYTES);
        }
        assert_eq!(budget.too_full("milvus").as_deref(), Some("n5"));
        budget.change("n5", MAX_NAMESPACE_BYTES, MAX_NAMESPACE_BYTES - 1000);
        assert_eq!(budget.too_full("milvus"), None);
        budget.change("milvus", 1000, MAX_NAMESPACE_BYTES + 1);
        assert_eq!(budget.too_full("milvus").as_deref(), Some("milvus"));
        budget.change("milvus", MAX_NAMESPACE_BYTES + 1, 0);
        assert_eq!((budget.of("milvus"), budget.too_full("milvus")), (0, None));
    }
}
