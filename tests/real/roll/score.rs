//! What a load says about a roll: how long there was no right answer, and how many requests failed
//! or were answered wrongly.

use std::path::Path;

use serde::Deserialize;

/// Times between two right answers that are longer than this are gaps, in seconds. The load sends a
/// search every 50 ms.
const GAP: f64 = 1.0;

/// A request, as `tests/milvus/roll.py` writes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    pub what: What,
    /// When it began, in seconds since 1970.
    pub at: f64,
    /// Seconds until it was answered or given up.
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

/// What a request was answered with. `Empty` and `Partial` came without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Right,
    Empty,
    Partial,
    Failed,
}

impl Request {
    fn end(&self) -> f64 {
        self.at + self.took
    }
}

/// The requests of a file; a line that is being written is left out.
pub fn read(path: &Path) -> Vec<Request> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// A part of the run, in seconds since 1970.
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

    /// Seconds of the gaps that lie in it.
    pub fn share(&self, gaps: &[Gap]) -> f64 {
        gaps.iter()
            .map(|gap| (gap.end.min(self.end) - gap.begin.max(self.begin)).max(0.0))
            .sum()
    }
}

/// A time without a right answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    pub begin: f64,
    pub end: f64,
    /// Whether something failed or was wrong in it; else the machine was only slow.
    pub has_errors: bool,
}

impl Gap {
    pub fn seconds(&self) -> f64 {
        self.end - self.begin
    }
}

/// Requests of one kind in a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub requests: usize,
    pub failed: usize,
    pub empty: usize,
    pub partial: usize,
}

pub fn counts(requests: &[Request], what: What, span: &Span) -> Counts {
    let mut counts = Counts::default();
    let of = |one: &&Request| one.what == what && span.has(one.end());
    for request in requests.iter().filter(of) {
        counts.requests += 1;
        match request.result {
            Answer::Right => {}
            Answer::Failed => counts.failed += 1,
            Answer::Empty => counts.empty += 1,
            Answer::Partial => counts.partial += 1,
        }
    }
    counts
}

/// The gaps of one kind of request in a span. The ends of the span count as right answers.
pub fn gaps(requests: &[Request], what: What, span: &Span) -> Vec<Gap> {
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
                end: at,
                has_errors,
            });
        }
        (begin, has_errors) = (at, false);
    }
    gaps
}

/// Seconds without a right answer in which something failed or was wrong.
pub fn lost(gaps: &[Gap]) -> f64 {
    let with_errors = gaps.iter().filter(|gap| gap.has_errors);
    with_errors.map(Gap::seconds).sum()
}

/// The middle of the times of right answers, in milliseconds.
pub fn median_ms(requests: &[Request], what: What, span: &Span) -> f64 {
    let mut times: Vec<f64> = requests
        .iter()
        .filter(|one| one.what == what && one.result == Answer::Right && span.has(one.end()))
        .map(|one| one.took * 1000.0)
        .collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
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
    let requests = [
        request(1.0, Answer::Right),
        request(1.5, Answer::Empty),
        request(3.5, Answer::Failed),
        request(4.0, Answer::Right),
        request(6.0, Answer::Right),
        request(6.5, Answer::Right),
    ];
    let gaps = gaps(&requests, What::Search, &span(0.5, 7.0));
    let expected = [(1.0, 4.0, true), (4.0, 6.0, false)];
    assert_eq!(
        gaps,
        expected.map(|(begin, end, has_errors)| Gap {
            begin,
            end,
            has_errors
        })
    );
    assert!(
        (lost(&gaps) - 3.0).abs() < 1e-9,
        "a slow answer is not lost"
    );
    let second_half = span(3.0, 7.0);
    assert!((second_half.share(&gaps) - 3.0).abs() < 1e-9);
}

#[test]
fn a_gap_that_is_open_at_the_end_counts() {
    let requests = [request(1.0, Answer::Right), request(3.0, Answer::Partial)];
    let gaps = gaps(&requests, What::Search, &span(0.5, 61.0));
    assert!((lost(&gaps) - 60.0).abs() < 1e-9, "{gaps:?}");
}

#[test]
fn requests_are_counted_by_what_came_of_them() {
    let requests = [
        request(0.2, Answer::Failed),
        request(1.0, Answer::Right),
        request(2.0, Answer::Failed),
        request(3.0, Answer::Empty),
        request(4.0, Answer::Partial),
    ];
    let counts = counts(&requests, What::Search, &span(0.5, 5.0));
    let expected = Counts {
        requests: 4,
        failed: 1,
        empty: 1,
        partial: 1,
    };
    assert_eq!(counts, expected);
    assert!((median_ms(&requests, What::Search, &span(0.5, 5.0)) - 100.0).abs() < 1e-6);
}
