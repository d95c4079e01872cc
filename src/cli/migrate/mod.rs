//! `migrate`: metadata and all from 2.1 to 2.2.

mod flags;

use milvus_guard_operations::{
    engine::End,
    metadata_migration::{Operation, Preview, Settings, perform, preview, remote},
};

use super::{
    consent::{self, Consent},
    exit::{Done, Exit},
    output::{Screen, print},
    running::{self, FormatArg},
};

pub(super) use flags::Args;

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let job = if args.place.local {
        None
    } else {
        Some(
            args.place
                .options(args.storage_class.clone(), args.delete_migration_pod)?,
        )
    };
    let settings = args.settings()?;
    let operation = args.operation();
    if args.dry_run {
        let planned = running::look(&args.cluster, async |link| {
            preview(&link, &settings, operation).await
        })?;
        return match planned {
            Ok(planned) => show(&planned, args.format, screen),
            Err(end) => running::say(&end, args.format, None, screen),
        };
    }
    let is_given = args.yes || args.place.job.is_in_job();
    if Consent::of("migrate", is_given)? == Consent::Ask
        && let Err(end) = ask(args, &settings, operation)?
    {
        return running::say(&end, args.format, None, screen);
    }
    let end = running::run(
        &args.cluster,
        args.progress,
        screen,
        async |link, history| match &job {
            None => Box::pin(perform(&link, settings, operation, history)).await,
            Some(options) => Box::pin(remote(&link, settings, operation, options)).await,
        },
    )?;
    running::say(
        &end,
        args.format,
        args.place.job.end_file.as_deref(),
        screen,
    )
}

/// Shows the plan and asks, before anything else is drawn on the terminal.
fn ask(
    args: &Args,
    settings: &Settings,
    operation: Operation,
) -> Result<Result<(), End>, super::exit::Failure> {
    running::look(&args.cluster, async |link| {
        let plan = match operation {
            Operation::Abort => format!(
                "{} in {}: abort the run that is under way; Milvus and its metadata stay as they are\n",
                settings.release.name, settings.release.namespace
            ),
            _ => text(&preview(&link, settings, operation).await?),
        };
        consent::ask(&plan, &link.halting).await
    })
}

fn text(planned: &Preview) -> String {
    let mut text = planned.text.clone();
    for refusal in &planned.refusals {
        text.push_str(&format!("Refused       {refusal}\n"));
    }
    text
}

fn show(planned: &Preview, format: FormatArg, screen: &Screen) -> Done {
    match format {
        FormatArg::Json => {
            let mut json = planned.json.clone();
            json["refusals"] = planned.refusals.clone().into();
            print(&format!("{json:#}\n"))?;
        }
        FormatArg::Text => {
            print(&text(planned))?;
            if !planned.refusals.is_empty() {
                screen.error("It would be refused. Nothing was changed.");
            }
        }
    }
    Ok(if planned.refusals.is_empty() {
        Exit::Reached
    } else {
        Exit::Refused
    })
}
