//! Errors about inputs, as messages for the user.

use milvus_guard_core::{manifest::ParseError, text::count};

use super::foreign::Foreign;

/// An input that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The file system refuses access.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// Path as the user named it.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// A directory without anything to read.
    #[error("{path} does not contain a .yaml, .yml or .json file")]
    EmptyDirectory {
        /// Path as the user named it.
        path: String,
    },
    /// A chart instead of manifests.
    #[error(
        "{path} is a Helm chart, not rendered manifests; render it first: helm template RELEASE \
         {path} -n NAMESPACE -f values.yaml | milvus-guard check --after -"
    )]
    Chart {
        /// Path as the user named it.
        path: String,
    },
    /// A kustomization instead of manifests: its patches are not objects.
    #[error(
        "{path} is a kustomization, not built manifests; build it first: kustomize build {path} | \
         milvus-guard check --after - (or: kubectl kustomize {path})"
    )]
    Kustomization {
        /// Path as the user named it.
        path: String,
    },
    /// A file in a packed format.
    #[error(
        "{path} is packed ({format}); expected YAML or JSON. Unpack it first; of a Terraform plan \
         give: terraform show -json {path}"
    )]
    Packed {
        /// File.
        path: String,
        /// Name of the format.
        format: &'static str,
    },
    /// Text in an unsupported encoding.
    #[error("{path} is {encoding} text; write it as UTF-8")]
    Encoding {
        /// File.
        path: String,
        /// Name of the encoding.
        encoding: &'static str,
    },
    /// A patch whose object was not read as a document.
    #[error(
        "{path}: {object} is a patch, not a whole object; build it first: kubectl kustomize \
         DIRECTORY, or give --before as a file or live"
    )]
    Patch {
        /// File.
        path: String,
        /// Object.
        object: String,
    },
    /// Documents of another kind, and nothing else.
    #[error(
        "{path} does not contain a Kubernetes object that runs Milvus: {}",
        list(found)
    )]
    Foreign {
        /// Input.
        path: String,
        /// What it contains instead.
        found: Vec<Foreign>,
    },
    /// The input is not valid UTF-8.
    #[error(
        "{path} is not text (byte {position} is not valid UTF-8); expected YAML or JSON in UTF-8 \
         or UTF-16"
    )]
    Binary {
        /// File.
        path: String,
        /// First byte that is not text.
        position: usize,
    },
    /// The input is too large.
    #[error("{path} is larger than {limit} MiB")]
    TooLarge {
        /// File.
        path: String,
        /// Limit.
        limit: u64,
    },
    /// Text that is not valid YAML.
    #[error("{path}: {error}")]
    Parse {
        /// File.
        path: String,
        /// The mistake and its place.
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
    /// No Kubernetes object.
    #[error("{path} does not contain a Kubernetes object")]
    NoObjects {
        /// Input.
        path: String,
    },
}

/// Documents of another kind that one message names.
const MAX_NAMED: usize = 5;

/// Describes the documents in one text; equal descriptions only once.
#[must_use]
pub fn list(found: &[Foreign]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for foreign in found {
        let text = foreign.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let more = texts.len().saturating_sub(MAX_NAMED);
    texts.truncate(MAX_NAMED);
    if more > 0 {
        texts.push(format!("{} of other kinds", count(more, "more document")));
    }
    texts.join(". ")
}
