//! Records images, strategies and labels before anything is changed, for use after a crash.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    engine::{StepError, originals},
    rolling_upgrade::{
        context::{StepContext, VERSION_LABEL, is_of, version_label_path},
        plan::{MoveKind, Templates},
    },
};
use milvus_guard_core::api::{Original, OriginalField};
use milvus_guard_sources::kubernetes::{rollout::Watched, workloads};

use super::{helm, release, searched};

/// Records every Deployment that moves, and those that will be created.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    if !cx.run().status.originals.is_empty() {
        // An earlier attempt recorded it: the current state may be the result of our own changes.
        return searched::before(cx).await;
    }
    let data = cx.data;
    let api: Api<Deployment> =
        Api::namespaced(cx.client.kube(), &data.settings.run.release.namespace);
    let live = cx
        .client
        .call("Deployments", async || {
            api.list(&ListParams::default()).await
        })
        .await?;
    let mut found = Vec::new();
    for component in &data.release.components {
        let original = originals::original(component);
        let Some(deployment) = live
            .items
            .iter()
            .find(|one| one.name_any() == original.name)
        else {
            continue;
        };
        if deployment.metadata.uid != original.uid {
            return Err(StepError::Refused(format!(
                "Deployment {} was deleted and created again just now",
                original.name
            )));
        }
        let label = deployment
            .labels()
            .get(VERSION_LABEL)
            .map(|version| version.clone().into());
        let mut fields = vec![OriginalField {
            path: version_label_path(),
            value: label,
        }];
        if data.rollout.templates == Templates::FromHelm {
            fields.push(helm::template_of(deployment));
        }
        found.push(Original {
            strategy: workloads::strategy(deployment),
            fields,
            ..original
        });
    }
    let coming = data
        .rollout
        .moves
        .iter()
        .filter(|one| one.kind == MoveKind::Create);
    found.extend(coming.map(|one| Original {
        kind: "Deployment".into(),
        name: one.workload.clone().unwrap_or_default(),
        component: Some(one.component),
        ..Original::default()
    }));
    if let Some(absent) = data
        .rollout
        .moves
        .iter()
        .find(|one| !found.iter().any(|original| is_of(original, one)))
    {
        return Err(StepError::Refused(format!(
            "no Deployment of {} is left",
            absent.component
        )));
    }
    cx.record(|status| status.originals.clone_from(&found))
        .await?;
    let watched: Vec<Watched> = found
        .iter()
        .filter_map(|original| {
            live.items
                .iter()
                .find(|one| one.name_any() == original.name)
        })
        .map(Watched::of)
        .collect();
    release::see(cx, &watched).await?;
    searched::before(cx).await
}
