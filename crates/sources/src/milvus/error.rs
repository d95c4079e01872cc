//! Why Milvus gave no answer, as messages for the user.

use tonic::{Code, Status};

use crate::etcd::failure::hinted;
use milvus_guard_core::error_text;

/// Why Milvus gave no answer. No text contains a password or a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// An invalid setting: an address, a PEM file.
    #[error("Milvus cannot be queried: {0}")]
    Settings(String),
    /// No connection, or no answer in time.
    #[error("Milvus at {address} did not answer: {reason}")]
    Unreachable {
        /// The proxy's address.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// User and password, or the token, are missing or refused.
    #[error("Milvus at {address} {}", if *.given { "refused the user or password (or the token)" } else { "requires \
        a user and a password (or a token)" })]
    Unauthenticated {
        /// The proxy's address.
        address: String,
        /// Whether any were given.
        given: bool,
    },
    /// The user lacks the privilege for this call.
    #[error("this Milvus user may not call {method}; grant it, or give another user: {reason}")]
    PermissionDenied {
        /// The method of `MilvusService`.
        method: &'static str,
        /// The message of Milvus.
        reason: String,
    },
    /// This Milvus does not have the method: it is too old.
    #[error("this Milvus version is too old: it does not have {method}")]
    Unimplemented {
        /// The method of `MilvusService`.
        method: &'static str,
    },
    /// Milvus answered with another error.
    #[error("Milvus does not answer {method}: {reason}")]
    Other {
        /// The method of `MilvusService`.
        method: &'static str,
        /// The message of Milvus.
        reason: String,
    },
}

/// `ErrorCode.PermissionDenied` of common.proto, in the status of an answer.
const STATUS_PERMISSION_DENIED: i32 = 3;

/// Message of tonic for an HTTP answer without a gRPC status: 404 becomes `Unimplemented`.
const WITHOUT_GRPC: &str = "grpc-status header missing";

impl ApiError {
    /// Whether repeated calls fail until a person changes something. Other errors may be temporary,
    /// for example while proxies and coordinators are replaced.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        !matches!(self, Self::Unreachable { .. } | Self::Other { .. })
    }

    /// From a gRPC status. Milvus uses gRPC codes only for some refusals; older servers send
    /// `Unknown` and a message.
    pub(super) fn from_grpc(
        status: &Status,
        method: &'static str,
        address: &str,
        given: bool,
    ) -> Self {
        let address = || address.to_owned();
        let cause = std::error::Error::source(status).map(error_text::chain);
        let reason = match (status.message().trim(), cause) {
            ("", None) => format!("gRPC code {}", i32::from(status.code())),
            (message, None) => error_text::line(message),
            (message, Some(cause)) if cause.contains(message) => cause,
            (message, Some(cause)) => error_text::line(&format!("{message}: {cause}")),
        };
        match status.code() {
            Code::Unauthenticated => Self::Unauthenticated {
                address: address(),
                given,
            },
            Code::Unknown | Code::Internal if refuses_login(&reason) => Self::Unauthenticated {
                address: address(),
                given,
            },
            Code::PermissionDenied => Self::PermissionDenied { method, reason },
            // Not from a gRPC server: a proxy in between, or another server at this address.
            Code::Unimplemented if status.message().starts_with(WITHOUT_GRPC) => {
                Self::Unreachable {
                    address: address(),
                    reason: format!("what answers there is not Milvus: {reason}"),
                }
            }
            Code::Unimplemented => Self::Unimplemented { method },
            // `Cancelled` is tonic's code for a broken connection.
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Unreachable {
                address: address(),
                reason: hinted(reason),
            },
            Code::Unknown if std::error::Error::source(status).is_some() => Self::Unreachable {
                address: address(),
                reason: hinted(reason),
            },
            _ => Self::Other { method, reason },
        }
    }

    /// From the status inside an answer: `error_code` up to 2.2, `code` from 2.3 on, zero meaning
    /// success.
    pub(super) fn from_status(
        error_code: i32,
        code: i32,
        reason: &str,
        method: &'static str,
    ) -> Self {
        // 2.2 adds a stack trace of many lines.
        let words = reason
            .split("stack trace:")
            .next()
            .unwrap_or(reason)
            .trim_end_matches([':', ',', ' ', '\n']);
        let reason = match error_text::line(words) {
            words if words.is_empty() => {
                format!("error code {}", if code == 0 { error_code } else { code })
            }
            words => words,
        };
        if error_code == STATUS_PERMISSION_DENIED {
            Self::PermissionDenied { method, reason }
        } else {
            Self::Other { method, reason }
        }
    }

    /// The same without a secret that a server or a proxy in between has repeated.
    pub(super) fn without(self, secret: &str) -> Self {
        let clean = |text: String| {
            if secret.is_empty() {
                text
            } else {
                text.replace(secret, "(hidden)")
            }
        };
        match self {
            Self::Settings(reason) => Self::Settings(clean(reason)),
            Self::Unreachable { address, reason } => Self::Unreachable {
                address,
                reason: clean(reason),
            },
            Self::PermissionDenied { method, reason } => Self::PermissionDenied {
                method,
                reason: clean(reason),
            },
            Self::Other { method, reason } => Self::Other {
                method,
                reason: clean(reason),
            },
            error @ (Self::Unauthenticated { .. } | Self::Unimplemented { .. }) => error,
        }
    }
}

/// Whether this is a message of `authentication_interceptor.go`, 2.2 to 2.6.
fn refuses_login(reason: &str) -> bool {
    [
        "unauthenticated",
        "auth check failure",
        "missing authorization",
    ]
    .iter()
    .any(|words| reason.contains(words))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn kind(error: &ApiError) -> &'static str {
        match error {
            ApiError::Settings(_) => "settings",
            ApiError::Unreachable { .. } => "unreachable",
            ApiError::Unauthenticated { .. } => "unauthenticated",
            ApiError::PermissionDenied { .. } => "denied",
            ApiError::Unimplemented { .. } => "unimplemented",
            ApiError::Other { .. } => "other",
        }
    }

    #[rstest]
    #[case(
        Status::unauthenticated(
            "auth check failure, please check username and password are correct"
        ),
        "unauthenticated",
        true
    )]
    #[case(
        Status::unknown("auth check failure, please check api key is correct"),
        "unauthenticated",
        true
    )]
    #[case(Status::unknown("unauthenticated"), "unauthenticated", true)]
    #[case(
        Status::permission_denied("PrivilegeShowPartitions: permission deny"),
        "denied",
        true
    )]
    #[case(
        Status::unimplemented("unknown method ListDatabases"),
        "unimplemented",
        true
    )]
    #[case(
        Status::unimplemented(
            "grpc-status header missing, mapped from HTTP status code 404 Not Found"
        ),
        "unreachable",
        false
    )]
    #[case(Status::unavailable("the proxy stops"), "unreachable", false)]
    #[case(Status::deadline_exceeded("too late"), "unreachable", false)]
    #[case(
        Status::unknown("service unavailable: internal: Milvus Proxy is not ready yet"),
        "other",
        false
    )]
    #[case(
        Status::out_of_range("decoded message length too large"),
        "other",
        false
    )]
    fn grpc_status_codes_become_errors(
        #[case] status: Status,
        #[case] expected: &str,
        #[case] lasting: bool,
    ) {
        let error = ApiError::from_grpc(&status, "GetReplicas", "milvus:19530", true);
        assert_eq!(kind(&error), expected, "{error}");
        assert_eq!(error.is_lasting(), lasting, "{error}");
    }

    #[test]
    fn status_codes_inside_an_answer_become_messages() {
        let error = |error_code, code, reason| {
            ApiError::from_status(error_code, code, reason, "GetReplicas").to_string()
        };
        assert_eq!(
            error(1, 0, "not ready\n"),
            "Milvus does not answer GetReplicas: not ready"
        );
        let traced = error(
            1,
            0,
            "syncTimestamp Failed:stack trace: /go/src/a.go:51\n/go/src/b.go:7",
        );
        assert_eq!(
            traced,
            "Milvus does not answer GetReplicas: syncTimestamp Failed"
        );
        assert_eq!(
            error(0, 503, ""),
            "Milvus does not answer GetReplicas: error code 503"
        );
        assert!(error(3, 0, "no").contains("may not call GetReplicas"));
    }

    #[test]
    fn no_message_contains_a_secret() {
        let error = ApiError::Other {
            method: "GetVersion",
            reason: "no user root:hunter2".into(),
        };
        assert_eq!(
            error.clone().without("hunter2").to_string(),
            "Milvus does not answer GetVersion: no user root:(hidden)"
        );
        assert_eq!(error.clone().without(""), error);
    }
}
