//! Builds the programs of the test bed into the cache, so that no test has to wait for a build.
//!
//! With `--node`, also those that only a node needs, if this machine can run one. With
//! `--node-packages` it builds nothing and prints the Debian packages that `make test-node` needs
//! and that are not installed. With `--milvus`, only etcd and Milvus. With `--roll`, everything
//! that a distributed Milvus on a node needs.

use std::process::ExitCode;

use milvus_guard_testbed::{Bundle, MilvusCluster, Node, Postgres};

fn main() -> ExitCode {
    let bundles = match std::env::args().nth(1).as_deref() {
        None => Bundle::ALL.to_vec(),
        Some("--node") => {
            // Checked before the build, which takes minutes.
            if let Err(error) = Node::check().and_then(|()| Postgres::check()) {
                eprintln!("test bed: {error}");
                return ExitCode::FAILURE;
            }
            [&Bundle::ALL[..], &Bundle::NODE].concat()
        }
        Some("--roll") => {
            if let Err(error) = MilvusCluster::check() {
                eprintln!("test bed: {error}");
                return ExitCode::FAILURE;
            }
            [
                &Bundle::ALL[..],
                &Bundle::NODE,
                &[Bundle::Milvus],
                &Bundle::ROLL,
            ]
            .concat()
        }
        Some("--milvus") => vec![Bundle::Etcd, Bundle::Milvus],
        Some("--node-packages") => {
            let mut missing = Node::missing_packages();
            missing.extend(Postgres::missing_package());
            println!("{}", missing.join(" "));
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("test bed: {other} is none of --node, --node-packages, --milvus and --roll");
            return ExitCode::FAILURE;
        }
    };
    for bundle in bundles {
        match bundle.try_dir() {
            Ok(dir) => println!("{}", dir.display()),
            Err(error) => {
                eprintln!("test bed: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
