//! `migrate`: upgrades a release from 2.1 to 2.2 with its metadata.

mod flags;

use milvus_guard_core::report::Show;
use milvus_guard_operations::{
    engine::{End, Procedure, run_locally},
    kubernetes_job::{JobOptions, lacking, run_in_job},
    metadata_migration::Migration,
};

use super::{
    consent::{self, Consent},
    exit::Done,
    output::Screen,
    running,
};

pub(super) use flags::Args;

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let job = if args.location.local {
        None
    } else {
        Some(
            args.location
                .options(args.storage_class.clone(), args.delete_migration_pod)?,
        )
    };
    let procedure = args.procedure()?;
    if args.dry_run {
        let planned = running::look(&args.cluster, async |client| {
            let mut planned = procedure.preview(&client).await?;
            let lacking = lacking(&client, &procedure, job.as_ref()).await?;
            planned.warnings.extend(lacking);
            Ok(planned)
        })?;
        return match planned {
            Ok(planned) => running::show(&planned, args.format, screen),
            Err(end) => running::say(&end, args.format, None, screen),
        };
    }
    let is_given = args.yes || args.location.job.is_in_job();
    if Consent::of("migrate", "the cluster", is_given)? == Consent::Ask
        && let Err(end) = ask(args, &procedure, job.as_ref(), screen)?
    {
        return running::say(&end, args.format, None, screen);
    }
    let end = running::run(
        &args.cluster,
        args.progress,
        screen,
        async |client, history| match &job {
            None => Box::pin(run_locally(&client, &procedure, history)).await,
            Some(options) => Box::pin(run_in_job(&client, procedure, options)).await,
        },
    )?;
    running::say(
        &end,
        args.format,
        args.location.job.end_file.as_deref(),
        screen,
    )
}

/// Shows the plan and asks, before anything else is drawn on the terminal.
fn ask(
    args: &Args,
    procedure: &Migration,
    job: Option<&JobOptions>,
    screen: &Screen,
) -> Result<Result<(), End>, super::exit::Failure> {
    running::look(&args.cluster, async |client| {
        if let Some(why) = lacking(&client, procedure, job).await? {
            return Err(procedure.refused(&why));
        }
        let preview = procedure.preview(&client).await?;
        let plan = running::plan_text(&preview, &screen.style_stderr(Show::All));
        consent::ask(&plan, &client.cancellation).await
    })
}
