//! Creates a component that the target needs and the release does not have yet. It is a copy of
//! another component with Helm's labels, so that Helm takes it over.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    engine::{ApiError, StepError, originals},
    rolling_upgrade::{
        context::{StepContext, VERSION_LABEL},
        plan::{Move, Templates},
        through_helm::MARK,
    },
};
use milvus_guard_core::milvus::{Component, catalogue::Gate};
use milvus_guard_sources::kubernetes::{
    rollout::{Wanted, Watched},
    typed,
    workloads::{self, FIELD_MANAGER},
};

/// The component that is copied: the new one needs the same configuration, nodes and tolerations.
const MODEL: Component = Component::QueryNode;

/// Creates the component if it does not exist; starts it if Helm brought it.
pub(crate) async fn apply(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    let data = cx.data;
    if data.rollout.templates == Templates::FromHelm {
        return super::helm::start(cx, one).await;
    }
    let name = one.workload.as_deref().unwrap_or_default();
    let api = api(cx);
    if find(cx, name).await?.is_some() {
        return Ok(());
    }
    let model = originals::recorded(cx)?
        .into_iter()
        .find(|original| original.component == Some(MODEL));
    let Some(model) = model else {
        return Err(StepError::Refused(format!(
            "there is no {MODEL} to take as a model"
        )));
    };
    let model = originals::live(cx, &model).await?;
    let version = data.rollout.to.version.to_string();
    let made = made_of(
        &model,
        one.component,
        name,
        &data.rollout.image,
        &version,
        &data.run,
    );
    let deployment: Deployment = made
        .and_then(|made| typed(&made).ok())
        .ok_or_else(|| StepError::Failed(format!("{name} cannot be made")))?;
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    };
    match cx
        .write(&format!("Deployment {name}"), async || {
            api.create(&params, &deployment).await
        })
        .await
    {
        Ok(_) => {
            data.pace.began();
            Ok(())
        }
        // An earlier attempt of the same request created it.
        Err(ApiError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until its pods run: some releases become ready only with a new coordinator.
pub(crate) async fn gate(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    let name = one.workload.as_deref().unwrap_or_default();
    let Some(mut deployment) = find(cx, name).await? else {
        return Err(StepError::Failed(format!("Deployment {name} was deleted")));
    };
    let wanted = if one.gate == Gate::Running {
        Wanted::Running
    } else {
        Wanted::Complete
    };
    let ready = originals::wait_for(
        cx,
        &[Watched::of(&deployment)],
        wanted,
        cx.data.settings.hopeless,
    )
    .await?;
    cx.data.pace.ready(ready);
    let api = api(cx);
    loop {
        let what = format!("managed fields of Deployment {name}");
        match cx
            .write(&what, async || {
                workloads::hand_over(&api, &deployment.metadata).await
            })
            .await
        {
            Ok(()) => return Ok(()),
            Err(ApiError::Conflict { .. }) => {
                deployment = find(cx, name)
                    .await?
                    .ok_or_else(|| StepError::Failed(format!("Deployment {name} was deleted")))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Deletes it again, if a run created it.
pub(crate) async fn undo(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    if cx.data.rollout.templates == Templates::FromHelm {
        return super::helm::discard(cx, one).await;
    }
    let name = one.workload.as_deref().unwrap_or_default();
    let Some(deployment) = find(cx, name).await? else {
        return Ok(());
    };
    if !deployment.annotations().contains_key(MARK) {
        cx.reporter().warn(format!(
            "Deployment {name} was not made by a run of milvus-guard and stays"
        ));
        return Ok(());
    }
    let api = api(cx);
    match cx
        .write(&format!("Deployment {name}"), async || {
            api.delete(name, &DeleteParams::background()).await
        })
        .await
    {
        Ok(_) | Err(ApiError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    originals::wait_for(
        cx,
        &[Watched::of(&deployment)],
        Wanted::Gone,
        std::time::Duration::MAX,
    )
    .await
    .map(|_| ())
}

fn api(cx: &StepContext<'_>) -> Api<Deployment> {
    Api::namespaced(cx.client.kube(), &cx.data.settings.run.release.namespace)
}

async fn find(cx: &StepContext<'_>, name: &str) -> Result<Option<Deployment>, StepError> {
    let api = api(cx);
    Ok(cx
        .client
        .call(&format!("Deployment {name}"), async || {
            api.get_opt(name).await
        })
        .await?)
}

/// A Deployment for another component, copied from a model.
fn made_of(
    model: &Deployment,
    component: Component,
    name: &str,
    image: &str,
    version: &str,
    run: &str,
) -> Option<Value> {
    let metadata = &model.metadata;
    let mut annotations: serde_json::Map<String, Value> = metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(key, _)| key.starts_with("meta.helm.sh/"))
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    annotations.insert(MARK.into(), run.into());
    let mut labels = serde_json::to_value(&metadata.labels).ok()?;
    labels[VERSION_LABEL] = version.into();
    let mut spec = serde_json::to_value(&model.spec).ok()?;
    let container = spec["template"]["spec"]["containers"]
        .as_array()?
        .iter()
        .find(|one| one["name"] == MODEL.name())?
        .clone();
    spec["template"]["spec"]["containers"] = json!([container]);
    let container = &mut spec["template"]["spec"]["containers"][0];
    container["image"] = image.into();
    // A query node's resources are sized for loaded segments.
    container.as_object_mut()?.remove("resources");
    spec["replicas"] = 1.into();
    let mut made = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": metadata.namespace, "labels": labels, "annotations": annotations},
        "spec": spec,
    });
    rename(&mut made, MODEL.name(), component.name());
    Some(made)
}

/// Replaces every text that equals `from`.
fn rename(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) if text == from => to.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, from, to)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| rename(field, from, to)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_belongs_to_the_new_component_in_every_field() {
        let model = json!({
            "metadata": {"name": "r-milvus-querynode", "namespace": "n", "uid": "u", "resourceVersion": "7",
                "labels": {"component": "querynode", "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/version": "2.5.27"},
                "annotations": {"meta.helm.sh/release-name": "r", "deployment.kubernetes.io/revision": "3"}},
            "spec": {"replicas": 5, "selector": {"matchLabels": {"component": "querynode"}}, "template": {
                "metadata": {"labels": {"component": "querynode"}},
                "spec": {"tolerations": [{"key": "gpu"}], "containers": [
                    {"name": "sidecar", "image": "x"},
                    {"name": "querynode", "image": "milvus:1", "args": ["milvus", "run", "querynode"], "resources": {"limits": {"cpu": "8"}}}]}}},
        });
        let model: Deployment = serde_json::from_value(model).unwrap();
        let made = made_of(
            &model,
            Component::StreamingNode,
            "r-milvus-streamingnode",
            "milvus:2",
            "2.6.22",
            "n/run",
        )
        .unwrap();
        assert_eq!(
            made["metadata"]["annotations"],
            json!({"meta.helm.sh/release-name": "r", "guard.milvus.io/upgrade-run": "n/run"})
        );
        assert_eq!(made["metadata"]["labels"]["component"], "streamingnode");
        assert_eq!(
            made["metadata"]["labels"]["app.kubernetes.io/version"],
            "2.6.22"
        );
        let pod = &made["spec"]["template"]["spec"];
        let expected = json!([{"name": "streamingnode", "image": "milvus:2", "args": ["milvus", "run", "streamingnode"]}]);
        assert_eq!(
            (&pod["containers"], &pod["tolerations"]),
            (&expected, &json!([{"key": "gpu"}]))
        );
        assert_eq!(
            made["spec"]["selector"]["matchLabels"]["component"],
            "streamingnode"
        );
        assert_eq!(made["spec"]["replicas"], 1);
    }
}
