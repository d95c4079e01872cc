//! The dependencies between the modules of the crates: `cargo xtask graph`.
//!
//! A module is a file or a folder below the `src` of a crate, named `crate::module::module`. An
//! item counts in the module that defines it, not in one that re-exports it. Tests do not count.
//!
//! A module and its submodules belong together, so a submodule may use its parent and the other
//! way round. Modules of the same folder must not use each other in a circle.

mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

/// Each module, and the modules that it uses.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// Reads the modules of the program and of the crates below `crates`.
///
/// # Errors
/// A file that cannot be read, or is not Rust.
pub fn read(root: &Path) -> Result<Graph, String> {
    let sources = source::read(root)?;
    let mut graph = Graph::new();
    for (path, module) in &sources {
        let used = module
            .uses
            .iter()
            .filter_map(|used| source::resolve(&sources, path, used))
            .filter(|used| used != path)
            .map(|used| used.join("::"));
        graph.insert(path.join("::"), used.collect());
    }
    Ok(graph)
}

/// The graph of the modules of one folder: `core::milvus`, or all crates for an empty name.
/// `depth` is the number of names below the folder that are distinguished.
#[must_use]
pub fn within(graph: &Graph, folder: &str, depth: usize) -> Graph {
    let prefix = if folder.is_empty() {
        String::new()
    } else {
        format!("{folder}::")
    };
    let part = |module: &str| {
        let rest = module.strip_prefix(&prefix)?;
        let names: Vec<&str> = rest.split("::").take(depth).collect();
        (names.len() == depth).then(|| format!("{prefix}{}", names.join("::")))
    };
    let mut found = Graph::new();
    for (module, used) in graph {
        let Some(module) = part(module) else { continue };
        let used: BTreeSet<String> = used
            .iter()
            .filter_map(|used| part(used))
            .filter(|used| *used != module)
            .collect();
        found.entry(module).or_default().extend(used);
    }
    found
}

/// The names of all folders with modules, including crates.
#[must_use]
pub fn folders(graph: &Graph) -> BTreeSet<String> {
    graph
        .keys()
        .filter_map(|module| module.rsplit_once("::"))
        .map(|(folder, _)| folder.to_owned())
        .collect()
}

/// The circles of each folder that has any.
#[must_use]
pub fn circles_within(graph: &Graph) -> BTreeMap<String, Vec<BTreeSet<String>>> {
    folders(graph)
        .into_iter()
        .map(|folder| {
            let circles = circles(&within(graph, &folder, 1));
            (folder, circles)
        })
        .filter(|(_, circles)| !circles.is_empty())
        .collect()
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
    for circle in &circles {
        let _ = writeln!(text, "%% circle: {}", listed(graph, circle));
    }
    text
}

/// The circles of all folders, a line for each.
#[must_use]
pub fn render_circles(graph: &Graph) -> String {
    let found = circles_within(graph);
    let mut text = String::new();
    for (folder, circles) in &found {
        let folder_graph = within(graph, folder, 1);
        for circle in circles {
            let _ = writeln!(text, "{folder}: {}", listed(&folder_graph, circle));
        }
    }
    let count: usize = found.values().map(Vec::len).sum();
    let _ = writeln!(text, "{} folders, circles: {count}", folders(graph).len());
    text
}

/// A circle, with the modules of it that each of its modules uses.
fn listed(graph: &Graph, circle: &BTreeSet<String>) -> String {
    let name = |module: &str| module.rsplit("::").next().unwrap_or_default().to_owned();
    let arrows = circle.iter().map(|module| {
        let used = graph.get(module).into_iter().flatten();
        let used: Vec<String> = used
            .filter(|used| circle.contains(*used))
            .map(|used| name(used))
            .collect();
        format!("{} -> {}", name(module), used.join(" "))
    });
    arrows.collect::<Vec<_>>().join(", ")
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

    fn names(modules: &[&str]) -> BTreeSet<String> {
        modules.iter().map(|module| (*module).to_owned()).collect()
    }

    #[test]
    fn circles_of_any_length_are_found() {
        assert!(circles(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
        let found = circles(&graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]));
        assert_eq!(found, [names(&["a", "b", "c"])]);
    }

    #[test]
    fn a_circle_of_one_folder_is_found_and_a_parent_may_use_its_child() {
        let deep = graph(&[
            ("core::a::x", "core::a::y::z"),
            ("core::a::y", "core::a::x"),
            ("core::a::x", "core::b"),
            ("core::a", "core::a::x"),
            ("core::a::x", "core::a"),
            ("core::b", "other::c"),
        ]);
        let found = circles_within(&deep);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["core::a"]);
        assert_eq!(found["core::a"], [names(&["core::a::x", "core::a::y"])]);
        assert_eq!(within(&deep, "core", 1)["core::a"], names(&["core::b"]));
        assert_eq!(within(&deep, "", 2)["core::b"], names(&["other::c"]));
        assert!(render_circles(&deep).contains("core::a: x -> y, y -> x"));
    }

    fn real() -> Graph {
        read(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()).unwrap()
    }

    #[test]
    fn no_crates_and_no_modules_of_different_crates_use_each_other() {
        let graph = real();
        let modules = within(&graph, "", 2);
        assert!(
            modules.len() > 25 && modules["core::rules"].contains("core::milvus"),
            "{modules:#?}"
        );
        assert_eq!(circles(&modules), [], "\n{}", render(&modules));
        let crates = within(&graph, "", 1);
        assert_eq!(crates["core"], BTreeSet::new());
        assert!(
            crates["program"].contains("webhook") && crates["webhook"].contains("core"),
            "{crates:#?}"
        );
        assert!(
            !crates["webhook"].contains("operations") && !crates["operations"].contains("webhook"),
            "{crates:#?}"
        );
        assert_eq!(circles(&crates), []);
    }

    #[test]
    fn no_modules_of_a_folder_use_each_other_in_a_circle() {
        let graph = real();
        assert!(folders(&graph).len() > 40);
        let found = circles_within(&graph);
        assert!(found.is_empty(), "\n{}", render_circles(&graph));
    }
}
