#![no_main]
//! Any text as the manifests of both sides of a change, judged to the end.

use libfuzzer_sys::fuzz_target;
use milvus_guard_core::{evidence::Facts, evaluate::{EvaluationInput, judge}, milvus::{Snapshot, catalogue::Catalogue}, policy::PolicySet};
use milvus_guard_sources::files::{Role, objects::Collector};

fn read(text: &str) -> Option<Snapshot> {
    let mut collector = Collector::new(Role::After, Some("milvus"));
    collector.add_text(text, "fuzz").ok()?;
    collector.finish("fuzz").ok().map(|(snapshot, _)| snapshot)
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (before, after) = text.split_at(middle);
    let Some(after) = read(after) else { return };
    let before = read(before);
    let _ = judge(&EvaluationInput {
        before: before.as_ref(),
        after: &after,
        facts: &Facts::default(),
        catalogue: Catalogue::embedded(),
        policies: &PolicySet::default(),
        is_rollback: false,
        deletes: None,
        accepted: &[],
        overdue: None,
    });
});
