//! From text to values.

use super::scalar::{key, put, scalar, string};
use super::{MAX_DEPTH, Shape, Value, repeat::repeat, short};

/// Containers around the members of a review's request.
const REQUEST: usize = 2;

/// Reads all values; `None` if the text is not as it should be.
pub(super) fn values(bytes: &[u8], values: &mut Vec<Value>) -> Option<()> {
    // Positions of the containers that are open, and whether they are mappings.
    let mut open: Vec<(usize, bool)> = Vec::with_capacity(MAX_DEPTH);
    let mut at = 0;
    // `object`; `oldObject` repeats most of it.
    let mut object = None;
    loop {
        match *bytes.get(at)? {
            b'"' => at = string(bytes, at, values)?,
            b'{' if open.len() == REQUEST
                && object.is_some()
                && is_key(bytes, values, "oldObject") =>
            {
                let room = values.len();
                let Some(end) = object.and_then(|model| repeat(bytes, at, values, model)) else {
                    values.truncate(room);
                    object = None;
                    continue;
                };
                at = end;
            }
            first @ (b'{' | b'[') => {
                if open.len() == MAX_DEPTH {
                    return None;
                }
                let is_map = first == b'{';
                if open.len() == REQUEST && is_map && is_key(bytes, values, "object") {
                    object = Some(values.len());
                }
                open.push((values.len(), is_map));
                put(
                    values,
                    at,
                    at,
                    if is_map { Shape::Map } else { Shape::List },
                )?;
                at += 1;
                match (*bytes.get(at)?, is_map) {
                    (b'}', true) | (b']', false) => {}
                    (_, true) => {
                        at = key(bytes, at, values)?;
                        continue;
                    }
                    (_, false) => continue,
                }
            }
            _ => at = scalar(bytes, at, values)?,
        }
        // What follows a value: the next one, or the end of what it is in.
        loop {
            let Some(&(container, is_map)) = open.last() else {
                return (at == bytes.len()).then_some(());
            };
            match (*bytes.get(at)?, is_map) {
                (b',', true) => {
                    at = key(bytes, at + 1, values)?;
                    break;
                }
                (b',', false) => {
                    at += 1;
                    break;
                }
                (b'}', true) | (b']', false) => at += 1,
                _ => return None,
            }
            open.pop();
            let (stop, next) = (short(at), short(values.len()));
            let value = values.get_mut(container)?;
            (value.stop, value.next) = (stop, next);
        }
    }
}

/// Whether the last value is this key.
fn is_key(bytes: &[u8], values: &[Value], key: &str) -> bool {
    values
        .last()
        .and_then(|last| bytes.get(last.start as usize..last.stop as usize))
        == Some(key.as_bytes())
}
