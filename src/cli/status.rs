//! `status`: the current step of a run, what blocks it and since when, and who holds the lock.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;

use milvus_guard_core::{
    api::{RunKind, RunPhase, UpgradeRun},
    report::Show,
};
use milvus_guard_operations::engine::{
    ApiError, Home, Listed, ReleaseName, Reporter, RetryingClient, RunRecord, RunRecordError,
    home::HomeError,
    live_view::{self, Watch},
    release::{self, SurveyError},
    retrying_client::PATIENCE,
    view::{ComponentView, HolderView, RunView, SCHEMA_VERSION},
};
use milvus_guard_sources::kubernetes::Cluster;

use super::{
    completion,
    exit::{Done, Exit, Failure},
    gather::{ClusterArgs, namespace},
    output::{Screen, print, tell},
    structured::{FormatArg, Structured},
};

/// Time between two reads with `--wait`.
const LOOK: Duration = Duration::from_secs(1);

/// Arguments of `status`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Release [default: every run in all namespaces that may be read]
    #[arg(short, long, value_name = "NAME", add = ArgValueCompleter::new(completion::releases))]
    instance: Option<String>,

    /// As without a release
    #[arg(long, conflicts_with_all = ["instance", "wait"], hide = true)]
    all: bool,

    /// Its namespace [default: of the kubeconfig's context]; without a release, only runs of
    /// releases in it
    #[arg(short, long, value_name = "NAMESPACE", add = ArgValueCompleter::new(completion::namespaces))]
    namespace: Option<String>,

    /// Show the run until it has ended, or needs an operator: a table that is redrawn on a
    /// terminal, a line for each change elsewhere
    #[arg(long, visible_alias = "watch", requires = "instance")]
    wait: bool,

    /// How to print it
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    format: FormatArg,

    /// Namespace of the runs [default: the guard's namespace if it is installed, else the
    /// release's]
    #[arg(long, value_name = "NAMESPACE")]
    run_namespace: Option<String>,

    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let runtime = super::runtime::runtime()?;
    let of = args
        .instance
        .as_ref()
        .map(|name| {
            let namespace = namespace(&args.cluster, args.namespace.as_deref())?;
            Ok(ReleaseName {
                name: name.clone(),
                namespace,
            })
        })
        .transpose()?;
    runtime.block_on(async {
        let cluster = Cluster::connect(&args.cluster.access())
            .await
            .map_err(Failure::no_verdict)?;
        let cancellation = super::runtime::on_signals()?;
        let mut client = RetryingClient::for_reading(cluster, Reporter::default(), cancellation);
        match &of {
            None => all(args, &client, screen).await,
            Some(of) => {
                if args.wait {
                    // A control plane may be unavailable for minutes while it is upgraded.
                    client.patience = PATIENCE;
                }
                show(args, &client, of, screen).await
            }
        }
    })
}

async fn show(args: &Args, client: &RetryingClient, of: &ReleaseName, screen: &Screen) -> Done {
    let home = match Home::find(client, of, args.run_namespace.as_deref()).await {
        Ok(home) => home,
        // Without the custom resource definitions no run can exist.
        Err(HomeError::NoDefinitions) => return nothing(args, of),
        Err(error) => return Err(Failure::no_verdict(error)),
    };
    let mut page = Page::new(args, screen);
    loop {
        let runs = RunRecord::runs(client, &home, of).await.map_err(unread)?;
        let open = runs.iter().rev().find(|run| run.is_under_way());
        // The guard's leader begins the run of a held change shortly after the change.
        if args.wait && open.is_none() && is_held(client, of).await? {
            page.wait_for_run(of);
            tokio::select! {
                () = tokio::time::sleep(LOOK) => continue,
                _ = client.cancellation.cancelled() => return Ok(Exit::Stopped),
            }
        }
        // The run in progress, else the last run.
        let Some(run) = open.or(runs.last()) else {
            return nothing(args, of);
        };
        let holder = holder(client, &home, of).await?;
        let phase = run.status.phase;
        let over = phase.is_ended() || needs_operator(run);
        let view = RunView::of(run, holder, components(client, run).await);
        if !args.wait || over {
            page.last(&view)?;
            return Ok(exit(phase));
        }
        page.redraw(&view)?;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = client.cancellation.cancelled() => return Ok(exit(phase)),
        }
    }
}

/// Whether a person has to act before the run proceeds. The guard's leader resumes a held change.
fn needs_operator(run: &UpgradeRun) -> bool {
    run.spec.kind != RunKind::Hold
        && matches!(run.status.phase, RunPhase::Stopped | RunPhase::Paused)
}

/// Whether a Deployment of the release is held.
async fn is_held(client: &RetryingClient, of: &ReleaseName) -> Result<bool, Failure> {
    match release::read(client, of).await {
        Ok((found, _)) => Ok(found.held().next().is_some()),
        Err(SurveyError::Api(error)) => Err(Failure::no_verdict(error)),
        Err(_) => Ok(false),
    }
}

/// Prints every run that this account may read: to be checked before the guard is uninstalled.
async fn all(args: &Args, client: &RetryingClient, screen: &Screen) -> Done {
    // The namespace to read if this account may not list runs in all namespaces.
    let of = ReleaseName {
        name: String::new(),
        namespace: namespace_of(args, client),
    };
    let (mut runs, read) = match Home::find(client, &of, args.run_namespace.as_deref()).await {
        Ok(home) => RunRecord::everywhere(client, &home).await.map_err(unread)?,
        Err(HomeError::NoDefinitions) => (Vec::new(), None),
        Err(error) => return Err(Failure::no_verdict(error)),
    };
    if let Some(wanted) = &args.namespace {
        runs.retain(|listed| match listed {
            Listed::Run(run) => run.spec.namespace == *wanted,
            // Which release it is about is not known.
            Listed::Unread { .. } => true,
        });
    }
    let only = Only {
        wanted: args.namespace.as_deref(),
        read: read.as_deref(),
    };
    let under_way = count_under_way(&runs);
    print(&match args.format.structured() {
        Some(structured) => structured.render(&listing(&runs, only))?,
        None => screen.lines(&listing_text(&runs, only)),
    })?;
    Ok(if under_way == 0 {
        Exit::Reached
    } else {
        Exit::Stopped
    })
}

fn count_under_way(runs: &[Listed]) -> usize {
    runs.iter().filter(|listed| listed.is_under_way()).count()
}

/// The namespaces to which a list of runs is limited.
#[derive(Clone, Copy, Debug, Default)]
struct Only<'a> {
    /// The namespace of the releases, if the command names one.
    wanted: Option<&'a str>,
    /// The one namespace whose runs could be listed; `None` if all could.
    read: Option<&'a str>,
}

/// The runs for programs.
fn listing(runs: &[Listed], only: Only<'_>) -> serde_json::Value {
    let entries = |wanted: fn(&Listed) -> bool| {
        runs.iter()
            .filter(|listed| wanted(listed))
            .map(entry)
            .collect::<Vec<_>>()
    };
    json!({
        "schemaVersion": SCHEMA_VERSION,
        "namespace": only.wanted.or(only.read),
        "underWay": entries(Listed::is_under_way),
        "runs": entries(|_| true),
    })
}

/// The same for a person.
fn listing_text(runs: &[Listed], only: Only<'_>) -> String {
    let mut text: String = runs.iter().map(line).collect();
    if runs.is_empty() {
        text = match (only.wanted, only.read) {
            (Some(namespace), _) => format!("no run of a release in namespace {namespace}\n"),
            (None, Some(namespace)) => format!("no run in namespace {namespace}\n"),
            (None, None) => "no run in any namespace\n".to_owned(),
        };
    }
    if let Some(namespace) = only.read {
        text.push_str(&format!(
            "Only runs in namespace {namespace} were read: this account may not list others.\n"
        ));
    }
    let mut under_way = runs.iter().filter(|listed| listed.is_under_way());
    match (under_way.next(), under_way.next()) {
        (Some(Listed::Run(run)), None) => text.push_str(&format!(
            "Next: milvus-guard status -i {} -n {}\n",
            run.spec.release, run.spec.namespace
        )),
        (Some(_), _) => text.push_str("Next: milvus-guard status -i RELEASE -n NAMESPACE\n"),
        (None, _) => {}
    }
    text
}

/// The namespace that the command names, else that of the context.
fn namespace_of(args: &Args, client: &RetryingClient) -> String {
    args.namespace
        .clone()
        .unwrap_or_else(|| client.cluster.default_namespace().to_owned())
}

fn entry(listed: &Listed) -> serde_json::Value {
    match listed {
        Listed::Run(run) => json!({
            "run": run.full_name(),
            "release": run.spec.release,
            "namespace": run.spec.namespace,
            "kind": run.spec.kind,
            "from": run.spec.from.to_string(),
            "to": run.spec.to.to_string(),
            "phase": run.status.phase,
        }),
        Listed::Unread { name, reason } => json!({"run": name, "unread": reason}),
    }
}

fn line(listed: &Listed) -> String {
    match listed {
        Listed::Run(run) => format!(
            "{} of {}/{} ({} → {}): {}\n",
            run.full_name(),
            run.spec.namespace,
            run.spec.release,
            run.spec.from,
            run.spec.to,
            run.status.phase.name()
        ),
        Listed::Unread { name, reason } => {
            format!("{name}: it cannot be read ({reason}); it may be in progress\n")
        }
    }
}

const fn exit(phase: RunPhase) -> Exit {
    match phase {
        RunPhase::Succeeded | RunPhase::Aborted | RunPhase::Refused => Exit::Reached,
        RunPhase::RolledBack => Exit::RolledBack,
        RunPhase::Pending
        | RunPhase::Running
        | RunPhase::Paused
        | RunPhase::Stopped
        | RunPhase::RollingBack
        | RunPhase::Other => Exit::Stopped,
    }
}

fn nothing(args: &Args, of: &ReleaseName) -> Done {
    match args.format.structured() {
        None => print(&format!(
            "no run of {} in namespace {}\nNext: milvus-guard status (every run in all namespaces)\n",
            of.name, of.namespace
        ))?,
        Some(structured) => {
            let none = json!({"schemaVersion": SCHEMA_VERSION, "run": null, "release": of.name, "namespace": of.namespace});
            print(&structured.render(&none)?)?;
        }
    }
    Ok(Exit::Reached)
}

async fn holder(
    client: &RetryingClient,
    home: &Home,
    of: &ReleaseName,
) -> Result<Option<HolderView>, Failure> {
    let api: Api<Lease> = Api::namespaced(client.kube(), &home.namespace);
    let name = of.lease();
    let lease = match client
        .call(&format!("Lease {name}"), async || api.get_opt(&name).await)
        .await
    {
        Ok(lease) => lease,
        Err(error) => return Err(Failure::no_verdict(error)),
    };
    let spec = lease.and_then(|lease| lease.spec);
    Ok(spec.and_then(|spec| {
        let identity = spec
            .holder_identity
            .filter(|identity| !identity.is_empty())?;
        Some(HolderView {
            identity,
            since: spec.acquire_time.map(|at| at.0),
            renewed_at: spec.renew_time.map(|at| at.0),
        })
    }))
}

/// The running workloads of the release; `None` if they may not be read.
async fn components(client: &RetryingClient, run: &UpgradeRun) -> Vec<ComponentView> {
    let Ok(reading) = client.cluster.read(&run.spec.namespace, false).await else {
        return Vec::new();
    };
    let names: Vec<&str> = run
        .status
        .originals
        .iter()
        .map(|original| &*original.name)
        .collect();
    let release = reading.snapshot.releases.into_iter().find(|release| {
        release.name == run.spec.release
            || release
                .components
                .iter()
                .any(|one| names.contains(&&*one.workload.meta.object.name))
    });
    let rows = release
        .into_iter()
        .flat_map(|release| release.components)
        .map(|component| {
            let status = component.workload.status.unwrap_or_default();
            ComponentView {
                component: component.component,
                leaves: false,
                workload: component.workload.meta.object.name.clone(),
                image: component.image().to_string(),
                wanted: component.workload.wanted_replicas(),
                updated: status.updated,
                old: status.replicas - status.updated,
                ready: status.ready,
                available: status.available,
            }
        });
    rows.collect()
}

fn unread(error: RunRecordError) -> Failure {
    match error {
        RunRecordError::Api(ApiError::NotFound { .. }) => {
            Failure::no_verdict("the run was deleted")
        }
        other => Failure::no_verdict(other),
    }
}

/// Output of `--wait`: a table that is redrawn on a terminal, elsewhere a line for each change.
struct Page<'a> {
    args: &'a Args,
    screen: &'a Screen,
    live: bool,
    drawn: usize,
    said: String,
    watch: Watch,
}

impl<'a> Page<'a> {
    fn new(args: &'a Args, screen: &'a Screen) -> Self {
        let live = args.wait && args.format == FormatArg::Text && io::stdout().is_terminal();
        Self {
            args,
            screen,
            live,
            drawn: 0,
            said: String::new(),
            watch: Watch::default(),
        }
    }

    /// Prints once that the run of a held change has not begun.
    fn wait_for_run(&mut self, of: &ReleaseName) {
        let said = format!(
            "{} in {} is held; waiting for the guard to release it",
            of.name, of.namespace
        );
        if self.said != said {
            tell(&said);
            self.said = said;
        }
    }

    /// Shows a run that is in progress.
    fn redraw(&mut self, view: &RunView) -> Result<(), Failure> {
        let now = Timestamp::now();
        self.watch.see(view, now);
        if self.live {
            let style = self.screen.style(Show::All);
            let text = live_view::screen(view, &self.watch, &style, now);
            let text = self.screen.top(&text);
            let wiped = self.wiped();
            self.drawn = self.screen.height(&text);
            return print(&(wiped + &text));
        }
        let step = view
            .step
            .as_ref()
            .map(|step| (step.number, step.done, step.waiting_for.clone()));
        let said = format!("{} {step:?}", view.phase);
        if said == self.said {
            return Ok(());
        }
        self.said = said;
        match self.args.format.structured() {
            None => print(&live_view::line(view, now)),
            Some(structured) => document(view, structured),
        }
    }

    /// Shows the final state of the run.
    fn last(&mut self, view: &RunView) -> Result<(), Failure> {
        if let Some(structured) = self.args.format.structured() {
            return document(view, structured);
        }
        let now = Timestamp::now();
        self.watch.see(view, now);
        let mut text = view.text(now);
        if let Some(interruption) = self.watch.interruption() {
            text.push_str(&format!("measured   {interruption}\n"));
        }
        let wiped = self.wiped();
        print(&(wiped + &self.screen.lines(&text)))
    }

    /// Control characters that erase the drawn lines, including those that the terminal wrapped.
    fn wiped(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            drawn => format!("\u{1b}[{drawn}A\u{1b}[J"),
        }
    }
}

/// Prints one JSON line or one YAML document: `--wait` prints several.
fn document(view: &RunView, format: Structured) -> Result<(), Failure> {
    print(&match format {
        Structured::Yaml => format!("---\n{}", format.render(view)?),
        Structured::Json => serde_json::to_string(view).map_err(Failure::no_verdict)? + "\n",
    })
}
