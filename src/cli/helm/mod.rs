//! Judges what Helm is about to do: the verbs of the Helm plugin `helm guard`, and the
//! post-renderer.
//!
//! | module | job |
//! |---|---|
//! | `arguments` | separates our flags from those for Helm |
//! | `caller` | the Helm that runs the post-renderer: its command line, and where it shows text |
//! | `check`, `plan`, `upgrade` | the verbs of the plugin |
//! | `post_render` | judges the manifests that Helm rendered, before Helm sends them |

mod arguments;
mod caller;
mod check;
mod plan;
mod post_render;
mod upgrade;

pub(super) use arguments::arrange;
pub(super) use caller::{Then, tell};

/// With this flag Helm 4 runs the post-renderer as a plugin: it shows nothing of standard error.
pub(super) const AS_PLUGIN: &str = "--as-plugin";

use clap::{Args as ClapArgs, Subcommand};

use super::{exit::Done, output::Screen};

/// Arguments of `helm`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Render what `helm upgrade` would send, and judge it
    Check(Box<check::Args>),
    /// Print the path from the running version to the version that a chart brings
    Plan(Box<plan::Args>),
    /// Judge what `helm upgrade` would send, then run it
    Upgrade(Box<upgrade::Args>),
    /// Judge the manifests on standard input and print them unchanged: a post-renderer of Helm
    PostRender(Box<post_render::Args>),
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    match &args.verb {
        Verb::Check(args) => check::run(args, screen),
        Verb::Plan(args) => plan::run(args, screen),
        Verb::Upgrade(args) => upgrade::run(args, screen),
        Verb::PostRender(args) => post_render::run(args, screen),
    }
}
