//! Generated documentation equals what is committed. `UPDATE_GENERATED=1 cargo test --test docs` writes it anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what is wrong by panicking"
)]

use std::{env, fs, path::Path};

use milvus_guard::{
    objects::crd,
    rules::{ALL, docs},
};

fn same(path: &str, expected: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("UPDATE_GENERATED").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, expected).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{path} is out of date; run: UPDATE_GENERATED=1 cargo test --test docs");
}

#[test]
fn each_rule_has_its_page() {
    for rule in ALL {
        same(&format!("docs/rules/{}.md", rule.id), &docs::page(rule));
    }
    let pages = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules")).unwrap().count();
    assert_eq!(pages, ALL.len() + 1, "a page without a rule is left over");
}

#[test]
fn the_index_lists_all_rules() {
    same("docs/rules/README.md", &format!("# Rules\n\nGenerated from `src/rules`; do not edit.\n\n{}", docs::table("")));
}

#[test]
fn the_chart_holds_the_definitions_of_this_build() {
    same("charts/milvus-guard/files/crds.yaml", &crd::yaml());
}

#[test]
fn the_table_of_the_readme_is_generated() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&file).unwrap();
    let (begin, end) = ("<!-- rules: generated, do not edit -->\n", "<!-- end of rules -->");
    let start = text.find(begin).expect("README.md marks the place of the rule table") + begin.len();
    let stop = start + text[start..].find(end).expect("README.md marks the end of the rule table");
    let expected = format!("{}{}{}", &text[..start], docs::table("docs/rules/"), &text[stop..]);
    same("README.md", &expected);
}
