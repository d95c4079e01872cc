//! The command line: one file for each verb. A verb parses, reads inputs, calls the core, prints.

mod audit;
mod certs;
mod check;
mod command_line;
mod completion;
mod consent;
mod crds;
mod credentials;
mod data;
mod duration;
mod exit;
mod gather;
mod helm;
mod helm_upgrade;
mod help;
mod hold;
mod judging;
mod meta;
mod migrate;
mod named_release;
mod names;
mod output;
mod ping;
mod plan;
mod policies;
mod policy;
mod progress;
mod rules;
mod running;
mod runtime;
mod serve;
mod shell;
mod status;
mod structured;
mod upgrade;
mod verify;

pub use exit::Exit;

use std::{env, ffi::OsString};

use clap::{FromArgMatches, Parser, Subcommand};
use clap_complete::CompleteEnv;

use names::Name;

/// Prevents unsafe Milvus upgrades on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "milvus-guard", version = data::VERSION.as_str(), about, long_about = None, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,

    /// When to use colours in text output [also: `NO_COLOR`, `FORCE_COLOR`]
    #[arg(long, global = true, value_enum, default_value_t = output::ColorChoice::Auto)]
    color: output::ColorChoice,
}

/// Judges upgrades of Milvus that Helm is about to make.
#[derive(Debug, Parser)]
#[command(name = "helm-guard", bin_name = "helm guard", version = data::VERSION.as_str(), about, long_about = None, propagate_version = true)]
struct HelmCli {
    #[command(flatten)]
    args: helm::Args,

    /// When to use colours in text output [also: `NO_COLOR`, `FORCE_COLOR`]
    #[arg(long, global = true, value_enum, default_value_t = output::ColorChoice::Auto)]
    color: output::ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check whether an upgrade is safe
    Check(Box<check::Args>),
    /// Print the path from one version to another, with the required stops
    Plan(Box<plan::Args>),
    /// List the rules, or explain one
    Rules(rules::Args),
    /// List, show and check the data about releases, charts and paths
    Data(data::Args),
    /// Check and test policy files
    Policy(policy::Args),
    /// Make a certificate for local development
    Certs(certs::Args),
    /// Check the running releases
    Audit(Box<audit::Args>),
    /// Migrate the metadata of Milvus 2.1 to 2.2 in etcd, or back
    Meta(meta::Args),
    /// Upgrade Milvus 2.1 to 2.2 with its metadata: stop, back up, migrate, verify, start
    Migrate(Box<migrate::Args>),
    /// Show where a run is, what it waits for and since when, and who holds the lock
    Status(status::Args),
    /// Upgrade Milvus component by component, in order, each behind a gate
    Upgrade(Box<upgrade::Args>),
    /// Verify a release after an upgrade: versions, sessions, loaded collections, a probe
    Verify(Box<verify::Args>),
    /// Judge what Helm is about to do: a Helm plugin, and a post-renderer
    Helm(helm::Args),
    /// Serve the admission webhook
    Serve(Box<serve::Args>),
    /// See whether the API server reaches the webhook
    Ping(ping::Args),
    /// Print the definitions of the guard's objects, for kubectl apply
    Crds,
    /// Print the script that completes commands in a shell
    Completions(shell::CompletionArgs),
    /// Print the man page
    Man(shell::ManArgs),
}

/// Runs the command line. Usage errors end the process as clap does, with exit code 2.
#[must_use]
pub fn run() -> Exit {
    let cli = parse(env::args_os().collect());
    let screen = output::Screen::new(cli.color);
    let done = match cli.verb {
        Verb::Check(args) => check::run(&args, &screen),
        Verb::Plan(args) => plan::run(&args, &screen),
        Verb::Rules(args) => rules::run(args, &screen),
        Verb::Data(args) => data::run(args, &screen),
        Verb::Policy(args) => policy::run(args, &screen),
        Verb::Certs(args) => certs::run(&args),
        Verb::Audit(args) => audit::run(&args, &screen),
        Verb::Meta(args) => meta::run(args, &screen),
        Verb::Migrate(args) => migrate::run(&args, &screen),
        Verb::Status(args) => status::run(&args, &screen),
        Verb::Upgrade(args) => upgrade::run(&args, &screen),
        Verb::Verify(args) => verify::run(&args, &screen),
        Verb::Helm(args) => helm::run(&args, &screen),
        Verb::Serve(args) => serve::run(*args),
        Verb::Ping(args) => ping::run(&args, &screen),
        Verb::Crds => crds::run(),
        Verb::Completions(args) => shell::completions(&args),
        Verb::Man(args) => shell::man(&args),
    };
    match done {
        Ok(exit) => exit,
        Err(failure) => {
            screen.error(&failure.message);
            failure.exit
        }
    }
}

/// Reads the command line under the name by which the program was called.
fn parse(args: Vec<OsString>) -> Cli {
    let name = Name::of(args.first());
    if let Name::Completes(_) = name {
        let text = completion::for_cobra(command_line::command(name), args);
        // If the shell has ended, the values are not needed.
        let _ = output::print(&text);
        std::process::exit(0);
    }
    // If a shell asks for values, this prints them and ends the process.
    CompleteEnv::with_factory(|| command_line::command(name))
        .var(completion::VARIABLE)
        .complete();
    let mut command = command_line::command(name);
    let args = command_line::arguments(name, args, &command);
    let verbs: &[&str] = if name == Name::Helm {
        &["upgrade"]
    } else {
        &["helm", "upgrade"]
    };
    let upgrades_by_helm = args.iter().skip(1).take(verbs.len()).eq(verbs.iter());
    let is_plugin = args.iter().any(|arg| arg == helm::AS_PLUGIN);
    let matches = command
        .try_get_matches_from_mut(args)
        .unwrap_or_else(|error| {
            if is_plugin {
                helm::tell(&error.to_string(), helm::Then::Ends);
            }
            if upgrades_by_helm && error.use_stderr() {
                let _ = error.print();
                output::tell(helm_upgrade::NOT_RUN);
                std::process::exit(error.exit_code());
            }
            error.exit()
        });
    let parsed = match name {
        Name::Helm => HelmCli::from_arg_matches(&matches).map(|cli| Cli {
            verb: Verb::Helm(cli.args),
            color: cli.color,
        }),
        Name::Guard | Name::Kubectl | Name::PostRenderer | Name::Completes(_) => {
            Cli::from_arg_matches(&matches)
        }
    };
    parsed.unwrap_or_else(|error| error.format(&mut command).exit())
}
