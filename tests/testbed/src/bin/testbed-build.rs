//! Builds all programs of the test bed into the cache, so that no test has to wait for it.

use std::process::ExitCode;

use milvus_guard_testbed::Bundle;

fn main() -> ExitCode {
    for bundle in Bundle::ALL {
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
