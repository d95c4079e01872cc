//! The names of this project that others see. Its addresses stand in `Cargo.toml` only.

/// Name of the program, the image and the charts.
pub const NAME: &str = "milvus-guard";

/// Where the sources are (`repository` in `Cargo.toml`), without a slash at the end.
pub const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// Where the folder `docs` is published, without a slash at the end. A build for a mirror of the
/// pages sets the variable `MILVUS_GUARD_DOCS_URL`.
pub const DOCUMENTATION: &str = match option_env!("MILVUS_GUARD_DOCS_URL") {
    Some(url) => url,
    None => concat!(env!("CARGO_PKG_HOMEPAGE"), "/docs"),
};
