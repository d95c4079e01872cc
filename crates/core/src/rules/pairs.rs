//! The settings that a rule watches, and the components in which they are compared.

use crate::{
    change::Upgrade,
    milvus::{catalogue::SettingFact, settings::Located},
};

/// The rows of the data that a rule watches.
pub(super) fn rows<'a>(
    upgrade: &Upgrade<'a>,
    rule: &'static str,
) -> impl Iterator<Item = &'a SettingFact> {
    upgrade
        .catalogue
        .settings
        .iter()
        .filter(move |row| row.rule.as_deref() == Some(rule))
}

/// The configurations of each component before and after. A component that is new is compared with
/// the first of the release, because it must find the same data.
pub(super) fn pairs<'a>(upgrade: &Upgrade<'a>) -> Vec<(Located<'a>, Located<'a>)> {
    let Some((before, after)) = upgrade.both() else {
        return Vec::new();
    };
    let old: Vec<Located<'a>> = before.located().collect();
    let counterpart = |new: &Located<'a>| {
        let component = after.components.get(new.component())?;
        let same_component = |located: &&Located<'a>| {
            before
                .components
                .get(located.component())
                .is_some_and(|other| other.component == component.component)
        };
        let same_name = |located: &&Located<'a>| {
            before
                .components
                .get(located.component())
                .is_some_and(|other| {
                    other.component == component.component
                        && other.workload.meta.object.name == component.workload.meta.object.name
                })
        };
        old.iter()
            .find(same_name)
            .or_else(|| old.iter().find(same_component))
            .or_else(|| old.first())
            .copied()
    };
    after
        .located()
        .filter_map(|new| Some((counterpart(&new)?, new)))
        .collect()
}
