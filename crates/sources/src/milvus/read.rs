//! Reads from Milvus: health, version, what is loaded. Each call opens a separate connection.

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

/// Collections that are read at the same time, with up to 5 calls each. Proxies and coordinators
/// serve users too.
pub const CONCURRENCY: usize = 8;
/// Most loaded collections that are read; Milvus itself accepts 65 536 in all
/// (`quotaAndLimits.limits.maxCollectionNum`).
pub const MAX_COLLECTIONS: usize = 65_536;
/// Most databases that are read; Milvus itself accepts 64 (`rootCoord.maxDatabaseNum`).
pub const MAX_DATABASES: usize = 1024;
/// Most reasons that are reported for bad health; there is about one for each node.
const MAX_REASONS: usize = 20;

/// The health that Milvus reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether all components are healthy.
    pub healthy: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// Whether all components are healthy: the coordinators and the nodes registered with them, as the
/// proxy reports it.
///
/// # Errors
/// If Milvus does not answer. 2.2.2 and earlier lack this call ([`ApiError::Unimplemented`]).
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
        // This is the answer of a proxy that is not ready itself.
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

/// Names of users and roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principals {
    /// Users.
    pub users: BTreeSet<String>,
    /// Roles.
    pub roles: BTreeSet<String>,
}

/// The users and roles. Meaningful only if authorization is enabled; needs the privilege
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
/// If authorization is enabled, this needs the privileges `ListDatabases`, `ShowCollections`, and
/// for every collection `DescribeCollection` and `ShowPartitions` (2.2.16 does not check the last).
/// Collections that a newer Milvus hides from the user are missing. [`Loaded::notes`] lists what
/// was left out; callers must show it.
///
/// # Errors
/// If Milvus does not answer, or the answer is too large. A failure about a single collection is
/// part of the result.
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
    // Milvus returns them in another order each time.
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

/// The databases; one without a name if Milvus has no databases.
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

/// A loaded collection, before its details are read.
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
    // Read after the expected segments: otherwise new segments would look missing.
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

/// If Milvus refuses to list the replicas, that is a result: a shard has no leader.
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

/// The segments that must be served: complete segments with rows, of loaded partitions.
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
    fn only_complete_segments_of_loaded_partitions_must_be_served() {
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
    fn one_entry_with_several_nodes_equals_several_entries_of_a_segment() {
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
    fn an_answer_with_lists_that_do_not_match_is_an_error() {
        let answer = ShowCollectionsResponse {
            collection_names: vec!["books".into()],
            ..ShowCollectionsResponse::default()
        };
        assert!(
            listed("", &answer)
                .err()
                .expect("an error: there are no ids")
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
    fn a_refusal_to_list_replicas_is_a_result_and_a_timeout_an_error() {
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
