//! Checks the preconditions before anything is changed.

use serde_json::Value;

use crate::{
    engine::{ApiError, Home, RetryingClient, RunRecord, StepError, release},
    rolling_upgrade::{
        context::StepContext,
        plan::{Rollout, Templates},
        preconditions, serving,
        verdict::{self, Said},
    },
};
use milvus_guard_core::{api::UpgradeRun, evidence::Facts, milvus::Release, policy::PolicySet};
use milvus_guard_sources::kubernetes::guard::run_facts;

use super::{capacity, configure};

/// Checks the release, the path, and whether the configuration can be changed, if it must be.
pub(crate) async fn apply(cx: &StepContext<'_>) -> Result<(), StepError> {
    let data = cx.data;
    let (release, facts) = release::read(cx.client, &data.settings.run.release).await?;
    let home = Home {
        namespace: data.home.clone(),
        guarded_by: None,
    };
    let runs = RunRecord::runs(cx.client, &home, &data.settings.run.release).await?;
    let said = ask(cx.client, &release, facts, &runs, &data.rollout, &data.run).await?;
    if let [first, ..] = &said.refusals[..] {
        let more = said.refusals.len() - 1;
        let more = if more == 0 {
            String::new()
        } else {
            format!(" (and {more} more: milvus-guard upgrade --dry-run lists them)")
        };
        return Err(StepError::Refused(format!("{first}{more}")));
    }
    for warning in said.warnings {
        cx.reporter().warn(warning);
    }
    if data.rollout.configure {
        configure::find(cx).await?;
    }
    // Before anything is changed, so that the user can still stop.
    if data
        .rollout
        .moves
        .iter()
        .any(|one| serving::serves(one.component))
    {
        data.connections.proxy.is_reached(cx).await?;
    }
    data.connections.sessions.read(cx).await;
    Ok(())
}

/// All refusals and warnings.
///
/// # Errors
/// If the cluster cannot be queried.
pub(crate) async fn ask(
    client: &RetryingClient,
    release: &Release,
    mut facts: Facts,
    runs: &[UpgradeRun],
    rollout: &Rollout,
    run: &str,
) -> Result<Said, ApiError> {
    let written: Vec<Value> = runs
        .iter()
        .filter_map(|run| serde_json::to_value(run).ok())
        .collect();
    let seen = run_facts(&written);
    facts.runs = seen.runs;
    facts.migrations = seen.migrations;
    let mut said = match rollout.templates {
        Templates::FromRun => {
            let policies = policies(client).await?;
            verdict::ask(release, rollout.after(release), &facts, &policies, run)
        }
        // The command that runs Helm has judged the whole change already.
        Templates::FromHelm => Said::default(),
    };
    let first =
        preconditions::unsupported(release).or_else(|| preconditions::blocked(release, &facts));
    said.refusals.splice(0..0, first);
    said.warnings
        .extend(capacity::look(client, release, rollout).await?);
    if let Some(key) = super::super::standby::forbidden(release).filter(|_| rollout.configure) {
        said.refusals.push(format!(
            "{} sets {key} in the environment of its pods, which no configuration file outweighs; \
             take it out with Helm first",
            rollout.release.name
        ));
    }
    Ok(said)
}

/// The policies of the cluster, if they may be read.
async fn policies(client: &RetryingClient) -> Result<PolicySet, ApiError> {
    let mut set = PolicySet {
        now: Some(jiff::Timestamp::now()),
        ..PolicySet::default()
    };
    match client
        .call("policies", async || client.cluster.policies().await)
        .await
    {
        Ok((documents, _)) => {
            for document in documents {
                set.add(document);
            }
            Ok(set)
        }
        Err(ApiError::Refused { reason, .. }) => {
            client.reporter.note(format!(
                "policies could not be read, so the built-in ones count: {reason}"
            ));
            Ok(set)
        }
        Err(error) => Err(error),
    }
}
