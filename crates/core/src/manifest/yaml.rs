//! Bounded composition of YAML (and so JSON) text into [`Node`] trees.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, hash_map::Entry},
};

use granit_parser::{Event, Options, Parser, ScalarStyle};

use super::{
    budget::{Budget, Exceeded, MAX_DOCUMENT_BYTES, MAX_VALUES},
    node::{Kind, Tree},
};

/// Nesting that a document may have. Real manifests stay below 20; 128 keeps recursion over the
/// tree well inside a stack.
pub const MAX_DEPTH: usize = 128;
/// Values that aliases may add to one document. Charts use none; generated files a few hundred.
pub const MAX_ALIAS_NODES: usize = 100_000;
/// Values that are copied because an anchor or an alias names them, in one document.
pub const MAX_COPIED_NODES: usize = 1_000_000;
/// Bytes of text that anchors and aliases may copy in one document.
pub const MAX_COPIED_BYTES: usize = 64 * 1024 * 1024;
/// From this many keys on, duplicates are found with a hash map instead of a scan.
const SMALL_MAPPING: usize = 16;
/// The key whose value is merged into the mapping that holds it (YAML 1.1, <https://yaml.org/type/merge.html>).
const MERGE_KEY: &str = "<<";

/// One YAML document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document<'a> {
    /// Position in its stream, from 1; empty documents are counted, as an editor would count
    /// `---`.
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
    /// The budget that the text does not keep, if that is what is wrong.
    pub exceeded: Option<Exceeded>,
}

impl ParseError {
    /// A text that holds too much as a whole.
    #[must_use]
    pub fn too_much(exceeded: Exceeded) -> Self {
        Self {
            document: 1,
            line: 1,
            message: exceeded.to_string(),
            exceeded: Some(exceeded),
        }
    }
}

/// Reads the documents of `text` one after the other, so that only one tree is in memory at a time.
///
/// # Errors
/// Each item is an error where the text is not YAML, nests deeper than [`MAX_DEPTH`] (aliases
/// followed), expands aliases beyond [`MAX_ALIAS_NODES`], copies more than [`MAX_COPIED_BYTES`],
/// refers to a value from inside itself, or merges (`<<`) what is not a mapping or a list of
/// mappings. After an error the iterator ends.
pub fn documents(text: &str) -> impl Iterator<Item = Result<Document<'_>, ParseError>> {
    composer(text, None)
}

/// The same, where no more is built than the budget allows: [`MAX_VALUES`] values and
/// [`MAX_DOCUMENT_BYTES`] in each document, and in all what is left of the budget.
///
/// # Errors
/// As [`documents`], and where a budget is exceeded.
pub fn documents_within<'a>(
    text: &'a str,
    budget: &'a Budget<'a>,
) -> impl Iterator<Item = Result<Document<'a>, ParseError>> {
    composer(text, Some(budget))
}

fn composer<'a>(text: &'a str, budget: Option<&'a Budget<'a>>) -> Composer<'a> {
    let mut options = Options::default();
    options.emit_comments = false;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    // The text of a scalar that is copied is never longer than what it is written with, so the
    // whole text bounds them all.
    let too_long = budget.is_some() && text.len() > MAX_DOCUMENT_BYTES;
    Composer {
        parser: Parser::new_from_str_with_options(text, options),
        index: 0,
        ended: false,
        budget,
        too_long,
        values: 0,
    }
}

struct Composer<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    index: u32,
    ended: bool,
    budget: Option<&'a Budget<'a>>,
    /// Whether the text is longer than the budget allows.
    too_long: bool,
    /// Values of the current document.
    values: usize,
}

/// A collection that is still open while its children are read.
struct Open<'a> {
    node: Tree<'a>,
    anchor: usize,
    key: Option<Key<'a>>,
    /// The position of each key, for large mappings.
    seen: Option<HashMap<Cow<'a, str>, usize>>,
    /// What `<<` names, in the order of precedence.
    merged: Vec<Tree<'a>>,
}

/// A key that waits for its value.
enum Key<'a> {
    Plain(Cow<'a, str>),
    Merge,
}

/// How much a value costs to copy.
#[derive(Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

impl Weight {
    fn of(node: &Tree<'_>) -> Self {
        let scalar = |text: &str| Self {
            nodes: 1,
            bytes: text.len(),
            depth: 1,
        };
        let around = |inner: Self, child: Self| Self {
            nodes: inner.nodes + child.nodes,
            bytes: inner.bytes + child.bytes,
            depth: inner.depth.max(child.depth + 1),
        };
        match &node.kind {
            Kind::Scalar { text, .. } => scalar(text),
            Kind::Sequence(items) => items.iter().map(Self::of).fold(scalar(""), around),
            Kind::Mapping(entries) => entries
                .iter()
                .map(|(key, node)| {
                    let value = Self::of(node);
                    Self {
                        bytes: value.bytes + key.len(),
                        ..value
                    }
                })
                .fold(scalar(""), around),
        }
    }
}

/// The anchors of one document, and how much of their bounds is used up.
#[derive(Default)]
struct Anchors<'a> {
    done: HashMap<usize, (Tree<'a>, Weight)>,
    expanded: usize,
    copied: Weight,
}

impl Anchors<'_> {
    /// Counts a copy. The message names the bound that it breaks.
    fn charge(&mut self, weight: Weight, max_bytes: usize) -> Result<(), String> {
        self.copied.nodes += weight.nodes;
        self.copied.bytes += weight.bytes;
        if self.copied.nodes > MAX_COPIED_NODES {
            return Err(format!(
                "anchors and aliases expand to more than {MAX_COPIED_NODES} values"
            ));
        }
        if self.copied.bytes > max_bytes {
            return Err(format!(
                "anchors and aliases expand to more than {} MiB of text",
                max_bytes / 1024 / 1024
            ));
        }
        Ok(())
    }
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
        ParseError {
            document: self.index.max(1),
            line,
            message: message.into(),
            exceeded: None,
        }
    }

    fn exceeded(&self, line: u32, exceeded: Exceeded) -> ParseError {
        ParseError {
            exceeded: Some(exceeded),
            ..self.error(line, exceeded.to_string())
        }
    }

    /// Bytes that anchors and aliases may copy in the current document.
    const fn copied_bytes(&self) -> usize {
        if self.budget.is_some() {
            MAX_DOCUMENT_BYTES
        } else {
            MAX_COPIED_BYTES
        }
    }

    /// Counts values of the current document.
    fn count(&mut self, values: usize, line: u32) -> Result<(), ParseError> {
        let Some(budget) = self.budget else {
            return Ok(());
        };
        self.values += values;
        let within = if self.values > MAX_VALUES {
            Err(Exceeded::Values(MAX_VALUES))
        } else {
            budget.values(values)
        };
        within.map_err(|exceeded| self.exceeded(line, exceeded))
    }

    /// Reads one document that holds anything.
    fn compose(&mut self) -> Result<Option<Document<'a>>, ParseError> {
        let mut stack: Vec<Open<'a>> = Vec::new();
        let mut anchors = Anchors::default();
        let mut root = None;
        if self.too_long {
            return Err(self.exceeded(1, Exceeded::Document(MAX_DOCUMENT_BYTES)));
        }
        while let Some(event) = self.parser.next_event() {
            let (event, span) = event.map_err(|error| {
                let line = u32::try_from(error.marker().line()).unwrap_or(u32::MAX);
                self.error(line, error.info())
            })?;
            let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
            self.count(1, line)?;
            let (node, anchor) = match event {
                Event::DocumentStart(..) => {
                    self.index += 1;
                    self.values = 0;
                    continue;
                }
                Event::DocumentEnd => {
                    if let Some(root) = root.take().filter(|root: &Tree<'_>| !root.is_null()) {
                        return Ok(Some(Document {
                            index: self.index,
                            root,
                        }));
                    }
                    anchors = Anchors::default();
                    continue;
                }
                Event::Scalar(text, style, anchor, _) => (
                    Tree {
                        line,
                        kind: Kind::Scalar {
                            text,
                            plain: style == ScalarStyle::Plain,
                        },
                    },
                    anchor,
                ),
                Event::Alias(id) => (self.expand(id, line, &stack, &mut anchors)?, 0),
                Event::SequenceStart(_, anchor, _) => {
                    self.open(
                        &mut stack,
                        anchor,
                        Tree {
                            line,
                            kind: Kind::Sequence(Vec::new()),
                        },
                    )?;
                    continue;
                }
                Event::MappingStart(_, anchor, _) => {
                    self.open(
                        &mut stack,
                        anchor,
                        Tree {
                            line,
                            kind: Kind::Mapping(Vec::new()),
                        },
                    )?;
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                    Some(open) => open.close(),
                    None => continue,
                },
                _ => continue,
            };
            if anchor != 0 {
                let weight = Weight::of(&node);
                self.count(weight.nodes, line)?;
                anchors
                    .charge(weight, self.copied_bytes())
                    .map_err(|message| self.error(line, message))?;
                anchors.done.insert(anchor, (node.clone(), weight));
            }
            match stack.last_mut() {
                Some(parent) => parent
                    .add(node)
                    .map_err(|message| self.error(line, message))?,
                None => root = Some(node),
            }
        }
        Ok(None)
    }

    fn open(
        &self,
        stack: &mut Vec<Open<'a>>,
        anchor: usize,
        node: Tree<'a>,
    ) -> Result<(), ParseError> {
        if stack.len() >= MAX_DEPTH {
            return Err(self.error(node.line, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        stack.push(Open {
            node,
            anchor,
            key: None,
            seen: None,
            merged: Vec::new(),
        });
        Ok(())
    }

    fn expand(
        &mut self,
        id: usize,
        line: u32,
        stack: &[Open<'a>],
        anchors: &mut Anchors<'a>,
    ) -> Result<Tree<'a>, ParseError> {
        if stack.iter().any(|open| open.anchor == id) {
            return Err(self.error(
                line,
                "an alias refers to a value that contains it (cyclic anchor)",
            ));
        }
        let Some(weight) = anchors.done.get(&id).map(|(_, weight)| *weight) else {
            return Err(self.error(
                line,
                "an alias refers to an anchor that is not defined before it",
            ));
        };
        if stack.len() + weight.depth > MAX_DEPTH {
            return Err(self.error(line, format!("aliases nest deeper than {MAX_DEPTH} levels")));
        }
        anchors.expanded += weight.nodes;
        if anchors.expanded > MAX_ALIAS_NODES {
            return Err(self.error(
                line,
                format!("aliases expand to more than {MAX_ALIAS_NODES} values"),
            ));
        }
        self.count(weight.nodes, line)?;
        anchors
            .charge(weight, self.copied_bytes())
            .map_err(|message| self.error(line, message))?;
        match anchors.done.get(&id) {
            Some((node, _)) => Ok(node.clone()),
            None => Err(self.error(
                line,
                "an alias refers to an anchor that is not defined before it",
            )),
        }
    }
}

impl<'a> Open<'a> {
    fn add(&mut self, node: Tree<'a>) -> Result<(), String> {
        let entries = match &mut self.node.kind {
            Kind::Sequence(items) => {
                items.push(node);
                return Ok(());
            }
            Kind::Mapping(entries) => entries,
            Kind::Scalar { .. } => return Ok(()),
        };
        match self.key.take() {
            None => self.key = Some(Key::of(node)),
            Some(Key::Merge) => self.merged.extend(mappings(node)?),
            Some(Key::Plain(key)) => {
                let known = if entries.len() < SMALL_MAPPING {
                    entries.iter().position(|(name, _)| *name == key)
                } else {
                    let index = || {
                        entries
                            .iter()
                            .enumerate()
                            .map(|(at, (name, _))| (name.clone(), at))
                            .collect()
                    };
                    match self.seen.get_or_insert_with(index).entry(key.clone()) {
                        Entry::Occupied(known) => Some(*known.get()),
                        Entry::Vacant(free) => {
                            free.insert(entries.len());
                            None
                        }
                    }
                };
                match known {
                    Some(at) => entries[at].1 = node,
                    None => entries.push((key, node)),
                }
            }
        }
        Ok(())
    }

    /// The finished value and its anchor. What `<<` names comes after the mapping's own keys: own
    /// keys win, then what was named first.
    fn close(mut self) -> (Tree<'a>, usize) {
        if !self.merged.is_empty()
            && let Kind::Mapping(entries) = &mut self.node.kind
        {
            let mut known: HashSet<Cow<'a, str>> =
                entries.iter().map(|(key, _)| key.clone()).collect();
            for merged in self.merged {
                let Kind::Mapping(more) = merged.kind else {
                    continue;
                };
                entries.extend(
                    more.into_iter()
                        .filter(|(key, _)| known.insert(key.clone())),
                );
            }
        }
        (self.node, self.anchor)
    }
}

impl<'a> Key<'a> {
    /// Keys that are not scalars have no meaning in a manifest; they are kept under a text that no
    /// rule asks for. A quoted `<<` is a key like any other.
    fn of(node: Tree<'a>) -> Self {
        match node.kind {
            Kind::Scalar { text, plain: true } if text == MERGE_KEY => Self::Merge,
            Kind::Scalar { text, .. } => Self::Plain(text),
            Kind::Sequence(_) | Kind::Mapping(_) => Self::Plain("?".into()),
        }
    }
}

/// The mappings that a merge key may name: one, or a list of them.
fn mappings(node: Tree<'_>) -> Result<Vec<Tree<'_>>, String> {
    let all = match node.kind {
        Kind::Mapping(_) => return Ok(vec![node]),
        Kind::Sequence(items) => items,
        Kind::Scalar { .. } => Vec::new(),
    };
    if all.is_empty() || !all.iter().all(Tree::is_mapping) {
        return Err("a merge key (<<) takes a mapping or a list of mappings".to_owned());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Node;

    fn one(text: &str) -> Node {
        documents(text)
            .next()
            .expect("a document")
            .expect("valid")
            .root
            .into_owned()
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
        let all: Vec<_> = documents("# head\n---\n---\nkind: A\n---\n\nkind: B\nspec:\n  x: 1\n")
            .map(Result::unwrap)
            .collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].index, all[0].root.line), (2, 4));
        assert_eq!(
            (all[1].index, all[1].root.at(&["spec", "x"]).unwrap().line),
            (3, 9)
        );
    }

    #[test]
    fn truncated_text_names_its_line() {
        let error = documents("a: 1\n---\nb: {c: 1,\n")
            .find_map(Result::err)
            .expect("an error");
        assert_eq!(error.document, 2);
        assert!(error.line >= 3, "{error}");
    }

    #[test]
    fn alias_bombs_and_cycles_end_early() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            bomb.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                vec![format!("*a{}", level - 1); 10].join(", ")
            ));
        }
        let error = documents(&bomb).find_map(Result::err).expect("refused");
        assert!(error.message.contains("aliases expand"), "{error}");
        let error = documents("a: &a\n  b: *a\n")
            .find_map(Result::err)
            .expect("refused");
        assert!(error.message.contains("cyclic"), "{error}");
    }

    #[test]
    fn what_is_merged_gives_way_to_own_keys_and_to_what_was_named_first() {
        let text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\n";
        let merged = |use_: &str| {
            one(&format!("{text}z: {use_}\n"))
                .get("z")
                .cloned()
                .expect("z")
                .to_json()
        };
        assert_eq!(
            merged("{<<: *x, c: 3}"),
            serde_json::json!({"c": 3, "a": 1, "b": 1})
        );
        assert_eq!(
            merged("{b: 3, <<: *x}"),
            serde_json::json!({"b": 3, "a": 1}),
            "own keys win wherever they stand"
        );
        assert_eq!(
            merged("{<<: *x, b: 3}"),
            serde_json::json!({"b": 3, "a": 1})
        );
        assert_eq!(
            merged("{<<: [*x, *y]}"),
            serde_json::json!({"a": 1, "b": 1, "c": 2})
        );
        assert_eq!(
            merged("{<<: [*y, *x]}"),
            serde_json::json!({"b": 2, "c": 2, "a": 1})
        );
        assert_eq!(
            merged("{<<: [{q: 1}, *x]}"),
            serde_json::json!({"q": 1, "a": 1, "b": 1})
        );
        assert_eq!(
            merged("{<<: *x, <<: *y}"),
            serde_json::json!({"a": 1, "b": 1, "c": 2}),
            "two merge keys are a list"
        );
        assert_eq!(
            merged("{\"<<\": 1}"),
            serde_json::json!({"<<": 1}),
            "a quoted key is a key"
        );
        let chained = one("a: &a {k: 1, l: 1}\nb: &b {<<: *a, k: 2}\nc: {<<: *b}\n");
        assert_eq!(
            chained.get("c").expect("c").to_json(),
            serde_json::json!({"k": 2, "l": 1})
        );
        let all: String = (0..40).map(|i| format!("k{i}: {i}, ")).collect();
        let many = one(&format!("a: &a {{{all}}}\nb: {{<<: *a, k3: own}}\n"));
        assert_eq!(
            (
                many.text_at(&["b", "k3"]),
                many.get("b").expect("b").entries().count()
            ),
            (Some("own"), 40)
        );
    }

    #[test]
    fn only_mappings_can_be_merged() {
        for wrong in [
            "a: {<<: 1}",
            "a: {<<: }",
            "a: {<<: []}",
            "a: {<<: [1]}",
            "b: &b [1]\na:\n  <<: *b",
        ] {
            let error = documents(wrong).find_map(Result::err).expect(wrong);
            assert!(error.message.contains("merge key"), "{error}");
        }
    }

    #[test]
    fn anchors_that_copy_much_text_end_early() {
        let long = "x".repeat(1024 * 1024);
        let aliases = "- *a\n".repeat(100);
        let error = documents(&format!("a: &a \"\\t{long}\"\nb:\n{aliases}"))
            .find_map(Result::err)
            .expect("refused");
        assert!(error.message.contains("MiB of text"), "{error}");
        let merges = "- {<<: *a}\n".repeat(100);
        let error = documents(&format!("a: &a {{k: \"\\t{long}\"}}\nb:\n{merges}"))
            .find_map(Result::err)
            .expect("refused");
        assert!(error.message.contains("MiB of text"), "{error}");
    }

    #[test]
    fn aliases_do_not_nest_deeper_than_the_text_may() {
        let (open, close) = ("[".repeat(60), "]".repeat(60));
        let text = format!("a: &a {open}1{close}\nb: &b {open}*a{close}\nc: {open}*b{close}\n");
        let error = documents(&text).find_map(Result::err).expect("refused");
        assert!(error.message.contains("deeper"), "{error}");
        assert!(
            documents(&format!("a: &a {open}1{close}\nb: {open}*a{close}\n"))
                .all(|document| document.is_ok())
        );
    }

    #[test]
    fn many_duplicates_take_no_square_of_time() {
        let mut text: String = (0..50_000).map(|i| format!("k{i}: 1\n")).collect();
        text.push_str(
            &(0..50_000)
                .map(|i| format!("k{i}: 2\n"))
                .collect::<String>(),
        );
        let node = one(&text);
        assert_eq!(
            (node.entries().count(), node.text_at(&["k7"])),
            (50_000, Some("2"))
        );
    }

    #[test]
    fn depth_is_bounded() {
        let error = documents(&"[".repeat(100_000))
            .find_map(Result::err)
            .expect("refused");
        assert_eq!(error.line, 1);
    }

    #[test]
    fn json_is_yaml() {
        let node = one("{\"a\": {\"b\": [1, true, null, \"x\"]}}");
        assert_eq!(
            node.to_json(),
            serde_json::json!({"a": {"b": [1, true, null, "x"]}})
        );
    }
}
