//! The baseline of `benches/process.sh`: a process that only parses files with the same YAML library.
#![allow(missing_docs, reason = "an example")]

use granit_parser::Parser;

fn main() {
    let mut events = 0_u64;
    for path in std::env::args().skip(1) {
        match std::fs::read_to_string(&path) {
            Ok(text) => events += Parser::new_from_str(&text).map_while(Result::ok).count() as u64,
            Err(error) => eprintln!("{path}: {error}"),
        }
    }
    println!("{events}");
}
