//! Starts a control plane for manual tests, prints how to reach it, and runs it until standard
//! input ends (Enter or Ctrl-D).
//!
//! With the argument `all` it also has a controller manager and a scheduler; with `node` it is a
//! node that runs pods (root).

use std::time::Instant;
use std::{env, io};

use milvus_guard_testbed::{Access, ControlPlane, Node, Program};

fn main() -> io::Result<()> {
    let argument = env::args().nth(1).unwrap_or_default();
    let all = argument == "all";
    let begin = Instant::now();
    if argument == "node" {
        let node = Node::start();
        println!(
            "ready after {:.1} s: {}",
            begin.elapsed().as_secs_f64(),
            node.server()
        );
        println!("logs are next to {}", node.log_path().display());
        println!(
            "for a look inside: nsenter -t {} -m -n -p -u -i",
            node.init()
        );
        return keep(&node);
    }
    let cluster = ControlPlane::builder()
        .controller_manager(all)
        .scheduler(all)
        .start();
    println!(
        "ready after {:.1} s: {}",
        begin.elapsed().as_secs_f64(),
        cluster.server()
    );
    let etcd = cluster.etcd().daemon();
    for daemon in [
        Some(etcd),
        Some(cluster.api_server()),
        cluster.controller_manager(),
        cluster.scheduler(),
    ]
    .into_iter()
    .flatten()
    {
        println!(
            "{} runs as {} and logs to {}",
            daemon.name(),
            daemon.pid().unwrap_or_default(),
            daemon.log_path().display()
        );
    }
    println!("etcd answers at {}", cluster.etcd().endpoint());
    keep(&cluster)
}

fn keep(cluster: &Access) -> io::Result<()> {
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("kubectl is {}", Program::Kubectl.path().display());
    println!("Enter ends it.");
    io::stdin().read_line(&mut String::new()).map(|_| ())
}
