//! What a run would do, without doing it.

use crate::engine::{
    End, Preview, Procedure, RetryingClient, life_cycle::deployment_uids, preview::known_runs,
    release,
};

use super::{
    procedure::{RollingUpgrade, planned},
    steps::check,
};

impl RollingUpgrade {
    /// Plans without doing anything.
    ///
    /// # Errors
    /// [`End::Refused`] if there is no plan, [`End::Stopped`] if the cluster does not answer.
    pub async fn preview(&self, client: &RetryingClient) -> Result<Preview, End> {
        let settings = &self.settings;
        let (release, facts) = release::read(client, &settings.run.release)
            .await
            .map_err(|error| self.unsurveyed(error))?;
        let (rollout, _) =
            planned(&release, settings, None).map_err(|why| self.impossible(&why.to_string()))?;
        let runs = known_runs(client, self).await?;
        let said = check::ask(client, &release, facts, &runs, &rollout, "").await?;
        let uids = deployment_uids(&release, None);
        let of = &settings.run.release;
        let mut command = format!(
            "milvus-guard upgrade -i {} -n {} -t {}",
            of.name, of.namespace, settings.target
        );
        if let Some(image) = &settings.image {
            command.push_str(&format!(" -w {image}"));
        }
        Ok(Preview {
            path: Some(rollout.path(release.coordinators(), command)),
            text: rollout.text(&release.fullname),
            json: rollout.json(&release.fullname, &uids),
            warnings: said.warnings,
            refusals: said.refusals,
        })
    }
}
