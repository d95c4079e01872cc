//! Progress of a run, on stderr.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;

use milvus_guard_operations::engine::{
    Listener,
    display::{Json, Lines, Terminal},
};

use super::output::Screen;

/// `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressArg {
    /// A live line on a terminal, lines elsewhere
    Auto,
    /// A live line
    Bar,
    /// Lines with their time
    Plain,
    /// One JSON object a line
    Json,
    /// Nothing
    None,
}

/// The display of the run on stderr; `None` if progress is not shown.
pub(super) fn display(progress: ProgressArg, screen: &Screen) -> Option<Box<dyn Listener>> {
    Some(match progress {
        ProgressArg::None => return None,
        ProgressArg::Json => Box::new(Json::new(io::stderr())),
        ProgressArg::Auto if !io::stderr().is_terminal() => lines(screen),
        ProgressArg::Auto | ProgressArg::Bar => Box::new(Terminal::new(
            screen.unicode(),
            screen.colors_stderr(),
            screen.width_stderr(),
        )),
        ProgressArg::Plain => lines(screen),
    })
}

fn lines(screen: &Screen) -> Box<dyn Listener> {
    Box::new(Lines::new(io::stderr()).in_columns(screen.width_stderr()))
}
