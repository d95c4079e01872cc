//! Why something failed, in one line that may be printed anywhere.

use std::error::Error;

/// Characters of a reason that are shown. Longer ones are foreign text (a proxy's HTML page, a
/// stack trace).
const MAX_LENGTH: usize = 300;

/// An error and its causes, each once.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut current = Some(error);
    while let Some(error) = current {
        let text = error.to_string();
        // Many errors repeat their cause in their own text; the longer one contains both.
        if !text.is_empty() && !said.iter().any(|earlier| earlier.contains(&text)) {
            said.retain(|earlier| !text.contains(earlier.as_str()));
            said.push(text);
        }
        current = error.source();
    }
    line(&said.join(": "))
}

/// Text of a foreign system as one printable line of bounded length.
#[must_use]
pub fn line(text: &str) -> String {
    let mut words = String::new();
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    match words.char_indices().nth(MAX_LENGTH) {
        Some((cut, _)) => format!("{}...", &words[..cut]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not connect")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_joined() {
        assert_eq!(
            chain(&Outer(std::io::Error::other("connection refused"))),
            "could not connect: connection refused"
        );
    }

    #[test]
    fn foreign_text_becomes_one_bounded_line() {
        assert_eq!(line("a\n\x1b[31m b\t\u{0}c"), "a [31m b c");
        assert_eq!(line(&"x".repeat(1000)).chars().count(), MAX_LENGTH + 3);
    }
}
