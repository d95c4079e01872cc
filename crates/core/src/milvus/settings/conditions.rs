//! Which settings count for a component, by the conditions of the data.

use std::{borrow::Cow, cell::OnceCell};

use super::{QueueKind, located::Located};
use crate::milvus::catalogue::{SettingCondition, SettingFact};

/// What the conditions of rows ask of a component, each read once; `None` if it is not known.
#[derive(Clone, Debug)]
pub struct Conditions<'a> {
    located: Located<'a>,
    queue: OnceCell<Option<QueueKind>>,
    metastore: OnceCell<Option<Cow<'a, str>>>,
    storage: OnceCell<Option<Cow<'a, str>>>,
    woodpecker: OnceCell<Option<Cow<'a, str>>>,
    cloud_provider: OnceCell<Option<Cow<'a, str>>>,
}

impl<'a> Conditions<'a> {
    /// Of this component.
    #[must_use]
    pub const fn of(located: Located<'a>) -> Self {
        Self {
            located,
            queue: OnceCell::new(),
            metastore: OnceCell::new(),
            storage: OnceCell::new(),
            woodpecker: OnceCell::new(),
            cloud_provider: OnceCell::new(),
        }
    }

    /// The configuration of the component.
    #[must_use]
    pub const fn located(&self) -> Located<'a> {
        self.located
    }

    /// Whether a condition of a row holds; `None` if that is not known.
    fn holds(&self, condition: &SettingCondition) -> Option<bool> {
        let located = &self.located;
        let is = |wanted: &[String], value: &str| wanted.iter().any(|one| one == value);
        match condition {
            SettingCondition::Queue(wanted) => {
                let queue = || Some(located.queue().ok()?.value);
                let queue = self.queue.get_or_init(queue).as_ref()?;
                Some(is(wanted, queue.name()))
            }
            SettingCondition::Metastore(wanted) => {
                let metastore = || Some(located.metastore().ok()?.value);
                Some(is(wanted, self.metastore.get_or_init(metastore).as_ref()?))
            }
            SettingCondition::Storage(wanted) => {
                let storage = || Some(located.storage().ok()?.value);
                Some(is(wanted, self.storage.get_or_init(storage).as_ref()?))
            }
            SettingCondition::Woodpecker(wanted) => {
                let storage = || located.woodpecker().ok();
                Some(is(wanted, self.woodpecker.get_or_init(storage).as_ref()?))
            }
            SettingCondition::CloudProvider(wanted) => {
                let provider = || located.cloud_provider().ok();
                let provider = self.cloud_provider.get_or_init(provider).as_ref()?;
                Some(is(wanted, provider))
            }
        }
    }

    /// Whether a row counts here: all its conditions hold, as far as they are known.
    #[must_use]
    pub fn count(&self, row: &SettingFact) -> bool {
        row.of.is_none()
            && row
                .when
                .iter()
                .all(|condition| self.holds(condition) == Some(true))
    }
}
