//! What is loaded, what is missing, and what is missing compared with an earlier state. Pure: no
//! call is made here.
//!
//! A collection is complete if its progress is 100 %, every replica has a leader for each shard
//! among its own nodes, and every flushed segment of the loaded partitions is on a node of every
//! replica. Progress alone proves nothing: a new coordinator reports 100 % from its metadata.

use std::collections::{BTreeMap, BTreeSet};

use milvus_guard_core::{
    api::loaded::{Baseline, CollectionBaseline},
    error_text,
};

/// Everything that is loaded, at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Loaded collections and those that are being loaded; released ones are not among them.
    pub collections: Vec<CollectionLoad>,
    /// Ids of all collections that exist, loaded or not.
    pub known: BTreeSet<i64>,
    /// What could not be read and was left out, as text for a person.
    pub notes: Vec<String>,
}

/// How far one collection is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionLoad {
    /// Its database; empty if Milvus has no databases (before 2.2.9).
    pub database: String,
    /// Its name.
    pub name: String,
    /// Its id, which stays when it is renamed.
    pub id: i64,
    /// Loading progress as Milvus reports it, in percent.
    pub progress: i64,
    /// Its shards, by channel.
    pub shards: BTreeSet<String>,
    /// Flushed segments of the loaded partitions, by id, with their rows: all must be served.
    pub expected: BTreeMap<i64, i64>,
    /// Sealed segments on query nodes, by id. They differ from `expected` while compacted segments
    /// or indexes are not ready.
    pub served: BTreeMap<i64, Served>,
    /// Its copies in memory, or why Milvus cannot list them (up to 2.3 it lists none while a
    /// shard has no leader).
    pub replicas: Result<Vec<Replica>, String>,
}

/// A segment on query nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Its rows.
    pub rows: i64,
    /// Ids of the nodes that have it.
    pub nodes: BTreeSet<i64>,
}

/// A copy of a collection in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    /// Its id.
    pub id: i64,
    /// Ids of its nodes.
    pub nodes: BTreeSet<i64>,
    /// The leaders of its shards.
    pub leaders: Vec<ShardLeader>,
}

/// The leader of a shard of a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardLeader {
    /// The shard.
    pub channel: String,
    /// The node's id.
    pub node: i64,
}

impl Loaded {
    /// Whether everything is loaded and served.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.collections
            .iter()
            .all(|collection| collection.missing().is_empty())
    }

    /// What is missing, one line for each collection; empty if it [is complete](Self::is_complete).
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.collections
            .iter()
            .filter_map(|collection| said(&collection.label(), &collection.missing()))
            .collect()
    }

    /// The same as if only these nodes existed. A coordinator lists nodes for a second or longer
    /// after they have ended; callers pass the live nodes (from sessions in etcd, or from pods).
    #[must_use]
    pub fn on_nodes(mut self, live: &BTreeSet<i64>) -> Self {
        for collection in &mut self.collections {
            for segment in collection.served.values_mut() {
                segment.nodes.retain(|node| live.contains(node));
            }
            for replica in collection.replicas.iter_mut().flatten() {
                replica.nodes.retain(|node| live.contains(node));
            }
        }
        self
    }

    /// Ids of all nodes that are in a replica, lead a shard or serve a segment.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<i64> {
        let of = |collection: &CollectionLoad| {
            let replicas = collection.replicas.iter().flatten();
            let members = replicas.flat_map(|one| {
                one.nodes
                    .iter()
                    .copied()
                    .chain(one.leaders.iter().map(|leader| leader.node))
            });
            let holders = collection
                .served
                .values()
                .flat_map(|segment| segment.nodes.iter().copied());
            members.chain(holders).collect::<Vec<_>>()
        };
        self.collections.iter().flat_map(of).collect()
    }

    /// The baseline to compare a later state with.
    #[must_use]
    pub fn baseline(&self) -> Baseline {
        Baseline {
            collections: self
                .collections
                .iter()
                .map(CollectionLoad::baseline)
                .collect(),
        }
    }

    /// Whether everything that was loaded at the baseline is loaded and served again.
    ///
    /// Not expected are: collections that were dropped or loaded since then, what was not served at
    /// the baseline, and segments that were flushed since then as long as no row is lost (until
    /// their index is built they are served from the message queue, or as the segments from which
    /// they were compacted).
    ///
    /// # Errors
    /// What is still missing, one line for each collection.
    pub fn regained(&self, baseline: &Baseline) -> Result<(), Vec<String>> {
        let by_id: BTreeMap<i64, &CollectionLoad> =
            self.collections.iter().map(|now| (now.id, now)).collect();
        let lost: Vec<String> = baseline
            .collections
            .iter()
            .filter(|before| self.known.contains(&before.id))
            .filter_map(|before| match by_id.get(&before.id) {
                Some(now) => said(&now.label(), &now.lost(before)),
                None => Some(format!(
                    "collection {}: was loaded before, but is not loaded now (its load failed, \
                     or a client released it)",
                    before.name
                )),
            })
            .collect();
        if lost.is_empty() { Ok(()) } else { Err(lost) }
    }
}

impl CollectionLoad {
    /// Its name for messages, with its database if that is not the default one.
    #[must_use]
    pub fn label(&self) -> String {
        match self.database.as_str() {
            "" | "default" => error_text::line(&self.name),
            database => error_text::line(&format!("{database}/{}", self.name)),
        }
    }

    /// What is missing, as text; empty if nothing is.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.progress < 100 {
            words.push(format!("loaded to {} %", self.progress));
        }
        words.extend(self.segments_missing(|_, _| true));
        words.extend(self.leaders_missing());
        words
    }

    /// What was served at the baseline and is missing now.
    fn lost(&self, before: &CollectionBaseline) -> Vec<String> {
        let mut words = Vec::new();
        if self.progress < before.progress {
            words.push(format!("loaded to {} %", self.progress));
        }
        words.extend(self.segments_missing(|segment, replica| {
            let since = segment > before.newest && self.rows_on(replica) >= before.rows;
            !(since || before.lagging.contains(&segment))
        }));
        let copies = self.replicas.as_ref().map_or(before.replicas, Vec::len);
        if copies < before.replicas {
            words.push(format!("{copies} of {} replicas", before.replicas));
        }
        if before.led {
            words.extend(self.leaders_missing());
        }
        words
    }

    fn baseline(&self) -> CollectionBaseline {
        let copies = self.copies();
        CollectionBaseline {
            name: self.label(),
            id: self.id,
            progress: self.progress,
            replicas: self.replicas.as_ref().map_or(0, Vec::len),
            led: self.leaders_missing().is_none(),
            rows: copies
                .iter()
                .map(|copy| self.rows_on(*copy))
                .min()
                .unwrap_or_default(),
            lagging: copies.iter().flat_map(|copy| self.absent(*copy)).collect(),
            newest: self.expected.last_key_value().map_or(0, |(id, _)| *id),
        }
    }

    /// Where segments are expected: on nodes of each replica; on any node (`None`) if the replicas
    /// are unknown.
    fn copies(&self) -> Vec<Option<&Replica>> {
        match &self.replicas {
            Ok(replicas) => replicas.iter().map(Some).collect(),
            Err(_) => vec![None],
        }
    }

    fn is_on(segment: &Served, replica: Option<&Replica>) -> bool {
        match replica {
            Some(replica) => !segment.nodes.is_disjoint(&replica.nodes),
            None => !segment.nodes.is_empty(),
        }
    }

    fn absent(&self, replica: Option<&Replica>) -> Vec<i64> {
        let is_served = |id: &i64| {
            self.served
                .get(id)
                .is_some_and(|segment| Self::is_on(segment, replica))
        };
        self.expected
            .keys()
            .filter(|id| !is_served(id))
            .copied()
            .collect()
    }

    fn rows_on(&self, replica: Option<&Replica>) -> i64 {
        let on_it = self
            .served
            .values()
            .filter(|segment| Self::is_on(segment, replica));
        on_it.fold(0, |sum, segment| sum.saturating_add(segment.rows))
    }

    /// How many segments are served, for each replica without a segment for which `counts` is true.
    fn segments_missing(&self, counts: impl Fn(i64, Option<&Replica>) -> bool) -> Vec<String> {
        let all = self.expected.len();
        let copies = self.copies();
        let several = copies.len() > 1;
        let lacking = copies.iter().enumerate().filter_map(|(at, copy)| {
            let absent = self.absent(*copy);
            absent
                .iter()
                .any(|segment| counts(*segment, *copy))
                .then(|| {
                    let place = if several {
                        format!(" by replica {} of {}", at + 1, copies.len())
                    } else {
                        String::new()
                    };
                    format!("{} of {all} segments are served{place}", all - absent.len())
                })
        });
        lacking.collect()
    }

    fn leaders_missing(&self) -> Option<String> {
        let replicas = match &self.replicas {
            Ok(replicas) if replicas.is_empty() => return Some("no replica".into()),
            Ok(replicas) => replicas,
            Err(reason) => return Some(format!("its shard leaders are unknown ({reason})")),
        };
        let wanted = self.shards.len() * replicas.len();
        let led: usize = replicas
            .iter()
            .map(|replica| replica.led(&self.shards))
            .sum();
        (led < wanted).then(|| format!("{led} of {wanted} shard leaders"))
    }
}

impl Replica {
    /// How many of these shards have a leader among this replica's own nodes.
    fn led(&self, shards: &BTreeSet<String>) -> usize {
        let leaders = self
            .leaders
            .iter()
            .filter(|leader| self.nodes.contains(&leader.node));
        leaders
            .map(|leader| &leader.channel)
            .filter(|channel| shards.contains(*channel))
            .collect::<BTreeSet<_>>()
            .len()
    }
}

fn said(label: &str, words: &[String]) -> Option<String> {
    (!words.is_empty()).then(|| format!("collection {label}: {}", words.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A complete collection: segments 1 to 4 of 100 rows, shards a and b, replicas on nodes {1, 2}
    /// and {3}.
    fn books() -> CollectionLoad {
        let leader = |channel: &str, node| ShardLeader {
            channel: channel.into(),
            node,
        };
        let replica = |id, nodes: &[i64], leaders| Replica {
            id,
            nodes: nodes.iter().copied().collect(),
            leaders,
        };
        CollectionLoad {
            database: "default".into(),
            name: "books".into(),
            id: 7,
            progress: 100,
            shards: ["a", "b"].map(String::from).into(),
            expected: (1..=4).map(|id| (id, 100)).collect(),
            served: (1..=4)
                .map(|id| {
                    (
                        id,
                        Served {
                            rows: 100,
                            nodes: [1 + id % 2, 3].into(),
                        },
                    )
                })
                .collect(),
            replicas: Ok(vec![
                replica(1, &[1, 2], vec![leader("a", 1), leader("b", 2)]),
                replica(2, &[3], vec![leader("a", 3), leader("b", 3)]),
            ]),
        }
    }

    fn loaded(collection: CollectionLoad) -> Loaded {
        Loaded {
            known: [collection.id].into(),
            collections: vec![collection],
            notes: Vec::new(),
        }
    }

    fn replicas(collection: &mut CollectionLoad) -> &mut Vec<Replica> {
        collection.replicas.as_mut().unwrap()
    }

    /// What a changed collection lacks: alone, and compared with the complete collection.
    fn both(change: impl Fn(&mut CollectionLoad)) -> (Vec<String>, Vec<String>) {
        let baseline = loaded(books()).baseline();
        let mut collection = books();
        change(&mut collection);
        let now = loaded(collection);
        assert_eq!(now.is_complete(), now.missing().is_empty());
        (
            now.missing(),
            now.regained(&baseline).err().unwrap_or_default(),
        )
    }

    #[test]
    fn a_complete_collection_lacks_nothing() {
        assert_eq!(both(|_| ()), (vec![], vec![]));
        assert!(Loaded::default().is_complete());
    }

    #[test]
    fn missing_segments_leaders_and_progress_are_reported_with_and_without_a_baseline() {
        type Change = fn(&mut CollectionLoad);
        let cases: [(Change, &str); 9] = [
            (|c| c.progress = 40, "books: loaded to 40 %"),
            (
                |c| c.served.clear(),
                "books: 0 of 4 segments are served by replica 1 of 2, 0 of 4 segments are served \
                 by replica 2 of 2",
            ),
            (
                |c| {
                    c.served.get_mut(&2).unwrap().nodes.remove(&3);
                },
                "books: 3 of 4 segments are served by replica 2 of 2",
            ),
            // The segment must be on a node of this replica; other nodes do not count.
            (
                |c| c.served.get_mut(&2).unwrap().nodes = [3, 9].into(),
                "books: 3 of 4 segments are served by replica 1 of 2",
            ),
            (
                |c| drop(replicas(c)[0].leaders.pop()),
                "books: 3 of 4 shard leaders",
            ),
            (
                |c| replicas(c)[1].leaders[0].node = 1,
                "books: 3 of 4 shard leaders",
            ),
            (
                |c| replicas(c)[1].leaders[0].channel = "b".into(),
                "books: 3 of 4 shard leaders",
            ),
            (
                |c| c.replicas = Err("no leader".into()),
                "books: its shard leaders are unknown (no leader)",
            ),
            (
                |c| {
                    (c.database, c.progress) = ("shop".into(), 0);
                    replicas(c)[0].leaders.clear();
                },
                "shop/books: loaded to 0 %, 2 of 4 shard leaders",
            ),
        ];
        for (change, words) in cases {
            let expected = vec![format!("collection {words}")];
            assert_eq!(both(change), (expected.clone(), expected));
        }
    }

    #[test]
    fn a_missing_replica_is_reported_only_against_the_baseline() {
        let (missing, lost) = both(|c| drop(replicas(c).pop()));
        assert_eq!(
            (missing, lost),
            (vec![], vec!["collection books: 1 of 2 replicas".to_owned()])
        );
        let (missing, lost) = both(|c| replicas(c).clear());
        assert_eq!(missing, ["collection books: no replica"]);
        assert_eq!(lost, ["collection books: 0 of 2 replicas, no replica"]);
    }

    #[test]
    fn segments_on_ended_nodes_count_as_missing() {
        let whole = loaded(books());
        assert_eq!(whole.nodes(), [1, 2, 3].into());
        assert!(whole.clone().on_nodes(&[1, 2, 3].into()).is_complete());
        let missing = whole.on_nodes(&[2, 3].into()).missing();
        assert_eq!(
            missing,
            [
                "collection books: 2 of 4 segments are served by replica 1 of 2, 3 of 4 shard \
                 leaders"
            ]
        );
    }

    #[test]
    fn a_segment_flushed_after_the_baseline_need_not_be_served() {
        let (missing, lost) = both(|c| c.expected.extend([(5, 100)]));
        assert!(missing[0].contains("4 of 5 segments"), "{missing:?}");
        assert_eq!(lost, Vec::<String>::new());
    }

    #[test]
    fn a_segment_compacted_after_the_baseline_may_be_served_as_its_sources() {
        let compact = |c: &mut CollectionLoad| {
            c.expected.retain(|id, _| *id > 2);
            c.expected.insert(5, 190);
        };
        assert_eq!(
            both(compact).1,
            Vec::<String>::new(),
            "the source segments are still served"
        );
        let (missing, lost) = both(|c| {
            compact(c);
            c.served.retain(|id, _| *id > 2);
        });
        assert_eq!(
            missing, lost,
            "neither the source segments nor the new one are served"
        );
        assert!(
            lost[0].contains("2 of 3 segments are served by replica 1 of 2"),
            "{lost:?}"
        );
        let (missing, lost) = both(|c| {
            compact(c);
            c.served.retain(|id, _| *id > 2);
            c.served.insert(
                5,
                Served {
                    rows: 190,
                    nodes: [1, 3].into(),
                },
            );
        });
        assert_eq!(
            (missing, lost),
            (vec![], vec![]),
            "the new segment is served, without the deleted rows"
        );
    }

    #[test]
    fn what_was_missing_at_the_baseline_is_not_expected() {
        let mut before = books();
        before.progress = 50;
        before.served.remove(&4);
        before.replicas = Err("no leader".into());
        let mut now = before.clone();
        let baseline = loaded(before).baseline();
        assert_eq!(loaded(now.clone()).regained(&baseline), Ok(()));
        now.served.remove(&3);
        now.progress = 49;
        let lost = loaded(now).regained(&baseline).unwrap_err();
        assert_eq!(
            lost,
            ["collection books: loaded to 49 %, 2 of 4 segments are served"]
        );
    }

    #[test]
    fn released_collections_are_reported_dropped_and_new_ones_are_not() {
        let baseline = loaded(books()).baseline();
        let released = Loaded {
            known: [7].into(),
            ..Loaded::default()
        };
        let lost = released.regained(&baseline).unwrap_err();
        assert!(
            lost[0].contains("collection books: was loaded before, but is not loaded now"),
            "{lost:?}"
        );
        assert!(released.is_complete());
        assert_eq!(Loaded::default().regained(&baseline), Ok(()));
        let mut other = books();
        (other.id, other.progress) = (8, 3);
        assert_eq!(loaded(other).regained(&baseline), Ok(()));
    }

    #[test]
    fn a_baseline_is_read_back_from_its_json() {
        let baseline = loaded(books()).baseline();
        let text = serde_json::to_string(&baseline).unwrap();
        assert_eq!(
            text,
            r#"{"collections":[{"name":"books","id":7,"progress":100,"replicas":2,"led":true,"rows":400,"lagging":[],"newest":4}]}"#
        );
        assert_eq!(serde_json::from_str::<Baseline>(&text).unwrap(), baseline);
    }

    fn lagging(id: i64, segments: i64) -> CollectionBaseline {
        CollectionBaseline {
            name: id.to_string(),
            id,
            rows: 100,
            newest: 1000,
            lagging: (0..segments).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_kept_baseline_lists_at_most_20_unserved_segments_of_a_collection() {
        let before = Baseline {
            collections: vec![lagging(1, 21), lagging(2, 20)],
        };
        let kept =
            milvus_guard_core::api::loaded::LoadedBefore::new("update-querynode", before, [])
                .baseline();
        assert_eq!(
            (
                kept.collections[0].lagging.len(),
                kept.collections[1].lagging.len()
            ),
            (0, 20)
        );
        let now = |id| CollectionLoad {
            database: String::new(),
            name: "books".into(),
            id,
            progress: 100,
            shards: BTreeSet::new(),
            expected: [(500, 100)].into(),
            served: BTreeMap::new(),
            replicas: Ok(vec![Replica::default()]),
        };
        let loaded = Loaded {
            known: [1, 2].into(),
            collections: vec![now(1), now(2)],
            notes: Vec::new(),
        };
        let lost = loaded.regained(&kept).unwrap_err();
        assert_eq!(
            lost,
            ["collection books: 0 of 1 segments are served"],
            "only the collection with 20 unserved segments is judged"
        );
    }
}
