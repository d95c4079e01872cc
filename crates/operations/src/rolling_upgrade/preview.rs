//! What a run would do, without doing it.

use milvus_guard_core::api::UpgradeRun;

use crate::engine::{
    End, Preview, Procedure, RetryingClient,
    life_cycle::deployment_uids,
    preview::{Ahead, ReadableRuns, ahead, readable_runs, resumes},
    release,
};

use super::{context::UpgradeData, procedure::RollingUpgrade, steps::check};

impl RollingUpgrade {
    /// Plans without doing anything.
    ///
    /// # Errors
    /// The end of the command if it would not change anything, [`End::Stopped`] if the cluster
    /// does not answer.
    pub async fn preview(&self, client: &RetryingClient) -> Result<Preview, End> {
        let settings = &self.settings;
        let ReadableRuns { runs, unread } = readable_runs(client, self).await?;
        let (ready, run) = match ahead(client, self, &runs).await? {
            Ahead::Forward(ready, run) => (ready, run),
            Ahead::Ending(preview) => return Ok(*preview),
        };
        let UpgradeData {
            release, rollout, ..
        } = &ready.data;
        let (_, facts) = release::read(client, &settings.run.release)
            .await
            .map_err(|error| self.unsurveyed(error))?;
        let name = run
            .as_deref()
            .map(UpgradeRun::full_name)
            .unwrap_or_default();
        let said = check::ask(client, release, facts, &runs, rollout, &name).await?;
        let uids = deployment_uids(release, run.as_deref());
        let of = &settings.run.release;
        let mut command = format!(
            "milvus-guard upgrade -i {} -n {} -t {}",
            of.name, of.namespace, rollout.to.version
        );
        if let Some(image) = &settings.image {
            command.push_str(&format!(" -w {image}"));
        }
        let mut text = rollout.text(&release.fullname);
        let mut json = rollout.json(&release.fullname, &uids);
        if let Some(run) = &run {
            text = format!("{}\n\n{text}", resumes(run, &ready.steps));
            json["resumes"] = run.full_name().into();
        }
        Ok(Preview {
            path: Some(rollout.path(release.coordinators(), command)),
            text,
            json,
            warnings: unread.into_iter().chain(said.warnings).collect(),
            refusals: said.refusals,
        })
    }
}
