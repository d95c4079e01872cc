//! The flags of `upgrade`: those of the official script keep their letters, meaning and defaults.

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, ValueEnum};

use crate::{
    milvus::Version,
    rollout::{Operation, Settings},
    run::ReleaseName,
};

use super::super::{
    exit::Failure,
    gather::ClusterArgs,
    running::{FormatArg, OnFailure, ProgressArg, duration},
};

/// Arguments of `upgrade`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  milvus-guard upgrade -i my-release -n milvus -t 2.5.12 --dry-run
  milvus-guard upgrade -i my-release -n milvus -t 2.5.12 -w milvusdb/milvus:v2.5.12
  milvus-guard upgrade -i my-release -n milvus -t 2.5.12 -o rollback

The same command again goes on, whatever ended the one before.
Exit codes: 0 reached the plan, 1 refused, nothing changed, 2 wrong usage, 3 stopped, the same command goes on,
4 stopped and rolled back, 5 another run holds the lock.")]
pub(in crate::cli) struct Args {
    /// Milvus instance: the name of its Helm release
    #[arg(short, long, value_name = "NAME")]
    pub(super) instance: String,

    /// Namespace of the release
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(super) namespace: String,

    /// Version that is wanted, such as 2.5.12
    #[arg(short, long, value_name = "VERSION")]
    pub(super) target_version: String,

    /// Image of the new version [default: the running repository with tag v<target version>]
    #[arg(short = 'w', long, value_name = "IMAGE")]
    pub(super) image: Option<String>,

    /// What to do
    #[arg(short, long, value_enum, default_value_t = OperationArg::Update)]
    pub(super) operation: OperationArg,

    /// Print the steps and what the rules say, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Do not ask at a terminal
    #[arg(short, long)]
    pub(super) yes: bool,

    /// What to do when a step fails
    #[arg(long, value_enum, default_value_t = OnFailure::Stop, value_name = "WHAT")]
    pub(super) on_failure: OnFailure,

    /// For one component
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub(super) step_timeout: Duration,

    /// For all of it
    #[arg(long, value_name = "TIME", default_value = "6h", value_parser = duration)]
    pub(super) timeout: Duration,

    /// For a pod that cannot pull its image or crashes again and again
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = duration)]
    pub(super) give_up_after: Duration,

    /// How to print the last word, or the plan
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    pub(super) format: FormatArg,

    /// How to show progress, on stderr [auto: a live line on a terminal, lines elsewhere]
    #[arg(long, value_enum, default_value_t = ProgressArg::Auto)]
    pub(super) progress: ProgressArg,

    #[command(flatten)]
    pub(super) place: Place,

    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Where the work is done.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct Place {
    /// Do it in this process, and not in a Job
    #[arg(long, help_heading = "Job")]
    pub(super) local: bool,

    /// Namespace in which the run lives [default: the guard's where it is installed, else the release's]
    #[arg(long, value_name = "NAMESPACE", help_heading = "Job")]
    pub(super) run_namespace: Option<String>,

    /// Name of the run, as the command gave it to its Job
    #[arg(long, value_name = "NAME", hide = true)]
    pub(super) run: Option<String>,

    /// Who asked for the run, as the command gave it to its Job
    #[arg(long, value_name = "NAME", hide = true)]
    pub(super) requested_by: Option<String>,

    /// File for the last word, as JSON, for whoever follows the Job
    #[arg(long, value_name = "FILE", hide = true)]
    pub(super) end_file: Option<PathBuf>,

    /// For the lock without renewal
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration, hide = true)]
    pub(super) lock_holds: Duration,
}

/// `-o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OperationArg {
    /// Upgrade, or go on
    Update,
    /// Put images and strategies back as the run recorded them, the last component first
    Rollback,
    /// End the run where it stands, and say what runs
    Abort,
}

impl Args {
    pub(super) fn operation(&self) -> Operation {
        match self.operation {
            OperationArg::Update => Operation::Update,
            OperationArg::Rollback => Operation::Rollback,
            OperationArg::Abort => Operation::Abort,
        }
    }

    /// What is asked for, where it makes sense.
    pub(super) fn settings(&self) -> Result<Settings, Failure> {
        let text = self.target_version.trim().trim_start_matches('v');
        let target: Version =
            text.parse().map_err(|_| Failure::usage(format!("'{text}' is no release of Milvus, such as 2.5.12")))?;
        let settings = Settings {
            release: ReleaseName { name: self.instance.clone(), namespace: self.namespace.clone() },
            target,
            image: self.image.clone(),
            back_on_failure: self.on_failure == OnFailure::Rollback,
            run: self.place.run.clone(),
            run_namespace: self.place.run_namespace.clone(),
            requested_by: self.place.requested_by.clone(),
            total: self.timeout,
            step: self.step_timeout,
            hopeless: self.give_up_after,
            lock: self.place.lock_holds,
        };
        settings.usable(self.operation()).map_err(Failure::usage)?;
        Ok(settings)
    }
}
