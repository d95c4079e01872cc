//! From text to Kubernetes objects, bounded in size, depth and expansion.
//!
//! [`yaml`] composes documents into [`Node`] trees (duplicate keys: the last one wins, as Helm and the API server
//! read them), [`object`] takes from a tree what the brain needs and drops the rest. Nothing here does I/O.

pub mod node;
pub mod object;
pub mod yaml;

pub use node::{Node, Tree};
pub use object::{Object, ObjectRef, Origin};
pub use yaml::{Document, ParseError, documents};
