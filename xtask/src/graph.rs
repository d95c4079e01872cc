//! The dependencies between the rooms of `src`: `cargo xtask graph`.
//!
//! A room is a file or a folder directly below `src`. Code of tests does not count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Each room, and the rooms that it uses.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// Reads the rooms below `src`.
///
/// # Errors
/// A file that cannot be read.
pub fn read(src: &Path) -> Result<Graph, String> {
    let mut rooms = BTreeMap::new();
    for path in entries(src)? {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if !["lib", "main"].contains(&&*name) {
            rooms.insert(name, path);
        }
    }
    let names: BTreeSet<&str> = rooms.keys().map(String::as_str).collect();
    let mut graph = Graph::new();
    for (room, path) in &rooms {
        let mut used = BTreeSet::new();
        for file in files(path)? {
            let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            used.extend(uses(&text).into_iter().filter(|name| name != room && names.contains(&**name)));
        }
        graph.insert(room.clone(), used);
    }
    Ok(graph)
}

/// Groups of rooms that use each other, directly or through others.
#[must_use]
pub fn circles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let all_used_by = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&str> = vec![from];
        while let Some(room) = next.pop() {
            for used in graph.get(room).into_iter().flatten() {
                if seen.insert(used.clone()) {
                    next.push(used);
                }
            }
        }
        seen
    };
    let all: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|room| (room, all_used_by(room))).collect();
    let circle = |room: &String| -> BTreeSet<String> {
        let reaches = |from: &String, to: &String| all.get(from).is_some_and(|rooms| rooms.contains(to));
        graph.keys().filter(|other| reaches(room, other) && reaches(other, room)).cloned().collect()
    };
    let found: BTreeSet<BTreeSet<String>> = graph.keys().map(circle).filter(|rooms| rooms.len() > 1).collect();
    found.into_iter().collect()
}

/// The graph as Mermaid, which GitHub draws, and a line for each circle.
#[must_use]
pub fn render(graph: &Graph) -> String {
    let mut text = "graph TD\n".to_owned();
    for (room, used) in graph {
        let used: Vec<&str> = used.iter().map(String::as_str).collect();
        let line = if used.is_empty() { room.clone() } else { format!("{room} --> {}", used.join(" & ")) };
        let _ = writeln!(text, "  {line}");
    }
    let circles = circles(graph);
    let arrows: usize = graph.values().map(BTreeSet::len).sum();
    let _ = writeln!(text, "%% {} rooms, {arrows} arrows, circles: {}", graph.len(), circles.len());
    for circle in circles {
        let _ = writeln!(text, "%% circle: {}", circle.into_iter().collect::<Vec<_>>().join(", "));
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

/// The files of a room, without modules that only tests have.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(if path.extension().is_some_and(|end| end == "rs") { vec![path.to_owned()] } else { Vec::new() });
    }
    let module = fs::read_to_string(path.join("mod.rs")).unwrap_or_default();
    let only_tests = test_modules(&module);
    let mut found = Vec::new();
    for entry in entries(path)? {
        let name = entry.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
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
        if line != "#[cfg(test)]" {
            continue;
        }
        let declared = lines.next().unwrap_or_default();
        let declared = declared.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        if let Some(name) = declared.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            found.insert(name.to_owned());
        }
    }
    found
}

/// The rooms that a text names: `crate::room` and `use crate::{room, other::Thing}`. Comments and tests do not count.
fn uses(text: &str) -> BTreeSet<String> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).fold(String::new(), |all, line| all + line + "\n");
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_of(group)),
            None => found.extend(word(rest)),
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
    let end = text.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

    use super::*;

    fn graph(arrows: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::new();
        for (from, to) in arrows {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            graph.entry((*to).to_owned()).or_default();
        }
        graph
    }

    #[test]
    fn every_form_of_an_import_is_seen_and_comments_and_tests_are_not() {
        let text = "//! [`crate::comment`]\nuse crate::{\n    one::{A, b::C},\n    two,\n};\nfn f() { crate::three::g(); }\n\
                    use crate::four;\n#[cfg(test)]\nmod tests {\n    use crate::five;\n}\n";
        assert_eq!(uses(text).into_iter().collect::<Vec<_>>(), ["four", "one", "three", "two"]);
        assert_eq!(test_modules("mod a;\n#[cfg(test)]\npub(crate) mod b;\n#[cfg(test)]\nmod c;\n").len(), 2);
    }

    #[test]
    fn a_circle_is_found_however_long_it_is() {
        assert!(circles(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
        let found = circles(&graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]));
        assert_eq!(found, [BTreeSet::from(["a".to_owned(), "b".to_owned(), "c".to_owned()])]);
    }

    #[test]
    fn no_rooms_use_each_other() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("src");
        let graph = read(&src).unwrap();
        assert!(graph.len() > 20 && graph["rules"].contains("milvus"), "{graph:#?}");
        assert_eq!(circles(&graph), Vec::<BTreeSet<String>>::new(), "\n{}", render(&graph));
    }
}
