//! `data list`, `data show` and `data validate`: the data about releases, charts and paths, and
//! its date.

use std::{fmt::Write, path::PathBuf, sync::LazyLock};

use clap::{Args as ClapArgs, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use serde::Serialize;
use serde_json::Value;

use milvus_guard_core::{
    layout,
    manifest::documents,
    milvus::{
        Build, Day,
        catalogue::{Catalogue, Flaw, Layer, Row, Situation, TABLES, embedded_day, validate},
    },
    report::Show,
    rules,
    text::plain,
};
use milvus_guard_sources::files::read_named_text;

use super::{
    completion,
    exit::{Done, Exit, Failure},
    gather,
    output::{Screen, print},
    structured::FormatArg,
};

/// Version of the program and day of its data, for `--version`.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| match embedded_day() {
    Some(day) => format!("{} (data of {day})", env!("CARGO_PKG_VERSION")),
    None => env!("CARGO_PKG_VERSION").to_owned(),
});

/// Arguments of `data`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the tables: the number of rows, their date, and the changes by your own files
    List {
        /// Rows that add to or override the built-in data; may be repeated
        #[arg(long, value_name = "FILE")]
        data: Vec<PathBuf>,

        /// How to print the list
        #[arg(long, value_enum, default_value_t = FormatArg::Text)]
        format: FormatArg,
    },
    /// Show a table, a row, or all data about a release or a chart
    Show {
        /// Name of a table, id of a row, version of a release or chart; or one of table, row,
        /// release, chart, path before it
        #[arg(
            required = true,
            num_args = 1..=3,
            value_name = "WHAT",
            add = ArgValueCompleter::new(completion::tables)
        )]
        what: Vec<String>,

        /// Rows that add to or override the built-in data; may be repeated
        #[arg(long, value_name = "FILE")]
        data: Vec<PathBuf>,

        /// How to print it
        #[arg(long, value_enum, default_value_t = FormatArg::Text)]
        format: FormatArg,
    },
    /// Check files with your own rows
    Validate {
        /// Files with your own rows; - is standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,

        /// How to print the result
        #[arg(long, value_enum, default_value_t = FormatArg::Text)]
        format: FormatArg,
    },
}

pub(super) fn run(args: Args, screen: &Screen) -> Done {
    let width = screen.style(Show::All).width;
    match args.action {
        Action::List { data, format } => list(&data, format, width),
        Action::Show { what, data, format } => show(&what, &data, format, width),
        Action::Validate { files, format } => check(&files, format),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listing<'a> {
    as_of: Option<Day>,
    tables: Vec<TableEntry>,
    sources: &'a [Layer],
}

#[derive(Serialize)]
struct TableEntry {
    table: &'static str,
    rows: usize,
    holds: &'static str,
}

fn list(data: &[PathBuf], format: FormatArg, width: usize) -> Done {
    let own = gather::catalogue(data)?;
    let catalogue = own.as_ref().unwrap_or_else(|| Catalogue::embedded());
    let tables = TABLES
        .into_iter()
        .map(|(table, holds)| TableEntry {
            table,
            rows: catalogue.table(table).map_or(0, |rows| rows.len()),
            holds,
        })
        .collect();
    let listing = Listing {
        as_of: catalogue.as_of(),
        tables,
        sources: &catalogue.layers,
    };
    print(&match format.structured() {
        None => list_text(&listing, width),
        Some(structured) => structured.render(&listing)?,
    })?;
    Ok(Exit::Clean)
}

fn day_text(day: Option<Day>) -> String {
    day.map_or_else(|| "no day named".to_owned(), |day| format!("data of {day}"))
}

fn list_text(listing: &Listing<'_>, width: usize) -> String {
    let mut out = format!("{}\n\n", day_text(listing.as_of));
    for entry in &listing.tables {
        let cells = format!(
            "  {:<16} {:>4} {:<5} ",
            entry.table,
            entry.rows,
            rows_word(entry.rows)
        );
        let _ = writeln!(out, "{}", layout::row(width, &cells, entry.holds));
    }
    out.push('\n');
    for layer in listing.sources {
        let _ = writeln!(
            out,
            "from {}: {}",
            plain(&layer.source),
            day_text(layer.as_of)
        );
        if layer.source == "embedded" {
            continue;
        }
        if layer.tables.is_empty() {
            let _ = writeln!(out, "  no rows");
        }
        for table in &layer.tables {
            let _ = writeln!(
                out,
                "  {:<16} {} added, {} replaced",
                table.table, table.added, table.replaced
            );
        }
    }
    out
}

const fn rows_word(rows: usize) -> &'static str {
    if rows == 1 { "row" } else { "rows" }
}

fn show(what: &[String], data: &[PathBuf], format: FormatArg, width: usize) -> Done {
    let own = gather::catalogue(data)?;
    let catalogue = own.as_ref().unwrap_or_else(|| Catalogue::embedded());
    let rows = wanted(what, catalogue)?;
    if rows.is_empty() {
        return Err(Failure {
            message: unknown(what, catalogue),
            exit: Exit::Found,
        });
    }
    print(&match format.structured() {
        None => rows
            .iter()
            .map(|row| row_text(&with_releases(row, catalogue), width))
            .collect::<Vec<_>>()
            .join("\n"),
        Some(structured) => structured.render(&rows)?,
    })?;
    Ok(Exit::Clean)
}

fn wanted(what: &[String], catalogue: &Catalogue) -> Result<Vec<Row>, Failure> {
    let what: Vec<&str> = what.iter().map(String::as_str).collect();
    let version = |text: &str| {
        text.parse::<Build>()
            .map(|build| build.version)
            .map_err(Failure::usage)
    };
    let in_table = |table: &str, key: &str| -> Vec<Row> {
        catalogue
            .table(table)
            .unwrap_or_default()
            .into_iter()
            .filter(|row| row.key == key)
            .collect()
    };
    let lacks = |kind: &str, lacking: &str, example: &str| {
        Err(Failure::usage(format!(
            "'{kind}' needs {lacking}\nnext: milvus-guard data show {example}"
        )))
    };
    Ok(match what.as_slice() {
        ["table"] => return lacks("table", "the name of a table", "table paths"),
        ["row"] => return lacks("row", "the id of a row", "row unknown-after-3.0"),
        ["release"] => return lacks("release", "a version of Milvus", "release 2.5.27"),
        ["chart"] => return lacks("chart", "a version of the chart", "chart 4.2.58"),
        ["path"] => {
            return lacks(
                "path",
                "the id of a row, or two versions of Milvus",
                "path 2.4.24 2.5.27",
            );
        }
        ["path", from] if from.parse::<Build>().is_ok() => {
            return lacks(
                &format!("path {from}"),
                "a second version of Milvus",
                &format!("path {from} 2.5.27"),
            );
        }
        ["table", name] => catalogue.table(name).unwrap_or_default(),
        ["row" | "path", key] => catalogue.rows_by_key(key),
        ["release", release] => catalogue.rows_about(version(release)?),
        ["chart", chart] => in_table("charts", &version(chart)?.to_string()),
        ["path", from, to] => {
            let (from, to) = (Build::of(version(from)?), Build::of(version(to)?));
            let route = catalogue.route(&from, &to, &Situation::default());
            route
                .rows
                .iter()
                .flat_map(|row| in_table("paths", &row.id))
                .collect()
        }
        [table, key] if TABLES.iter().any(|(known, _)| known == table) => in_table(table, key),
        [name] => catalogue
            .table(name)
            .unwrap_or_else(|| by_name(name, catalogue)),
        _ => {
            let kinds = "table, row, release, chart or path";
            return Err(Failure::usage(format!(
                "'{}' does not begin with {kinds}, nor with the name of a table",
                what.join(" ")
            )));
        }
    })
}

/// The rows with this id or key. For a version also all rows about that release.
fn by_name(name: &str, catalogue: &Catalogue) -> Vec<Row> {
    let mut rows = catalogue.rows_by_key(name);
    if let Ok(build) = name.parse::<Build>() {
        let chart = build.version.to_string();
        for row in catalogue
            .rows_about(build.version)
            .into_iter()
            .chain(catalogue.rows_by_key(&chart))
        {
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
    }
    rows
}

fn unknown(what: &[String], catalogue: &Catalogue) -> String {
    let last = what.last().map_or("", String::as_str);
    let wanted = last.to_ascii_lowercase();
    let all = TABLES
        .into_iter()
        .filter_map(|(table, _)| catalogue.table(table))
        .flatten()
        .map(|row| row.key);
    let near: Vec<String> = all
        .chain(TABLES.iter().map(|(table, _)| (*table).to_owned()))
        .filter(|key| wanted.len() > 2 && key.to_ascii_lowercase().contains(&wanted))
        .take(5)
        .collect();
    let near = if near.is_empty() {
        "`milvus-guard data list` names the tables".into()
    } else {
        format!("similar: {}", near.join(", "))
    };
    format!(
        "the data does not contain '{}' ({near})",
        plain(&what.join(" "))
    )
}

/// A row for a person: each `{X.Y}` in its texts is the release to move to in that line.
fn with_releases(row: &Row, catalogue: &Catalogue) -> Row {
    let mut row = row.clone();
    fill(&mut row.row, catalogue);
    row
}

fn fill(value: &mut Value, catalogue: &Catalogue) {
    match value {
        Value::String(text) => {
            *text = catalogue
                .fill(text, None, &Situation::default())
                .into_owned();
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, catalogue)),
        Value::Object(fields) => fields.values_mut().for_each(|field| fill(field, catalogue)),
        _ => {}
    }
}

fn row_text(row: &Row, width: usize) -> String {
    let mut out = format!("{}: {}\n", row.table, plain(&row.key));
    match &row.row {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(_, value)| !is_blank(value)) {
                field_text(&mut out, name, value, 2, width);
            }
        }
        value if value.as_str() == Some(&row.key) => {}
        value => field_text(&mut out, "value", value, 2, width),
    }
    out
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_blank),
        _ => false,
    }
}

fn field_text(out: &mut String, name: &str, value: &Value, indent: usize, width: usize) {
    let scalar = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    match value {
        Value::Array(items) if items.iter().all(|item| !item.is_object()) => {
            let items: Vec<String> = items.iter().map(scalar).collect();
            line(out, name, &items.join(", "), indent, width);
        }
        Value::Array(items) => {
            let _ = writeln!(out, "{:indent$}{name}:", "");
            for item in items {
                let shown = item.as_object().map(|fields| {
                    let fields = fields.iter().filter(|(_, value)| !is_blank(value));
                    fields
                        .map(|(name, value)| {
                            format!("{name}: {}", compact(value).trim_end_matches('.'))
                        })
                        .collect::<Vec<_>>()
                        .join("; ")
                });
                line(
                    out,
                    "-",
                    &shown.unwrap_or_else(|| scalar(item)),
                    indent + 2,
                    width,
                );
            }
        }
        Value::Object(_) => line(out, name, &compact(value), indent, width),
        value => line(out, name, &scalar(value), indent, width),
    }
}

fn compact(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(compact).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !is_blank(value));
            fields
                .map(|(name, value)| format!("{name} {}", compact(value)))
                .collect::<Vec<_>>()
                .join(", ")
        }
        value => value.to_string(),
    }
}

fn line(out: &mut String, name: &str, text: &str, indent: usize, width: usize) {
    let first = if name == "-" {
        format!("{:indent$}- ", "")
    } else {
        format!("{:indent$}{name:<16} ", "")
    };
    let _ = writeln!(out, "{}", layout::hang(width, &first, &plain(text)));
}

#[derive(Serialize)]
struct FlawEntry {
    file: String,
    line: u32,
    row: String,
    message: String,
}

fn check(files: &[PathBuf], format: FormatArg) -> Done {
    let ids: Vec<&str> = rules::ALL.iter().map(|rule| rule.id).collect();
    let mut base = Catalogue::embedded().clone();
    let mut entries: Vec<FlawEntry> = Vec::new();
    let mut unreadable = false;
    for path in files {
        let (file, text) = read_named_text(path).map_err(Failure::usage)?;
        let mut flaws = validate(&text, &base, &ids);
        if flaws.is_empty() && is_empty(&text) {
            flaws.push(Flaw {
                line: 1,
                row: String::new(),
                message: "the file is empty; `milvus-guard data list` names the tables that it \
                          may hold"
                    .to_owned(),
                unreadable: false,
            });
        }
        unreadable |= flaws.iter().any(|flaw| flaw.unreadable);
        if flaws.is_empty() {
            // A later file may build on the rows of an earlier one.
            base.add(&file, &text).map_err(Failure::usage)?;
        }
        entries.extend(flaws.into_iter().map(
            |Flaw {
                 line, row, message, ..
             }| FlawEntry {
                file: file.clone(),
                line,
                row,
                message,
            },
        ));
    }
    print(&match format.structured() {
        None => flaws_text(&entries, files.len()),
        Some(structured) => structured.render(&entries)?,
    })?;
    Ok(match (entries.is_empty(), unreadable) {
        (true, _) => Exit::Clean,
        (false, true) => Exit::Usage,
        (false, false) => Exit::Found,
    })
}

/// Whether a file has no document, or only empty ones.
fn is_empty(text: &str) -> bool {
    documents(text).all(|document| document.is_ok_and(|document| document.root.is_null()))
}

fn flaws_text(entries: &[FlawEntry], files: usize) -> String {
    let mut out = String::new();
    for entry in entries {
        let row = if entry.row.is_empty() {
            String::new()
        } else {
            format!("{}: ", plain(&entry.row))
        };
        let _ = writeln!(
            out,
            "{}:{}: {row}{}",
            plain(&entry.file),
            entry.line,
            plain(&entry.message)
        );
    }
    let files_word = if files == 1 { "file" } else { "files" };
    let _ = match entries.len() {
        0 => writeln!(out, "{files} {files_word}, every row is valid"),
        1 => writeln!(out, "{files} {files_word}, 1 error"),
        errors => writeln!(out, "{files} {files_word}, {errors} errors"),
    };
    out
}
