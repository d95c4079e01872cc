//! The questions: health, version, what is loaded. Each opens a separate connection.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream, try_join};

use super::{
    error::ApiError,
    loaded::{CollectionLoad, Loaded, Replica, Served, ShardLeader},
    message::{
        CheckHealthRequest, DescribeCollectionRequest, GetLoadingProgressRequest,
        GetPersistentSegmentInfoRequest, GetQuerySegmentInfoRequest, GetReplicasRequest,
        GetReplicasResponse, GetVersionRequest, ListCredUsersRequest, ListDatabasesRequest,
        PersistentSegmentInfo, QuerySegmentInfo, ReplicaInfo, SegmentLevel, SegmentState,
        SelectRoleRequest, ShowCollectionsRequest, ShowCollectionsResponse, ShowPartitionsRequest,
        ShowType,
    },
    proxy::{Connection, Proxy},
};
use milvus_guard_core::error_text;

/// Collections that are asked about at once, with up to 5 calls each. Proxies and coordinators have
/// users to serve.
pub const CONCURRENCY: usize = 8;
/// Loaded collections that are looked at; Milvus itself takes 65 536 in all
/// (`quotaAndLimits.limits.maxCollectionNum`).
pub const MAX_COLLECTIONS: usize = 65_536;
/// Databases that are looked at; Milvus itself takes 64 (`rootCoord.maxDatabaseNum`).
pub const MAX_DATABASES: usize = 1024;
/// Reasons of ill health that are told; there is about one a node.
const MAX_REASONS: usize = 20;

/// What Milvus says about its components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether all are well.
    pub healthy: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// Whether all components are well: coordinators and the nodes that they know, as the proxy finds
/// them.
///
/// # Errors
/// No answer. 2.2.2 and earlier do not have this question ([`ApiError::Unimplemented`]).
pub async fn health(proxy: &Proxy) -> Result<Health, ApiError> {
    match proxy.connect().await?.call(CheckHealthRequest {}).await {
        Ok(answer) => {
            let reasons = answer
                .reasons
                .iter()
                .take(MAX_REASONS)
                .map(|words| error_text::line(words))
                .collect();
            Ok(Health {
                healthy: answer.is_healthy,
                reasons,
            })
        }
        // A proxy that is not ready itself answers so.
        Err(ApiError::Other { reason, .. }) => Ok(Health {
            healthy: false,
            reasons: vec![reason],
        }),
        Err(error) => Err(error),
    }
}

/// The version of the proxy that answers, as its build was tagged: `v2.3.5`, `2.2-20240101-0123abc`
/// ...
///
/// # Errors
/// No answer.
pub async fn version(proxy: &Proxy) -> Result<String, ApiError> {
    Ok(error_text::line(
        &proxy
            .connect()
            .await?
            .call(GetVersionRequest {})
            .await?
            .version,
    ))
}

/// Who may get in, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principals {
    /// Users.
    pub users: BTreeSet<String>,
    /// Roles.
    pub roles: BTreeSet<String>,
}

/// The users and roles. Means something only where authorization is on; takes the right
/// `SelectOwnership`.
///
/// # Errors
/// No answer.
pub async fn principals(proxy: &Proxy) -> Result<Principals, ApiError> {
    let connection = proxy.connect().await?;
    let users = connection.call(ListCredUsersRequest {}).await?.usernames;
    let roles = connection.call(SelectRoleRequest {}).await?.results;
    Ok(Principals {
        users: users.into_iter().collect(),
        roles: roles
            .into_iter()
            .filter_map(|one| Some(one.role?.name))
            .collect(),
    })
}

/// What is loaded, in the databases of [`Proxy::databases`] or in all.
///
/// Where authorization is on, this takes the rights to `ListDatabases`, `ShowCollections`, and
/// `DescribeCollection` and `ShowPartitions` of every collection (2.2.16 asks for no right to the
/// last). Collections that a newer Milvus hides from the user are not among them. [`Loaded::notes`]
/// says what was left out; anyone who relies on the answer must show it.
///
/// # Errors
/// No answer, or one that is too large. What Milvus cannot say about a single collection is part of
/// the answer.
pub async fn loaded(proxy: &Proxy) -> Result<Loaded, ApiError> {
    let connection = proxy.connect().await?;
    let mut loaded = Loaded::default();
    let mut entries = Vec::new();
    for database in databases(proxy, &connection, &mut loaded.notes).await? {
        let show = |kind: ShowType| {
            connection.call(ShowCollectionsRequest {
                db_name: database.clone(),
                r#type: kind.into(),
            })
        };
        let (all, in_memory) = try_join!(show(ShowType::All), show(ShowType::InMemory))?;
        loaded.known.extend(all.collection_ids);
        entries.extend(listed(&database, &in_memory)?);
        bounded(
            "ShowCollections",
            "collections",
            entries.len(),
            MAX_COLLECTIONS,
        )?;
    }
    // Milvus tells them in another order each time.
    entries
        .sort_by(|left, right| (&left.database, &left.name).cmp(&(&right.database, &right.name)));
    let reading = entries
        .into_iter()
        .map(|entry| collection(&connection, entry));
    loaded.collections = stream::iter(reading)
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(loaded)
}

/// The databases; one without a name where Milvus has none.
async fn databases(
    proxy: &Proxy,
    connection: &Connection,
    notes: &mut Vec<String>,
) -> Result<Vec<String>, ApiError> {
    if !proxy.databases.is_empty() {
        return Ok(proxy.databases.clone());
    }
    let names = match connection.call(ListDatabasesRequest {}).await {
        Ok(answer) => answer.db_names,
        Err(ApiError::Unimplemented { method }) => {
            notes.push(format!(
                "this Milvus has no databases (no {method}, which came with 2.2.9)"
            ));
            vec![String::new()]
        }
        Err(ApiError::PermissionDenied { method, .. }) => {
            notes.push(format!(
                "only the default database was checked: this Milvus user may not call {method}"
            ));
            vec![String::new()]
        }
        Err(error) => return Err(error),
    };
    bounded("ListDatabases", "databases", names.len(), MAX_DATABASES)?;
    Ok(names)
}

/// A loaded collection, before it is looked at.
struct Entry {
    database: String,
    name: String,
    id: i64,
    progress: Option<i64>,
}

fn listed(database: &str, answer: &ShowCollectionsResponse) -> Result<Vec<Entry>, ApiError> {
    if answer.collection_names.len() != answer.collection_ids.len() {
        let reason = format!(
            "{} names and {} ids of collections",
            answer.collection_names.len(),
            answer.collection_ids.len()
        );
        return Err(ApiError::Other {
            method: "ShowCollections",
            reason,
        });
    }
    let pairs = answer
        .collection_names
        .iter()
        .zip(&answer.collection_ids)
        .enumerate();
    let entry = |(at, (name, id)): (usize, (&String, &i64))| Entry {
        database: database.to_owned(),
        name: name.clone(),
        id: *id,
        progress: answer.in_memory_percentages.get(at).copied(),
    };
    Ok(pairs.map(entry).collect())
}

fn bounded(method: &'static str, what: &str, found: usize, limit: usize) -> Result<(), ApiError> {
    if found <= limit {
        return Ok(());
    }
    Err(ApiError::Other {
        method,
        reason: format!("{found} {what} are more than the limit of {limit}"),
    })
}

async fn collection(connection: &Connection, entry: Entry) -> Result<CollectionLoad, ApiError> {
    let (database, collection) = (entry.database.clone(), entry.name.clone());
    let described = connection.call(DescribeCollectionRequest {
        db_name: database.clone(),
        collection_name: collection.clone(),
    });
    let partitions = connection.call(ShowPartitionsRequest {
        db_name: database.clone(),
        collection_name: collection.clone(),
        r#type: ShowType::InMemory.into(),
    });
    let stored = connection.call(GetPersistentSegmentInfoRequest {
        db_name: database.clone(),
        collection_name: collection.clone(),
    });
    let (described, partitions, stored) = try_join!(described, partitions, stored)?;
    // After what is to be served, so that nothing looks missing that was only just made.
    let served = connection.call(GetQuerySegmentInfoRequest {
        db_name: database.clone(),
        collection_name: collection.clone(),
    });
    let replicas = connection.call(GetReplicasRequest {
        collection_id: entry.id,
        db_name: database.clone(),
    });
    let (served, replicas) = try_join!(served, async { told(replicas.await) })?;
    let progress = match entry.progress {
        Some(progress) => progress,
        None => {
            connection
                .call(GetLoadingProgressRequest {
                    collection_name: collection,
                    db_name: database,
                })
                .await?
                .progress
        }
    };
    Ok(CollectionLoad {
        database: entry.database,
        name: entry.name,
        id: entry.id,
        progress,
        shards: described.virtual_channel_names.into_iter().collect(),
        expected: expected(
            &stored.infos,
            &partitions.partition_i_ds.into_iter().collect(),
        ),
        served: served_by(&served.infos),
        replicas,
    })
}

/// That Milvus cannot tell the replicas is an answer: a shard has no leader.
fn told(
    answer: Result<GetReplicasResponse, ApiError>,
) -> Result<Result<Vec<Replica>, String>, ApiError> {
    match answer {
        Ok(answer) => {
            let replica = |info: ReplicaInfo| Replica {
                id: info.replica_id,
                nodes: info.node_ids.into_iter().collect(),
                leaders: info
                    .shard_replicas
                    .into_iter()
                    .map(|shard| ShardLeader {
                        channel: shard.dm_channel_name,
                        node: shard.leader_id,
                    })
                    .collect(),
            };
            Ok(Ok(answer.replicas.into_iter().map(replica).collect()))
        }
        Err(ApiError::Other { reason, .. }) => Ok(Err(reason)),
        Err(error) => Err(error),
    }
}

/// What is to be served: complete segments with rows, of loaded partitions.
fn expected(segments: &[PersistentSegmentInfo], partitions: &BTreeSet<i64>) -> BTreeMap<i64, i64> {
    let serves = |segment: &&PersistentSegmentInfo| {
        segment.state() == SegmentState::Flushed
            && segment.level() != SegmentLevel::L0
            && segment.num_rows > 0
            && partitions.contains(&segment.partition_id)
    };
    segments
        .iter()
        .filter(serves)
        .map(|segment| (segment.segment_id, segment.num_rows))
        .collect()
}

fn served_by(segments: &[QuerySegmentInfo]) -> BTreeMap<i64, Served> {
    let mut all: BTreeMap<i64, Served> = BTreeMap::new();
    for segment in segments
        .iter()
        .filter(|segment| segment.state() != SegmentState::Growing)
    {
        let served = all.entry(segment.segment_id).or_default();
        served.rows = served.rows.max(segment.num_rows);
        served.nodes.extend(&segment.node_ids);
        if segment.node_ids.is_empty() && segment.node_id != 0 {
            served.nodes.insert(segment.node_id);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(
        segment_id: i64,
        partition_id: i64,
        num_rows: i64,
        state: SegmentState,
        level: i32,
    ) -> PersistentSegmentInfo {
        PersistentSegmentInfo {
            segment_id,
            partition_id,
            num_rows,
            state: state.into(),
            level,
        }
    }

    #[test]
    fn only_complete_segments_of_loaded_partitions_are_to_be_served() {
        use SegmentState::{Flushed, Growing};
        let segments = [
            stored(1, 10, 5, Flushed, 0),
            stored(2, 11, 5, Flushed, 2),
            stored(3, 12, 5, Flushed, 0),
            stored(4, 10, 0, Flushed, 0),
            stored(5, 10, 5, Growing, 0),
            stored(6, 10, 5, Flushed, SegmentLevel::L0.into()),
        ];
        assert_eq!(
            expected(&segments, &[10, 11].into()),
            [(1, 5), (2, 5)].into()
        );
    }

    #[test]
    fn a_segment_told_once_or_several_times_is_the_same() {
        let segment = |nodes: &[i64], node_id, state| QuerySegmentInfo {
            segment_id: 1,
            num_rows: 5,
            node_id,
            state,
            node_ids: nodes.to_vec(),
        };
        let whole: BTreeMap<i64, Served> = [(
            1,
            Served {
                rows: 5,
                nodes: [2, 3].into(),
            },
        )]
        .into();
        assert_eq!(served_by(&[segment(&[2, 3], 0, 3)]), whole);
        assert_eq!(
            served_by(&[
                segment(&[2], 0, 3),
                segment(&[], 3, 3),
                segment(&[4], 0, SegmentState::Growing.into())
            ]),
            whole
        );
    }

    #[test]
    fn lists_that_do_not_match_are_no_answer() {
        let answer = ShowCollectionsResponse {
            collection_names: vec!["books".into()],
            ..ShowCollectionsResponse::default()
        };
        assert!(
            listed("", &answer)
                .err()
                .expect("no ids")
                .to_string()
                .contains("1 names and 0 ids")
        );
        assert!(
            bounded("ListDatabases", "databases", 3, 2)
                .unwrap_err()
                .to_string()
                .contains("3 databases are more")
        );
    }

    #[test]
    fn replicas_that_cannot_be_told_are_told_as_that() {
        let refused = ApiError::Other {
            method: "GetReplicas",
            reason: "no leader".into(),
        };
        assert_eq!(told(Err(refused)), Ok(Err("no leader".into())));
        let late = ApiError::Unreachable {
            address: "milvus".into(),
            reason: "late".into(),
        };
        assert_eq!(told(Err(late.clone())), Err(late));
    }
}
