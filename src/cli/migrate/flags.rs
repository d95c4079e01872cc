//! The flags of `migrate`: those of the official script keep their letters, meaning and defaults.

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use milvus_guard_operations::{
    engine::EtcdAccess,
    kubernetes_job::{BackupVolume, JobOptions},
    metadata_migration::{Migration, Operation, Settings, StartBy, settings::versions},
};

use super::super::{
    completion,
    credentials::EtcdLogin,
    duration::duration,
    exit::Failure,
    gather::{ClusterArgs, namespace},
    progress::ProgressArg,
    running::{JobArgs, OnFailure},
    structured::FormatArg,
};

/// Arguments of `migrate`.
#[derive(Debug, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate flag")]
#[command(args_override_self = true)]
pub(in crate::cli) struct Args {
    /// Milvus instance: the name of its Helm release
    #[arg(short, long, value_name = "NAME", add = ArgValueCompleter::new(completion::releases))]
    pub(super) instance: String,

    /// Namespace of the release [default: of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE", add = ArgValueCompleter::new(completion::namespaces))]
    pub(super) namespace: Option<String>,

    /// Running version, such as 2.1.4
    #[arg(short, long, value_name = "VERSION")]
    pub(super) source_version: String,

    /// Target version, such as 2.2.16
    #[arg(short, long, value_name = "VERSION", add = ArgValueCompleter::new(completion::versions))]
    pub(super) target_version: String,

    /// Root path of the metadata in etcd [default: from the configuration of the release]
    #[arg(short, long, value_name = "PATH")]
    pub(super) root_path: Option<String>,

    /// Image of the new version [default: the running repository with tag v<target version>]
    #[arg(short = 'w', long, value_name = "IMAGE")]
    pub(super) image: Option<String>,

    /// Image of the official migration tool, if it is to rewrite the metadata [default:
    /// milvus-guard does]
    #[arg(short, long, value_name = "IMAGE")]
    pub(super) migration_image: Option<String>,

    /// What to do
    #[arg(short, long, value_enum, default_value_t = OperationArg::Migrate)]
    pub(super) operation: OperationArg,

    /// Remove the Job afterwards; the backup volume stays
    #[arg(
        short,
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        default_value_t = false,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub(super) delete_migration_pod: bool,

    /// Storage class of the backup volume [default: the cluster's default class]
    #[arg(short = 'c', long, value_name = "CLASS")]
    pub(super) storage_class: Option<String>,

    /// Addresses of etcd [default: from the configuration of the release]
    #[arg(short, long, value_name = "URL[,URL]", value_delimiter = ',')]
    pub(super) etcd: Vec<String>,

    /// Check a migration that was made with another tool, and record the evidence for the webhook
    #[arg(long, conflicts_with_all = ["operation", "migration_image"])]
    pub(super) record_only: bool,

    /// Who starts the new version: this run, or you with the `helm upgrade` that it prints
    #[arg(long, value_enum, default_value_t = StartArg::Now, value_name = "BY")]
    pub(super) start: StartArg,

    /// Print the plan, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Do not ask; needed where there is no terminal
    #[arg(short, long)]
    pub(super) yes: bool,

    /// What to do when a step fails
    #[arg(long, value_enum, default_value_t = OnFailure::Stop, value_name = "WHAT")]
    pub(super) on_failure: OnFailure,

    /// Roll back even if 2.2 has served since the backup: the data that it wrote is lost
    #[arg(long)]
    pub(super) accept_data_loss: bool,

    /// For one step
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
    pub(super) step_timeout: Duration,

    /// For all of it
    #[arg(long, value_name = "TIME", default_value = "3h", value_parser = duration)]
    pub(super) timeout: Duration,

    /// How to print the result
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    pub(super) format: FormatArg,

    /// How to show progress, on stderr [auto: a live line on a terminal, lines elsewhere]
    #[arg(long, value_enum, default_value_t = ProgressArg::Auto)]
    pub(super) progress: ProgressArg,

    #[command(flatten)]
    pub(super) location: LocationFlags,

    #[command(flatten)]
    pub(super) access: EtcdLogin,

    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Where and how the work is done.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct LocationFlags {
    /// Run in this process, which must reach etcd, instead of in a Job
    #[arg(long, help_heading = "Job")]
    pub(super) local: bool,

    /// Folder of the backup, with --local
    #[arg(
        long,
        value_name = "DIR",
        default_value = ".",
        requires = "local",
        help_heading = "Job"
    )]
    pub(super) backup_dir: PathBuf,

    /// Secret with the credentials of etcd, in the Job's namespace: username and password, ca.crt,
    /// tls.crt and tls.key
    #[arg(long, value_name = "NAME", help_heading = "Job")]
    pub(super) etcd_secret: Option<String>,

    /// Size of the backup volume
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "10Gi",
        help_heading = "Job"
    )]
    pub(super) backup_size: String,

    /// Claim that is mounted at the folder of the backup
    #[arg(long, value_name = "NAME", hide = true, requires = "local")]
    pub(super) backup_claim: Option<String>,

    #[command(flatten)]
    pub(super) job: JobArgs,
}

/// `-o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OperationArg {
    /// Migrate, or resume
    Migrate,
    /// Restore metadata, images and replicas as the run recorded them
    Rollback,
    /// Abort the run, and report the state of the data
    Abort,
}

/// `--start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StartArg {
    /// This run, in order
    Now,
    /// One `helm upgrade` of yours
    Helm,
}

impl Args {
    fn operation(&self) -> Operation {
        match self.operation {
            _ if self.record_only => Operation::Record,
            OperationArg::Migrate => Operation::Migrate,
            OperationArg::Rollback => Operation::Rollback,
            OperationArg::Abort => Operation::Abort,
        }
    }

    /// The requested migration, if its flags do not contradict each other.
    pub(super) fn procedure(&self) -> Result<Migration, Failure> {
        let (source, target) =
            versions(&self.source_version, &self.target_version).map_err(Failure::usage)?;
        let (etcd_user, etcd_tls) = self.access.read_here(self.location.local)?;
        let settings = Settings {
            run: self.location.job.run_settings(
                (&self.instance, self.namespace.as_deref()),
                (self.timeout, self.step_timeout),
                self.on_failure,
            ),
            source,
            target,
            root_path: self.root_path.clone(),
            image: self.image.clone(),
            tool_image: self.migration_image.clone(),
            etcd: EtcdAccess {
                addresses: self.etcd.clone(),
                tls: etcd_tls,
                user: etcd_user,
            },
            start: match self.start {
                StartArg::Now => StartBy::Run,
                StartArg::Helm => StartBy::Helm,
            },
            accept_data_loss: self.accept_data_loss,
            backup_dir: self.location.backup_dir.clone(),
            backup_claim: self.location.backup_claim.clone(),
            location: self.location.job.location(self.location.local),
        };
        let mut migration = Migration::new(settings, self.operation()).map_err(Failure::usage)?;
        // Last, because wrong usage is reported without a cluster.
        if self.namespace.is_none() {
            migration.settings.run.release.namespace = namespace(&self.cluster, None)?;
        }
        Ok(migration)
    }
}

impl LocationFlags {
    /// The options of the Job.
    pub(super) fn options(
        &self,
        storage_class: Option<String>,
        delete: bool,
    ) -> Result<JobOptions, Failure> {
        Ok(JobOptions {
            image: self.job.image.clone(),
            account: self.job.account.clone(),
            milvus_secret: None,
            etcd_secret: self.etcd_secret.clone(),
            backup: Some(BackupVolume {
                storage_class,
                size: self.backup_size.clone(),
            }),
            overrides: self.job.overrides()?,
            delete,
        })
    }
}
