//! `migrate`: metadata and all from 2.1 to 2.2.

mod flags;

use milvus_guard_operations::metadata_migration::{perform, remote};

use super::{exit::Done, output::Screen, running};

pub(super) use flags::Args;

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let settings = args.settings()?;
    let job = if args.place.local {
        None
    } else {
        Some(
            args.place
                .options(args.storage_class.clone(), args.delete_migration_pod)?,
        )
    };
    let operation = args.operation();
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
