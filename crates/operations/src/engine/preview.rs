//! A plan that is not carried out.

use milvus_guard_core::{api::UpgradeRun, upgrade_path::Plan};
use serde_json::Value;

use super::{End, Home, Procedure, RetryingClient, RunRecord, home::HomeError};

/// What a run would do, and the objections to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// The plan for people; several lines.
    pub text: String,
    /// The plan for programs.
    pub json: Value,
    /// The plan for documents with a diagram, if components move one after the other.
    pub path: Option<Plan>,
    /// What the rules warn about.
    pub warnings: Vec<String>,
    /// Why the run would be refused; empty if nothing is known that would refuse it.
    pub refusals: Vec<String>,
}

/// Every run of the release, the oldest first; none if the kind `UpgradeRun` is not installed.
///
/// # Errors
/// [`End::Stopped`] if the cluster does not answer.
pub async fn known_runs<P: Procedure>(
    client: &RetryingClient,
    procedure: &P,
) -> Result<Vec<UpgradeRun>, End> {
    let settings = procedure.run_settings();
    match Home::find(client, &settings.release, settings.namespace.as_deref()).await {
        Ok(home) => Ok(RunRecord::runs(client, &home, &settings.release).await?),
        Err(HomeError::NoDefinitions) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
