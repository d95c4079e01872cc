//! Results of measured rolls of a real Milvus, and their table. `make test-roll` writes one line of
//! JSON for each roll; this file is also a module of that test.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

/// Markers around the table in a page.
const MARKERS: [&str; 2] = ["<!-- begin: rolls -->", "<!-- end: rolls -->"];
/// The names of the columns.
const COLUMNS: [&str; 11] = [
    "roll",
    "searches",
    "failed",
    "wrong (empty/partial)",
    "without a right answer s",
    "of these with errors s",
    "inserts failed",
    "without an insert, with errors s",
    "took s",
    "load (mean/max)",
    "p50 ms",
];

/// One roll, as a line of a file of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Roll {
    /// Begin of the roll (RFC 3339).
    pub began_at: String,
    /// Topology of Milvus.
    pub topology: String,
    /// Version before.
    pub from: String,
    /// Version after.
    pub to: String,
    /// The tool that upgraded.
    pub way: String,
    /// Seconds from its begin until the tool reported the end.
    pub took: f64,
    /// Results of the searches.
    pub searches: Requests,
    /// Results of the inserts.
    pub inserts: Requests,
    /// Median time of correct searches, in milliseconds.
    pub median_ms: f64,
    /// One-minute load average of the machine during the roll: mean and maximum.
    pub load: (f64, f64),
    /// Its parts.
    pub steps: Vec<Step>,
    /// Another failure, if any: the upgrade failed, or data is lost.
    pub failure: Option<String>,
}

/// Requests of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// All of them.
    pub sent: usize,
    /// Requests with an error, or without an answer.
    pub failed: usize,
    /// Requests with an empty answer and no error.
    pub empty: usize,
    /// Requests with a part of the rows and no error.
    pub partial: usize,
    /// Times without a correct answer that are longer than a second.
    pub gaps: Vec<Gap>,
}

/// A time without a correct answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// Seconds from the beginning of the roll; negative before it.
    pub begin: f64,
    /// How long it was, in seconds.
    pub seconds: f64,
    /// Whether an answer failed or was wrong in this time; else the machine was only slow.
    pub has_errors: bool,
}

/// A part of a roll.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Seconds from the beginning of the roll; negative before it.
    pub begin: f64,
    /// How long it was, in seconds.
    pub seconds: f64,
    /// Searches that failed in it.
    pub failed: usize,
    /// Searches in it with a wrong answer and no error.
    pub wrong: usize,
    /// Seconds of it without a correct search.
    pub search_gap: f64,
    /// Seconds of it without an insert.
    pub insert_gap: f64,
}

impl Requests {
    /// Seconds without a correct answer.
    pub fn gap(&self) -> f64 {
        sum(self.gaps.iter())
    }

    /// The same, for gaps in which an answer failed or was wrong.
    pub fn lost(&self) -> f64 {
        sum(self.gaps.iter().filter(|gap| gap.has_errors))
    }

    /// The sum, and the parts if there are several.
    fn lost_in_parts(&self) -> String {
        let with_errors = self.gaps.iter().filter(|gap| gap.has_errors);
        let parts: Vec<String> = with_errors
            .map(|gap| format!("{:.1}", gap.seconds))
            .collect();
        if parts.len() < 2 {
            format!("{:.1}", self.lost())
        } else {
            format!("{:.1} ({})", self.lost(), parts.join(", "))
        }
    }
}

/// Seconds of these gaps. The sum of no numbers would be -0.0.
fn sum<'a>(gaps: impl Iterator<Item = &'a Gap>) -> f64 {
    gaps.fold(0.0, |sum, gap| sum + gap.seconds)
}

/// The rolls of a file of results.
///
/// # Errors
/// The line that is not a result, and why.
#[allow(dead_code, reason = "the test that measures reads no results")]
pub fn read(text: &str) -> Result<Vec<Roll>, String> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| {
            serde_json::from_str(line).map_err(|error| format!("line {}: {error}", at + 1))
        })
        .collect()
}

/// The median of some numbers; for an even count, the mean of the two in the middle.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.len() % 2, sorted.get(middle)) {
        (1, Some(one)) => *one,
        (0, Some(upper)) => f64::midpoint(*upper, sorted[middle - 1]),
        _ => f64::NAN,
    }
}

/// A row for each roll, and a row with the medians of several rolls of one kind.
pub fn table(rolls: &[Roll]) -> String {
    let mut text = format!("| {} |\n{}|\n", COLUMNS.join(" | "), "|---".repeat(11));
    for of_kind in by_kind(rolls) {
        for (at, roll) in of_kind.iter().enumerate() {
            let name = format!("{} {}", kind(roll), at + 1);
            let _ = writeln!(text, "{}", row(&name, roll));
        }
        if let [first, _, ..] = of_kind[..] {
            let name = format!("{}, median of {}", kind(first), of_kind.len());
            let _ = writeln!(text, "{}", medians(&name, &of_kind));
        }
    }
    text
}

fn kind(roll: &Roll) -> String {
    let Roll {
        topology,
        from,
        to,
        way,
        ..
    } = roll;
    format!("{topology} {from} → {to}, {way}")
}

/// Rolls of one kind, in the order in which the kinds first appear.
fn by_kind(rolls: &[Roll]) -> Vec<Vec<&Roll>> {
    let mut groups: Vec<Vec<&Roll>> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for roll in rolls {
        let place = *places.entry(kind(roll)).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(roll),
            None => groups.push(vec![roll]),
        }
    }
    groups
}

fn row(name: &str, roll: &Roll) -> String {
    let (searches, inserts) = (&roll.searches, &roll.inserts);
    let name = match roll.failure {
        Some(_) => format!("{name} (failed)"),
        None => name.to_owned(),
    };
    format!(
        "| {name} | {} | {} | {}/{} | {:.1} | {} | {} | {} | {:.0} | {:.1}/{:.1} | {:.0} |",
        searches.sent,
        searches.failed,
        searches.empty,
        searches.partial,
        searches.gap(),
        searches.lost_in_parts(),
        inserts.failed,
        inserts.lost_in_parts(),
        roll.took,
        roll.load.0,
        roll.load.1,
        roll.median_ms,
    )
}

#[allow(clippy::cast_precision_loss, reason = "a few thousand requests")]
fn medians(name: &str, rolls: &[&Roll]) -> String {
    let of = |number: fn(&Roll) -> f64| median(rolls.iter().map(|roll| number(roll)));
    format!(
        "| **{name}** | {:.0} | {:.0} | {:.0}/{:.0} | {:.1} | **{:.1}** | {:.0} | **{:.1}** | {:.0} | {:.1}/{:.1} | {:.0} |",
        of(|roll| roll.searches.sent as f64),
        of(|roll| roll.searches.failed as f64),
        of(|roll| roll.searches.empty as f64),
        of(|roll| roll.searches.partial as f64),
        of(|roll| roll.searches.gap()),
        of(|roll| roll.searches.lost()),
        of(|roll| roll.inserts.failed as f64),
        of(|roll| roll.inserts.lost()),
        of(|roll| roll.took),
        of(|roll| roll.load.0),
        of(|roll| roll.load.1),
        of(|roll| roll.median_ms),
    )
}

/// A page with this table between its markers.
///
/// # Errors
/// If the page does not have both markers in their order.
#[allow(dead_code, reason = "the test that measures writes no page")]
pub fn insert(page: &str, table: &str) -> Result<String, String> {
    let [begin, end] = MARKERS;
    let lacks = || format!("the page has no {begin} with {end} after it");
    let (before, rest) = page.split_once(begin).ok_or_else(lacks)?;
    let (_, after) = rest.split_once(end).ok_or_else(lacks)?;
    Ok(format!("{before}{begin}\n\n{table}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roll(way: &str, gaps: &[(f64, bool)]) -> Roll {
        let gaps = gaps.iter().map(|(seconds, has_errors)| Gap {
            begin: 0.0,
            seconds: *seconds,
            has_errors: *has_errors,
        });
        Roll {
            began_at: "2026-11-29T20:00:00Z".into(),
            topology: "within".into(),
            from: "2.3.2".into(),
            to: "2.3.5".into(),
            way: way.into(),
            took: 100.0,
            searches: Requests {
                sent: 10,
                failed: 2,
                empty: 1,
                partial: 0,
                gaps: gaps.collect(),
            },
            inserts: Requests::default(),
            median_ms: 5.0,
            load: (1.0, 2.0),
            steps: vec![],
            failure: None,
        }
    }

    #[test]
    fn a_file_of_results_is_read_back() {
        let rolls = [roll("plain", &[(2.0, true)]), roll("hold", &[])];
        let lines = rolls
            .iter()
            .map(|one| serde_json::to_string(one).unwrap() + "\n");
        let text: String = lines.collect();
        assert_eq!(read(&text).unwrap(), rolls);
        assert!(read("{}\n").unwrap_err().starts_with("line 1: "));
    }

    #[test]
    fn the_table_has_each_roll_and_the_medians_of_several() {
        let rolls = [
            roll("plain", &[(60.0, true), (4.0, true), (2.0, false)]),
            roll("hold", &[(5.0, true)]),
            roll("plain", &[(50.0, true)]),
            roll("plain", &[]),
        ];
        let table = table(&rolls);
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(rows.len(), 5, "{table}");
        assert_eq!(
            rows[0],
            "| within 2.3.2 → 2.3.5, plain 1 | 10 | 2 | 1/0 | 66.0 | 64.0 (60.0, 4.0) | 0 | 0.0 | 100 | 1.0/2.0 | 5 |"
        );
        assert!(rows[2].starts_with("| within 2.3.2 → 2.3.5, plain 3 |"));
        assert_eq!(
            rows[3],
            "| **within 2.3.2 → 2.3.5, plain, median of 3** | 10 | 2 | 1/0 | 50.0 | **50.0** | 0 | **0.0** | 100 | 1.0/2.0 | 5 |"
        );
        assert!(rows[4].starts_with("| within 2.3.2 → 2.3.5, hold 1 |"));
    }

    #[test]
    fn a_failed_roll_is_marked_as_failed() {
        let failed = Roll {
            failure: Some("lost 3 rows".into()),
            ..roll("hold", &[])
        };
        assert!(table(&[failed]).contains("hold 1 (failed) |"));
    }

    #[test]
    fn the_median_is_the_middle_number_or_the_mean_of_two() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median([]).is_nan());
    }

    #[test]
    fn the_table_replaces_what_is_between_the_markers() {
        let [begin, end] = MARKERS;
        let page = format!("# Rolls\n\n{begin}\nold\n{end}\n\nmore\n");
        let written = insert(&page, "| new |\n").unwrap();
        assert_eq!(
            written,
            format!("# Rolls\n\n{begin}\n\n| new |\n\n{end}\n\nmore\n")
        );
        assert_eq!(insert(&written, "| new |\n").unwrap(), written);
        assert!(insert("# Rolls\n", "").is_err());
    }
}
