//! Generated documentation equals the committed files.
//! `UPDATE_GENERATED=1 cargo test --test repository docs::` writes it again.

use std::{env, fs, path::Path, process::Command};

use milvus_guard_core::{
    api::crd,
    manifest::documents,
    rules::{ALL, docs},
};

pub(crate) fn same(path: &str, expected: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("UPDATE_GENERATED").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, expected).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == expected,
        "{path} is out of date; run: UPDATE_GENERATED=1 cargo test --test repository docs::"
    );
}

#[test]
fn each_rule_has_its_page() {
    for rule in ALL {
        same(&format!("docs/rules/{}.md", rule.id), &docs::page(rule));
    }
    let pages = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules"))
        .unwrap()
        .count();
    assert_eq!(pages, ALL.len() + 1, "a page without a rule is left over");
}

#[test]
fn the_index_lists_all_rules() {
    same(
        "docs/rules/README.md",
        &format!(
            "# Rules\n\nGenerated from `crates/core/src/rules`; do not edit.\n\n{}",
            docs::table("")
        ),
    );
}

#[test]
fn the_chart_contains_the_definitions_of_this_build() {
    same("charts/milvus-guard/files/crds.yaml", &crd::yaml());
}

/// Pages of the documentation that a reader may open first, and pages to which the README links.
const PAGES: [&str; 21] = [
    "README.md",
    "CONTRIBUTING.md",
    "RELEASING.md",
    "SECURITY.md",
    "charts/milvus-guard/README.md",
    "charts/milvus-upgrade/README.md",
    "docs/ARCHITECTURE.md",
    "docs/alerts.md",
    "docs/compatibility.md",
    "docs/faq.md",
    "docs/helm-plugin.md",
    "docs/inputs.md",
    "docs/metadata-migration.md",
    "docs/migrate.md",
    "docs/performance.md",
    "docs/pipelines.md",
    "docs/policies.md",
    "docs/security.md",
    "docs/upgrade.md",
    "docs/webhook.md",
    "docs/what-is-judged.md",
];

#[test]
fn every_link_between_pages_has_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut dead = Vec::new();
    for page in PAGES {
        let text =
            fs::read_to_string(root.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        let folder = root.join(page).parent().unwrap().to_owned();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") {
                continue;
            }
            let target = if file.is_empty() {
                root.join(page)
            } else {
                folder.join(file)
            };
            let has_anchor = || {
                anchor.is_empty()
                    || fs::read_to_string(&target)
                        .is_ok_and(|text| anchors(&text).any(|one| one == anchor))
            };
            if !target.exists() || !has_anchor() {
                dead.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// The anchors of the headings of a page, as GitHub generates them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter })
            .collect()
    })
}

/// A command that measures or tests names a target of Cargo; nothing else runs all of them.
#[test]
fn every_named_target_of_cargo_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scripts = ["Makefile", "benches/process.sh", "fuzz/run.sh", ".ci/run"];
    let (mut count, mut missing) = (0, Vec::new());
    for page in PAGES.into_iter().chain(scripts) {
        let text =
            fs::read_to_string(root.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        let words: Vec<&str> = text
            .split(|letter: char| letter.is_whitespace() || "`)\"".contains(letter))
            .collect();
        for pair in words.windows(2) {
            let places: &[&str] = match pair[0] {
                "--bench" => &["benches/NAME.rs"],
                "--example" => &["examples/NAME.rs", "tests/testbed/examples/NAME.rs"],
                "--test" => &["tests/NAME/main.rs", "tests/testbed/tests/NAME.rs"],
                _ => continue,
            };
            count += 1;
            let exists = |place: &str| root.join(place.replace("NAME", pair[1])).exists();
            if !places.iter().copied().any(exists) {
                missing.push(format!("{page}: {} {}", pair[0], pair[1]));
            }
        }
    }
    assert!(count > 20, "{count}");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// pre-commit itself is not run here, but its commands are.
#[test]
fn the_hooks_for_pre_commit_run_existing_commands() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(".pre-commit-hooks.yaml")).unwrap();
    let hooks = documents(&text).next().unwrap().unwrap().root.to_json();
    let policies = fs::read_to_string(root.join("docs/policies.md")).unwrap();
    let hooks = hooks.as_array().unwrap();
    assert_eq!(hooks.len(), 2);
    for hook in hooks {
        let id = hook["id"].as_str().unwrap();
        assert!(policies.contains(id), "docs/policies.md does not name {id}");
        let mut words = hook["entry"].as_str().unwrap().split(' ');
        assert_eq!(words.next(), Some("milvus-guard"));
        let given = hook["args"].as_array().into_iter().flatten();
        let given = given.map(|word| word.as_str().unwrap());
        let output = Command::new(env!("CARGO_BIN_EXE_milvus-guard"))
            .args(words)
            .args(given)
            .arg("nonexistent.yaml")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        // The flags are valid; only the files are missing.
        assert!(stderr.contains("no such file"), "{id}: {stderr}");
    }
}
