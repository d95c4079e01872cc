//! The `milvus-guard` binary: parse, log, dispatch.

#![forbid(unsafe_code)]

/// Reviews are read into many small texts and dropped at once; the system's allocator takes a sixth
/// of the time for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    milvus_guard::cli::run().into()
}
