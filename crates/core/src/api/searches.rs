//! What searches in loaded collections found before a run changed anything, and whether a later
//! answer is as complete. Pure.
//!
//! A query node answers without an error although it lacks segments, so a search that finds less
//! than before is the only sign. Rows are kept as digests: their keys are the users' data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Collections that a run keeps a search of.
pub const MAX_SEARCHES: usize = 16;
/// Rows of one search, at most.
pub const MAX_HITS: usize = 100;
/// How far a score of the same row may differ between two versions of Milvus, relative to its size.
const SAME_SCORE: f64 = 1e-3;
/// Rows of a collection from which on deletions do not explain an answer with fewer rows than asked
/// for.
pub const MANY_ROWS: i64 = 10 * 100;

/// Who chose a collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ChosenBy {
    /// A person: no rows are deleted from it during the run.
    User,
    /// The run, as one that is loaded.
    #[default]
    #[serde(other)]
    Run,
}

/// What a search in one collection found before the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SearchBefore {
    /// Its name, with its database where it is not the default one.
    pub collection: String,
    /// Its id; absent where Milvus did not tell. Another one of the same name has another id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Who chose it.
    #[serde(default)]
    pub chosen_by: ChosenBy,
    /// Rows that it had loaded; absent where Milvus did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// How many rows the search finds.
    pub found: u32,
    /// Those that it found each time, best first.
    pub hits: Vec<Hit>,
}

/// A row that a search found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hit {
    /// Digest of its primary key.
    pub row: String,
    /// Its score: distance or similarity, as the metric of the index has it.
    pub score: f64,
}

/// How a later answer compares with that of before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// It has all that was found before, or what is as near.
    Complete,
    /// It has fewer rows.
    Fewer {
        /// Rows of this answer.
        found: usize,
        /// Rows of the answer before.
        before: usize,
    },
    /// It has as many rows, but worse ones in place of some that were found before.
    Worse {
        /// Rows of before that are missing.
        missing: usize,
        /// Rows of before that are found each time.
        of: usize,
    },
}

/// What is known about an answer that is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rows are not served.
    Wrong,
    /// Rows are not served, or were deleted since: the answer is the same for both.
    Unknown,
}

impl SearchBefore {
    /// From several answers to the same search; `None` if they found nothing that could be missed
    /// later. Replicas may answer differently, so only rows that are in each answer count.
    #[must_use]
    pub fn from_answers(
        collection: &str,
        chosen_by: ChosenBy,
        rows: Option<i64>,
        answers: &[Vec<Hit>],
    ) -> Option<Self> {
        let (first, others) = answers.split_first()?;
        let found = answers.iter().map(Vec::len).min()?.min(MAX_HITS);
        let mut hits: Vec<Hit> = first
            .iter()
            .filter(|hit| hit.score.is_finite())
            .filter(|hit| {
                let has = |answer: &Vec<Hit>| answer.iter().any(|other| other.row == hit.row);
                others.iter().all(has)
            })
            .cloned()
            .collect();
        hits.truncate(MAX_HITS);
        (found > 0).then(|| Self {
            collection: collection.to_owned(),
            id: None,
            chosen_by,
            rows,
            found: u32::try_from(found).unwrap_or(u32::MAX),
            hits,
        })
    }

    /// Compares a later answer, of a search for at most `limit` rows.
    #[must_use]
    pub fn compare(&self, answer: &[Hit], limit: usize) -> Completeness {
        let before = usize::try_from(self.found).unwrap_or(usize::MAX);
        if answer.len() < before {
            return Completeness::Fewer {
                found: answer.len(),
                before,
            };
        }
        // Only a full answer can have displaced a row, by ones that were inserted since.
        let last = answer.last().filter(|_| answer.len() >= limit);
        let is_displaced = |hit: &Hit| last.is_some_and(|last| self.is_as_near(last, hit));
        let is_missing =
            |hit: &&Hit| !answer.iter().any(|other| other.row == hit.row) && !is_displaced(hit);
        match self.hits.iter().filter(is_missing).count() {
            0 => Completeness::Complete,
            missing => Completeness::Worse {
                missing,
                of: self.hits.len(),
            },
        }
    }

    /// What an answer that is not complete means. Rows of a collection that a person named are not
    /// deleted meanwhile, and single deletions leave a full answer in a large collection.
    #[must_use]
    pub fn verdict(&self, completeness: &Completeness) -> Option<Verdict> {
        match (completeness, self.chosen_by) {
            (Completeness::Complete, _) => None,
            (_, ChosenBy::User) => Some(Verdict::Wrong),
            (Completeness::Fewer { .. }, ChosenBy::Run)
                if self.rows.is_some_and(|rows| rows >= MANY_ROWS) =>
            {
                Some(Verdict::Wrong)
            }
            (_, ChosenBy::Run) => Some(Verdict::Unknown),
        }
    }

    /// Whether a row is as near as another one, as the order of this search has it: some metrics
    /// count up, others down.
    fn is_as_near(&self, this: &Hit, other: &Hit) -> bool {
        let near = (other.score.abs() + this.score.abs()) * SAME_SCORE;
        let rises = match (self.hits.first(), self.hits.last()) {
            (Some(first), Some(last)) => last.score >= first.score,
            _ => true,
        };
        if rises {
            this.score <= other.score + near
        } else {
            this.score >= other.score - near
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn hits(all: &[(&str, f64)]) -> Vec<Hit> {
        let hit = |(row, score): &(&str, f64)| Hit {
            row: (*row).to_owned(),
            score: *score,
        };
        all.iter().map(hit).collect()
    }

    fn before(answer: &[(&str, f64)], chosen_by: ChosenBy, rows: i64) -> SearchBefore {
        let answers = [hits(answer), hits(answer)];
        SearchBefore::from_answers("books", chosen_by, Some(rows), &answers).unwrap()
    }

    const DISTANCES: &[(&str, f64)] = &[("a", 1.0), ("b", 2.0), ("c", 3.0)];
    const SIMILARITIES: &[(&str, f64)] = &[("a", 0.9), ("b", 0.8), ("c", 0.7)];

    #[rstest]
    #[case::the_same(DISTANCES, DISTANCES, Completeness::Complete)]
    #[case::nothing(DISTANCES, &[], Completeness::Fewer { found: 0, before: 3 })]
    #[case::one_less(DISTANCES, &DISTANCES[..2], Completeness::Fewer { found: 2, before: 3 })]
    #[case::one_shard(
        DISTANCES,
        &[("b", 2.0), ("x", 7.0), ("y", 8.0)],
        Completeness::Worse { missing: 2, of: 3 }
    )]
    #[case::inserted_since(
        DISTANCES,
        &[("x", 0.1), ("a", 1.0), ("b", 2.0)],
        Completeness::Complete
    )]
    #[case::all_inserted_since(
        DISTANCES,
        &[("x", 0.1), ("y", 0.2), ("z", 0.3)],
        Completeness::Complete
    )]
    #[case::another_order_of_equals(
        &[("a", 1.0), ("b", 2.0), ("c", 2.0)],
        &[("a", 1.0), ("d", 2.000_01), ("b", 2.000_01)],
        Completeness::Complete
    )]
    #[case::similarities(SIMILARITIES, SIMILARITIES, Completeness::Complete)]
    #[case::less_similar(
        SIMILARITIES,
        &[("b", 0.8), ("c", 0.7), ("x", 0.1)],
        Completeness::Worse { missing: 1, of: 3 }
    )]
    #[case::more_similar(
        SIMILARITIES,
        &[("x", 0.99), ("a", 0.9), ("b", 0.8)],
        Completeness::Complete
    )]
    fn answers_are_compared_with_that_of_before(
        #[case] first: &[(&str, f64)],
        #[case] later: &[(&str, f64)],
        #[case] expected: Completeness,
    ) {
        let before = before(first, ChosenBy::Run, 10_000);
        assert_eq!(before.compare(&hits(later), 3), expected);
    }

    #[test]
    fn an_answer_that_is_not_full_has_displaced_nothing() {
        let before = before(DISTANCES, ChosenBy::Run, 3);
        let answer = hits(&[("x", 0.1), ("a", 1.0), ("b", 2.0)]);
        assert_eq!(
            before.compare(&answer, 10),
            Completeness::Worse { missing: 1, of: 3 }
        );
    }

    #[rstest]
    #[case(ChosenBy::User, 3, Some(Verdict::Wrong), Some(Verdict::Wrong))]
    #[case(ChosenBy::Run, 20_000, Some(Verdict::Wrong), Some(Verdict::Unknown))]
    #[case(ChosenBy::Run, 3, Some(Verdict::Unknown), Some(Verdict::Unknown))]
    fn what_cannot_be_known_is_unknown(
        #[case] chosen_by: ChosenBy,
        #[case] rows: i64,
        #[case] fewer: Option<Verdict>,
        #[case] worse: Option<Verdict>,
    ) {
        let before = before(DISTANCES, chosen_by, rows);
        let found = Completeness::Fewer {
            found: 0,
            before: 3,
        };
        assert_eq!(before.verdict(&found), fewer);
        let found = Completeness::Worse { missing: 1, of: 3 };
        assert_eq!(before.verdict(&found), worse);
        assert_eq!(before.verdict(&Completeness::Complete), None);
    }

    #[test]
    fn only_rows_that_are_found_each_time_can_be_missed() {
        let answers = [
            hits(DISTANCES),
            hits(&[("a", 1.0), ("c", 3.0), ("d", 4.0)]),
            hits(&[("c", 3.0), ("a", 1.0)]),
        ];
        let before = SearchBefore::from_answers("books", ChosenBy::Run, None, &answers).unwrap();
        let rows: Vec<&str> = before.hits.iter().map(|hit| &*hit.row).collect();
        assert_eq!((rows, before.found), (vec!["a", "c"], 2));
        let nothing = [hits(DISTANCES), Vec::new()];
        assert_eq!(
            SearchBefore::from_answers("books", ChosenBy::Run, None, &nothing),
            None
        );
        assert_eq!(
            SearchBefore::from_answers("books", ChosenBy::Run, None, &[]),
            None
        );
    }

    fn answers() -> impl Strategy<Value = Vec<Hit>> {
        let hit = ("[a-f]{1,2}", any::<f64>()).prop_map(|(row, score)| Hit { row, score });
        proptest::collection::vec(hit, 0..200)
    }

    proptest! {
        #[test]
        fn whatever_a_server_answers_is_kept_bounded_and_can_be_read_again(
            answers in proptest::collection::vec(answers(), 0..4),
            later in answers(),
        ) {
            let Some(before) =
                SearchBefore::from_answers("books", ChosenBy::Run, Some(1), &answers)
            else {
                return Ok(());
            };
            prop_assert!(before.hits.len() <= MAX_HITS);
            let text = serde_json::to_string(&before).unwrap();
            let read: SearchBefore = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read.hits.len(), before.hits.len());
            // An empty answer is never complete, and the answer of before always is.
            prop_assert_ne!(before.compare(&[], MAX_HITS), Completeness::Complete);
            prop_assert_eq!(before.compare(&answers[0], MAX_HITS), Completeness::Complete);
            let _ = before.compare(&later, MAX_HITS);
        }
    }
}
