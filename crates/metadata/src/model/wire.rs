//! Edits of protobuf messages at the level of bytes.
//!
//! A collection must be byte for byte the same after a migration, except for its indexes. Decoding
//! and encoding would keep only the fields that we know; removing a field from the bytes keeps the
//! unknown fields too.

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

/// The bytes of a message without one field, or `None` if the message is not well-formed.
#[must_use]
pub(super) fn without_field(message: &[u8], field: u32) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(message.len());
    let mut rest = message;
    while !rest.is_empty() {
        let start = rest;
        let (tag, wire_type) = decode_key(&mut rest).ok()?;
        let length = match wire_type {
            WireType::Varint => {
                decode_varint(&mut rest).ok()?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
            // Groups belong to proto2; Milvus has none.
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        rest = rest.get(length..)?;
        if tag != field {
            kept.extend_from_slice(&start[..start.len() - rest.len()]);
        }
    }
    Some(kept)
}

/// Appends a text to a repeated field. Protobuf allows elements of one field anywhere in a message.
pub(super) fn append_text(message: &mut Vec<u8>, field: u32, text: &str) {
    encode_key(field, WireType::LengthDelimited, message);
    encode_varint(text.len() as u64, message);
    message.extend_from_slice(text.as_bytes());
}

/// Appends zeros, packed, to a repeated field of numbers.
pub(super) fn append_zeros(message: &mut Vec<u8>, field: u32, count: usize) {
    encode_key(field, WireType::LengthDelimited, message);
    encode_varint(count as u64, message);
    message.resize(message.len() + count, 0);
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::model::messages::{CollectionInfo, FieldIndexInfo};

    #[test]
    fn one_field_is_removed_and_unknown_fields_are_kept() {
        let collection = CollectionInfo {
            id: 7,
            field_indexes: vec![
                FieldIndexInfo {
                    field_id: 1,
                    index_id: 2
                };
                3
            ],
            shards_num: 2,
            ..CollectionInfo::default()
        };
        let mut bytes = collection.encode_to_vec();
        let without = CollectionInfo {
            field_indexes: Vec::new(),
            ..collection
        };
        assert_eq!(without_field(&bytes, 6).unwrap(), without.encode_to_vec());
        append_text(&mut bytes, 99, "unknown");
        let mut expected = without.encode_to_vec();
        append_text(&mut expected, 99, "unknown");
        assert_eq!(without_field(&bytes, 6).unwrap(), expected);
    }

    #[test]
    fn broken_messages_are_refused() {
        for broken in [
            &b"\xff"[..],
            b"\x12\x05ab",
            b"\x0b",
            b"\x09\x01",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(without_field(broken, 6), None, "{broken:?}");
        }
    }

    #[test]
    fn appended_values_are_read() {
        let mut bytes = CollectionInfo {
            partition_created_timestamps: vec![5],
            ..CollectionInfo::default()
        }
        .encode_to_vec();
        append_text(&mut bytes, 5, "p");
        append_zeros(&mut bytes, 9, 2);
        let read = CollectionInfo::decode(&*bytes).unwrap();
        assert_eq!(
            (read.partition_names, read.partition_created_timestamps),
            (vec!["p".to_owned()], vec![5, 0, 0])
        );
    }
}
