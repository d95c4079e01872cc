//! What the tests of pages share.

use proptest::prelude::*;

use super::STYLE;

/// Pieces that would end an element, an attribute, a comment or a style, or steer a reader.
const PIECES: [&str; 16] = [
    "<script>alert(1)</script>",
    "</style>",
    "</pre>",
    "<!--",
    "-->",
    "\"",
    "'",
    " onmouseover=alert(1) ",
    "&lt;",
    "&#x3c;script&#x3e;",
    "javascript:alert(1)",
    "]]>",
    "\u{1b}[31m",
    "\u{202e}",
    "\u{0}",
    "name",
];

pub(crate) fn hostile() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&PIECES[..]), 1..6).prop_map(|parts| parts.concat())
}

/// A page as tests compare it: without its style, an element a line.
pub(crate) fn without_style(page: &str) -> String {
    page.replace(STYLE, "").replace("><", ">\n<")
}

/// Everything between `<` and `>`, in order.
pub(crate) fn tags(page: &str) -> Vec<&str> {
    page.split('<')
        .skip(1)
        .map(|rest| rest.split('>').next().unwrap_or_default())
        .collect()
}
