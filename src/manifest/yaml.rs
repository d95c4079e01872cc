//! Bounded composition of YAML (and so JSON) text into [`Node`] trees.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use granit_parser::{Event, Options, Parser, ScalarStyle};

use super::node::{Kind, Tree};

/// Nesting that a document may have. Real manifests stay below 20; 128 keeps recursion over the tree well inside a stack.
pub const MAX_DEPTH: usize = 128;
/// Values that aliases may add to one document. Charts use none; generated files a few hundred.
pub const MAX_ALIAS_NODES: usize = 100_000;
/// From this many keys on, duplicates are found with a hash set instead of a scan.
const SMALL_MAPPING: usize = 16;

/// One YAML document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document<'a> {
    /// Position in its stream, from 1; empty documents are counted, as an editor would count `---`.
    pub index: u32,
    /// The tree.
    pub root: Tree<'a>,
}

/// Text that could not be read, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("document {document}, line {line}: {message}")]
pub struct ParseError {
    /// Position of the document in its stream, from 1.
    pub document: u32,
    /// Line in the text, from 1.
    pub line: u32,
    /// What is wrong there.
    pub message: String,
}

/// Reads the documents of `text` one after the other, so that only one tree is in memory at a time.
///
/// # Errors
/// Each item is an error where the text is not YAML, nests deeper than [`MAX_DEPTH`], expands aliases beyond
/// [`MAX_ALIAS_NODES`] or refers to a value from inside itself. After an error the iterator ends.
pub fn documents(text: &str) -> impl Iterator<Item = Result<Document<'_>, ParseError>> {
    let mut options = Options::default();
    options.emit_comments = false;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    Composer { parser: Parser::new_from_str_with_options(text, options), index: 0, ended: false }
}

struct Composer<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    index: u32,
    ended: bool,
}

/// A collection that is still open while its children are read.
struct Open<'a> {
    node: Tree<'a>,
    anchor: usize,
    key: Option<Cow<'a, str>>,
    seen: Option<HashSet<Cow<'a, str>>>,
}

#[derive(Default)]
struct Anchors<'a> {
    done: HashMap<usize, (Tree<'a>, usize)>,
    expanded: usize,
}

impl<'a> Iterator for Composer<'a> {
    type Item = Result<Document<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.compose() {
            Ok(Some(document)) => Some(Ok(document)),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

impl<'a> Composer<'a> {
    fn error(&self, line: u32, message: impl Into<String>) -> ParseError {
        ParseError { document: self.index.max(1), line, message: message.into() }
    }

    /// Reads one document that holds anything.
    fn compose(&mut self) -> Result<Option<Document<'a>>, ParseError> {
        let mut stack: Vec<Open<'a>> = Vec::new();
        let mut anchors = Anchors::default();
        let mut root = None;
        while let Some(event) = self.parser.next_event() {
            let (event, span) = event.map_err(|error| {
                let line = u32::try_from(error.marker().line()).unwrap_or(u32::MAX);
                self.error(line, error.info())
            })?;
            let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
            let (node, anchor) = match event {
                Event::DocumentStart(..) => {
                    self.index += 1;
                    continue;
                }
                Event::DocumentEnd => {
                    if let Some(root) = root.take().filter(|root: &Tree<'_>| !root.is_null()) {
                        return Ok(Some(Document { index: self.index, root }));
                    }
                    anchors = Anchors::default();
                    continue;
                }
                Event::Scalar(text, style, anchor, _) => {
                    (Tree { line, kind: Kind::Scalar { text, plain: style == ScalarStyle::Plain } }, anchor)
                }
                Event::Alias(id) => (self.expand(id, line, &stack, &mut anchors)?, 0),
                Event::SequenceStart(_, anchor, _) => {
                    self.open(&mut stack, anchor, Tree { line, kind: Kind::Sequence(Vec::new()) })?;
                    continue;
                }
                Event::MappingStart(_, anchor, _) => {
                    self.open(&mut stack, anchor, Tree { line, kind: Kind::Mapping(Vec::new()) })?;
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                    Some(open) => (open.node, open.anchor),
                    None => continue,
                },
                _ => continue,
            };
            if anchor != 0 {
                anchors.done.insert(anchor, (node.clone(), size(&node)));
            }
            match stack.last_mut() {
                Some(parent) => parent.add(node),
                None => root = Some(node),
            }
        }
        Ok(None)
    }

    fn open(&self, stack: &mut Vec<Open<'a>>, anchor: usize, node: Tree<'a>) -> Result<(), ParseError> {
        if stack.len() >= MAX_DEPTH {
            return Err(self.error(node.line, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        stack.push(Open { node, anchor, key: None, seen: None });
        Ok(())
    }

    fn expand(&self, id: usize, line: u32, stack: &[Open<'a>], anchors: &mut Anchors<'a>) -> Result<Tree<'a>, ParseError> {
        if stack.iter().any(|open| open.anchor == id) {
            return Err(self.error(line, "an alias refers to a value that contains it (cyclic anchor)"));
        }
        let Some((node, size)) = anchors.done.get(&id) else {
            return Err(self.error(line, "an alias refers to an anchor that is not defined before it"));
        };
        anchors.expanded += size;
        if anchors.expanded > MAX_ALIAS_NODES {
            return Err(self.error(line, format!("aliases expand to more than {MAX_ALIAS_NODES} values")));
        }
        Ok(node.clone())
    }
}

impl<'a> Open<'a> {
    fn add(&mut self, node: Tree<'a>) {
        match &mut self.node.kind {
            Kind::Sequence(items) => items.push(node),
            Kind::Mapping(entries) => match self.key.take() {
                None => self.key = Some(key_text(node)),
                Some(key) => {
                    if entries.len() == SMALL_MAPPING {
                        self.seen = Some(entries.iter().map(|(key, _)| key.clone()).collect());
                    }
                    let duplicate = match &mut self.seen {
                        Some(seen) => !seen.insert(key.clone()),
                        None => entries.iter().any(|(name, _)| *name == key),
                    };
                    if duplicate {
                        entries.retain(|(name, _)| *name != key);
                    }
                    entries.push((key, node));
                }
            },
            Kind::Scalar { .. } => {}
        }
    }
}

/// Keys that are not scalars have no meaning in a manifest; they are kept under a text that no rule asks for.
fn key_text(node: Tree<'_>) -> Cow<'_, str> {
    match node.kind {
        Kind::Scalar { text, .. } => text,
        Kind::Sequence(_) | Kind::Mapping(_) => "?".into(),
    }
}

fn size(node: &Tree<'_>) -> usize {
    1 + match &node.kind {
        Kind::Scalar { .. } => 0,
        Kind::Sequence(items) => items.iter().map(size).sum(),
        Kind::Mapping(entries) => entries.iter().map(|(_, node)| size(node)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Node;

    fn one(text: &str) -> Node {
        documents(text).next().expect("a document").expect("valid").root.into_owned()
    }

    #[test]
    fn last_duplicate_wins() {
        let node = one("a: 1\nb: 2\na: 3\n");
        assert_eq!(node.get("a").and_then(Tree::as_i64), Some(3));
        assert_eq!(node.entries().count(), 2);
        let many = (0..40).map(|i| format!("k{i}: {i}\n")).collect::<String>() + "k7: last\n";
        assert_eq!(one(&many).text_at(&["k7"]), Some("last"));
        assert_eq!(one(&many).entries().count(), 40);
    }

    #[test]
    fn documents_and_lines_are_counted() {
        let all: Vec<_> = documents("# head\n---\n---\nkind: A\n---\n\nkind: B\nspec:\n  x: 1\n").map(Result::unwrap).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].index, all[0].root.line), (2, 4));
        assert_eq!((all[1].index, all[1].root.at(&["spec", "x"]).unwrap().line), (3, 9));
    }

    #[test]
    fn truncated_text_names_its_line() {
        let error = documents("a: 1\n---\nb: {c: 1,\n").find_map(Result::err).expect("an error");
        assert_eq!(error.document, 2);
        assert!(error.line >= 3, "{error}");
    }

    #[test]
    fn alias_bombs_and_cycles_end_early() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", ")));
        }
        let error = documents(&bomb).find_map(Result::err).expect("refused");
        assert!(error.message.contains("aliases expand"), "{error}");
        let error = documents("a: &a\n  b: *a\n").find_map(Result::err).expect("refused");
        assert!(error.message.contains("cyclic"), "{error}");
    }

    #[test]
    fn depth_is_bounded() {
        let error = documents(&"[".repeat(100_000)).find_map(Result::err).expect("refused");
        assert_eq!(error.line, 1);
    }

    #[test]
    fn json_is_yaml() {
        let node = one("{\"a\": {\"b\": [1, true, null, \"x\"]}}");
        assert_eq!(node.to_json(), serde_json::json!({"a": {"b": [1, true, null, "x"]}}));
    }
}
