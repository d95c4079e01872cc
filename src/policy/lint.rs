//! placeholder until merge
use crate::{manifest::Origin, policy::PolicyDocument};
/// s
#[derive(PartialEq)]
pub enum Severity {
    /// e
    Error,
    /// w
    Warning,
}
/// l
pub struct Lint {
    /// s
    pub severity: Severity,
    /// o
    pub origin: Origin,
    /// m
    pub message: String,
}
/// l
pub fn lint(_: &[PolicyDocument], _: jiff::Timestamp) -> Vec<Lint> {
    Vec::new()
}
