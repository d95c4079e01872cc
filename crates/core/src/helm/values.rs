//! Which of the user's values a chart does not read, decided by what Helm stored of the chart: the
//! tree of its values, and its templates. Values of the chart are only walked, never kept; of
//! the user's only paths leave this file.

use std::{cell::Cell, collections::BTreeMap, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::few::Few;
use crate::milvus::release::UnreadValue;

/// Keys that are read of a chart's values. Charts with all their sub-charts have about three
/// thousand.
const MAX_KEYS: usize = 20_000;
/// Paths that are reported.
const MAX_UNREAD: usize = 50;
/// Bytes of templates that are searched. Those of Milvus' chart are about 200 KiB.
const MAX_TEMPLATES: usize = 4 * 1024 * 1024;
/// Sub-charts of a chart. Milvus' own has eight.
const MAX_DEPENDENCIES: usize = 1_000;
/// Templates of a chart, those of sub-charts not counted. Milvus' chart has about sixty.
const MAX_TEMPLATE_FILES: usize = 5_000;
/// Bytes of the paths of a chart's values, each written out. Those of Milvus' chart are about 100
/// KiB.
const MAX_PATH_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of one path of the user's.
const MAX_PATH: usize = 1024;
/// Bytes of templates that are searched for all paths together.
const MAX_SEARCHED: usize = 256 * 1024 * 1024;
/// Depth to which the user's values are walked.
const MAX_DEPTH: usize = 32;

/// Charts below Milvus' own: they check their values themselves, and Helm's record does not always
/// hold their defaults.
const SUB_CHARTS: [&str; 11] = [
    "etcd",
    "global",
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

/// Keys below which a chart passes every value through.
const FREE: [&str; 22] = [
    "affinity",
    "annotations",
    "containerSecurityContext",
    "extraConfigFiles",
    "extraEnv",
    "extraEnvVars",
    "labels",
    "limits",
    "livenessProbe",
    "matchLabels",
    "nodeSelector",
    "podAnnotations",
    "podLabels",
    "readinessProbe",
    "requests",
    "resources",
    "securityContext",
    "selector",
    "startupProbe",
    "strategy",
    "tolerations",
    "topologySpreadConstraints",
];

/// Values that templates of charts 3.2 to 5.0 read and that are in no values.yaml, for records
/// without templates.
const READ_BY_TEMPLATES: [&str; 22] = [
    "attu.affinity",
    "attu.image.pullSecrets",
    "attu.nodeSelector",
    "attu.service.clusterIP",
    "attu.service.loadBalancerIP",
    "attu.service.loadBalancerSourceRanges",
    "attu.tolerations",
    "extraConfigFiles",
    "fullnameOverride",
    "image.all.pullSecrets",
    "nameOverride",
    "proxy.tls.crt",
    "proxy.tls.key",
    "proxy.tls.secretName",
    "proxy.volumeMounts",
    "proxy.volumes",
    "queryNode.replicaResourceGroups",
    "service.clusterIP",
    "service.loadBalancerIP",
    "streamingNode.replicaResourceGroups",
    "streamingNode.topologySpreadConstraints",
    "woodpecker.podAnnotations",
];

/// Another chart's name for the same thing, where no path resembles it.
const RENAMED: [(&str, &str); 4] = [
    ("extraVolumes", "volumes"),
    ("extraVolumeMounts", "volumeMounts"),
    ("podSecurityContext", "securityContext"),
    ("imagePullSecrets", "image.all.pullSecrets"),
];

/// What Helm stored of a chart, as far as it tells what the chart reads.
#[derive(Default, Deserialize)]
pub(super) struct StoredChart<'a> {
    #[serde(default)]
    pub metadata: Option<ChartMetadata>,
    #[serde(default, borrow)]
    values: Option<&'a RawValue>,
    #[serde(default, borrow)]
    templates: Option<&'a RawValue>,
}

/// Name, version and sub-charts of a chart.
#[derive(Default, Deserialize)]
pub(super) struct ChartMetadata {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    dependencies: Few<ChartDependency, MAX_DEPENDENCIES>,
}

#[derive(Deserialize)]
struct ChartDependency {
    #[serde(default)]
    name: String,
    #[serde(default)]
    alias: Option<String>,
}

impl ChartDependency {
    /// The key under which the parent sets the values of the sub-chart.
    fn key(&self) -> &str {
        self.alias
            .as_deref()
            .filter(|alias| !alias.is_empty())
            .unwrap_or(&self.name)
    }
}

impl StoredChart<'_> {
    /// The user's values that this chart does not read, ordered by path. `None` if the record does
    /// not tell: it holds no values of the chart, or more than can be read, or no chart of
    /// Milvus is among them.
    pub(super) fn unread(&self, user: &Value) -> Option<Vec<UnreadValue>> {
        let values = self.values?;
        // Most releases are other charts: their values need no reading.
        if !values.get().contains("\"cluster\"") || !values.get().contains("\"all\"") {
            return None;
        }
        let shape = Shape::read(values)?;
        let dependencies = match &self.metadata {
            Some(metadata) => metadata.dependencies.get()?,
            None => &[],
        };
        let keys: Vec<&str> = dependencies.iter().map(ChartDependency::key).collect();
        let mut search = Search {
            found: Vec::new(),
            templates: Templates {
                raw: self.templates,
                texts: None,
                left: MAX_SEARCHED,
            },
            is_whole: true,
        };
        if shape.is_milvus() {
            let skipped = |key: &str| SUB_CHARTS.contains(&key) || keys.contains(&key);
            search.chart(user, &shape, "", &skipped);
        } else {
            // An umbrella: Milvus' values stand under the name or alias of its sub-chart. The
            // templates are the umbrella's.
            search.templates.raw = None;
            let Shape::Map(entries) = &shape else {
                return None;
            };
            let parts: Vec<_> = entries
                .iter()
                .filter(|(_, part)| part.is_milvus() && part.is_complete())
                .collect();
            if parts.is_empty() {
                return None;
            }
            for (key, part) in parts {
                if let Some(user) = user.get(key) {
                    search.chart(user, part, &format!("{key}."), &|key| {
                        SUB_CHARTS.contains(&key)
                    });
                }
            }
        }
        search.is_whole.then_some(search.found)
    }
}

/// The keys of a chart's values. A value without keys accepts everything below it.
#[derive(Debug, PartialEq)]
enum Shape {
    Map(BTreeMap<String, Shape>),
    Open,
}

impl Shape {
    fn read(raw: &RawValue) -> Option<Self> {
        let left = Cell::new(MAX_KEYS);
        let shape = Reader(&left)
            .deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
            .ok()?;
        (left.get() > 0 && shape != Self::Open).then_some(shape)
    }

    fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.get(key),
            Self::Open => None,
        }
    }

    /// Whether these are the values of Milvus' chart from 3.0 on, under any name.
    fn is_milvus(&self) -> bool {
        self.get("cluster").is_some()
            && self
                .get("image")
                .is_some_and(|image| image.get("all").is_some())
    }

    /// Whether the values are those of the chart itself, and not only what an umbrella sets of
    /// them.
    fn is_complete(&self) -> bool {
        const PARTS: [&str; 10] = [
            "dataNode",
            "etcd",
            "externalS3",
            "ingress",
            "log",
            "metrics",
            "minio",
            "proxy",
            "queryNode",
            "standalone",
        ];
        PARTS.iter().filter(|part| self.get(part).is_some()).count() >= PARTS.len() - 2
    }

    /// Every path, the shortest first; `None` if they are too long to be written out.
    fn paths(&self) -> Option<Vec<String>> {
        let mut all = Vec::new();
        let mut left = MAX_PATH_BYTES;
        let mut level = vec![(String::new(), self)];
        while !level.is_empty() {
            let mut next = Vec::new();
            for (path, shape) in level {
                let Self::Map(entries) = shape else { continue };
                for (key, below) in entries {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    left = left.checked_sub(path.len())?;
                    all.push(path.clone());
                    next.push((path, below));
                }
            }
            level = next;
        }
        Some(all)
    }
}

/// Reads keys as long as some are left.
#[derive(Clone, Copy)]
struct Reader<'c>(&'c Cell<usize>);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut entries = BTreeMap::new();
        while self.0.get() > 0 {
            let Some(key) = map.next_key::<String>()? else {
                return Ok(if entries.is_empty() {
                    Shape::Open
                } else {
                    Shape::Map(entries)
                });
            };
            self.0.set(self.0.get() - 1);
            entries.insert(key, map.next_value_seed(self)?);
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Shape::Open)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Shape::Open)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Open)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Open)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Open)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Open)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Open)
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Open)
    }
}

/// Collects what is not read.
struct Search<'a> {
    found: Vec<UnreadValue>,
    templates: Templates<'a>,
    /// Whether everything was looked at.
    is_whole: bool,
}

impl Search<'_> {
    /// Compares the user's values of one chart of Milvus.
    fn chart(&mut self, user: &Value, shape: &Shape, prefix: &str, skipped: &dyn Fn(&str) -> bool) {
        let Value::Object(entries) = user else { return };
        let mut unknown = Vec::new();
        // Keys of these forms hold anchors for the user's own file.
        let is_helper = |key: &str| key.starts_with("x-") || key.starts_with(['_', '.']);
        for (key, value) in entries
            .iter()
            .filter(|(key, _)| !skipped(key) && !is_helper(key))
        {
            compare(value, shape.get(key), key.clone(), &mut unknown, 0);
        }
        if unknown.is_empty() {
            return;
        }
        let known = shape
            .paths()
            .filter(|_| unknown.iter().all(|path| path.len() <= MAX_PATH));
        let Some(known) = known else {
            self.is_whole = false;
            return;
        };
        unknown.retain(|path| {
            let is_read = self.templates.read(path);
            self.is_whole &= is_read.is_some();
            is_read == Some(false)
        });
        unknown.sort();
        for path in unknown {
            if self.found.len() < MAX_UNREAD {
                let nearest = nearest(&path, &known).map(|nearest| format!("{prefix}{nearest}"));
                self.found.push(UnreadValue {
                    path: format!("{prefix}{path}"),
                    nearest,
                });
            }
        }
    }
}

/// Adds the paths below `path` that the chart's values do not have. A value of `null` takes a
/// default away and sets nothing.
fn compare(
    value: &Value,
    shape: Option<&Shape>,
    path: String,
    unknown: &mut Vec<String>,
    depth: usize,
) {
    let is_free = |path: &str| {
        path.rsplit('.')
            .next()
            .is_some_and(|key| FREE.contains(&key))
    };
    // A little more than is reported, because templates may read some of them.
    // One path that is too long is enough to know that this is not to be told.
    let is_too_long = unknown.last().is_some_and(|path| path.len() > MAX_PATH);
    if value.is_null() || depth > MAX_DEPTH || unknown.len() >= MAX_UNREAD * 4 || is_too_long {
        return;
    }
    match (shape, value) {
        _ if path.len() > MAX_PATH => unknown.push(path),
        (Some(Shape::Map(_)), Value::Object(entries)) if !is_free(&path) => {
            for (key, below) in entries {
                compare(
                    below,
                    shape.and_then(|shape| shape.get(key)),
                    format!("{path}.{key}"),
                    unknown,
                    depth + 1,
                );
            }
        }
        (Some(_), _) => {}
        // Of what is not known as a whole, each value is named.
        (None, Value::Object(entries)) if !entries.is_empty() && !is_free(&path) => {
            for (key, below) in entries {
                compare(below, None, format!("{path}.{key}"), unknown, depth + 1);
            }
        }
        // An empty map or list sets nothing.
        (None, Value::Object(entries)) if entries.is_empty() => {}
        (None, Value::Array(items)) if items.is_empty() => {}
        (None, _) => unknown.push(path),
    }
}

/// The chart's templates, taken out when they are first asked for.
struct Templates<'a> {
    raw: Option<&'a RawValue>,
    texts: Option<Vec<String>>,
    /// Bytes that may still be searched.
    left: usize,
}

#[derive(Deserialize)]
struct Template {
    #[serde(default)]
    data: String,
}

impl Templates<'_> {
    /// Whether a template names the value, something below it, or as a whole a map that holds it.
    /// `None` if that would take too long to find out.
    fn read(&mut self, path: &str) -> Option<bool> {
        let begins = |known: &str| {
            path == known
                || path
                    .strip_prefix(known)
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        if READ_BY_TEMPLATES.iter().any(|known| begins(known)) {
            return Some(true);
        }
        let texts = self.texts.get_or_insert_with(|| Self::texts(self.raw));
        let size: usize = texts.iter().map(String::len).sum();
        let mut end = path.len();
        loop {
            let Some(part) = path.get(..end) else {
                return Some(false);
            };
            self.left = self.left.checked_sub(size)?;
            let name = format!(".Values.{part}");
            let is_whole = end == path.len();
            let named = texts.iter().any(|text| {
                text.match_indices(&name).any(|(at, _)| {
                    match text.as_bytes().get(at + name.len()) {
                        Some(b'.') => is_whole,
                        Some(byte) => !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'-'),
                        None => true,
                    }
                })
            });
            if named {
                return Some(true);
            }
            match part.rfind('.') {
                Some(dot) => end = dot,
                None => return Some(false),
            }
        }
    }

    fn texts(raw: Option<&RawValue>) -> Vec<String> {
        let Some(raw) = raw.filter(|raw| raw.get().len() <= MAX_TEMPLATES * 2) else {
            return Vec::new();
        };
        let templates: Few<Template, MAX_TEMPLATE_FILES> =
            serde_json::from_str(raw.get()).unwrap_or_default();
        let texts = templates
            .all()
            .into_iter()
            .flatten()
            .filter_map(|template| BASE64_STANDARD.decode(template.data).ok());
        let mut left = MAX_TEMPLATES;
        let within = |text: &Vec<u8>| {
            left = left.saturating_sub(text.len());
            left > 0
        };
        texts
            .take_while(within)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .collect()
    }
}

/// The path that was most likely meant: the shortest that has every name of the given one in its
/// order, else the one next to it whose last name is the same or nearly so.
fn nearest<'k>(path: &str, known: &'k [String]) -> Option<&'k str> {
    let names: Vec<&str> = path.split('.').collect();
    let (last, first) = (names.last()?, names.first()?);
    let holds = |candidate: &str| {
        let mut rest = candidate.split('.');
        names.len() > 1 && names.iter().all(|name| rest.any(|other| other == *name))
    };
    // Paths come shortest first. Below the same part of the chart is likelier than below another
    // one.
    let same_part = |candidate: &str| candidate.split('.').next() == Some(*first);
    let held = || known.iter().filter(|candidate| holds(candidate));
    if let Some(found) = held()
        .find(|candidate| same_part(candidate))
        .or_else(|| held().next())
    {
        return Some(found);
    }
    if let Some((_, other)) = RENAMED.iter().find(|(name, _)| name == last)
        && let Some(found) = known.iter().find(|candidate| candidate == other)
    {
        return Some(found);
    }
    let parent = path.rsplit_once('.').map(|(parent, _)| parent);
    let resembles = |candidate: &&String| {
        let (beside, name) = candidate
            .rsplit_once('.')
            .map_or((None, candidate.as_str()), |(beside, name)| {
                (Some(beside), name)
            });
        beside == parent && name.len() > 3 && distance(name, last) <= 2
    };
    let moved = |candidate: &&String| {
        let mut parts = candidate.split('.');
        names.len() > 1 && parts.next() == Some(*first) && parts.next_back() == Some(*last)
    };
    known
        .iter()
        .find(resembles)
        .or_else(|| known.iter().find(moved))
        .map(String::as_str)
}

/// Letters to change, add or take away between two names, case apart. Long names count as
/// different.
fn distance(one: &str, two: &str) -> usize {
    if one.len() > 64 || two.len() > 64 {
        return usize::MAX;
    }
    let (one, two) = (one.to_ascii_lowercase(), two.to_ascii_lowercase());
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (at, a) in one.bytes().enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(two.bytes()) {
            let above = *cell;
            let next = (diagonal + usize::from(a != b))
                .min(left + 1)
                .min(above + 1);
            (diagonal, left) = (above, next);
            *cell = next;
        }
        if let Some(start) = row.first_mut() {
            *start = at + 1;
        }
    }
    row.last().copied().unwrap_or(one.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    /// Values of a chart, as far as these tests ask for them.
    fn defaults() -> Value {
        json!({
            "cluster": {"enabled": true},
            "image": {"all": {"repository": "milvusdb/milvus", "tag": "v2.5.14"}, "tools": {"tag": "v0.1.2"}},
            "nodeSelector": {}, "volumes": [], "volumeMounts": [], "customConfigMap": "",
            "extraConfigFiles": {"user.yaml": ""},
            "service": {"type": "ClusterIP", "annotations": {"a": "b"}},
            "standalone": {
                "resources": {"requests": {"cpu": "1"}}, "extraEnv": [],
                "persistence": {"enabled": true, "persistentVolumeClaim": {"size": "50Gi", "storageClass": null}},
            },
            "proxy": {"replicas": 1}, "attu": {"image": {"repository": "zilliz/attu", "tag": "v2.4"}},
            "etcd": {"enabled": true},
        })
    }

    fn unread_with(
        templates: &[&str],
        user: &Value,
        values: &Value,
        metadata: &Value,
    ) -> Option<Vec<(String, Option<String>)>> {
        let templates: Vec<Value> = templates
            .iter()
            .map(|text| json!({"name": "t", "data": BASE64_STANDARD.encode(text)}))
            .collect();
        let text =
            json!({"metadata": metadata, "values": values, "templates": templates}).to_string();
        let chart: StoredChart<'_> = serde_json::from_str(&text).unwrap();
        Some(
            chart
                .unread(user)?
                .into_iter()
                .map(|value| (value.path, value.nearest))
                .collect(),
        )
    }

    fn unread(user: &Value) -> Vec<(String, Option<String>)> {
        unread_with(&[], user, &defaults(), &json!({"name": "milvus"})).unwrap()
    }

    #[rstest]
    #[case(json!({"image": {"tag": "v2.6.0"}}), "image.tag", Some("image.all.tag"))]
    #[case(json!({"image": {"repository": "x"}}), "image.repository", Some("image.all.repository"))]
    #[case(json!({"standalone": {"persistence": {"size": "10Gi"}}}), "standalone.persistence.size", Some("standalone.persistence.persistentVolumeClaim.size"))]
    #[case(json!({"standalone": {"extraVolumes": [{"name": "x"}]}}), "standalone.extraVolumes", Some("volumes"))]
    #[case(json!({"standalone": {"persistance": {"enabled": false}}}), "standalone.persistance.enabled", Some("standalone.persistence.enabled"))]
    #[case(json!({"proxy": {"replica": 2}}), "proxy.replica", Some("proxy.replicas"))]
    #[case(json!({"metadata": {"rootPath": "prod"}}), "metadata.rootPath", None)]
    #[case(json!({"nothing": true}), "nothing", None)]
    fn what_the_chart_does_not_have_is_named(
        #[case] user: Value,
        #[case] path: &str,
        #[case] nearest: Option<&str>,
    ) {
        assert_eq!(
            unread(&user),
            [(path.to_owned(), nearest.map(str::to_owned))]
        );
    }

    #[rstest]
    #[case(json!({"image": {"all": {"tag": "v2.5.16", "pullSecrets": ["x"]}}}))]
    #[case(json!({"nodeSelector": {"pool": "milvus"}, "volumes": [{"name": "x"}], "customConfigMap": "mine"}))]
    #[case(json!({"extraConfigFiles": {"user.yaml": "x", "other.yaml": "y"}}))]
    #[case(json!({"service": {"annotations": {"any/thing": "x"}, "loadBalancerIP": "10.0.0.1"}}))]
    #[case(json!({"standalone": {"resources": {"limits": {"memory": "8Gi", "nvidia.com/gpu": 1}}}}))]
    #[case(json!({"standalone": {"persistence": {"persistentVolumeClaim": {"storageClass": "gp3"}}}}))]
    #[case(json!({"etcd": {"anything": {"at": "all"}}, "pulsarv3": {"bookkeeper": {}}, "global": {"x": 1}}))]
    #[case(json!({"image": {"tag": null}, "unknown": {}, "other": []}))]
    #[case(json!({"x-resources": {"a": 1}, "_anchors": [1], ".common": 2}))]
    #[case(json!(null))]
    #[case(json!("text"))]
    fn what_the_chart_reads_or_hands_on_is_not(#[case] user: Value) {
        assert_eq!(unread(&user), []);
    }

    #[test]
    fn templates_read_more_than_the_values_say() {
        let user =
            json!({"proxy": {"own": {"a": 1, "b": 2}, "http": {"enabled": true}, "ownMore": 1}});
        let found = |templates: &[&str]| {
            unread_with(templates, &user, &defaults(), &json!({"name": "milvus"}))
                .unwrap()
                .len()
        };
        assert_eq!(found(&[]), 4);
        assert_eq!(found(&["{{ .Values.proxy.own.a }}"]), 3);
        assert_eq!(found(&["{{- toYaml .Values.proxy.own | nindent 4 }}"]), 2);
        assert_eq!(
            found(&[
                "{{ if .Values.proxy.http.enabled }}",
                "{{ .Values.proxy.ownMore }}"
            ]),
            2
        );
    }

    #[test]
    fn umbrellas_are_compared_below_the_alias() {
        let mut milvus = defaults();
        for part in [
            "dataNode",
            "externalS3",
            "ingress",
            "log",
            "metrics",
            "minio",
            "queryNode",
        ] {
            milvus[part] = json!({"enabled": true});
        }
        let values = json!({"web": {"replicas": 1}, "vectors": milvus});
        let metadata =
            json!({"name": "shop", "dependencies": [{"name": "milvus", "alias": "vectors"}]});
        let user = json!({"web": {"own": 1}, "other": 1, "vectors": {"image": {"tag": "x"}, "etcd": {"x": 1}}});
        let found = unread_with(&[], &user, &values, &metadata).unwrap();
        assert_eq!(
            found,
            [(
                "vectors.image.tag".to_owned(),
                Some("vectors.image.all.tag".to_owned())
            )]
        );
        assert_eq!(
            unread_with(&[], &user, &json!({"web": {"replicas": 1}}), &metadata),
            None
        );
        // What the umbrella itself sets of the chart is not the chart.
        let set =
            json!({"vectors": {"cluster": {"enabled": true}, "image": {"all": {"tag": "x"}}}});
        assert_eq!(unread_with(&[], &user, &set, &metadata), None);
    }

    #[test]
    fn an_alias_of_a_sub_chart_is_skipped() {
        let metadata =
            json!({"name": "milvus", "dependencies": [{"name": "etcd", "alias": "store"}]});
        let user = json!({"store": {"replicaCount": 3}, "image": {"tag": "x"}});
        assert_eq!(
            unread_with(&[], &user, &defaults(), &metadata)
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn what_cannot_be_told_is_none() {
        let user = json!({"image": {"tag": "x"}});
        for values in [
            json!(null),
            json!({}),
            json!([]),
            json!({"image": {"repository": "x"}}),
        ] {
            assert_eq!(
                unread_with(&[], &user, &values, &json!({"name": "milvus"})),
                None,
                "{values}"
            );
        }
        let many: serde_json::Map<String, Value> = (0..=MAX_KEYS)
            .map(|key| (format!("k{key}"), json!(1)))
            .collect();
        let mut values = defaults();
        values["many"] = Value::Object(many);
        assert_eq!(
            unread_with(&[], &user, &values, &json!({"name": "milvus"})),
            None
        );
    }

    #[test]
    fn many_values_are_bounded() {
        let many: serde_json::Map<String, Value> = (0..10_000)
            .map(|key| (format!("k{key}"), json!(1)))
            .collect();
        assert_eq!(unread(&Value::Object(many)).len(), MAX_UNREAD);
    }

    proptest! {
        #[test]
        fn names_of_any_kind_do_not_panic(one in "\\PC{0,12}", two in "\\PC{0,12}") {
            distance(&one, &two);
            let key = format!("{one}.{two}");
            unread(&json!({key.clone(): {one: two}}));
            nearest(&key, &[String::from("image.all.tag")]);
        }

        #[test]
        fn distances_are_those_of_an_edit(name in "[a-z]{4,20}", at in 0_usize..4) {
            let mut shorter = name.clone();
            shorter.remove(at);
            prop_assert_eq!(distance(&name, &name), 0);
            prop_assert_eq!(distance(&name, &shorter), 1);
            prop_assert_eq!(distance(&shorter, &name), 1);
        }
    }
}
