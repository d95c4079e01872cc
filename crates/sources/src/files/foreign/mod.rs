//! Documents that are not manifests of the running state: what they are, and which command renders
//! manifests from them.
//!
//! | module | holds |
//! |---|---|
//! | `text` | texts without documents |
//! | `object` | objects of operators and deployers |
//! | `file` | files that are not objects |

mod file;
mod object;
mod text;

use std::fmt;

use milvus_guard_core::manifest::Tree;

pub(super) use text::of_text;

/// Largest length of a text that is quoted from a document (names, versions), in characters.
const MAX_WORD: usize = 100;

/// A document of another kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What it is, with its name.
    pub what: String,
    /// What to do instead, with the command if there is one.
    pub instead: String,
    /// Whether the document adds facts if the input also has workloads (Argo CD, Flux).
    pub is_used: bool,
}

impl Foreign {
    fn new(what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            instead: instead.into(),
            is_used: false,
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.what, self.instead)
    }
}

/// Describes a document of a kind that creates or configures Milvus' workloads; `None` for other
/// kinds.
pub(super) fn of_document(node: &Tree<'_>, path: &str) -> Option<Foreign> {
    let kind = node.text_at(&["kind"]);
    let api = node.text_at(&["apiVersion"]);
    match (api, kind) {
        (Some(api), Some(kind)) => object::of_object(node, api, kind, path),
        (_, None) => file::of_file(node, path),
        (None, Some(_)) => None,
    }
}

/// A text of a document or a path for a message or a command: truncated, without control
/// characters, and quoted if a shell needs it.
pub(super) fn shown(text: &str) -> String {
    let word: String = text
        .chars()
        .take(MAX_WORD)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._/:@%+=,-".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
