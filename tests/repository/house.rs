//! Checks of the sources: the core does no I/O, texts are plain, every test target is run.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Sources without I/O: the core, and the pure modules of other crates.
const PURE: [&str; 17] = [
    "crates/core/src",
    "crates/metadata/src/model",
    "crates/sources/src/milvus/loaded.rs",
    "crates/webhook/src/certs/authority.rs",
    "crates/webhook/src/certs/rotation.rs",
    "crates/operations/src/kubernetes_job/spec.rs",
    "crates/operations/src/rolling_upgrade/active.rs",
    "crates/operations/src/rolling_upgrade/ended.rs",
    "crates/operations/src/rolling_upgrade/preconditions.rs",
    "crates/operations/src/rolling_upgrade/recorded.rs",
    "crates/operations/src/rolling_upgrade/plan.rs",
    "crates/operations/src/rolling_upgrade/capacity.rs",
    "crates/operations/src/rolling_upgrade/serving.rs",
    "crates/operations/src/rolling_upgrade/standby.rs",
    "crates/operations/src/rolling_upgrade/step.rs",
    "crates/operations/src/rolling_upgrade/through_helm",
    "crates/operations/src/rolling_upgrade/verdict.rs",
];

/// Names that must not occur in these sources.
const BANNED: [&str; 18] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::io::stdin",
    "std::io::stdout",
    "println!",
    "eprintln!",
    "tokio::",
    "kube::",
    "k8s_openapi::",
    "etcd_client::",
    "axum::",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push(path.to_owned());
    }
}

fn violations(rooms: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for room in rooms {
        assert!(root.join(room).exists(), "{room} does not exist");
        sources(&root.join(room), &mut files);
    }
    let mut violations = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // Tests may use I/O; their module is the last one of a file, or a separate file.
        if file.ends_with("tests.rs") {
            continue;
        }
        let code = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        for (number, line) in code
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for banned in BANNED.iter().filter(|banned| line.contains(*banned)) {
                violations.push(format!("{}:{}: {banned}", file.display(), number + 1));
            }
        }
    }
    violations
}

#[test]
fn the_core_does_no_io() {
    let violations = violations(&PURE);
    assert!(
        violations.is_empty(),
        "the core must stay pure:\n{}",
        violations.join("\n")
    );
}

#[test]
fn this_test_can_fail() {
    assert!(
        !violations(&["crates/sources/src"]).is_empty(),
        "adapters do I/O, so the search must find it there"
    );
}

/// The text of every `#[error(...)]`, with continued lines joined.
fn error_texts(code: &str) -> Vec<String> {
    let attributes = code.split("#[error(").skip(1);
    let texts = attributes.map(|rest| rest.split(")]\n").next().unwrap_or_default());
    let joined = texts.map(|text| {
        let mut lines = text.split("\\\n");
        let first = lines.next().unwrap_or_default().to_owned();
        lines.fold(first, |text, line| text + line.trim_start())
    });
    joined.collect()
}

#[test]
fn no_error_text_contains_multiple_spaces() {
    let lost = "#[error(\"a b          c\")]\n#[error(\"a \\\n         b\")]\n";
    let has_run = |text: &String| {
        let message = text.split('"').nth(1);
        message.is_some_and(|message| message.contains("   "))
    };
    let found: Vec<bool> = error_texts(lost).iter().map(has_run).collect();
    assert_eq!(found, [true, false], "a continued line is one space");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["crates", "src"] {
        sources(&root.join(folder), &mut files);
    }
    for file in files {
        let texts = error_texts(&fs::read_to_string(&file).unwrap());
        let of_one_string = |text: &&String| text.matches('"').count() == 2;
        let wrong = texts
            .iter()
            .filter(of_one_string)
            .find(|text| has_run(text));
        assert_eq!(wrong, None, "{}", file.display());
    }
}

/// The ids at the beginning of the file names of a folder, sorted.
fn ids_of_files(folder: &str, prefix: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut ids: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.to_owned()))
        .filter(|name| name.starts_with(prefix))
        .map(|name| name[..5].to_uppercase())
        .collect();
    ids.sort();
    ids
}

#[test]
fn every_rule_has_one_file_under_its_id_and_one_snapshot_of_its_messages() {
    let registered: Vec<&str> = milvus_guard_core::rules::ALL
        .iter()
        .map(|rule| rule.id)
        .collect();
    assert_eq!(registered, ids_of_files("crates/core/src/rules", "mg"));
    let snapshots = ids_of_files("crates/core/src/rules/messages", "");
    assert_eq!(registered, snapshots);
}

/// Phrases that are hard to understand, and how often each may still occur in sources and pages.
/// After a fix, lower the number; for a new text, use another wording. Good wording:
/// docs/ARCHITECTURE.md and CONTRIBUTING.md.
const PHRASES: [(&str, usize); 50] = [
    // The list of phrases that no message may have (`rules/messages.rs`) names some of them.
    ("nothing where", 1),
    ("Nothing where", 0),
    ("comes to no end", 0),
    ("came to no end", 0),
    ("stands still", 1),
    ("last word", 0),
    ("sign of life", 0),
    ("omebody", 1),
    ("obody ", 0),
    ("hoever ", 0),
    (" goes on", 1),
    (" anew", 1),
    ("as it stands", 0),
    ("in words ", 0),
    ("in words.", 2),
    ("says nothing", 0),
    ("the long way", 0),
    (" is no ", 3),
    (" are no ", 1),
    ("way back", 1),
    ("for ever ", 1),
    ("for ever.", 0),
    (" is gone", 1),
    (" are gone", 1),
    (" what runs", 5),
    ("What runs ", 0),
    ("What runs.", 0),
    (" beside ", 0),
    ("of its own", 1),
    ("of their own", 0),
    ("names none", 1),
    ("and the like", 0),
    ("stands there", 0),
    ("stands in ", 1),
    ("what it stands on", 0),
    ("Milvus stands on", 0),
    (" speaks ", 0),
    ("hatever ", 0),
    ("by itself", 1),
    ("comes to pass", 0),
    ("under way", 0),
    ("let through", 2),
    ("lets pass", 0),
    ("is asked for", 5),
    ("are asked for", 0),
    ("does not tell", 2),
    ("here there are no", 1),
    ("is waited for", 0),
    ("is to be done", 1),
    ("says so", 17),
];

/// Names of the public functions in a source whose error is a `String`.
fn with_text_as_error(source: &str) -> Vec<&str> {
    let code = source.split("#[cfg(test)]\nmod tests").next();
    let functions = ["pub fn ", "pub async fn ", "pub const fn "]
        .iter()
        .flat_map(|begin| code.unwrap_or_default().split(begin).skip(1));
    let is_text = |function: &&str| {
        let signature = function.split(['{', ';']).next().unwrap_or_default();
        signature
            .split_once("-> Result<")
            .is_some_and(|(_, result)| {
                let result = result.split(" where ").next().unwrap_or_default();
                result.trim_end().ends_with(", String>")
            })
    };
    functions
        .filter(is_text)
        .filter_map(|function| function.split(['(', '<']).next())
        .collect()
}

#[test]
fn errors_of_public_functions_are_types() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "crates"] {
        sources(&root.join(folder), &mut files);
    }
    let mut texts = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let names = with_text_as_error(&source).into_iter();
        texts.extend(names.map(|name| format!("{}: {name}", file.display())));
    }
    assert!(texts.is_empty(), "{}", texts.join("\n"));
    let source = "pub fn a() -> Result<u8, String> {}\npub async fn b(\n    c: u8,\n) -> Result<\n    \
                  Vec<u8>, String> {}\npub fn d() -> Result<Vec<String>, E> {}\nfn e() -> Result<(), \
                  String> {}";
    assert_eq!(with_text_as_error(source), ["a", "b"]);
}

#[test]
fn phrases_that_are_hard_to_understand_do_not_spread() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "crates"] {
        sources(&root.join(folder), &mut files);
    }
    files.extend(
        [
            "README.md",
            "CONTRIBUTING.md",
            "RELEASING.md",
            "SECURITY.md",
        ]
        .map(|page| root.join(page)),
    );
    for page in fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|page| page.unwrap().path())
    {
        files.extend(page.is_file().then_some(page));
    }
    let texts: Vec<String> = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    // "there is no X" and "is no longer X" are plain English.
    let plain = [
        "here is no ",
        " is no longer ",
        "here are no ",
        " are no longer ",
    ];
    let count = |phrase: &str| {
        let of = |text: &str, phrase: &str| text.matches(phrase).count();
        let exempt = plain.iter().filter(|plain| plain.contains(phrase));
        texts
            .iter()
            .map(|text| {
                let plain: usize = exempt.clone().map(|plain| of(text, plain)).sum();
                of(text, phrase) - plain
            })
            .sum::<usize>()
    };
    let spread: Vec<String> = PHRASES
        .iter()
        .map(|(phrase, allowed)| (phrase, count(phrase), allowed))
        .filter(|(_, found, allowed)| found > allowed)
        .map(|(phrase, found, allowed)| format!("{phrase:?}: {found}, at most {allowed}"))
        .collect();
    assert!(spread.is_empty(), "{}", spread.join("\n"));
}

/// The modules of a test target by their paths, with their sources; `None` if there is no such
/// target.
fn modules(target: &str) -> Option<Vec<(String, String)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(target);
    folder.join("main.rs").is_file().then(|| {
        let mut files = Vec::new();
        sources(&folder, &mut files);
        files
            .into_iter()
            .map(|file| {
                let path = file.strip_prefix(&folder).unwrap().with_extension("");
                let parts: Vec<&str> = path
                    .iter()
                    .map(|part| part.to_str().unwrap())
                    .filter(|part| *part != "mod")
                    .collect();
                (parts.join("::"), fs::read_to_string(&file).unwrap())
            })
            .collect()
    })
}

/// Whether a filter of cargo, a part of the path of a test, matches a test.
fn finds(modules: &[(String, String)], filter: &str) -> bool {
    modules.iter().any(|(module, source)| {
        let tests = source.split("\nfn ").skip(1);
        tests
            .filter_map(|rest| rest.split_once('('))
            .any(|(test, _)| format!("{module}::{test}").contains(filter))
    })
}

#[test]
fn make_test_runs_every_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    let of = |target: &str| {
        let lines = makefile.lines().skip_while(|line| *line != target);
        let recipe = lines.skip(1).take_while(|line| !line.is_empty());
        recipe.collect::<Vec<_>>().join(" ")
    };
    let recipes = [of("test-operations:"), of("test-others:")].join(" ");
    let words: Vec<&str> = recipes.split_whitespace().collect();
    let named = |name: &str| words.windows(2).any(|pair| pair == ["--test", name]);
    let is_target = |path: &Path| path.join("main.rs").exists();
    let mut targets: Vec<PathBuf> = Vec::new();
    for (folder, wanted) in [
        ("tests", &is_target as &dyn Fn(&Path) -> bool),
        ("tests/testbed/tests", &|path| {
            path.extension().is_some_and(|one| one == "rs")
        }),
    ] {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        targets.extend(paths.filter(|path| wanted(path)));
    }
    assert!(targets.len() > 10, "{targets:?}");
    for target in targets {
        let name = target.file_stem().unwrap().to_str().unwrap();
        assert!(named(name), "make test does not run {name}");
    }
    for kind in ["--lib", "--bins", "--examples", "--benches"] {
        assert!(words.contains(&kind), "make test does not run {kind}");
    }
}

#[test]
fn every_test_that_commands_and_pages_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut named, mut lost) = (0, Vec::new());
    let mut look_for = |page: &str, target: &str, filter: &str| {
        named += 1;
        if !modules(target).is_some_and(|modules| finds(&modules, filter)) {
            lost.push(format!("{page}: {target} {filter}"));
        }
    };
    // A filter that matches no test is not an error for cargo: the command would test nothing.
    for page in [
        "Makefile",
        "CONTRIBUTING.md",
        "docs/performance.md",
        "docs/security.md",
    ] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        for line in text.lines().filter(|line| !line.contains("testbed --test")) {
            let mut target = None;
            for word in line.split([' ', '`']) {
                match target {
                    None if word == "--test" => target = Some(""),
                    Some("") => {
                        let of_bed = root.join(format!("tests/testbed/tests/{word}.rs"));
                        let exists = modules(word).is_some() || of_bed.is_file();
                        assert!(exists, "{page}: no test target {word}");
                        target = Some(word);
                    }
                    Some(target) if word.contains("::") && !word.ends_with("...") => {
                        look_for(page, target, word.trim_end_matches(['.', ',']));
                    }
                    _ => {}
                }
            }
        }
    }
    for page in ["docs/security.md", "docs/webhook.md"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        for word in text.split('`').skip(1).step_by(2) {
            if let Some((target, filter)) = word.split_once("::")
                && modules(target).is_some()
                && !filter.ends_with("...")
            {
                let filter = if filter.contains("::") {
                    filter.to_owned()
                } else {
                    format!("{filter}::")
                };
                look_for(page, target, &filter);
            }
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
    assert!(named > 30, "{named} names were found");
}
