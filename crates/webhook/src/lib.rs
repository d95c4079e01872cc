//! The admission webhook around the gates of `milvus-guard-core`.
//!
//! | module | holds |
//! |---|---|
//! | [`server`] | connections, caches, leader, metrics |
//! | [`certs`] | the server's certificate: read, watched, made, rotated |

pub mod certs;
mod mounted;
pub mod server;
