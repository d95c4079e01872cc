//! From the metadata of 2.1 to that of 2.2, one file for each kind of record.

mod aliases;
mod collections;
mod indexes;
mod loads;
mod output;
mod params;
mod segments;

use milvus_guard_core::evidence::MetadataState;

use super::{
    format::Evidence,
    keys::{DDL, HISTORY, split_timestamp},
    options::Options,
    plan::{Plan, PlanError, Unloadable},
    record::Dump,
};

use {collections::Live, indexes::Indexes, loads::Loads, output::Output};

/// Plans the migration of everything in `dump`. All records are read before a problem is reported,
/// so that all problems are reported.
///
/// The plan is empty if there is nothing to do: no metadata, or metadata of 2.2 ([`Plan::state`]
/// shows which).
///
/// # Errors
/// If the metadata is in a state that cannot be migrated, or has records that cannot be; all of
/// them are named.
pub fn plan<'d>(dump: &'d Dump, options: &Options) -> Result<Plan<'d>, PlanError> {
    if !dump.root.is_apart() {
        return Err(PlanError::NotApart);
    }
    let state = Evidence::of(dump).state();
    let mut output = Output::new(dump, options);
    match state {
        MetadataState::Empty | MetadataState::V22 => return output.finish(state, Vec::new()),
        MetadataState::V21 | MetadataState::V21NoIndex => {}
        MetadataState::MixedSkipped if options.force_mixed => {}
        other => return Err(PlanError::State(other)),
    }
    let live = collections::migrate(&mut output);
    aliases::migrate(&mut output);
    let indexes = indexes::migrate(&mut output, &live);
    segments::migrate(&mut output, &live, &indexes);
    let loads = loads::migrate(&mut output, &live, &indexes);
    definition_changes(&mut output);
    output.finish(state, unloadable(&live, &indexes, &loads))
}

/// The last definition change, which 2.1 stores to repeat it after a crash. 2.2 does not use these
/// keys.
fn definition_changes(output: &mut Output<'_>) {
    let dump = output.dump;
    for leaf in DDL {
        output.deletes.extend(dump.get(leaf.as_bytes()));
        let history = format!("{HISTORY}{leaf}_ts");
        let is_history = |key: &[u8]| {
            split_timestamp(key).is_some_and(|(path, _)| path.len() + 3 == history.len())
        };
        output.deletes.extend(
            dump.under(&history)
                .iter()
                .filter(|record| is_history(record.key())),
        );
    }
}

fn unloadable(live: &Live, indexes: &Indexes<'_>, loads: &Loads) -> Vec<Unloadable> {
    live.iter()
        .filter(|(id, _)| !indexes.has_vector_index(**id))
        .map(|(id, collection)| Unloadable {
            collection_id: *id,
            name: collection.name.clone(),
            is_loaded: loads.contains(id),
        })
        .collect()
}
