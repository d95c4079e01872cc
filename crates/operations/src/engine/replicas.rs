//! Waits until every replica of the guard knows a run.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::ListParams};

use milvus_guard_sources::kubernetes::replicas::{LABEL, Lookout};

use super::{ApiError, StepContext, StepError};

/// Interval between two looks at the Leases.
const LOOK: Duration = Duration::from_millis(300);
/// A live replica that has not noticed the run after this time has another problem.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until every replica of the guard knows that this run is in progress, so that none of them
/// allows others to change the release. A rollback is not stopped by a replica that does not
/// answer.
///
/// # Errors
/// If a live replica does not know the run after two minutes, or the cluster cannot be queried.
pub async fn await_all<D>(cx: &StepContext<'_, D>, back: bool) -> Result<(), StepError> {
    let (run, since, mut lookout) = (cx.full_name(), Instant::now(), Lookout::default());
    let (namespace, _) = run.split_once('/').unwrap_or_default();
    let api: Api<Lease> = Api::namespaced(cx.client.kube(), namespace);
    let params = ListParams::default().labels(&format!("{LABEL}=true"));
    loop {
        let leases = match cx
            .client
            .call("the Leases of the guard's replicas", async || {
                api.list(&params).await
            })
            .await
        {
            Ok(list) => list.items,
            // In the release's namespace there is no guard, and a user's account may lack this
            // right.
            Err(ApiError::Refused { .. }) if namespace == cx.run().spec.namespace => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let lagging = lookout.lagging(&leases, run, Instant::now());
        if lagging.is_empty() {
            cx.going_on();
            return Ok(());
        }
        let names = lagging.join(", ");
        if since.elapsed() >= PATIENCE {
            if !back {
                return Err(StepError::Failed(format!(
                    "replica {names} of milvus-guard does not know of this run after {} s, so it \
                     may allow others to change the release; check its log, or delete its pod",
                    PATIENCE.as_secs()
                )));
            }
            cx.reporter().warn(format!(
                "replica {names} of milvus-guard does not know of this run; the rollback continues"
            ));
            return Ok(());
        }
        cx.waiting(format!(
            "replica {names} of milvus-guard to know of this run"
        ));
        tokio::time::sleep(LOOK).await;
    }
}
