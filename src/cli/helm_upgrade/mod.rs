//! A `helm upgrade`: its command line, what it renders, and whether the rules allow it. The verbs
//! of the Helm plugin and `milvus-guard upgrade` share it.
//!
//! | module | job |
//! |---|---|
//! | `target` | the cluster and the namespace that Helm's flags and variables name |
//! | `process` | runs Helm |
//! | `release` | judges what Helm rendered against the release in the cluster |
//! | `planned` | a `helm upgrade` that `milvus-guard upgrade` carries out in order |

mod planned;
pub(super) mod process;
pub(super) mod release;
pub(super) mod target;

pub(super) use planned::{PlannedUpgrade, Rendered, default_judging, leave_out_order};

use super::exit::Failure;

/// The end of a message if the upgrade was not made.
pub(super) const NOT_RUN: &str = "Helm was not run, nothing was changed.";

/// A failure before Helm was run, with a last line that states this.
pub(super) fn not_run(mut failure: Failure) -> Failure {
    failure.message = format!("{}\n{NOT_RUN}", failure.message.trim_end());
    failure
}
