//! Builds the programs of the test bed into the cache, so that no test has to wait for it.
//!
//! With `--node`, also those that only a node needs, if this machine can run one. With `--node-packages` it builds nothing and prints the Debian packages
//! that a node needs and this machine lacks.

use std::process::ExitCode;

use milvus_guard_testbed::{Bundle, Node};

fn main() -> ExitCode {
    let node = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--node") => {
            // Before the minutes that the build takes.
            if let Err(error) = Node::check() {
                eprintln!("test bed: {error}");
                return ExitCode::FAILURE;
            }
            true
        }
        Some("--node-packages") => {
            println!("{}", Node::missing_packages().join(" "));
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("test bed: {other} is neither --node nor --node-packages");
            return ExitCode::FAILURE;
        }
    };
    for bundle in Bundle::ALL.iter().chain(Bundle::NODE.iter().filter(|_| node)) {
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
