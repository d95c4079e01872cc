//! Keys as Milvus compares them: without regard to case and separators, so that `etcd.rootPath` and
//! `ETCD_ROOT_PATH` are one (milvus `pkg/config`, `formatKey`).

use std::cmp::Ordering;

/// A key that is looked for, in any spelling.
pub(super) struct Key<'a> {
    text: &'a str,
    pub(super) hash: u64,
}

impl<'a> Key<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self {
            text,
            hash: hash(text),
        }
    }

    pub(super) fn is(&self, other: &str) -> bool {
        self.text == other || normal(self.text).eq(normal(other))
    }

    /// The sections in which the key lies, as far as it is written with dots.
    pub(super) fn sections(&self) -> impl Iterator<Item = &'a str> {
        let text = self.text;
        text.match_indices('.')
            .filter_map(move |(at, _)| text.get(..at))
    }

    /// Whether the key could be one that `prefix` is put before.
    pub(super) fn may_begin_with(&self, prefix: &str) -> bool {
        let is_part_of_ours = PREFIX
            .get(..prefix.len())
            .is_some_and(|part| part.eq_ignore_ascii_case(prefix));
        if is_part_of_ours {
            return true;
        }
        let prefix = variable(prefix);
        let mut own = normal(self.text);
        normal(prefix).all(|letter| own.next() == Some(letter))
    }
}

/// The order of the normal forms of two keys.
pub(super) fn order(one: &str, other: &str) -> Ordering {
    normal(one).cmp(normal(other))
}

/// The normal form of a key.
pub(super) fn normalised(key: &str) -> Box<str> {
    normal(key).collect::<String>().into()
}

/// The name of a variable as a key: Milvus drops a leading `milvus.`, in any case (milvus
/// `base_table.go`).
pub(super) fn variable(name: &str) -> &str {
    match name.split_at_checked(PREFIX.len()) {
        Some((prefix, key)) if prefix.eq_ignore_ascii_case(PREFIX) => key,
        _ => name,
    }
}

/// Whether a variable with this name sets a key that is given in its normal form.
pub(crate) fn is_variable_of(normal_form: &str, name: &str) -> bool {
    normal(variable(name)).eq(normal_form.chars())
}

const PREFIX: &str = "milvus.";

fn normal(key: &str) -> impl Iterator<Item = char> {
    key.chars()
        .filter(|letter| !is_separator(*letter))
        .flat_map(char::to_lowercase)
}

const fn is_separator(letter: char) -> bool {
    matches!(letter, '.' | '_' | '/')
}

/// FNV-1a of the normal form. Keys that collide only make their own lookup longer.
pub(super) fn hash(key: &str) -> u64 {
    let step = |hash: u64, letter: char| (hash ^ u64::from(letter)).wrapping_mul(0x0100_0000_01b3);
    let start = 0xcbf2_9ce4_8422_2325;
    if key.is_ascii() {
        let letters = key.bytes().filter(|byte| !is_separator(char::from(*byte)));
        return letters.fold(start, |hash, byte| {
            step(hash, char::from(byte.to_ascii_lowercase()))
        });
    }
    normal(key).fold(start, step)
}
