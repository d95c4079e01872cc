//! Helm's storage format: an object of the cluster to the release inside it, bounded.
//!
//! A Secret holds base64(base64(gzip(JSON))), the first layer being the Secret's own; a `ConfigMap`
//! of the other driver holds base64(gzip(JSON)). Releases of the first Helm 3 alphas have no gzip,
//! so its magic bytes decide.

use std::{io::Read, ops::Range};

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{few::Few, values::StoredChart};
use crate::{
    manifest::{
        Budget, Exceeded, Node, Tree,
        budget::{MAX_DOCUMENT_BYTES, MAX_VALUES},
    },
    milvus::release::UnreadValue,
};

/// Bytes of a decoded release. etcd holds at most 1.5 MiB of it compressed, of which real charts
/// make up to 10 MiB.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Type of the Secrets that Helm writes.
pub const SECRET_TYPE: &str = "helm.sh/release.v1";

/// The name of the object that holds a revision.
#[must_use]
pub fn record_name(release: &str, revision: u64) -> String {
    format!("sh.helm.release.v1.{release}.v{revision}")
}

/// Hooks of a release. Charts have a handful.
pub const MAX_HOOKS: usize = 1_000;

const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 0x08];
/// Bytes that are unpacked between two looks at the clock.
const PIECE: u64 = 1024 * 1024;
/// The highest ratio that gzip can reach.
const MAX_RATIO: usize = 1032;

/// One revision of a release as Helm stored it. Values are for rules only and never leave the
/// process.
#[derive(Clone, PartialEq)]
pub struct StoredRelease {
    /// Name of the release.
    pub name: String,
    /// Namespace of the release.
    pub namespace: Option<String>,
    /// Revision number.
    pub revision: u64,
    /// `deployed`, `pending-upgrade` ...
    pub status: String,
    /// The rendered manifest, hooks left out.
    pub manifest: String,
    /// The rendered hooks, one text each.
    pub hooks: Vec<String>,
    /// What the user set (`--set`, `-f`).
    pub user_values: Node,
    /// Name and version of the chart.
    pub chart: Option<(String, String)>,
    /// Values that the user set and the chart does not read; `None` if the record lacks the
    /// chart's default values.
    pub unread_values: Option<Vec<UnreadValue>>,
}

impl std::fmt::Debug for StoredRelease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredRelease")
            .field("name", &self.name)
            .field("namespace", &self.namespace)
            .field("revision", &self.revision)
            .field("status", &self.status)
            .field("chart", &self.chart)
            .finish_non_exhaustive()
    }
}

/// Why an object holds no release that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Another kind of object.
    #[error("{0} is neither a Secret nor a ConfigMap")]
    Kind(String),
    /// A Secret that something else than Helm wrote.
    #[error("Secret of type {0}, where Helm writes helm.sh/release.v1")]
    Type(String),
    /// The right object without its payload.
    #[error("no data under the key release")]
    Missing,
    /// A layer of base64 that is none.
    #[error("the payload is not base64")]
    Base64,
    /// The compressed part is damaged.
    #[error("the payload is damaged gzip: {0}")]
    Gzip(String),
    /// More than [`MAX_BYTES`].
    #[error("the release is larger than {} MiB", MAX_BYTES / (1024 * 1024))]
    TooLarge,
    /// More than the caller has room for; it may come again with more.
    #[error("the release needs too much memory")]
    NoRoom,
    /// More would be built of it than a budget allows.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// What came out is not a release.
    #[error("the payload is not a Helm release ({0})")]
    Json(String),
}

/// Which object holds a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// Helm's default driver.
    Secret,
    /// `HELM_DRIVER=configmap`.
    ConfigMap,
}

/// Decodes what is stored under the key `release` of a record, as the API has it.
///
/// # Errors
/// As [`decode`].
pub fn decode_record(
    kind: RecordKind,
    payload: &str,
    budget: &Budget<'_>,
) -> Result<StoredRelease, CodecError> {
    match kind {
        _ if payload.is_empty() => Err(CodecError::Missing),
        RecordKind::Secret => decode_within(&base64(payload.as_bytes())?, budget),
        RecordKind::ConfigMap => decode_within(payload.as_bytes(), budget),
    }
}

/// Decodes a Secret or `ConfigMap` of Helm's storage.
///
/// # Errors
/// Where the object is not Helm's, is damaged or would decode to more than [`MAX_BYTES`].
pub fn decode(object: &Value) -> Result<StoredRelease, CodecError> {
    parse(stored_json(object)?)
}

/// The JSON of a release in a Secret or `ConfigMap` of Helm's storage: the same fields that Helm
/// prints.
///
/// # Errors
/// As [`decode`].
pub fn stored_json(object: &Value) -> Result<Vec<u8>, CodecError> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let payload = object
        .get("data")
        .and_then(|data| data.get("release"))
        .and_then(Value::as_str);
    let budget = Budget::default();
    match text("kind") {
        "Secret" if text("type") != SECRET_TYPE => Err(CodecError::Type(shown(text("type")))),
        "Secret" => {
            let inner = base64(payload.ok_or(CodecError::Missing)?.as_bytes())?;
            unpacked(&inner, &budget)
        }
        "ConfigMap" => unpacked(payload.ok_or(CodecError::Missing)?.as_bytes(), &budget),
        other => Err(CodecError::Kind(shown(other))),
    }
}

/// Decodes what is stored under the key `release` once the Secret's own base64 is off.
///
/// # Errors
/// As [`decode`].
pub fn decode_payload(payload: &[u8]) -> Result<StoredRelease, CodecError> {
    decode_within(payload, &Budget::default())
}

fn decode_within(payload: &[u8], budget: &Budget<'_>) -> Result<StoredRelease, CodecError> {
    parse(unpacked(payload, budget)?)
}

/// Takes base64 and gzip off.
fn unpacked(payload: &[u8], budget: &Budget<'_>) -> Result<Vec<u8>, CodecError> {
    let bytes = base64(payload)?;
    if !bytes.starts_with(&GZIP_MAGIC) {
        return Ok(bytes);
    }
    let unpacked = gunzip(&bytes, budget)?;
    budget.time()?;
    Ok(unpacked)
}

fn base64(text: &[u8]) -> Result<Vec<u8>, CodecError> {
    if text.len() / 4 * 3 > MAX_BYTES {
        return Err(CodecError::TooLarge);
    }
    BASE64_STANDARD
        .decode(text.trim_ascii())
        .map_err(|_| CodecError::Base64)
}

fn gunzip(bytes: &[u8], budget: &Budget<'_>) -> Result<Vec<u8>, CodecError> {
    let limit = MAX_BYTES.min(budget.unpacked());
    // The end says how long the text is. That may be wrong, so it is only a hint for the capacity.
    let said = bytes
        .last_chunk()
        .map_or(0, |size: &[u8; 4]| u32::from_le_bytes(*size));
    let room = usize::try_from(said)
        .unwrap_or(0)
        .min(limit)
        .min(bytes.len().saturating_mul(MAX_RATIO));
    let piece = usize::try_from(PIECE).unwrap_or(usize::MAX);
    let mut out = Vec::with_capacity(room + piece);
    let mut decoder = MultiGzDecoder::new(bytes);
    loop {
        // Growing step by step would hold the text twice; what is not written to takes no memory.
        if out.len() > room {
            out.reserve_exact((limit + 2 * piece).saturating_sub(out.len()));
        }
        let read = decoder
            .by_ref()
            .take(PIECE)
            .read_to_end(&mut out)
            .map_err(|error| CodecError::Gzip(error.to_string()))?;
        if out.len() > limit {
            return Err(if limit < MAX_BYTES {
                CodecError::NoRoom
            } else {
                CodecError::TooLarge
            });
        }
        if read == 0 {
            return Ok(out);
        }
        budget.time()?;
    }
}

/// What is read of Helm's JSON; templates and files of the chart are skipped.
#[derive(Deserialize)]
struct Stored<'a> {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    info: Option<Info>,
    #[serde(default, borrow)]
    manifest: Option<&'a RawValue>,
    #[serde(default)]
    hooks: Few<Hook, MAX_HOOKS>,
    #[serde(default, borrow)]
    config: Option<&'a RawValue>,
    #[serde(default, borrow)]
    chart: Option<StoredChart<'a>>,
}

#[derive(Deserialize)]
struct Hook {
    #[serde(default)]
    manifest: String,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    status: String,
}

fn parse(bytes: Vec<u8>) -> Result<StoredRelease, CodecError> {
    // serde_json's own words can quote the document, and with it values.
    let stored: Stored<'_> = serde_json::from_slice(&bytes).map_err(|error| {
        CodecError::Json(format!(
            "{} at line {}, column {}",
            category(&error),
            error.line(),
            error.column()
        ))
    })?;
    let manifest = stored.manifest.map(|raw| {
        let start = raw.get().as_ptr().addr() - bytes.as_ptr().addr();
        start..start + raw.get().len()
    });
    let mut release = stored.release()?;
    if let Some(place) = manifest {
        release.manifest = string_at(bytes, place)?;
    }
    Ok(release)
}

/// Whether a document is a release as [`from_json`] reads it.
#[must_use]
pub fn is_printed_release(document: &Tree<'_>) -> bool {
    let text = |key: &str| document.text_at(&[key]).is_some();
    text("name")
        && text("manifest")
        && ["info", "chart", "version"]
            .iter()
            .any(|key| document.get(key).is_some())
}

/// Reads a release as `helm upgrade --dry-run -o json`, `helm install -o json` and `helm status -o
/// json` print it: the same fields as in Helm's storage.
///
/// # Errors
/// Where the fields have other shapes. The error does not quote the document.
pub fn from_json(release: &Value) -> Result<StoredRelease, CodecError> {
    parse(release.to_string().into_bytes())
}

impl Stored<'_> {
    /// Everything but the manifest.
    fn release(self) -> Result<StoredRelease, CodecError> {
        let hooks = self.hooks.all().ok_or(Exceeded::Objects(MAX_HOOKS))?;
        let config = values(self.config)?;
        let unread_values = self.chart.as_ref().and_then(|chart| chart.unread(&config));
        Ok(StoredRelease {
            name: self.name,
            namespace: Some(self.namespace).filter(|namespace| !namespace.is_empty()),
            revision: self.version,
            status: self.info.map(|info| info.status).unwrap_or_default(),
            manifest: String::new(),
            hooks: hooks.into_iter().map(|hook| hook.manifest).collect(),
            user_values: Tree::from_json(&config),
            chart: self
                .chart
                .and_then(|chart| chart.metadata)
                .map(|chart| (chart.name, chart.version)),
            unread_values,
        })
    }
}

/// The user's values, if they are not too many to look at.
fn values(raw: Option<&RawValue>) -> Result<Value, CodecError> {
    let Some(raw) = raw else {
        return Ok(Value::Null);
    };
    if raw.get().len() > MAX_DOCUMENT_BYTES {
        return Err(Exceeded::Document(MAX_DOCUMENT_BYTES).into());
    }
    if count(raw.get()) > MAX_VALUES {
        return Err(Exceeded::Values(MAX_VALUES).into());
    }
    serde_json::from_str(raw.get()).map_err(|error| CodecError::Json(category(&error).to_owned()))
}

/// Values and keys of valid JSON, give or take one.
fn count(json: &str) -> usize {
    let (mut count, mut is_inside, mut is_escaped) = (0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_inside,
            b'"' => is_inside = !is_inside,
            b',' | b':' | b'[' | b'{' if !is_inside => count += 1,
            _ => {}
        }
    }
    count
}

/// A string of valid JSON at a place of a text, made in the place of that text: it may be as long
/// as the whole record, which would be in memory twice.
fn string_at(mut bytes: Vec<u8>, place: Range<usize>) -> Result<String, CodecError> {
    let shape = || CodecError::Json("unexpected shape".to_owned());
    let end = place.end.saturating_sub(1);
    if bytes.get(place.start) != Some(&b'"') || place.start >= end || end > bytes.len() {
        return Err(shape());
    }
    let (mut read, mut written) = (place.start + 1, 0);
    while read < end {
        let plain = memchr::memchr(b'\\', &bytes[read..end]).map_or(end, |at| read + at);
        bytes.copy_within(read..plain, written);
        written += plain - read;
        read = plain;
        if read == end {
            break;
        }
        // A pair of surrogates is one character.
        let length = match &bytes[read..end] {
            [
                _,
                b'u',
                b'd' | b'D',
                b'8' | b'9' | b'a' | b'b' | b'A' | b'B',
                ..,
            ] => 12,
            [_, b'u', ..] => 6,
            _ => 2,
        };
        let escape = bytes
            .get(read..(read + length).min(end))
            .and_then(|escape| str::from_utf8(escape).ok())
            .ok_or_else(shape)?;
        let meant = match escape {
            "\\n" => '\n',
            "\\\"" => '"',
            other => {
                let text: String =
                    serde_json::from_str(&format!("\"{other}\"")).map_err(|_| shape())?;
                text.chars().next().ok_or_else(shape)?
            }
        };
        // What is meant is never longer than how it is written.
        let mut buffer = [0; 4];
        let meant = meant.encode_utf8(&mut buffer).as_bytes();
        bytes[written..written + meant.len()].copy_from_slice(meant);
        written += meant.len();
        read += length;
    }
    bytes.truncate(written);
    String::from_utf8(bytes).map_err(|_| shape())
}

fn category(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "ends too early",
        serde_json::error::Category::Data => "unexpected shape",
        _ => "no JSON",
    }
}

fn shown(text: &str) -> String {
    if text.is_empty() {
        "(none)".to_owned()
    } else {
        text.chars()
            .take(80)
            .collect::<String>()
            .escape_debug()
            .to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn release() -> Value {
        json!({
            "name": "my-release", "namespace": "milvus", "version": 7,
            "info": {"status": "deployed", "notes": "x"},
            "chart": {
                "metadata": {"name": "milvus", "version": "4.2.8"}, "templates": [{"name": "t", "data": "eA=="}],
                "values": {"cluster": {"enabled": true}, "image": {"all": {"tag": "v2.4.9"}}},
            },
            "config": {"minio": {"secretKey": "hunter2"}, "image": {"tag": "v2.4.9"}},
            "manifest": "---\nkind: ConfigMap\n",
        })
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn secret(inner: &[u8]) -> Value {
        let payload = BASE64_STANDARD.encode(BASE64_STANDARD.encode(inner));
        json!({"kind": "Secret", "type": SECRET_TYPE, "data": {"release": payload}})
    }

    fn config_map(inner: &[u8]) -> Value {
        json!({"kind": "ConfigMap", "data": {"release": BASE64_STANDARD.encode(inner)}})
    }

    #[test]
    fn both_drivers_hold_the_same() {
        let bytes = gzip(release().to_string().as_bytes());
        let from_secret = decode(&secret(&bytes)).unwrap();
        assert_eq!(from_secret, decode(&config_map(&bytes)).unwrap());
        assert_eq!(
            (
                from_secret.name.as_str(),
                from_secret.revision,
                from_secret.status.as_str()
            ),
            ("my-release", 7, "deployed")
        );
        assert_eq!(from_secret.namespace.as_deref(), Some("milvus"));
        assert_eq!(from_secret.chart, Some(("milvus".into(), "4.2.8".into())));
        assert_eq!(
            from_secret.user_values.text_at(&["minio", "secretKey"]),
            Some("hunter2")
        );
        assert!(!format!("{from_secret:?}").contains("hunter2"));
        let unread = UnreadValue {
            path: "image.tag".into(),
            nearest: Some("image.all.tag".into()),
        };
        assert_eq!(from_secret.unread_values, Some(vec![unread]));
    }

    #[test]
    fn without_gzip_magic_it_is_plain_json() {
        assert_eq!(
            decode(&secret(release().to_string().as_bytes()))
                .unwrap()
                .revision,
            7
        );
        assert_eq!(
            decode(&secret(b"garbage")).unwrap_err(),
            CodecError::Json("no JSON at line 1, column 1".into())
        );
    }

    proptest! {
        #[test]
        fn a_manifest_is_what_serde_reads(text in "(\\PC|[\n\t\"\\\\/\u{8}\u{1}\u{1F980}é]){0,40}", is_ascii in any::<bool>()) {
            let mut written = json!({"name": "r", "manifest": text}).to_string();
            if is_ascii {
                let escaped = |letter: char| {
                    let mut units = [0; 2];
                    letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>()
                };
                written = written.chars().map(|c| if c.is_ascii() { c.to_string() } else { escaped(c) }).collect();
            }
            prop_assert_eq!(decode(&secret(written.as_bytes())).unwrap().manifest, text);
        }
    }

    #[test]
    fn a_manifest_that_is_no_string_is_refused() {
        for wrong in [
            "1",
            "{}",
            "[\"a\"]",
            "true",
            r#""\ud800""#,
            r#""\ud800\u0061""#,
        ] {
            let written = format!(r#"{{"name":"r","manifest":{wrong}}}"#);
            assert!(
                matches!(
                    decode(&secret(written.as_bytes())),
                    Err(CodecError::Json(_))
                ),
                "{wrong}"
            );
        }
        assert_eq!(
            decode(&secret(br#"{"name":"r","manifest":null}"#))
                .unwrap()
                .manifest,
            ""
        );
        assert_eq!(
            decode(&secret(br#"{"name":"r","manifest":""}"#))
                .unwrap()
                .manifest,
            ""
        );
    }

    #[test]
    fn null_values_are_none() {
        let plain = json!({"name": "r", "config": null, "chart": null, "info": null}).to_string();
        let decoded = decode(&secret(plain.as_bytes())).unwrap();
        assert!(decoded.user_values.is_null() && decoded.unread_values.is_none());
        let empty =
            json!({"name": "r", "chart": {"metadata": null, "values": null, "templates": null}})
                .to_string();
        assert!(
            decode(&secret(empty.as_bytes()))
                .unwrap()
                .unread_values
                .is_none()
        );
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = gzip(&vec![b' '; MAX_BYTES + 1]);
        assert!(bomb.len() < 100_000);
        assert_eq!(decode(&secret(&bomb)).unwrap_err(), CodecError::TooLarge);
        assert_eq!(
            base64(&vec![b'A'; MAX_BYTES * 2]).unwrap_err(),
            CodecError::TooLarge
        );
    }

    #[test]
    fn damaged_gzip_is_named() {
        let mut bytes = gzip(release().to_string().as_bytes());
        bytes.truncate(bytes.len() / 2);
        assert!(matches!(decode(&secret(&bytes)), Err(CodecError::Gzip(_))));
    }

    #[test]
    fn errors_quote_no_values() {
        let wrong = json!({"name": {"secretKey": "hunter2"}}).to_string();
        assert!(
            !decode(&secret(wrong.as_bytes()))
                .unwrap_err()
                .to_string()
                .contains("hunter2")
        );
    }

    #[test]
    fn foreign_objects_are_refused() {
        let opaque = json!({"kind": "Secret", "type": "Opaque", "data": {"release": "eA=="}});
        assert_eq!(
            decode(&opaque).unwrap_err(),
            CodecError::Type("Opaque".into())
        );
        assert_eq!(
            decode(&json!({"kind": "Secret", "type": SECRET_TYPE})).unwrap_err(),
            CodecError::Missing
        );
        assert_eq!(
            decode(&json!({"kind": "ConfigMap", "data": {"x": ""}})).unwrap_err(),
            CodecError::Missing
        );
        assert_eq!(
            decode(&json!({"kind": "Pod"})).unwrap_err(),
            CodecError::Kind("Pod".into())
        );
        let not_base64 = json!({"kind": "Secret", "type": SECRET_TYPE, "data": {"release": "%%%"}});
        assert_eq!(decode(&not_base64).unwrap_err(), CodecError::Base64);
    }

    #[test]
    fn deep_json_is_no_stack_overflow() {
        let deep = format!(
            "{{\"name\":\"r\",\"config\":{}{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert!(matches!(
            decode(&secret(deep.as_bytes())),
            Err(CodecError::Json(_))
        ));
    }
}
