//! `plan`: the whole path from one version to another.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use milvus_guard_core::{
    evidence::Facts,
    milvus::{
        Build, Coordinators, Manager, Release, Topology,
        catalogue::{Catalogue, Situation, Wanted},
    },
    report::Show,
    upgrade_path::{self, Document, PathRequest},
};

use super::{
    check::version,
    completion,
    exit::{Done, Exit, Failure},
    gather::{self, ClusterArgs, Gatherer, Source},
    output::{Screen, print},
    runtime,
    structured::Structured,
};

/// Arguments of `plan`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Current version [default: read from --before or the cluster]
    #[arg(long, visible_alias = "source-version", short = 's', value_name = "VERSION", value_parser = version, add = ArgValueCompleter::new(completion::versions))]
    from: Option<Build>,

    /// Target version: a release (2.5.27), a line (2.5: its recommended release) or latest
    #[arg(long, visible_alias = "target-version", short = 't', value_name = "VERSION", add = ArgValueCompleter::new(completion::versions))]
    to: Wanted,

    /// Current state: a file, a directory, -, release:NAME or live
    #[arg(long, value_name = "IN", conflicts_with = "from")]
    before: Option<Source>,

    /// Release
    #[arg(short, long, value_name = "NAME", add = ArgValueCompleter::new(completion::releases))]
    instance: Option<String>,

    /// Namespace
    #[arg(short, long, value_name = "NAMESPACE", add = ArgValueCompleter::new(completion::namespaces))]
    namespace: Option<String>,

    /// Standalone or cluster [default: as running, else cluster]
    #[arg(long, value_enum)]
    topology: Option<TopologyArg>,

    /// Layout of the coordinators [default: as running, else as in the version's chart]
    #[arg(long, value_enum)]
    coordinators: Option<CoordinatorsArg>,

    /// Rows that add to or override the built-in data; may be repeated
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,

    /// How to print the plan
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    format: PlanFormat,

    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TopologyArg {
    Standalone,
    Cluster,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CoordinatorsArg {
    Separate,
    Mixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PlanFormat {
    /// For a person at a terminal
    Text,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
    /// A checklist with a diagram, for an issue or a pull request
    Markdown,
    /// One file for a change ticket: a lane for each component, and a line at the point of no
    /// return
    Html,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let own_data = gather::catalogue(&args.data)?;
    let catalogue = own_data.as_ref().unwrap_or_else(|| Catalogue::embedded());
    let journey = journey(args, catalogue, screen)?;
    let plan = upgrade_path::plan(&journey, catalogue);
    print(&match args.format {
        PlanFormat::Text => upgrade_path::text(&plan, &screen.style(Show::All)),
        PlanFormat::Json => Structured::Json.render(&plan.to_json())?,
        PlanFormat::Yaml => Structured::Yaml.render(&plan.to_json())?,
        PlanFormat::Markdown => Document::of(&plan).markdown(),
        PlanFormat::Html => Document::of(&plan).html(),
    })?;
    Ok(if plan.blocked.is_some() {
        Exit::Found
    } else {
        Exit::Clean
    })
}

fn journey(args: &Args, catalogue: &Catalogue, screen: &Screen) -> Result<PathRequest, Failure> {
    let running = match (&args.from, &args.before) {
        (Some(_), _) => None,
        (None, before) => Some(running(args, before.as_ref().unwrap_or(&Source::Live))?),
    };
    let from = match (&args.from, &running) {
        (Some(from), _) => from.clone(),
        (None, Some(release)) => release.lowest().ok_or_else(|| {
            Failure::usage(format!(
                "the version of release '{}' cannot be read from its images; give --from",
                release.name
            ))
        })?,
        (None, None) => return Err(Failure::usage("give --from, --before or -i")),
    };
    let situation = running.as_ref().map(Situation::of).unwrap_or_default();
    let to = catalogue
        .choose(&args.to, Some(&from), &situation)
        .map_err(Failure::usage)?;
    if !matches!(args.to, Wanted::Build(_)) {
        screen.note(&format!("{} means {to}, the recommended release", args.to));
    }
    let from_release = |pick: fn(&Release) -> Option<String>| {
        running
            .as_ref()
            .filter(|release| release.has_config())
            .and_then(pick)
    };
    Ok(PathRequest {
        release: args
            .instance
            .clone()
            .or_else(|| running.as_ref().map(|release| release.name.clone()))
            .unwrap_or_else(|| "my-release".into()),
        namespace: args
            .namespace
            .clone()
            .or_else(|| {
                running
                    .as_ref()
                    .and_then(|release| release.namespace.clone())
            })
            .unwrap_or_else(|| "default".into()),
        from,
        to,
        topology: match (args.topology, &running) {
            (Some(TopologyArg::Standalone), _) => Topology::Standalone,
            (None, Some(release)) => release.topology(),
            (Some(TopologyArg::Cluster) | None, _) => Topology::Cluster,
        },
        coordinators: match (args.coordinators, &running) {
            (Some(CoordinatorsArg::Separate), _) => Some(Coordinators::Separate),
            (Some(CoordinatorsArg::Mixed), _) => Some(Coordinators::Mixed),
            (None, Some(release)) => Some(release.coordinators()),
            (None, None) => None,
        },
        metastore: from_release(|release| Some(release.metadata().metastore.value.into_owned())),
        root_path: from_release(|release| Some(release.metadata().root_path.value.into_owned())),
        manager: running
            .as_ref()
            .map_or_else(Manager::plain_chart, |release| release.manager.clone()),
        queue: from_release(|release| Some(release.queue().kind.value.to_string())),
        woodpecker_storage: running
            .as_ref()
            .and_then(|release| Situation::of(release).woodpecker_storage),
    })
}

fn running(args: &Args, source: &Source) -> Result<Release, Failure> {
    let runtime = runtime::runtime()?;
    let gatherer = Gatherer {
        runtime: &runtime,
        cluster: &args.cluster,
        namespace: args.namespace.as_deref(),
        instance: args.instance.as_deref(),
    };
    let mut releases = gatherer.running(source, Facts::default())?.releases;
    if releases.len() == 1 {
        return Ok(releases.remove(0));
    }
    let names = gather::choices(&releases);
    Err(Failure::usage(format!(
        "several Milvus releases were found ({names}); choose one with -i"
    )))
}
