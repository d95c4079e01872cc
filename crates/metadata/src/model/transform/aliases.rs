//! Aliases. 2.1 stores them as collections; 2.2 has a separate record and key prefix for them.

use prost::Message;

use crate::model::{
    keys::{ALIAS, ALIAS_HISTORY, OLD_ALIAS, OLD_ALIAS_HISTORY, TOMBSTONE, split_timestamp},
    messages::{AliasInfo, CollectionInfo},
    notes::NoteKind,
    plan::Kind,
    record::Record,
};

use super::output::{Output, is_tombstone};

pub(super) fn migrate(output: &mut Output<'_>) {
    let dump = output.dump;
    for record in dump.under(OLD_ALIAS) {
        output.deletes.push(record);
        let Some(alias) = name(&record.key()[OLD_ALIAS.len()..]) else {
            output.problem(record, "it is not the key of an alias");
            continue;
        };
        output.count(Kind::Aliases);
        if let Some(value) = convert(output, record, alias, 0) {
            output.put(format!("{ALIAS}{alias}"), value);
        }
    }
    for record in dump.under(OLD_ALIAS_HISTORY) {
        output.deletes.push(record);
        let parsed = split_timestamp(&record.key()[OLD_ALIAS_HISTORY.len()..]);
        let Some((alias, ts)) = parsed.and_then(|(alias, ts)| Some((name(alias)?, ts))) else {
            output.problem(record, "it is not a key of an alias's history");
            continue;
        };
        output.count(Kind::AliasHistory);
        if let Some(value) = convert(output, record, alias, ts) {
            output.put(format!("{ALIAS_HISTORY}{alias}_ts{ts}"), value);
        }
    }
}

fn name(path: &[u8]) -> Option<&str> {
    std::str::from_utf8(path)
        .ok()
        .filter(|name| !name.is_empty() && !name.contains('/'))
}

fn convert(
    output: &mut Output<'_>,
    record: &Record,
    alias: &str,
    created_time: u64,
) -> Option<Vec<u8>> {
    if is_tombstone(record) {
        return Some(TOMBSTONE.to_vec());
    }
    let info: CollectionInfo = output.decode(record)?;
    let mut alias_name = info.schema.map(|schema| schema.name).unwrap_or_default();
    if alias_name.is_empty() {
        output.note(record, NoteKind::NamelessAlias);
        alias.clone_into(&mut alias_name);
    } else if alias_name != alias {
        output.note(record, NoteKind::KeyMismatch);
    }
    let alias = AliasInfo {
        alias_name,
        collection_id: info.id,
        created_time,
        ..AliasInfo::default()
    };
    Some(alias.encode_to_vec())
}
