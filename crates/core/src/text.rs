//! Text for people: counts, plurals, and text of others without what steers a terminal.

use std::fmt::Display;

/// A number with its noun, in the plural where the number is not one: "1 warning", "2 warnings".
#[must_use]
pub fn count<N: Copy + Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    if number == N::from(1) {
        format!("1 {noun}")
    } else {
        format!("{number} {}", plural(noun))
    }
}

/// The same as the subject of a sentence: "1 pod is", "2 pods are".
#[must_use]
pub fn count_is<N: Copy + Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let verb = if number == N::from(1) { "is" } else { "are" };
    format!("{} {verb}", count(number, noun))
}

/// The regular plural of an English noun, or of a Kubernetes kind: `Ingress` becomes `Ingresses`,
/// `NetworkPolicy` `NetworkPolicies`.
#[must_use]
pub fn plural(noun: &str) -> String {
    let before_y = noun
        .strip_suffix('y')
        .filter(|stem| !stem.ends_with(['a', 'e', 'i', 'o', 'u']));
    match before_y {
        Some(stem) => format!("{stem}ies"),
        None if noun == "Endpoints" => noun.to_owned(),
        None if noun.ends_with(['s', 'x']) || noun.ends_with("ch") || noun.ends_with("sh") => {
            format!("{noun}es")
        }
        None => format!("{noun}s"),
    }
}

/// The same with a capital letter at the beginning.
#[must_use]
pub fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// Text of an input without characters that steer a terminal; line feeds become spaces.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => ' ',
            c if c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                '\u{fffd}'
            }
            c => c,
        })
        .collect()
}

/// Bytes as hexadecimal digits, two each.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// At most `limit` bytes, ended by an ellipsis where something was cut; never inside a character.
#[must_use]
pub fn shortened(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit.saturating_sub(3))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}...", &text[..end])
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{count, count_is, hexadecimal};

    #[test]
    fn a_byte_has_two_digits() {
        assert_eq!(hexadecimal(&[0, 15, 255]), "000fff");
    }

    #[rstest]
    #[case(0, "warning", "0 warnings")]
    #[case(1, "warning", "1 warning")]
    #[case(2, "Deployment", "2 Deployments")]
    #[case(2, "Ingress", "2 Ingresses")]
    #[case(2, "NetworkPolicy", "2 NetworkPolicies")]
    #[case(2, "Gateway", "2 Gateways")]
    fn counts(#[case] number: usize, #[case] noun: &str, #[case] words: &str) {
        assert_eq!(count(number, noun), words);
        let verb = if number == 1 { "is" } else { "are" };
        assert_eq!(count_is(number, noun), format!("{words} {verb}"));
    }
}
