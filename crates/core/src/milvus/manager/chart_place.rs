//! Which chart of an installation made an object, as Helm's `# Source:` comments tell.

use crate::manifest::object::ObjectRef;

/// Charts that the Milvus chart brings, under the names that it gives them (`dependencies` of the
/// charts 3.0.0 to 5.0.30 of zilliztech/milvus-helm and of bitnami/milvus 13.2.5).
pub const SUB_CHARTS: [&str; 10] = [
    "etcd",
    "kafka",
    "minio",
    "mysql",
    "pulsar",
    "pulsarv2",
    "pulsarv3",
    "silo",
    "tei",
    "zookeeper",
];

/// Charts that others use for parts of Milvus' own, whose values are those of Milvus' chart.
const PARTS: [&str; 4] = ["attu", "common", "tikv", "woodpecker"];

/// Whether a chart of this name comes with Milvus: it does not show that there is a parent chart.
#[must_use]
pub fn comes_with_milvus(chart: &str) -> bool {
    SUB_CHARTS.contains(&chart) || PARTS.contains(&chart)
}

/// Bytes of a path that is read.
const MAX_PATH: usize = 1024;

/// Objects whose charts are known. Those of Milvus are few.
const MAX_OBJECTS: usize = 1024;

/// The charts from the one that was installed down to the one whose template made an object, under
/// their aliases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChartPlace(Vec<String>);

impl ChartPlace {
    /// Reads the path of a template, such as `platform/charts/milvus/templates/service.yaml`.
    /// `None` for those of a chart that Milvus brings.
    #[must_use]
    pub fn of_template(path: &str) -> Option<Self> {
        if path.len() > MAX_PATH {
            return None;
        }
        let (charts, _) = path.trim().split_once("/templates/")?;
        let names: Vec<String> = charts.split("/charts/").map(str::to_owned).collect();
        let is_plain = |name: &String| !name.is_empty() && !name.contains(['/', ' ']);
        let last = names.last()?;
        let is_own = names.len() == 1 || !comes_with_milvus(last);
        (is_own && names.iter().all(is_plain)).then_some(Self(names))
    }

    /// The key of the values of the chart that made the object, in those of its parent; `None` if
    /// it was installed itself.
    #[must_use]
    pub fn alias(&self) -> Option<&str> {
        self.0
            .last()
            .filter(|_| self.0.len() > 1)
            .map(String::as_str)
    }

    /// The chart that was installed, where it is another one.
    #[must_use]
    pub fn umbrella(&self) -> Option<&str> {
        self.0
            .first()
            .filter(|_| self.0.len() > 1)
            .map(String::as_str)
    }

    /// The keys between the values of both, joined with dots; `None` if there are none.
    #[must_use]
    pub fn between(&self) -> Option<String> {
        let inner = self.0.get(1..self.0.len().saturating_sub(1))?;
        (!inner.is_empty()).then(|| inner.join("."))
    }
}

/// The charts of objects. Bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChartPlaces(Vec<(ObjectRef, ChartPlace)>);

impl ChartPlaces {
    /// Notes which template made an object.
    pub fn add(&mut self, object: &ObjectRef, template: &str) {
        if self.0.len() < MAX_OBJECTS
            && let Some(place) = ChartPlace::of_template(template)
        {
            self.0.push((object.clone(), place));
        }
    }

    /// Takes in what others say.
    pub fn extend(&mut self, other: &Self) {
        let room = MAX_OBJECTS.saturating_sub(self.0.len());
        self.0.extend(other.0.iter().take(room).cloned());
    }

    /// The chart of an object; of several the last counts. A namespace that no one names is any.
    #[must_use]
    pub fn of(&self, object: &ObjectRef) -> Option<&ChartPlace> {
        let is_same = |known: &ObjectRef| {
            known.kind == object.kind
                && known.name == object.name
                && match (&known.namespace, &object.namespace) {
                    (Some(one), Some(other)) => one == other,
                    _ => true,
                }
        };
        self.0
            .iter()
            .rev()
            .find(|(known, _)| is_same(known))
            .map(|(_, place)| place)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("milvus/templates/standalone.yaml", Some((None, None, None)))]
    #[case("p/charts/milvus/templates/a.yaml", Some((Some("milvus"), Some("p"), None)))]
    #[case("p/charts/vectors/templates/a/b.yaml", Some((Some("vectors"), Some("p"), None)))]
    #[case("p/charts/q/charts/r/charts/milvus/templates/a.yaml",
        Some((Some("milvus"), Some("p"), Some("q.r"))))]
    #[case("milvus/charts/etcd/templates/a.yaml", None)]
    #[case("p/charts/milvus/charts/tei/templates/a.yaml", None)]
    #[case("etcd/templates/a.yaml", Some((None, None, None)))]
    #[case("milvus/crds/a.yaml", None)]
    #[case("/templates/a.yaml", None)]
    #[case("p/charts//templates/a.yaml", None)]
    #[case("a phrase/templates/a.yaml", None)]
    #[case("", None)]
    fn paths_of_templates_are_read(
        #[case] path: &str,
        #[case] expected: Option<(Option<&str>, Option<&str>, Option<&str>)>,
    ) {
        let place = ChartPlace::of_template(path);
        let between = place.as_ref().and_then(ChartPlace::between);
        let parts = place
            .as_ref()
            .map(|place| (place.alias(), place.umbrella(), between.as_deref()));
        assert_eq!(parts, expected);
    }

    #[test]
    fn long_paths_and_many_objects_are_left_out() {
        let long = format!("{}/templates/a.yaml", "p".repeat(MAX_PATH));
        assert_eq!(ChartPlace::of_template(&long), None);
        let object = |at: usize| ObjectRef {
            kind: "Deployment".into(),
            namespace: None,
            name: at.to_string(),
        };
        let mut places = ChartPlaces::default();
        for at in 0..=MAX_OBJECTS {
            places.add(&object(at), "p/charts/milvus/templates/a.yaml");
        }
        assert!(places.of(&object(0)).is_some());
        assert!(places.of(&object(MAX_OBJECTS)).is_none());
        places.extend(&places.clone());
        assert_eq!(places.0.len(), MAX_OBJECTS);
    }
}
