//! Shared by the verbs that start a run: the display of the run, its final message, and their
//! flags.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anstyle::{AnsiColor, Style as Ansi};
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::{Value, json};

use milvus_guard_core::{
    layout,
    manifest::documents,
    report::{Show, Style},
    text::plain,
    upgrade_path::Document,
};
use milvus_guard_operations::engine::{
    End, Listener, Preview, ReleaseName, Reporter, RetryingClient, RunLocation, RunSettings,
    history::History,
};
use milvus_guard_operations::rolling_upgrade::plan::POINT_OF_NO_RETURN;
use milvus_guard_sources::{files::read_text_file, kubernetes::Cluster};

use super::{
    duration::duration,
    exit::{Done, Exit, Failure},
    gather::ClusterArgs,
    output::{Screen, print},
    progress::{ProgressArg, display},
    runtime,
    structured::FormatArg,
};

/// `--on-failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnFailure {
    /// Stop and report the current state
    Stop,
    /// Roll back immediately
    Rollback,
}

/// A plan as a document with a diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DocumentFormat {
    Markdown,
    Html,
}

/// Options of the Job, and what the command passes to the process in the Job.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct JobArgs {
    /// Image of milvus-guard that the Job runs
    #[arg(
        id = "job_image",
        long = "job-image",
        value_name = "IMAGE",
        env = "MILVUS_GUARD_IMAGE",
        help_heading = "Job"
    )]
    pub(super) image: Option<String>,

    /// Service account of the Job, with the permissions in docs/migrate.md or docs/upgrade.md
    /// [default: the guard's account for jobs, else a new one; permissions are granted for the run]
    #[arg(
        id = "job_service_account",
        long = "job-service-account",
        value_name = "NAME",
        help_heading = "Job"
    )]
    pub(super) account: Option<String>,

    /// File (YAML or JSON) that is merged into the Job: resources, node selectors, pull secrets
    /// ...
    #[arg(long, value_name = "FILE", help_heading = "Job")]
    job_overrides: Option<PathBuf>,

    /// Namespace of the run [default: the guard's namespace if it is installed, else the release's]
    #[arg(long, value_name = "NAMESPACE", help_heading = "Job")]
    pub(super) run_namespace: Option<String>,

    /// Name of the run, as the command gave it to its Job
    #[arg(long, value_name = "NAME", hide = true)]
    pub(super) run: Option<String>,

    /// Who asked for the run, as the command gave it to its Job
    #[arg(long, value_name = "NAME", hide = true)]
    pub(super) requested_by: Option<String>,

    /// File that gets the result as JSON: the termination message of the Job's pod
    #[arg(long, value_name = "FILE", hide = true, requires = "local")]
    pub(super) end_file: Option<PathBuf>,

    /// How long the lock is valid without renewal
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration, hide = true)]
    pub(super) lock_holds: Duration,
}

impl JobArgs {
    /// Whether this process is the one in the Job that the command made.
    pub(super) const fn is_in_job(&self) -> bool {
        self.run.is_some() || self.end_file.is_some()
    }

    /// Where the run is carried out, for the commands that messages name.
    pub(super) const fn location(&self, is_local: bool) -> RunLocation {
        if is_local && !self.is_in_job() {
            RunLocation::Local
        } else {
            RunLocation::Job
        }
    }

    /// The settings that all kinds of runs share. Without a namespace, that of the release is
    /// empty: the caller reads it from the kubeconfig.
    pub(super) fn run_settings(
        &self,
        (instance, namespace): (&str, Option<&str>),
        (timeout, step_timeout): (Duration, Duration),
        on_failure: OnFailure,
    ) -> RunSettings {
        RunSettings {
            release: ReleaseName {
                name: instance.to_owned(),
                namespace: namespace.unwrap_or_default().to_owned(),
            },
            name: self.run.clone(),
            namespace: self.run_namespace.clone(),
            requested_by: self.requested_by.clone(),
            timeout,
            step_timeout,
            lock_duration: self.lock_holds,
            rolls_back_on_failure: on_failure == OnFailure::Rollback,
        }
    }

    /// The content of `--job-overrides`, which is merged into the Job.
    pub(super) fn overrides(&self) -> Result<Option<Value>, Failure> {
        let Some(path) = &self.job_overrides else {
            return Ok(None);
        };
        let text = read_text_file(path).map_err(Failure::usage)?;
        let failed =
            |why: String| Failure::usage(format!("--job-overrides {}: {why}", path.display()));
        let document = documents(&text)
            .next()
            .ok_or_else(|| failed("it is empty".into()))?;
        Ok(Some(
            document
                .map_err(|error| failed(error.to_string()))?
                .root
                .to_json(),
        ))
    }
}

/// Connects, and does the work with a display of its progress.
pub(super) fn run<T>(
    cluster: &ClusterArgs,
    progress: ProgressArg,
    screen: &Screen,
    work: impl AsyncFnOnce(RetryingClient, History) -> T,
) -> Result<T, Failure> {
    let runtime = runtime::of_two_threads()?;
    let done = runtime.block_on(async {
        let cluster = Cluster::connect(&cluster.access())
            .await
            .map_err(Failure::no_verdict)?;
        let cancellation = runtime::on_signals()?;
        let history = History::default();
        let own: Box<dyn Listener> = Box::new(history.clone());
        let reporter = Reporter::new(display(progress, screen).into_iter().chain([own]).collect());
        Ok(work(
            RetryingClient::new(cluster, reporter, cancellation),
            history,
        )
        .await)
    });
    // A request that hangs must not delay the end of the process.
    runtime.shutdown_background();
    done
}

/// Connects and reads, without progress and without retries if the cluster does not answer.
pub(super) fn look<T>(
    cluster: &ClusterArgs,
    work: impl AsyncFnOnce(RetryingClient) -> T,
) -> Result<T, Failure> {
    let runtime = runtime::runtime()?;
    let done = runtime.block_on(async {
        let cluster = Cluster::connect(&cluster.access())
            .await
            .map_err(Failure::no_verdict)?;
        let cancellation = runtime::on_signals()?;
        Ok(work(RetryingClient::for_reading(
            cluster,
            Reporter::default(),
            cancellation,
        ))
        .await)
    });
    // A request that hangs must not delay the end of the process.
    runtime.shutdown_background();
    done
}

/// The plan, and what the rules report about it.
pub(super) fn plan_text(planned: &Preview, style: &Style) -> String {
    let mut text = planned.text.clone();
    for warning in &planned.warnings {
        text.push_str(&format!("Warning       {}\n", plain(warning)));
    }
    for refusal in &planned.refusals {
        text.push_str(&format!("Refused       {}\n", plain(refusal)));
    }
    if style.continues_commands {
        text = layout::refill(style.width, &text);
    }
    let lines = text.lines().enumerate();
    lines.fold(String::new(), |mut out, (at, line)| {
        out.push_str(&painted(at, line, style));
        out.push('\n');
        out
    })
}

/// A line of a plan, with important parts in colour.
fn painted(at: usize, line: &str, style: &Style) -> String {
    let yellow = AnsiColor::Yellow.on_default().bold();
    let red = AnsiColor::Red.on_default().bold();
    let labels = [("Warning", yellow), ("Refused", red)];
    match labels.iter().find(|(label, _)| line.starts_with(label)) {
        Some((label, look)) => style.paint(*look, label) + &line[label.len()..],
        None if at == 0 => style.paint(Ansi::new().bold(), line),
        None if line.trim() == POINT_OF_NO_RETURN => style.paint(red, line),
        None => line.to_owned(),
    }
}

/// The plan as the report.
pub(super) fn show(planned: &Preview, format: FormatArg, screen: &Screen) -> Done {
    let text = match format.structured() {
        Some(structured) => {
            let mut json = planned.json.clone();
            json["refusals"] = json!(planned.refusals);
            json["warnings"] = json!(planned.warnings);
            structured.render(&json)?
        }
        None => plan_text(planned, &screen.style(Show::All)),
    };
    print(&text)?;
    Ok(refused(planned, format == FormatArg::Text, screen))
}

/// The plan as a document; as text if it has no order of components.
pub(super) fn show_document(planned: &Preview, format: DocumentFormat, screen: &Screen) -> Done {
    let Some(path) = &planned.path else {
        return show(planned, FormatArg::Text, screen);
    };
    let document = Document {
        plan: path,
        run_hash: planned.json["planHash"].as_str(),
        warnings: &planned.warnings,
        refusals: &planned.refusals,
    };
    print(&match format {
        DocumentFormat::Markdown => document.markdown(),
        DocumentFormat::Html => document.html(),
    })?;
    Ok(refused(planned, true, screen))
}

/// The exit code of a plan that is not carried out.
fn refused(planned: &Preview, is_told: bool, screen: &Screen) -> Exit {
    if planned.refusals.is_empty() {
        return Exit::Reached;
    }
    if is_told {
        screen.error("This run would be refused. Nothing was changed.");
    }
    Exit::Refused
}

/// The result, for programs.
fn last_word(end: &End) -> serde_json::Value {
    json!({
        "schemaVersion": "guard.milvus.io/run-end/v1",
        "outcome": end.name(), "exitCode": exit(end).code(), "message": end.text(),
    })
}

/// The exit code of the contract.
const fn exit(end: &End) -> Exit {
    match end {
        End::Reached(_) | End::Waits(_) => Exit::Reached,
        End::Refused(_) => Exit::Refused,
        End::Stopped(_) => Exit::Stopped,
        End::RolledBack(_) => Exit::RolledBack,
        End::Locked(_) => Exit::Locked,
    }
}

/// Prints the final message: success as the report, everything else also as an error.
pub(super) fn say(end: &End, format: FormatArg, file: Option<&Path>, screen: &Screen) -> Done {
    if let Some(file) = file {
        // If this file is missing, the command that follows the Job reads the UpgradeRun instead.
        let _ = std::fs::write(file, last_word(end).to_string());
    }
    let reached = matches!(end, End::Reached(_) | End::Waits(_));
    match format.structured() {
        Some(structured) => print(&structured.render(&last_word(end))?)?,
        None if reached => print(&screen.lines(&format!("{}\n", end.text())))?,
        None => screen.error(end.text()),
    }
    Ok(exit(end))
}
