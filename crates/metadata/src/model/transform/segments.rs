//! Indexes of segments: two records of 2.1, for the segment and for the build, become one.
//!
//! There may be a million of them, so builds are found through a sorted list of ids and decoded one
//! at a time.

use prost::Message;

use crate::model::{
    keys::{BUILD, OLD_SEGMENT_INDEX, SEGMENT, SEGMENT_INDEX, numbers},
    messages::{Build, INDEX_FINISHED, OldSegmentIndex, SEGMENT_DROPPED, Segment, SegmentIndex},
    notes::NoteKind,
    options::Deviation,
    plan::Kind,
    record::{Dump, Record},
};

use super::{
    collections::Live,
    indexes::Indexes,
    output::{Output, is_tombstone},
};

/// Version of an index that was never built.
const FIRST_VERSION: i64 = 1;

pub(super) fn migrate(output: &mut Output<'_>, live: &Live<'_>, indexes: &Indexes<'_>) {
    let dump = output.dump;
    let records = dump.under(OLD_SEGMENT_INDEX);
    let mut builds = Builds::read(output);
    let rows = rows(output, records);
    output.puts.reserve(rows.len());
    for row in rows {
        // It was decoded before, for the sort.
        let Ok(old) = OldSegmentIndex::decode(records[row.position].value()) else {
            continue;
        };
        migrate_one(
            output,
            &mut builds,
            live,
            indexes,
            (&records[row.position], old),
        );
    }
    builds.finish(output);
    output.deletes.extend(records);
}

fn migrate_one(
    output: &mut Output<'_>,
    builds: &mut Builds<'_>,
    live: &Live<'_>,
    indexes: &Indexes<'_>,
    (record, old): (&Record, OldSegmentIndex),
) {
    let is_unbuilt = old.build_id == 0 && !old.enable_index;
    let (build, build_id) = if is_unbuilt {
        let id = if output.does(Deviation::UniqueBuildIds) {
            builds.unused_id()
        } else {
            0
        };
        (
            Build {
                state: INDEX_FINISHED,
                index_version: FIRST_VERSION,
                ..Build::default()
            },
            id,
        )
    } else {
        match builds.find(output, old.build_id) {
            Ok(Some(build)) => (build, old.build_id),
            Err(Broken) => return,
            Ok(None) => {
                missing_build(output, live, indexes, record, old);
                return;
            }
        }
    };
    output.count(Kind::SegmentIndexes);
    if is_unbuilt {
        output.count(Kind::UnbuiltSegmentIndexes);
    }
    let new = SegmentIndex {
        collection_id: old.collection_id,
        partition_id: old.partition_id,
        segment_id: old.segment_id,
        num_rows: build.request.map_or(0, |request| request.num_rows),
        index_id: old.index_id,
        build_id,
        node_id: build.node_id,
        index_version: build.index_version,
        state: build.state,
        fail_reason: build.fail_reason,
        index_file_keys: build.index_file_paths.into_iter().map(base_name).collect(),
        deleted: build.mark_deleted,
        create_time: old.create_time,
        serialize_size: build.serialize_size,
        write_handoff: build.state == INDEX_FINISHED,
    };
    let key = format!(
        "{SEGMENT_INDEX}{}/{}/{}/{build_id}",
        old.collection_id, old.partition_id, old.segment_id
    );
    output.put(key, new.encode_to_vec());
}

/// A build may be missing if its segment, index or collection is: 2.1 removes these one after
/// another.
fn missing_build(
    output: &mut Output<'_>,
    live: &Live<'_>,
    indexes: &Indexes<'_>,
    record: &Record,
    old: OldSegmentIndex,
) {
    let OldSegmentIndex {
        collection_id,
        segment_id,
        index_id,
        build_id,
        ..
    } = old;
    let is_gone = !live.contains_key(&collection_id)
        || !indexes.is_live(collection_id, index_id)
        || is_segment_gone(output.dump, &old);
    if is_gone && output.does(Deviation::TolerateOrphans) {
        output.note(record, NoteKind::OrphanedSegmentIndex);
    } else {
        let what =
            format!("build {build_id} of index {index_id} of segment {segment_id} has no record");
        output.problem(record, what);
    }
}

/// Whether a segment is known to be dropped; false if nothing is known of the collection's
/// segments.
fn is_segment_gone(dump: &Dump, old: &OldSegmentIndex) -> bool {
    let of_collection = format!("{SEGMENT}{}/", old.collection_id);
    match dump.get(format!("{of_collection}{}/{}", old.partition_id, old.segment_id).as_bytes()) {
        Some(record) => {
            Segment::decode(record.value()).is_ok_and(|segment| segment.state == SEGMENT_DROPPED)
        }
        None => !dump.under(&of_collection).is_empty(),
    }
}

/// The last component of a path, without a new allocation.
fn base_name(mut path: String) -> String {
    if let Some(at) = path.rfind('/') {
        path.drain(..=at);
    }
    path
}

struct Row {
    segment_id: i64,
    index_id: i64,
    position: usize,
}

/// The segments' records in an order that does not depend on the text of keys, each segment and
/// index once: of two records for the same segment and index the one with the last key counts, as
/// with the official tool.
fn rows(output: &mut Output<'_>, records: &[Record]) -> Vec<Row> {
    let mut rows = Vec::with_capacity(records.len());
    for (position, record) in records.iter().enumerate() {
        if is_tombstone(record) && output.does(Deviation::SkipIndexTombstones) {
            output.note(record, NoteKind::IndexTombstone);
            continue;
        }
        let Some(old) = output.decode::<OldSegmentIndex>(record) else {
            continue;
        };
        let ids = [
            old.collection_id,
            old.index_id,
            old.partition_id,
            old.segment_id,
        ];
        if numbers(&record.key()[OLD_SEGMENT_INDEX.len()..]) != Some(ids) {
            output.note(record, NoteKind::KeyMismatch);
        }
        rows.push(Row {
            segment_id: old.segment_id,
            index_id: old.index_id,
            position,
        });
    }
    rows.sort_unstable_by_key(|row| {
        (
            row.segment_id,
            row.index_id,
            std::cmp::Reverse(row.position),
        )
    });
    rows.dedup_by(|next, kept| {
        let is_same = (next.segment_id, next.index_id) == (kept.segment_id, kept.index_id);
        if is_same {
            output.note(&records[next.position], NoteKind::Replaced);
        }
        is_same
    });
    rows
}

/// Builds by their id.
struct Builds<'d> {
    records: &'d [Record],
    /// Id, position, and whether a segment uses it. Sorted.
    ids: Vec<(i64, usize, bool)>,
    next_unused: i64,
    step: i64,
}

/// A build that cannot be read; the problem was noted.
struct Broken;

impl<'d> Builds<'d> {
    fn read(output: &mut Output<'d>) -> Self {
        /// Only the id; everything else is decoded when it is needed.
        #[derive(Clone, PartialEq, Message)]
        struct Id {
            #[prost(int64, tag = "1")]
            build_id: i64,
        }
        let records = output.dump.under(BUILD);
        output.deletes.extend(records);
        let mut ids = Vec::with_capacity(records.len());
        for (position, record) in records.iter().enumerate() {
            if is_tombstone(record) && output.does(Deviation::SkipIndexTombstones) {
                output.note(record, NoteKind::IndexTombstone);
                continue;
            }
            let Some(Id { build_id }) = output.decode(record) else {
                continue;
            };
            if numbers(&record.key()[BUILD.len()..]) != Some([build_id]) {
                output.note(record, NoteKind::KeyMismatch);
            }
            ids.push((build_id, position, false));
        }
        ids.sort_unstable_by_key(|(id, position, _)| (*id, std::cmp::Reverse(*position)));
        ids.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                output.note(&records[next.1], NoteKind::Replaced);
            }
            is_same
        });
        // The official tool counts in the same way, although it does not use the numbers.
        let (next_unused, step) = ids
            .first()
            .map_or((1, 1), |(lowest, _, _)| (lowest.saturating_sub(1), -1));
        Self {
            records,
            ids,
            next_unused,
            step,
        }
    }

    fn unused_id(&mut self) -> i64 {
        if self.next_unused == 0 {
            // 0 means that there is no build.
            self.next_unused = self.step;
        }
        let id = self.next_unused;
        self.next_unused = id.saturating_add(self.step);
        id
    }

    fn find(&mut self, output: &mut Output<'_>, build_id: i64) -> Result<Option<Build>, Broken> {
        let Ok(at) = self.ids.binary_search_by_key(&build_id, |(id, _, _)| *id) else {
            return Ok(None);
        };
        let (_, position, is_used) = &mut self.ids[at];
        *is_used = true;
        let record = &self.records[*position];
        let build = output.decode::<Build>(record).ok_or(Broken)?;
        if build
            .index_file_paths
            .first()
            .is_some_and(|path| version_in(path).is_some_and(|found| found != build.index_version))
        {
            output.note(record, NoteKind::IndexVersionMismatch);
        }
        Ok(Some(build))
    }

    /// Builds that no segment uses are not migrated, but an invalid one is still a problem.
    fn finish(self, output: &mut Output<'_>) {
        let mut unused: Vec<usize> = self
            .ids
            .iter()
            .filter(|(_, _, is_used)| !is_used)
            .map(|(_, position, _)| *position)
            .collect();
        unused.sort_unstable();
        for position in unused {
            let record = &self.records[position];
            if output.decode::<Build>(record).is_some() {
                output.note(record, NoteKind::UnusedBuild);
            }
        }
    }
}

/// The version within `.../index_files/<build>/<version>/<partition>/<segment>/<name>`. 2.2
/// computes the path from the version in the build's record.
fn version_in(path: &str) -> Option<i64> {
    let mut parts = path.rsplit('/').skip(3);
    let version = parts.next()?.parse().ok()?;
    (parts.nth(1) == Some("index_files")).then_some(version)
}
