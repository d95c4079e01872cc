//! Scalars of a JSON text: strings, numbers and words, put on the tape.

use super::{MAX_VALUES, Shape, Value, short};

/// Digits of a number that any reader takes for the same: they fit an `i64`.
pub(super) const MAX_DIGITS: usize = 18;

/// Reads a scalar; `None` if none is there.
pub(super) fn scalar(bytes: &[u8], at: usize, values: &mut Vec<Value>) -> Option<usize> {
    match *bytes.get(at)? {
        b'"' => string(bytes, at, values),
        b't' => word(bytes, at, "true", Shape::Plain, values),
        b'f' => word(bytes, at, "false", Shape::Plain, values),
        b'n' => word(bytes, at, "null", Shape::Null, values),
        _ => number(bytes, at, values),
    }
}

#[allow(clippy::inline_always, reason = "as for `special`")]
#[inline(always)]
pub(super) fn put(values: &mut Vec<Value>, start: usize, stop: usize, shape: Shape) -> Option<()> {
    let next = values.len() + 1;
    if next > MAX_VALUES {
        return None;
    }
    values.push(Value {
        start: short(start),
        stop: short(stop),
        next: short(next),
        shape,
    });
    Some(())
}

#[allow(clippy::inline_always, reason = "as for `special`")]
#[inline(always)]
pub(super) fn key(bytes: &[u8], at: usize, values: &mut Vec<Value>) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let end = string(bytes, at, values)?;
    (*bytes.get(end)? == b':').then_some(end + 1)
}

#[allow(clippy::inline_always, reason = "as for `special`")]
#[inline(always)]
pub(super) fn string(bytes: &[u8], at: usize, values: &mut Vec<Value>) -> Option<usize> {
    let start = at + 1;
    let stop = special(bytes, start);
    let (end, shape) = if *bytes.get(stop)? == b'"' {
        (stop, Shape::Text)
    } else {
        (escaped(bytes, stop)?, Shape::Escaped)
    };
    put(values, start, end, shape)?;
    Some(end + 1)
}

pub(super) fn word(
    bytes: &[u8],
    at: usize,
    word: &str,
    shape: Shape,
    values: &mut Vec<Value>,
) -> Option<usize> {
    let end = at + word.len();
    if bytes.get(at..end)? != word.as_bytes() {
        return None;
    }
    put(values, at, end, shape)?;
    Some(end)
}

/// A whole number; fractions and exponents are read by `serde_json`.
pub(super) fn number(bytes: &[u8], at: usize, values: &mut Vec<Value>) -> Option<usize> {
    let first = at + usize::from(*bytes.get(at)? == b'-');
    let mut end = first;
    while bytes.get(end).is_some_and(u8::is_ascii_digit) {
        end += 1;
    }
    let digits = end - first;
    let leading_zero = *bytes.get(first)? == b'0' && (digits > 1 || first > at);
    if digits == 0
        || digits > MAX_DIGITS
        || leading_zero
        || matches!(bytes.get(end), Some(b'.' | b'e' | b'E'))
    {
        return None;
    }
    put(values, at, end, Shape::Plain)?;
    Some(end)
}

/// The first quote or escape from `at` on; the end where there is none.
#[allow(
    clippy::inline_always,
    reason = "a call for each string costs as much as the string"
)]
#[inline(always)]
pub(super) fn special(bytes: &[u8], mut at: usize) -> usize {
    // Eight at a time: in each byte of a word, the highest bit tells whether it is the one that is
    // looked for.
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = ONES << 7;
    const QUOTES: u64 = ONES * b'"' as u64;
    const ESCAPES: u64 = ONES * b'\\' as u64;
    // A borrow may set bits above the first hit, never below it, and the first is the one that
    // counts.
    let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*word);
        let found = (is_zero(word ^ QUOTES) | is_zero(word ^ ESCAPES)) & HIGHEST;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\');
    bytes
        .get(at..)
        .and_then(|rest| rest.iter().position(is_special))
        .map_or(bytes.len(), |more| at + more)
}

/// The end of a string whose first escape is at `at`; `None` if an escape is none, or half of a
/// pair.
#[inline(never)]
pub(super) fn escaped(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'"', _) => return Some(at),
            (b'\\', Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => at += 2,
            (b'\\', Some(b'u')) => {
                let digits = bytes.get(at + 2..at + 6)?;
                if !digits.iter().all(u8::is_ascii_hexdigit)
                    || digits
                        .first()
                        .is_some_and(|first| matches!(first, b'd' | b'D'))
                {
                    return None;
                }
                at += 6;
            }
            _ => return None,
        }
        at = special(bytes, at);
    }
}
