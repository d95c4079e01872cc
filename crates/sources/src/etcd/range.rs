//! Reads large ranges in pages that are cheap for the server.

use etcd_client::{GetOptions, GetResponse, KeyValue};
use futures::{
    Stream, StreamExt as _,
    stream::{iter, select_all, unfold},
};

use super::{
    connection::EtcdConnection,
    failure::{Failure, Kind},
};
/// Spans of keys that are requested in advance, so that etcd works on the next page while the
/// caller processes the last one.
const AHEAD: usize = 4;

/// Most keys in one page. A segment's record has some hundred bytes, so a page is well below
/// [`MAX_PAGE_BYTES`].
const PAGE: i64 = 4_000;
/// If a page has fewer keys than this, the next page covers a wider part of the key space.
const SPARSE: usize = 1_000;

/// A part of the key space: keys from `from` up to `to`, without `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first possible key of the span.
    pub from: Vec<u8>,
    /// The first key after it.
    pub to: Vec<u8>,
}

/// Walks a range of keys in pages.
///
/// etcd counts all keys of the requested range, even if it returns few, so pages over "from here to
/// the end" take a time that grows with the square of the number of keys. The walk therefore
/// requests small parts of the key space: all keys up to the next sibling of the current key in
/// the tree of keys, at a depth that it adapts to the number of keys found.
#[derive(Debug)]
struct Walk {
    from: Vec<u8>,
    to: Vec<u8>,
    /// Length of the prefix of `from` whose last byte is incremented for the end of the next page;
    /// `None` before the first page.
    depth: Option<usize>,
    limit: i64,
}

impl Walk {
    fn new(Span { from, to }: Span) -> Self {
        Self {
            from,
            to,
            depth: None,
            limit: PAGE,
        }
    }

    /// The range of the next page; `None` if everything is read.
    fn next(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        if self.from >= self.to {
            return None;
        }
        let end = match self.depth {
            Some(depth) if depth > 0 && depth <= self.from.len() => {
                after_prefix(&self.from[..depth])
            }
            _ => self.to.clone(),
        };
        Some((
            self.from.clone(),
            if end.is_empty() || end > self.to {
                self.to.clone()
            } else {
                end
            },
        ))
    }

    /// Records the page from `next` to `end`: its first and last key, the number of keys, and
    /// whether there are more.
    fn read(&mut self, ends: Option<(&[u8], &[u8])>, count: usize, more: bool, end: Vec<u8>) {
        self.limit = (self.limit * 2).min(PAGE);
        match ends {
            Some((first, last)) if more => {
                let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
                self.depth = Some(common + 1);
                self.from = [last, &[0]].concat();
            }
            _ => {
                self.from = end;
                if count < SPARSE {
                    self.depth = self.depth.map(|depth| depth.saturating_sub(1));
                }
                self.depth = self.depth.map(|depth| depth.min(self.from.len()));
            }
        }
    }
}

/// What a read found in addition to the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Revision of every record.
    pub revision: i64,
    /// Id of the etcd cluster.
    pub cluster_id: u64,
}

impl EtcdConnection<'_> {
    /// Reads every record of the spans at one revision, in the order of their keys if the spans
    /// are in order. Fastest if each span has about one page. Revision 0 is the newest.
    ///
    /// # Errors
    /// [`Kind::Compacted`] if the revision was compacted; the records so far must be discarded.
    pub async fn scan(
        &self,
        spans: impl IntoIterator<Item = Span, IntoIter: Send> + Send,
        revision: i64,
        each: &mut (dyn FnMut(KeyValue) + Send),
    ) -> Result<Moment, Failure> {
        let moment = self.moment(revision).await?;
        let begun = iter(spans).map(|span| async move {
            let mut pages = Box::pin(self.pages(span, moment.revision));
            (pages.next().await, pages)
        });
        let mut begun = Box::pin(begun.buffered(AHEAD));
        while let Some((mut page, mut rest)) = begun.next().await {
            while let Some(records) = page {
                records?.into_iter().for_each(&mut *each);
                page = rest.next().await;
            }
        }
        Ok(moment)
    }

    /// Reads every record of the spans at one revision, all spans at once: records of one span come
    /// in the order of their keys, each with the number of its span.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub async fn gather(
        &self,
        spans: impl IntoIterator<Item = Span> + Send,
        revision: i64,
        each: &mut (dyn FnMut(usize, KeyValue) + Send),
    ) -> Result<Moment, Failure> {
        let moment = self.moment(revision).await?;
        let walks = spans.into_iter().enumerate();
        let walks = walks.map(|(span, keys)| {
            Box::pin(
                self.pages(keys, moment.revision)
                    .map(move |page| (span, page)),
            )
        });
        let mut pages = select_all(walks);
        while let Some((span, records)) = pages.next().await {
            records?.into_iter().for_each(|record| each(span, record));
        }
        Ok(moment)
    }

    /// One answer for each request, in the order of the requests, several of them in progress at
    /// once.
    pub fn answers<'s>(
        &'s self,
        requests: impl Iterator<Item = (Vec<u8>, GetOptions)> + Send + 's,
    ) -> impl Stream<Item = Result<GetResponse, Failure>> + Send + 's {
        iter(requests)
            .map(move |(key, options)| async move { self.get(&key, options).await })
            .buffered(AHEAD)
    }

    /// The given revision (0 for the newest) and the id of the cluster.
    ///
    /// # Errors
    /// The error of etcd, or that it did not answer in time.
    pub async fn moment(&self, revision: i64) -> Result<Moment, Failure> {
        // A single key, because etcd would count all keys of a range.
        let answer = self
            .get(self.prefix().as_bytes(), GetOptions::new().with_keys_only())
            .await?;
        let (newest, cluster_id) = answer
            .header()
            .map_or((0, 0), |header| (header.revision(), header.cluster_id()));
        Ok(Moment {
            revision: if revision == 0 { newest } else { revision },
            cluster_id,
        })
    }

    fn pages(
        &self,
        span: Span,
        revision: i64,
    ) -> impl Stream<Item = Result<Vec<KeyValue>, Failure>> + Send + '_ {
        unfold(Some(Walk::new(span)), move |walk| async move {
            let mut walk = walk?;
            match self.page(&mut walk, revision).await {
                Ok(None) => None,
                Ok(Some(records)) => Some((Ok(records), Some(walk))),
                Err(failure) => Some((Err(failure), None)),
            }
        })
    }

    async fn page(&self, walk: &mut Walk, revision: i64) -> Result<Option<Vec<KeyValue>>, Failure> {
        while let Some((from, end)) = walk.next() {
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(walk.limit)
                .with_revision(revision);
            let mut answer = match self.get(&from, options).await {
                Err(failure) if failure.kind == Kind::AnswerTooLarge && walk.limit > 1 => {
                    walk.limit /= 2;
                    continue;
                }
                other => other?,
            };
            let more = answer.more();
            let records = answer.take_kvs();
            let ends = records
                .first()
                .map(KeyValue::key)
                .zip(records.last().map(KeyValue::key));
            walk.read(ends, records.len(), more, end);
            return Ok(Some(records));
        }
        Ok(None)
    }
}

/// The first key after all keys with this prefix; empty if there is none.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_of_a_range_is_the_first_key_after_its_prefix() {
        assert_eq!(after_prefix(b"by-dev/meta/"), b"by-dev/meta0");
        assert_eq!(after_prefix(b"a\xff\xff"), b"b");
        assert_eq!(after_prefix(b"\xff"), b"");
    }

    /// Keys of all pages as etcd answers them, and how many keys it had to count.
    fn walked(keys: &BTreeSet<Vec<u8>>, from: &[u8], to: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let (mut seen, mut counted) = (Vec::new(), 0);
        let mut walk = Walk::new(Span {
            from: from.to_vec(),
            to: to.to_vec(),
        });
        while let Some((from, end)) = walk.next() {
            assert!(from < end);
            let all: Vec<&Vec<u8>> = keys.range(from..end.clone()).collect();
            counted += all.len();
            let limit = usize::try_from(walk.limit).unwrap();
            let page: Vec<Vec<u8>> = all.iter().take(limit).map(|key| (*key).clone()).collect();
            let ends = page
                .first()
                .map(Vec::as_slice)
                .zip(page.last().map(Vec::as_slice));
            walk.read(ends, page.len(), all.len() > limit, end);
            seen.extend(page.iter().cloned());
        }
        (seen, counted)
    }

    #[test]
    fn the_number_of_counted_keys_grows_linearly() {
        let keys: BTreeSet<Vec<u8>> = (0..200_000)
            .map(|n| format!("by-dev/meta/indexes/{}", 430_000_000_000_u64 + n * 7).into_bytes())
            .collect();
        let (seen, counted) = walked(&keys, b"by-dev/meta/", b"by-dev/meta0");
        assert!(seen.iter().eq(keys.iter()));
        assert!(counted < 12 * keys.len(), "{counted}");
    }

    proptest! {
        #[test]
        fn every_key_is_read_once_and_in_order(keys in proptest::collection::btree_set(proptest::collection::vec(0_u8..4, 1..7), 0..3000), limit in 1_i64..9) {
            let mut walk = Walk::new(Span { from: Vec::new(), to: vec![0xff] });
            walk.limit = limit;
            let mut seen: Vec<Vec<u8>> = Vec::new();
            while let Some((from, end)) = walk.next() {
                let all: Vec<&Vec<u8>> = keys.range(from..end.clone()).collect();
                let size = usize::try_from(walk.limit).unwrap();
                let page: Vec<Vec<u8>> = all.iter().take(size).map(|key| (*key).clone()).collect();
                let ends = page.first().map(Vec::as_slice).zip(page.last().map(Vec::as_slice));
                walk.read(ends, page.len(), all.len() > size, end);
                walk.limit = limit;
                seen.extend(page);
            }
            prop_assert!(seen.iter().eq(keys.iter()));
        }
    }
}
