//! Edits of protobuf messages on the level of their bytes.
//!
//! A collection must come out of a migration byte for byte as it was, but for its indexes. Decoding
//! and encoding would do that for what we know alone; cutting a field out of the bytes keeps what
//! we do not know, too.

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

/// The bytes of a message without one field, or nothing if it is not well-formed.
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
            // Groups are of proto2; Milvus has none.
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        rest = rest.get(length..)?;
        if tag != field {
            kept.extend_from_slice(&start[..start.len() - rest.len()]);
        }
    }
    Some(kept)
}

/// Appends a text to a repeated field. Protobuf lets elements of one field lie anywhere in a
/// message.
pub(super) fn append_text(message: &mut Vec<u8>, field: u32, text: &str) {
    encode_key(field, WireType::LengthDelimited, message);
    encode_varint(text.len() as u64, message);
    message.extend_from_slice(text.as_bytes());
}

/// Appends zeros to a repeated field of numbers, packed.
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
    fn one_field_goes_and_unknown_ones_stay() {
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
    fn what_is_appended_is_read() {
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
