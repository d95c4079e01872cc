//! Converts the text of a terminal session to an animated SVG with a screen for each command.

use std::fmt::Write as _;

/// Columns and lines of a screen.
const COLUMNS: usize = 104;
const LINES: usize = 30;
/// Width of a character, in pixels.
const WIDTH: f32 = 7.25;
const HEIGHT: u16 = 16;
/// Margin around the text, in pixels.
const MARGIN: u16 = 14;
/// Seconds for which a screen is shown.
const SHOWN: usize = 5;

/// An SVG of the session. Each line that begins with `$ ` begins a screen, below the last heading
/// (`=== `). Text that does not fit is cut and marked with an ellipsis.
pub fn svg(text: &str) -> String {
    let screens = screens(text);
    let (width, height) = size();
    let all = screens.len().max(1) * SHOWN;
    let part = 100.0 / f64::from(u16::try_from(screens.len().max(1)).unwrap_or(u16::MAX));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"A session at a terminal\">\n<style>\n\
         text {{ font: 12px ui-monospace, Menlo, Consolas, monospace; fill: #d8dee9; white-space: pre; }}\n\
         .heading {{ fill: #88c0d0; font-weight: bold; }}\n.command {{ fill: #a3be8c; }}\n.denied {{ fill: #ebcb8b; }}\n\
         .screen {{ visibility: hidden; animation: show {all}s linear infinite; }}\n\
         @keyframes show {{ 0% {{ visibility: visible; }} {part:.3}% {{ visibility: hidden; }} 100% {{ visibility: hidden; }} }}\n\
         @media (prefers-reduced-motion: reduce), print {{ .screen {{ animation: none; }} .denial {{ visibility: visible; }} }}\n\
         </style>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1e222a\"/>\n"
    );
    let denial = screens.iter().position(|screen| is_denial(screen));
    for (number, screen) in screens.iter().enumerate() {
        let still = if Some(number) == denial.or(Some(0)) {
            " denial"
        } else {
            ""
        };
        let _ = writeln!(
            svg,
            "<g class=\"screen{still}\" style=\"animation-delay: {}s\">",
            number * SHOWN
        );
        for (row, line) in (1_u16..).zip(screen) {
            if !line.is_empty() {
                let y = MARGIN + row * HEIGHT;
                let _ = writeln!(
                    svg,
                    "<text x=\"{MARGIN}\" y=\"{y}\"{}>{}</text>",
                    class(line),
                    escaped(line)
                );
            }
        }
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn size() -> (u16, u16) {
    let columns = u16::try_from(COLUMNS).unwrap_or(u16::MAX);
    let lines = u16::try_from(LINES).unwrap_or(u16::MAX);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few hundred pixels"
    )]
    let width = (f32::from(columns) * WIDTH) as u16;
    (width + 2 * MARGIN, lines * HEIGHT + 2 * MARGIN)
}

fn screens(text: &str) -> Vec<Vec<String>> {
    let mut screens: Vec<Vec<String>> = Vec::new();
    let mut heading = None;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("=== ") {
            heading = Some(title);
        } else if line.starts_with("$ ") {
            let mut screen: Vec<String> = heading
                .map(|title| vec![format!("# {title}"), String::new()])
                .unwrap_or_default();
            screen.extend(wrapped(line));
            screens.push(screen);
        } else if let Some(screen) = screens.last_mut() {
            screen.extend(wrapped(line));
        }
    }
    for screen in &mut screens {
        while screen.last().is_some_and(String::is_empty) {
            screen.pop();
        }
        if screen.len() > LINES {
            screen.truncate(LINES - 1);
            screen.push("\u{2026}".to_owned());
        }
    }
    screens
}

/// The lines of a text on a terminal of this width.
fn wrapped(line: &str) -> Vec<String> {
    let letters: Vec<char> = line.chars().collect();
    if letters.is_empty() {
        return vec![String::new()];
    }
    let rows = letters.chunks(COLUMNS);
    rows.map(|row| row.iter().collect()).collect()
}

fn is_denial(screen: &[String]) -> bool {
    screen.iter().any(|line| line.contains("denied"))
}

fn class(line: &str) -> &'static str {
    if line.starts_with("# ") {
        " class=\"heading\""
    } else if line.starts_with("$ ") {
        " class=\"command\""
    } else if line.starts_with("MG") || line.contains("denied") {
        " class=\"denied\""
    } else {
        ""
    }
}

fn escaped(line: &str) -> String {
    line.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_gets_a_screen_with_its_heading() {
        let text = "intro\n=== 1. One\n\n$ a\nsaid <a> & b\n\n$ b\n";
        let found = screens(text);
        assert_eq!(
            found,
            [
                vec!["# 1. One", "", "$ a", "said <a> & b"],
                vec!["# 1. One", "", "$ b"]
            ]
        );
        let svg = svg(text);
        assert!(svg.contains("said &lt;a&gt; &amp; b"), "{svg}");
        assert_eq!(svg.matches("<g class=\"screen").count(), 2);
    }

    #[test]
    fn long_lines_wrap_and_long_screens_are_cut() {
        let text = format!(
            "$ a\n{}\n{}",
            "x".repeat(COLUMNS + 1),
            "y\n".repeat(2 * LINES)
        );
        let found = &screens(&text)[0];
        assert_eq!(
            (found.len(), found.last().unwrap().as_str()),
            (LINES, "\u{2026}")
        );
        assert!(found.iter().all(|line| line.chars().count() <= COLUMNS));
        assert_eq!(found[2], "x");
    }
}
