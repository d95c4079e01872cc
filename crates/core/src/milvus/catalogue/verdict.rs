//! How strict a row of the data is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a table says of a case.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Worth knowing.
    Info,
    /// Fine.
    Allow,
    /// Risky.
    Warn,
    /// Unsafe.
    Deny,
}
