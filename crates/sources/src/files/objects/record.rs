//! Helm's records of releases, and which revision of each counts.

use milvus_guard_core::manifest::{Node, Origin};

use crate::files::{Role, record::Summary};

/// One of Helm's records, kept until all are read, because an input may contain many revisions.
pub(super) struct Record {
    pub(super) summary: Summary,
    pub(super) object: Node,
    pub(super) origin: Origin,
}

/// One record of each release.
pub(super) fn choose(mut records: Vec<Record>, role: Role) -> Vec<Record> {
    let rank = |record: &Record| {
        let status = record.summary.status.as_str();
        let preferred = match role {
            Role::Before => status == "deployed",
            Role::After => status.starts_with("pending-"),
        };
        (preferred, record.summary.revision)
    };
    records.sort_by_key(|record| std::cmp::Reverse(rank(record)));
    let mut chosen: Vec<Record> = Vec::new();
    for record in records {
        let known = chosen.iter().any(|other| {
            other.summary.name == record.summary.name
                && other.summary.namespace == record.summary.namespace
        });
        if !known {
            chosen.push(record);
        }
    }
    chosen
}
