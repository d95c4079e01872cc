//! `upgrade`: component by component, in order.

mod flags;

use serde_json::json;

use milvus_guard_operations::{
    engine::End,
    rolling_upgrade::{Operation, Settings, perform, perform::Preview, preview, remote},
};

use super::{
    consent::{self, Consent},
    exit::{Done, Exit, Failure},
    output::{Screen, print},
    running::{self, FormatArg},
};

pub(super) use flags::Args;

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let options = args.options()?;
    let (settings, operation) = (args.settings()?, args.operation());
    if args.dry_run {
        let planned = running::look(&args.cluster, async |link| preview(&link, &settings).await)?;
        return match planned {
            Ok(planned) => show(&planned, args.format, screen),
            Err(end) => running::say(&end, args.format, None, screen),
        };
    }
    let is_given = args.yes || args.job.is_in_job();
    if Consent::of("upgrade", is_given)? == Consent::Ask
        && let Err(end) = ask(args, &settings, operation)?
    {
        return running::say(&end, args.format, None, screen);
    }
    let end = running::run(
        &args.cluster,
        args.progress,
        screen,
        async |link, history| match &options {
            None => Box::pin(perform(&link, settings, operation, history)).await,
            Some(options) => Box::pin(remote(&link, settings, operation, options)).await,
        },
    )?;
    running::say(&end, args.format, args.job.end_file.as_deref(), screen)
}

/// Shows the plan with what the rules say, and asks, before anything else is drawn on the terminal.
fn ask(args: &Args, settings: &Settings, operation: Operation) -> Result<Result<(), End>, Failure> {
    running::look(&args.cluster, async |link| {
        let of = &settings.release;
        let plan = match operation {
            Operation::Update => text(&preview(&link, settings).await?),
            Operation::Rollback => format!(
                "{} in {}: roll back the components that the last run changed, one by one in \
                 reverse order\n",
                of.name, of.namespace
            ),
            Operation::Abort => format!(
                "{} in {}: abort the run that is under way; every component stays at its version\n",
                of.name, of.namespace
            ),
        };
        consent::ask(&plan, &link.halting).await
    })
}

/// The plan, and what the rules say of it.
fn text(planned: &Preview) -> String {
    let mut text = planned.text.clone();
    for warning in &planned.said.warnings {
        text.push_str(&format!("Warning       {warning}\n"));
    }
    for refusal in &planned.said.refusals {
        text.push_str(&format!("Refused       {refusal}\n"));
    }
    text
}

/// The plan as the report, and what the rules say of it.
fn show(planned: &Preview, format: FormatArg, screen: &Screen) -> Done {
    let said = &planned.said;
    match format {
        FormatArg::Json => {
            let mut json = planned.json.clone();
            json["refusals"] = json!(said.refusals);
            json["warnings"] = json!(said.warnings);
            print(&format!("{json:#}\n"))?;
        }
        FormatArg::Text => {
            let text = text(planned);
            print(&text)?;
            if !said.refusals.is_empty() {
                screen.error("It would be refused. Nothing was changed.");
            }
        }
    }
    Ok(if said.refusals.is_empty() {
        Exit::Reached
    } else {
        Exit::Refused
    })
}
