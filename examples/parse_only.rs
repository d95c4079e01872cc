//! The baseline of `benches/process.sh`: a process that only parses files, with the library that
//! `check` reads YAML with.
#![allow(missing_docs, reason = "an example")]

use std::{env, fs, io};

use granit_parser::Parser;

fn main() -> io::Result<()> {
    let mut events = 0;
    for path in env::args().skip(1) {
        let text = fs::read_to_string(path)?;
        events += Parser::new_from_str(&text).map_while(Result::ok).count();
    }
    println!("{events}");
    Ok(())
}
