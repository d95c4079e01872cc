#![no_main]
//! Any text as what an earlier run recorded: the record of `verify`, and the answer to a search before an upgrade.

use libfuzzer_sys::fuzz_target;
use milvus_guard_core::{
    api::{SearchBefore, searches::Hit},
    verification::Record,
};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(record) = Record::read(text, "my-release", "milvus") {
        let again = Record::read(&record.text(), "my-release", "milvus").expect("it was written here");
        assert_eq!(again.text(), record.text());
        let _ = record.baseline();
    }
    if let Ok(before) = serde_json::from_str::<SearchBefore>(text) {
        let answers: [&[Hit]; 2] = [&[], &before.hits];
        for answer in answers {
            for limit in [0, 1, answer.len(), usize::MAX] {
                let _ = before.verdict(&before.compare(answer, limit));
            }
        }
    }
});
