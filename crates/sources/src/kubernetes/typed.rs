//! Typed objects from JSON values.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A value that is not an object of the wanted type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WrongType(String);

/// Reads a typed object from a value.
///
/// It goes through text, because the client reads the answers of the API server from text: with a
/// second reader of each type, for values, the program would be larger.
///
/// # Errors
/// If the value has another type.
pub fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, WrongType> {
    serde_json::from_str(&value.to_string()).map_err(|error| {
        let message = error.to_string();
        // The user has not seen the text, so its line and column do not help.
        let what = message.rsplit_once(" at line ");
        WrongType(what.map_or(&*message, |(what, _)| what).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_has_no_line_of_the_hidden_text() {
        let pod: Pod = typed(&json!({"metadata": {"name": "a"}})).unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("a"));
        let wrong = typed::<Pod>(&json!({"metadata": {"name": 7}})).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "invalid type: integer `7`, expected a string"
        );
    }
}
