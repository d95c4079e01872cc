//! The `milvus-guard` binary: parse, log, dispatch.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    milvus_guard::cli::run().into()
}
