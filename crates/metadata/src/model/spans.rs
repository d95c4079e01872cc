//! The key space in spans of about a page each, so that several can be read at the same time, and
//! how much of each must be read.

use super::{
    key_outcome::{KeyOutcome, KeyOutcomes},
    keys::SESSIONS,
    plan::Plan,
    record::StoredRecord,
};

impl<'d> Plan<'d> {
    /// The key space in spans with about a page of current keys.
    #[must_use]
    pub fn spans(&self, standpoint: Checkpoint) -> KeySpans<'_, 'd> {
        KeySpans::new(self, standpoint)
    }

    /// Checks that everything is written, span by span, before anything is deleted.
    #[must_use]
    pub fn written_check(&self) -> WrittenCheck<'_, 'd> {
        WrittenCheck::new(self)
    }
}

/// Maximum number of known keys in a span. etcd is asked for larger pages, so that a few more keys
/// still fit.
const KEYS: u64 = 2_000;
/// Maximum bytes of these keys and values.
const BYTES: usize = 4 * 1024 * 1024;
/// A span with fewer keys may include keys that must be read to another extent.
const FEW: u64 = 500;

/// The content of etcd at the time of the read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// All old keys and the written ones, of which some may be missing.
    Between,
    /// The end state of the plan.
    Ended,
}

/// How much of a span must be read to verify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadMode {
    /// The number of its keys.
    Count,
    /// Also the keys that were written since everything was read.
    Changes,
    /// Every key and value.
    Whole,
}

/// A part of the key space. Keys are relative to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpan<'p> {
    /// The first key.
    pub from: &'p [u8],
    /// The first key after it; `None` if it ends with the root.
    pub to: Option<&'p [u8]>,
    /// Keys of the plan in this span.
    pub keys: u64,
    /// How much must be read when everything is written and nothing deleted.
    pub look: ReadMode,
}

/// Cuts the key space without sessions into spans, in the order of keys.
#[derive(Clone)]
pub struct KeySpans<'p, 'd> {
    fates: KeyOutcomes<'p, 'd>,
    standpoint: Checkpoint,
    /// The span that is being built, and its bytes; `None` after the last.
    growing: Option<(KeySpan<'p>, usize)>,
    /// The key that did not fit in the previous span.
    held: Option<(&'p [u8], KeyOutcome<'p>)>,
}

impl<'p, 'd: 'p> KeySpans<'p, 'd> {
    pub(super) fn new(plan: &'p Plan<'d>, standpoint: Checkpoint) -> Self {
        Self {
            fates: plan.fates(),
            standpoint,
            growing: Some((begin(b""), 0)),
            held: None,
        }
    }

    fn next_standing(&mut self) -> Option<(&'p [u8], KeyOutcome<'p>)> {
        let is_ended = self.standpoint == Checkpoint::Ended;
        self.held.take().or_else(|| {
            self.fates
                .find(|(_, fate)| !is_ended || fate.after().is_some())
        })
    }
}

impl<'p, 'd: 'p> Iterator for KeySpans<'p, 'd> {
    type Item = KeySpan<'p>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut span, mut bytes) = self.growing.take()?;
        while let Some((key, fate)) = self.next_standing() {
            let look = look(fate);
            if span.from < SESSIONS.as_bytes() && key > SESSIONS.as_bytes() {
                self.held = Some((key, fate));
                break;
            }
            if span.keys >= KEYS || bytes >= BYTES || (span.keys >= FEW && look != span.look) {
                self.growing = Some((begin(key), 0));
                self.held = Some((key, fate));
                return Some(KeySpan {
                    to: Some(key),
                    ..span
                });
            }
            bytes += key.len() + fate.written().len();
            span.keys += 1;
            span.look = span.look.max(look);
        }
        if span.from < SESSIONS.as_bytes() {
            self.growing = Some((begin(AFTER_SESSIONS), 0));
            span.to = Some(SESSIONS.as_bytes());
        }
        Some(span)
    }
}

/// The first key after all sessions; `0` follows `/`.
const AFTER_SESSIONS: &[u8] = b"session0";

const fn begin(from: &[u8]) -> KeySpan<'_> {
    KeySpan {
        from,
        to: None,
        keys: 0,
        look: ReadMode::Count,
    }
}

const fn look(fate: KeyOutcome<'_>) -> ReadMode {
    match fate {
        KeyOutcome::Put { .. } | KeyOutcome::Rewrite { .. } => ReadMode::Whole,
        KeyOutcome::Keep(_) => ReadMode::Changes,
        // It is deleted only if its revision is still the planned one.
        KeyOutcome::Delete { .. } => ReadMode::Count,
    }
}

/// Proves, span by span, that everything is written and nothing else has changed, before anything
/// is deleted.
///
/// Written records are compared byte by byte. The other records were read and compared before, at a
/// revision that the caller has, so only later changes must be found: a key that was written since
/// is found by its revision, a deleted or new key by the number of keys. A change of a record that
/// is to be deleted is found in the transaction that deletes it, which compares its revision.
pub struct WrittenCheck<'p, 'd> {
    fates: KeyOutcomes<'p, 'd>,
}

impl<'p, 'd: 'p> WrittenCheck<'p, 'd> {
    pub(super) fn new(plan: &'p Plan<'d>) -> Self {
        Self {
            fates: plan.fates(),
        }
    }

    /// Whether the next span of [`Checkpoint::Between`] is as planned: it contains `count` keys, of
    /// which `found` were read. If not, the cause is open: not everything may have been written,
    /// another client may have written, or a lease may have expired.
    pub fn is_as_planned<'r>(
        &mut self,
        span: &KeySpan<'_>,
        count: u64,
        found: impl Iterator<Item = StoredRecord<'r>>,
    ) -> bool {
        let mut planned = self
            .fates
            .by_ref()
            .take(usize::try_from(span.keys).unwrap_or(usize::MAX));
        let mut found = found;
        let mut is_same = count == span.keys;
        if span.look == ReadMode::Whole {
            for (key, fate) in planned.by_ref() {
                let value = fate.written();
                is_same &= found
                    .next()
                    .is_some_and(|standing| standing.key == key && standing.value == value);
            }
        }
        planned.for_each(drop);
        is_same && found.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::model::{
        Dump, Options, Record,
        sample::{Sample, Size},
        transform::plan,
    };

    fn large() -> Dump {
        let mut sample = Sample::large(Size {
            collections: 2,
            segments: 3_000,
            has_oddities: false,
        });
        sample
            .surroundings()
            .session("rootcoord")
            .put("zzz", "after the sessions");
        sample.dump().unwrap()
    }

    /// The state after everything is written and before anything is deleted, at later revisions.
    fn written(plan: &Plan<'_>) -> Vec<Record> {
        plan.fates()
            .map(|(key, fate)| {
                Record::new(
                    key,
                    fate.written(),
                    if look(fate) == ReadMode::Whole { 2 } else { 1 },
                )
            })
            .collect()
    }

    /// Checks with the answers of an etcd: the count of keys, and the records of the read mode.
    fn check(plan: &Plan<'_>, standing: &[Record]) -> bool {
        let mut check = plan.written_check();
        plan.spans(Checkpoint::Between).all(|span| {
            let lies = |record: &&Record| {
                record.key() >= span.from && span.to.is_none_or(|to| record.key() < to)
            };
            let here: Vec<StoredRecord<'_>> =
                standing.iter().filter(lies).map(Record::standing).collect();
            let found = here.iter().copied().filter(|standing| match span.look {
                ReadMode::Count => false,
                ReadMode::Changes => standing.mod_revision > 1,
                ReadMode::Whole => true,
            });
            check.is_as_planned(&span, here.len() as u64, found)
        })
    }

    #[test]
    fn spans_cover_everything_but_sessions_in_pages() {
        let dump = large();
        let plan = plan(&dump, &Options::default()).unwrap();
        for (standpoint, expected) in [
            (
                Checkpoint::Between,
                plan.fates()
                    .map(|(key, _)| key.to_vec())
                    .collect::<Vec<_>>(),
            ),
            (
                Checkpoint::Ended,
                plan.end_state().map(|(key, _)| key.to_vec()).collect(),
            ),
        ] {
            let spans: Vec<KeySpan<'_>> = plan.spans(standpoint).collect();
            assert_eq!((spans[0].from, spans[spans.len() - 1].to), (&b""[..], None));
            for pair in spans.windows(2) {
                let (end, next) = (pair[0].to.unwrap(), pair[1].from);
                assert!(
                    end == next || (end == b"session/" && next == AFTER_SESSIONS),
                    "{pair:?}"
                );
            }
            for span in &spans {
                let lies = |key: &&Vec<u8>| {
                    key.as_slice() >= span.from && span.to.is_none_or(|to| key.as_slice() < to)
                };
                assert_eq!(
                    expected.iter().filter(lies).count() as u64,
                    span.keys,
                    "{span:?}"
                );
                assert!(span.keys <= KEYS);
            }
            assert_eq!(
                spans.iter().map(|span| span.keys).sum::<u64>(),
                expected.len() as u64
            );
        }
    }

    #[test]
    fn only_written_records_are_read_completely() {
        let dump = large();
        let plan = plan(&dump, &Options::default()).unwrap();
        let whole: u64 = plan
            .spans(Checkpoint::Between)
            .filter(|span| span.look == ReadMode::Whole)
            .map(|span| span.keys)
            .sum();
        let written = (plan.puts().len() + plan.rewrites().len()) as u64;
        assert!(
            whole >= written && whole < written + 6 * FEW,
            "{whole} for {written}"
        );
    }

    #[test]
    fn large_values_make_small_spans() {
        let mut sample = Sample::new();
        sample.surroundings().collection(1, "c");
        for id in 0..8 {
            sample.put(format!("datacoord-meta/x/{id}"), vec![7; 1024 * 1024]);
        }
        let dump = sample.dump().unwrap();
        let plan = plan(&dump, &Options::default()).unwrap();
        assert!(plan.spans(Checkpoint::Ended).count() >= 3);
    }

    #[test]
    fn written_records_are_as_planned() {
        let dump = large();
        let plan = plan(&dump, &Options::default()).unwrap();
        assert!(check(&plan, &written(&plan)));
        assert!(!check(&plan, dump.records()), "nothing is written yet");
    }

    #[rstest]
    #[case::written("segment-index/", false)]
    #[case::kept("datacoord-meta/s/", false)]
    #[case::to_be_deleted_which_its_deletion_compares("indexes/", true)]
    fn every_foreign_write_is_found(#[case] area: &str, #[case] passes: bool) {
        let dump = large();
        let plan = plan(&dump, &Options::default()).unwrap();
        let good = written(&plan);
        // A key in the middle of the area, so that no other kind of record is in the same span.
        let at = good.partition_point(|record| record.key() < area.as_bytes()) + 2_500;
        assert!(good[at].key().starts_with(area.as_bytes()));

        let mut changed = good.clone();
        changed[at] = Record::new(good[at].key(), b"foreign", 3);
        assert_eq!(check(&plan, &changed), passes, "a changed value");

        let mut vanished = good.clone();
        vanished.remove(at);
        assert!(!check(&plan, &vanished), "a key that was deleted");

        let mut appeared = good.clone();
        appeared.insert(
            at,
            Record::new([good[at - 1].key(), b"0"].concat(), b"foreign", 3),
        );
        assert!(!check(&plan, &appeared), "a new key");

        let mut replaced = vanished;
        replaced.insert(
            at,
            Record::new([good[at - 1].key(), b"0"].concat(), b"foreign", 3),
        );
        assert_eq!(
            check(&plan, &replaced),
            passes,
            "one deleted and one new key"
        );
    }
}
