//! `upgrade`: component by component, in order.

mod flags;

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::json;

use milvus_guard_operations::{
    engine::{End, Link},
    rolling_upgrade::{Operation, Settings, perform, preview, remote},
};

use super::{
    exit::{Done, Exit},
    output::{Screen, print},
    running::{self, FormatArg},
};

pub(super) use flags::Args;

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let (settings, operation) = (args.settings()?, args.operation());
    if args.dry_run {
        let planned = running::run(&args.cluster, args.progress, screen, async |link, _| {
            preview(&link, &settings).await
        })?;
        return match planned {
            Ok(planned) => show(&planned, args.format, screen),
            Err(end) => running::say(&end, args.format, None, screen),
        };
    }
    let options = args.options()?;
    let asks = operation == Operation::Update
        && !args.yes
        && io::stdin().is_terminal()
        && io::stderr().is_terminal();
    let end = running::run(
        &args.cluster,
        args.progress,
        screen,
        async |link, history| {
            if asks && !agreed(&link, &settings).await {
                return End::Refused("Nothing was changed.".into());
            }
            match &options {
                None => Box::pin(perform(&link, settings, operation, history)).await,
                Some(options) => Box::pin(remote(&link, settings, operation, options)).await,
            }
        },
    )?;
    running::say(&end, args.format, args.job.end_file.as_deref(), screen)
}

/// The plan as the report, and what the rules say of it.
fn show(
    planned: &milvus_guard_operations::rolling_upgrade::perform::Preview,
    format: FormatArg,
    screen: &Screen,
) -> Done {
    let said = &planned.said;
    match format {
        FormatArg::Json => {
            let mut json = planned.json.clone();
            json["refusals"] = json!(said.refusals);
            json["warnings"] = json!(said.warnings);
            print(&format!("{json:#}\n"))?;
        }
        FormatArg::Text => {
            let mut text = planned.text.clone();
            for warning in &said.warnings {
                text.push_str(&format!("Warning       {warning}\n"));
            }
            for refusal in &said.refusals {
                text.push_str(&format!("Refused       {refusal}\n"));
            }
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

/// Shows the plan to the person at the terminal, and asks. What cannot be planned is refused later,
/// with its reason.
async fn agreed(link: &Link, settings: &Settings) -> bool {
    let Ok(planned) = preview(link, settings).await else {
        return true;
    };
    let mut screen = io::stderr();
    let _ = write!(screen, "{}\nGo on? [y/N] ", planned.text);
    let _ = screen.flush();
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    });
    tokio::select! {
        answer = answer => matches!(answer, Ok(Ok(answer)) if matches!(answer.trim(), "y" | "Y" | "yes")),
        _ = link.halting.halted() => false,
    }
}
