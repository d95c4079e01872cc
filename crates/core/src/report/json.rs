//! For programs: the structure as it is.

use super::Report;

pub(super) fn render(report: &Report) -> String {
    // A report holds only strings, numbers and lists of them, which always serialise.
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn snapshot() {
        insta::assert_snapshot!(super::render(&super::super::sample::report()));
    }
}
