//! Output of text and its style: the report on stdout, everything else on stderr.

use std::{
    env, fs,
    io::{self, IsTerminal, Write},
    path::Path,
};

use anstyle::{AnsiColor, Style as Ansi};
use terminal_size::{Height, Width, terminal_size_of};

use milvus_guard_core::{
    layout,
    report::{Format, Output, Report, Show, Style, render},
};

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
    out: Stream,
    err: Stream,
    unicode: bool,
}

/// Standard output or standard error.
#[derive(Clone, Copy, Debug)]
struct Stream {
    color: bool,
    /// Columns of the terminal, or of the variable `COLUMNS`; `None` for a file or a pipe.
    columns: Option<usize>,
    /// Lines of the terminal; `None` for a file or a pipe.
    rows: Option<usize>,
}

/// Columns if the terminal does not report its size.
const DEFAULT_WIDTH: usize = 100;
/// Lines longer than this are hard to read.
const MAX_WIDTH: usize = 120;

impl Stream {
    /// Columns that text takes, if lines are to be broken.
    fn width(self) -> Option<usize> {
        self.columns.map(|columns| columns.min(MAX_WIDTH))
    }

    fn style(self, unicode: bool, show: Show) -> Style {
        Style {
            color: self.color,
            unicode,
            width: self.width().unwrap_or(DEFAULT_WIDTH),
            continues_commands: self.columns.is_some(),
            show,
        }
    }
}

impl Screen {
    pub(super) fn new(choice: ColorChoice) -> Self {
        let set =
            |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let wanted = |terminal: bool| match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto if set("CLICOLOR_FORCE") || set("FORCE_COLOR") => true,
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
            .and_then(|columns| columns.parse().ok())
            .filter(|columns| *columns > 0);
        let stream = |terminal: bool, size: Option<(Width, Height)>| Stream {
            color: wanted(terminal),
            columns: columns.or(size.map(|(width, _)| usize::from(width.0))),
            rows: size
                .map(|(_, height)| usize::from(height.0))
                .filter(|rows| *rows > 1),
        };
        let (out, err) = (io::stdout(), io::stderr());
        Self {
            out: stream(out.is_terminal(), terminal_size_of(&out)),
            err: stream(err.is_terminal(), terminal_size_of(&err)),
            unicode: utf8 && !dumb,
        }
    }

    pub(super) fn style(&self, show: Show) -> Style {
        self.out.style(self.unicode, show)
    }

    /// The same for text on standard error.
    pub(super) fn style_stderr(&self, show: Show) -> Style {
        self.err.style(self.unicode, show)
    }

    /// Columns of standard error; `None` if it is a file or a pipe.
    pub(super) fn width_stderr(&self) -> Option<usize> {
        self.err.width()
    }

    /// Whether characters beyond ASCII can be shown.
    pub(super) const fn unicode(&self) -> bool {
        self.unicode
    }

    /// Whether stderr takes colours.
    pub(super) const fn colors_stderr(&self) -> bool {
        self.err.color
    }

    /// An error on stderr.
    pub(super) fn error(&self, message: &str) {
        self.tell("error:", AnsiColor::Red.on_default().bold(), message);
    }

    /// A note for a person, on stderr.
    pub(super) fn note(&self, message: &str) {
        self.tell("note:", AnsiColor::Blue.on_default().bold(), message);
    }

    fn tell(&self, label: &str, look: Ansi, message: &str) {
        let label = if self.err.color {
            format!("{look}{label}{look:#} ")
        } else {
            format!("{label} ")
        };
        let text = format!("{label}{}", clean(message));
        let text = match self.err.width() {
            Some(width) => layout::refill(width, &text),
            None => text,
        };
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Wraps text for standard output at its width; text for a file or a pipe is unchanged.
    pub(super) fn lines(&self, text: &str) -> String {
        broken(self.out, text)
    }

    /// The same for standard error.
    pub(super) fn lines_stderr(&self, text: &str) -> String {
        broken(self.err, text)
    }

    /// The lines of a text that fit on the terminal: lines that scrolled away cannot be redrawn.
    pub(super) fn top(&self, text: &str) -> String {
        let rows = self.out.rows.map_or(usize::MAX, |rows| rows - 1);
        text.split_inclusive('\n').take(rows).collect()
    }

    /// Lines that a text takes on the terminal.
    pub(super) fn height(&self, text: &str) -> usize {
        layout::height(text, self.out.columns.unwrap_or(usize::MAX))
    }
}

fn broken(stream: Stream, text: &str) -> String {
    stream.width().map_or_else(
        || text.to_owned(),
        |width| layout::refill(width, text) + "\n",
    )
}

/// A remark on stderr.
pub(super) fn tell(message: &str) {
    let _ = writeln!(io::stderr(), "{}", clean(message));
}

/// Replaces control characters, which must not reach the terminal; line feeds stay.
pub(super) fn clean(text: &str) -> String {
    text.lines()
        .map(milvus_guard_core::text::plain)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Writes to standard output. If the reader has closed the pipe, this is not an error.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::usage(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// The current folder. Pipelines run in the repository, and code scanning shows only paths that are
/// relative to it.
pub(super) fn folder() -> Option<String> {
    let folder = env::current_dir().ok()?;
    Some(folder.to_str()?.to_owned())
}

/// Writes a report in every requested format, each with the results that `show` selects.
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
    let mut files = outputs.iter().filter_map(|output| output.path.as_ref());
    while let Some(path) = files.next() {
        if files.clone().any(|other| other == path) {
            return Err(Failure::usage(format!(
                "two reports would be written to {}; give each --format its own file, as in \
                 --format json=out.json --format html=out.html",
                path.display()
            )));
        }
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
                    continues_commands: false,
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
