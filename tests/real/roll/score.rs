//! Evaluates the load during a roll: how long there was no right answer, and how many requests
//! failed or were answered wrongly.

use std::path::Path;

use serde::Deserialize;

use super::rolls::{Gap, Requests, median};

/// A longer time between two right answers is a gap, in seconds. The load sends a search every 50
/// ms.
const GAP: f64 = 1.0;

/// A request, as written by `tests/milvus/roll.py`.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    pub what: What,
    /// When the request was sent, in seconds since 1970.
    pub at: f64,
    /// Seconds until the answer or the timeout.
    pub took: f64,
    pub result: Answer,
    #[serde(default)]
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Search,
    Insert,
}

/// The kind of answer. `Empty` and `Partial` came without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Right,
    Empty,
    Partial,
    Failed,
}

impl Request {
    /// When the request was answered or timed out, in seconds since 1970.
    pub fn end(&self) -> f64 {
        self.at + self.took
    }
}

/// The requests of a file, without a line that is not complete yet.
pub fn read(path: &Path) -> Vec<Request> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// A period, in seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub name: String,
    pub begin: f64,
    pub end: f64,
}

impl Span {
    pub fn seconds(&self) -> f64 {
        self.end - self.begin
    }

    fn has(&self, at: f64) -> bool {
        (self.begin..self.end).contains(&at)
    }

    /// Seconds of the gaps within this period.
    pub fn share(&self, gaps: &[Gap]) -> f64 {
        let share = |gap: &Gap| {
            let end = gap.begin + gap.seconds;
            (end.min(self.end) - gap.begin.max(self.begin)).max(0.0)
        };
        gaps.iter().map(share).sum()
    }
}

/// Counts and gaps of the requests of one kind in a period.
pub fn requests(all: &[Request], what: What, span: &Span) -> Requests {
    let mut counted = Requests {
        gaps: gaps(all, what, span),
        ..Requests::default()
    };
    let of = |one: &&Request| one.what == what && span.has(one.end());
    for request in all.iter().filter(of) {
        counted.sent += 1;
        match request.result {
            Answer::Right => {}
            Answer::Failed => counted.failed += 1,
            Answer::Empty => counted.empty += 1,
            Answer::Partial => counted.partial += 1,
        }
    }
    counted
}

/// The gaps of one kind of request in a period, since 1970. The ends of the period count as right
/// answers.
fn gaps(requests: &[Request], what: What, span: &Span) -> Vec<Gap> {
    let mut all: Vec<(f64, bool)> = requests
        .iter()
        .filter(|one| one.what == what && span.has(one.end()))
        .map(|one| (one.end(), one.result == Answer::Right))
        .collect();
    all.push((span.end, true));
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut gaps, mut begin, mut has_errors) = (Vec::new(), span.begin, false);
    for (at, is_right) in all {
        if !is_right {
            has_errors = true;
            continue;
        }
        if at - begin > GAP {
            gaps.push(Gap {
                begin,
                seconds: at - begin,
                has_errors,
            });
        }
        (begin, has_errors) = (at, false);
    }
    gaps
}

/// The median time of right answers, in milliseconds.
pub fn median_ms(requests: &[Request], what: What, span: &Span) -> f64 {
    let right = requests
        .iter()
        .filter(|one| one.what == what && one.result == Answer::Right && span.has(one.end()));
    median(right.map(|one| one.took * 1000.0))
}

fn request(end: f64, result: Answer) -> Request {
    Request {
        what: What::Search,
        at: end - 0.1,
        took: 0.1,
        result,
        detail: String::new(),
    }
}

fn span(begin: f64, end: f64) -> Span {
    Span {
        name: "roll".into(),
        begin,
        end,
    }
}

#[test]
fn a_gap_lasts_from_one_right_answer_to_the_next() {
    let all = [
        request(1.0, Answer::Right),
        request(1.5, Answer::Empty),
        request(3.5, Answer::Failed),
        request(4.0, Answer::Right),
        request(6.0, Answer::Right),
        request(6.5, Answer::Right),
    ];
    let of = requests(&all, What::Search, &span(0.5, 7.0));
    let expected = [(1.0, 3.0, true), (4.0, 2.0, false)];
    assert_eq!(
        of.gaps,
        expected.map(|(begin, seconds, has_errors)| Gap {
            begin,
            seconds,
            has_errors
        })
    );
    assert!((of.gap() - 5.0).abs() < 1e-9);
    assert!((of.lost() - 3.0).abs() < 1e-9, "a slow answer is not lost");
    let second_half = span(3.0, 7.0);
    assert!((second_half.share(&of.gaps) - 3.0).abs() < 1e-9);
}

#[test]
fn a_gap_that_is_open_at_the_end_counts() {
    let all = [request(1.0, Answer::Right), request(3.0, Answer::Partial)];
    let of = requests(&all, What::Search, &span(0.5, 61.0));
    assert!((of.lost() - 60.0).abs() < 1e-9, "{of:?}");
}

#[test]
fn requests_are_counted_by_their_answers() {
    let all = [
        request(0.2, Answer::Failed),
        request(1.0, Answer::Right),
        request(2.0, Answer::Failed),
        request(3.0, Answer::Empty),
        request(4.0, Answer::Partial),
    ];
    let of = requests(&all, What::Search, &span(0.5, 5.0));
    assert_eq!((of.sent, of.failed, of.empty, of.partial), (4, 1, 1, 1));
    assert!((median_ms(&all, What::Search, &span(0.5, 5.0)) - 100.0).abs() < 1e-6);
}
