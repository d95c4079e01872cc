#![no_main]
//! Any text on a tape: where there is one, `serde_json` reads the same, and the same object is taken from both.

use libfuzzer_sys::fuzz_target;
use milvus_guard_core::manifest::{
    DocumentValue, Object, Origin, Tree,
    node::Kind,
    tape::{Tape, ValueRef},
};

fn same(at: ValueRef<'_, '_>, tree: &Tree<'_>) -> bool {
    match &tree.kind {
        Kind::Scalar { text, plain } => at.as_text().as_ref() == Some(text) && (at.is_null() || at.plain().is_some()) == *plain,
        Kind::Sequence(items) => at.items().count() == items.len() && at.items().zip(items).all(|(at, item)| same(at, item)),
        Kind::Mapping(entries) => {
            DocumentValue::is_mapping(at)
                && at.entries().all(|(key, _)| entries.iter().any(|(name, _)| *name == key))
                && entries.iter().all(|(key, value)| at.get(key).map_or_else(|| value.is_null(), |at| same(at, value)))
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let Some(tape) = Tape::read(text) else { return };
    let tree: Tree<'_> = serde_json::from_str(text).expect("whatever is on a tape is JSON");
    assert!(same(tape.root(), &tree));
    let origin = Origin { source: "fuzz".into(), document: 0, line: 0 };
    assert_eq!(Object::read(tape.root(), &origin, None), Object::read(&tree, &origin, None));
});
