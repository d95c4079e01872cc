//! `audit`: what would the rules say of what already runs?

use std::path::PathBuf;

use clap::Args as ClapArgs;
use jiff::Timestamp;

use crate::{
    audit::audit,
    milvus::catalogue::Catalogue,
    policy::PolicySet,
    report::{Output, Report, Show},
};

use super::{
    check::FailOn,
    exit::{Done, Failure},
    gather::{self, ClusterArgs, Gathered, Gatherer, Source},
    output::{self, Screen},
    policies,
};

/// Arguments of `audit`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  milvus-guard audit -n milvus
  milvus-guard audit --all-namespaces --format json
  milvus-guard audit --before running.yaml

Exit codes: 0 nothing at or above --fail-on, 1 something, 2 wrong usage or unreadable input, 3 no verdict could be formed.")]
pub(super) struct Args {
    /// What runs: a file, a folder, - or live
    #[arg(long, value_name = "IN", default_value = "live")]
    before: Source,

    /// Judge only the Milvus release of this name
    #[arg(short, long, value_name = "NAME")]
    instance: Option<String>,

    /// Namespace [default: of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    namespace: Option<String>,

    /// Every namespace that this account may read
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// What else is known, as YAML or JSON (see docs/schemas/facts.json)
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,

    /// Policies and exceptions: a file or a folder; may be repeated
    #[arg(long, value_name = "FILE|DIR")]
    policy: Vec<PathBuf>,

    /// Leave out the policies and exceptions of the cluster
    #[arg(long)]
    no_cluster_policy: bool,

    /// From which verdict on to end with exit code 1
    #[arg(long, value_enum, default_value_t = FailOn::Deny)]
    fail_on: FailOn,

    /// How much the text shows
    #[arg(long, value_enum, default_value_t = Show::Audit)]
    show: Show,

    /// text, json, yaml, markdown, junit, sarif or github; may be repeated as FORMAT=FILE
    #[arg(long, value_name = "FORMAT[=FILE]")]
    format: Vec<Output>,

    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    if matches!(args.before, Source::Version(_)) {
        return Err(Failure::usage("audit judges what runs: a file, a folder, - or live"));
    }
    let runtime = gather::runtime()?;
    let facts = gather::facts(args.facts.as_ref())?;
    let now = Timestamp::now();
    let mut policies = policies::set(policies::documents(&args.policy)?, now);
    let namespaces = if args.all_namespaces && args.before == Source::Live {
        gather::namespaces(&runtime, &args.cluster)?.into_iter().map(Some).collect()
    } else {
        vec![args.namespace.clone()]
    };
    let mut judged = crate::judge::Judgement { releases: Vec::new() };
    let mut inputs = Vec::new();
    let mut asked = false;
    for namespace in namespaces {
        let instance = args.instance.as_deref();
        let reader = Gatherer { runtime: &runtime, cluster: &args.cluster, namespace: namespace.as_deref(), instance };
        let mut gathered = Gathered { facts: facts.clone(), ..Gathered::default() };
        let running = reader.state(&args.before, &mut gathered)?;
        if args.before.needs_cluster() && !args.no_cluster_policy && !asked {
            let mut of_cluster = PolicySet::default();
            reader.cluster_policies(&mut of_cluster, &mut gathered)?;
            policies.policies.extend(of_cluster.policies);
            policies.exceptions.extend(of_cluster.exceptions);
            asked = true;
        }
        if running.releases.is_empty() && args.all_namespaces {
            continue;
        }
        inputs.append(&mut gathered.inputs);
        judged.releases.extend(audit(&running, &gathered.facts, Catalogue::embedded(), &policies).releases);
    }
    if judged.releases.is_empty() && args.before != Source::Live {
        return Err(Failure::usage("the input holds no Milvus: no workload runs 'milvus run', or has a Milvus image"));
    }
    let report = Report::new(&judged, &policies, inputs);
    output::report(&report, &args.format, args.show, screen)?;
    Ok(args.fail_on.exit(report.verdict))
}
