//! `ping`: whether the API server reaches the webhook.

use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::time::Instant;

use milvus_guard_core::project::DOCUMENTATION;
use milvus_guard_sources::kubernetes::{Cluster, ClusterError, ping::Pong};

use super::{
    duration::duration,
    exit::{Done, Exit, Failure},
    gather::{ClusterArgs, namespace},
    output::{Screen, print},
    runtime,
};

/// Time between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `ping`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Namespace of the dry run [default: of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// How long to try
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    timeout: Duration,

    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let namespace = namespace(&args.cluster, args.namespace.as_deref())?;
    runtime::runtime()?.block_on(async {
        let cluster = Cluster::connect(&args.cluster.access())
            .await
            .map_err(Failure::no_verdict)?;
        let until = Instant::now() + args.timeout;
        // The result if the time ends before the next answer.
        let mut last = Err(ClusterError::Unreachable {
            server: cluster.server().to_owned(),
            reason: "no answer in time".into(),
        });
        while let Ok(answer) = tokio::time::timeout_at(until, cluster.ping_guard(&namespace)).await
        {
            last = answer;
            if !may_change(&last) || Instant::now() + PAUSE >= until {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        told(last, screen)
    })
}

/// Whether another attempt may succeed, for example soon after an installation.
fn may_change(last: &Result<Pong, ClusterError>) -> bool {
    match last {
        Ok(Pong::Answers) => false,
        Ok(Pong::NotInstalled | Pong::NotAsked | Pong::NotReached(_)) => true,
        Err(error) => matches!(
            error,
            ClusterError::Unreachable { .. } | ClusterError::NotFound(_)
        ),
    }
}

fn told(last: Result<Pong, ClusterError>, screen: &Screen) -> Done {
    match last.map_err(Failure::no_verdict)? {
        Pong::Answers => {
            print("milvus-guard answers the API server.\n")?;
            Ok(Exit::Clean)
        }
        Pong::NotInstalled => {
            screen.error(
                "milvus-guard is not installed in this cluster: the API server does not know the \
                 kind UpgradeRun",
            );
            Ok(Exit::NoVerdict)
        }
        Pong::NotAsked => {
            screen.error(
                "the API server allowed what only the guard may write: the guard is not \
                 registered, or it did not answer and its failure policy is Ignore",
            );
            Ok(Exit::Found)
        }
        Pong::NotReached(reason) => {
            screen.error(&format!(
                "the API server does not reach milvus-guard: {reason}\nPrivate clusters need a \
                 port or the network of the node: {DOCUMENTATION}/webhook.md#private-clusters"
            ));
            Ok(Exit::Found)
        }
    }
}
