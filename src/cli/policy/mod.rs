//! `policy lint` and `policy test`.

mod case;
mod lint;
mod test;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use jiff::Timestamp;

use super::{exit::Done, output::Screen};
use lint::{LintFailOn, LintFormat};
use test::TestFormat;

/// Arguments of `policy`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    action: PolicyAction,
}

#[derive(Debug, Subcommand)]
enum PolicyAction {
    /// Check policies and exceptions: unknown rules, contradictions, expired exceptions
    Lint {
        /// Files or folders; - is standard input
        #[arg(required = true, value_name = "FILE|DIR")]
        paths: Vec<PathBuf>,

        /// How to print the result
        #[arg(long, value_enum, default_value_t = LintFormat::Text)]
        format: LintFormat,

        /// Exit with code 1 at this severity or worse
        #[arg(long, value_enum, default_value_t = LintFailOn::Error)]
        fail_on: LintFailOn,

        /// The time at which to check exceptions (RFC 3339) [default: now]
        #[arg(long, value_name = "TIME", hide_short_help = true)]
        now: Option<Timestamp>,
    },
    /// Test policies: check each case in a folder and compare the result with its expectation
    Test {
        /// Folders of cases
        #[arg(required = true, value_name = "DIR")]
        cases: Vec<PathBuf>,

        /// Policies and exceptions under test: a file or a folder; may be repeated
        #[arg(long, value_name = "FILE|DIR")]
        policy: Vec<PathBuf>,

        /// Rows that add to or override the built-in data; may be repeated
        #[arg(long, value_name = "FILE")]
        data: Vec<PathBuf>,

        /// How to print the result
        #[arg(long, value_enum, default_value_t = TestFormat::Text)]
        format: TestFormat,
    },
}

pub(super) fn run(args: Args, screen: &Screen) -> Done {
    match args.action {
        PolicyAction::Lint {
            paths,
            format,
            fail_on,
            now,
        } => {
            let now = now.unwrap_or_else(Timestamp::now);
            lint::run(&paths, format, fail_on, now, screen)
        }
        PolicyAction::Test {
            cases,
            policy,
            data,
            format,
        } => test::run(&cases, &policy, &data, format, screen),
    }
}
