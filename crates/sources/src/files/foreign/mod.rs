//! Documents that are read but are not the running state: what they are, and which command makes
//! manifests of them.
//!
//! | module | holds |
//! |---|---|
//! | `text` | texts that do not hold documents |
//! | `object` | objects of operators and deployers |
//! | `file` | files that are not objects |

mod file;
mod object;
mod text;

use std::fmt;

use milvus_guard_core::manifest::Tree;

pub(super) use text::of_text;

/// Texts that are quoted from a document (names, versions) are cut here.
const MAX_WORD: usize = 100;

/// A document of another kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What it is, with its name.
    pub what: String,
    /// What to do instead, with the command where there is one.
    pub instead: String,
    /// Whether the document adds facts where workloads stand next to it (Argo CD, Flux).
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

/// What a document is, where it is of a kind that brings forth Milvus' workloads or configures
/// them.
pub(super) fn of_document(node: &Tree<'_>, path: &str) -> Option<Foreign> {
    let kind = node.text_at(&["kind"]);
    let api = node.text_at(&["apiVersion"]);
    match (api, kind) {
        (Some(api), Some(kind)) => object::of_object(node, api, kind, path),
        (_, None) => file::of_file(node, path),
        (None, Some(_)) => None,
    }
}

/// A word of a document or a path as a message and a command show it: cut, without control
/// characters, and quoted where a shell would read more than a word in it.
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
