//! Decodes the bytes of a file to text: UTF-8 with or without a byte order mark, and UTF-16 as
//! PowerShell writes it.

use std::io::Read;

use flate2::read::GzDecoder;

/// Bytes that are read to detect UTF-16 without a byte order mark.
const SAMPLE: usize = 512;
/// Bytes of an archive that are unpacked to detect its content.
const MAX_PEEK: u64 = 1024 * 1024;
/// Size of a header and of the blocks of a tar archive.
const TAR_BLOCK: usize = 512;

/// Why bytes are not text that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotText {
    /// A packed Helm chart.
    ChartArchive,
    /// Another archive or a compressed file, by the name of its format.
    Packed(&'static str),
    /// Text in an unsupported encoding.
    Encoding(&'static str),
    /// Anything else, with the position of the first invalid byte.
    Binary(usize),
}

/// The text of a file.
///
/// # Errors
/// The format of the bytes if they are neither UTF-8 nor UTF-16.
pub fn decode(bytes: Vec<u8>) -> Result<String, NotText> {
    match &*bytes {
        [0x1f, 0x8b, ..] => {
            return Err(if holds_chart(&bytes) {
                NotText::ChartArchive
            } else {
                NotText::Packed("gzip")
            });
        }
        [b'P', b'K', 3, 4, ..] => return Err(NotText::Packed("zip")),
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Err(NotText::Encoding("UTF-32")),
        [0xff, 0xfe, rest @ ..] => return utf16(rest, u16::from_le_bytes, 2),
        [0xfe, 0xff, rest @ ..] => return utf16(rest, u16::from_be_bytes, 2),
        _ => {}
    }
    if let Some(from_bytes) = unmarked_utf16(&bytes) {
        return utf16(&bytes, from_bytes, 0);
    }
    if let Some(position) = bytes.iter().position(|byte| *byte == 0) {
        return Err(NotText::Binary(position));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| NotText::Binary(error.utf8_error().valid_up_to()))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn utf16(bytes: &[u8], from_bytes: fn([u8; 2]) -> u16, skipped: usize) -> Result<String, NotText> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(pairs.len());
    let mut position = skipped;
    for unit in char::decode_utf16(pairs.iter().map(|pair| from_bytes(*pair))) {
        match unit {
            Ok('\0') | Err(_) => return Err(NotText::Binary(position)),
            Ok(letter) => {
                text.push(letter);
                position += letter.len_utf16() * 2;
            }
        }
    }
    if rest.is_empty() {
        Ok(text)
    } else {
        Err(NotText::Binary(position))
    }
}

/// The byte order of UTF-16 without a mark: manifests are nearly all ASCII, so every second byte is
/// zero.
fn unmarked_utf16(bytes: &[u8]) -> Option<fn([u8; 2]) -> u16> {
    let (pairs, _) = bytes.get(..bytes.len().min(SAMPLE))?.as_chunks::<2>();
    let share = |test: fn(&[u8; 2]) -> bool| {
        pairs.iter().filter(|pair| test(pair)).count() * 10 >= pairs.len() * 9
    };
    match pairs {
        [] | [_] => None,
        _ if share(|[low, high]| *low != 0 && *high == 0) => Some(u16::from_le_bytes),
        _ if share(|[high, low]| *high == 0 && *low != 0) => Some(u16::from_be_bytes),
        _ => None,
    }
}

/// Whether a gzip file is a tar archive with a `Chart.yaml`.
fn holds_chart(bytes: &[u8]) -> bool {
    let mut start = Vec::new();
    // A damaged end of the archive does not matter here.
    let _ = GzDecoder::new(bytes).take(MAX_PEEK).read_to_end(&mut start);
    let mut at = 0;
    while let Some(header) = start.get(at..at + TAR_BLOCK) {
        let name = header
            .get(..100)
            .unwrap_or_default()
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        if name.ends_with(b"/Chart.yaml") {
            return true;
        }
        let octal = header
            .get(124..136)
            .and_then(|size| std::str::from_utf8(size).ok());
        let size =
            octal.and_then(|size| usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).ok());
        let Some(size) = size.filter(|size| *size <= start.len()) else {
            return false;
        };
        at += TAR_BLOCK + size.div_ceil(TAR_BLOCK) * TAR_BLOCK;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn le(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn be(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_be_bytes).collect()
    }

    const TEXT: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: größe-日本-🦀}\n";

    #[rstest]
    #[case::utf8(TEXT.as_bytes().to_vec())]
    #[case::utf8_marked([b"\xef\xbb\xbf", TEXT.as_bytes()].concat())]
    #[case::utf16_le_marked([&b"\xff\xfe"[..], &le(TEXT)].concat())]
    #[case::utf16_be_marked([&b"\xfe\xff"[..], &be(TEXT)].concat())]
    #[case::utf16_le(le(TEXT))]
    #[case::utf16_be(be(TEXT))]
    fn every_supported_encoding_is_decoded(#[case] bytes: Vec<u8>) {
        assert_eq!(decode(bytes).as_deref(), Ok(TEXT));
    }

    #[rstest]
    #[case(b"\xff\xfe\0\0a\0\0\0".to_vec(), NotText::Encoding("UTF-32"))]
    #[case(b"PK\x03\x04rest".to_vec(), NotText::Packed("zip"))]
    #[case(b"\x7fELF\x02\x01\x01\0\0\0".to_vec(), NotText::Binary(7))]
    #[case(b"kind: \xff".to_vec(), NotText::Binary(6))]
    #[case(b"\xff\xfea\0b".to_vec(), NotText::Binary(4))]
    #[case(b"\xff\xfea\0\0\xd8b\0".to_vec(), NotText::Binary(4))]
    fn the_error_names_the_format_of_other_bytes(
        #[case] bytes: Vec<u8>,
        #[case] expected: NotText,
    ) {
        assert_eq!(decode(bytes), Err(expected));
    }

    fn tar(name: &str, content: &[u8]) -> Vec<u8> {
        let mut header = vec![0; TAR_BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        let mut all = [header, content.to_vec()].concat();
        all.resize(all.len().div_ceil(TAR_BLOCK) * TAR_BLOCK, 0);
        all
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_packed_chart_is_distinguished_from_other_archives() {
        let chart = [
            tar("milvus/values.yaml", b"a: 1\n"),
            tar("milvus/Chart.yaml", b"name: milvus\n"),
        ]
        .concat();
        assert_eq!(decode(gzip(&chart)), Err(NotText::ChartArchive));
        assert_eq!(
            decode(gzip(&tar("readme", b"x"))),
            Err(NotText::Packed("gzip"))
        );
        assert_eq!(decode(gzip(b"plain")), Err(NotText::Packed("gzip")));
        assert_eq!(
            decode(b"\x1f\x8bdamaged".to_vec()),
            Err(NotText::Packed("gzip"))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(bytes);
        }

        #[test]
        fn encoded_text_is_decoded_unchanged(text in "[a-z]{2,40}[^\\x00]{0,3}") {
            prop_assert_eq!(decode(text.clone().into_bytes()), Ok(text.clone()));
            prop_assert_eq!(decode([&b"\xff\xfe"[..], &le(&text)].concat()), Ok(text));
        }
    }
}
