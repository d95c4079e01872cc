//! Which values the templates of a chart read, as their text says.

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
                    match text.as_bytes().get(at + name.len()) {
                        Some(b'.') => is_whole,
                        Some(byte) => !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'-'),
                        None => true,
                    }
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

/// Bytes of templates that are searched. Those of Milvus' chart are about 200 KiB.
const MAX_TEMPLATES: usize = 4 * 1024 * 1024;

/// Templates of a chart, those of sub-charts not counted. Milvus' chart has about sixty.
const MAX_TEMPLATE_FILES: usize = 5_000;
