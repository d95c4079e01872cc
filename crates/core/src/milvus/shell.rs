//! What a shell runs of a text.

/// The lines of a text without the comments of a shell. One word of a command line is no script.
pub(super) fn code(text: &str) -> impl Iterator<Item = &str> {
    let is_script = text.contains(char::is_whitespace);
    // A line after a backslash is the rest of a word, where `#` is a letter.
    let mut continues = false;
    text.split('\n').map(move |line| {
        let whole = !is_script || continues;
        continues = line.ends_with('\\');
        if whole { line } else { without_comment(line) }
    })
}

/// A comment begins with `#` at the start of a word, outside of quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut begins_a_word = true;
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            (None, '#') if begins_a_word => return line.get(..at).unwrap_or(line),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(mark), _) if mark == letter => quote = None,
            _ => {}
        }
        begins_a_word = quote.is_none()
            && (letter.is_whitespace() || matches!(letter, ';' | '&' | '|' | '(' | ')'));
    }
    line
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::code;

    #[rstest]
    #[case("a b # c", &["a b "])]
    #[case("#a b\nc d", &["", "c d"])]
    #[case("a;#b c", &["a;"])]
    #[case("a b#c", &["a b#c"])]
    #[case("a '# b' # c", &["a '# b' "])]
    #[case("a \"it's # b\" c", &["a \"it's # b\" c"])]
    #[case("echo ${#a} b", &["echo ${#a} b"])]
    #[case("--color=#fff", &["--color=#fff"])]
    #[case("#fff", &["#fff"])]
    #[case("a=b\\\n#c; d e", &["a=b\\", "#c; d e"])]
    fn comments_are_not_run(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(code(text).collect::<Vec<_>>(), expected);
    }
}
