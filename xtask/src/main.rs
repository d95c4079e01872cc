//! Tasks for contributors.
//!
//! `cargo xtask new-rule MG309 cache-shrunk` writes the file of a new rule and registers it.
//! `cargo xtask recording FILE` prints an SVG that plays the text of a terminal session.
//! `cargo xtask roll-table FILE...` prints the table of the rolls that `make test-roll` measured;
//! with `--into PAGE` it writes the table into the page, between its markers.
//! `cargo xtask graph` prints the dependencies between modules and their circles; with `--crates`
//! for whole crates, with the name of a folder (`core::milvus`) for the modules in it.
//! `cargo xtask graph --circles` prints the circles in all folders.

mod graph;
mod recording;
mod rolls;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

const USAGE: &str = "usage: cargo xtask graph [--crates | --circles | FOLDER]\n       cargo xtask recording FILE\n       cargo xtask roll-table [--into PAGE] FILE...\n       cargo xtask new-rule ID NAME\n  ID    MG and three digits; the first one is the group (see docs/rules)\n  \
                     NAME  what is wrong, in lower case with hyphens: cache-shrunk\n  FOLDER  modules of one folder, such as core::milvus";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    let done = match args.as_slice() {
        ["new-rule", id, name] => new_rule(root, id, name).map(|file| next_steps(&file)),
        ["recording", file] => read_file(file).map(|text| recording::svg(&text)),
        ["roll-table", "--into", page, files @ ..] if !files.is_empty() => {
            roll_table(files).and_then(|table| write_table(page, &table))
        }
        ["roll-table", files @ ..] if !files.is_empty() => roll_table(files),
        ["graph", about @ ..] if about.len() < 2 => {
            graph::read(root).map(|graph| match about.first().copied() {
                None => graph::render(&graph::within(&graph, "", 2)),
                Some("--crates") => graph::render(&graph::within(&graph, "", 1)),
                Some("--circles") => graph::render_circles(&graph),
                Some(folder) => graph::render(&graph::within(&graph, folder, 1)),
            })
        }
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(text) => {
            println!("{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

fn read_file(file: &str) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))
}

/// The table of all rolls in these files of results.
fn roll_table(files: &[&str]) -> Result<String, String> {
    let mut rolls = Vec::new();
    for file in files {
        let of_file = rolls::read(&read_file(file)?);
        rolls.extend(of_file.map_err(|error| format!("{file}: {error}"))?);
    }
    Ok(rolls::table(&rolls))
}

fn write_table(page: &str, table: &str) -> Result<String, String> {
    let written = rolls::insert(&read_file(page)?, table);
    let written = written.map_err(|error| format!("{page}: {error}"))?;
    fs::write(page, written).map_err(|error| format!("cannot write {page}: {error}"))?;
    Ok(format!("Wrote the table into {page}."))
}

fn next_steps(file: &Path) -> String {
    format!(
        "Wrote {0}, registered it in crates/core/src/rules/mod.rs, and added a line to \
         crates/core/src/rules/ticks.rs.\nNext:\n  \
         1. fill in the texts, the check and its tests\n  \
         2. adapt its line in ticks.rs: one change that passes, one to which it does not apply\n  \
         3. add a change that it warns of to changes() in crates/core/src/rules/changes.rs\n  \
         4. rustfmt --edition 2024 {0}\n  \
         5. cargo test -p milvus-guard-core --lib {1}\n  \
         6. make generate  (messages, page, index)",
        file.display(),
        file.file_name()
            .and_then(|name| name.to_str()?.split('_').next())
            .unwrap_or_default()
    )
}

/// Writes the file of a rule and adds its line to the registry. Returns the path of the file.
fn new_rule(root: &Path, id: &str, name: &str) -> Result<PathBuf, String> {
    let category = category(id)?;
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
    };
    if !name.contains('-') || !name.split('-').all(is_word) {
        return Err(format!(
            "{name} is not a valid name of a rule: use two or more words in lower case, with \
             hyphens"
        ));
    }
    let module = format!("{}_{}", id.to_lowercase(), name.replace('-', "_"));
    let folder = root.join("crates/core/src/rules");
    let (registry, ticks) = (folder.join("mod.rs"), folder.join("ticks.rs"));
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    let registered = register(&read(&registry)?, &module)?;
    let cases = add_case(&read(&ticks)?, id)?;
    write(
        &folder.join(format!("{module}.rs")),
        &rule(id, name, category),
    )?;
    write(&registry, &registered)?;
    write(&ticks, &cases)?;
    Ok(Path::new("crates/core/src/rules").join(format!("{module}.rs")))
}

/// The group of a rule, by the first digit of its id.
fn category(id: &str) -> Result<&'static str, String> {
    let digits = id
        .strip_prefix("MG")
        .filter(|digits| digits.len() == 3 && digits.bytes().all(|digit| digit.is_ascii_digit()));
    let category = match digits.and_then(|digits| digits.chars().next()) {
        Some('1') => "Version",
        Some('2') => "Topology",
        Some('3') => "Configuration",
        Some('4') => "Dependencies",
        Some('5') => "Chart",
        Some('6') => "Image",
        Some('7') => "Cluster",
        _ => {
            return Err(format!(
                "{id} is not a valid id of a rule: MG, the group (1 to 7), and two more digits"
            ));
        }
    };
    Ok(category)
}

/// The registry with one more module, in the order of the ids.
fn register(text: &str, module: &str) -> Result<String, String> {
    const BEGIN: &str = "\nregistry! {\n";
    let begin = text
        .find(BEGIN)
        .map(|at| at + BEGIN.len())
        .ok_or("crates/core/src/rules/mod.rs has no registry! { ... }")?;
    let end = text[begin..]
        .find('}')
        .map(|at| at + begin)
        .ok_or("the registry in crates/core/src/rules/mod.rs does not end")?;
    let mut modules: Vec<&str> = text[begin..end]
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let id = |module: &str| module.split('_').next().unwrap_or_default().to_owned();
    if let Some(taken) = modules.iter().find(|known| id(known) == id(module)) {
        return Err(format!("the id is taken by {taken}"));
    }
    modules.push(module);
    modules.sort_unstable();
    Ok(format!(
        "{}    {}\n{}",
        &text[..begin],
        modules.join("\n    "),
        &text[end..]
    ))
}

/// The table of `crates/core/src/rules/ticks.rs` with a case of one more rule, in the order of the
/// ids.
fn add_case(text: &str, id: &str) -> Result<String, String> {
    const LAST: &str = "\n    ]\n}\n";
    let begin = text
        .find("fn cases()")
        .ok_or("crates/core/src/rules/ticks.rs has no fn cases()")?;
    let end = text[begin..]
        .find(LAST)
        .map(|at| at + begin + 1)
        .ok_or("fn cases() in crates/core/src/rules/ticks.rs does not end")?;
    let mut at = begin;
    for line in text[begin..end].split_inclusive('\n') {
        // A case is `("MG101", ...` in one line, or begins on the line before.
        let named = line
            .trim_start()
            .trim_start_matches('(')
            .strip_prefix('"')
            .and_then(|rest| rest.get(..5));
        if named.is_some_and(|named| named.starts_with("MG") && named > id) {
            let opens_before = !line.trim_start().starts_with('(');
            let place = if opens_before {
                text[..at - 1].rfind('\n').map_or(at, |line| line + 1)
            } else {
                at
            };
            return Ok(insert(text, place, id));
        }
        at += line.len();
    }
    Ok(insert(text, end, id))
}

fn insert(text: &str, at: usize, id: &str) -> String {
    format!(
        "{}        (\"{id}\", stays(), bare()),\n{}",
        &text[..at],
        &text[at..]
    )
}

fn rule(id: &str, name: &str, category: &str) -> String {
    TEMPLATE
        .replace("MG000", id)
        .replace("rule-name", name)
        .replace("Category::Version", &format!("Category::{category}"))
}

/// The template of a new rule. It is a module of the core's tests, so it compiles, passes clippy,
/// and its own test runs with them.
const TEMPLATE: &str = include_str!("../../crates/core/src/rules/new_rule.rs");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

    use super::*;

    const REGISTRY: &str = "macro\n\nregistry! {\n    mg101_a_b\n    mg201_c_d\n}\n\nrest\n";

    #[test]
    fn a_rule_is_registered_once_and_in_the_order_of_the_ids() {
        let text = register(REGISTRY, "mg105_new_rule").unwrap();
        assert_eq!(
            text,
            REGISTRY.replace("    mg201", "    mg105_new_rule\n    mg201")
        );
        assert_eq!(
            register(REGISTRY, "mg201_other").unwrap_err(),
            "the id is taken by mg201_c_d"
        );
        assert!(register("nothing", "mg105_new_rule").is_err());
    }

    #[test]
    fn ids_and_names_that_are_not_valid_are_refused() {
        let folder = std::env::temp_dir();
        for (id, name) in [
            ("MG1", "a-b"),
            ("MG801", "a-b"),
            ("mg101", "a-b"),
            ("MG101", "word"),
            ("MG101", "A-b"),
            ("MG101", "a--b"),
        ] {
            assert!(
                new_rule(&folder, id, name)
                    .unwrap_err()
                    .contains("is not a valid"),
                "{id} {name}"
            );
        }
    }

    #[test]
    fn a_case_is_added_in_the_order_of_the_ids() {
        let table = "fn cases() {\n    vec![\n        (\"MG101\", x),\n        (\n            \"MG201\",\n            y,\n        ),\n    ]\n}\n";
        let case = |id: &str| format!("        (\"{id}\", stays(), bare()),\n");
        let place = |id: &str| add_case(table, id).unwrap().find(&case(id));
        assert_eq!(place("MG100"), table.find("        (\"MG101\""));
        assert_eq!(place("MG150"), table.find("        (\n"));
        assert_eq!(place("MG301"), table.find("    ]\n}"));
        assert!(add_case("nothing", "MG101").is_err());
    }

    #[test]
    fn a_rule_can_be_added_to_the_real_registry() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = fs::read_to_string(root.join("crates/core/src/rules/mod.rs")).unwrap();
        let added = register(&text, "mg199_new_rule").unwrap();
        assert_eq!(added.lines().count(), text.lines().count() + 1);
        let cases = fs::read_to_string(root.join("crates/core/src/rules/ticks.rs")).unwrap();
        assert!(
            add_case(&cases, "MG199")
                .unwrap()
                .contains("(\"MG199\", stays(), bare()),\n        (\n            \"MG201\"")
        );
        let rule = rule("MG399", "cache-shrunk", "Configuration");
        for line in [
            "//! MG399: ",
            "id: \"MG399\"",
            "name: \"cache-shrunk\"",
            "category: Category::Configuration,",
        ] {
            assert!(rule.contains(line), "{line}");
        }
        assert!(
            !rule.contains("MG000") && !rule.contains("rule-name"),
            "{rule}"
        );
    }
}
