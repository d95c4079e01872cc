//! Keeps the store up to date: one watch a kind, each object reduced at once.

use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde_json::Value;

use crate::{objects, reason};

use super::store::{Store, Watched};

/// Objects in one page of a listing. A `ConfigMap` may have 1 MiB, and a page is in memory as a whole.
const PAGE: u32 = 50;

/// Watches every kind until the process ends.
pub fn start(client: &Client, store: &Arc<Store>, namespace: &str) {
    for kind in Watched::ALL {
        let api = api(kind, client.clone(), namespace);
        tokio::spawn(follow(kind, api, Arc::clone(store)));
    }
}

fn resource(kind: Watched) -> ApiResource {
    let (group, version, plural) = match kind {
        Watched::Deployments => ("apps", "v1", "deployments"),
        Watched::StatefulSets => ("apps", "v1", "statefulsets"),
        Watched::ConfigMaps => ("", "v1", "configmaps"),
        Watched::Claims => ("", "v1", "persistentvolumeclaims"),
        Watched::Services => ("", "v1", "services"),
        Watched::Namespaces => ("", "v1", "namespaces"),
        Watched::Autoscalers => ("autoscaling", "v2", "horizontalpodautoscalers"),
        Watched::Policies => (objects::GROUP, objects::VERSION, objects::UPGRADE_POLICY.plural),
        Watched::Exceptions => (objects::GROUP, objects::VERSION, objects::UPGRADE_EXCEPTION.plural),
        Watched::Runs => (objects::GROUP, objects::VERSION, objects::UPGRADE_RUN.plural),
        Watched::Decisions => (objects::GROUP, objects::VERSION, objects::RELEASE_DECISION.plural),
    };
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource { group: group.into(), version: version.into(), api_version, kind: kind.kind().into(), plural: plural.into() }
}

fn api(kind: Watched, client: Client, namespace: &str) -> Api<DynamicObject> {
    let resource = resource(kind);
    match kind {
        // What others put into their own namespaces is no evidence.
        Watched::Runs | Watched::Decisions => Api::namespaced_with(client, namespace, &resource),
        _ => Api::all_with(client, &resource),
    }
}

async fn follow(kind: Watched, api: Api<DynamicObject>, store: Arc<Store>) {
    let mut config = watcher::Config::default().page_size(PAGE);
    if kind == Watched::ConfigMaps {
        // Helm's own records are large, change with every release and say nothing here.
        config = config.labels("owner!=helm");
    }
    let mut stream = std::pin::pin!(watcher(api, config).default_backoff());
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => store.begin(kind),
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                if let Some(value) = value(object) {
                    store.put(kind, value, Timestamp::now());
                }
            }
            Ok(Event::InitDone) => store.finish(kind),
            Ok(Event::Delete(object)) => {
                let metadata = object.metadata;
                store.delete(kind, &metadata.namespace.unwrap_or_default(), &metadata.name.unwrap_or_default());
            }
            Err(error) if is_absent(&error) => store.absent(kind),
            Err(error) => {
                let reason = reason::chain(&error);
                tracing::warn!(kind = kind.kind(), reason, "the watch is in trouble");
                store.broken(kind, reason);
            }
        }
    }
}

fn value(object: DynamicObject) -> Option<Value> {
    let metadata = serde_json::to_value(object.metadata).ok()?;
    let mut value = object.data;
    if let Value::Object(fields) = &mut value {
        fields.insert("metadata".into(), metadata);
        return Some(value);
    }
    None
}

/// Whether the API server does not know the kind.
fn is_absent(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(inner) | watcher::Error::WatchStartFailed(inner) | watcher::Error::WatchFailed(inner)) =
        error
    else {
        return false;
    };
    matches!(inner, kube::Error::Api(status) if status.code == 404)
}
