//! The `milvus-guard` binary: parse, log, dispatch.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
