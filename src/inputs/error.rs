//! What can be wrong with an input, in words for the person who named it.

use crate::manifest::ParseError;

/// An input that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The file system says no.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// Path as the user named it.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// A directory without anything to read.
    #[error("{path} holds no .yaml, .yml or .json file")]
    EmptyDirectory {
        /// Path as the user named it.
        path: String,
    },
    /// A chart where manifests were expected.
    #[error(
        "{path} is a Helm chart, not rendered manifests; render it first: helm template RELEASE {path} -n NAMESPACE | milvus-guard check --after -"
    )]
    Chart {
        /// Path as the user named it.
        path: String,
    },
    /// Bytes that are no text.
    #[error("{path} is not text (byte {position} is not valid UTF-8); expected YAML or JSON")]
    Binary {
        /// File.
        path: String,
        /// First byte that is no text.
        position: usize,
    },
    /// More than is read.
    #[error("{path} is larger than {limit} MiB")]
    TooLarge {
        /// File.
        path: String,
        /// Limit.
        limit: u64,
    },
    /// Text that is no YAML.
    #[error("{path}: {error}")]
    Parse {
        /// File.
        path: String,
        /// What is wrong where.
        error: ParseError,
    },
    /// One of Helm's records that cannot be unpacked.
    #[error("{path}: document {document}, line {line}: {object}: {reason}")]
    Record {
        /// File.
        path: String,
        /// Document.
        document: u32,
        /// Line.
        line: u32,
        /// Object.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// Nothing that is a Kubernetes object.
    #[error("{path} holds no Kubernetes object")]
    NoObjects {
        /// Input.
        path: String,
    },
}
