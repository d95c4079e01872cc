//! Reading large ranges in pages, each of them cheap for the server.

use etcd_client::{GetOptions, KeyValue, ResponseHeader};

use super::{
    failure::{Failure, Kind},
    store::Store,
};

/// Most keys in one page. A segment's record has some hundred bytes, so a page is well below [`MAX_PAGE_BYTES`].
const PAGE: i64 = 4_000;
/// Fewer keys than this in a page, and the next one covers a wider part of the key space.
const SPARSE: usize = 1_000;
/// Bytes of one page. A page of collection records with 4096 partitions each is larger and is then read in smaller
/// pages; one single record cannot be larger than etcd's request limit (1.5 MiB unless raised).
pub const MAX_PAGE_BYTES: usize = 32 * 1024 * 1024;

/// Walks a range of keys in pages.
///
/// etcd counts every key of the range that it is asked for, however few it returns, so pages over "from here to the end"
/// cost a time that grows with the square of the number of keys. The walk therefore asks for small parts of the key space:
/// all keys up to the next sibling of the key that it stands at, in a tree whose depth it adapts to what it finds.
#[derive(Debug)]
struct Walk {
    from: Vec<u8>,
    to: Vec<u8>,
    /// Bytes of `from` whose last one is counted up for the end of the next page; absent before anything is known.
    depth: Option<usize>,
    limit: i64,
}

impl Walk {
    fn new(from: &[u8], to: &[u8]) -> Self {
        Self { from: from.to_vec(), to: to.to_vec(), depth: None, limit: PAGE }
    }

    /// The next page's range; nothing when all is read.
    fn next(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        if self.from >= self.to {
            return None;
        }
        let end = match self.depth {
            Some(depth) if depth > 0 && depth <= self.from.len() => after_prefix(&self.from[..depth]),
            _ => self.to.clone(),
        };
        Some((self.from.clone(), if end.is_empty() || end > self.to { self.to.clone() } else { end }))
    }

    /// Takes in what the page from `next` to `end` held: its first and last key, how many, and whether it holds more.
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

/// What a read found beside the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Revision of every record.
    pub revision: i64,
    /// Cluster that they are in.
    pub cluster_id: u64,
}

impl Store<'_> {
    /// Reads every record from `from` up to but without `to` at one revision, in the order of their keys. Revision 0 is
    /// the newest.
    ///
    /// # Errors
    /// [`Kind::Compacted`] when the revision is gone; what was handed over by then is worthless.
    pub async fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        revision: i64,
        each: &mut (dyn FnMut(KeyValue) + Send),
    ) -> Result<Moment, Failure> {
        let mut moment = Moment { revision, cluster_id: 0 };
        let mut walk = Walk::new(from, to);
        while let Some((from, end)) = walk.next() {
            let options = GetOptions::new().with_range(end.clone()).with_limit(walk.limit).with_revision(moment.revision);
            let mut answer = match self.get(&from, options).await {
                Err(failure) if failure.kind == Kind::AnswerTooLarge && walk.limit > 1 => {
                    walk.limit /= 2;
                    continue;
                }
                other => other?,
            };
            moment.cluster_id = answer.header().map_or(0, ResponseHeader::cluster_id);
            if moment.revision == 0 {
                moment.revision = answer.header().map_or(0, ResponseHeader::revision);
            }
            let more = answer.more();
            let records = answer.take_kvs();
            let ends = records.first().map(KeyValue::key).zip(records.last().map(KeyValue::key));
            walk.read(ends, records.len(), more, end);
            records.into_iter().for_each(&mut *each);
        }
        Ok(moment)
    }
}

/// The first key after all keys with this prefix; empty where there is none.
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
    fn ranges_end_after_their_prefix() {
        assert_eq!(after_prefix(b"by-dev/meta/"), b"by-dev/meta0");
        assert_eq!(after_prefix(b"a\xff\xff"), b"b");
        assert_eq!(after_prefix(b"\xff"), b"");
    }

    /// Pages as etcd answers them, and how many keys it had to count for them.
    fn walked(keys: &BTreeSet<Vec<u8>>, from: &[u8], to: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let (mut seen, mut counted) = (Vec::new(), 0);
        let mut walk = Walk::new(from, to);
        while let Some((from, end)) = walk.next() {
            assert!(from < end);
            let all: Vec<&Vec<u8>> = keys.range(from..end.clone()).collect();
            counted += all.len();
            let limit = usize::try_from(walk.limit).unwrap();
            let page: Vec<Vec<u8>> = all.iter().take(limit).map(|key| (*key).clone()).collect();
            let ends = page.first().map(Vec::as_slice).zip(page.last().map(Vec::as_slice));
            walk.read(ends, page.len(), all.len() > limit, end);
            seen.extend(page.iter().cloned());
        }
        (seen, counted)
    }

    #[test]
    fn the_work_grows_with_the_keys_and_not_with_their_square() {
        let keys: BTreeSet<Vec<u8>> =
            (0..200_000).map(|n| format!("by-dev/meta/indexes/{}", 430_000_000_000_u64 + n * 7).into_bytes()).collect();
        let (seen, counted) = walked(&keys, b"by-dev/meta/", b"by-dev/meta0");
        assert!(seen.iter().eq(keys.iter()));
        assert!(counted < 12 * keys.len(), "{counted}");
    }

    proptest! {
        #[test]
        fn every_key_once_and_in_order(keys in proptest::collection::btree_set(proptest::collection::vec(0_u8..4, 1..7), 0..3000), limit in 1_i64..9) {
            let mut walk = Walk::new(b"", b"\xff");
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
