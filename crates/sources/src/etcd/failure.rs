//! Failed requests to etcd: the kind of failure, and a reason with what to do.

use etcd_client::Error;

use milvus_guard_core::error_text;

/// The meaning of a failure for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No answer, or a temporary refusal: another endpoint or a later attempt may succeed. A write
    /// may have been made.
    Unavailable,
    /// The login of the connection has expired; a new connection logs in again.
    Login,
    /// User or password are refused, or missing.
    Credentials,
    /// The user may not do this.
    Permission,
    /// The requested revision was compacted.
    Compacted,
    /// The answer is larger than this client accepts.
    AnswerTooLarge,
    /// The request is larger than the server accepts.
    RequestTooLarge,
    /// The database has reached its quota.
    NoSpace,
    /// The lease has ended.
    LeaseGone,
    /// Any other refusal that a repeated request would get again.
    Refused,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What it means.
    pub kind: Kind,
    /// One line for a person.
    pub reason: String,
}

// Codes of gRPC (google.rpc.Code).
const CANCELLED: i32 = 1;
const UNKNOWN: i32 = 2;
const DEADLINE_EXCEEDED: i32 = 4;
const NOT_FOUND: i32 = 5;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const ABORTED: i32 = 10;
const OUT_OF_RANGE: i32 = 11;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;
const UNAUTHENTICATED: i32 = 16;

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }

    /// Whether another endpoint of the same cluster may succeed.
    #[must_use]
    pub const fn elsewhere(&self) -> bool {
        !matches!(
            self.kind,
            Kind::Credentials | Kind::Permission | Kind::Compacted | Kind::AnswerTooLarge
        )
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let Error::GRpcStatus(status) = &error else {
            return Self::new(Kind::Unavailable, hinted(error_text::chain(&error)));
        };
        let (code, message) = (i32::from(status.code()), status.message());
        let kind = kind(code, message);
        let cause = std::error::Error::source(status)
            .map(error_text::chain)
            .unwrap_or_default();
        let reason = match kind {
            Kind::Credentials if message.contains("user name is empty") => {
                "etcd asks for a user and a password".into()
            }
            Kind::Credentials => "etcd refused the user or its password".into(),
            Kind::Permission => "this user may not read the metadata under that root path".into(),
            Kind::NoSpace => "etcd has reached its space quota (NOSPACE): compact and defragment \
                              it or raise the quota, then disarm the alarm"
                .into(),
            _ => match (message.trim(), cause.as_str()) {
                ("", "") => format!("gRPC code {code}"),
                (message, "") => error_text::line(message),
                ("", cause) => cause.to_owned(),
                (message, cause) if cause.contains(message) => cause.to_owned(),
                (message, cause) => error_text::line(&format!("{message}: {cause}")),
            },
        };
        Self {
            kind,
            reason: hinted(reason),
        }
    }
}

/// Messages of etcd (`api/v3rpc/rpctypes/error.go`), and tonic's about the size of an answer.
fn kind(code: i32, message: &str) -> Kind {
    if message.contains("authentication failed") || message.contains("user name is empty") {
        return Kind::Credentials;
    }
    if message.contains("auth token")
        || message.contains("auth store is old")
        || code == UNAUTHENTICATED
    {
        return Kind::Login;
    }
    match code {
        PERMISSION_DENIED => Kind::Permission,
        OUT_OF_RANGE if message.contains("message length too large") => Kind::AnswerTooLarge,
        OUT_OF_RANGE if message.contains("compacted") => Kind::Compacted,
        NOT_FOUND if message.contains("lease") => Kind::LeaseGone,
        RESOURCE_EXHAUSTED if message.contains("space") => Kind::NoSpace,
        RESOURCE_EXHAUSTED if message.contains("larger than max") => Kind::RequestTooLarge,
        _ if message.contains("request is too large")
            || message.contains("too many operations") =>
        {
            Kind::RequestTooLarge
        }
        CANCELLED | UNKNOWN | DEADLINE_EXCEEDED | RESOURCE_EXHAUSTED | ABORTED | INTERNAL
        | UNAVAILABLE => Kind::Unavailable,
        _ => Kind::Refused,
    }
}

/// Messages about a connection that the server ended. Which one appears depends on timing.
const ENDED: [&str; 5] = [
    "connection closed",
    "connection reset",
    "Connection reset",
    "unexpected end of file",
    "close_notify",
];
/// Hint for a closed connection, without a look at the address.
const MAY_WANT_TLS: &str = "; it may want TLS: use https://";
const MAY_WANT_TLS_OR_CERTIFICATE: &str =
    "; it may want TLS (use https://), or ask for a client certificate";
/// Hint for the TLS alert of the server.
const ASKS_FOR_CERTIFICATE: &str = "; it asks for a client certificate that it knows";
/// Hint for this alert if no client certificate was given.
const LACKS_CERTIFICATE: &str =
    "; it asks for a client certificate, and none was given: give a certificate and its key";
/// Hint for a closed TLS connection if no client certificate was given.
const WANTS_CERTIFICATE: &str =
    "; it may ask for a client certificate, and none was given: give a certificate and its key";

/// The reason for an address with TLS if no client certificate was given. With TLS 1.3 a server
/// refuses the client after the handshake: either the alert or the end of the connection is seen.
pub(super) fn without_certificate(reason: &str) -> String {
    reason
        .replace(MAY_WANT_TLS_OR_CERTIFICATE, WANTS_CERTIFICATE)
        .replace(MAY_WANT_TLS, WANTS_CERTIFICATE)
        .replace(ASKS_FOR_CERTIFICATE, LACKS_CERTIFICATE)
}

/// Adds what to do to messages of libraries.
#[must_use]
pub fn hinted(reason: String) -> String {
    let hint = if reason.contains("UnknownIssuer") || reason.contains("BadSignature") {
        "; its certificate is not signed by a known authority: give its CA"
    } else if reason.contains("NotValidForName") {
        "; its certificate is for another host name"
    } else if reason.contains("CertificateRequired") || reason.contains("BadCertificate") {
        ASKS_FOR_CERTIFICATE
    } else if reason.contains("InvalidContentType") || reason.contains("tls handshake eof") {
        "; it does not speak TLS: use http://"
    } else if reason.contains("frame with invalid size")
        || reason.contains("broken pipe")
        || reason.contains("GoAway")
    {
        MAY_WANT_TLS
    } else if ENDED.iter().any(|ended| reason.contains(ended)) {
        MAY_WANT_TLS_OR_CERTIFICATE
    } else {
        ""
    };
    reason + hint
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // Messages of the libraries, recorded with a real etcd 3.7.
    #[rstest]
    #[case(
        "transport error: invalid peer certificate: UnknownIssuer",
        "give its CA"
    )]
    #[case("transport error: tls handshake eof", "use http://")]
    #[case(
        "connection error: stream closed because of a broken pipe",
        "use https://"
    )]
    #[case("operation was canceled: connection closed", "client certificate")]
    #[case(
        "transport error: connection error: connection reset",
        "client certificate"
    )]
    #[case(
        "transport error: Connection reset by peer (os error 104)",
        "client certificate"
    )]
    #[case("dns error: failed to lookup address information", "information")]
    fn reasons_contain_what_to_do(#[case] reason: &str, #[case] end: &str) {
        assert!(hinted(reason.to_owned()).ends_with(end));
    }

    #[rstest]
    #[case("received fatal alert: CertificateRequired")]
    #[case("connection error: stream closed because of a broken pipe")]
    #[case("operation was canceled: connection closed")]
    #[case("transport error: connection error: connection reset")]
    #[case("transport error: unexpected end of file")]
    #[case("peer closed connection without sending TLS close_notify")]
    fn a_missing_client_certificate_is_named_for_every_end_of_a_connection(#[case] reason: &str) {
        let told = without_certificate(&hinted(reason.to_owned()));
        assert!(told.contains("for a client certificate, and none was given: give a certificate"));
    }

    #[rstest]
    #[case(UNAVAILABLE, "etcdserver: leader changed", Kind::Unavailable)]
    #[case(UNAVAILABLE, "etcdserver: request timed out", Kind::Unavailable)]
    #[case(RESOURCE_EXHAUSTED, "etcdserver: too many requests", Kind::Unavailable)]
    #[case(
        RESOURCE_EXHAUSTED,
        "etcdserver: mvcc: database space exceeded",
        Kind::NoSpace
    )]
    #[case(
        RESOURCE_EXHAUSTED,
        "grpc: received message larger than max (3 vs. 2)",
        Kind::RequestTooLarge
    )]
    #[case(3, "etcdserver: request is too large", Kind::RequestTooLarge)]
    #[case(
        3,
        "etcdserver: too many operations in txn request",
        Kind::RequestTooLarge
    )]
    #[case(
        OUT_OF_RANGE,
        "etcdserver: mvcc: required revision has been compacted",
        Kind::Compacted
    )]
    #[case(
        OUT_OF_RANGE,
        "Error, decoded message length too large: found 9, the limit is: 4",
        Kind::AnswerTooLarge
    )]
    #[case(NOT_FOUND, "etcdserver: requested lease not found", Kind::LeaseGone)]
    #[case(PERMISSION_DENIED, "etcdserver: permission denied", Kind::Permission)]
    #[case(
        3,
        "etcdserver: authentication failed, invalid user ID or password",
        Kind::Credentials
    )]
    #[case(3, "etcdserver: user name is empty", Kind::Credentials)]
    #[case(UNAUTHENTICATED, "etcdserver: invalid auth token", Kind::Login)]
    #[case(3, "etcdserver: revision of auth store is old", Kind::Login)]
    #[case(3, "etcdserver: key is not provided", Kind::Refused)]
    fn code_and_message_give_the_kind_of_failure(
        #[case] code: i32,
        #[case] message: &str,
        #[case] expected: Kind,
    ) {
        assert_eq!(kind(code, message), expected);
    }
}
