//! Lists that are short in honest records.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

/// At most `N` elements; of a longer list only that it is longer is kept.
pub(super) struct Few<T, const N: usize>(Option<Vec<T>>);

impl<T, const N: usize> Few<T, N> {
    /// The elements; `None` if there were more.
    pub(super) fn all(self) -> Option<Vec<T>> {
        self.0
    }

    /// The same, borrowed.
    pub(super) fn get(&self) -> Option<&[T]> {
        self.0.as_deref()
    }
}

impl<T, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self(Some(Vec::new()))
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Few<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

struct Reader<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Reader<T, N> {
    type Value = Few<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    /// Go writes an empty list as null.
    fn visit_unit<E>(self) -> Result<Few<T, N>, E> {
        Ok(Few::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Few<T, N>, A::Error> {
        let mut all = Vec::new();
        while all.len() < N {
            match items.next_element()? {
                Some(item) => all.push(item),
                None => return Ok(Few(Some(all))),
            }
        }
        let mut is_longer = false;
        while items.next_element::<IgnoredAny>()?.is_some() {
            is_longer = true;
        }
        Ok(Few((!is_longer).then_some(all)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_whole_or_too_long() {
        let read = |json: &str| serde_json::from_str::<Few<u8, 2>>(json).unwrap().all();
        assert_eq!(
            (read("null"), read("[]"), read("[1,2]")),
            (Some(vec![]), Some(vec![]), Some(vec![1, 2]))
        );
        assert_eq!((read("[1,2,3]"), read("[1,2,3,{},[]]")), (None, None));
        assert!(serde_json::from_str::<Few<u8, 2>>("{}").is_err());
    }
}
