//! The frame of a page for a change ticket: one file without scripts and without anything from the
//! network, for a browser and for paper. The templates escape every text.

#[cfg(test)]
pub(crate) mod testing;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::text::plain;

/// The style of every page; it follows the light or dark setting of the browser.
pub(crate) const STYLE: &str = include_str!("style.css");

/// No text of an input may load, send or run anything.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'";

/// A page with this title of the window around a body.
pub(crate) fn page(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(CONTENT_SECURITY_POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (plain(title)) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    page.into_string() + "\n"
}

/// A term with its text in a list of definitions; an empty text has no term.
pub(crate) fn entry(name: &str, text: &str) -> Markup {
    html! { @if !text.is_empty() { dt { (name) } dd { (plain(text)) } } }
}
