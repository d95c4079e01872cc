//! The first hour of a new user at the command line. Each test is about one problem that a new user
//! had; its comment names the problem.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use milvus_guard_testbed::Terminal;
use serde_json::Value;

use crate::common::{self, file, guard, run};

const BEFORE: &str = "examples/demo/2-good-upgrade/before.yaml";
const AFTER: &str = "examples/demo/2-good-upgrade/after.yaml";

/// Every command, with its subcommand.
const VERBS: [&str; 34] = [
    "audit",
    "plan",
    "check",
    "helm",
    "helm check",
    "helm plan",
    "helm upgrade",
    "helm post-render",
    "migrate",
    "upgrade",
    "status",
    "verify",
    "ping",
    "meta",
    "meta inspect",
    "meta backup",
    "meta migrate",
    "meta verify",
    "meta restore",
    "rules",
    "rules list",
    "rules explain",
    "policy",
    "policy lint",
    "policy test",
    "data",
    "data list",
    "data show",
    "data validate",
    "serve",
    "crds",
    "certs",
    "completions",
    "man",
];

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(' ').filter(|word| !word.is_empty())
}

fn help(verb: &str, columns: u32) -> String {
    let mut command = guard();
    command
        .args(words(verb))
        .arg("--help")
        .env("COLUMNS", columns.to_string());
    let (code, stdout, stderr) = run(&mut command);
    assert_eq!(code, 0, "{verb}: {stderr}");
    stdout
}

/// Lines that are longer than the terminal, except those with a single word that is longer.
fn too_long(text: &str, columns: usize) -> Vec<&str> {
    let longest = |line: &str| words(line).map(|word| word.chars().count()).max();
    text.lines()
        .filter(|line| line.chars().count() > columns && longest(line) <= Some(columns))
        .collect()
}

/// Long lines were broken inside words by the terminal: tables, commands and warnings did not know
/// its width.
#[test]
fn no_line_is_longer_than_the_terminal_is_wide() {
    let denied = "examples/demo/1-skipped-migration";
    let (before, after) = (
        format!("{denied}/before.yaml"),
        format!("{denied}/after.yaml"),
    );
    let lines = [
        vec![
            "check", "--before", &before, "--after", &after, "-n", "milvus",
        ],
        vec![
            "check", "--before", &before, "--after", &after, "--show", "all",
        ],
        vec!["audit", "--before", BEFORE],
        vec!["plan", "--from", "2.1.4", "--to", "2.6"],
        vec!["rules", "list"],
        vec!["rules", "explain", "MG101"],
        vec!["data", "list"],
        vec!["data", "show", "paths"],
    ];
    for args in &lines {
        for columns in [60, 80, 110, 120] {
            for color in ["never", "always"] {
                let mut command = guard();
                command
                    .args(args)
                    .args(["--color", color])
                    .env("COLUMNS", columns.to_string());
                let text = without_colors(&run(&mut command).1);
                assert!(text.lines().count() > 5, "{args:?}: {text}");
                let long = too_long(&text, columns);
                assert!(long.is_empty(), "{args:?} at {columns}: {long:#?}");
            }
        }
    }
}

fn without_colors(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((shown, sequence)) = rest.split_once('\u{1b}') {
        out.push_str(shown);
        rest = sequence.split_once('m').map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// A command that is continued on the next line stays a valid command.
#[test]
fn a_command_on_several_lines_is_a_valid_command() {
    let plan = |columns: &str| {
        let mut command = guard();
        command
            .args(["plan", "--from", "2.4.5", "--to", "2.5.27"])
            .env("COLUMNS", columns);
        run(&mut command).1
    };
    let joined = |text: &str| {
        let text = text.replace(" \\\n", " ");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let (narrow, wide) = (plan("60"), plan("120"));
    assert!(narrow.contains(" \\\n"), "{narrow}");
    let command = "helm upgrade my-release zilliztech/milvus -n default --version 4.2.58";
    assert!(
        joined(&narrow).contains(command) && joined(&wide).contains(command),
        "{narrow}"
    );
    let piped = run(guard().args(["plan", "--from", "2.4.5", "--to", "2.5.27"])).1;
    assert!(
        !piped.contains(" \\\n"),
        "a log must contain commands on one line: {piped}"
    );
}

/// Errors on a terminal were broken inside words.
#[test]
fn errors_are_wrapped_at_words() {
    let mut command = guard();
    command
        .args([
            "check", "--before", BEFORE, "--after", AFTER, "-i", "nobody",
        ])
        .env("COLUMNS", "60");
    let (code, _, stderr) = run(&mut command);
    assert_eq!(code, 2);
    assert!(
        stderr.lines().count() > 1 && too_long(&stderr, 60).is_empty(),
        "{stderr}"
    );
}

/// Exit codes had hard line breaks inside wrapped text, and some verbs did not list theirs, or had
/// no example.
#[test]
fn every_help_has_an_example_exit_codes_and_a_url() {
    for verb in VERBS {
        for columns in [60, 80, 110, 120] {
            let text = help(verb, columns);
            for title in [
                "\nExamples:\n",
                "\nExit codes:\n  0  ",
                "\nDocumentation:\n",
            ] {
                assert!(text.contains(title), "{verb} lacks {title:?}: {text}");
            }
            // clap writes the usage line without a limit.
            let mut long = too_long(&text, columns as usize);
            long.retain(|line| !line.starts_with("Usage: "));
            assert!(long.is_empty(), "{verb} at {columns}: {long:#?}");
        }
    }
}

/// Sixteen commands were listed in no order, without a first command or a URL.
#[test]
fn the_top_level_help_groups_the_commands() {
    let text = help("", 100);
    let top: String = text.lines().take(6).collect::<Vec<_>>().join("\n");
    assert!(
        top.contains("milvus-guard audit -n milvus") && top.contains("https://"),
        "{top}"
    );
    let groups = [
        "Before an upgrade:\n  audit",
        "Upgrade:\n  migrate",
        "Admission webhook:\n  serve",
    ];
    for group in groups {
        assert!(text.contains(group), "{text}");
    }
}

/// Under the name `kubectl guard` the examples must work as they are typed there.
#[test]
fn examples_have_the_name_of_the_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-guard");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_milvus-guard"), &plugin).unwrap();
    let (code, text, _) = run(Command::new(plugin).args(["plan", "--help"]));
    assert!(
        code == 0
            && text.contains("  kubectl guard plan --from")
            && !text.contains("  milvus-guard "),
        "{text}"
    );
}

/// `completions -h` did not say where the script goes.
#[test]
fn the_help_of_completions_names_the_file_for_the_script() {
    let text = help("completions", 100);
    for place in [
        "~/.bashrc",
        "~/.zshrc",
        "~/.config/fish/completions",
        "$PROFILE",
        "rc.elv",
    ] {
        assert!(text.contains(place), "{place}: {text}");
    }
}

/// Formats, rules and versions were not completed.
#[test]
fn values_are_completed() {
    for (line, value) in [
        ("milvus-guard che", "check"),
        ("milvus-guard check --format s", "sarif"),
        ("milvus-guard audit --format j", "junit"),
        ("milvus-guard rules explain MG30", "MG301"),
        ("milvus-guard upgrade -o r", "rollback"),
        ("milvus-guard check --before li", "live"),
        ("milvus-guard check --after Cargo.t", "Cargo.toml"),
        ("milvus-guard plan --to 2.5", "2.5.27"),
        ("milvus-guard data show landi", "landing"),
    ] {
        let offered = common::offered(line, |_| {});
        assert!(
            offered
                .iter()
                .any(|one| one.split('\t').next() == Some(value)),
            "{line}: {offered:?}"
        );
    }
}

/// A shell must not hang if a cluster does not answer.
#[test]
fn completion_does_not_wait_for_a_cluster_that_does_not_answer() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let address = silent.local_addr().unwrap();
    let kubeconfig = file(
        folder.path(),
        "kubeconfig",
        &format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: \
             {{server: 'http://{address}'}}}}]\nusers: [{{name: u, user: {{}}}}]\ncontexts: \
             [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        ),
    );
    for line in ["milvus-guard status -n ", "milvus-guard check -i "] {
        let offered = common::offered(line, |command| {
            command.env("KUBECONFIG", &kubeconfig);
        });
        assert!(offered.iter().all(String::is_empty), "{line}: {offered:?}");
    }
    let contexts = common::offered("milvus-guard status --context ", |command| {
        command.env("KUBECONFIG", &kubeconfig);
    });
    assert_eq!(contexts, ["c"]);
}

/// Exit codes and examples were in a section EXTRA, and `--now` had no text.
#[test]
fn man_pages_have_the_sections_of_a_manual() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(guard().args(["man", "--out"]).arg(folder.path())).0, 0);
    let pages: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|page| page.unwrap().path())
        .collect();
    assert_eq!(pages.len(), VERBS.len() + 1);
    for path in pages {
        let page = fs::read_to_string(&path).unwrap();
        for section in [
            "SYNOPSIS",
            "EXAMPLES",
            "EXIT STATUS",
            "ENVIRONMENT",
            "SEE ALSO",
        ] {
            let title = if section.contains(' ') {
                format!(".SH \"{section}\"")
            } else {
                format!(".SH {section}")
            };
            assert!(page.contains(&title), "{}: {section}", path.display());
        }
        assert!(!page.contains(".SH EXTRA"), "{}", path.display());
    }
    let check = fs::read_to_string(folder.path().join("milvus-guard-check.1")).unwrap();
    assert!(
        check.contains("The time of the check, for exceptions"),
        "{check}"
    );
    assert!(
        check.contains("MILVUS_GUARD_ETCD_USER") && check.contains("KUBECONFIG"),
        "{check}"
    );
    assert!(!check.contains("MILVUS_GUARD_ETCD_PASSWORD=") && check.contains("milvus\\-guard(1)"));
}

/// `FORCE_COLOR` had no effect, and `plan` and `rules list` had no colors.
#[test]
fn colors_are_in_every_command_and_can_be_forced() {
    for args in [
        vec!["plan", "--from", "2.1.4", "--to", "2.5"],
        vec!["rules", "list"],
    ] {
        let mut command = guard();
        command
            .args(&args)
            .env_remove("NO_COLOR")
            .env("FORCE_COLOR", "1");
        let (_, text, _) = run(&mut command);
        assert!(text.contains('\u{1b}'), "{args:?}");
        command.env("FORCE_COLOR", "0");
        assert!(!run(&mut command).1.contains('\u{1b}'), "{args:?}");
    }
    let mut command = guard();
    command.args([
        "plan", "--from", "2.1.4", "--to", "2.5", "--color", "always",
    ]);
    let (_, plan, _) = run(&mut command);
    let red_line = plan
        .lines()
        .find(|line| line.contains("point of no return"))
        .unwrap();
    let run_line = plan.lines().find(|line| line.contains("   run ")).unwrap();
    assert!(
        red_line.contains("31m") && run_line.contains("36m"),
        "{red_line} {run_line}"
    );
}

/// GitHub rejected the whole SARIF file: "expected a physical location". It requires relative
/// paths, a line, a level, known rules, and limits numbers; also for standard input.
#[test]
fn sarif_is_accepted_by_code_scanning() {
    let absolute = |path: &str| fs::canonicalize(path).unwrap().to_str().unwrap().to_owned();
    let (before, after) = (absolute(BEFORE), absolute(AFTER));
    let wanted = fs::read_to_string(AFTER).unwrap();
    let sources: [(&[&str], Option<&str>); 5] = [
        (&["check", "--before", BEFORE, "--after", AFTER], None),
        (&["check", "--before", &before, "--after", &after], None),
        (
            &["check", "--before", BEFORE, "--after", "-"],
            Some(&wanted),
        ),
        (&["check", "--before", BEFORE, "-t", "2.5.27"], None),
        (&["audit", "--before", BEFORE], None),
    ];
    for (args, input) in sources {
        for show in ["warn", "audit"] {
            let folder = tempfile::tempdir().unwrap();
            let mut command = guard();
            command
                .args(args)
                .args(["--format", "sarif", "--show", show]);
            if let Some(input) = input {
                let path = file(folder.path(), "stdin", input);
                command.stdin(fs::File::open(path).unwrap());
            }
            let (_, stdout, stderr) = run(&mut command);
            let sarif: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"));
            accepted(&sarif, &format!("{args:?}"));
        }
    }
}

fn accepted(sarif: &Value, what: &str) {
    let runs = sarif["runs"].as_array().unwrap();
    assert_eq!(
        (runs.len(), &sarif["version"]),
        (1, &"2.1.0".into()),
        "{what}"
    );
    let driver = &runs[0]["tool"]["driver"];
    let is_address = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| text.starts_with("https://"))
    };
    assert!(is_address(&driver["informationUri"]), "{what}");
    let rules: BTreeSet<&str> = driver["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            assert!(is_address(&rule["helpUri"]), "{what}: {rule}");
            rule["id"].as_str().unwrap()
        })
        .collect();
    assert!(rules.len() < 25_000);
    let results = runs[0]["results"].as_array().unwrap();
    assert!(!results.is_empty() && results.len() <= 25_000, "{what}");
    for result in results {
        assert!(
            rules.contains(result["ruleId"].as_str().unwrap()),
            "{what}: {result}"
        );
        let level = result["level"].as_str().unwrap();
        assert!(
            ["none", "note", "warning", "error"].contains(&level),
            "{what}: {result}"
        );
        assert!(
            !result["message"]["text"].as_str().unwrap().is_empty(),
            "{what}"
        );
        let places = result["locations"].as_array().unwrap();
        assert!((1..=1000).contains(&places.len()), "{what}: {result}");
        for place in places {
            let place = &place["physicalLocation"];
            let uri = place["artifactLocation"]["uri"].as_str().unwrap();
            assert!(
                !uri.is_empty() && !uri.starts_with(['/', '.']) && !uri.contains(':'),
                "{what}: {uri} is not a path in the repository"
            );
            assert!(
                place["region"]["startLine"].as_u64().unwrap() >= 1,
                "{what}"
            );
        }
    }
}

/// Findings named a file of the repository, which a user of the program does not have.
#[test]
fn every_format_links_to_the_page_of_the_rule() {
    let page = milvus_guard_core::project::rule_page("MG405");
    for format in [
        "text", "json", "yaml", "markdown", "junit", "sarif", "github",
    ] {
        let (_, text, _) = run(guard().args([
            "check", "--before", BEFORE, "--after", AFTER, "--format", format,
        ]));
        assert!(text.contains(&page), "{format}: {text}");
    }
    let (_, text, _) = run(guard().args(["rules", "explain", "MG104"]));
    assert!(
        text.contains("https://github.com/milvus-io/milvus/issues/36933"),
        "{text}"
    );
}

/// `policy lint` made annotations without a title.
#[test]
fn annotations_of_policies_have_a_title() {
    let folder = tempfile::tempdir().unwrap();
    let bad = file(
        folder.path(),
        "bad.yaml",
        "apiVersion: guard.milvus.io/v1alpha1\nkind: UpgradePolicy\nmetadata: {name: a}\nspec:\n  rules:\n    - {id: MG999, action: Warn}\n",
    );
    let (_, text, _) = run(guard().args(["policy", "lint", &bad, "--format", "github"]));
    assert!(
        text.starts_with("::error file=") && text.contains(",title=policy lint::"),
        "{text}"
    );
}

/// A minor version and `latest` were refused without the name of the recommended release.
#[test]
fn a_minor_version_is_resolved_or_the_error_names_its_release() {
    let (code, text, stderr) = run(guard().args(["check", "--before", BEFORE, "-t", "2.5"]));
    assert!(
        code == 0 && text.contains("2.4.24 → 2.5.27"),
        "{text}{stderr}"
    );
    assert!(
        text.contains("version:2.5.27, the recommended release of 2.5"),
        "{text}"
    );
    let (code, _, stderr) = run(guard().args(["plan", "--from", "2.5.5", "--to", "latest"]));
    assert!(code == 0 && stderr.contains("latest means "), "{stderr}");
    for verb in ["upgrade", "verify"] {
        for wanted in ["2.5", "v2.5", "latest"] {
            let (code, _, stderr) = run(guard().args([verb, "-i", "a", "-n", "b", "-t", wanted]));
            assert!(
                code == 2
                    && stderr.contains("is not a release: ")
                    && stderr.contains("The recommended one is "),
                "{verb} {wanted}: {stderr}"
            );
        }
        let (code, _, stderr) = run(guard().args([verb, "-i", "a", "-t", "2.5.27-gpu"]));
        assert!(
            code == 2 && stderr.contains("is not a release; give -t 2.5.27"),
            "{verb}: {stderr}"
        );
    }
    for (verb, wanted) in [("plan", "2.4.2"), ("plan", "2.7.0"), ("plan", "2.9")] {
        let (code, stdout, stderr) = run(guard().args([verb, "--from", "2.3.5", "--to", wanted]));
        assert!(
            code == 2 && stdout.is_empty() && stderr.contains("the nearest is "),
            "{wanted}: {stdout}{stderr}"
        );
    }
    let (code, text, _) = run(guard().args(["plan", "--from", "2.5.5", "--to", "2.5.99"]));
    assert!(
        code == 0 && text.contains("2.5.99 is newer than the data of "),
        "{text}"
    );
}

/// `check` without arguments required `--after` and did not mention `-t`.
#[test]
fn check_without_arguments_names_both_ways() {
    let (code, _, stderr) = run(guard().arg("check"));
    assert!(
        code == 2 && stderr.contains("-t") && stderr.contains("--after"),
        "{stderr}"
    );
}

/// One message contained "os error 2", others did not.
#[test]
fn a_missing_folder_is_reported_without_an_error_number() {
    let (code, _, stderr) = run(guard().args(["policy", "test", "nope"]));
    assert!(code == 2 && stderr.contains("cannot read nope"), "{stderr}");
    assert!(!stderr.contains("os error"), "{stderr}");
}

/// The flags of etcd had different names in different commands. Old names stay as aliases.
#[test]
fn etcd_has_the_same_flags_in_every_verb() {
    let flags = [
        "--etcd <",
        "--root-path <",
        "--etcd-user <",
        "--etcd-password-file <",
        "--etcd-cacert <",
        "--etcd-cert <",
        "--etcd-key <",
    ];
    for verb in ["check", "migrate", "meta inspect", "meta migrate"] {
        let text = help(verb, 110);
        for flag in flags {
            assert!(text.contains(flag), "{verb}: {flag}");
        }
        for short in ["-e, --etcd", "-r, --root-path"] {
            assert!(text.contains(short), "{verb}: {short}");
        }
        assert!(!text.contains("--etcd-password <"), "{verb}");
    }
    let old = [
        "--etcd",
        "http://127.0.0.1:1",
        "--user",
        "a",
        "--cacert",
        "/not/there",
    ];
    let (code, _, stderr) = run(guard().args(["meta", "inspect"]).args(old));
    assert!(
        code == 2 && stderr.contains("--etcd-password-file"),
        "{stderr}"
    );
    let (code, _, stderr) = run(guard().args([
        "check",
        "--before",
        BEFORE,
        "--after",
        AFTER,
        "--etcd-user",
        "a",
    ]));
    assert!(
        code == 2 && stderr.contains("--etcd-user needs --etcd"),
        "{stderr}"
    );
    let (code, _, stderr) = run(guard().args([
        "upgrade",
        "-i",
        "a",
        "-n",
        "b",
        "-t",
        "2.5.27",
        "--etcd-cacert",
        "ca.pem",
        "--dry-run",
    ]));
    assert!(code == 2 && stderr.contains("--etcd-secret"), "{stderr}");
}

/// A plan in Markdown had doubled full stops.
#[test]
fn no_sentence_ends_with_two_full_stops() {
    for format in ["markdown", "text"] {
        for to in ["2.2", "2.3", "2.4", "2.5", "2.6", "latest"] {
            let (code, text, stderr) =
                run(guard().args(["plan", "--from", "2.1.4", "--to", to, "--format", format]));
            assert_eq!(code, 0, "{stderr}");
            let doubled = text.replace("...", "").contains("..");
            assert!(!doubled, "{format} {to}: {text}");
        }
    }
}

/// The tool recommended a release that its own rule warns about, and `plan`, MG104 and the data
/// named different releases as the best of a minor version.
#[test]
fn the_recommended_release_of_a_minor_version_has_no_warning() {
    let (_, rows, _) = run(guard().args(["data", "show", "landing", "--format", "json"]));
    let rows: Value = serde_json::from_str(&rows).unwrap();
    for row in rows.as_array().unwrap() {
        let line = row["key"].as_str().unwrap();
        let from = if line == "2.0" { "2.0.0" } else { "2.1.0" };
        let (_, plan, stderr) =
            run(guard().args(["plan", "--from", from, "--to", line, "--format", "json"]));
        let plan: Value =
            serde_json::from_str(&plan).unwrap_or_else(|_| panic!("{line}: {stderr}"));
        let to = plan["to"].as_str().unwrap();
        let stops = plan["stops"].as_array().unwrap();
        for stop in stops {
            let warnings = stop["warnings"].to_string();
            assert!(!warnings.contains("; better "), "{line}: {warnings}");
        }
        let recommended = row["row"]["version"].as_str().unwrap();
        assert_eq!(
            to, recommended,
            "plan and data name another release of {line}"
        );
    }
}

/// The spinner erased the question before a change, and the terminal cut the plan. This test only
/// prints a table, on a real terminal of 60 columns.
#[test]
fn a_terminal_shows_colors_and_whole_words() {
    let mut command = guard();
    command
        .args(["rules", "list"])
        .env_remove("NO_COLOR")
        .env("COLUMNS", "60");
    let mut terminal = Terminal::start(&mut command);
    assert!(terminal.wait().success());
    terminal.expect("MG705");
    let screen = without_colors(&terminal.screen()).replace('\r', "");
    assert!(too_long(&screen, 60).is_empty(), "{screen}");
    assert!(
        terminal.screen().contains('\u{1b}'),
        "a terminal must get colors"
    );
}

/// Files that contain commands for users.
fn published() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders: Vec<_> = ["docs", "examples", "charts", "plugins", ".github"]
        .iter()
        .map(|folder| root.join(folder))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push((path.display().to_string(), text));
            }
        }
    }
    found.push((
        "README.md".into(),
        fs::read_to_string(root.join("README.md")).unwrap(),
    ));
    for verb in VERBS {
        found.push((format!("{verb} --help"), help(verb, 110)));
    }
    found
}

/// Target versions in a text.
fn targets(text: &str) -> BTreeSet<String> {
    let marks = [
        "-t ",
        "--to ",
        "--to=",
        "--target-version ",
        "--target-version=",
        "version:",
        "image.all.tag=v",
        "image.all.tag=",
        "targetVersion: ",
        "targetVersion: \"",
        "TARGET: ",
        "TARGET: \"",
        "tag: v",
        "value: v",
        "-w milvusdb/milvus:v",
    ];
    let mut found = BTreeSet::new();
    for mark in marks {
        for (at, _) in text.match_indices(mark) {
            let rest = &text[at + mark.len()..];
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(rest.len());
            let version = rest[..end].trim_end_matches('.');
            if version.split('.').count() == 3 {
                found.insert(version.to_owned());
            }
        }
    }
    found
}

/// Documentation, help and examples upgraded to releases that the product itself warns about.
#[test]
fn examples_upgrade_only_to_releases_without_known_defects() {
    let mut bad = BTreeSet::new();
    let mut seen = 0;
    for (name, text) in published() {
        if name.contains("docs/rules") || name.contains("/schemas/") || name.contains("performance")
        {
            continue;
        }
        for target in targets(&text) {
            seen += 1;
            let catalogue = milvus_guard_core::milvus::catalogue::Catalogue::embedded();
            let build = target.parse().unwrap();
            let situation = milvus_guard_core::milvus::catalogue::Situation::default();
            if let Some(row) = catalogue
                .bad_releases(&build, None, &situation, true)
                .next()
            {
                bad.insert(format!("{name}: {target}: {}", row.why));
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(seen > 15, "{seen} targets were found");
}

/// An audit of an empty file succeeded, with 41 ticks.
#[test]
fn an_audit_of_an_empty_file_fails() {
    let folder = tempfile::tempdir().unwrap();
    let empty = file(folder.path(), "empty.yaml", "");
    for format in ["text", "json", "junit", "markdown"] {
        let (code, stdout, _) =
            common::run(guard().args(["audit", "--before", &empty, "--format", format]));
        assert_eq!((code, &*stdout), (2, ""), "{format}");
    }
}
