//! Which running release is the state before of which wanted release.

use super::{Release, Snapshot};

/// The wanted releases with their running states.
pub(crate) struct Pairing<'a> {
    /// One entry for each wanted release, in their order.
    pub pairs: Vec<Pair<'a>>,
    /// Running releases that no wanted release replaces.
    pub gone: Vec<&'a Release>,
}

/// A wanted release with its running state.
pub(crate) struct Pair<'a> {
    /// The running state; `None` if the release is new.
    pub before: Option<&'a Release>,
    /// The wanted state.
    pub after: &'a Release,
}

impl<'a> Pairing<'a> {
    /// Pairs releases by the first of these that decides: the same name; the only running release
    /// that has a workload of the wanted one; the same name in another namespace; the only one
    /// with the same data; if as many are left on either side, the only one with a prefix or
    /// suffix more; if one is left on either side, that one. Rules report what does not stay the
    /// same in all but the first.
    pub(crate) fn of(before: Option<&'a Snapshot>, after: &'a Snapshot) -> Self {
        let running = before.map_or(&[][..], |snapshot| &snapshot.releases);
        let wanted = after.releases.iter();
        let mut pairing = Self {
            pairs: wanted
                .map(|after| Pair {
                    before: None,
                    after,
                })
                .collect(),
            gone: running.iter().collect(),
        };
        pairing.first(|before, after| is_named(before, after) && !before.is_elsewhere(after));
        // If labels now make one release of several, none of them is its running state.
        pairing.first(|before, after| {
            let mut sharing = running
                .iter()
                .filter(|one| one.shares_workloads_with(after));
            before.shares_workloads_with(after) && sharing.nth(1).is_none()
        });
        pairing.first(is_named);
        let all_renamed = pairing.gone.len() == pairing.open();
        pairing.only(works_on_the_same_data);
        if all_renamed {
            pairing.only(has_an_affix_more);
        }
        if pairing.gone.len() == 1 && pairing.open() == 1 {
            pairing.first(|_, _| true);
        }
        pairing
    }

    /// How many pairs still lack their running state.
    fn open(&self) -> usize {
        let open = |pair: &&Pair<'_>| pair.before.is_none();
        self.pairs.iter().filter(open).count()
    }

    /// Gives each open pair the first running release that is left and passes the test.
    fn first(&mut self, test: impl Fn(&Release, &Release) -> bool) {
        let Self { pairs, gone } = self;
        for pair in pairs.iter_mut().filter(|pair| pair.before.is_none()) {
            let position = gone.iter().position(|before| test(before, pair.after));
            pair.before = position.map(|at| gone.remove(at));
        }
    }

    /// The same, but only if no other running release that is left passes the test.
    fn only(&mut self, test: impl Fn(&Release, &Release) -> bool) {
        let Self { pairs, gone } = self;
        for pair in pairs.iter_mut().filter(|pair| pair.before.is_none()) {
            let passing = |(at, before): (usize, &&Release)| test(before, pair.after).then_some(at);
            let mut passing = gone.iter().enumerate().filter_map(passing);
            if let (Some(at), None) = (passing.next(), passing.next()) {
                pair.before = Some(gone.remove(at));
            }
        }
    }
}

fn is_named(before: &Release, after: &Release) -> bool {
    before.name == after.name && before.app_name == after.app_name
}

fn works_on_the_same_data(before: &Release, after: &Release) -> bool {
    match (before.data_location(), after.data_location()) {
        (Some(before), Some(after)) => before.is_same(&after),
        _ => false,
    }
}

/// Whether one name is the other with a prefix or a suffix, as tools set them for all objects.
fn has_an_affix_more(before: &Release, after: &Release) -> bool {
    let (long, short) = if before.name.len() > after.name.len() {
        (&before.name, &after.name)
    } else {
        (&after.name, &before.name)
    };
    long.strip_prefix(short.as_str())
        .is_some_and(|rest| rest.starts_with('-'))
        || long
            .strip_suffix(short.as_str())
            .is_some_and(|rest| rest.ends_with('-'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::Pairing;
    use crate::{
        milvus::{Snapshot, snapshot::Builder},
        rules::testing::objects_of,
    };

    /// Standalones, each with its name, its namespace and its label of the instance.
    fn snapshot(all: &[(&str, &str, &str)]) -> Snapshot {
        let mut builder = Builder::default();
        for (name, namespace, instance) in all {
            let text = format!(
                "kind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app.kubernetes.io/instance: {instance}}}}}\nspec:\n  template:\n    spec:\n      containers: [{{name: a, image: \"milvusdb/milvus:v2.5.27\", args: [milvus, run, standalone]}}]\n"
            );
            for object in objects_of(&text) {
                builder.add(object);
            }
        }
        builder.build()
    }

    #[rstest]
    // Other labels over the same workloads.
    #[case(&[("a", "x", "a"), ("b", "x", "b")], &[("a", "x", "c"), ("b", "x", "d")], &["a", "b"])]
    // The same names in other namespaces.
    #[case(&[("a", "x", "a"), ("b", "x", "b")], &[("a", "y", "a"), ("b", "y", "b")], &["a", "b"])]
    #[case(&[("a", "x", "a")], &[("a", "x", "a"), ("a", "y", "a")], &["a", ""])]
    #[case(&[("a", "x", "a"), ("a", "y", "a")], &[("a", "v", "a"), ("a", "w", "a")], &["a", "a"])]
    // One release of two.
    #[case(&[("a", "x", "a"), ("b", "x", "b")], &[("a", "x", "c"), ("b", "x", "c")], &[""])]
    // The name decides first.
    #[case(&[("a", "x", "a"), ("b", "x", "b")], &[("a", "x", "b"), ("b", "x", "a")], &["b", "a"])]
    // The only one that is left.
    #[case(&[("a", "x", "a")], &[("b", "x", "b")], &["a"])]
    fn each_release_finds_its_running_state(
        #[case] before: &[(&str, &str, &str)],
        #[case] after: &[(&str, &str, &str)],
        #[case] expected: &[&str],
    ) {
        let (before, after) = (snapshot(before), snapshot(after));
        let mut found: Vec<(&str, &str)> = Pairing::of(Some(&before), &after)
            .pairs
            .into_iter()
            .map(|pair| {
                let name = pair.before.map_or("", |before| &before.fullname);
                (pair.after.fullname.as_str(), name)
            })
            .collect();
        found.sort_unstable_by_key(|(after, before)| (*after, std::cmp::Reverse(*before)));
        let found: Vec<&str> = found.into_iter().map(|(_, before)| before).collect();
        assert_eq!(found, expected);
    }
}
