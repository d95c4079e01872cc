//! A value that repeats an earlier one but for some scalars, as an object before its change repeats
//! the one after it: what is equal is compared and copied, which takes a sixth of the time of
//! reading it.

use super::{MAX_VALUES, Shape, Value, scalar::scalar, short};

/// Bytes that are compared at once.
const CHUNK: usize = 64;

/// Scalars that may differ. Each costs a look at what stands around it, which for all elements of a
/// long list would take the square of its length; what differs in more is another object, and read
/// as one.
const MAX_DIFFERENCES: usize = 32;

/// Copies the subtree at `model` for the value at `at`, and returns the offset after it. `None` if
/// anything but a few scalars of members and elements differs: then some values may have been put
/// down already.
///
/// Equal text read in the same state gives equal values. The state at the beginning is the same,
/// and a scalar in the place of another leaves it so.
pub(super) fn repeat(
    bytes: &[u8],
    mut at: usize,
    values: &mut Vec<Value>,
    model: usize,
) -> Option<usize> {
    let whole = *values.get(model)?;
    let (first, last, end) = (values.len(), whole.next as usize, whole.stop as usize);
    if last > first || first + (last - model) > MAX_VALUES {
        return None;
    }
    values.reserve(last - model);
    let moved = first - model;
    // Containers around the last difference: what they hold is longer or shorter than in the model,
    // and so they end elsewhere.
    let mut around: Vec<usize> = Vec::new();
    let (mut seen, mut next) = (whole.start as usize, model);
    for _ in 0..=MAX_DIFFERENCES {
        let equal = common(bytes.get(at..)?, bytes.get(seen..end)?);
        let differs = seen + equal;
        let by = short(at).wrapping_sub(short(seen));
        let reached = if differs == end {
            last
        } else {
            unlike(values.get(..last)?, next, differs)?
        };
        for position in next..reached {
            let value = *values.get(position)?;
            let next = value.next + short(moved);
            let (start, stop) = (value.start.wrapping_add(by), value.stop.wrapping_add(by));
            values.push(Value {
                start,
                stop,
                next,
                ..value
            });
        }
        for container in &around {
            let stop = values.get(*container)?.stop;
            if stop as usize <= differs {
                values.get_mut(container + moved)?.stop = stop.wrapping_add(by);
            }
        }
        if differs == end {
            return Some(at + equal);
        }
        let old = *values.get(reached)?;
        let quote = usize::from(matches!(old.shape, Shape::Text | Shape::Escaped));
        at += (old.start as usize - quote).checked_sub(seen)?;
        at = scalar(bytes, at, values)?;
        seen = old.stop as usize + quote;
        if bytes.get(seen) == Some(&b':') {
            // Another key is another mapping.
            return None;
        }
        next = reached + 1;
        around = containers(values, model, reached);
    }
    None
}

/// The scalar in which the model's text differs first, at `differs`; `None` if it differs between
/// values.
fn unlike(values: &[Value], next: usize, differs: usize) -> Option<usize> {
    let behind = values
        .get(next..)?
        .partition_point(|value| value.start as usize <= differs);
    let position = (next + behind)
        .checked_sub(1)
        .filter(|position| *position >= next)?;
    let value = values.get(position)?;
    let is_scalar = !matches!(value.shape, Shape::List | Shape::Map);
    (is_scalar && differs <= value.stop as usize).then_some(position)
}

/// The containers around a value, from `whole` on.
fn containers(values: &[Value], whole: usize, of: usize) -> Vec<usize> {
    let mut around = Vec::new();
    let mut position = whole;
    while let Some(value) = values.get(position)
        && position < of
    {
        if (value.next as usize) > of {
            around.push(position);
            position += 1;
        } else {
            position = value.next as usize;
        }
    }
    around
}

/// How many bytes both begin with.
fn common(one: &[u8], other: &[u8]) -> usize {
    let chunks = one
        .as_chunks::<CHUNK>()
        .0
        .iter()
        .zip(other.as_chunks::<CHUNK>().0);
    let equal = chunks.take_while(|(one, other)| one == other).count() * CHUNK;
    let rest = one.iter().skip(equal).zip(other.iter().skip(equal));
    equal + rest.take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::manifest::tape::reader;

    fn body(new: &str, old: &str) -> String {
        format!(r#"{{"request":{{"object":{new},"oldObject":{old},"dryRun":false}}}}"#)
    }

    /// The tape of a body, and whether the second object was repeated from the first.
    fn read(new: &str, old: &str) -> (Option<Vec<Value>>, bool) {
        let text = body(new, old);
        let mut values = Vec::new();
        let whole = reader::values(text.as_bytes(), &mut values).map(|()| values);
        let mut first = Vec::new();
        let model = r#"{"request":{"object":"#.len();
        let repeated = reader::values(new.as_bytes(), &mut first).is_some() && {
            let at = text.find(r#","oldObject":"#).unwrap() + r#","oldObject":"#.len();
            for value in &mut first {
                value.start += short(model);
                value.stop += short(model);
            }
            repeat(text.as_bytes(), at, &mut first, 0).is_some()
        };
        (whole, repeated)
    }

    /// The same by reading alone: under another key nothing is repeated.
    fn plain(new: &str, old: &str) -> Option<Vec<Value>> {
        let text = body(new, old).replacen("oldObject", "oldobject", 1);
        let mut values = Vec::new();
        reader::values(text.as_bytes(), &mut values).map(|()| values)
    }

    #[rstest]
    #[case(
        r#"{"a":1,"b":{"c":"x","d":[1,2,3]}}"#,
        r#"{"a":1,"b":{"c":"x","d":[1,2,3]}}"#,
        true
    )]
    #[case(
        r#"{"a":1,"b":{"c":"x","d":[1,2,3]}}"#,
        r#"{"a":12,"b":{"c":"longer","d":[1,null,3]}}"#,
        true
    )]
    #[case(r#"{"a":12,"b":"x"}"#, r#"{"a":1,"b":""}"#, true)]
    #[case(r#"{"a":"x\"y","b":true}"#, r#"{"a":"x\"z","b":false}"#, true)]
    #[case(r#"{"a":[[1],[2]],"b":{}}"#, r#"{"a":[[1],[345]],"b":{}}"#, true)]
    #[case(r#"{"a":1}"#, r#"{"b":1}"#, false)]
    #[case(r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false)]
    #[case(r#"{"a":1,"b":2}"#, r#"{"a":1}"#, false)]
    #[case(r#"{"a":{}}"#, r#"{"a":{"b":1}}"#, false)]
    #[case(r#"{"a":"1"}"#, r#"{"a":1}"#, false)]
    #[case(r#"{"a":1}"#, r#"{"a":[1]}"#, false)]
    #[case(r#"{"a":[1,2]}"#, r#"{"a":[1,2,3]}"#, false)]
    #[case("{}", "{}", true)]
    #[case("{}", r#"{"a":1}"#, false)]
    fn what_is_repeated_is_what_is_read(
        #[case] new: &str,
        #[case] old: &str,
        #[case] repeats: bool,
    ) {
        let (whole, repeated) = read(new, old);
        assert_eq!(repeated, repeats);
        assert_eq!(whole.unwrap(), plain(new, old).unwrap());
    }

    #[rstest]
    #[case(0, true)]
    #[case(MAX_DIFFERENCES, true)]
    #[case(MAX_DIFFERENCES + 1, false)]
    #[case(2_000, false)]
    fn what_differs_in_many_places_is_read_as_another_object(
        #[case] different: usize,
        #[case] repeats: bool,
    ) {
        let list = |digit: fn(bool) -> char| -> String {
            let digits: Vec<String> = (0..2_000)
                .map(|at| digit(at < different).to_string())
                .collect();
            format!(r#"{{"a":[{}]}}"#, digits.join(","))
        };
        let (new, old) = (list(|_| '1'), list(|other| if other { '2' } else { '1' }));
        let (whole, repeated) = read(&new, &old);
        assert_eq!(repeated, repeats);
        assert_eq!(whole.unwrap(), plain(&new, &old).unwrap());
    }

    proptest! {
        /// Any change of any object, broken ones too: both ways agree, or neither reads it.
        #[test]
        fn any_change_is_read_as_if_nothing_was_repeated(
            values in prop::collection::vec((r#"[a-c\\"]{0,3}"#, prop_oneof![Just("1".to_owned()), r#"[a-z"\\]{0,70}"#.prop_map(|text| serde_json::Value::from(text).to_string()), Just("{}".to_owned()), Just("[{\"x\":[]},2]".to_owned())]), 0..9),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), r#"["\\{}\[\],:0-9a]{0,3}"#), 0..3),
        ) {
            let members: Vec<String> = values.iter().map(|(key, value)| format!("{}:{value}", serde_json::Value::from(key.as_str()))).collect();
            let new = format!("{{{}}}", members.join(","));
            let mut old: Vec<char> = new.chars().collect();
            for (at, text) in cuts {
                let at = at.index(old.len());
                old.splice(at..=at, text.chars());
                if old.is_empty() {
                    old.push('x');
                }
            }
            let old: String = old.into_iter().collect();
            prop_assert_eq!(read(&new, &old).0, plain(&new, &old), "{} {}", new, old);
        }
    }
}
