//! Command lines for a POSIX shell. Which command fits is not known here.

use std::fmt::Write as _;

/// A command line for a POSIX shell. Words come from manifests that anybody may have written, so
/// each is quoted where a shell would read more than the word. `None` if a word holds a control
/// character or looks like a flag where a name is meant.
#[must_use]
pub fn command(words: &[String]) -> Option<String> {
    let mut line = String::new();
    for (at, word) in words.iter().enumerate() {
        if word.is_empty() || word.chars().any(char::is_control) {
            return None;
        }
        if at > 0 {
            line.push(' ');
        }
        let safe = |c: char| c.is_ascii_alphanumeric() || "@%_+=:,./-".contains(c);
        if word.chars().all(safe) {
            line.push_str(word);
        } else {
            let _ = write!(line, "'{}'", word.replace('\'', r"'\''"));
        }
    }
    Some(line)
}
