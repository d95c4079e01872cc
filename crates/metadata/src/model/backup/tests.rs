use rstest::rstest;

use super::*;
use crate::model::sample::Sample;

fn dump() -> Dump {
    let mut sample = Sample::new();
    sample.surroundings().collection(1, "c");
    sample.put("binary", b"\x00\xff\x00").put("empty", b"");
    sample.dump().unwrap()
}

fn file(form: Form) -> Vec<u8> {
    let mut file = Vec::new();
    write(&dump(), Some("2.1.4"), form, &mut file).unwrap();
    file
}

/// One entry or header of the official format: its length and its bytes.
fn part(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

/// A file in the format of the official tool: instance `by-dev`, sub-path `meta`.
fn official(entries: u8, extra: &[u8], pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut header = b"\x12\x06by-dev\x1a\x04meta".to_vec();
    if entries > 0 {
        header.extend([0x20, entries]);
    }
    if !extra.is_empty() {
        header.extend([0x32, u8::try_from(extra.len()).unwrap()]);
        header.extend(extra);
    }
    let mut file = part(&header);
    for (key, value) in pairs {
        let mut entry = vec![0x0a, u8::try_from(key.len()).unwrap()];
        entry.extend(key.as_bytes());
        if !value.is_empty() {
            entry.extend([0x12, u8::try_from(value.len()).unwrap()]);
            entry.extend(*value);
        }
        file.extend(part(&entry));
    }
    file
}

const EXTRA: &[u8] = br#"{"entry_include_root_path":true}"#;
const PAIRS: [(&str, &[u8]); 3] = [
    ("by-dev/meta/b", b"\x00\xff"),
    ("by-dev/meta/a", b""),
    ("by-dev/meta2/x", b"a sibling"),
];

#[test]
fn our_format_has_all_data_and_leaves_out_keys_with_leases() {
    let file = file(Form::Own);
    let Backup {
        summary,
        dump: read,
    } = read(&*file).unwrap();
    assert_eq!(
        read.records().len() + 1,
        dump().records().len(),
        "all records but the session of rootcoord"
    );
    assert_eq!(
        (summary.form, summary.cluster_id, summary.revision),
        (Form::Own, 7, 1_000_000)
    );
    assert_eq!(
        (summary.source_version.as_deref(), summary.root.prefix()),
        (Some("2.1.4"), "by-dev/meta/")
    );
    assert_eq!(
        (summary.records, summary.bytes),
        (read.records().len() as u64, file.len() as u64)
    );
    assert_eq!(summary.sha256, hexadecimal(&Sha256::digest(&file)));
    assert_eq!(read.get(b"binary").unwrap(), dump().get(b"binary").unwrap());
    assert_eq!(check(&*file, |_| {}).unwrap(), summary);
}

// Case 33.
#[test]
fn files_of_the_official_tool_are_read() {
    let Backup { summary, dump } = read(&*official(3, EXTRA, &PAIRS)).unwrap();
    assert_eq!(
        (summary.form, summary.records, summary.root.prefix()),
        (Form::Official, 2, "by-dev/meta/")
    );
    assert_eq!(
        (dump.records()[0].key(), dump.records()[0].value()),
        (&b"a"[..], &b""[..])
    );
    assert_eq!(dump.get(b"b").unwrap().value(), b"\x00\xff");
}

#[test]
fn the_official_tool_can_read_our_files() {
    let mut file = Vec::new();
    let root = Root::new("by-dev", "meta").unwrap();
    let records = vec![Record::new("a", "", 1), Record::new("b", b"\x00\xff", 2)];
    write(
        &Dump::new(root, 1, 1, records).unwrap(),
        None,
        Form::Official,
        &mut file,
    )
    .unwrap();
    let pairs = [PAIRS[1], PAIRS[0]];
    assert_eq!(file, official(2, EXTRA, &pairs));
}

#[rstest]
#[case::too_few(official(4, EXTRA, &PAIRS), "announces 4 entries, but contains 3")]
#[case::too_many(official(2, EXTRA, &PAIRS), "announces 2 entries, but contains 3")]
#[case::old_keys(official(3, b"", &PAIRS), "do not include the root path")]
#[case::old_keys_said(official(3, br#"{"entry_include_root_path":false}"#, &PAIRS), "do not include the root path")]
#[case::twice(official(2, EXTRA, &[PAIRS[0], PAIRS[0]]), "key b occurs twice")]
#[case::newer_version([&part(b"\x08\x01\x12\x01a")[..]].concat(), "version 1")]
#[case::no_root(part(&[b"\x32\x20", EXTRA].concat()), "both empty")]
#[case::no_header(part(b"\xff"), "its header is not")]
#[case::huge_header(vec![0xff; 64], "starts neither like")]
#[case::huge_entry([official(0, EXTRA, &[]), vec![0xff; 8]].concat(), "larger than possible")]
#[case::empty_key([official(1, EXTRA, &[]), part(b"\x12\x01x")].concat(), "a key is empty")]
#[case::no_message([official(1, EXTRA, &[]), part(b"\xff")].concat(), "an entry is not a valid message")]
#[case::trailing([official(3, EXTRA, &PAIRS), vec![1, 2, 3]].concat(), "cut off")]
#[case::nothing(Vec::new(), "cut off after 0 bytes")]
#[case::text(b"apiVersion: v1\nkind: Secret".to_vec(), "starts neither like")]
fn incomplete_backups_are_refused(#[case] file: Vec<u8>, #[case] expected: &str) {
    let error = read(&*file).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_leading_slash_that_the_official_tool_lost_is_restored() {
    let file = official(1, EXTRA, &[("/by-dev/meta/a", b"x")]);
    let Backup { summary, dump } = read(&*file).unwrap();
    assert_eq!(
        (summary.root.prefix(), dump.records().len()),
        ("/by-dev/meta/", 1)
    );
}

#[test]
fn every_cut_and_every_flipped_byte_of_our_format_is_found() {
    let whole = file(Form::Own);
    for at in 0..whole.len() {
        assert!(read(&whole[..at]).is_err(), "cut at {at}");
        let mut flipped = whole.clone();
        flipped[at] ^= 0x40;
        assert!(read(&*flipped).is_err(), "flipped at {at}");
    }
    assert!(
        matches!(read(&*[&whole[..], b"x"].concat()), Err(BackupError::Damaged(what)) if what.contains("follows its end"))
    );
}

#[test]
fn exchanged_records_are_found() {
    // The checksums of single records do not change.
    let header = |records| Header {
        root: dump().root,
        cluster_id: 1,
        revision: 1,
        source_version: None,
        records,
    };
    let of = |value: &str| {
        let mut file = Vec::new();
        let mut writer = Writer::begin(&mut file, header(1)).unwrap();
        writer.push(&Record::new("a", value, 1)).unwrap();
        writer.finish().unwrap();
        file
    };
    let (one, two) = (of("1"), of("2"));
    let end = 5 + 40 + 4;
    let mixed = [&one[..one.len() - end], &two[two.len() - end..]].concat();
    assert!(
        read(&*mixed)
            .unwrap_err()
            .to_string()
            .contains("differ from those that were written")
    );
}

#[test]
fn a_newer_version_is_named() {
    let mut file = own::MAGIC.to_vec();
    let json = br#"{"version":2}"#;
    let mut frame = vec![1, u8::try_from(json.len()).unwrap(), 0, 0, 0];
    frame.extend(json);
    let mut crc = flate2::Crc::new();
    crc.update(&frame);
    file.extend(frame);
    file.extend(crc.sum().to_le_bytes());
    assert!(
        matches!(read(&*file), Err(BackupError::Unsupported(what)) if what.contains("version 2"))
    );
}

#[test]
fn a_writer_refuses_records_that_could_not_be_read_back() {
    let header = |records| Header {
        root: dump().root,
        cluster_id: 1,
        revision: 1,
        source_version: None,
        records,
    };
    let error = |records, keys: &[Record]| {
        let mut writer = Writer::begin(Vec::new(), header(records)).unwrap();
        let pushed: Result<Vec<()>, BackupError> =
            keys.iter().map(|record| writer.push(record)).collect();
        pushed
            .and_then(|_| writer.finish().map(drop))
            .unwrap_err()
            .to_string()
    };
    let record = |key: &str| Record::new(key, "x", 1);
    assert!(error(2, &[record("b"), record("a")]).contains("key a is not in order"));
    assert!(error(2, &[record("a"), record("a")]).contains("is not in order"));
    assert!(error(2, &[record("a")]).contains("1 records were written, but 2 were announced"));
    let mut leased = record("a");
    leased.leased = true;
    assert!(error(1, &[leased]).contains("held by a lease"));
    assert!(error(1, &[Record::new("k".repeat(MAX_KEY + 1), "", 1)]).contains("too large"));
}

/// Fails after some bytes.
struct Failing(usize);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("the disk was removed"));
        }
        let read = buffer.len().min(self.0);
        self.0 -= read;
        buffer[..read].fill(0);
        Ok(read)
    }
}

#[test]
fn a_read_error_is_not_taken_for_the_end_of_the_file() {
    let error = read(Failing(5)).unwrap_err();
    assert!(matches!(&error, BackupError::Io(_)), "{error}");
}
