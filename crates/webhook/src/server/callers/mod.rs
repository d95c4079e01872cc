//! Which callers are answered: those that know the secret in the webhook's path. The guard keeps
//! it in a Secret and registers it; every replica accepts the secrets in the Secret.
//!
//! If no replica answers, the API server's error contains the whole path, and the user who made
//! the change sees the secret. So a secret is valid for an hour only, and each new leader makes
//! another one.
//!
//! | module | holds |
//! |---|---|
//! | `tokens` | pure: the secrets in the Secret, and which is registered at what time |
//! | `accepted` | which of them are accepted, and so which callers are answered |
//! | `last_read` | how old the last reading of the Secret may be |
//! | `path_secret` | the Secret in the cluster: created, renewed, read |

mod accepted;
mod last_read;
mod path_secret;
#[cfg(test)]
mod testing;
mod tokens;

pub use accepted::{AcceptedSecrets, Callers};
pub use last_read::{LastRead, Stale};
pub use path_secret::{CallersError, PathSecret};
pub use tokens::{NoRandomness, Times, Tokens};
