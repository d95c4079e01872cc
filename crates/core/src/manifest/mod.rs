//! From text to Kubernetes objects, bounded in size, depth and expansion.
//!
//! [`yaml`] composes documents into [`Node`] trees (duplicate keys: the last one wins, as Helm and
//! the API server read them), [`tape`] reads an API server's JSON without a tree, and [`object`]
//! takes from a [`view`] of either what the rules need and drops the rest. Nothing here does I/O.

pub mod budget;
pub mod node;
pub mod object;
pub mod quantity;
pub mod tape;
pub mod view;
pub mod weight;
pub mod yaml;

pub use budget::{Budget, Exceeded};
pub use node::{Node, Tree};
pub use object::{Object, ObjectRef, Origin};
pub use view::DocumentValue;
pub use yaml::{Document, ParseError, documents, documents_within};
