//! A repeatable search in a collection of the users: its answer can be compared with an earlier
//! one. It searches for a constant vector with bounded consistency and returns no field.

use std::{fmt, str::FromStr};

use prost::Message as _;
use sha2::{Digest, Sha256};

use super::{
    error::ApiError,
    message::{
        ConsistencyLevel, DataType, DescribeCollectionRequest, DescribeIndexRequest, DslType,
        FieldSchema, IndexDescription, KeyValuePair, PlaceholderGroup, PlaceholderValue,
        SearchRequest, SearchResultData,
    },
    proxy::Proxy,
};
use milvus_guard_core::{
    api::searches::{Hit, MAX_HITS},
    error_text,
};

/// `guarantee_timestamp` that means bounded consistency for Milvus up to 2.2.
const BOUNDED: u64 = 2;
/// Largest dimension of a vector: Milvus itself accepts 32 768 (262 144 bits in binary vectors).
const MAX_DIMENSION: usize = 262_144;
/// Search parameters that 2.2 requires, by prefix of the index type; later versions have defaults.
/// From the index documentation of 2.2 ("In-memory Index", "On-disk Index").
const PARAMS: [(&str, &str); 6] = [
    ("IVF", r#"{"nprobe":16}"#),
    ("BIN_IVF", r#"{"nprobe":16}"#),
    ("SCANN", r#"{"nprobe":16}"#),
    ("HNSW", r#"{"ef":128}"#),
    ("RHNSW", r#"{"ef":128}"#),
    ("DISKANN", r#"{"search_list":128}"#),
];

/// A collection, as users type it: `books`, or `shop/books` if it is not in the default database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CollectionName {
    /// Its database; empty for the default one.
    pub database: String,
    /// Its name.
    pub name: String,
}

/// A text that names no collection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not the name of a collection: NAME or DATABASE/NAME")]
pub struct NotACollection(String);

impl FromStr for CollectionName {
    type Err = NotACollection;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (database, name) = text.split_once('/').unwrap_or(("", text));
        // Milvus accepts letters, digits, '_' and '$' (`validateName` of its proxy).
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '-'))
        };
        if is_name(name) && (is_name(database) || !text.contains('/')) {
            Ok(Self {
                database: database.to_owned(),
                name: name.to_owned(),
            })
        } else {
            Err(NotACollection(error_text::line(text)))
        }
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.database {
            "" | "default" => f.write_str(&error_text::line(&self.name)),
            database => f.write_str(&error_text::line(&format!("{database}/{}", self.name))),
        }
    }
}

/// Why a collection cannot be searched, as text for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSearchable {
    /// No field has vectors of a supported type.
    #[error("it has no field with dense or binary vectors")]
    NoVector,
    /// The index of the field is not described, or without a metric.
    #[error("its vectors have no index with a metric")]
    NoMetric,
    /// The recorded text names no collection.
    #[error("its name cannot be read")]
    Name,
    /// The field does not have a usable size.
    #[error("its vectors have no usable dimension")]
    NoDimension,
}

/// A search that can be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    collection: CollectionName,
    field: String,
    kind: DataType,
    dimension: usize,
    metric: String,
    params: &'static str,
}

/// The parameters of a search, in addition to its vector.
pub(super) struct Terms<'a> {
    /// Field with the vectors.
    pub field: &'a str,
    /// Largest number of rows.
    pub limit: usize,
    /// Metric of the index.
    pub metric: &'a str,
    /// Search parameters of the index type, as JSON.
    pub params: &'a str,
}

/// Finds the parameters to search a collection.
///
/// # Errors
/// If Milvus does not answer. A collection that cannot be searched is not an error.
pub async fn prepare(
    proxy: &Proxy,
    collection: &CollectionName,
) -> Result<Result<Search, NotSearchable>, ApiError> {
    let connection = proxy.connect().await?;
    let described = connection
        .call(DescribeCollectionRequest {
            db_name: collection.database.clone(),
            collection_name: collection.name.clone(),
        })
        .await?;
    let fields = described.schema.unwrap_or_default().fields;
    let Some(field) = fields
        .iter()
        .find(|field| bytes(field.data_type(), 8).is_some())
    else {
        return Ok(Err(NotSearchable::NoVector));
    };
    let indexes = connection
        .call(DescribeIndexRequest {
            db_name: collection.database.clone(),
            collection_name: collection.name.clone(),
            field_name: field.name.clone(),
        })
        .await?;
    Ok(made_of(collection, field, &indexes.index_descriptions))
}

fn made_of(
    collection: &CollectionName,
    field: &FieldSchema,
    indexes: &[IndexDescription],
) -> Result<Search, NotSearchable> {
    let value = |pairs: &[KeyValuePair], key: &str| {
        let pair = pairs.iter().find(|pair| pair.key == key)?;
        (!pair.value.is_empty()).then(|| pair.value.clone())
    };
    let dimension = value(&field.type_params, "dim")
        .and_then(|text| text.parse().ok())
        .filter(|dimension| (1..=MAX_DIMENSION).contains(dimension))
        .ok_or(NotSearchable::NoDimension)?;
    let (metric, kind) = indexes
        .iter()
        .filter(|index| index.field_name == field.name)
        .find_map(|index| {
            let kind = value(&index.params, "index_type").unwrap_or_default();
            Some((value(&index.params, "metric_type")?, kind))
        })
        .ok_or(NotSearchable::NoMetric)?;
    let params = PARAMS.iter().find(|(start, _)| kind.starts_with(start));
    Ok(Search {
        collection: collection.clone(),
        field: field.name.clone(),
        kind: field.data_type(),
        dimension,
        metric,
        params: params.map_or("{}", |(_, params)| params),
    })
}

/// Searches for the [`MAX_HITS`] nearest rows, best first.
///
/// # Errors
/// If Milvus does not answer, or if the parts of its answer do not match.
pub async fn search(proxy: &Proxy, search: &Search) -> Result<Vec<Hit>, ApiError> {
    let request = search.request();
    let answer = proxy.connect().await?.call(request).await?;
    hits(&answer.results.unwrap_or_default())
}

impl Search {
    fn request(&self) -> SearchRequest {
        let vector = PlaceholderValue {
            tag: "$0".into(),
            r#type: self.kind.into(),
            values: bytes(self.kind, self.dimension).into_iter().collect(),
        };
        let terms = Terms {
            field: &self.field,
            limit: MAX_HITS,
            metric: &self.metric,
            params: self.params,
        };
        let CollectionName { database, name } = &self.collection;
        bounded(database, name, vector, &terms)
    }
}

/// A search for one vector with bounded consistency.
pub(super) fn bounded(
    database: &str,
    collection: &str,
    vector: PlaceholderValue,
    terms: &Terms<'_>,
) -> SearchRequest {
    let group = PlaceholderGroup {
        placeholders: vec![vector],
    };
    SearchRequest {
        db_name: database.to_owned(),
        collection_name: collection.to_owned(),
        placeholder_group: group.encode_to_vec(),
        dsl_type: DslType::BoolExprV1.into(),
        search_params: pairs(&[
            ("anns_field", terms.field),
            ("topk", &terms.limit.to_string()),
            ("metric_type", terms.metric),
            ("params", terms.params),
            ("round_decimal", "-1"),
        ]),
        guarantee_timestamp: BOUNDED,
        nq: 1,
        consistency_level: ConsistencyLevel::Bounded.into(),
    }
}

pub(super) fn pairs(all: &[(&str, &str)]) -> Vec<KeyValuePair> {
    let pair = |(key, value): &(&str, &str)| KeyValuePair {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    all.iter().map(pair).collect()
}

/// A vector of ones, as bytes: cosine and Jaccard are not defined for zeros. `None` for types other
/// than dense and binary vectors.
fn bytes(kind: DataType, dimension: usize) -> Option<Vec<u8>> {
    Some(match kind {
        DataType::FloatVector => 1f32.to_le_bytes().repeat(dimension),
        // 1.0 in half precision, and in the upper half of single precision.
        DataType::Float16Vector => 0x3c00u16.to_le_bytes().repeat(dimension),
        DataType::BFloat16Vector => 0x3f80u16.to_le_bytes().repeat(dimension),
        DataType::Int8Vector => vec![1; dimension],
        DataType::BinaryVector => vec![0xff; dimension / 8],
        DataType::None | DataType::Int64 => return None,
    })
}

fn hits(results: &SearchResultData) -> Result<Vec<Hit>, ApiError> {
    let ids = results.ids.clone().unwrap_or_default();
    let rows: Vec<String> = match (ids.int_id, ids.str_id) {
        (Some(ids), None) => ids
            .data
            .iter()
            .map(|id| digest(&id.to_le_bytes()))
            .collect(),
        (None, Some(ids)) => ids.data.iter().map(|id| digest(id.as_bytes())).collect(),
        (None, None) => Vec::new(),
        (Some(_), Some(_)) => return Err(mismatch("two lists of ids")),
    };
    if rows.len() != results.scores.len() {
        return Err(mismatch(&format!(
            "{} ids and {} scores",
            rows.len(),
            results.scores.len()
        )));
    }
    let hit = |(row, score): (String, &f32)| Hit {
        row,
        score: f64::from(*score),
    };
    Ok(rows
        .into_iter()
        .zip(&results.scores)
        .map(hit)
        .take(MAX_HITS)
        .collect())
}

fn mismatch(reason: &str) -> ApiError {
    ApiError::Other {
        method: "Search",
        reason: reason.to_owned(),
    }
}

/// A hash that distinguishes the rows of one answer; the key itself is not kept.
fn digest(key: &[u8]) -> String {
    let digest = Sha256::digest(key);
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::milvus::message::{IDs, LongArray, StringArray};

    fn field(kind: DataType, dimension: &str) -> FieldSchema {
        FieldSchema {
            name: "vector".into(),
            data_type: kind.into(),
            type_params: pairs(&[("dim", dimension)]),
            ..FieldSchema::default()
        }
    }

    fn index(params: &[(&str, &str)]) -> Vec<IndexDescription> {
        vec![IndexDescription {
            params: pairs(params),
            field_name: "vector".into(),
        }]
    }

    fn books() -> CollectionName {
        "books".parse().unwrap()
    }

    #[rstest]
    #[case("books", Some(("", "books", "books")))]
    #[case("shop/books", Some(("shop", "books", "shop/books")))]
    #[case("default/books", Some(("default", "books", "books")))]
    #[case("", None)]
    #[case("/books", None)]
    #[case("shop/", None)]
    #[case("a/b/c", None)]
    #[case("two words", None)]
    fn collections_are_named_with_their_database(
        #[case] text: &str,
        #[case] expected: Option<(&str, &str, &str)>,
    ) {
        let parsed: Option<CollectionName> = text.parse().ok();
        let shown = parsed.as_ref().map(ToString::to_string);
        let parts = parsed.as_ref().map(|one| (&*one.database, &*one.name));
        assert_eq!(parts, expected.map(|(database, name, _)| (database, name)));
        assert_eq!(shown.as_deref(), expected.map(|(.., shown)| shown));
    }

    #[rstest]
    #[case(DataType::FloatVector, 128, 512)]
    #[case(DataType::Float16Vector, 128, 256)]
    #[case(DataType::BFloat16Vector, 128, 256)]
    #[case(DataType::Int8Vector, 128, 128)]
    #[case(DataType::BinaryVector, 128, 16)]
    fn the_size_of_a_vector_follows_from_its_type(
        #[case] kind: DataType,
        #[case] dimension: usize,
        #[case] expected: usize,
    ) {
        let search = made_of(
            &books(),
            &field(kind, &dimension.to_string()),
            &index(&[("metric_type", "L2")]),
        )
        .unwrap();
        let group = PlaceholderGroup::decode(&*search.request().placeholder_group).unwrap();
        let vector = &group.placeholders[0];
        assert_eq!(vector.r#type(), kind);
        assert_eq!(vector.values[0].len(), expected);
        assert!(vector.values[0].iter().any(|byte| *byte != 0));
    }

    #[rstest]
    #[case(&[("index_type", "HNSW"), ("metric_type", "COSINE")], Ok(r#"{"ef":128}"#))]
    #[case(&[("index_type", "IVF_SQ8"), ("metric_type", "IP")], Ok(r#"{"nprobe":16}"#))]
    #[case(&[("index_type", "AUTOINDEX"), ("metric_type", "IP")], Ok("{}"))]
    #[case(&[("metric_type", "L2")], Ok("{}"))]
    #[case(&[("index_type", "HNSW")], Err(NotSearchable::NoMetric))]
    #[case(&[("metric_type", "")], Err(NotSearchable::NoMetric))]
    fn search_parameters_follow_from_the_index(
        #[case] params: &[(&str, &str)],
        #[case] expected: Result<&str, NotSearchable>,
    ) {
        let made = made_of(&books(), &field(DataType::FloatVector, "8"), &index(params));
        assert_eq!(made.map(|search| search.params), expected);
    }

    #[rstest]
    #[case("")]
    #[case("-1")]
    #[case("0")]
    #[case("99999999999")]
    fn a_collection_with_an_invalid_dimension_is_not_searched(#[case] dimension: &str) {
        let field = field(DataType::FloatVector, dimension);
        let made = made_of(&books(), &field, &index(&[("metric_type", "L2")]));
        assert_eq!(made, Err(NotSearchable::NoDimension));
    }

    #[test]
    fn hits_contain_hashes_instead_of_keys_of_rows() {
        let results = |ids: IDs, scores: &[f32]| SearchResultData {
            scores: scores.to_vec(),
            ids: Some(ids),
        };
        let names = IDs {
            str_id: Some(StringArray {
                data: vec!["ann@example.com".into()],
            }),
            ..IDs::default()
        };
        let found = hits(&results(names, &[0.5])).unwrap();
        assert_eq!((found[0].row.len(), found[0].score), (16, 0.5));
        let numbers = IDs {
            int_id: Some(LongArray { data: vec![7, 8] }),
            ..IDs::default()
        };
        let found = hits(&results(numbers.clone(), &[1.0, 2.0])).unwrap();
        assert_ne!(found[0].row, found[1].row);
        let error = hits(&results(numbers, &[1.0])).unwrap_err();
        assert!(error.to_string().contains("2 ids and 1 scores"), "{error}");
        assert_eq!(hits(&SearchResultData::default()), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(
            numbers in proptest::option::of(proptest::collection::vec(any::<i64>(), 0..300)),
            texts in proptest::option::of(proptest::collection::vec(".{0,20}", 0..300)),
            scores in proptest::collection::vec(any::<f32>(), 0..300),
        ) {
            let ids = IDs {
                int_id: numbers.map(|data| LongArray { data }),
                str_id: texts.map(|data| StringArray { data }),
            };
            let results = SearchResultData { scores, ids: Some(ids) };
            if let Ok(hits) = hits(&results) {
                prop_assert!(hits.len() <= MAX_HITS);
                prop_assert!(hits.len() == results.scores.len().min(MAX_HITS));
            }
        }

        #[test]
        fn any_description_of_a_collection_is_searched_or_refused(
            kind in any::<i32>(),
            dimension in ".{0,12}",
            key in "(index|metric)_type",
            value in ".{0,12}",
        ) {
            let field = FieldSchema {
                name: "vector".into(),
                data_type: kind,
                type_params: pairs(&[("dim", &dimension)]),
                ..FieldSchema::default()
            };
            if let Ok(search) = made_of(&books(), &field, &index(&[(&key, &value)])) {
                prop_assert!(search.request().encoded_len() < 2 * 1024 * 1024);
            }
        }
    }
}
