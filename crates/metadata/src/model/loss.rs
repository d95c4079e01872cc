//! The losses of a restore for users who have used 2.2 since the backup.
//!
//! That 2.2 has run is not a loss: it writes roles, databases, channel positions and replicas
//! automatically. What counts is what users and their programs created: collections, partitions,
//! aliases, indexes, rows, users.

use std::{collections::BTreeMap, fmt};

use prost::Message;
use serde::Serialize;

use super::{
    keys::{
        ALIAS, COLLECTION, CREDENTIAL, INDEX, OLD_ALIAS, OLD_INDEX, SEGMENT, TOMBSTONE, numbers,
        shown,
    },
    messages::{
        AliasInfo, CollectionInfo, FieldIndex, OldIndex, PartitionInfo, SEGMENT_DROPPED, Segment,
    },
    record::{Dump, Record},
};

/// Maximum number of losses that are kept with their names; the rest are only counted.
const KEPT: usize = 1000;
/// Maximum number of losses that a message names.
const NAMED: usize = 10;
/// Partitions of collections that were created in 2.2.
const PARTITION: &str = "root-coord/partitions/";
/// Collections within a database, since 2.2.9.
const DATABASE_COLLECTION: &str = "root-coord/database/collection-info/";
/// Aliases within a database, since 2.2.9.
const DATABASE_ALIAS: &str = "root-coord/database/aliases/";

/// The kind of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// A collection that was created.
    Collection,
    /// A collection that was changed: renamed, or given other fields or properties.
    CollectionChange,
    /// A collection that was dropped. It would be restored, perhaps without its data.
    CollectionDrop,
    /// A partition that was created or dropped.
    Partition,
    /// An alias that was created, altered or dropped.
    Alias,
    /// An index that was created or dropped.
    Index,
    /// A segment that was written, grown, compacted or dropped: rows.
    Segment,
    /// A user that was created, or whose password was changed.
    User,
    /// A role that was created or granted.
    Role,
}

impl LossKind {
    const fn text(self) -> &'static str {
        match self {
            Self::Collection => "created collection",
            Self::CollectionChange => "changed collection",
            Self::CollectionDrop => "dropped collection",
            Self::Partition => "created or dropped partition",
            Self::Alias => "changed alias",
            Self::Index => "changed index",
            Self::Segment => "written or compacted segment",
            Self::User => "changed user",
            Self::Role => "changed role",
        }
    }
}

/// One loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Its kind.
    pub kind: LossKind,
    /// Its name, or its id.
    pub name: String,
}

/// All losses, of which the first are kept with their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Losses {
    kept: Vec<Loss>,
    counts: BTreeMap<LossKind, u64>,
}

impl Losses {
    pub(super) fn add(&mut self, loss: Loss) {
        *self.counts.entry(loss.kind).or_default() += 1;
        if self.kept.len() < KEPT {
            self.kept.push(loss);
        }
    }

    /// The losses that are kept with their names.
    pub fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.kept.iter()
    }

    /// Number of losses of each kind, including those without names.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<LossKind, u64> {
        &self.counts
    }

    /// Whether nothing would be lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.text(), self.name.escape_debug())
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, loss) in self.kept.iter().take(NAMED).enumerate() {
            write!(f, "{}{loss}", if position == 0 { "" } else { ", " })?;
        }
        let total: u64 = self.counts.values().sum();
        let named = self.kept.len().min(NAMED) as u64;
        if total > named {
            write!(f, " and {} more", total - named)
        } else {
            Ok(())
        }
    }
}

/// The loss from restoring a record that differs from the backup. Values that cannot be read count
/// as a loss, because they may be valuable.
pub(super) fn of(backup: &Dump, record: &Record) -> Option<Loss> {
    let saved = backup.get(record.key());
    let under = |prefix: &str| record.key().strip_prefix(prefix.as_bytes());
    if let Some(rest) = under(COLLECTION) {
        return collection(saved, record, rest);
    }
    if let Some(rest) = under(DATABASE_COLLECTION) {
        let [_, id] = numbers(rest)?;
        let is_known =
            saved.is_some() || backup.get(format!("{COLLECTION}{id}").as_bytes()).is_some();
        return (!is_known && live(record))
            .then(|| named(LossKind::Collection, record, collection_name(record)));
    }
    if let Some(rest) = under(PARTITION) {
        let [collection, _] = numbers::<2>(rest)?;
        let has_collection = backup
            .get(format!("{COLLECTION}{collection}").as_bytes())
            .is_some_and(live);
        let name = PartitionInfo::decode(record.value())
            .ok()
            .map(|partition| partition.partition_name);
        return has_collection.then(|| named(LossKind::Partition, record, name));
    }
    if let Some(rest) = under(ALIAS).or_else(|| {
        under(DATABASE_ALIAS).and_then(|rest| rest.splitn(2, |byte| *byte == b'/').nth(1))
    }) {
        return alias(backup, saved, record, rest);
    }
    if let Some(rest) = under(INDEX) {
        return index(backup, saved, record, rest);
    }
    if under(SEGMENT).is_some() {
        return segment(saved, record);
    }
    credential(saved, under(CREDENTIAL)?)
}

fn collection(saved: Option<&Record>, record: &Record, rest: &[u8]) -> Option<Loss> {
    numbers::<1>(rest)?;
    let saved = saved.filter(|saved| live(saved));
    if !live(record) {
        return saved.map(|saved| named(LossKind::CollectionDrop, record, collection_name(saved)));
    }
    let Some(saved) = saved else {
        return Some(named(LossKind::Collection, record, collection_name(record)));
    };
    let changed = |kind| Some(named(kind, record, collection_name(record)));
    let (Ok(old), Ok(new)) = (
        CollectionInfo::decode(saved.value()),
        CollectionInfo::decode(record.value()),
    ) else {
        return changed(LossKind::CollectionChange);
    };
    if old.partition_ids != new.partition_ids {
        return changed(LossKind::Partition);
    }
    let is_same = (
        &old.schema,
        &old.properties,
        old.state,
        old.consistency_level,
    ) == (
        &new.schema,
        &new.properties,
        new.state,
        new.consistency_level,
    );
    if is_same {
        None
    } else {
        changed(LossKind::CollectionChange)
    }
}

fn alias(backup: &Dump, saved: Option<&Record>, record: &Record, name: &[u8]) -> Option<Loss> {
    let new =
        live(record).then(|| AliasInfo::decode(record.value()).map(|alias| alias.collection_id));
    let old = backup
        .get(&[OLD_ALIAS.as_bytes(), name].concat())
        .or(saved)
        .filter(|record| live(record));
    // The collection's id has another field number in the old and in the new message.
    let old = old.map(|old| {
        if old.key().starts_with(OLD_ALIAS.as_bytes()) {
            CollectionInfo::decode(old.value()).map(|alias| alias.id)
        } else {
            AliasInfo::decode(old.value()).map(|alias| alias.collection_id)
        }
    });
    let is_same = match (old, new) {
        (None, None) => true,
        (Some(Ok(old)), Some(Ok(new))) => old == new,
        _ => false,
    };
    (!is_same).then(|| Loss {
        kind: LossKind::Alias,
        name: String::from_utf8_lossy(name).into_owned(),
    })
}

fn index(backup: &Dump, saved: Option<&Record>, record: &Record, rest: &[u8]) -> Option<Loss> {
    let index = FieldIndex::decode(record.value()).ok();
    let name = index
        .as_ref()
        .and_then(|index| index.index_info.as_ref())
        .map(|info| info.index_name.clone());
    let is_dropped = index.as_ref().is_some_and(|index| index.deleted);
    let was_dropped = if let Some(old) = backup
        .get(&[OLD_INDEX.as_bytes(), rest].concat())
        .filter(|old| live(old))
    {
        OldIndex::decode(old.value()).ok().map(|old| old.deleted)
    } else {
        saved
            .and_then(|saved| FieldIndex::decode(saved.value()).ok())
            .map(|old| old.deleted)
    };
    let is_same = index.is_some() && was_dropped == Some(is_dropped);
    (!is_same).then(|| named(LossKind::Index, record, name))
}

fn segment(saved: Option<&Record>, record: &Record) -> Option<Loss> {
    let read = |record: &Record| {
        Segment::decode(record.value())
            .ok()
            .map(|segment| (segment.state, segment.num_rows))
    };
    let is_same = match (saved.map(read), read(record)) {
        (None, Some((state, rows))) => state == SEGMENT_DROPPED || rows == 0,
        (Some(Some(old)), Some(new)) => old == new,
        _ => false,
    };
    (!is_same).then(|| named(LossKind::Segment, record, None))
}

fn credential(saved: Option<&Record>, rest: &[u8]) -> Option<Loss> {
    let name = String::from_utf8_lossy(rest).into_owned();
    if let Some(user) = name.strip_prefix("users/") {
        // 2.2 creates root automatically.
        return (user != "root" || saved.is_some()).then(|| Loss {
            kind: LossKind::User,
            name: user.into(),
        });
    }
    let role = name
        .strip_prefix("roles/")
        .or_else(|| name.strip_prefix("user-role-mapping/"))?;
    let is_built_in = ["admin", "public", "root/admin"].contains(&role);
    (!is_built_in).then(|| Loss {
        kind: LossKind::Role,
        name: role.into(),
    })
}

fn live(record: &Record) -> bool {
    record.value() != TOMBSTONE
}

fn collection_name(record: &Record) -> Option<String> {
    Some(CollectionInfo::decode(record.value()).ok()?.schema?.name)
}

fn named(kind: LossKind, record: &Record, name: Option<String>) -> Loss {
    Loss {
        kind,
        name: name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| shown(record.key())),
    }
}
