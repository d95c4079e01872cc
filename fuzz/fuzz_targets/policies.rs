#![no_main]
//! Any text as policies, linted.

use libfuzzer_sys::fuzz_target;
use milvus_guard_core::policy::{lint::lint, read::read};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let (documents, _) = read(text, "fuzz");
        let _ = lint(&documents, "2026-05-10T00:00:00Z".parse().unwrap_or_default());
    }
});
