#![no_main]
//! Any bytes as the two inputs of a check, in every form that is read: manifests, what Helm prints, plans of Terraform, records,
//! patches, and what is refused with its name. The second input is laid over the first.

use libfuzzer_sys::fuzz_target;
use milvus_guard_sources::files::{
    Loaded, Reading, Role, encoding, load_text,
    part::{Choice, settle},
};

fn read(role: Role, bytes: &[u8]) -> Option<Loaded> {
    let text = encoding::decode(bytes.to_vec()).ok()?;
    match load_text(role, "fuzz", &text, &Reading::default()) {
        Ok(loaded) => Some(loaded),
        Err(error) => {
            // What a person reads: one that is written for any input.
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&[first, second], data)) = data.split_first_chunk() else { return };
    let (before, after) = data.split_at(usize::from(u16::from_be_bytes([first, second])).min(data.len()));
    let before = read(Role::Before, before).unwrap_or_default();
    for choice in [Choice::Seen, Choice::Whole, Choice::Part] {
        let Some(mut after) = read(Role::After, after) else { return };
        let _ = settle(&before, &mut after, choice);
    }
});
