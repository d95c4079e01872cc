//! A verb whose run is carried out by a Job in the cluster.

use milvus_guard_core::api::UpgradeRun;
use serde_json::Value;

use crate::engine::{
    End, Home, Intent, RetryingClient, RunRecord,
    home::{HomeError, INSTALL_DEFINITIONS},
    life_cycle::{check_abort, name_of},
    procedure::Procedure,
};

use super::{
    make,
    spec::{Claim, JobSpec, Mounted, Rights},
};

/// What the command line sets for the Job.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// Image of milvus-guard; `None` means that of the guard that is installed.
    pub image: Option<String>,
    /// Service account; `None` means the guard's account for jobs, else one made for the run.
    pub account: Option<String>,
    /// Secret with a user of Milvus.
    pub milvus_secret: Option<String>,
    /// Secret with the credentials of etcd.
    pub etcd_secret: Option<String>,
    /// Volume of the backup; `None` for a run that makes none.
    pub backup: Option<BackupVolume>,
    /// Overrides that are merged into the Job.
    pub overrides: Option<Value>,
    /// Whether the Job is removed after it ended well.
    pub delete: bool,
}

/// The volume of a backup.
#[derive(Clone, Debug)]
pub struct BackupVolume {
    /// Its storage class; `None` means the default one.
    pub storage_class: Option<String>,
    /// Its size as a quantity of Kubernetes, such as `10Gi`.
    pub size: String,
}

/// What the Job of one run needs.
pub struct JobRequirements {
    /// Arguments after the verb.
    pub args: Vec<String>,
    /// A claim that is mounted, and created if it does not exist.
    pub claim: Option<Claim>,
    /// The rights of the Job.
    pub rights: Rights,
    /// Secrets that are mounted.
    pub secrets: Vec<Mounted>,
}

/// A procedure that a Job can carry out.
#[allow(
    async_fn_in_trait,
    reason = "a command awaits its procedure where it stands; nothing is sent to another thread"
)]
pub trait InJob: Procedure {
    /// The operation as its label names it.
    fn operation(&self) -> &'static str;

    /// Records the user who requested the run.
    fn set_requested_by(&mut self, user: Option<String>);

    /// Refuses early what the Job would refuse: the user waits less, and nothing is created.
    ///
    /// # Errors
    /// [`End::Refused`] with the reason.
    async fn check(
        &self,
        client: &RetryingClient,
        known: &[UpgradeRun],
        run: Option<&UpgradeRun>,
    ) -> Result<(), End>;

    /// What the Job needs.
    ///
    /// # Errors
    /// [`End::Stopped`] if the cluster does not answer.
    async fn needs(
        &self,
        client: &RetryingClient,
        home: &Home,
        run: &str,
        options: &JobOptions,
    ) -> Result<JobRequirements, End>;
}

/// Creates the Job, or finds the one that is running, and follows it to its end. Nothing here
/// changes Milvus or its metadata.
pub async fn run_in_job<P: InJob>(
    client: &RetryingClient,
    procedure: P,
    options: &JobOptions,
) -> End {
    match try_run(client, procedure, options).await {
        Ok(end) | Err(end) => end,
    }
}

/// What a run lacks in the cluster: the definitions of the guard's objects, or the image of its
/// Job. `options` is `None` for a run in this process. The result is the reason with what to do.
///
/// # Errors
/// [`End::Stopped`] if the cluster does not answer.
pub async fn lacking<P: Procedure>(
    client: &RetryingClient,
    procedure: &P,
    options: Option<&JobOptions>,
) -> Result<Option<String>, End> {
    let settings = procedure.run_settings();
    let home = match Home::find(client, &settings.release, settings.namespace.as_deref()).await {
        Ok(home) => home,
        Err(error @ HomeError::NoDefinitions) => {
            return Ok(Some(format!(
                "{error}; install it first: {INSTALL_DEFINITIONS}"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    let Some(options) = options else {
        return Ok(None);
    };
    let found = make::image(client, &home, options.image.as_ref()).await;
    Ok(found.err().map(|_| {
        "the milvus-guard image for the Job is unknown; give --job-image IMAGE, or --local to run in \
         this process"
            .to_owned()
    }))
}

async fn try_run<P: InJob>(
    client: &RetryingClient,
    mut procedure: P,
    options: &JobOptions,
) -> Result<End, End> {
    let settings = procedure.run_settings();
    let release = settings.release.clone();
    let home = Home::find(client, &settings.release, settings.namespace.as_deref()).await?;
    let known = RunRecord::runs(client, &home, &release).await?;
    let name = name_of(client, &known, &procedure).await?;
    let run = known.iter().find(|run| run.metadata.name == name);
    if let (Intent::End, Some(run)) = (procedure.intent(), run) {
        check_abort(run, &procedure)?;
    }
    procedure.check(client, &known, run).await?;
    procedure.set_requested_by(make::asker(client).await);
    let needs = procedure.needs(client, &home, &name, options).await?;
    let job = match procedure.intent() {
        Intent::Forward => name.clone(),
        Intent::Back | Intent::End => format!("{name}-{}", procedure.operation()),
    };
    let account = options.account.as_ref().or(home.guarded_by.as_ref());
    let spec = JobSpec {
        name: job,
        verb: P::VERB,
        operation: procedure.operation(),
        intent: procedure.intent(),
        args: needs.args,
        image: make::image(client, &home, options.image.as_ref()).await?,
        claim: needs.claim,
        account: account.cloned().unwrap_or_else(|| name.clone()),
        makes_account: account.is_none(),
        rights: options.account.is_none().then_some(needs.rights),
        secrets: needs.secrets,
        overrides: options.overrides.clone(),
        home: home.namespace.clone(),
        run: name,
        release,
    };
    make::run(client, &spec, options.delete).await
}
