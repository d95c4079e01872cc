//! Messages of the reader of YAML, with the word that was probably meant.

use strsim::levenshtein;

/// serde's message, with the word that was most likely meant.
pub(super) fn explained(message: &str) -> String {
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match words.split_first() {
        Some((unknown, expected)) if message.starts_with("unknown ") => {
            format!("{message}{}", did_you_mean(unknown, expected))
        }
        _ => message.to_owned(),
    }
}

/// `; did you mean 'x'?`, or nothing if no word is near.
pub(super) fn did_you_mean(wrong: &str, words: &[&str]) -> String {
    let wrong = wrong.to_ascii_lowercase();
    // Longer texts are not a mistyped word.
    let near = words
        .iter()
        .filter(|_| wrong.len() <= 40)
        .map(|word| (levenshtein(&wrong, &word.to_ascii_lowercase()), word))
        .min();
    near.filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .map_or_else(String::new, |(_, word)| format!("; did you mean '{word}'?"))
}
