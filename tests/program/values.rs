//! A value that a template of a chart reads is never reported as unread, with and without the
//! templates in Helm's record.

use std::{fs, path::Path};

use crate::common::charts;
use base64::{Engine, prelude::BASE64_STANDARD};
use milvus_guard_core::{
    helm::{StoredRelease, codec::decode_payload},
    manifest::documents,
};
use serde_json::{Map, Value, json};

fn files(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, texts);
        } else {
            texts.push(fs::read_to_string(path).unwrap());
        }
    }
}

/// Every path after `.Values.` in a text.
fn read(text: &str) -> impl Iterator<Item = &str> {
    let name = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.');
    text.split(".Values.")
        .skip(1)
        .map(move |rest| rest[..rest.find(name).unwrap_or(rest.len())].trim_end_matches('.'))
}

/// Sets a path to a string; a path below an existing one turns that into a map.
fn set(values: &mut Map<String, Value>, path: &str) {
    let (first, rest) = path
        .split_once('.')
        .map_or((path, None), |(first, rest)| (first, Some(rest)));
    match rest {
        None => {
            values.entry(first).or_insert_with(|| json!("set"));
        }
        Some(rest) => {
            let below = values.entry(first).or_insert_with(|| json!({}));
            if !below.is_object() {
                *below = json!({});
            }
            set(below.as_object_mut().unwrap(), rest);
        }
    }
}

fn stored(user: &Value, values: &Value, templates: &[String]) -> StoredRelease {
    let templates: Vec<Value> = templates
        .iter()
        .map(|text| json!({"name": "t", "data": BASE64_STANDARD.encode(text)}))
        .collect();
    let record = json!({
        "name": "my-release", "namespace": "milvus", "version": 1, "info": {"status": "deployed"}, "config": user,
        "chart": {"metadata": {"name": "milvus", "version": "1.0.0"}, "values": values, "templates": templates},
    });
    decode_payload(BASE64_STANDARD.encode(record.to_string()).as_bytes()).unwrap()
}

#[test]
fn values_that_templates_read_are_never_reported() {
    for chart in charts().into_iter().flatten() {
        let mut templates = Vec::new();
        files(&Path::new(chart.path()).join("templates"), &mut templates);
        let values = fs::read_to_string(Path::new(chart.path()).join("values.yaml")).unwrap();
        let values = documents(&values).next().unwrap().unwrap().root.to_json();
        let mut user = Map::new();
        let paths: Vec<&str> = templates
            .iter()
            .flat_map(|text| read(text))
            .filter(|path| !path.is_empty())
            .collect();
        assert!(
            paths.len() > 10,
            "{}: templates read {paths:?}",
            chart.version
        );
        for path in &paths {
            set(&mut user, path);
        }
        let user = Value::Object(user);
        for held in [&templates[..], &[]] {
            let unread = stored(&user, &values, held)
                .unread_values
                .expect("the record must have unread values");
            assert!(
                unread.is_empty(),
                "{}, {} templates: {unread:?}",
                chart.version,
                held.len()
            );
        }
        // The same with a value that no chart reads.
        let mut other = user.as_object().unwrap().clone();
        set(&mut other, "standalone.notRead");
        let unread = stored(&Value::Object(other), &values, &templates)
            .unread_values
            .unwrap();
        assert_eq!(
            unread
                .iter()
                .map(|value| value.path.as_str())
                .collect::<Vec<_>>(),
            ["standalone.notRead"],
            "{}",
            chart.version
        );
    }
}
