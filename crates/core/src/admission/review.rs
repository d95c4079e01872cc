//! An admission review: what the API server asks, and the answer in its words.
//!
//! Nothing of the objects is read here: they stay text until a gate wants them. What an API server
//! writes comes on a [`Tape`] on which the gates find them again; anything that looks different is
//! scanned by `serde_json`, and they stay text alone.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use crate::{
    manifest::tape::{Tape, ValueRef},
    text::shortened,
};

/// Bytes of a review. The API server accepts requests of 3 MiB, and a review holds the object twice
/// (new and old) plus what describes the request.
pub const MAX_REVIEW_BYTES: usize = 7 * 1024 * 1024;
/// Characters of a uid. The API server sends 36; more than this is not a uid.
const MAX_UID: usize = 256;
/// Characters of a warning that every client shows whole.
pub const MAX_WARNING: usize = 256;
/// Characters of all warnings together before the API server cuts them.
const MAX_WARNINGS: usize = 4096;
/// The only version that is spoken.
pub const API_VERSION: &str = "admission.k8s.io/v1";

/// Why a body is not a review that could be answered.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// It is not valid JSON of the right shape; the parser's own words may quote the object, so
    /// only the place is kept.
    #[error("the body is not an AdmissionReview (line {line}, column {column})")]
    Shape {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// Another version than [`API_VERSION`].
    #[error("the version of the review is not admission.k8s.io/v1")]
    Version,
    /// No request inside.
    #[error("the review does not contain a request")]
    NoRequest,
    /// A uid that no API server sends.
    #[error("the request has no uid, or a uid longer than {MAX_UID} characters")]
    Uid,
}

/// Where a body stops being text.
fn shape_at(body: &[u8], offset: usize) -> ReviewError {
    let before = body.get(..offset).unwrap_or_default();
    let lines = before.split(|byte| *byte == b'\n');
    let column = lines.clone().next_back().map_or(0, <[u8]>::len);
    ReviewError::Shape {
        line: lines.count(),
        column: column + 1,
    }
}

/// What kind of change is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// The object is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
    /// A connection to it, such as `exec`.
    Connect,
}

/// Group, version and resource of the request, as the webhook's rule names them.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Resource<'a> {
    /// API group; empty for the core group.
    #[serde(borrow, default)]
    pub group: Cow<'a, str>,
    /// Plural name.
    #[serde(borrow, default)]
    pub resource: Cow<'a, str>,
}

/// Who asks.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub struct User<'a> {
    /// Name.
    #[serde(borrow, default)]
    pub username: Cow<'a, str>,
}

/// One request for admission.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review<'a> {
    /// Identity of the request, repeated in the answer.
    #[serde(borrow, default)]
    pub uid: Cow<'a, str>,
    /// What it is about.
    #[serde(borrow, default, deserialize_with = "object")]
    pub resource: Resource<'a>,
    /// `scale`, `status` ...; empty for the object itself.
    #[serde(borrow, default)]
    pub sub_resource: Cow<'a, str>,
    /// Name; empty where the API server makes one up.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    /// Namespace; empty for cluster-wide objects.
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    /// The change.
    pub operation: Operation,
    /// Who asks.
    #[serde(borrow, default, deserialize_with = "object")]
    pub user_info: User<'a>,
    /// The object as it would be; absent for a deletion.
    #[serde(borrow, default)]
    pub object: Option<Raw<'a>>,
    /// The object as it is; absent for a creation.
    #[serde(borrow, default)]
    pub old_object: Option<Raw<'a>>,
    /// Whether nothing will be stored.
    #[serde(default)]
    pub dry_run: Option<bool>,
    /// Options of the request.
    #[serde(borrow, default, deserialize_with = "optional_object")]
    pub options: Option<Options<'a>>,
    /// All values, where the body is written as the API server does.
    #[serde(skip)]
    pub(super) tape: Option<Tape<'a>>,
}

/// The text of an object.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    pub(super) text: &'a str,
    /// Where it stands on the review's tape; 0, the review itself, where there is none.
    pub(super) position: u32,
}

impl<'a> Raw<'a> {
    /// The text.
    #[must_use]
    pub const fn get(self) -> &'a str {
        self.text
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self {
            text: raw.get(),
            position: 0,
        })
    }
}

/// What is read of the request's options.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options<'a> {
    /// Who will own the fields.
    #[serde(borrow, default)]
    pub field_manager: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Envelope<'a> {
    #[serde(borrow, default)]
    pub(super) api_version: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "optional_object")]
    pub(super) request: Option<Review<'a>>,
}

/// A JSON object. Derived readers take a list of the fields too, which no API server writes.
pub(super) struct JsonObject<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = JsonObject<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(JsonObject)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    JsonObject::deserialize(deserializer).map(|JsonObject(value)| value)
}

fn optional_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<JsonObject<T>>::deserialize(deserializer)?.map(|JsonObject(value)| value))
}

impl<'a> Review<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Where it is not a review of this version with a request and a uid.
    pub fn parse(body: &'a [u8]) -> Result<Self, ReviewError> {
        // Looked at once as a whole, its bytes need not be looked at again in each text.
        let text = str::from_utf8(body).map_err(|error| shape_at(body, error.valid_up_to()))?;
        let envelope = match Tape::read(text).and_then(Envelope::of) {
            Some(envelope) => envelope,
            None => serde_json::from_str(text).map_err(|error| ReviewError::Shape {
                line: error.line(),
                column: error.column(),
            })?,
        };
        if envelope.api_version != API_VERSION {
            return Err(ReviewError::Version);
        }
        let review = envelope.request.ok_or(ReviewError::NoRequest)?;
        if review.uid.is_empty() || review.uid.len() > MAX_UID {
            return Err(ReviewError::Uid);
        }
        Ok(review)
    }

    /// The object as it would be, where the body came on a tape.
    #[must_use]
    pub fn object_at(&self) -> Option<ValueRef<'_, 'a>> {
        self.on_tape(self.object?)
    }

    /// The object as it is, where the body came on a tape.
    #[must_use]
    pub fn old_object_at(&self) -> Option<ValueRef<'_, 'a>> {
        self.on_tape(self.old_object?)
    }

    fn on_tape(&self, raw: Raw<'a>) -> Option<ValueRef<'_, 'a>> {
        self.tape.as_ref().map(|tape| tape.at(raw.position))
    }

    /// Whether nothing will be stored.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.dry_run.unwrap_or(false)
    }

    /// The manager that will own the fields, empty where none is named.
    #[must_use]
    pub fn field_manager(&self) -> &str {
        self.options
            .as_ref()
            .and_then(|options| options.field_manager.as_deref())
            .unwrap_or_default()
    }
}

/// What the API server is told.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Response {
    /// Why it is denied, for people; `None` if it is allowed.
    pub denied: Option<String>,
    /// What a client prints although it is allowed.
    pub warnings: Vec<String>,
    /// For the API server's audit log.
    pub audit: Vec<(&'static str, String)>,
    /// JSON patch; empty for none.
    pub patch: Vec<Patch>,
}

/// One operation of a JSON patch (RFC 6902).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Patch {
    /// Puts a value where none was, or over one.
    Add {
        /// JSON pointer.
        path: String,
        /// Value.
        value: serde_json::Value,
    },
    /// Takes a value away.
    Remove {
        /// JSON pointer.
        path: String,
    },
}

impl Response {
    /// Nothing to say.
    #[must_use]
    pub fn allow() -> Self {
        Self::default()
    }

    /// A denial with its message.
    #[must_use]
    pub fn deny(message: impl Into<String>) -> Self {
        Self {
            denied: Some(message.into()),
            ..Self::default()
        }
    }

    /// Allowed, with one warning.
    #[must_use]
    pub fn warn(message: impl Into<String>) -> Self {
        Self {
            warnings: vec![message.into()],
            ..Self::default()
        }
    }

    /// The answer to the request with this uid, as JSON.
    #[must_use]
    pub fn render(&self, uid: &str) -> Vec<u8> {
        let patch = (!self.patch.is_empty() && self.denied.is_none())
            .then(|| serde_json::to_vec(&self.patch).ok())
            .flatten()
            .map(|patch| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, patch));
        let answer = Answer {
            api_version: API_VERSION,
            kind: "AdmissionReview",
            response: Body {
                uid,
                allowed: self.denied.is_none(),
                status: self.denied.as_deref().map(|message| Status {
                    code: 403,
                    reason: "Forbidden",
                    message,
                }),
                patch_type: patch.as_ref().map(|_| "JSONPatch"),
                patch,
                warnings: bounded(&self.warnings),
                audit_annotations: self
                    .audit
                    .iter()
                    .map(|(key, value)| (*key, value.as_str()))
                    .collect(),
            },
        };
        // A structure of texts and flags cannot fail to become JSON.
        serde_json::to_vec(&answer).unwrap_or_default()
    }
}

/// Cuts each warning and drops those that the API server would.
fn bounded(warnings: &[String]) -> Vec<String> {
    let mut total = 0;
    let mut kept = Vec::new();
    for warning in warnings {
        let warning = shortened(warning, MAX_WARNING);
        total += warning.len();
        if total > MAX_WARNINGS {
            break;
        }
        kept.push(warning);
    }
    kept
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: Body<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    audit_annotations: std::collections::BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    reason: &'a str,
    message: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(request: &str) -> String {
        format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{request}}}"#
        )
    }

    #[test]
    fn a_review_is_read_without_its_objects() {
        let text = review(
            r#"{"uid":"u","kind":{"kind":"Deployment"},"resource":{"group":"apps","version":"v1","resource":"deployments"},
            "name":"a","namespace":"n","operation":"UPDATE","userInfo":{"username":"me","groups":["x"]},
            "object":{"spec":{}},"oldObject":null,"dryRun":true,"options":{"fieldManager":"helm"}}"#,
        );
        let review = Review::parse(text.as_bytes()).unwrap();
        assert_eq!(
            (&*review.uid, &*review.resource.resource, review.operation),
            ("u", "deployments", Operation::Update)
        );
        assert_eq!(
            (review.object.unwrap().get(), review.old_object.is_none()),
            (r#"{"spec":{}}"#, true)
        );
        assert!(review.is_dry_run());
        assert_eq!(review.field_manager(), "helm");
    }

    /// What both ways must agree on.
    fn read<'a>(review: &'a Review<'_>) -> impl PartialEq + std::fmt::Debug + 'a {
        let raw = |raw: Option<Raw<'a>>| raw.map(Raw::get);
        (
            (
                &review.uid,
                &review.resource,
                &review.sub_resource,
                &review.name,
                &review.namespace,
                review.operation,
            ),
            (
                &review.user_info,
                raw(review.object),
                raw(review.old_object),
                review.dry_run,
                &review.options,
            ),
        )
    }

    #[rstest::rstest]
    #[case(r#"{"uid":"u","kind":{"kind":"Deployment"},"resource":{"group":"apps","version":"v1","resource":"deployments"},"subResource":"scale","name":"a","namespace":"n","operation":"UPDATE","userInfo":{"username":"me","groups":["x"]},"object":{"spec":{}},"oldObject":{"a":[]},"dryRun":true,"options":{"fieldManager":"helm"}}"#)]
    #[case(r#"{"uid":"u","operation":"DELETE","object":null,"oldObject":{},"dryRun":null,"options":null}"#)]
    #[case(
        r#"{"uid":"u\u0026","operation":"CREATE","options":{"fieldManager":null},"dryRun":false,"resource":{},"userInfo":{}}"#
    )]
    #[case(r#"{"uid":"u","operation":"CONNECT","options":{}}"#)]
    fn a_tape_says_what_serde_says(#[case] request: &str) {
        let tight = review(request);
        let tape = Review::parse(tight.as_bytes()).unwrap();
        assert!(tape.tape.is_some());
        // A space at the end is enough for `serde_json` to read it.
        let loose = format!("{tight} ");
        let long = Review::parse(loose.as_bytes()).unwrap();
        assert!(long.tape.is_none());
        assert_eq!(read(&tape), read(&long));
    }

    #[rstest::rstest]
    #[case(r#"{"uid":"u","uid":"u","operation":"CREATE"}"#)]
    #[case(r#"{"uid":"u","u\u0069d":"v","operation":"CREATE"}"#)]
    #[case(r#"{"uid":null,"operation":"CREATE"}"#)]
    #[case(r#"{"uid":"u","operation":"create"}"#)]
    #[case(r#"{"uid":"u"}"#)]
    #[case(r#"{"uid":"u","operation":"CREATE","dryRun":"true"}"#)]
    #[case(r#"{"uid":"u","operation":"CREATE","options":{"fieldManager":5}}"#)]
    #[case(r#"{"uid":"u","operation":"CREATE","resource":{"group":"a","group":"b"}}"#)]
    #[case(r#"{"uid":"u","operation":"CREATE","object":{},"object":{}}"#)]
    #[case(r#"{"uid":"u","operation":"CREATE","name":null}"#)]
    #[case(r#"{"uid":"u","operation":"CREATE","resource":["apps","deployments"]}"#)]
    #[case(r#"{"uid":"u","operation":"CREATE","userInfo":["me"]}"#)]
    #[case(r#"{"uid":"u","operation":"CREATE","options":["helm"]}"#)]
    #[case(r#"["u",{},"","","","CREATE"]"#)]
    fn what_serde_refuses_no_tape_lets_in(#[case] request: &str) {
        assert!(Review::parse(review(request).as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_review_has_a_reason() {
        let error = |text: &str| Review::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error("").contains("line 1, column 0"));
        assert!(error("[1").contains("not an AdmissionReview"));
        let no_text = Review::parse(b"{\"apiVersion\":\n\"\xff")
            .unwrap_err()
            .to_string();
        assert!(no_text.contains("line 2, column 2"), "{no_text}");
        assert!(
            error(r#"{"apiVersion":"admission.k8s.io/v1beta1"}"#)
                .contains("is not admission.k8s.io/v1")
        );
        assert!(error(r#"{"apiVersion":"admission.k8s.io/v1"}"#).contains("not contain a request"));
        assert!(error(&review(r#"{"operation":"CREATE"}"#)).contains("no uid"));
        assert!(
            error(&review(&format!(
                r#"{{"operation":"CREATE","uid":"{}"}}"#,
                "x".repeat(300)
            )))
            .contains("no uid")
        );
        assert!(
            error(&review(r#"{"operation":"EXPLODE","uid":"u"}"#))
                .contains("not an AdmissionReview")
        );
        assert!(!error(r#"{"password":"hunter2"#).contains("hunter2"));
    }

    #[test]
    fn an_answer_keeps_the_uid_and_its_bounds() {
        let mut response = Response::deny("no");
        response.warnings = vec!["w".repeat(300); 40];
        response.patch = vec![Patch::Remove { path: "/a".into() }];
        let answer: serde_json::Value = serde_json::from_slice(&response.render("u\"1")).unwrap();
        assert_eq!(answer["response"]["uid"], "u\"1");
        assert_eq!(answer["response"]["status"]["message"], "no");
        assert_eq!(
            answer["response"]["patch"],
            serde_json::Value::Null,
            "a denial changes nothing"
        );
        let warnings = answer["response"]["warnings"].as_array().unwrap();
        assert_eq!(
            (warnings.len(), warnings[0].as_str().unwrap().len()),
            (16, 256)
        );
        assert_eq!(shortened("äöü", 4), "...", "never inside a character");
    }
}
