#![no_main]
//! Any bytes as the payload of a Helm release.

use libfuzzer_sys::fuzz_target;
use milvus_guard_core::{helm::codec::decode_payload, milvus::snapshot::Builder};

fuzz_target!(|data: &[u8]| {
    if let Ok(stored) = decode_payload(data) {
        let _ = stored.lay_into(&mut Builder::default());
    }
});
