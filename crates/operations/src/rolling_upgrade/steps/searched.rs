//! Whether searches find again what they found before the run. This is the last check after query
//! nodes were replaced, because a query node that lacks segments answers without an error. Several
//! searches in a row must be right, because wrong answers are intermittent.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    engine::{StepError, display::took},
    rolling_upgrade::{
        context::{Direction, StepContext},
        plan::Move,
        serving,
        settings::SearchedCollections,
    },
};
use milvus_guard_core::api::searches::{
    ChosenBy, Completeness, MANY_ROWS, MAX_HITS, MAX_SEARCHES, SearchBefore, Verdict,
};
use milvus_guard_sources::milvus::{
    self, ApiError, CollectionLoad, CollectionName, Loaded, NotSearchable, Proxy, Search,
};

use super::loaded;

/// Number of answers in a row that must be right after query nodes were replaced; as many are
/// compared at the beginning.
const IN_A_ROW: usize = 3;
/// Pause between two of these answers.
const BETWEEN: Duration = Duration::from_secs(1);
/// Pause before the next search after an answer that was not right.
const PAUSE: Duration = Duration::from_millis(300);
/// Time for answers to become right again, from the first search. Longer than the session of a
/// killed process (`common.session.ttl`, 60 s), for whose time tick searches may wait.
const LIMIT: Duration = Duration::from_secs(120);
/// The same during a rollback, which must not be delayed for long.
const ON_THE_WAY_BACK: Duration = Duration::from_secs(60);
/// Maximum number of collections that the run chooses itself.
const CHOSEN: usize = 3;
/// Maximum number of collections that it tries for that.
const TRIED: usize = 8;

/// A collection that may be searched.
struct Candidate {
    name: CollectionName,
    chosen_by: ChosenBy,
    id: Option<i64>,
    rows: Option<i64>,
}

/// A search that did not find again what it found before.
#[derive(Clone, Debug)]
struct Problem {
    collection: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// An answer that is not complete.
    Incomplete(Completeness, Verdict),
    /// No answer.
    Failed(ApiError),
    /// The collection changed since the record.
    Changed(NotSearchable),
}

/// Records what searches find, before anything is changed.
pub(crate) async fn before(cx: &StepContext<'_>) -> Result<(), StepError> {
    let wanted = &cx.data.settings.milvus.searched;
    if *wanted == SearchedCollections::Never || !cx.run().status.searches.is_empty() {
        return Ok(());
    }
    let named = matches!(wanted, SearchedCollections::Named(_));
    let refused = |why: &str| {
        let text = format!("a collection was named with --probe-collection, and {why}");
        if named {
            Err(StepError::Refused(text))
        } else {
            Ok(())
        }
    };
    if !cx.data.connections.proxy.is_reached(cx).await? {
        return refused("Milvus cannot be asked from here");
    }
    let proxy = match cx.data.connections.proxy.proxy(cx).await? {
        Ok(proxy) => proxy,
        Err(why) => return refused(&why.to_string()),
    };
    let all = match loaded::settled(cx, proxy).await {
        Ok(all) => all.collections,
        Err(error) => return refused(&error.to_string()),
    };
    let mut kept: Vec<SearchBefore> = Vec::new();
    let mut why = None;
    let limit = if named { MAX_SEARCHES } else { CHOSEN };
    for candidate in candidates(wanted, &all) {
        if kept.len() >= limit {
            break;
        }
        match observed(proxy, &candidate).await {
            Ok((search, found)) => {
                let mut searches = cx.data.connections.proxy.searches.lock().await;
                searches.insert(found.collection.clone(), search);
                kept.push(found);
            }
            Err(reason) if named => {
                return Err(StepError::Refused(format!(
                    "collection {} cannot be searched to compare answers: {reason}",
                    candidate.name
                )));
            }
            Err(reason) => {
                why.get_or_insert(format!("collection {}: {reason}", candidate.name));
            }
        }
    }
    tell(cx, &kept, why.as_deref());
    cx.record(|status| status.searches.clone_from(&kept))
        .await?;
    Ok(())
}

fn tell(cx: &StepContext<'_>, kept: &[SearchBefore], why: Option<&str>) {
    let names: Vec<&str> = kept.iter().map(|one| &*one.collection).collect();
    match (&names[..], why) {
        ([], Some(why)) => cx.reporter().warn(format!(
            "no loaded collection can be searched to compare answers ({why}): whether searches are \
             complete is not known"
        )),
        // No collection is loaded, so no search can miss rows.
        ([], None) => {}
        (names, _) => cx.reporter().note(format!(
            "searches in {} must find after each step what they find now",
            names.join(", ")
        )),
    }
}

/// The named collections, or the largest of the loaded ones.
fn candidates(wanted: &SearchedCollections, all: &[CollectionLoad]) -> Vec<Candidate> {
    match wanted {
        SearchedCollections::Never => Vec::new(),
        SearchedCollections::Named(names) => {
            let of = |name: &CollectionName| {
                let load = all.iter().find(|load| load.label() == name.to_string());
                Candidate {
                    name: name.clone(),
                    chosen_by: ChosenBy::User,
                    id: load.map(|load| load.id),
                    rows: load.map(rows),
                }
            };
            names.iter().map(of).collect()
        }
        SearchedCollections::Loaded => {
            let whole = all.iter().filter(|load| load.missing().is_empty());
            let mut found: Vec<Candidate> = whole
                // The record of a collection is its name, which must be valid.
                .filter(|load| load.label().parse::<CollectionName>().is_ok())
                .map(|load| Candidate {
                    name: CollectionName {
                        database: load.database.clone(),
                        name: load.name.clone(),
                    },
                    chosen_by: ChosenBy::Run,
                    id: Some(load.id),
                    rows: Some(rows(load)),
                })
                .collect();
            found.sort_by_key(|candidate| std::cmp::Reverse(candidate.rows));
            found.truncate(TRIED);
            found
        }
    }
}

/// Flushed rows of a loaded collection.
fn rows(load: &CollectionLoad) -> i64 {
    load.expected.values().sum()
}

/// Why the result of a search cannot be compared.
#[derive(Debug, thiserror::Error)]
enum NotComparable {
    #[error(transparent)]
    NoAnswer(#[from] ApiError),
    #[error(transparent)]
    NotSearchable(#[from] NotSearchable),
    #[error("a search finds no row in it")]
    NoRow,
}

/// Prepares a search, and records what it finds each time.
async fn observed(
    proxy: &Proxy,
    candidate: &Candidate,
) -> Result<(Search, SearchBefore), NotComparable> {
    let search = milvus::prepare(proxy, &candidate.name).await??;
    let mut answers = Vec::new();
    while answers.len() < IN_A_ROW {
        if !answers.is_empty() {
            sleep(PAUSE).await;
        }
        answers.push(milvus::search(proxy, &search).await?);
    }
    let name = candidate.name.to_string();
    let found = SearchBefore::from_answers(&name, candidate.chosen_by, candidate.rows, &answers)
        .ok_or(NotComparable::NoRow)?;
    let id = candidate.id;
    Ok((search, SearchBefore { id, ..found }))
}

/// Waits after a move until searches find what they found before. Returns when they did, if
/// searches were made.
///
/// # Errors
/// If they do not find it within [`LIMIT`].
pub(crate) async fn again(cx: &StepContext<'_>, one: &Move) -> Result<Option<Instant>, StepError> {
    Ok(
        match right(cx, rounds(cx, one), Direction::Forward).await? {
            Outcome::Right(at) => Some(at),
            Outcome::Told | Outcome::NotAsked => None,
        },
    )
}

/// The same between two pods of query nodes. Returns whether searches are complete, as far as they
/// were made.
///
/// # Errors
/// If they are not complete within [`LIMIT`]; a rollback only reports it.
pub(crate) async fn between(cx: &StepContext<'_>, direction: Direction) -> Result<bool, StepError> {
    // Forward, a persistent problem is an error, and a reported one is no longer compared.
    Ok(right(cx, IN_A_ROW, direction).await? != Outcome::Told || direction == Direction::Forward)
}

/// The same after a move of a rollback, for a limited time.
pub(crate) async fn back(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    right(cx, rounds(cx, one), Direction::Back).await.map(drop)
}

/// How many answers must be right in a row after a move.
fn rounds(cx: &StepContext<'_>, one: &Move) -> usize {
    let moves = &cx.data.rollout.moves;
    let at = moves.iter().position(|other| other == one);
    match at.and_then(|at| serving::question(moves, at)) {
        Some(_) => IN_A_ROW,
        None => 1,
    }
}

/// The result of the searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// They find what they found before, since this time.
    Right(Instant),
    /// They do not, and the user was warned.
    Told,
    /// No search was made.
    NotAsked,
}

async fn right(
    cx: &StepContext<'_>,
    rounds: usize,
    direction: Direction,
) -> Result<Outcome, StepError> {
    let searches = cx.run().status.searches;
    if searches.is_empty()
        || cx.data.settings.milvus.searched == SearchedCollections::Never
        || !cx.data.connections.proxy.is_reached(cx).await?
    {
        return Ok(Outcome::NotAsked);
    }
    let Ok(proxy) = cx.data.connections.proxy.proxy(cx).await? else {
        return Ok(Outcome::NotAsked);
    };
    let limit = match direction {
        Direction::Forward => LIMIT,
        Direction::Back => ON_THE_WAY_BACK,
    };
    let began = Instant::now();
    let (mut row, mut seen) = (0, None);
    while row < rounds {
        if row > 0 {
            sleep(BETWEEN).await;
        }
        let problems = {
            let mut prepared = cx.data.connections.proxy.searches.lock().await;
            round(proxy, &searches, &mut prepared).await
        };
        if problems.is_empty() {
            row += 1;
            continue;
        }
        row = 0;
        if began.elapsed() >= limit {
            cx.going_on();
            return over(cx, proxy, &problems, direction)
                .await
                .map(|()| Outcome::Told);
        }
        let text = lines(&problems.iter().collect::<Vec<_>>());
        cx.waiting(format!(
            "searches to find again what they found before: {text}"
        ));
        seen = Some(text);
        sleep(PAUSE).await;
    }
    cx.going_on();
    if let Some(seen) = seen {
        cx.reporter().note(format!(
            "searches find again what they found before, {} after the first that did not ({seen})",
            took(began.elapsed())
        ));
    }
    Ok(Outcome::Right(Instant::now()))
}

/// Makes one search in each collection.
async fn round(
    proxy: &Proxy,
    searches: &[SearchBefore],
    prepared: &mut BTreeMap<String, Search>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for before in searches {
        if let Some(what) = problem(proxy, before, prepared).await {
            problems.push(Problem {
                collection: before.collection.clone(),
                what,
            });
        }
    }
    problems
}

async fn problem(
    proxy: &Proxy,
    before: &SearchBefore,
    prepared: &mut BTreeMap<String, Search>,
) -> Option<What> {
    let Ok(name) = before.collection.parse() else {
        return Some(What::Changed(NotSearchable::Name));
    };
    if !prepared.contains_key(&before.collection) {
        match milvus::prepare(proxy, &name).await {
            Ok(Ok(search)) => drop(prepared.insert(before.collection.clone(), search)),
            Ok(Err(why)) => return Some(What::Changed(why)),
            Err(error) => return Some(What::Failed(error)),
        }
    }
    let answer = match milvus::search(proxy, prepared.get(&before.collection)?).await {
        Ok(answer) => answer,
        Err(error) => {
            // Its index may have been created again with another metric.
            return Some(match milvus::prepare(proxy, &name).await {
                Ok(Ok(search)) => {
                    prepared.insert(before.collection.clone(), search);
                    What::Failed(error)
                }
                Ok(Err(why)) => What::Changed(why),
                Err(_) => What::Failed(error),
            });
        }
    };
    let completeness = before.compare(&answer, MAX_HITS);
    let verdict = before.verdict(&completeness)?;
    Some(What::Incomplete(completeness, verdict))
}

/// The time is over. A problem that may have another cause than segments that are not served is
/// reported, and the collection is no longer compared.
async fn over(
    cx: &StepContext<'_>,
    proxy: &Proxy,
    problems: &[Problem],
    direction: Direction,
) -> Result<(), StepError> {
    let loaded = milvus::loaded(proxy).await.ok();
    let searches = cx.run().status.searches;
    let is_unknown = |problem: &&Problem| {
        let search = searches
            .iter()
            .find(|one| one.collection == problem.collection);
        search.is_none_or(|search| search.chosen_by == ChosenBy::Run)
            && has_another_cause(&problem.what, search, loaded.as_ref())
            || matches!(&problem.what, What::Failed(error) if error.is_lasting())
    };
    let (unknown, wrong): (Vec<&Problem>, Vec<&Problem>) = problems.iter().partition(is_unknown);
    if !unknown.is_empty() {
        cx.reporter().warn(format!(
            "{}: whether rows are not served or were deleted, or the collection was changed, cannot \
             be known; it is not compared any more",
            lines(&unknown)
        ));
        let dropped = |name: &str| unknown.iter().any(|problem| problem.collection == name);
        cx.record(|status| status.searches.retain(|one| !dropped(&one.collection)))
            .await?;
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let text = lines(&wrong);
    if direction == Direction::Back {
        cx.reporter()
            .warn(format!("searches are not complete: {text}"));
        return Ok(());
    }
    Err(StepError::Failed(format!(
        "searches are still not complete {} s after the first that was not: {text}; no other pod \
         was replaced. If rows were deleted since the run began, resume with --probe-collection {}",
        LIMIT.as_secs(),
        SearchedCollections::NEVER
    )))
}

/// Whether a search in a collection that the run chose may miss rows because of other clients: the
/// collection was released, created again, changed, or is small, now or before.
fn has_another_cause(what: &What, search: Option<&SearchBefore>, loaded: Option<&Loaded>) -> bool {
    let (Some(search), Some(loaded)) = (search, loaded) else {
        return matches!(
            what,
            What::Incomplete(_, Verdict::Unknown) | What::Changed(_)
        );
    };
    let now = loaded
        .collections
        .iter()
        .find(|load| load.label() == search.collection);
    match (what, now) {
        (What::Incomplete(_, Verdict::Unknown) | What::Changed(_), _) | (_, None) => true,
        (_, Some(now)) if search.id.is_some_and(|id| id != now.id) => true,
        (What::Incomplete(_, Verdict::Wrong), Some(now)) => rows(now) < MANY_ROWS,
        (What::Failed(_), Some(_)) => false,
    }
}

/// A few problems as one text.
fn lines(problems: &[&Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    serving::shown(&lines)
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { collection, what } = self;
        match what {
            What::Incomplete(Completeness::Fewer { found, before }, _) => write!(
                f,
                "a search in collection {collection} finds {found} of {before} rows"
            ),
            What::Incomplete(Completeness::Worse { missing, of }, _) => write!(
                f,
                "a search in collection {collection} misses {missing} of {of} rows and finds worse \
                 ones"
            ),
            What::Incomplete(Completeness::Complete, _) => {
                write!(f, "a search in collection {collection} is complete")
            }
            What::Failed(error) => {
                write!(f, "a search in collection {collection} fails: {error}")
            }
            What::Changed(why) => {
                write!(f, "collection {collection} cannot be searched: {why}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn books(id: i64, rows: i64) -> Loaded {
        let load = CollectionLoad {
            database: String::new(),
            name: "books".into(),
            id,
            progress: 100,
            shards: ["a".to_owned()].into(),
            expected: [(1, rows)].into(),
            served: BTreeMap::new(),
            replicas: Ok(Vec::new()),
        };
        Loaded {
            known: [id].into(),
            collections: vec![load],
            notes: Vec::new(),
        }
    }

    fn fewer(verdict: Verdict) -> What {
        let found = Completeness::Fewer {
            found: 50,
            before: 100,
        };
        What::Incomplete(found, verdict)
    }

    #[rstest]
    #[case::not_served(fewer(Verdict::Wrong), Some(books(7, 6000)), false)]
    #[case::small_before(fewer(Verdict::Unknown), Some(books(7, 6000)), true)]
    #[case::small_now(fewer(Verdict::Wrong), Some(books(7, 50)), true)]
    #[case::made_again(fewer(Verdict::Wrong), Some(books(8, 6000)), true)]
    #[case::released(fewer(Verdict::Wrong), Some(Loaded::default()), true)]
    #[case::not_known(fewer(Verdict::Wrong), None, false)]
    #[case::another_vector(What::Changed(NotSearchable::NoVector), Some(books(7, 6000)), true)]
    fn an_answer_that_other_clients_may_have_caused_is_not_wrong(
        #[case] what: What,
        #[case] loaded: Option<Loaded>,
        #[case] expected: bool,
    ) {
        let search = SearchBefore {
            collection: "books".into(),
            id: Some(7),
            rows: Some(6000),
            ..SearchBefore::default()
        };
        let known = has_another_cause(&what, Some(&search), loaded.as_ref());
        assert_eq!(known, expected);
    }

    #[test]
    fn the_largest_collections_are_chosen_and_named_ones_are_used_unchecked() {
        let whole = |name: &str, id, rows| {
            let mut load = books(id, rows).collections.remove(0);
            load.name = name.into();
            load.shards.clear();
            load.expected.clear();
            load.expected.extend((rows > 0).then_some((1, rows)));
            load.served = [(
                1,
                milvus::Served {
                    rows,
                    nodes: [1].into(),
                },
            )]
            .into();
            load.replicas = Ok(vec![milvus::Replica {
                id: 1,
                nodes: [1].into(),
                leaders: Vec::new(),
            }]);
            load
        };
        let all = [
            whole("small", 1, 5),
            whole("large", 2, 50),
            whole("no name", 3, 500),
        ];
        let names = |wanted: &SearchedCollections| -> Vec<String> {
            let found = candidates(wanted, &all);
            found.iter().map(|one| one.name.to_string()).collect()
        };
        assert_eq!(names(&SearchedCollections::Loaded), ["large", "small"]);
        assert_eq!(names(&SearchedCollections::Never), [""; 0]);
        let typed = SearchedCollections::typed_as(&["other".into(), "small".into()]).unwrap();
        let found = candidates(&typed, &all);
        assert_eq!(names(&typed), ["other", "small"]);
        assert_eq!((found[0].rows, found[1].rows), (None, Some(5)));
    }
}
