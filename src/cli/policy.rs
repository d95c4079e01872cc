//! `policy lint` and `policy test`.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use jiff::Timestamp;
use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};
use serde::{Deserialize, Serialize};

use milvus_guard_core::{
    evaluate::{Evaluation, EvaluationInput, Verdict, judge},
    evidence::Facts,
    manifest::documents,
    milvus::{Snapshot, catalogue::Catalogue},
    policy::{
        Action, PolicySet,
        lint::{Severity, lint},
        read::read,
    },
    text::plain,
};
use milvus_guard_sources::files::{self, Loaded, Role, read_text_file};

use super::{
    exit::{Done, Exit, Failure},
    gather::{self, Source},
    output::{Screen, print},
    policies,
    structured::Structured,
};

/// Arguments of `policy`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    action: PolicyAction,
}

#[derive(Debug, Subcommand)]
enum PolicyAction {
    /// Check policies and exceptions: unknown rules, contradictions, expired exceptions
    Lint {
        /// Files or folders
        #[arg(required = true, value_name = "FILE|DIR")]
        paths: Vec<PathBuf>,

        /// How to print the result
        #[arg(long, value_enum, default_value_t = LintFormat::Text)]
        format: LintFormat,

        /// Exit with code 1 at this severity or worse
        #[arg(long, value_enum, default_value_t = LintFailOn::Error)]
        fail_on: LintFailOn,

        /// The time at which to check exceptions (RFC 3339) [default: now]
        #[arg(long, value_name = "TIME", hide_short_help = true)]
        now: Option<Timestamp>,
    },
    /// Test policies: check each case in a folder and compare the result with its expectation
    Test {
        /// Folders of cases
        #[arg(required = true, value_name = "DIR")]
        cases: Vec<PathBuf>,

        /// Policies and exceptions under test: a file or a folder; may be repeated
        #[arg(long, value_name = "FILE|DIR")]
        policy: Vec<PathBuf>,

        /// Rows that add to or override the built-in data; may be repeated
        #[arg(long, value_name = "FILE")]
        data: Vec<PathBuf>,

        /// How to print the result
        #[arg(long, value_enum, default_value_t = TestFormat::Text)]
        format: TestFormat,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LintFormat {
    /// For a person
    Text,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
    /// For annotations in GitHub Actions
    Github,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LintFailOn {
    /// Errors
    Error,
    /// Warnings too
    #[value(alias = "warn")]
    Warning,
    /// Nothing
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TestFormat {
    /// For a person
    Text,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
    /// For test reports of pipelines
    Junit,
}

pub(super) fn run(args: Args, screen: &Screen) -> Done {
    match args.action {
        PolicyAction::Lint {
            paths,
            format,
            fail_on,
            now,
        } => {
            let now = now.unwrap_or_else(Timestamp::now);
            run_lint(&paths, format, fail_on, now, screen)
        }
        PolicyAction::Test {
            cases,
            policy,
            data,
            format,
        } => run_test(&cases, &policy, &data, format, screen),
    }
}

#[derive(Serialize)]
struct LintEntry {
    severity: &'static str,
    source: String,
    document: u32,
    line: u32,
    message: String,
}

fn run_lint(
    paths: &[PathBuf],
    format: LintFormat,
    fail_on: LintFailOn,
    now: Timestamp,
    screen: &Screen,
) -> Done {
    let mut all = Vec::new();
    let mut entries = Vec::new();
    for path in paths {
        for file in policies::expand(path)? {
            let text = read_text_file(&file).map_err(Failure::usage)?;
            let (read, errors) = read(&text, &file.display().to_string());
            all.extend(read);
            entries.extend(errors.into_iter().map(|error| LintEntry {
                severity: "error",
                source: error.origin.source.to_string(),
                document: error.origin.document,
                line: error.origin.line,
                message: error.message,
            }));
        }
    }
    entries.extend(lint(&all, now).into_iter().map(|lint| LintEntry {
        severity: if lint.severity == Severity::Error {
            "error"
        } else {
            "warning"
        },
        source: lint.origin.source.to_string(),
        document: lint.origin.document,
        line: lint.origin.line,
        message: lint.message,
    }));
    entries.sort_by(|a, b| (&a.source, a.line).cmp(&(&b.source, b.line)));
    let count = |severity: &str| {
        entries
            .iter()
            .filter(|entry| entry.severity == severity)
            .count()
    };
    let (errors, warnings) = (count("error"), count("warning"));
    print(&match format {
        LintFormat::Json => Structured::Json.render(&entries)?,
        LintFormat::Yaml => Structured::Yaml.render(&entries)?,
        LintFormat::Github => entries
            .iter()
            .map(|entry| {
                let text = plain(&entry.message).replace('%', "%25");
                format!(
                    "::{} file={},line={},title=policy lint::{text}\n",
                    entry.severity,
                    github_property(&entry.source),
                    entry.line
                )
            })
            .collect(),
        LintFormat::Text => {
            let mut out: String = entries
                .iter()
                .map(|entry| {
                    format!(
                        "{}:{}: {}: {}\n",
                        plain(&entry.source),
                        entry.line,
                        entry.severity,
                        plain(&entry.message)
                    )
                })
                .collect();
            out += &format!(
                "{} documents checked: {errors} errors, {warnings} warnings\n",
                all.len()
            );
            screen.lines(&out)
        }
    })?;
    let failed = match fail_on {
        LintFailOn::Error => errors > 0,
        LintFailOn::Warning => errors + warnings > 0,
        LintFailOn::Never => false,
    };
    Ok(if failed { Exit::Found } else { Exit::Clean })
}

/// What a case expects.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expectation {
    verdict: Option<ExpectedVerdict>,
    #[serde(default)]
    findings: Vec<ExpectedFinding>,
    #[serde(default)]
    absent: Vec<String>,
    #[serde(default)]
    now: Option<Timestamp>,
    #[serde(default)]
    before: Option<String>,
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    rollback: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ExpectedVerdict {
    Allow,
    Warn,
    Deny,
}

impl ExpectedVerdict {
    const fn verdict(self) -> Verdict {
        match self {
            Self::Allow => Verdict::Allow,
            Self::Warn => Verdict::Warn,
            Self::Deny => Verdict::Deny,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExpectedFinding {
    rule: String,
    #[serde(default)]
    action: Option<Action>,
    #[serde(default)]
    component: Option<String>,
}

/// How a case came out.
#[derive(Serialize)]
struct Outcome {
    case: String,
    passed: bool,
    differences: Vec<String>,
}

fn run_test(
    cases: &[PathBuf],
    policy: &[PathBuf],
    data: &[PathBuf],
    format: TestFormat,
    screen: &Screen,
) -> Done {
    let own_data = gather::catalogue(data)?;
    let catalogue = own_data.as_ref().unwrap_or_else(|| Catalogue::embedded());
    let documents = policies::documents(policy)?;
    let mut folders = Vec::new();
    for root in cases {
        find_cases(root, 8, &mut folders)?;
    }
    if folders.is_empty() {
        let shown = cases
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(", ");
        return Err(Failure::usage(format!(
            "no case below {shown}: a case is a folder with expect.yaml"
        )));
    }
    let mut outcomes = Vec::new();
    for folder in &folders {
        let expectation = expectation(folder)?;
        let set = policies::set(
            documents.clone(),
            expectation.now.unwrap_or_else(Timestamp::now),
        );
        let differences = differences(
            &expectation,
            &judge_case(folder, &expectation, &set, catalogue)?,
        );
        outcomes.push(Outcome {
            case: folder.display().to_string(),
            passed: differences.is_empty(),
            differences,
        });
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    print(&match format {
        TestFormat::Json => Structured::Json.render(&outcomes)?,
        TestFormat::Yaml => Structured::Yaml.render(&outcomes)?,
        TestFormat::Junit => junit(&outcomes),
        TestFormat::Text => {
            let mut out = String::new();
            for outcome in &outcomes {
                out += &format!(
                    "{} {}\n",
                    if outcome.passed { "ok  " } else { "FAIL" },
                    plain(&outcome.case)
                );
                for difference in &outcome.differences {
                    out += &format!("       {}\n", plain(difference));
                }
            }
            out += &format!(
                "{} cases passed, {failed} failed\n",
                outcomes.len() - failed
            );
            screen.lines(&out)
        }
    })?;
    Ok(if failed > 0 { Exit::Found } else { Exit::Clean })
}

fn find_cases(folder: &Path, depth: u8, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if named(folder, "expect").is_some() {
        found.push(folder.to_owned());
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).map_err(|error| {
        Failure::usage(format!(
            "cannot read {}: {}",
            folder.display(),
            error.kind()
        ))
    })?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    for inner in folders.iter().filter(|_| depth > 0) {
        find_cases(inner, depth - 1, found)?;
    }
    Ok(())
}

/// A file or folder of a case.
fn named(folder: &Path, name: &str) -> Option<PathBuf> {
    ["yaml", "yml", "json"]
        .iter()
        .map(|extension| folder.join(format!("{name}.{extension}")))
        .find(|path| path.is_file())
        .or_else(|| Some(folder.join(name)).filter(|path| path.is_dir()))
}

fn expectation(folder: &Path) -> Result<Expectation, Failure> {
    let path = named(folder, "expect")
        .ok_or_else(|| Failure::usage(format!("{} has no expect.yaml", folder.display())))?;
    let text = read_text_file(&path).map_err(Failure::usage)?;
    let name = path.display();
    let Some(document) = documents(&text).next() else {
        return Err(Failure::usage(format!("{name} is empty")));
    };
    let document = document.map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    serde_path_to_error::deserialize(document.root.to_json())
        .map_err(|error| Failure::usage(format!("{name}: {}: {}", error.path(), error.inner())))
}

fn judge_case(
    folder: &Path,
    expectation: &Expectation,
    policies: &PolicySet,
    catalogue: &Catalogue,
) -> Result<Evaluation, Failure> {
    let mut facts: Facts = gather::facts(named(folder, "facts").as_ref())?;
    let after = expectation
        .after
        .as_ref()
        .map(|after| after.parse::<Source>())
        .transpose()
        .map_err(Failure::usage)?;
    let load = |role: Role, path: &Path, keep: Vec<(String, String)>| -> Result<Loaded, Failure> {
        let how = files::Reading {
            namespace: expectation.namespace.as_deref(),
            keep,
        };
        files::load(role, &path.display().to_string(), &how).map_err(Failure::usage)
    };
    let wanted = match &after {
        Some(Source::Version(_)) => None,
        Some(Source::File(name)) => Some(folder.join(name)),
        Some(_) => {
            return Err(Failure::usage(format!(
                "{}: a case cannot read a cluster",
                folder.display()
            )));
        }
        None => {
            let none = || Failure::usage(format!("{} has no after.yaml", folder.display()));
            Some(named(folder, "after").ok_or_else(none)?)
        }
    };
    let mut wanted = wanted
        .map(|path| Ok((load(Role::After, &path, Vec::new())?, path)))
        .transpose()?;
    let patches = wanted
        .as_ref()
        .map(|(loaded, _)| loaded.content.patches())
        .unwrap_or_default();
    let holds_milvus = |snapshot: &Snapshot, path: &Path| {
        let no_milvus = || Failure::usage(format!("{} does not contain Milvus", path.display()));
        snapshot.releases.first().map(|_| ()).ok_or_else(no_milvus)
    };
    let running = expectation
        .before
        .as_ref()
        .map(|name| folder.join(name))
        .or_else(|| named(folder, "before"));
    let before = if let Some(path) = running {
        let loaded = load(Role::Before, &path, patches)?;
        holds_milvus(&loaded.snapshot, &path)?;
        if let Some((wanted, _)) = &mut wanted {
            files::part::settle(&loaded, wanted, files::part::Choice::Seen)
                .map_err(Failure::usage)?;
        }
        Some(loaded.snapshot)
    } else {
        if let Some((wanted, _)) = &mut wanted {
            wanted.snapshot = wanted.content.builder().build();
        }
        None
    };
    if let Some(before) = &before {
        files::evidence::complete(before, &mut facts);
    }
    let after = match (after, wanted) {
        (_, Some((loaded, path))) => {
            holds_milvus(&loaded.snapshot, &path)?;
            loaded.snapshot
        }
        (Some(Source::Version(wanted)), None) => {
            let Some(running) = &before else {
                return Err(Failure::usage(format!(
                    "{}: after: version:... needs a before.yaml",
                    folder.display()
                )));
            };
            gather::at_version(running, &wanted, catalogue)?.0
        }
        (_, None) => {
            return Err(Failure::usage(format!(
                "{} has no after.yaml",
                folder.display()
            )));
        }
    };
    Ok(judge(&EvaluationInput {
        before: before.as_ref(),
        after: &after,
        facts: &facts,
        catalogue,
        policies,
        is_rollback: expectation.rollback,
        deletes: None,
        accepted: &[],
        overdue: None,
    }))
}

fn differences(expectation: &Expectation, judgement: &Evaluation) -> Vec<String> {
    let mut differences = Vec::new();
    let findings: Vec<_> = judgement
        .releases
        .iter()
        .flat_map(|release| &release.findings)
        .filter(|judged| !judged.finding.not_evaluated)
        .filter_map(|judged| judged.action().map(|action| (judged, action)))
        .collect();
    if let Some(expected) = expectation
        .verdict
        .map(ExpectedVerdict::verdict)
        .filter(|expected| *expected != judgement.verdict())
    {
        // What could not be evaluated may be the only reason of a warning.
        let why = judgement
            .releases
            .iter()
            .flat_map(|release| &release.findings)
            .filter(|judged| judged.action() >= Some(Action::Warn))
            .map(|judged| format!("{}: {}", judged.finding.rule.id, judged.finding.message))
            .collect::<Vec<_>>()
            .join("; ");
        differences.push(
            format!(
                "verdict is {:?}, expected {expected:?} ({why})",
                judgement.verdict()
            )
            .to_lowercase(),
        );
    }
    for expected in &expectation.findings {
        let fits = findings.iter().any(|(judged, action)| {
            judged.finding.rule.id.eq_ignore_ascii_case(&expected.rule)
                && expected.action.is_none_or(|expected| expected == *action)
                && expected.component.as_ref().is_none_or(|name| {
                    judged
                        .finding
                        .component
                        .is_some_and(|component| component.name() == name)
                })
        });
        if !fits {
            let seen: Vec<String> = findings
                .iter()
                .filter(|(judged, _)| judged.finding.rule.id.eq_ignore_ascii_case(&expected.rule))
                .map(|(judged, action)| {
                    format!("{action:?}: {}", judged.finding.message).to_lowercase()
                })
                .collect();
            let seen = if seen.is_empty() {
                "no finding of this rule".to_owned()
            } else {
                seen.join("; ")
            };
            let action = expected.action.map_or(String::new(), |action| {
                format!(" with {action:?}").to_lowercase()
            });
            differences.push(format!(
                "{}{action} was not found (found: {seen})",
                expected.rule
            ));
        }
    }
    for absent in &expectation.absent {
        if let Some((judged, action)) = findings
            .iter()
            .find(|(judged, _)| judged.finding.rule.id.eq_ignore_ascii_case(absent))
        {
            differences.push(format!(
                "{absent} was found ({action:?}: {})",
                judged.finding.message
            ));
        }
    }
    differences
}

fn junit(outcomes: &[Outcome]) -> String {
    let mut suite = TestSuite::new("policy");
    for outcome in outcomes {
        let status = if outcome.passed {
            TestCaseStatus::success()
        } else {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(plain(&outcome.differences.join("; ")));
            status
        };
        suite.add_test_case(TestCase::new(plain(&outcome.case), status));
    }
    let mut report = Junit::new("milvus-guard policy test");
    report.add_test_suite(suite);
    report.to_string().unwrap_or_default() + "\n"
}

/// A property of a workflow command of GitHub.
fn github_property(text: &str) -> String {
    plain(text)
        .replace('%', "%25")
        .replace(':', "%3A")
        .replace(',', "%2C")
}
