//! Which settings count for a component, by the conditions of the data.

use super::located::Located;
use crate::milvus::catalogue::{SettingCondition, SettingFact};

impl Located<'_> {
    /// Whether a condition of a row holds; `None` if that is not known.
    fn holds(&self, condition: &SettingCondition) -> Option<bool> {
        let is = |wanted: &[String], value: &str| wanted.iter().any(|one| one == value);
        match condition {
            SettingCondition::Queue(wanted) => self
                .queue()
                .ok()
                .map(|queue| is(wanted, queue.value.name())),
            SettingCondition::Metastore(wanted) => self
                .metastore()
                .ok()
                .map(|metastore| is(wanted, &metastore.value)),
            SettingCondition::Storage(wanted) => self
                .storage()
                .ok()
                .map(|storage| is(wanted, &storage.value)),
            SettingCondition::Woodpecker(wanted) => {
                self.woodpecker().ok().map(|storage| is(wanted, &storage))
            }
        }
    }

    /// Whether a row counts here: all its conditions hold, as far as they are known.
    #[must_use]
    pub fn counts(&self, row: &SettingFact) -> bool {
        row.of.is_none()
            && row
                .when
                .iter()
                .all(|condition| self.holds(condition) == Some(true))
    }
}
