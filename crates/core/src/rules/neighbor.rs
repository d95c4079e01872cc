//! What rules say of a new release next to one that runs.

use crate::{
    change::{Aspect, Upgrade},
    milvus::shared_data::Shared,
};

use super::Findings;

/// What a rule says of a new release that shares data with one that runs.
pub(super) struct Objection {
    /// What they share.
    pub shared: Shared,
    /// What the new release would do as the running one does.
    pub does: &'static str,
    /// What comes of it.
    pub why: &'static str,
    /// What to do instead.
    pub fix: &'static str,
}

impl Objection {
    /// Raises it where it applies; returns whether a neighbor is judged, and not a change.
    pub(super) fn judge(&self, upgrade: &Upgrade<'_>, findings: &mut Findings) -> bool {
        let Aspect::Neighbor(shared) = upgrade.aspect else {
            return false;
        };
        if let Some((running, new)) = upgrade.both().filter(|_| shared == self.shared) {
            findings.checked();
            let finding = findings.deny(format!(
                "{} would {} {}, which has other metadata",
                new.label(),
                self.does,
                running.label()
            ));
            finding.because(self.why).fix(self.fix);
            if let Some(first) = new.components.first() {
                finding.on(first);
            }
        }
        true
    }
}
