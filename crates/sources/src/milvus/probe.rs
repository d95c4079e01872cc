//! Proves that Milvus writes and searches: a small collection is created, filled,
//! flushed, indexed, loaded, searched with bounded consistency, and dropped in all cases.

use std::time::{Duration, Instant};

use prost::Message as _;
use tokio::time::sleep;

use super::{
    error::ApiError,
    message::{
        CollectionSchema, ConsistencyLevel, CreateCollectionRequest, CreateIndexRequest, DataType,
        DropCollectionRequest, FieldData, FieldSchema, FloatArray, FlushRequest,
        GetFlushStateRequest, GetLoadingProgressRequest, InsertRequest, LoadCollectionRequest,
        LongArray, PlaceholderValue, ScalarField, SearchRequest, VectorField, field_data::Field,
    },
    proxy::{Connection, Proxy},
    search::{Terms, bounded, pairs},
};

/// Prefix of the names of all probe collections.
pub const PREFIX: &str = "milvus_guard_probe_";
/// Rows of the collection: one segment, with an index that is built quickly.
const ROWS: u16 = 64;
/// Numbers in a vector. The first one is the row's id, the others are 0.
const DIMENSION: u16 = 8;
/// The searched position on the first axis: no two rows have the same distance to it.
const WHERE: f32 = 20.2;
/// The ids of a correct answer, in this order.
const NEAREST: [i64; 5] = [20, 21, 19, 22, 18];
/// Limit of each wait: until flushed, loaded, or the first correct answer. A bounded search
/// may lag 5 s behind (`common.gracefulTime`), and the coordinators look in intervals of seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two checks.
const PAUSE: Duration = Duration::from_millis(300);
/// Most attempts to drop the collection, until Milvus confirms it.
const DROPS: usize = 3;
/// Pause between two of these attempts: Milvus may still be creating the collection.
const BETWEEN_DROPS: Duration = Duration::from_secs(2);
const ID: &str = "id";
const VECTOR: &str = "vector";

/// Why a probe failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// Milvus refused a step or did not answer it.
    #[error("could not {step} the probe collection: {error}")]
    Step {
        /// `create`, `fill` ...
        step: &'static str,
        /// Why.
        error: ApiError,
    },
    /// A step took longer than the probe waits.
    #[error("the probe collection was not {state} within {} s", PATIENCE.as_secs())]
    Late {
        /// `flushed` or `loaded`.
        state: &'static str,
    },
    /// Searches were answered, but never correctly.
    #[error("a bounded search found rows {found:?} instead of {NEAREST:?}")]
    Wrong {
        /// Ids of the last answer.
        found: Vec<i64>,
    },
    /// The caller stopped the probe.
    #[error("the probe was interrupted")]
    Interrupted,
}

/// The result of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeOutcome {
    /// Time from the creation to the first correct answer.
    pub answer: Result<Duration, ProbeFailure>,
    /// Whether the collection was dropped.
    pub dropped: Result<(), ApiError>,
}

/// Probes with a collection of this name, which must begin with [`PREFIX`] and be new. When
/// `halted` is ready, the probe ends early; the collection is dropped in this case too.
pub async fn probe(proxy: &Proxy, name: &str, halted: impl Future<Output = ()>) -> ProbeOutcome {
    tokio::pin!(halted);
    let began = Instant::now();
    let mut probe = Probe {
        proxy,
        name,
        existence: Existence::None,
    };
    let answer = tokio::select! {
        answer = probe.run() => answer.map(|()| began.elapsed()),
        () = &mut halted => Err(ProbeFailure::Interrupted),
    };
    ProbeOutcome {
        answer,
        dropped: probe.clean_up().await,
    }
}

struct Probe<'a> {
    proxy: &'a Proxy,
    name: &'a str,
    existence: Existence,
}

/// Whether the collection exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existence {
    /// Milvus was not asked to create it.
    None,
    /// Milvus was asked, and did not confirm it: it may exist later.
    Possible,
    /// Milvus created it.
    Sure,
}

impl Probe<'_> {
    async fn run(&mut self) -> Result<(), ProbeFailure> {
        let failed = |step| move |error| ProbeFailure::Step { step, error };
        let connection = self.proxy.connect().await.map_err(failed("create"))?;
        let create = CreateCollectionRequest {
            collection_name: self.name.to_owned(),
            schema: schema(self.name).encode_to_vec(),
            shards_num: 1,
            consistency_level: ConsistencyLevel::Bounded.into(),
            ..Default::default()
        };
        self.existence = Existence::Possible;
        connection.call(create).await.map_err(failed("create"))?;
        self.existence = Existence::Sure;
        let inserted = connection.call(rows(self.name)).await;
        inserted.map_err(failed("fill"))?;
        self.flush(&connection).await?;
        let index = CreateIndexRequest {
            collection_name: self.name.to_owned(),
            field_name: VECTOR.into(),
            extra_params: pairs(&[
                ("index_type", "FLAT"),
                ("metric_type", "L2"),
                ("params", "{}"),
            ]),
            ..Default::default()
        };
        connection.call(index).await.map_err(failed("index"))?;
        self.load(&connection).await?;
        self.search(&connection).await
    }

    async fn flush(&self, connection: &Connection) -> Result<(), ProbeFailure> {
        let failed = |error| ProbeFailure::Step {
            step: "flush",
            error,
        };
        let flush = FlushRequest {
            collection_names: vec![self.name.to_owned()],
            ..Default::default()
        };
        let mut answer = connection.call(flush).await.map_err(failed)?;
        let segments = answer.coll_seg_i_ds.remove(self.name).unwrap_or_default();
        let state = GetFlushStateRequest {
            segment_i_ds: segments.data,
            flush_ts: answer.coll_flush_ts.remove(self.name).unwrap_or_default(),
            collection_name: self.name.to_owned(),
            ..Default::default()
        };
        let began = Instant::now();
        while !connection
            .call(state.clone())
            .await
            .map_err(failed)?
            .flushed
        {
            pause(began, "flushed").await?;
        }
        Ok(())
    }

    async fn load(&self, connection: &Connection) -> Result<(), ProbeFailure> {
        let failed = |error| ProbeFailure::Step {
            step: "load",
            error,
        };
        let load = LoadCollectionRequest {
            collection_name: self.name.to_owned(),
            replica_number: 1,
            ..Default::default()
        };
        connection.call(load).await.map_err(failed)?;
        let began = Instant::now();
        loop {
            let progress = GetLoadingProgressRequest {
                collection_name: self.name.to_owned(),
                ..Default::default()
            };
            if connection.call(progress).await.map_err(failed)?.progress >= 100 {
                return Ok(());
            }
            pause(began, "loaded").await?;
        }
    }

    /// Searches until the answer is correct: rows that were just written may not be visible yet.
    async fn search(&self, connection: &Connection) -> Result<(), ProbeFailure> {
        let began = Instant::now();
        loop {
            let answer = connection.call(nearest(self.name)).await;
            let late = began.elapsed() >= PATIENCE;
            match answer {
                Ok(answer) => {
                    let ids = answer.results.and_then(|results| results.ids?.int_id);
                    let found = ids.map_or_else(Vec::new, |ids| ids.data);
                    if found == NEAREST {
                        return Ok(());
                    }
                    if late {
                        return Err(ProbeFailure::Wrong { found });
                    }
                }
                Err(error) if late || error.is_lasting() => {
                    let step = "search";
                    return Err(ProbeFailure::Step { step, error });
                }
                Err(_) => {}
            }
            sleep(PAUSE).await;
        }
    }

    /// Drops the collection. Milvus up to 2.2 refuses to drop a collection that does not exist;
    /// that is a success if it was never created.
    async fn clean_up(&self) -> Result<(), ApiError> {
        let mut last = Ok(());
        let attempts = if self.existence == Existence::None {
            0
        } else {
            DROPS
        };
        for attempt in 0..attempts {
            if attempt > 0 {
                sleep(BETWEEN_DROPS).await;
            }
            let drop = DropCollectionRequest {
                collection_name: self.name.to_owned(),
                ..Default::default()
            };
            last = match self.proxy.connect().await {
                Ok(connection) => connection.call(drop).await.map(|_| ()),
                Err(error) => Err(error),
            };
            // One success is not enough if Milvus may create the collection afterwards.
            if last.is_ok() && self.existence == Existence::Sure {
                return Ok(());
            }
        }
        match last {
            Err(ApiError::Other { .. }) if self.existence == Existence::Possible => Ok(()),
            last => last,
        }
    }
}

async fn pause(began: Instant, state: &'static str) -> Result<(), ProbeFailure> {
    if began.elapsed() >= PATIENCE {
        return Err(ProbeFailure::Late { state });
    }
    sleep(PAUSE).await;
    Ok(())
}

fn schema(name: &str) -> CollectionSchema {
    let id = FieldSchema {
        field_id: 100,
        name: ID.into(),
        is_primary_key: true,
        data_type: DataType::Int64.into(),
        ..Default::default()
    };
    let vector = FieldSchema {
        field_id: 101,
        name: VECTOR.into(),
        data_type: DataType::FloatVector.into(),
        type_params: pairs(&[("dim", &DIMENSION.to_string())]),
        ..Default::default()
    };
    CollectionSchema {
        name: name.to_owned(),
        description: "written, searched and dropped by milvus-guard verify --probe".into(),
        fields: vec![id, vector],
    }
}

/// A vector at this position on the first axis.
fn at(place: f32) -> impl Iterator<Item = f32> {
    std::iter::once(place).chain((1..DIMENSION).map(|_| 0.0))
}

fn rows(name: &str) -> InsertRequest {
    let ids = LongArray {
        data: (0..ROWS).map(i64::from).collect(),
    };
    let vectors = FloatArray {
        data: (0..ROWS).flat_map(|row| at(f32::from(row))).collect(),
    };
    let field = |kind: DataType, name: &str, field| FieldData {
        r#type: kind.into(),
        field_name: name.to_owned(),
        field: Some(field),
    };
    let ids = Field::Scalars(ScalarField {
        long_data: Some(ids),
    });
    let vectors = Field::Vectors(VectorField {
        dim: DIMENSION.into(),
        float_vector: Some(vectors),
    });
    InsertRequest {
        collection_name: name.to_owned(),
        fields_data: vec![
            field(DataType::Int64, ID, ids),
            field(DataType::FloatVector, VECTOR, vectors),
        ],
        hash_keys: (0..ROWS).map(u32::from).collect(),
        num_rows: ROWS.into(),
        ..Default::default()
    }
}

fn nearest(name: &str) -> SearchRequest {
    let query = PlaceholderValue {
        tag: "$0".into(),
        r#type: DataType::FloatVector.into(),
        values: vec![at(WHERE).flat_map(f32::to_le_bytes).collect()],
    };
    let terms = Terms {
        field: VECTOR,
        limit: NEAREST.len(),
        metric: "L2",
        params: "{}",
    };
    bounded("", name, query, &terms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_answer_follows_from_the_rows() {
        let mut by_distance: Vec<i64> = (0..ROWS).map(i64::from).collect();
        let distance = |row: &i64| (f32::from(u16::try_from(*row).unwrap()) - WHERE).abs();
        by_distance.sort_by(|left, right| distance(left).total_cmp(&distance(right)));
        assert_eq!(by_distance[..NEAREST.len()], NEAREST);
        let written = rows("a");
        let Some(Field::Vectors(vectors)) = &written.fields_data[1].field else {
            panic!("{written:?}")
        };
        let numbers = &vectors.float_vector.as_ref().unwrap().data;
        assert_eq!(numbers.len(), usize::from(ROWS * DIMENSION));
        assert!((numbers[usize::from(20 * DIMENSION)] - 20.0).abs() < f32::EPSILON);
    }

    #[tokio::test]
    async fn a_probe_that_cannot_create_its_collection_fails_and_drops_nothing() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let proxy = Proxy {
            address,
            ..Proxy::default()
        };
        let outcome = probe(&proxy, "milvus_guard_probe_1", std::future::pending()).await;
        assert!(
            matches!(
                outcome.answer,
                Err(ProbeFailure::Step { step: "create", .. })
            ),
            "{outcome:?}"
        );
        assert_eq!(outcome.dropped, Ok(()), "there is nothing to drop");
    }
}
