//! Decides whether the input after a change is a whole release or a part of one, and merges a part
//! into the running state.
//!
//! `helm upgrade` and a build of kustomize contain a whole release: missing objects are removed.
//! `kubectl apply -f FILE`, `helm template --show-only` and a patch contain a part: missing objects
//! stay. An input does not state which it is, so this module looks for signs in each release.
//! If a sign is not certain, the report states the assumption and names the flag (`--whole`,
//! `--part`) that overrides it.
//!
//! 1. *Known.* Helm's record, `helm upgrade --dry-run`, `helm get all`, a Terraform plan,
//!    `release:`, `live` and `version:` are whole. A workload without a selector is a patch, and so
//!    a part, if the running workload has a selector.
//! 2. *Nothing is missing.* If the input contains every workload of the release before, the result
//!    is the same in both cases.
//! 3. *Nothing in common.* If the input contains a complete Milvus and none of the running
//!    workloads, it is another release or another topology, and whole.
//! 4. *Rendered by Helm* (`# Source:` comments, or Helm's labels on objects that were not read from
//!    a cluster). A chart of Milvus always renders its configuration and its Services, so an
//!    input with them is whole: a missing component or dependency was dropped. Without them it is a
//!    selection (`--show-only`), a part.
//! 5. *No Milvus workload.* An input with some of the running objects is a part, unless it
//!    contains more than half of the workloads, or is rendered by Helm and contains all
//!    dependencies: then Milvus was dropped, and there is nothing to judge. It is not a part either if `-n` left
//!    out a Milvus of another namespace.
//! 6. *Other files.* A file with an incomplete Milvus is a part unless it contains more than half
//!    of the components. A file with a complete Milvus is whole if it contains any of its
//!    dependencies, or if its configuration points to other hosts than the missing ones; else the
//!    dependencies are in other files, and it is a part.

mod extent;
mod merge;
mod sides;

use std::collections::BTreeSet;

use extent::Extent;
use milvus_guard_core::{
    manifest::{Object, object::ObjectRef},
    milvus::Release,
    text::count,
};
use sides::{Index, Sides, owned};

use crate::files::{InputError, Loaded, patch};

pub use extent::Choice;

/// Groups the input after a change into the state that it would create, and notes in its entry
/// whether it was treated as a part.
///
/// # Errors
/// If it contains a patch of a workload whose document was not kept.
pub fn settle(before: &Loaded, after: &mut Loaded, choice: Choice) -> Result<(), InputError> {
    let patches = patch::lay(&before.content, &mut after.content)?;
    let alone = after.content.builder().build_over(&before.content.objects);
    let sides = Sides {
        before,
        after: &after.content,
        patches: &patches,
        known: Index::of(&before.content),
        wanted: Index::of(&after.content),
    };
    let extents: Vec<(&Release, Option<&Release>, Extent)> = alone
        .releases
        .iter()
        .map(|release| {
            let running = sides.running(release, &alone);
            (release, running, sides.extent(running, release, choice))
        })
        .collect();
    // Milvus in another namespace than that of `-n` is most likely a render without `-n`: nothing of
    // it may count as unchanged.
    let is_elsewhere = alone.releases.is_empty() && after.content.has_left_out_milvus;
    let is_part = if is_elsewhere {
        false
    } else if alone.releases.is_empty() {
        sides.is_part_without_milvus(choice)
    } else {
        extents.iter().any(|(.., extent)| extent.is_part)
    };
    if !is_part {
        let notes = extents
            .iter()
            .filter_map(|(_, running, extent)| sides.note_whole((*running)?, extent))
            .collect();
        let staying: Vec<Object> = extents
            .iter()
            .flat_map(|(_, running, _)| sides.staying(*running))
            .collect();
        let snapshot = if staying.is_empty() {
            alone
        } else {
            let mut builder = after.content.builder();
            for object in staying {
                builder.add(object);
            }
            builder.build_over(&before.content.objects)
        };
        after.entry.notes.extend::<Vec<String>>(notes);
        if snapshot.releases.is_empty() && choice == Choice::Seen && !is_elsewhere {
            after
                .entry
                .notes
                .push("If it is one of several files for kubectl apply: --part".to_owned());
        }
        after.snapshot = snapshot;
        return Ok(());
    }
    // If a release is whole, objects that the input lacks are removed.
    let gone: BTreeSet<&ObjectRef> = extents
        .iter()
        .filter(|(.., extent)| !extent.is_part)
        .filter_map(|(_, running, _)| *running)
        .flat_map(owned)
        .collect();
    let because = extents
        .iter()
        .filter(|(.., extent)| extent.is_part)
        .find_map(|(.., extent)| extent.because.clone());
    let laid = after.content.objects.len();
    let (snapshot, stays) = sides.merged(&gone);
    let mut note = format!(
        "after is a part: {} merged into the state before; {stays} stay unchanged",
        count(laid, "object")
    );
    if let Some(because) = because.filter(|_| choice == Choice::Seen) {
        note.push_str(&format!(
            " (assumed, because {because}; if missing objects are to be removed, use --whole)"
        ));
    }
    after.entry.notes.push(note);
    after.snapshot = snapshot;
    Ok(())
}

#[cfg(test)]
mod tests;
