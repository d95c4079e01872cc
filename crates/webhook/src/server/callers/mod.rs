//! Who may ask: anyone who knows the secret in the webhook's path. The guard makes it, keeps it in
//! a Secret, and writes it into the registration; every replica accepts what the Secret holds.
//!
//! The API server names the whole path in its own error where no replica answers, so anyone who
//! asks for a change then sees the secret. That is why it lives for an hour only, and why a replica
//! that takes the lead makes another one.
//!
//! | module | holds |
//! |---|---|
//! | `tokens` | pure: the secrets that the Secret holds, and which is registered when |
//! | `accepted` | which of them are accepted, and so who is answered |
//! | `last_read` | how old the last reading of the Secret may be |
//! | `path_secret` | the Secret in the cluster: made, renewed, followed |

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
