//! `upgrade ... -- helm upgrade RELEASE CHART ...`: everything is paused, Helm applies its change,
//! and the components roll in order.

use std::ffi::OsString;

use clap::Parser;

use milvus_guard_core::{
    api::{StepAction, UpgradeRun},
    report::Show,
};
use milvus_guard_operations::{
    engine::{
        End, ReleaseName, RetryingClient, history::History, preview::known_runs, release,
        run_locally,
    },
    kubernetes_job::{JobOptions, run_in_job},
    rolling_upgrade::{
        Operation, RollingUpgrade,
        through_helm::{HelmCaller, HelmChange, HelmProgress, HelmTurn},
    },
};

use super::{
    super::{
        consent::{self, Consent},
        exit::{Done, Exit, Failure},
        helm_upgrade::{PlannedUpgrade, not_run},
        output::Screen,
        running,
        structured::FormatArg,
    },
    Args, Printed, show_planned,
};

/// The same, from a command line of `upgrade` without its verb.
pub(super) fn run_line(line: Vec<OsString>, screen: &Screen) -> Done {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }
    let verb = std::iter::once("upgrade".into());
    let line =
        Line::try_parse_from(verb.chain(line)).map_err(|error| not_run(Failure::usage(error)))?;
    run(&line.args, line.args.printed()?, screen)
}

pub(super) fn run(args: &Args, printed: Printed, screen: &Screen) -> Done {
    let format = printed.plain();
    let options = args.options()?;
    let helm = PlannedUpgrade::of(&args.helm, args.namespace.as_deref(), &args.cluster)
        .map_err(not_run)?;
    let cluster = helm.cluster();
    let rendered = helm.render(args.instance.as_deref()).map_err(not_run)?;
    let name = ReleaseName {
        name: rendered.name().to_owned(),
        namespace: helm.namespace()?,
    };
    let live = running::look(&cluster, async |client| {
        release::read(&client, &name).await.map(|(live, _)| live)
    })?;
    let live = match live {
        Ok(live) => live,
        Err(error) => {
            let end = End::Refused(format!("Refused: {error}. Nothing was changed."));
            return running::say(&end, format, None, screen);
        }
    };
    let change = match helm.change(&rendered, &name, &live)? {
        Ok(change) => change,
        Err(why) => return refuse(format, &why.to_string(), screen),
    };
    let procedure = procedure(args, &name, change)?;
    if procedure.operation != Operation::Update {
        return Err(Failure::usage(
            "-o rollback and -o abort take no helm upgrade: leave out what follows --, and give -t",
        ));
    }
    // A run that has begun was judged before.
    let is_begun = running::look(&cluster, async |client| is_begun(&client, &procedure).await)?;
    match is_begun {
        Ok(true) => {}
        Ok(false) => match helm.judge(&rendered, screen).map_err(not_run)? {
            Ok(warnings) => eprint!("{}", warnings.unwrap_or_default()),
            Err(report) => {
                eprint!("{report}");
                return refuse(format, "the rules deny this change", screen);
            }
        },
        Err(end) => return running::say(&end, format, None, screen),
    }
    if let Some(remark) = helm.remark() {
        screen.error(&remark);
    }
    if args.dry_run {
        let planned = running::look(&cluster, async |client| procedure.preview(&client).await)?;
        return show_planned(planned, printed, screen);
    }
    if Consent::of("upgrade", "the cluster", args.yes)? == Consent::Ask
        && let Err(end) = ask(&cluster, &procedure, screen)?
    {
        return running::say(&end, format, None, screen);
    }
    let end = running::run(&cluster, args.progress, screen, async |client, history| {
        Box::pin(sandwich(
            &client,
            &history,
            &helm,
            procedure,
            options.as_ref(),
        ))
        .await
    })??;
    running::say(&end, format, None, screen)
}

/// The upgrade in the cluster and namespace of Helm.
fn procedure(
    args: &Args,
    name: &ReleaseName,
    change: HelmChange,
) -> Result<RollingUpgrade, Failure> {
    let turn = HelmTurn {
        change,
        progress: HelmProgress::Ahead,
        caller: HelmCaller::Command,
    };
    let mut procedure = args.procedure_with(Some(turn))?;
    procedure.settings.run.release = name.clone();
    Ok(procedure)
}

pub(super) fn refuse(format: FormatArg, why: &str, screen: &Screen) -> Done {
    let why = why.trim_end_matches('.');
    let end = End::Refused(format!("Refused: {why}. Nothing was changed."));
    running::say(&end, format, None, screen)
}

/// Whether a run is in progress that waits for Helm or continues after Helm's change.
pub(super) async fn is_begun(
    client: &RetryingClient,
    procedure: &RollingUpgrade,
) -> Result<bool, End> {
    let is_by_helm = |run: &UpgradeRun| {
        let mut plan = run.spec.plan.iter();
        run.is_under_way() && plan.any(|step| step.action == StepAction::Hold)
    };
    Ok(known_runs(client, procedure).await?.iter().any(is_by_helm))
}

/// Shows the plan and asks for consent.
fn ask(
    cluster: &super::super::gather::ClusterArgs,
    procedure: &RollingUpgrade,
    screen: &Screen,
) -> Result<Result<(), End>, Failure> {
    running::look(cluster, async |client| {
        let preview = procedure.preview(&client).await?;
        let plan = running::plan_text(&preview, &screen.style_stderr(Show::All));
        consent::ask(&plan, &client.cancellation).await
    })
}

/// The run up to the step `helm`, then Helm, then the rest of the run.
async fn sandwich(
    client: &RetryingClient,
    history: &History,
    helm: &PlannedUpgrade,
    mut procedure: RollingUpgrade,
    options: Option<&JobOptions>,
) -> Result<End, Failure> {
    let end = Box::pin(part(client, history, &procedure, options)).await;
    if !matches!(end, End::Waits(_)) {
        return Ok(end);
    }
    // Signals reach Helm through the process group, and this process waits until Helm ends.
    let code = tokio::task::block_in_place(|| helm.run())?;
    if code != Exit::Reached.code() {
        return Ok(End::Stopped(failed(&procedure, code)));
    }
    if let Some(turn) = &mut procedure.settings.helm {
        turn.progress = HelmProgress::Made;
    }
    Ok(Box::pin(part(client, history, &procedure, options)).await)
}

async fn part(
    client: &RetryingClient,
    history: &History,
    procedure: &RollingUpgrade,
    options: Option<&JobOptions>,
) -> End {
    match options {
        None => Box::pin(run_locally(client, procedure, history.clone())).await,
        Some(options) => Box::pin(run_in_job(client, procedure.clone(), options)).await,
    }
}

/// The message if Helm failed.
fn failed(procedure: &RollingUpgrade, code: u8) -> String {
    let release = &procedure.settings.run.release;
    let revision = procedure
        .settings
        .helm
        .as_ref()
        .map_or(0, |turn| turn.change.revision);
    let back = milvus_guard_operations::rolling_upgrade::messages::command(
        &procedure.settings,
        "-o rollback ",
    );
    format!(
        "Stopped: helm upgrade failed with exit code {code}; its message is above. No component has \
         rolled: the ones that Helm changes are paused, so every pod runs the old version. Next: \
         correct the cause and give the same command again (resumes), or: helm rollback {} \
         {revision} -n {} and then {back} (rolls back)",
        release.name, release.namespace
    )
}
