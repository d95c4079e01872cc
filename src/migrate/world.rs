//! What the steps work with.

use std::path::PathBuf;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;

use crate::{
    cluster::{
        rollout::{self, Wanted, Watched},
        workloads::{self, Change},
    },
    meta,
    milvus::Release,
    objects::Original,
    run::{ApiError, Context, Link, Reporter, StepError},
};

use super::{
    settings::{Operation, Settings},
    survey::Survey,
};

/// What the steps work with.
pub struct World {
    /// What was asked for.
    pub settings: Settings,
    /// What is done with the run.
    pub operation: Operation,
    /// The release as it was when this process began.
    pub release: Release,
    /// Image of the new version.
    pub image: String,
    /// etcd's addresses as the configuration spells them.
    pub configured: Vec<String>,
    /// The metadata.
    pub target: meta::Target,
    /// Name of the run.
    pub run: String,
    /// Its namespace.
    pub home: String,
    /// Whether an earlier run was ended where it stood, so that Milvus may stand still already.
    pub again: bool,
}

/// What a step is given here.
pub type Cx<'a> = Context<'a, World>;

impl World {
    /// From what was asked for and what runs.
    #[must_use]
    pub fn new(settings: Settings, operation: Operation, survey: Survey, run: &str, home: &str, again: bool) -> Self {
        let target = meta::Target::new(survey.endpoint);
        Self {
            operation,
            release: survey.release,
            image: survey.image,
            configured: survey.configured,
            target,
            run: run.to_owned(),
            home: home.to_owned(),
            again,
            settings,
        }
    }

    /// The file of the backup.
    #[must_use]
    pub fn backup_file(&self) -> PathBuf {
        self.settings.backup_dir.join(format!("{}.milvus-meta", self.run))
    }

    /// Where the backup is, as the run records it.
    #[must_use]
    pub fn backup_location(&self) -> String {
        let file = self.backup_file();
        match &self.settings.backup_claim {
            Some(claim) => format!("pvc/{claim}/{}", file.file_name().unwrap_or_default().to_string_lossy()),
            None => format!("file:{}", file.display()),
        }
    }

    fn namespace(&self) -> &str {
        &self.settings.release.namespace
    }
}

/// Hands what happens in etcd on to those who watch the run.
pub struct Told<'a> {
    link: &'a Link,
}

impl<'a> Told<'a> {
    /// For this run.
    #[must_use]
    pub const fn new(link: &'a Link) -> Self {
        Self { link }
    }

    fn reporter(&self) -> &Reporter {
        &self.link.reporter
    }
}

impl meta::Events for Told<'_> {
    fn event(&self, event: meta::Event) {
        match event {
            meta::Event::StageBegan { stage, total } => {
                self.link.go_on();
                let event = crate::run::Event::Progress { what: stage.to_string(), done: 0, total };
                self.reporter().tell(&event);
            }
            meta::Event::Progress { stage, done, total } => {
                let event = crate::run::Event::Progress { what: stage.to_string(), done, total };
                self.reporter().tell(&event);
            }
            meta::Event::StageDone { stage, done, took } => {
                let event = crate::run::Event::Progress { what: stage.to_string(), done, total: Some(done) };
                self.reporter().tell(&event);
                tracing::debug!(%stage, done, seconds = took.as_secs_f64(), "a stage is over");
            }
            meta::Event::Waiting { what } => {
                self.link.wait_for(what.trim_start_matches("waiting for ").to_owned());
            }
            meta::Event::Warning { note } => self.reporter().warn(note),
            meta::Event::Note { note } => self.reporter().note(note),
        }
    }
}

/// Lets work on the metadata come to a safe point when the process is asked to end.
pub async fn until_safe<T>(cx: &Cx<'_>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        _ = cx.link.halting.halted() => cx.world.target.stop.ask(),
    }
    work.await
}

/// What went wrong in etcd, as a step says it.
#[must_use]
pub fn failed(error: &meta::MetaError) -> StepError {
    let why = error.why();
    match error {
        meta::MetaError::Locked(_) => StepError::Locked(why),
        meta::MetaError::Usage(_) | meta::MetaError::Refused { .. } => StepError::Refused(why),
        meta::MetaError::Stopped { data, .. } => StepError::Failed(format!("{why}. {data}")),
    }
}

/// The Deployments that the run recorded, with what was recorded of each.
///
/// # Errors
/// Where nothing was recorded.
pub fn recorded(cx: &Cx<'_>) -> Result<Vec<Original>, StepError> {
    let originals = cx.run().status.originals;
    let found: Vec<Original> = originals.into_iter().filter(|original| original.component.is_some()).collect();
    if found.is_empty() { Err(StepError::Refused("the run has recorded no Deployment".into())) } else { Ok(found) }
}

/// A recorded Deployment as it is now.
///
/// # Errors
/// Where it is gone, or another one has its name.
pub async fn live(cx: &Cx<'_>, original: &Original) -> Result<Deployment, StepError> {
    let api: Api<Deployment> = Api::namespaced(cx.link.client(), cx.world.namespace());
    let what = format!("Deployment {}", original.name);
    let found = match cx.link.call(&what, async || api.get(&original.name).await).await {
        Ok(found) => found,
        Err(ApiError::NotFound { .. }) => {
            return Err(StepError::Refused(format!("{what} was deleted since the run began; install the release again first")));
        }
        Err(error) => return Err(error.into()),
    };
    if original.uid.is_some() && found.metadata.uid != original.uid {
        return Err(StepError::Refused(format!("{what} is another one than the run recorded: it was deleted and made anew")));
    }
    Ok(found)
}

/// Makes a change of a recorded Deployment, and leaves no field of it under our name.
///
/// # Errors
/// Where it cannot be made, or must not.
pub async fn set(cx: &Cx<'_>, original: &Original, change: &Change) -> Result<(), StepError> {
    let what = format!("Deployment {}", original.name);
    let client = cx.link.client();
    loop {
        let deployment = live(cx, original).await?;
        match cx.write(&what, async || workloads::change(&client, cx.world.namespace(), &deployment, change).await).await {
            Ok(()) => return hand_over(cx, original).await,
            Err(ApiError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes our name off a recorded Deployment.
///
/// # Errors
/// Where that cannot be done.
pub async fn hand_over(cx: &Cx<'_>, original: &Original) -> Result<(), StepError> {
    let what = format!("managed fields of Deployment {}", original.name);
    let client = cx.link.client();
    loop {
        let deployment = live(cx, original).await?;
        if !workloads::is_ours(&deployment) {
            return Ok(());
        }
        match cx.write(&what, async || workloads::hand_over(&client, cx.world.namespace(), &deployment).await).await {
            Ok(()) | Err(ApiError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until these Deployments are as wanted.
///
/// # Errors
/// Where one of them is gone or replaced.
pub async fn wait(cx: &Cx<'_>, originals: &[Original], wanted: Wanted) -> Result<(), StepError> {
    let mut watched = Vec::new();
    for original in originals {
        let deployment = live(cx, original).await?;
        let labels = deployment.spec.selector.match_labels.unwrap_or_default();
        let selector = labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
        watched.push(Watched { name: original.name.clone(), selector });
    }
    rollout::until(&cx.link.client(), cx.world.namespace(), &watched, wanted, |missing| cx.waiting(missing)).await;
    cx.going_on();
    Ok(())
}
