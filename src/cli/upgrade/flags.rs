//! The flags of `upgrade`: those of the official script keep their letters, meaning and defaults.

use std::{ffi::OsString, time::Duration};

use clap::{Args as ClapArgs, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use milvus_guard_core::milvus::{
    Version,
    catalogue::{Catalogue, Situation, Wanted},
};
use milvus_guard_operations::{
    engine::EtcdAccess,
    kubernetes_job::JobOptions,
    rolling_upgrade::{
        AskMilvus, MilvusAccess, Operation, RollingUpgrade, SearchedCollections, SessionHelp,
        Settings,
        through_helm::{HelmCaller, HelmProgress, HelmTurn},
    },
};

use super::super::{
    completion,
    credentials::{self, EtcdLogin, MilvusLogin},
    duration::duration,
    exit::Failure,
    gather::{ClusterArgs, namespace},
    named_release::Ask,
    progress::ProgressArg,
    running::{DocumentFormat, JobArgs, OnFailure},
    structured::FormatArg,
};

const ONE_RELEASE: Ask = Ask {
    why: "a run names one, so that the same command resumes it",
    with_build: ", and the image with -w",
};

/// Arguments of `upgrade`.
#[derive(Debug, ClapArgs)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(args_override_self = true, mut_args(credentials::with_local))]
pub(in crate::cli) struct Args {
    /// Milvus instance: the name of its Helm release
    #[arg(short, long, value_name = "NAME", required_unless_present = "helm", add = ArgValueCompleter::new(completion::releases))]
    pub(super) instance: Option<String>,

    /// Namespace of the release [default: of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE", add = ArgValueCompleter::new(completion::namespaces))]
    pub(super) namespace: Option<String>,

    /// Version that is wanted, such as 2.5.27; -o rollback and -o abort know it from the run
    #[arg(short, long, value_name = "VERSION", add = ArgValueCompleter::new(completion::versions))]
    pub(super) target_version: Option<Wanted>,

    /// Image of the new version [default: the running repository with tag v<target version>]
    #[arg(short = 'w', long, value_name = "IMAGE")]
    pub(super) image: Option<String>,

    /// What to do
    #[arg(short, long, value_enum, default_value_t = OperationArg::Update)]
    pub(super) operation: OperationArg,

    /// Print the steps and what the rules say, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Do not ask; needed where there is no terminal
    #[arg(short, long)]
    pub(super) yes: bool,

    /// Addresses of etcd, which is asked for active coordinators [default: what the release is
    /// configured with]
    #[arg(short, long, value_name = "URL[,URL]", value_delimiter = ',')]
    pub(super) etcd: Vec<String>,

    /// Address of Milvus, to verify that all collections are served, such as localhost:19530; none
    /// skips this check [default: the Service of the release]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) milvus: Option<String>,

    /// Name in the certificate of Milvus, where it is not the host of its address
    #[arg(long, value_name = "NAME")]
    pub(super) milvus_server_name: Option<String>,

    /// Collection in which searches must find again what they found before, and from which no rows
    /// are deleted during the run: NAME or DATABASE/NAME, may be repeated; none skips this check
    /// [default: some that are loaded]
    #[arg(long, value_name = "NAME")]
    pub(super) probe_collection: Vec<String>,

    /// Leave the sessions in etcd of pods that have ended to the end of their leases
    #[arg(long)]
    pub(super) no_session_help: bool,

    /// Order that is to be measured, by its name in the data
    #[arg(long, value_name = "ID", env = "MILVUS_GUARD_ORDER", hide = true)]
    pub(super) candidate_order: Option<String>,

    /// What to do when a step fails
    #[arg(long, value_enum, default_value_t = OnFailure::Stop, value_name = "WHAT")]
    pub(super) on_failure: OnFailure,

    /// For one component
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub(super) step_timeout: Duration,

    /// For all of it
    #[arg(long, value_name = "TIME", default_value = "6h", value_parser = duration)]
    pub(super) timeout: Duration,

    /// How long to wait for a pod in `ImagePullBackOff` or `CrashLoopBackOff`
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = duration)]
    pub(super) give_up_after: Duration,

    /// How to print the result, or with --dry-run the plan
    #[arg(long, value_enum, default_value_t = UpgradeFormat::Text)]
    format: UpgradeFormat,

    /// How to show progress, on stderr [auto: a live line on a terminal, lines elsewhere]
    #[arg(long, value_enum, default_value_t = ProgressArg::Auto)]
    pub(super) progress: ProgressArg,

    /// Do it in this process, and not in a Job
    #[arg(long, help_heading = "Job")]
    pub(super) local: bool,

    /// Remove the Job afterwards
    #[arg(long, help_heading = "Job")]
    pub(super) delete_job: bool,

    /// Secret with a user of Milvus, in the Job's namespace: username and password; ca.crt,
    /// tls.crt and tls.key where it has TLS
    #[arg(long, value_name = "NAME", help_heading = "Job")]
    pub(super) milvus_secret: Option<String>,

    /// Secret with the credentials of etcd, in the Job's namespace: username and password, ca.crt,
    /// tls.crt and tls.key
    #[arg(long, value_name = "NAME", help_heading = "Job")]
    pub(super) etcd_secret: Option<String>,

    #[command(flatten)]
    pub(super) job: JobArgs,

    #[command(flatten)]
    pub(super) login: MilvusLogin,

    #[command(flatten)]
    pub(super) access: EtcdLogin,

    #[command(flatten)]
    pub(super) cluster: ClusterArgs,

    /// What Helm changes, as the command told its Job
    #[arg(long, value_name = "JSON", hide = true, requires = "local")]
    pub(super) helm_change: Option<String>,

    /// Whether Helm has made its change
    #[arg(long, hide = true, requires = "helm_change")]
    pub(super) helm_made: bool,

    /// The hook of Helm that this is, as the chart milvus-upgrade has it
    #[arg(long, value_enum, value_name = "MOMENT", hide = true, requires_all = ["local", "helm_revision"], conflicts_with_all = ["helm", "target_version", "image", "dry_run"])]
    pub(super) helm_hook: Option<HelmHookArg>,

    /// The revision that Helm makes
    #[arg(long, value_name = "NUMBER", hide = true, requires = "helm_hook")]
    pub(super) helm_revision: Option<u64>,

    /// A whole helm upgrade that brings the new version, with its chart and values: Helm applies it
    /// while every component is paused, and they roll in order afterwards
    #[arg(last = true, value_name = "HELM UPGRADE", num_args = 1.., conflicts_with_all = ["target_version", "image"])]
    pub(super) helm: Vec<OsString>,
}

/// `--helm-hook`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum HelmHookArg {
    /// Judge, and pause what Helm changes
    PreUpgrade,
    /// Release what is paused, in order
    PostUpgrade,
    /// Release what is paused, on the old version
    PostRollback,
}

/// `-o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OperationArg {
    /// Upgrade, or resume
    Update,
    /// Put images and strategies back as the run recorded them, the last component first
    Rollback,
    /// Abort the run, and report what runs
    Abort,
}

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum UpgradeFormat {
    /// For a person at a terminal
    Text,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
    /// With --dry-run: a checklist with a diagram, for an issue or a pull request
    Markdown,
    /// With --dry-run: one file for a change ticket, with a lane for each component
    Html,
}

/// The format of a plan or a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Printed {
    /// A format that every verb with a run has.
    Plain(FormatArg),
    /// As a document with a diagram.
    Document(DocumentFormat),
}

impl Printed {
    /// The format of everything except a plan: a refusal has no diagram.
    pub(super) const fn plain(self) -> FormatArg {
        match self {
            Self::Plain(format) => format,
            Self::Document(_) => FormatArg::Text,
        }
    }
}

impl Args {
    /// The format of the output, or wrong usage.
    pub(super) fn printed(&self) -> Result<Printed, Failure> {
        let (document, name) = match self.format {
            UpgradeFormat::Text => return Ok(Printed::Plain(FormatArg::Text)),
            UpgradeFormat::Json => return Ok(Printed::Plain(FormatArg::Json)),
            UpgradeFormat::Yaml => return Ok(Printed::Plain(FormatArg::Yaml)),
            UpgradeFormat::Markdown => (DocumentFormat::Markdown, "markdown"),
            UpgradeFormat::Html => (DocumentFormat::Html, "html"),
        };
        if !self.dry_run {
            return Err(Failure::usage(format!(
                "--format {name} prints the plan; give --dry-run too"
            )));
        }
        Ok(Printed::Document(document))
    }

    fn operation(&self) -> Operation {
        match self.operation {
            OperationArg::Update => Operation::Update,
            OperationArg::Rollback => Operation::Rollback,
            OperationArg::Abort => Operation::Abort,
        }
    }

    /// The requested upgrade, if its flags do not contradict each other.
    pub(super) fn procedure(&self) -> Result<RollingUpgrade, Failure> {
        self.procedure_with(self.turn()?)
    }

    /// The same, if Helm applies the new templates.
    pub(super) fn procedure_with(&self, helm: Option<HelmTurn>) -> Result<RollingUpgrade, Failure> {
        let (target, image) = match &helm {
            Some(turn) => (Some(turn.change.to), Some(turn.change.image.clone())),
            None => (self.target()?, self.image.clone()),
        };
        let (etcd_user, etcd_tls) = self.access.read_here(self.local)?;
        let settings = Settings {
            run: self.job.run_settings(
                (
                    self.instance.as_deref().unwrap_or_default(),
                    self.namespace.as_deref(),
                ),
                (self.timeout, self.step_timeout),
                self.on_failure,
            ),
            target,
            image,
            helm,
            milvus: self.milvus()?,
            etcd: EtcdAccess {
                addresses: self.etcd.clone(),
                tls: etcd_tls,
                user: etcd_user,
            },
            session_help: if self.no_session_help {
                SessionHelp::Off
            } else {
                SessionHelp::On
            },
            candidate_order: self.candidate_order.clone(),
            location: self.job.location(self.local),
            hopeless: self.give_up_after,
        };
        let mut upgrade =
            RollingUpgrade::new(settings, self.operation()).map_err(Failure::usage)?;
        // Last, because wrong usage is reported without a cluster.
        if self.namespace.is_none() {
            upgrade.settings.run.release.namespace = namespace(&self.cluster, None)?;
        }
        Ok(upgrade)
    }

    /// Helm's change, as the command that runs Helm passed it to its Job.
    fn turn(&self) -> Result<Option<HelmTurn>, Failure> {
        let Some(text) = &self.helm_change else {
            return Ok(None);
        };
        let change = serde_json::from_str(text)
            .map_err(|_| Failure::usage("--helm-change is of another version of milvus-guard"))?;
        let progress = if self.helm_made {
            HelmProgress::Made
        } else {
            HelmProgress::Ahead
        };
        Ok(Some(HelmTurn {
            change,
            progress,
            caller: HelmCaller::Command,
        }))
    }

    /// The target version; `None` if the run knows it. Commands that resume must name the same
    /// version.
    fn target(&self) -> Result<Option<Version>, Failure> {
        let is_update = self.operation == OperationArg::Update;
        match &self.target_version {
            None if is_update => Err(Failure::usage(
                "the target version is missing. Give it with -t, or a whole helm upgrade after --",
            )),
            None => Ok(None),
            Some(Wanted::Build(build)) if !is_update => Ok(Some(build.version)),
            Some(wanted) => {
                Catalogue::embedded()
                    .choose(wanted, None, &Situation::default())
                    .map_err(Failure::usage)?;
                ONE_RELEASE.release(wanted).map(Some)
            }
        }
    }

    /// Address and credentials of Milvus.
    fn milvus(&self) -> Result<MilvusAccess, Failure> {
        let (login, tls) = self.login.read()?;
        Ok(MilvusAccess {
            ask: AskMilvus::typed_as(self.milvus.as_deref()),
            server_name: self.milvus_server_name.clone(),
            login,
            tls,
            searched: SearchedCollections::typed_as(&self.probe_collection)
                .map_err(Failure::usage)?,
        })
    }

    /// The options of the Job; `None` with `--local`.
    pub(super) fn options(&self) -> Result<Option<JobOptions>, Failure> {
        if self.local {
            return Ok(None);
        }
        let (image, account) = (self.job.image.clone(), self.job.account.clone());
        let (milvus_secret, etcd_secret) = (self.milvus_secret.clone(), self.etcd_secret.clone());
        let (overrides, delete) = (self.job.overrides()?, self.delete_job);
        Ok(Some(JobOptions {
            image,
            account,
            milvus_secret,
            etcd_secret,
            backup: None,
            overrides,
            delete,
        }))
    }
}
