//! `audit`: checks the running releases against the rules.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use clap_complete::engine::ArgValueCompleter;
use jiff::Timestamp;

use milvus_guard_core::{
    audit::audit,
    evaluate::{Evaluation, Subject},
    milvus::{Snapshot, catalogue::Catalogue},
    policy::PolicySet,
    report::{Format, InputEntry, Output, Report, Show},
    text::count,
};
use milvus_guard_sources::files::Role;

use super::{
    completion,
    exit::{Done, Failure},
    gather::{self, ClusterArgs, Gathered, Gatherer, Source},
    judging::FailOn,
    output::{self, Screen},
    policies, runtime,
};

/// Arguments of `audit`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Current state: a file, a folder, - or live
    #[arg(long, value_name = "IN", default_value = "live")]
    before: Source,

    /// Check only the Milvus release with this name
    #[arg(short, long, value_name = "NAME", add = ArgValueCompleter::new(completion::releases))]
    instance: Option<String>,

    /// Namespace [default: of the kubeconfig's context]
    #[arg(
        short,
        long,
        value_name = "NAMESPACE",
        conflicts_with = "all_namespaces",
        add = ArgValueCompleter::new(completion::namespaces)
    )]
    namespace: Option<String>,

    /// All namespaces; needs the permission to list namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// Additional facts, as YAML or JSON (see docs/schemas/facts.json)
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,

    /// Policies and exceptions: a file or a folder; may be repeated
    #[arg(long, value_name = "FILE|DIR")]
    policy: Vec<PathBuf>,

    /// Ignore the policies and exceptions of the cluster
    #[arg(long)]
    no_cluster_policy: bool,

    /// Rows that add to or override the built-in data; may be repeated
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,

    /// Exit with code 1 at this verdict or worse
    #[arg(long, value_enum, default_value_t = FailOn::Deny)]
    fail_on: FailOn,

    /// Which results text and SARIF show (GitHub makes an alert of every SARIF result) [default:
    /// audit; text about several releases: only the table of releases]
    #[arg(long, value_enum)]
    show: Option<Show>,

    /// Form of the report; may be repeated as FORMAT=FILE
    #[arg(long, value_name = "FORMAT[=FILE]", value_parser = completion::OutputParser)]
    format: Vec<Output>,

    /// The time of the check, for exceptions (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    now: Option<Timestamp>,

    #[command(flatten)]
    cluster: ClusterArgs,
}

impl Args {
    /// How much a format shows. By default the text shows of several releases only their table.
    fn show(&self, format: Format, report: &Report) -> Show {
        let default = match (format, report.releases.as_slice()) {
            (Format::Text, [_, _, ..]) => Show::Releases,
            _ => Show::Audit,
        };
        self.show.unwrap_or(default)
    }
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    if matches!(args.before, Source::Version(_)) {
        return Err(Failure::usage(
            "audit checks the current state: a file, a folder, - or live",
        ));
    }
    let runtime = runtime::runtime()?;
    let facts = gather::facts(args.facts.as_ref())?;
    let own_data = gather::catalogue(&args.data)?;
    let catalogue = own_data.as_ref().unwrap_or_else(|| Catalogue::embedded());
    let now = args.now.unwrap_or_else(Timestamp::now);
    let mut policies = policies::set(policies::documents(&args.policy)?, now);
    let namespaces = if args.all_namespaces && args.before == Source::Live {
        gather::namespaces(&runtime, &args.cluster)?
            .into_iter()
            .map(Some)
            .collect()
    } else {
        vec![args.namespace.clone()]
    };
    let mut judged = Evaluation {
        subject: Subject::State,
        ..Evaluation::default()
    };
    let mut nothing = Nothing::default();
    let mut inputs = Vec::new();
    let mut last_runs = None;
    let mut asked = false;
    for namespace in namespaces {
        // The name is looked up here, so that the message can list the releases that do exist.
        let reader = Gatherer {
            runtime: &runtime,
            cluster: &args.cluster,
            namespace: namespace.as_deref(),
            instance: None,
        };
        let mut gathered = Gathered {
            facts: facts.clone(),
            ..Gathered::default()
        };
        let mut running = reader.state(&args.before, &mut gathered)?;
        nothing.saw(&running);
        if let Some(instance) = &args.instance {
            running.releases.retain(|release| release.name == *instance);
        }
        if args.before.needs_cluster() && !args.no_cluster_policy && !asked {
            let mut of_cluster = PolicySet::default();
            reader.cluster_policies(&mut of_cluster, &mut gathered)?;
            policies.extend(&of_cluster);
            asked = true;
        }
        if args.before.needs_cluster() && last_runs.is_none() {
            last_runs = Some(reader.last_runs()?);
        }
        for input in &gathered.inputs {
            nothing.read(&input.source);
        }
        if running.releases.is_empty() && args.all_namespaces {
            continue;
        }
        inputs.extend(gathered.inputs.into_iter().map(|input| {
            if input.role == Role::Before.name() {
                InputEntry {
                    role: "running".into(),
                    ..input
                }
            } else {
                input
            }
        }));
        judged
            .releases
            .extend(audit(&running, &gathered.facts, catalogue, &policies).releases);
    }
    if judged.releases.is_empty() {
        let message = nothing.message(args);
        return Err(if args.before.needs_cluster() {
            Failure::no_verdict(message)
        } else {
            Failure::usage(message)
        });
    }
    let mut report = Report::new(&judged, &policies, inputs);
    report.data = catalogue.as_of().map(|day| day.to_string());
    report.root = output::folder();
    report.add_last_runs(&last_runs.unwrap_or_default());
    output::report(
        &report,
        &args.format,
        |format| args.show(format, &report),
        screen,
    )?;
    Ok(args.fail_on.exit(report.verdict))
}

/// What was found if there was no release to judge.
#[derive(Default)]
struct Nothing {
    /// Milvus releases of another name.
    releases: Vec<String>,
    /// Other objects, if only one place was read.
    others: Option<String>,
    /// The places that were read.
    places: Vec<String>,
    namespaces: usize,
}

/// Releases that the message names.
const NAMED: usize = 10;

impl Nothing {
    fn saw(&mut self, running: &Snapshot) {
        self.namespaces += 1;
        self.releases.extend(
            running
                .releases
                .iter()
                .take(NAMED)
                .map(milvus_guard_core::milvus::Release::label),
        );
        self.others = running.others.describe();
    }

    fn read(&mut self, source: &str) {
        if !self.places.iter().any(|place| place == source) && self.places.len() < NAMED {
            self.places.push(source.to_owned());
        }
    }

    /// What is missing, what was found instead, and the next command.
    fn message(&self, args: &Args) -> String {
        let place = match (args.all_namespaces, self.places.first()) {
            (true, _) => format!("{} of the cluster", count(self.namespaces, "namespace")),
            (false, Some(place)) if place == "-" => "standard input".into(),
            (false, Some(place)) => place.clone(),
            (false, None) => "the input".into(),
        };
        let next = if args.before.needs_cluster() {
            "milvus-guard audit --all-namespaces"
        } else {
            "kubectl get deployment,statefulset,configmap,service,persistentvolumeclaim -n \
             NAMESPACE -o yaml | milvus-guard audit --before -"
        };
        let releases = self
            .releases
            .iter()
            .take(NAMED)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        match (&args.instance, &self.others) {
            (Some(instance), _) if !self.releases.is_empty() => {
                format!(
                    "{place}: no Milvus release '{instance}'; found: {releases}\nnext: the same command with -i and one of these names"
                )
            }
            _ if args.all_namespaces => {
                format!(
                    "{place}: no workload runs Milvus\nnext: milvus-guard audit --all-namespaces --context NAME, for another cluster"
                )
            }
            (_, Some(others)) => {
                format!("{place}: no workload runs Milvus; found: {others}\nnext: {next}")
            }
            (_, None) => {
                format!("{place}: it is empty, so no workload runs Milvus\nnext: {next}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use milvus_guard_core::rules::testing::Fixture;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn message(line: &[&str], saw: &[Snapshot], places: &[&str]) -> String {
        let args = Line::parse_from(std::iter::once(&"audit").chain(line)).args;
        let mut nothing = Nothing::default();
        for snapshot in saw {
            nothing.saw(snapshot);
        }
        for place in places {
            nothing.read(place);
        }
        nothing.message(&args)
    }

    fn without_milvus() -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (kind, name) in [
            ("Deployment", "attu"),
            ("StatefulSet", "db"),
            ("Deployment", "web"),
        ] {
            let object = milvus_guard_core::manifest::object::ObjectRef {
                kind: kind.into(),
                namespace: None,
                name: name.into(),
            };
            snapshot.others.add(&object);
        }
        snapshot
    }

    #[test]
    fn without_milvus_the_message_lists_other_objects_and_the_next_command() {
        let live = message(
            &["-n", "x"],
            &[without_milvus()],
            &["live, namespace x at https://c"],
        );
        assert_eq!(
            live,
            "live, namespace x at https://c: no workload runs Milvus; found: 2 Deployments (attu, web), 1 StatefulSet (db)\n\
             next: milvus-guard audit --all-namespaces"
        );
        let file = message(&["--before", "a.yaml"], &[without_milvus()], &["a.yaml"]);
        assert!(
            file.starts_with("a.yaml: no workload runs Milvus; found: 2 Deployments"),
            "{file}"
        );
        assert!(file.contains("\nnext: kubectl get "), "{file}");
        let empty = message(
            &["-n", "x"],
            &[Snapshot::default()],
            &["live, namespace x at https://c"],
        );
        assert!(
            empty.contains("it is empty") && empty.contains("next: "),
            "{empty}"
        );
        let everywhere = message(&["-A"], &[without_milvus(), Snapshot::default()], &[]);
        assert!(
            everywhere.starts_with("2 namespaces of the cluster: no workload runs Milvus"),
            "{everywhere}"
        );
        let other = message(
            &["-n", "milvus", "-i", "mine"],
            &[Fixture::cluster("2.5.27").snapshot()],
            &["live, namespace milvus"],
        );
        assert!(
            other.contains("no Milvus release 'mine'; found: milvus/my-release\nnext: "),
            "{other}"
        );
    }
}
