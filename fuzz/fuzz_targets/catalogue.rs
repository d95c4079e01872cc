#![no_main]
//! Any text as custom data about Milvus releases (`--data`). What is read can be looked up.

use libfuzzer_sys::fuzz_target;
use milvus_guard_core::milvus::catalogue::Catalogue;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Catalogue::with("fuzz", text) {
        Ok(catalogue) => assert!(!catalogue.guarded_keys().is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
