//! Index parameters. 2.1 stores them as JSON in one parameter, 2.2 stores each separately, in the
//! format of Go.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::model::messages::KeyValuePair;

/// Key whose value is JSON.
const NESTED: &str = "params";
/// Maximum depth of JSON. Milvus' own parameters have one level.
const MAX_DEPTH: usize = 32;

/// All parameters as separate pairs; of two with one name the later one counts. An error is the end
/// of a sentence.
pub(super) fn flatten(params: &[KeyValuePair]) -> Result<BTreeMap<String, String>, String> {
    let mut flat = BTreeMap::new();
    for pair in params {
        if pair.key != NESTED {
            flat.insert(pair.key.clone(), pair.value.clone());
            continue;
        }
        let nested: Option<BTreeMap<String, &RawValue>> = serde_json::from_str(&pair.value)
            .map_err(|error| format!("are not valid JSON object ({error})"))?;
        for (key, value) in nested.unwrap_or_default() {
            let text = go_text(value, 0).map_err(|what| format!("hold {key:?}, which {what}"))?;
            flat.insert(key, text);
        }
    }
    Ok(flat)
}

/// A JSON value as `fmt.Sprintf("%v")` of Go prints it after `json.Unmarshal`.
///
/// Numbers are parsed from their text, because those of `serde_json` may differ in the last bit.
fn go_text(value: &RawValue, depth: usize) -> Result<String, String> {
    let broken = |error: serde_json::Error| format!("cannot be read ({error})");
    if depth > MAX_DEPTH {
        return Err(format!("is nested more than {MAX_DEPTH} levels deep"));
    }
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let entries: BTreeMap<String, &RawValue> =
                serde_json::from_str(text).map_err(broken)?;
            let entries: Result<Vec<String>, String> = entries
                .into_iter()
                .map(|(key, value)| Ok(format!("{key}:{}", go_text(value, depth + 1)?)))
                .collect();
            Ok(format!("map[{}]", entries?.join(" ")))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(broken)?;
            let items: Result<Vec<String>, String> = items
                .into_iter()
                .map(|item| go_text(item, depth + 1))
                .collect();
            Ok(format!("[{}]", items?.join(" ")))
        }
        Some(b'"') => serde_json::from_str(text).map_err(broken),
        Some(b'n') => Ok("<nil>".into()),
        Some(b't' | b'f') => Ok(text.into()),
        _ => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(go_number(number)),
            _ => Err(format!("is a number that is too large ({text})")),
        },
    }
}

/// A number as Go's `%v`: shortest digits, an exponent below 1e-4 and from 1e+06 on.
fn go_number(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if number != 0.0 && !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{number}"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // Case 6; the expected values were printed by Go.
    #[rstest]
    #[case("1024", "1024")]
    #[case("16384.0", "16384")]
    #[case("999999", "999999")]
    #[case("1000000", "1e+06")]
    #[case("2097152", "2.097152e+06")]
    #[case("-1000000", "-1e+06")]
    #[case("1e-5", "1e-05")]
    #[case("0.0001", "0.0001")]
    #[case("0.5", "0.5")]
    #[case("0", "0")]
    #[case("-0", "-0")]
    #[case("1e100", "1e+100")]
    #[case("123456789012345678901234567890", "1.2345678901234568e+29")]
    #[case("true", "true")]
    #[case("false", "false")]
    #[case("null", "<nil>")]
    #[case(r#""a b""#, "a b")]
    #[case(r#""\u00e9\n""#, "é\n")]
    #[case("[1, 2]", "[1 2]")]
    #[case("[]", "[]")]
    #[case(r#"{"k": 1}"#, "map[k:1]")]
    #[case(r#"{"b": [true, null], "a": "x"}"#, "map[a:x b:[true <nil>]]")]
    fn values_are_printed_as_go_does(#[case] json: &str, #[case] expected: &str) {
        let pair = KeyValuePair {
            key: "params".into(),
            value: format!("{{\"p\":{json}}}"),
        };
        assert_eq!(flatten(&[pair]).unwrap()["p"], expected);
    }

    // Case 7.
    #[rstest]
    #[case("{}", Some(1))]
    #[case("null", Some(1))]
    #[case(r#"{"nlist":1024}"#, Some(2))]
    #[case("", None)]
    #[case("[1]", None)]
    #[case("7", None)]
    #[case("{\"a\":1e999}", None)]
    #[case("{\"a\":1} x", None)]
    fn params_must_be_an_object(#[case] json: &str, #[case] entries: Option<usize>) {
        let pairs = [("metric_type", "L2"), ("params", json)];
        let pairs = pairs.map(|(key, value)| KeyValuePair {
            key: key.into(),
            value: value.into(),
        });
        assert_eq!(flatten(&pairs).ok().map(|flat| flat.len()), entries);
    }

    #[test]
    fn the_last_of_two_parameters_counts_and_depth_is_bounded() {
        let pair = |key: &str, value: &str| KeyValuePair {
            key: key.into(),
            value: value.into(),
        };
        let flat = flatten(&[
            pair("a", "1"),
            pair("params", r#"{"a":2,"a":3}"#),
            pair("b", "4"),
            pair("b", "5"),
        ])
        .unwrap();
        assert_eq!((flat["a"].as_str(), flat["b"].as_str()), ("3", "5"));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
        assert!(
            flatten(&[pair("params", &deep)])
                .unwrap_err()
                .contains("levels deep")
        );
    }
}
