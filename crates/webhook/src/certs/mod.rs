//! The server's certificate: where it comes from, how it is replaced without a restart.
//!
//! | module | holds |
//! |---|---|
//! | [`store`] | a certificate with its key, and the place from which TLS takes the current one |
//! | [`tls`] | the TLS settings of the server, and the name of a client |
//! | [`files`] | a pair in files, followed by content |
//! | [`authority`] | makes authorities and certificates; the clock is a parameter |
//! | [`rotation`] | pure: what to do next, from what there is |
//! | [`managed`] | the mode in which the guard makes and rotates its own certificate |
//! | [`error`] | what can be wrong, as messages for people |
//!
//! `certs/README.md` describes the modes for those who run the guard.

pub(crate) mod api;
pub mod authority;
pub mod error;
pub mod files;
pub mod managed;
mod registration;
pub mod rotation;
mod secret;
pub mod store;
pub mod tls;
mod x509;

pub use error::CertError;
pub use files::CertFiles;
pub use managed::Managed;
pub use store::{CertStore, Certificate, Reload, Status};
pub use tls::{client_name, server_config};

use std::time::Duration;

/// How often files and the Secret are looked at. A renewed certificate has days left when it is
/// replaced, so seconds do not matter; ten are soon enough for a person who waits, and cost
/// nothing.
pub const POLL: Duration = Duration::from_secs(10);
