//! `meta backup`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use milvus_guard_metadata::executor::{self, Form};

use super::{
    super::{exit::Done, output::Screen},
    Access, Common, text,
};

/// Arguments of `meta backup`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,

    /// The new file
    #[arg(long, short_alias = 'o', value_name = "FILE")]
    out: PathBuf,

    /// Form of the file
    #[arg(long, value_enum, default_value_t = FormArg::Own)]
    form: FormArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormArg {
    /// Ours: checksums for each record and the whole file
    Own,
    /// The official migration tool's, which its rollback reads
    Official,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let target = args.common.etcd.target()?;
    let form = match args.form {
        FormArg::Own => Form::Own,
        FormArg::Official => Form::Official,
    };
    let done = args.common.run(screen, &target, async |events| {
        executor::backup(&target, &args.out, form, events).await
    })?;
    args.common.end(screen, Access::Changes, done, text::backup)
}
