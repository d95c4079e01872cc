//! `upgrade`: component by component, in order.

mod flags;
mod helm_hook;
mod through_helm;

use std::ffi::OsString;

use milvus_guard_core::report::Show;
use milvus_guard_operations::{
    engine::{End, Preview, Procedure, run_locally},
    kubernetes_job::{JobOptions, lacking, run_in_job},
    rolling_upgrade::RollingUpgrade,
};

use super::{
    consent::{self, Consent},
    exit::{Done, Failure},
    output::Screen,
    running,
};

pub(super) use flags::Args;
use flags::Printed;

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let printed = args.printed()?;
    if !args.helm.is_empty() {
        return through_helm::run(args, printed, screen);
    }
    if let Some(hook) = args.helm_hook {
        return helm_hook::run(args, hook, printed.plain(), screen);
    }
    let options = args.options()?;
    let procedure = args.procedure()?;
    let format = printed.plain();
    if args.dry_run {
        let planned = running::look(&args.cluster, async |client| {
            let mut planned = procedure.preview(&client).await?;
            let lacking = lacking(&client, &procedure, options.as_ref()).await?;
            planned.warnings.extend(lacking);
            Ok(planned)
        })?;
        return show_planned(planned, printed, screen);
    }
    let is_given = args.yes || args.job.is_in_job();
    if Consent::of("upgrade", "the cluster", is_given)? == Consent::Ask
        && let Err(end) = ask(args, &procedure, options.as_ref(), screen)?
    {
        return running::say(&end, format, None, screen);
    }
    let end = running::run(
        &args.cluster,
        args.progress,
        screen,
        async |client, history| match &options {
            None => Box::pin(run_locally(&client, &procedure, history)).await,
            Some(options) => Box::pin(run_in_job(&client, procedure, options)).await,
        },
    )?;
    running::say(&end, format, args.job.end_file.as_deref(), screen)
}

/// Prints the plan of a run, or why there is no plan.
fn show_planned(planned: Result<Preview, End>, printed: Printed, screen: &Screen) -> Done {
    match (planned, printed) {
        (Ok(planned), Printed::Plain(format)) => running::show(&planned, format, screen),
        (Ok(planned), Printed::Document(format)) => {
            running::show_document(&planned, format, screen)
        }
        (Err(end), _) => running::say(&end, printed.plain(), None, screen),
    }
}

/// Carries out in order what a `helm upgrade` changes; `line` is a command line without its verb.
pub(super) fn in_order(line: Vec<OsString>, screen: &Screen) -> Done {
    through_helm::run_line(line, screen)
}

/// Shows the plan and the findings, and asks, before anything else is drawn on the terminal.
fn ask(
    args: &Args,
    procedure: &RollingUpgrade,
    job: Option<&JobOptions>,
    screen: &Screen,
) -> Result<Result<(), End>, Failure> {
    running::look(&args.cluster, async |client| {
        if let Some(why) = lacking(&client, procedure, job).await? {
            return Err(procedure.refused(&why));
        }
        let preview = procedure.preview(&client).await?;
        let plan = running::plan_text(&preview, &screen.style_stderr(Show::All));
        consent::ask(&plan, &client.cancellation).await
    })
}
