//! Text in lines of a width: broken at spaces only, so that words, flags, paths and tags can be
//! copied; commands are continued by a backslash, so that they still run.

use std::borrow::Cow;

use anstyle::Style as Ansi;

/// Columns below which text is not narrowed any more.
const NARROWEST: usize = 40;

/// Columns that text after a label needs; if less are left, it begins on the next line.
const TEXT_NEEDS: usize = 24;

/// Fills a text into lines of at most `width` columns. `first` begins the first line, `rest` every
/// other. Only a word that is longer than the width makes a longer line. `first` may hold colours.
#[must_use]
pub fn fill(width: usize, first: &str, rest: &str, text: &str) -> String {
    // Colours take no columns, so letters hold the place of `first` while lines are cut.
    let filler = "x".repeat(columns(first));
    let options = textwrap::Options::new(width.max(NARROWEST))
        .initial_indent(&filler)
        .subsequent_indent(rest)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    let wrapped = textwrap::fill(text, options);
    let wrapped = wrapped.strip_prefix(&filler).unwrap_or(&wrapped);
    let mut lines = wrapped.lines().map(str::trim_end);
    let head = lines.next().unwrap_or_default();
    let mut out = first.to_owned();
    if !head.is_empty() && columns(first) + columns(head) > width {
        // A long word, such as an address, goes below its label.
        let below = format!("{rest}{head}");
        out = if first.trim().is_empty() {
            shifted(width, &below).into_owned()
        } else {
            format!("{}\n{}", first.trim_end(), shifted(width, &below))
        };
    } else {
        out.push_str(head);
    }
    for line in lines {
        out.push('\n');
        out.push_str(&shifted(width, line));
    }
    out.truncate(out.trim_end().len());
    out
}

/// A line that is too long, moved to the left so that its one long word is not broken.
fn shifted(width: usize, line: &str) -> Cow<'_, str> {
    if columns(line) <= width {
        return Cow::Borrowed(line);
    }
    let text = line.trim_start();
    let indent = width.saturating_sub(columns(text));
    Cow::Owned(format!("{:indent$}{text}", ""))
}

/// The same with lines after the first below the beginning of the text.
#[must_use]
pub fn hang(width: usize, first: &str, text: &str) -> String {
    fill(width, first, &" ".repeat(columns(first)), text)
}

/// A line of a table whose last cell is a text of any length. Where too little room is left beside
/// the other cells, the text begins on the next line.
#[must_use]
pub fn row(width: usize, cells: &str, text: &str) -> String {
    if width.saturating_sub(columns(cells)) >= TEXT_NEEDS {
        return hang(width, cells, text);
    }
    format!(
        "{}\n{}",
        cells.trim_end(),
        fill(width, "      ", "      ", text)
    )
}

/// A command after `first`. In lines of a width it is broken between its words, and each line but
/// the last ends with a backslash; without a width it is one line.
#[must_use]
pub fn command(width: Option<usize>, first: &str, command: &str, paint: Ansi) -> String {
    let whole = format!("{first}{paint}{command}{paint:#}");
    let Some(width) = width.filter(|width| columns(first) + columns(command) > *width) else {
        return whole;
    };
    let indent = columns(first);
    let mut lines: Vec<String> = Vec::new();
    for part in parts(command) {
        let begun = lines.len() > 1;
        match lines.last_mut() {
            // Two columns are for the space and the backslash.
            Some(line)
                if indent + 2 * usize::from(begun) + columns(line) + columns(&part) + 3
                    <= width =>
            {
                line.push(' ');
                line.push_str(&part);
            }
            _ => lines.push(part),
        }
    }
    let margin = " ".repeat(indent + 2);
    let mut out = String::new();
    let last = lines.len().saturating_sub(1);
    for (at, line) in lines.iter().enumerate() {
        let end = if at == last { "" } else { " \\\n" };
        let begin = if at == 0 {
            first
        } else {
            // A long word is moved to the left rather than broken.
            let room = width.saturating_sub(columns(line) + 2 * usize::from(at < last));
            &margin[..margin.len().min(room)]
        };
        out.push_str(&format!("{begin}{paint}{line}{paint:#}{end}"));
    }
    out
}

/// Columns in which a label is looked for; the longest is the time of a line of a log.
const LABEL: usize = 24;

/// What a line of ours begins with where a command follows.
const BEFORE_COMMANDS: [&str; 2] = ["Next: ", "next: "];

/// Programs whose commands we print.
const PROGRAMS: [&str; 5] = ["milvus-guard ", "helm ", "kubectl ", "argocd ", "flux "];

/// Lines that are too long, broken into lines of a width. A line keeps its indent and its label
/// (`Warning       text`); a command in a line for itself, or after `Next:`, still runs.
#[must_use]
pub fn refill(width: usize, text: &str) -> String {
    text.lines()
        .map(|line| refilled(width, line))
        .collect::<Vec<_>>()
        .join("\n")
}

fn refilled(width: usize, line: &str) -> String {
    if columns(line) <= width {
        return line.to_owned();
    }
    let indent = line.len() - line.trim_start().len();
    // A label ends at the first gap of two spaces.
    let gap = line[indent..].find("  ").map(|gap| gap + indent);
    let at = gap.filter(|gap| *gap < LABEL).map_or(indent, |gap| {
        let rest = &line[gap..];
        gap + rest.len() - rest.trim_start().len()
    });
    let (first, text) = line.split_at(at);
    let lead = BEFORE_COMMANDS.iter().find(|lead| text.starts_with(**lead));
    let lead = lead.map_or("", |lead| lead);
    let runs = &text[lead.len()..];
    let is_command = PROGRAMS.iter().any(|program| runs.starts_with(program))
        && !runs.ends_with('.')
        && !runs.contains(" (");
    if is_command && (!lead.is_empty() || indent > 0) {
        return command(Some(width), &format!("{first}{lead}"), runs, Ansi::new());
    }
    let rest = " ".repeat(if at == 0 { 2 } else { columns(first) });
    fill(width, first, &rest, text)
}

/// The parts of a command between which it may be broken: its words, and a flag together with its
/// value. A space in quotes does not part words.
fn parts(command: &str) -> Vec<String> {
    let mut tokens: Vec<String> = vec![String::new()];
    let mut quote = None;
    for letter in command.chars() {
        match (quote, letter) {
            (None, ' ') => tokens.push(String::new()),
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            _ => {}
        }
        if let Some(word) = tokens
            .last_mut()
            .filter(|_| quote.is_some() || letter != ' ')
        {
            word.push(letter);
        }
    }
    let mut parts: Vec<String> = Vec::new();
    tokens.retain(|word| !word.is_empty());
    for word in tokens {
        let is_value = !word.starts_with(['-', '|', '&', '>', '<']);
        match parts.last_mut() {
            Some(flag)
                if is_value
                    && flag.starts_with('-')
                    && !flag.contains([' ', '='])
                    && flag.len() > 1 =>
            {
                flag.push(' ');
                flag.push_str(&word);
            }
            _ => parts.push(word),
        }
    }
    parts
}

/// Columns of a text that may hold colour sequences.
#[must_use]
pub fn columns(text: &str) -> usize {
    textwrap::core::display_width(text)
}

/// Lines that a text takes on a terminal of this width, which breaks what is longer.
#[must_use]
pub fn height(text: &str, width: usize) -> usize {
    text.lines()
        .map(|line| columns(line).div_ceil(width.max(1)).max(1))
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_word_is_never_broken() {
        let text = "run milvus-guard with --reset-then-reuse-values and\nlook";
        assert_eq!(
            fill(40, "note  ", "      ", text),
            "note  run milvus-guard with\n      --reset-then-reuse-values and\n      look"
        );
    }

    #[test]
    fn a_long_word_is_moved_to_the_left() {
        let address = "https://example.org/a/page/of/rules";
        assert_eq!(
            fill(40, "    docs   ", "           ", address),
            format!("    docs\n     {address}")
        );
        assert_eq!(
            fill(40, "          ", "          ", address),
            format!("     {address}")
        );
        assert_eq!(
            fill(40, "    docs   ", "           ", &format!("see {address}")),
            format!("    docs   see\n     {address}")
        );
    }

    #[test]
    fn colours_take_no_columns() {
        let bold = Ansi::new().bold();
        let label = format!("{bold}MG101{bold:#} ");
        assert_eq!(columns(&label), 6);
        let plain = fill(40, "MG101 ", "  ", &"word ".repeat(20));
        assert_eq!(
            fill(40, &label, "  ", &"word ".repeat(20)),
            plain.replacen("MG101", &format!("{bold}MG101{bold:#}"), 1)
        );
    }

    #[test]
    fn a_text_without_room_beside_its_label_begins_on_the_next_line() {
        assert_eq!(row(80, "  MG101  deny  ", "a b"), "  MG101  deny  a b");
        assert_eq!(
            row(30, "  MG101  deny  ", "a b"),
            "  MG101  deny\n      a b"
        );
    }

    #[rstest]
    #[case(
        "helm upgrade r c -n ns --set 'a=b c'",
        40,
        "run  helm upgrade r c -n ns \\\n       --set 'a=b c'"
    )]
    #[case("short", 40, "run  short")]
    #[case(
        "kubectl get pods -n milvus | grep -v Running",
        30,
        "run  kubectl get pods \\\n       -n milvus | grep \\\n       -v Running"
    )]
    fn commands_are_continued(#[case] text: &str, #[case] width: usize, #[case] shown: &str) {
        assert_eq!(command(Some(width), "run  ", text, Ansi::new()), shown);
        assert_eq!(
            command(None, "run  ", text, Ansi::new()),
            format!("run  {text}")
        );
    }

    #[rstest]
    #[case("short", "short")]
    #[case(
        "Warning       MG104 has known defects and more",
        "Warning       MG104 has known defects\n              and more"
    )]
    #[case(
        "    a step of a plan that has a long title",
        "    a step of a plan that has a long\n    title"
    )]
    #[case(
        "one sentence that does not fit into the line",
        "one sentence that does not fit into the\n  line"
    )]
    #[case(
        "Next: milvus-guard status -i my-release -n milvus",
        "Next: milvus-guard status \\\n        -i my-release -n milvus"
    )]
    #[case(
        "helm upgrade changes all components at the same time",
        "helm upgrade changes all components at\n  the same time"
    )]
    fn lines_keep_their_labels(#[case] text: &str, #[case] shown: &str) {
        assert_eq!(refill(40, text), shown);
    }

    proptest! {
        /// Nothing is lost or added but line breaks, indents and backslashes.
        #[test]
        fn refilling_keeps_every_word(text in "([a-z→é]{1,30}| |  |\n|Next: helm ){0,60}", width in 40_usize..120) {
            let words = |text: &str| text.split_whitespace().filter(|word| *word != "\\").map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(words(&refill(width, &text)), words(&text));
        }

        /// A shell that joins continued lines gets the command that was meant.
        #[test]
        fn a_continued_command_is_the_command(words in prop::collection::vec("[a-z=-]{1,12}|'[a-z ]{0,9}'", 1..12), width in 40_usize..120) {
            let text = words.join(" ");
            let shown = command(Some(width), "", &text, Ansi::new());
            let joined: Vec<&str> = shown.split(" \\\n").map(str::trim_start).collect();
            prop_assert_eq!(joined.join(" "), text);
            prop_assert!(shown.lines().all(|line| columns(line) <= width), "{}", shown);
        }
    }

    #[test]
    fn a_broken_line_counts_as_what_it_takes() {
        assert_eq!(height("abc\n\nabcdef\n", 3), 4);
    }
}
