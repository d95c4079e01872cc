//! `meta verify`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use milvus_guard_metadata::executor::{self, VerifyOptions};

use super::{
    super::{exit::Done, output::Screen},
    Access, Common, text,
};

/// Arguments of `meta verify`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,

    /// The backup that the migration made
    #[arg(long, value_name = "FILE")]
    backup: PathBuf,

    /// The migration was made with the same flag [default: as the run recorded]
    #[arg(long)]
    strict_upstream: bool,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let target = args.common.etcd.target()?;
    let options = VerifyOptions {
        strict_upstream: args.strict_upstream,
    };
    let done = args.common.run(screen, &target, async |events| {
        executor::verify(&target, &args.backup, &options, events).await
    })?;
    args.common.end(screen, Access::Reads, done, text::verified)
}
