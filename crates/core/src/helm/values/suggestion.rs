//! The path that was probably meant by one that the chart does not have.

use strsim::levenshtein;

/// The path that was most likely meant: the shortest that has every name of the given one in its
/// order, else the one next to it whose last name is the same or nearly so.
pub(super) fn nearest<'k>(path: &str, known: &'k [String]) -> Option<&'k str> {
    let names: Vec<&str> = path.split('.').collect();
    let (last, first) = (names.last()?, names.first()?);
    let holds = |candidate: &str| {
        let mut rest = candidate.split('.');
        names.len() > 1 && names.iter().all(|name| rest.any(|other| other == *name))
    };
    // Paths come shortest first. Below the same part of the chart is likelier than below another
    // one.
    let same_part = |candidate: &str| candidate.split('.').next() == Some(*first);
    let held = || known.iter().filter(|candidate| holds(candidate));
    if let Some(found) = held().find(|candidate| same_part(candidate)) {
        return Some(found);
    }
    // The same names below several other parts tell nothing.
    let part = |candidate: &'k String| candidate.split('.').next();
    if let Some(found) = held().next()
        && held().all(|other| part(other) == part(found))
    {
        return Some(found);
    }
    if let Some((_, other)) = RENAMED.iter().find(|(name, _)| name == last)
        && let Some(found) = known.iter().find(|candidate| candidate == other)
    {
        return Some(found);
    }
    let parent = path.rsplit_once('.').map(|(parent, _)| parent);
    let resembles = |candidate: &&String| {
        let (folder, name) = candidate
            .rsplit_once('.')
            .map_or((None, candidate.as_str()), |(folder, name)| {
                (Some(folder), name)
            });
        folder == parent && name.len() > 3 && is_near(name, last)
    };
    let moved = |candidate: &&String| {
        let mut parts = candidate.split('.');
        names.len() > 1 && parts.next() == Some(*first) && parts.next_back() == Some(*last)
    };
    known
        .iter()
        .find(resembles)
        .or_else(|| known.iter().find(moved))
        .map(String::as_str)
}

/// Another chart's name for the same thing, where no path resembles it.
const RENAMED: [(&str, &str); 4] = [
    ("extraVolumes", "volumes"),
    ("extraVolumeMounts", "volumeMounts"),
    ("podSecurityContext", "securityContext"),
    ("imagePullSecrets", "image.all.pullSecrets"),
];

/// Whether two letters at most are changed, added or taken away between two names, without regard
/// to case. Long names count as different: they would take time.
pub(super) fn is_near(name: &str, other: &str) -> bool {
    const MAX_NAME: usize = 64;
    name.len() <= MAX_NAME
        && other.len() <= MAX_NAME
        && levenshtein(&name.to_ascii_lowercase(), &other.to_ascii_lowercase()) <= 2
}

/// Bytes of templates that are searched for all paths together.
pub(super) const MAX_SEARCHED: usize = 256 * 1024 * 1024;
