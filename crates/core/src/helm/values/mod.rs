//! Which of the user's values a chart does not read, decided by what Helm stored of the chart: the
//! tree of its values, and its templates. Values of the chart are only walked, never kept; of
//! the user's only paths leave this file.

mod shape;
mod suggestion;
mod templates;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use shape::Shape;
use suggestion::{MAX_SEARCHED, nearest};
use templates::Templates;

use crate::{
    helm::few::Few,
    milvus::{manager::SUB_CHARTS, release::UnreadValue},
};

/// Paths that are reported.
const MAX_UNREAD: usize = 50;

/// Sub-charts of a chart. Milvus' own has eight.
const MAX_DEPENDENCIES: usize = 1_000;

/// Bytes of the paths of a chart's values, each written out. Those of Milvus' chart are about 100
/// KiB.
const MAX_PATH_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of one path of the user's.
const MAX_PATH: usize = 1024;

/// Depth to which the user's values are walked.
const MAX_DEPTH: usize = 32;

/// Whether the values under a key go to a chart below Milvus' own: they check their values
/// themselves, and Helm's record does not always hold their defaults.
fn goes_below(key: &str) -> bool {
    key == "global" || SUB_CHARTS.contains(&key)
}

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
            let skipped = |key: &str| goes_below(key) || keys.contains(&key);
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
            for dependency in dependencies {
                let is_milvus = |(key, _): &&(&String, &Shape)| *key == dependency.key();
                if let Some((key, part)) = parts.iter().find(is_milvus).copied()
                    && shape.get(&dependency.name).is_none()
                    && !keys.contains(&dependency.name.as_str())
                {
                    let templates = self.templates;
                    search.misplaced(user, &dependency.name, key, part, templates);
                }
            }
            for (key, part) in parts {
                if let Some(user) = user.get(key) {
                    search.chart(user, part, &format!("{key}."), &|key| goes_below(key));
                }
            }
        }
        search.is_whole.then_some(search.found)
    }
}

/// Collects what is not read.
struct Search<'a> {
    found: Vec<UnreadValue>,
    templates: Templates<'a>,
    /// Whether everything was looked at.
    is_whole: bool,
}

impl<'a> Search<'a> {
    /// Values under the name of a sub-chart that has an alias: Helm hands over those under the
    /// alias only.
    fn misplaced(
        &mut self,
        user: &Value,
        name: &str,
        alias: &str,
        part: &Shape,
        umbrella: Option<&'a RawValue>,
    ) {
        let Some(value) = user.get(name) else { return };
        let mut unknown = Vec::new();
        compare(value, None, name.to_owned(), &mut unknown, 0);
        let mut templates = Templates {
            raw: umbrella,
            texts: None,
            left: MAX_SEARCHED,
        };
        unknown.sort();
        for path in unknown {
            match templates.read(&path) {
                Some(true) => continue,
                Some(false) => {}
                None => self.is_whole = false,
            }
            if self.found.len() < MAX_UNREAD {
                let below = path.get(name.len()..).unwrap_or_default();
                let first = below.trim_start_matches('.').split('.').next();
                let nearest = first
                    .filter(|first| part.get(first).is_some())
                    .map(|_| format!("{alias}{below}"));
                self.found.push(UnreadValue { path, nearest });
            }
        }
    }

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
        // What a chart below calls the same does not do the same for Milvus.
        let is_own = |path: &String| !skipped(path.split('.').next().unwrap_or_default());
        let own: Vec<String> = known.into_iter().filter(is_own).collect();
        for path in unknown {
            if self.found.len() < MAX_UNREAD {
                let nearest = nearest(&path, &own).map(|nearest| format!("{prefix}{nearest}"));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::shape::MAX_KEYS;
    use super::suggestion::is_near;
    use super::*;
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

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

    /// A sub-chart that calls something the same does not do it for Milvus.
    #[rstest]
    #[case(json!({"authorization": {"enabled": true}}), None)]
    #[case(json!({"auth": {"enabled": true}}), None)]
    #[case(json!({"persistence": {"size": "9Gi"}}), Some("standalone.persistence.persistentVolumeClaim.size"))]
    #[case(json!({"tls": {"enabled": true}}), None)]
    #[case(json!({"own": {"enabled": true}}), None)]
    fn the_values_of_other_charts_are_not_suggested(
        #[case] user: Value,
        #[case] nearest: Option<&str>,
    ) {
        let mut values = defaults();
        values["pulsar"] = json!({"auth": {"authorization": {"enabled": false}}});
        values["etcd"] =
            json!({"auth": {"rbac": {"enabled": false}}, "persistence": {"size": "10Gi"}});
        values["minio"] = json!({"tls": {"enabled": false}});
        values["mine"] = json!({"own": {"enabled": false}});
        let metadata = json!({"name": "milvus", "dependencies": [{"name": "mine"}]});
        let found = unread_with(&[], &user, &values, &metadata).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.as_deref(), nearest);
    }

    #[test]
    fn names_below_several_parts_suggest_none() {
        let user = json!({"ingress": {"tls": true}, "persistence": {"size": "9Gi"}});
        let mut values = defaults();
        values["log"] = json!({"persistence": {"size": "1Gi"}});
        values["ingress"] = json!({"rules": {"tls": false}});
        let found = unread_with(&[], &user, &values, &json!({"name": "milvus"})).unwrap();
        assert_eq!(
            found,
            [
                (
                    "ingress.tls".to_owned(),
                    Some("ingress.rules.tls".to_owned())
                ),
                ("persistence.size".to_owned(), None)
            ]
        );
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
            is_near(&one, &two);
            let key = format!("{one}.{two}");
            unread(&json!({key.clone(): {one: two}}));
            nearest(&key, &[String::from("image.all.tag")]);
        }

        #[test]
        fn a_name_without_a_letter_is_near(name in "[a-z]{4,20}", at in 0_usize..4) {
            let mut shorter = name.to_ascii_uppercase();
            shorter.remove(at);
            prop_assert!(is_near(&name, &shorter) && is_near(&shorter, &name));
            let longer = format!("{shorter}1234");
            prop_assert!(!is_near(&name, &longer));
        }
    }

    #[rstest]
    #[case::other_key("{{ $pvc := .Values.extra.claim }}{{ $pvc.storageClass }}", true)]
    #[case::same_key("{{- $pvc := .Values.extra.claim -}}{{ $pvc.storageclass }}", false)]
    #[case::as_a_whole("{{ $pvc := .Values.extra.claim }}{{ toYaml $pvc }}", false)]
    #[case::only_asked("{{ $pvc := .Values.extra.claim }}{{ if $pvc }}{{ end }}", true)]
    #[case::guard("{{- if and .Values.extra.claim .Values.extra.claim.enabled }}", true)]
    #[case::whole("{{ toYaml .Values.extra.claim | nindent 2 }}", false)]
    #[case::with("{{ with .Values.extra.claim }}{{ toYaml . }}{{ end }}", false)]
    fn a_map_that_a_template_only_asks_for_reads_nothing_below(
        #[case] template: &str,
        #[case] is_unread: bool,
    ) {
        let user = json!({"extra": {"claim": {"storageclass": "gp3"}}});
        let found =
            unread_with(&[template], &user, &defaults(), &json!({"name": "milvus"})).unwrap();
        assert_eq!(found.len(), usize::from(is_unread), "{found:?}");
    }

    #[test]
    fn values_under_the_name_of_a_sub_chart_with_an_alias_are_not_read() {
        let mut part = defaults();
        for key in [
            "dataNode",
            "externalS3",
            "ingress",
            "log",
            "metrics",
            "minio",
            "queryNode",
        ] {
            part[key] = json!({"x": 1});
        }
        let umbrella =
            json!({"name": "shop", "dependencies": [{"name": "milvus", "alias": "vectordb"}]});
        let user = json!({"milvus": {"image": {"all": {"tag": "v2.6.0"}}, "zzz": 1}});
        let found = |templates: &[&str]| {
            unread_with(templates, &user, &json!({"vectordb": part}), &umbrella).unwrap()
        };
        assert_eq!(
            found(&[]),
            [
                (
                    "milvus.image.all.tag".to_owned(),
                    Some("vectordb.image.all.tag".to_owned())
                ),
                ("milvus.zzz".to_owned(), None)
            ]
        );
        assert!(found(&["{{ toYaml .Values.milvus }}"]).is_empty());
    }
}
