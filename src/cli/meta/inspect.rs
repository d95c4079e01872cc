//! `meta inspect`.

use clap::Args as ClapArgs;

use milvus_guard_metadata::{executor, model::Options};

use super::{
    super::{exit::Done, output::Screen},
    Access, Common, text,
};

/// Arguments of `meta inspect`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,

    /// Plan like the official tool, including its defects
    #[arg(long)]
    strict_upstream: bool,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let target = args.common.etcd.target()?;
    let options = if args.strict_upstream {
        Options::strict_upstream()
    } else {
        Options::default()
    };
    let done = args.common.run(screen, &target, async |events| {
        executor::inspect(&target, &options, events).await
    })?;
    args.common.end(screen, Access::Reads, done, |inspection| {
        text::inspection(inspection, &args.common.etcd.flags())
    })
}
