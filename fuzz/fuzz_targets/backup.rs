#![no_main]
//! Any bytes as a backup of either form. One that is read must be written back the same.

use libfuzzer_sys::fuzz_target;
use milvus_guard_metadata::model::backup::{Form, read, write};

fuzz_target!(|data: &[u8]| {
    let Ok(backup) = read(data) else { return };
    for form in [Form::Own, Form::Official] {
        let mut file = Vec::new();
        if write(&backup.dump, None, form, &mut file).is_ok() {
            assert_eq!(read(&*file).map(|again| again.dump.records().len()).ok(), Some(backup.dump.records().len()));
        }
    }
});
