//! The published schemas equal those of this build.
//! `UPDATE_GENERATED=1 cargo test --test repository schemas::` writes them again.

use std::{fs, path::Path};

use milvus_guard_core::schemas;

#[test]
fn published_schemas_are_those_of_this_build() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas");
    let all = schemas::all();
    if std::env::var("UPDATE_GENERATED").is_ok_and(|value| value == "1") {
        fs::create_dir_all(&folder).unwrap();
        for published in &all {
            fs::write(folder.join(published.file), published.text()).unwrap();
        }
    }
    for published in &all {
        let text = fs::read_to_string(folder.join(published.file)).unwrap_or_default();
        let same = text.replace("\r\n", "\n") == published.text();
        assert!(
            same,
            "docs/schemas/{} is not up to date: run UPDATE_GENERATED=1 cargo test --test repository schemas::",
            published.file
        );
    }
    let paths = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<String> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    found.sort();
    assert_eq!(
        found,
        all.iter()
            .map(|published| published.file)
            .collect::<Vec<_>>(),
        "schemas that nothing generates"
    );
}
