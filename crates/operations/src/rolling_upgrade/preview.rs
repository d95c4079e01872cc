//! What a run would do, without doing it.

use milvus_guard_core::{evidence::Facts, milvus::Release};

use crate::engine::{
    End, Home, Link, Preview, Store, home::HomeError, life_cycle::deployment_uids, release,
};

use super::{
    procedure::{planned, refused, unsurveyed},
    settings::Settings,
    steps::check,
};

/// Plans without doing anything.
///
/// # Errors
/// [`End::Refused`] if there is no plan, [`End::Stopped`] if the cluster does not answer.
pub async fn preview(link: &Link, settings: &Settings) -> Result<Preview, End> {
    let (release, facts): (Release, Facts) = release::read(link, &settings.release)
        .await
        .map_err(|error| unsurveyed(error, settings))?;
    let (rollout, _) = planned(&release, settings, None).map_err(|why| refused(&why, settings))?;
    // Where runs cannot be kept, none can be in the way.
    let runs = match Home::find(link, &settings.release, settings.run_namespace.as_deref()).await {
        Ok(home) => Store::runs(link, &home, &settings.release).await?,
        Err(HomeError::NoDefinitions) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let said = check::ask(link, &release, facts, &runs, &rollout, "").await?;
    let uids = deployment_uids(&release, None);
    Ok(Preview {
        text: rollout.text(&release.fullname),
        json: rollout.json(&release.fullname, &uids),
        warnings: said.warnings,
        refusals: said.refusals,
    })
}
