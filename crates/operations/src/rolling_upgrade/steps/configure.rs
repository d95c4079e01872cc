//! Active-standby of the coordinators, turned on in the `ConfigMap` for the time of the run. The
//! text before is kept in the same `ConfigMap`, so that a configuration is not written anywhere
//! else, and is restored at the end. Then the chart's checksum of its configuration still matches,
//! and the next `helm upgrade` restarts nothing.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    engine::{ApiError, StepError},
    rolling_upgrade::{
        context::StepContext,
        standby::{self, MergeError},
    },
};
use milvus_guard_core::api::Original;
use milvus_guard_sources::kubernetes::workloads::{self, FIELD_MANAGER};

/// Suffix of the key under which the text before is kept.
const SAVED: &str = ".before-milvus-guard";
/// Kind of the recorded object.
const KIND: &str = "ConfigMap";
/// The file with the user's settings.
const USER: &str = "user.yaml";
/// The chart's own files: the current one, and the only one up to chart 3.3.1.
const FILES: [&str; 2] = ["default.yaml", "milvus.yaml"];

/// Turns active-standby on.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let (found, key) = find(cx).await?;
    let name = found.name_any();
    let original = Original {
        kind: KIND.into(),
        name: name.clone(),
        uid: found.metadata.uid.clone(),
        ..Original::default()
    };
    cx.record(|status| {
        if !status.originals.iter().any(|known| known.kind == KIND) {
            status.originals.push(original.clone());
        }
    })
    .await?;
    let mut map = found;
    loop {
        let text = |key: &str| map.data.as_ref().and_then(|data| data.get(key)).cloned();
        let now = text(&key).unwrap_or_default();
        let saved = text(&format!("{key}{SAVED}"));
        let before = match saved {
            Some(saved) if standby::merge(&saved).as_ref() == Ok(&now) => {
                return hand_over(cx, map).await;
            }
            // Someone changed the text since an earlier attempt: the new text counts.
            Some(_) | None => now,
        };
        let merged = standby::merge(&before).map_err(|why| unmergeable(&name, &key, &why))?;
        match write(
            cx,
            &map,
            json!({&key: merged, format!("{key}{SAVED}"): before}),
        )
        .await
        {
            Ok(written) => return hand_over(cx, written).await,
            Err(ApiError::Conflict { .. }) => {
                map = get(cx, &name).await?.ok_or_else(|| gone(&name))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Restores the text before, unless another client changed it meanwhile.
pub(crate) async fn restore(cx: &StepContext<'_>) -> Result<(), StepError> {
    for original in cx
        .run()
        .status
        .originals
        .iter()
        .filter(|original| original.kind == KIND)
    {
        restore_one(cx, &original.name).await?;
    }
    Ok(())
}

async fn restore_one(cx: &StepContext<'_>, name: &str) -> Result<(), StepError> {
    loop {
        let Some(map) = get(cx, name).await? else {
            return Ok(());
        };
        let data = map.data.clone().unwrap_or_default();
        let kept = data
            .iter()
            .find_map(|(key, saved)| Some((key.strip_suffix(SAVED)?.to_owned(), saved.clone())));
        let Some((key, saved)) = kept else {
            return hand_over(cx, map).await;
        };
        let ours = data
            .get(&key)
            .is_some_and(|now| standby::merge(&saved).as_ref() == Ok(now));
        let aside = format!("{key}{SAVED}");
        let change = if ours {
            json!({&key: saved, aside: null})
        } else {
            json!({aside: null})
        };
        match write(cx, &map, change).await {
            Ok(written) => {
                if !ours {
                    cx.reporter().warn(format!(
                        "{key} of ConfigMap {name} was changed by another client during the run \
                         and stays as it is; the run had set enableActiveStandby in it"
                    ));
                }
                return hand_over(cx, written).await;
            }
            Err(ApiError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The `ConfigMap` and its key with the user's settings; they override the chart's.
pub(crate) async fn find(cx: &StepContext<'_>) -> Result<(ConfigMap, String), StepError> {
    let release = &cx.data.release;
    let mut names: Vec<&str> = release
        .components
        .iter()
        .flat_map(|component| &component.workload.pod.volumes)
        .flat_map(|volume| volume.source.config_maps())
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut maps = Vec::new();
    for name in names {
        maps.extend(get(cx, name).await?);
    }
    let has =
        |map: &ConfigMap, key: &str| map.data.as_ref().is_some_and(|data| data.contains_key(key));
    let chosen = maps
        .iter()
        .find(|map| has(map, USER))
        .map(|map| (map, USER))
        // The chart's customConfigMap is mounted in place of user.yaml.
        .or_else(|| {
            maps.iter()
                .find(|map| has(map, FILES[1]))
                .map(|map| (map, FILES[1]))
        });
    let Some((map, key)) = chosen else {
        return Err(StepError::Refused(format!(
            "the coordinators of {} do not work in active-standby, and no ConfigMap holds a \
             {USER} in which that could be turned on; turn it on with Helm first \
             (rootCoordinator.activeStandby.enabled and so on)",
            release.name
        )));
    };
    if map.immutable == Some(true) {
        return Err(StepError::Refused(format!(
            "ConfigMap {} is immutable, and active-standby must be turned on in it; turn it on \
             with Helm first (rootCoordinator.activeStandby.enabled and so on)",
            map.name_any()
        )));
    }
    let text = map
        .data
        .as_ref()
        .and_then(|data| data.get(key))
        .map_or("", String::as_str);
    standby::merge(text).map_err(|why| unmergeable(&map.name_any(), key, &why))?;
    Ok((map.clone(), key.to_owned()))
}

fn unmergeable(name: &str, key: &str, why: &MergeError) -> StepError {
    StepError::Refused(format!(
        "active-standby cannot be turned on in {key} of ConfigMap {name}: {why}; turn it on with \
         Helm first (rootCoordinator.activeStandby.enabled and so on)"
    ))
}

fn gone(name: &str) -> StepError {
    StepError::Failed(format!("ConfigMap {name} was deleted"))
}

fn api(cx: &StepContext<'_>) -> Api<ConfigMap> {
    Api::namespaced(cx.client.kube(), &cx.data.settings.run.release.namespace)
}

async fn get(cx: &StepContext<'_>, name: &str) -> Result<Option<ConfigMap>, StepError> {
    let api = api(cx);
    Ok(cx
        .client
        .call(&format!("ConfigMap {name}"), async || {
            api.get_opt(name).await
        })
        .await?)
}

/// Changes keys of the `ConfigMap`. Fails if it changed since it was read.
async fn write(
    cx: &StepContext<'_>,
    map: &ConfigMap,
    data: serde_json::Value,
) -> Result<ConfigMap, ApiError> {
    let (api, name) = (api(cx), map.name_any());
    let version =
        json!({"resourceVersion": map.metadata.resource_version, "uid": map.metadata.uid});
    let patch = Patch::Merge(json!({"metadata": version, "data": data}));
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    cx.write(&format!("ConfigMap {name}"), async || {
        api.patch(&name, &params, &patch).await
    })
    .await
}

/// Removes our field manager from the `ConfigMap`.
async fn hand_over(cx: &StepContext<'_>, map: ConfigMap) -> Result<(), StepError> {
    let (api, name) = (api(cx), map.name_any());
    let mut map = map;
    loop {
        if !workloads::is_ours(&map.metadata) {
            return Ok(());
        }
        let what = format!("managed fields of ConfigMap {name}");
        match cx
            .write(&what, async || {
                workloads::hand_over(&api, &map.metadata).await
            })
            .await
        {
            Ok(()) => return Ok(()),
            Err(ApiError::Conflict { .. }) => {
                map = get(cx, &name).await?.ok_or_else(|| gone(&name))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
