//! `upgrade`: component by component, in order.

mod flags;

use milvus_guard_core::report::Show;
use milvus_guard_operations::{
    engine::{End, run_locally},
    kubernetes_job::run_in_job,
    rolling_upgrade::{Operation, RollingUpgrade},
};

use super::{
    consent::{self, Consent},
    exit::{Done, Failure},
    output::Screen,
    running,
};

pub(super) use flags::Args;

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let options = args.options()?;
    let procedure = args.procedure()?;
    if args.dry_run {
        let planned = running::look(&args.cluster, async |client| {
            procedure.preview(&client).await
        })?;
        return match planned {
            Ok(planned) => running::show(&planned, args.format, screen),
            Err(end) => running::say(&end, args.format, None, screen),
        };
    }
    let is_given = args.yes || args.job.is_in_job();
    if Consent::of("upgrade", is_given)? == Consent::Ask
        && let Err(end) = ask(args, &procedure, screen)?
    {
        return running::say(&end, args.format, None, screen);
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
    running::say(&end, args.format, args.job.end_file.as_deref(), screen)
}

/// Shows the plan with what the rules say, and asks, before anything else is drawn on the terminal.
fn ask(
    args: &Args,
    procedure: &RollingUpgrade,
    screen: &Screen,
) -> Result<Result<(), End>, Failure> {
    running::look(&args.cluster, async |client| {
        let of = &procedure.settings.run.release;
        let plan = match procedure.operation {
            Operation::Update => running::plan_text(
                &procedure.preview(&client).await?,
                &screen.style_stderr(Show::All),
            ),
            Operation::Rollback => format!(
                "{} in {}: roll back the components that the last run changed, one by one in \
                 reverse order\n",
                of.name, of.namespace
            ),
            Operation::Abort => format!(
                "{} in {}: abort the current run; every component stays at its version\n",
                of.name, of.namespace
            ),
        };
        consent::ask(&plan, &client.cancellation).await
    })
}
