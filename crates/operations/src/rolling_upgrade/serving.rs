//! Which moves replace components that serve searches, and so when Milvus is asked whether all
//! collections are loaded again. Pure.

use std::collections::BTreeSet;

use milvus_guard_core::{api::LoadedBefore, milvus::Component};
use milvus_guard_sources::milvus::{Loaded, Replica};

use super::plan::{Move, MoveKind};

/// Maximum number of collections that a message names.
const NAMED: usize = 3;

/// When Milvus is asked, as positions in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Before this move, the loaded collections are noted.
    pub before: usize,
    /// After this move, Milvus is asked whether they are loaded again. Later than `before` if a
    /// move must follow the other at once, because the old and the new version are not compatible.
    pub after: usize,
    /// Whether all nodes that served before are replaced.
    pub replaces_all: bool,
}

/// Whether a component serves searches.
#[must_use]
pub const fn serves(component: Component) -> bool {
    matches!(
        component,
        Component::QueryNode | Component::StreamingNode | Component::Standalone
    )
}

/// The question of which this move is a part; `None` if it replaces no component that serves.
#[must_use]
pub fn question(moves: &[Move], at: usize) -> Option<Question> {
    let follows = |place: usize| moves.get(place).is_some_and(|one| one.at_once_with_next);
    let first = (0..at)
        .rev()
        .take_while(|place| follows(*place))
        .last()
        .unwrap_or(at);
    let mut after = at;
    while follows(after) && after + 1 < moves.len() {
        after += 1;
    }
    let replaces = |one: &Move| one.kind == MoveKind::Update && serves(one.component);
    let before = (first..=after).find(|place| replaces(&moves[*place]))?;
    let others = moves
        .iter()
        .enumerate()
        .filter(|(place, _)| !(before..=after).contains(place));
    let mut serving = moves
        .iter()
        .filter(|one| one.component == Component::StreamingNode);
    let replaces_all =
        serving.next().is_none() && !others.into_iter().any(|(_, one)| replaces(one));
    Some(Question {
        before,
        after,
        replaces_all,
    })
}

/// Nodes that no longer serve, although a coordinator may still list them.
#[derive(Clone, Debug, Default)]
pub struct Gone<'a> {
    /// The live nodes, according to their sessions in etcd, if known.
    pub live: Option<&'a BTreeSet<i64>>,
    /// Nodes that were replaced.
    pub replaced: &'a [i64],
}

/// What was loaded before and is not served again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// Not served by any node; one line for each collection.
    #[error("{}", shown(.0))]
    ByAny(Vec<String>),
    /// Not served by any live node; one line for each collection.
    #[error("{} (without nodes that are gone, which Milvus still lists)", shown(.0))]
    ByLiveNodes(Vec<String>),
}

/// Whether all that was loaded before is served again, by nodes that still exist.
///
/// # Errors
/// What is missing.
pub fn judge(now: Loaded, before: &LoadedBefore, gone: &Gone<'_>) -> Result<(), NotServed> {
    let baseline = before.baseline();
    now.regained(&baseline).map_err(NotServed::ByAny)?;
    let listed = now.nodes();
    let is_there = |node: &i64| {
        gone.live.is_none_or(|live| live.contains(node)) && !gone.replaced.contains(node)
    };
    let there: BTreeSet<i64> = listed.iter().copied().filter(is_there).collect();
    if there.len() == listed.len() {
        return Ok(());
    }
    let on_live = now.on_nodes(&there).regained(&baseline);
    on_live.map_err(NotServed::ByLiveNodes)
}

/// Replicas without a new node, as text; `old` are the nodes before the step. A replica with a new
/// node can move data from an old node to it; a replica without one loses the data of the old node.
#[must_use]
pub fn without_new_node(now: &Loaded, old: &[i64]) -> Vec<String> {
    let mut lines = Vec::new();
    for collection in &now.collections {
        let replicas = collection.replicas.as_deref().unwrap_or_default();
        let lacks = |replica: &&Replica| replica.nodes.iter().all(|node| old.contains(node));
        let lacking = replicas.iter().filter(lacks).count();
        if lacking > 0 {
            lines.push(format!(
                "collection {}: {lacking} of {} replicas",
                collection.label(),
                replicas.len()
            ));
        }
    }
    lines
}

/// A few lines as one text.
#[must_use]
pub fn shown(lines: &[String]) -> String {
    let more = match lines.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!(
        "{}{more}",
        lines
            .iter()
            .take(NAMED)
            .cloned()
            .collect::<Vec<_>>()
            .join("; ")
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use milvus_guard_core::milvus::catalogue::Gate;
    use milvus_guard_sources::milvus::{CollectionLoad, Served, ShardLeader};

    fn moves(names: &str) -> Vec<Move> {
        let one = |name: &str| {
            let (name, at_once_with_next) = name
                .strip_suffix('+')
                .map_or((name, false), |name| (name, true));
            let (name, kind) = name
                .strip_prefix('*')
                .map_or((name, MoveKind::Update), |name| (name, MoveKind::Create));
            let component = name.parse().unwrap();
            let gate = Gate::Ready;
            Move {
                component,
                workload: None,
                kind,
                gate,
                note: None,
                at_once_with_next,
                point_of_no_return: false,
            }
        };
        names.split(' ').map(one).collect()
    }

    #[rstest]
    #[case("rootcoord querynode proxy", &[None, Some((1, 1, true)), None])]
    #[case("datanode querynode+ proxy", &[None, Some((1, 2, true)), Some((1, 2, true))])]
    #[case("datanode querynode+ proxy datanode", &[None, Some((1, 2, true)), Some((1, 2, true)), None])]
    #[case("datanode+ querynode+ proxy", &[Some((1, 2, true)), Some((1, 2, true)), Some((1, 2, true))])]
    #[case("querynode querynode proxy", &[Some((0, 0, false)), Some((1, 1, false)), None])]
    #[case("standalone", &[Some((0, 0, true))])]
    #[case("mixcoord streamingnode querynode", &[None, Some((1, 1, false)), Some((2, 2, false))])]
    #[case("*streamingnode mixcoord querynode", &[None, None, Some((2, 2, false))])]
    #[case("mixcoord datanode", &[None, None])]
    fn milvus_is_asked_around_the_moves_that_replace_serving_nodes(
        #[case] names: &str,
        #[case] expected: &[Option<(usize, usize, bool)>],
    ) {
        let moves = moves(names);
        let found: Vec<_> = (0..moves.len()).map(|at| question(&moves, at)).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|one| {
                one.map(|(before, after, replaces_all)| Question {
                    before,
                    after,
                    replaces_all,
                })
            })
            .collect();
        assert_eq!(found, expected);
    }

    fn books(node: i64) -> Loaded {
        let leader = ShardLeader {
            channel: "a".into(),
            node,
        };
        let collection = CollectionLoad {
            database: String::new(),
            name: "books".into(),
            id: 7,
            progress: 100,
            shards: ["a".to_owned()].into(),
            expected: [(1, 100)].into(),
            served: [(
                1,
                Served {
                    rows: 100,
                    nodes: [node].into(),
                },
            )]
            .into(),
            replicas: Ok(vec![Replica {
                id: 1,
                nodes: [node].into(),
                leaders: vec![leader],
            }]),
        };
        Loaded {
            known: [7].into(),
            collections: vec![collection],
            notes: Vec::new(),
        }
    }

    #[test]
    fn nodes_that_were_replaced_do_not_serve() {
        let before = LoadedBefore::new("update-querynode", books(1).baseline(), books(1).nodes());
        let replaced = Gone {
            live: None,
            replaced: &before.replaced_nodes,
        };
        assert_eq!(judge(books(2), &before, &replaced), Ok(()));
        assert_eq!(judge(books(1), &before, &Gone::default()), Ok(()));
        let (this, other) = ([1].into(), [2].into());
        assert_eq!(
            judge(
                books(1),
                &before,
                &Gone {
                    live: Some(&this),
                    replaced: &[]
                }
            ),
            Ok(())
        );
        for gone in [
            replaced,
            Gone {
                live: Some(&other),
                replaced: &[],
            },
        ] {
            let why = judge(books(1), &before, &gone).unwrap_err().to_string();
            assert!(
                why.starts_with(
                    "collection books: 0 of 1 segments are served, 0 of 1 shard leaders (without"
                ),
                "{why}"
            );
        }
    }

    #[test]
    fn each_replica_needs_a_new_node() {
        let mut now = books(1);
        let replicas = now.collections[0].replicas.as_mut().unwrap();
        replicas.push(Replica {
            id: 2,
            nodes: [2, 8].into(),
            leaders: Vec::new(),
        });
        let lacking = ["collection books: 1 of 2 replicas".to_owned()];
        assert_eq!(without_new_node(&now, &[1, 2]), lacking);
        now.collections[0].replicas.as_mut().unwrap()[0]
            .nodes
            .insert(9);
        assert_eq!(without_new_node(&now, &[1, 2]), [""; 0]);
        now.collections[0].replicas = Err("not told".into());
        assert_eq!(
            without_new_node(&now, &[1, 2]),
            [""; 0],
            "the replicas are unknown"
        );
    }

    #[test]
    fn only_a_few_collections_are_named() {
        let lines: Vec<String> = (1..=5).map(|number| number.to_string()).collect();
        assert_eq!(
            (shown(&lines), shown(&lines[..3])),
            ("1; 2; 3; and 2 more".to_owned(), "1; 2; 3".to_owned())
        );
    }
}
