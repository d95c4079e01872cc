//! Where text goes and how it looks: stdout is the report, stderr is everything else.

use std::{
    env, fs,
    io::{self, IsTerminal, Write},
    path::Path,
};

use milvus_guard_core::report::{Format, Output, Report, Show, Style, render};

use super::exit::Failure;

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The terminal, or what replaces it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    color: bool,
    color_stderr: bool,
    unicode: bool,
    width: usize,
}

/// Columns where the terminal does not say.
const DEFAULT_WIDTH: usize = 100;
/// Lines longer than this are hard to read.
const MAX_WIDTH: usize = 120;

impl Screen {
    pub(super) fn new(choice: ColorChoice) -> Self {
        let set =
            |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let wanted = |terminal: bool| match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto if set("CLICOLOR_FORCE") => true,
            ColorChoice::Auto => terminal && !dumb,
        };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
        let utf8 = locale.is_none_or(|locale| {
            locale
                .to_ascii_uppercase()
                .replace('-', "")
                .contains("UTF8")
        });
        let columns = env::var("COLUMNS")
            .ok()
            .and_then(|columns| columns.parse().ok());
        let width = if io::stdout().is_terminal() {
            columns
                .or_else(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)))
        } else {
            columns
        };
        Self {
            color: wanted(io::stdout().is_terminal()),
            color_stderr: wanted(io::stderr().is_terminal()),
            unicode: utf8 && !dumb,
            width: width.unwrap_or(DEFAULT_WIDTH).min(MAX_WIDTH),
        }
    }

    pub(super) fn style(&self, show: Show) -> Style {
        Style {
            color: self.color,
            unicode: self.unicode,
            width: self.width,
            show,
        }
    }

    /// The same for text on standard error.
    pub(super) fn style_stderr(&self, show: Show) -> Style {
        Style {
            color: self.color_stderr,
            ..self.style(show)
        }
    }

    /// Whether characters beyond ASCII can be shown.
    pub(super) const fn unicode(&self) -> bool {
        self.unicode
    }

    /// Whether stderr takes colours.
    pub(super) const fn colors_stderr(&self) -> bool {
        self.color_stderr
    }

    /// An error on stderr.
    pub(super) fn error(&self, message: &str) {
        let (on, off) = if self.color_stderr {
            ("\u{1b}[1;31m", "\u{1b}[0m")
        } else {
            ("", "")
        };
        let _ = writeln!(io::stderr(), "{on}error:{off} {}", clean(message));
    }
}

/// Control characters of an input must not reach the terminal; line feeds of our own may.
pub(super) fn clean(text: &str) -> String {
    text.lines()
        .map(milvus_guard_core::text::plain)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Writes to standard output; a reader that went away ends the program quietly.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::usage(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Writes a report in every format that was asked for, each with as much as `show` says.
pub(super) fn report(
    report: &Report,
    outputs: &[Output],
    show: impl Fn(Format) -> Show,
    screen: &Screen,
) -> Result<(), Failure> {
    let to_stdout = outputs
        .iter()
        .filter(|output| output.path.is_none())
        .count();
    if to_stdout > 1 {
        return Err(Failure::usage(
            "only one --format can go to standard output; give the others a file, as in --format \
             sarif=out.sarif",
        ));
    }
    let default = [Output {
        format: Format::Text,
        path: None,
    }];
    let outputs = if outputs.is_empty() {
        &default[..]
    } else {
        outputs
    };
    for output in outputs {
        match &output.path {
            None => {
                let style = screen.style(show(output.format));
                print(&render(report, output.format, &style))?;
            }
            Some(path) => {
                let style = Style {
                    color: false,
                    ..screen.style(show(output.format))
                };
                write(path, &render(report, output.format, &style))?;
            }
        }
    }
    Ok(())
}

/// Writes a file.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))
}
