//! The dependencies between the modules of the crates: `cargo xtask graph`.
//!
//! A module is a file or a folder directly below the `src` of a crate, named `crate::module`. Code
//! of tests does not count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Each module, and the modules that it uses.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// What the names of our libraries begin with.
const LIBRARY: &str = "milvus_guard_";

/// Reads the modules of the program and of the crates below `crates`.
///
/// # Errors
/// A file that cannot be read.
pub fn read(root: &Path) -> Result<Graph, String> {
    let mut sources = vec![("program".to_owned(), root.join("src"))];
    for path in entries(&root.join("crates"))? {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        sources.push((name.to_owned(), path.join("src")));
    }
    let mut modules = BTreeMap::new();
    for (name, source) in &sources {
        for path in entries(source)? {
            let module = path
                .file_stem()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if !["lib", "main"].contains(&module) {
                modules.insert(format!("{name}::{module}"), (name.clone(), path));
            }
        }
    }
    let mut graph = Graph::new();
    for (module, (home, path)) in &modules {
        let mut used = BTreeSet::new();
        for file in files(path)? {
            let text = fs::read_to_string(&file)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            used.extend(
                uses(&text, home)
                    .into_iter()
                    .filter(|name| name != module && modules.contains_key(name)),
            );
        }
        graph.insert(module.clone(), used);
    }
    Ok(graph)
}

/// The same for whole crates.
#[must_use]
pub fn crates(graph: &Graph) -> Graph {
    let name = |module: &String| module.split("::").next().unwrap_or_default().to_owned();
    let mut crates = Graph::new();
    for (module, used) in graph {
        let home = name(module);
        let others = used
            .iter()
            .map(name)
            .filter(|other| *other != home)
            .collect::<BTreeSet<_>>();
        crates.entry(home).or_default().extend(others);
    }
    crates
}

/// Groups of modules that use each other, directly or through others.
#[must_use]
pub fn circles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let all_used_by = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&str> = vec![from];
        while let Some(module) = next.pop() {
            for used in graph.get(module).into_iter().flatten() {
                if seen.insert(used.clone()) {
                    next.push(used);
                }
            }
        }
        seen
    };
    let all: BTreeMap<&String, BTreeSet<String>> = graph
        .keys()
        .map(|module| (module, all_used_by(module)))
        .collect();
    let circle = |module: &String| -> BTreeSet<String> {
        let reaches =
            |from: &String, to: &String| all.get(from).is_some_and(|modules| modules.contains(to));
        graph
            .keys()
            .filter(|other| reaches(module, other) && reaches(other, module))
            .cloned()
            .collect()
    };
    let found: BTreeSet<BTreeSet<String>> = graph
        .keys()
        .map(circle)
        .filter(|modules| modules.len() > 1)
        .collect();
    found.into_iter().collect()
}

/// The graph as Mermaid, which GitHub draws, and a line for each circle.
#[must_use]
pub fn render(graph: &Graph) -> String {
    let mut text = "graph TD\n".to_owned();
    for (module, used) in graph {
        let used: Vec<&str> = used.iter().map(String::as_str).collect();
        let line = if used.is_empty() {
            module.clone()
        } else {
            format!("{module} --> {}", used.join(" & "))
        };
        let _ = writeln!(text, "  {line}");
    }
    let circles = circles(graph);
    let arrows: usize = graph.values().map(BTreeSet::len).sum();
    let _ = writeln!(
        text,
        "%% {} modules, {arrows} arrows, circles: {}",
        graph.len(),
        circles.len()
    );
    for circle in circles {
        let _ = writeln!(
            text,
            "%% circle: {}",
            circle.into_iter().collect::<Vec<_>>().join(", ")
        );
    }
    text
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let why = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(why)? {
        found.push(entry.map_err(why)?.path());
    }
    found.sort();
    Ok(found)
}

/// The files of a module, without modules that only tests have.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(if path.extension().is_some_and(|end| end == "rs") {
            vec![path.to_owned()]
        } else {
            Vec::new()
        });
    }
    let module = fs::read_to_string(path.join("mod.rs")).unwrap_or_default();
    let only_tests = test_modules(&module);
    let mut found = Vec::new();
    for entry in entries(path)? {
        let name = entry
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if !only_tests.contains(name) {
            found.extend(files(&entry)?);
        }
    }
    Ok(found)
}

/// Modules that are declared right after `#[cfg(test)]`.
fn test_modules(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if !["#[cfg(test)]", "#[cfg(any(test, feature = \"testkit\"))]"].contains(&line) {
            continue;
        }
        let declared = lines.next().unwrap_or_default();
        let declared = declared
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub ");
        if let Some(name) = declared
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(';'))
        {
            found.insert(name.to_owned());
        }
    }
    found
}

/// The modules that a text of the crate `home` names: `crate::module`, `milvus_guard_core::module`
/// and groups of them. Comments and tests do not count.
fn uses(text: &str, home: &str) -> BTreeSet<String> {
    let text = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .fold(String::new(), |all, line| all + line + "\n");
    let mut found = BTreeSet::new();
    let mut named = |home: &str, rest: &str| {
        let names = match rest.strip_prefix('{') {
            Some(group) => group_of(group),
            None => word(rest).into_iter().collect(),
        };
        found.extend(names.into_iter().map(|name| format!("{home}::{name}")));
    };
    for rest in code.split("crate::").skip(1) {
        named(home, rest);
    }
    for rest in code.split(LIBRARY).skip(1) {
        if let Some((other, rest)) = rest.split_once("::") {
            named(other, rest);
        }
    }
    found
}

/// The first words of a group of imports, up to its closing brace.
fn group_of(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let (mut depth, mut is_new) = (0, true);
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_new = true,
            _ if letter.is_whitespace() => {}
            _ if is_new => {
                is_new = false;
                found.extend(word(&text[at..]));
            }
            _ => {}
        }
    }
    found
}

fn word(text: &str) -> Option<String> {
    let end = text
        .find(|letter: char| !letter.is_ascii_lowercase() && letter != '_')
        .unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

    use super::*;

    fn graph(arrows: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::new();
        for (from, to) in arrows {
            graph
                .entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
            graph.entry((*to).to_owned()).or_default();
        }
        graph
    }

    #[test]
    fn every_form_of_an_import_is_seen_and_comments_and_tests_are_not() {
        let text = "//! [`crate::comment`] [`milvus_guard_core::comment`]\nuse milvus_guard_core::{five, six::{A, seven}};\n\
                    use milvus_guard_sources::etcd::Store;\nfn g() { milvus_guard_core::text::plain(); }\nuse crate::{\n    one::{A, b::C},\n    two,\n};\nfn f() { crate::three::g(); }\n\
                    use crate::four;\n#[cfg(test)]\nmod tests {\n    use crate::tested;\n}\n";
        let found: Vec<String> = uses(text, "webhook").into_iter().collect();
        let expected = [
            "core::five",
            "core::six",
            "core::text",
            "sources::etcd",
            "webhook::four",
            "webhook::one",
            "webhook::three",
            "webhook::two",
        ];
        assert_eq!(found, expected);
        assert_eq!(
            test_modules("mod a;\n#[cfg(test)]\npub(crate) mod b;\n#[cfg(test)]\nmod c;\n").len(),
            2
        );
    }

    #[test]
    fn a_circle_is_found_however_long_it_is() {
        assert!(circles(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
        let found = circles(&graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]));
        assert_eq!(
            found,
            [BTreeSet::from([
                "a".to_owned(),
                "b".to_owned(),
                "c".to_owned()
            ])]
        );
    }

    #[test]
    fn no_modules_and_no_crates_use_each_other() {
        let graph = read(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()).unwrap();
        assert!(
            graph.len() > 25 && graph["core::rules"].contains("core::milvus"),
            "{graph:#?}"
        );
        assert_eq!(
            circles(&graph),
            Vec::<BTreeSet<String>>::new(),
            "\n{}",
            render(&graph)
        );
        let crates = crates(&graph);
        assert_eq!(crates["core"], BTreeSet::new());
        assert!(
            crates["program"].contains("webhook") && crates["webhook"].contains("core"),
            "{crates:#?}"
        );
        assert!(
            !crates["webhook"].contains("operations") && !crates["operations"].contains("webhook"),
            "{crates:#?}"
        );
        assert_eq!(circles(&crates), Vec::<BTreeSet<String>>::new());
    }
}
