//! Which values the templates of a chart read, by their text.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::READ_BY_TEMPLATES;
use crate::helm::few::Few;

/// The chart's templates, taken out when they are first asked for.
pub(super) struct Templates<'a> {
    pub(super) raw: Option<&'a RawValue>,
    pub(super) texts: Option<Vec<String>>,
    /// Bytes that may still be searched.
    pub(super) left: usize,
}

#[derive(Deserialize)]
struct Template {
    #[serde(default)]
    data: String,
}

impl Templates<'_> {
    /// Whether a template names the value, something below it, or as a whole a map that holds it.
    /// `None` if that would take too long to find out.
    pub(super) fn read(&mut self, path: &str) -> Option<bool> {
        let begins = |known: &str| {
            path == known
                || path
                    .strip_prefix(known)
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        if READ_BY_TEMPLATES.iter().any(|known| begins(known)) {
            return Some(true);
        }
        let texts = self.texts.get_or_insert_with(|| Self::texts(self.raw));
        let size: usize = texts.iter().map(String::len).sum();
        let mut end = path.len();
        loop {
            let Some(part) = path.get(..end) else {
                return Some(false);
            };
            self.left = self.left.checked_sub(size)?;
            let name = format!(".Values.{part}");
            let is_whole = end == path.len();
            let named = texts.iter().any(|text| {
                text.match_indices(&name).any(|(at, _)| {
                    let ends = match text.as_bytes().get(at + name.len()) {
                        Some(b'.') => is_whole,
                        Some(byte) => !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'-'),
                        None => true,
                    };
                    ends && (is_whole || takes_below(text, at, path.get(end..).unwrap_or_default()))
                })
            });
            if named {
                return Some(true);
            }
            match part.rfind('.') {
                Some(dot) => end = dot,
                None => return Some(false),
            }
        }
    }

    fn texts(raw: Option<&RawValue>) -> Vec<String> {
        let Some(raw) = raw.filter(|raw| raw.get().len() <= MAX_TEMPLATES * 2) else {
            return Vec::new();
        };
        let templates: Few<Template, MAX_TEMPLATE_FILES> =
            serde_json::from_str(raw.get()).unwrap_or_default();
        let texts = templates
            .all()
            .into_iter()
            .flatten()
            .filter_map(|template| BASE64_STANDARD.decode(template.data).ok());
        let mut left = MAX_TEMPLATES;
        let within = |text: &Vec<u8>| {
            left = left.saturating_sub(text.len());
            left > 0
        };
        texts
            .take_while(within)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .collect()
    }
}

/// Whether the action that names a map at this position takes the value with this path below it. A
/// condition only asks whether the map is there, and of a variable only what its uses name counts.
fn takes_below(text: &str, at: usize, below: &str) -> bool {
    let Some(action) = text
        .get(..at)
        .and_then(|before| before.rsplit_once("{{"))
        .map(|(_, action)| action.trim_start_matches('-').trim_start())
    else {
        return true;
    };
    let mut words = action.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("if"), ..) | (Some("else"), Some("if"), _) => {
            ["toYaml", "include", "tpl", "toJson", ":="]
                .iter()
                .any(|word| action.contains(word))
        }
        (Some(variable), Some(":=" | "="), None) if is_variable(variable) => {
            is_used(text, variable, below)
        }
        _ => true,
    }
}

fn is_variable(word: &str) -> bool {
    word.strip_prefix('$').is_some_and(|name| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// Whether a template uses a variable as a whole, or the value below it.
fn is_used(text: &str, variable: &str, below: &str) -> bool {
    text.match_indices(variable).any(|(at, _)| {
        let rest = text.get(at + variable.len()..).unwrap_or_default();
        let is_set = || {
            let rest = rest.trim_start();
            rest.starts_with(":=") || rest.starts_with("= ")
        };
        match rest.bytes().next() {
            Some(b'.') => {
                let field = rest
                    .split(|letter: char| {
                        !letter.is_ascii_alphanumeric() && !matches!(letter, '.' | '_' | '-')
                    })
                    .next()
                    .unwrap_or_default();
                below == field
                    || below.starts_with(&format!("{field}."))
                    || field.starts_with(&format!("{below}."))
            }
            Some(byte) if byte.is_ascii_alphanumeric() || byte == b'_' => false,
            _ => !is_set() && takes_whole(text, at),
        }
    })
}

/// Whether the variable at this position is more than asked for in a condition.
fn takes_whole(text: &str, at: usize) -> bool {
    let action = text.get(..at).and_then(|before| before.rsplit_once("{{"));
    let first = action.and_then(|(_, action)| {
        let action = action.trim_start_matches('-');
        action.split_whitespace().next()
    });
    !matches!(first, Some("if" | "else"))
}

/// Bytes of templates that are searched. Those of Milvus' chart are about 200 KiB.
const MAX_TEMPLATES: usize = 4 * 1024 * 1024;

/// Templates of a chart, those of sub-charts not counted. Milvus' chart has about sixty.
const MAX_TEMPLATE_FILES: usize = 5_000;
