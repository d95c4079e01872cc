//! A plan that is not carried out.

use serde_json::Value;

/// What a run would do, and what speaks against it.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// The plan for people; several lines.
    pub text: String,
    /// The plan for programs.
    pub json: Value,
    /// What the rules warn about.
    pub warnings: Vec<String>,
    /// Why the run would be refused; empty if nothing is known that would refuse it.
    pub refusals: Vec<String>,
}
