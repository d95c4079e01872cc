//! Address and login of Milvus's proxy, and one call with its limits.

use std::{fmt, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use etcd_client::TlsOptions;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{
    Request,
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};
use tower::ServiceExt as _;

use super::{
    error::ApiError,
    message::{Answer as _, Ask, Client},
};
use crate::etcd::{
    Tls,
    connect::{load_tls, public},
    failure::hinted,
};
use milvus_guard_core::error_text;

/// Limit to establish a connection. It takes milliseconds to a proxy in the same cluster.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Limit for one call. Coordinators wait 5 to 10 s for each other before they report a failure.
pub const CALL_DEADLINE: Duration = Duration::from_secs(12);
/// How much later than this client's deadline the server's deadline is.
const GRACE: Duration = Duration::from_secs(1);
/// Limit for all calls of one reading together: some hundred thousand segments in thousands of
/// collections.
pub const TOTAL_DEADLINE: Duration = Duration::from_secs(120);
/// Largest answer in bytes. A segment takes 40 to 80 bytes, so this is about half a million
/// segments of one collection.
pub const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// Address and login of Milvus's proxy.
#[derive(Clone, Default)]
pub struct Proxy {
    /// `host:19530`, `http://...` or `https://...`.
    pub address: String,
    /// TLS, if it needs more than an `https://` address and the system's certificate authorities.
    pub tls: Option<Tls>,
    /// The name in the proxy's certificate, if it is not the host of the address.
    pub server_name: Option<String>,
    /// The login.
    pub login: Login,
    /// Databases to read; empty for all.
    pub databases: Vec<String>,
}

/// How to log in to Milvus.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Login {
    /// Without a login: `common.security.authorizationEnabled` is off.
    #[default]
    None,
    /// A user of Milvus.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token or API key, as clients accept it (`user:password` works too).
    Token(String),
}

impl Login {
    /// The value of the header `authorization` as Milvus's own clients write it: all of it in
    /// base64, without a scheme.
    fn header(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Password { user, password } => {
                Some(BASE64_STANDARD.encode(format!("{user}:{password}")))
            }
            Self::Token(token) => Some(BASE64_STANDARD.encode(token)),
        }
    }

    fn secret(&self) -> &str {
        match self {
            Self::None => "",
            Self::Password { password, .. } => password,
            Self::Token(token) => token,
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Password { user, .. } => write!(f, "Password of {user:?}"),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("address", &public(&self.address))
            .field("tls", &self.tls)
            .field("login", &self.login)
            .field("databases", &self.databases)
            .finish_non_exhaustive()
    }
}

/// A connection to one proxy. Each reading opens a new one: behind a Service a new connection
/// reaches a proxy that runs, an old one stays at a proxy that may be stopping.
pub struct Connection {
    channel: Channel,
    address: String,
    authorization: Option<AsciiMetadataValue>,
    login: Login,
    deadline: Instant,
}

impl Proxy {
    /// Connects within [`CONNECT_DEADLINE`]. Sends no call yet, and does not check the login.
    ///
    /// # Errors
    /// [`ApiError::Settings`] for invalid settings, [`ApiError::Unreachable`] if the proxy does not
    /// answer.
    pub async fn connect(&self) -> Result<Connection, ApiError> {
        let address = public(&self.address);
        if address.is_empty() {
            return Err(ApiError::Settings(
                "the address of its proxy is missing".into(),
            ));
        }
        if address != self.address {
            return Err(ApiError::Settings(
                "its address must not contain user and password; use the flags for them".into(),
            ));
        }
        let endpoint = self.endpoint(&address)?.connect_timeout(CONNECT_DEADLINE);
        let unreachable = |reason: String| {
            let error = ApiError::Unreachable {
                address: address.clone(),
                reason,
            };
            error.without(self.login.secret())
        };
        let channel = timeout(CONNECT_DEADLINE, endpoint.connect())
            .await
            .map_err(|_| {
                unreachable(format!(
                    "no answer within {} seconds",
                    CONNECT_DEADLINE.as_secs()
                ))
            })?
            .map_err(|error| unreachable(hinted(error_text::chain(&error))))?;
        let authorization = self.login.header().map(|header| {
            let mut value = AsciiMetadataValue::try_from(header).map_err(|_| {
                ApiError::Settings("the user, password or token cannot be sent".into())
            })?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Connection {
            channel,
            authorization: authorization.transpose()?,
            login: self.login.clone(),
            deadline: Instant::now() + TOTAL_DEADLINE,
            address,
        })
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, ApiError> {
        let unusable = |error: tonic::transport::Error| {
            ApiError::Settings(format!(
                "its address {address} cannot be used: {}",
                error_text::chain(&error)
            ))
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let uri = if address.contains("://") {
            address.to_owned()
        } else {
            format!("{scheme}://{address}")
        };
        let secure = uri.starts_with("https://");
        if self.tls.is_some() && !secure {
            return Err(ApiError::Settings(format!(
                "TLS was requested, but the address {address} uses http"
            )));
        }
        let endpoint = Endpoint::from_shared(uri).map_err(unusable)?;
        if !secure {
            return Ok(endpoint);
        }
        let mut tls = match &self.tls {
            Some(tls) => load_tls(tls).map_err(|error| ApiError::Settings(error.to_string()))?,
            None => TlsOptions::new().with_enabled_roots(),
        };
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        endpoint.tls_config(tls).map_err(unusable)
    }
}

impl Connection {
    /// One call, within [`CALL_DEADLINE`] and the rest of [`TOTAL_DEADLINE`].
    pub(super) async fn call<R: Ask>(&self, request: R) -> Result<R::Answer, ApiError> {
        let method = R::METHOD;
        self.attempt(request)
            .await
            .and_then(|answer| match answer.status() {
                Some(status) if status.error_code != 0 || status.code != 0 => Err(
                    ApiError::from_status(status.error_code, status.code, &status.reason, method),
                ),
                _ => Ok(answer),
            })
            .map_err(|error| error.without(self.login.secret()))
    }

    async fn attempt<R: Ask>(&self, message: R) -> Result<R::Answer, ApiError> {
        let unreachable = |reason: String| ApiError::Unreachable {
            address: self.address.clone(),
            reason,
        };
        let (now, method) = (Instant::now(), R::METHOD);
        let deadline = self.deadline.min(now + CALL_DEADLINE);
        let database = message
            .database()
            .filter(|name| !name.is_empty())
            .and_then(|name| name.parse::<AsciiMetadataValue>().ok());
        let mut request = Request::new(message);
        // The deadline for the server, so that it stops too. The client's own deadline comes first
        // and names the call that took too long.
        request.set_timeout(deadline - now + GRACE);
        if let Some(authorization) = &self.authorization {
            request
                .metadata_mut()
                .insert("authorization", authorization.clone());
        }
        if let Some(database) = database {
            // For requests without a field for it, and for Milvus's check of privileges.
            request.metadata_mut().insert("dbname", database);
        }
        let call = async {
            let mut channel = self.channel.clone();
            channel
                .ready()
                .await
                .map_err(|error| unreachable(hinted(error_text::chain(&error))))?;
            let mut client = Client::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
            let given = self.login != Login::None;
            R::ask(&mut client, request)
                .await
                .map_err(|status| ApiError::from_grpc(&status, method, &self.address, given))
        };
        let late = |_| {
            unreachable(format!(
                "{method} took longer than {:.0} seconds",
                (deadline - now).as_secs_f64()
            ))
        };
        Ok(timeout_at(deadline, call)
            .await
            .map_err(late)??
            .into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::milvus::message::GetVersionRequest;

    fn proxy(address: &str) -> Proxy {
        let login = Login::Password {
            user: "root".into(),
            password: "hunter2".into(),
        };
        Proxy {
            address: address.into(),
            login,
            ..Proxy::default()
        }
    }

    async fn error(proxy: &Proxy) -> ApiError {
        proxy
            .connect()
            .await
            .err()
            .expect("an error: there is no connection")
    }

    #[test]
    fn logins_have_the_format_of_milvus_clients_and_are_never_shown() {
        assert_eq!(
            proxy("milvus").login.header().as_deref(),
            Some("cm9vdDpodW50ZXIy")
        );
        assert_eq!(
            Login::Token("root:hunter2".into()).header().as_deref(),
            Some("cm9vdDpodW50ZXIy")
        );
        assert_eq!(Login::None.header(), None);
        let shown = format!(
            "{:?} {:?}",
            proxy("milvus:19530"),
            Login::Token("hunter2".into())
        );
        assert!(
            shown.contains("root") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = error(&proxy(&address)).await;
        assert!(
            matches!(&error, ApiError::Unreachable { address: told, reason } if *told == address && reason.contains("refused")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_silent_port_is_unreachable_within_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connection = proxy(&listener.local_addr().unwrap().to_string())
            .connect()
            .await
            .unwrap();
        connection.deadline = Instant::now() + Duration::from_millis(100);
        let error = connection.call(GetVersionRequest {}).await.unwrap_err();
        let told = matches!(&error, ApiError::Unreachable { reason, .. } if reason.contains("GetVersion took longer than"));
        assert!(told, "{error}");
    }

    #[tokio::test]
    async fn invalid_settings_are_refused_before_connecting() {
        for (address, words) in [
            ("", "address of its proxy is missing"),
            (
                "http://root:hunter2@milvus:19530",
                "must not contain user and password",
            ),
            ("http://a b", "cannot be used"),
        ] {
            let error = error(&proxy(address)).await;
            assert!(
                matches!(&error, ApiError::Settings(reason) if reason.contains(words)),
                "{error}"
            );
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let mut secure = proxy("http://milvus:19530");
        secure.tls = Some(Tls::default());
        assert!(error(&secure).await.to_string().contains("uses http"));
        secure.address = "milvus:19530".into();
        secure.tls = Some(Tls {
            ca: Some("/does/not/exist".into()),
            ..Tls::default()
        });
        assert!(error(&secure).await.to_string().contains("/does/not/exist"));
    }
}
