//! Places above the file of a chart: variables, and the user's file. Which one decides is known by
//! the caller.

use super::{Advice, component::values_of, wording::list_of};
use crate::milvus::{
    config::Place,
    manager::{Source, Vendor},
    release::ComponentWorkload,
};

impl Advice<'_, '_> {
    /// Takes a value away from where it stands. `components` are positions in the wanted release.
    #[must_use]
    pub fn take_away(&self, place: &Place, components: &[usize]) -> String {
        match place {
            Place::CommandLine(name) | Place::Variable(name) | Place::Imported { name, .. } => {
                format!(
                    "Remove {name} from {}.",
                    self.variable_place(place, components)
                )
            }
            Place::UserFile {
                key,
                object,
                beside_others,
            } => match &self.manager.source {
                Source::Operator { resource } => {
                    format!("Remove spec.config.{key} from the Milvus resource {resource}.")
                }
                Source::Chart(chart)
                    if chart.vendor == Vendor::Zilliz
                        && *beside_others
                        && self.reads("extraConfigFiles.user.yaml") =>
                {
                    format!(
                        "Remove {key} from the text user.yaml under {} {}.",
                        self.path("extraConfigFiles"),
                        self.values_place()
                    )
                }
                _ => format!(
                    "Remove {key} from user.yaml of {}.",
                    self.object_place(object)
                ),
            },
        }
    }

    /// Sets a variable where it stands.
    #[must_use]
    pub fn set_variable(&self, place: &Place, components: &[usize], value: &str) -> String {
        let (Place::CommandLine(name)
        | Place::Variable(name)
        | Place::Imported { name, .. }
        | Place::UserFile { key: name, .. }) = place;
        format!(
            "Set {name} to {value} in {}.",
            self.variable_place(place, components)
        )
    }

    /// Whether something above the file of a chart sets one of these keys in the wanted state.
    pub(super) fn is_above_chart(&self, keys: &[&str]) -> bool {
        self.upgrade
            .after
            .located()
            .any(|located| keys.iter().any(|key| !located.upper_places(key).is_empty()))
    }

    /// Settings that variables of the wanted state decide, each set there; and those that are left.
    pub(super) fn by_variables<'s>(
        &self,
        settings: &[(&'s str, &'s str)],
    ) -> (Vec<String>, Vec<(&'s str, &'s str)>) {
        let mut words = Vec::new();
        let mut below = Vec::new();
        for (key, value) in settings {
            let mut place = None;
            let mut components = Vec::new();
            for located in self.upgrade.after.located() {
                let places = located.upper_places(key).into_iter();
                if let Some(first) = places.into_iter().find(Place::is_variable) {
                    place.get_or_insert(first);
                    components.push(located.component());
                }
            }
            match place {
                Some(place) => words.push(self.set_variable(&place, &components, value)),
                None => below.push((*key, *value)),
            }
        }
        (words, below)
    }

    /// Where a variable stands, and where that is changed.
    fn variable_place(&self, place: &Place, components: &[usize]) -> String {
        if let Place::Imported { object, .. } = place {
            return self.object_place(object);
        }
        let all = &self.upgrade.after.components;
        let with: Vec<&ComponentWorkload> =
            components.iter().filter_map(|at| all.get(*at)).collect();
        let names = || list_of(with.iter().map(|one| one.component.to_string()));
        let line = matches!(place, Place::CommandLine(_));
        match &self.manager.source {
            Source::Chart(chart) if chart.vendor == Vendor::Zilliz && !line => {
                let mut paths: Vec<String> = Vec::new();
                for one in &with {
                    let path = self.path(&format!("{}.extraEnv", values_of(one.component)));
                    if !paths.contains(&path) {
                        paths.push(path);
                    }
                }
                format!("{} {}", list_of(paths), self.values_place())
            }
            Source::Operator { resource } if !line => {
                format!("env under spec.components of the Milvus resource {resource}")
            }
            Source::Chart(_) | Source::Operator { .. } => {
                let what = if line { "command line" } else { "environment" };
                format!("the {what} of {}", names())
            }
            Source::Manifests => {
                let what = if line { "command line" } else { "environment" };
                let objects = with.iter().map(|one| {
                    let object = &one.workload.meta.object;
                    format!("{} {}", object.kind, object.name)
                });
                self.object_place(&format!("the {what} of {}", list_of(objects)))
            }
        }
    }
}
