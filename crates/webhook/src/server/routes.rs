//! The HTTP routes. Handlers contain no logic.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;

use milvus_guard_core::admission::review::MAX_REVIEW_BYTES;

use super::{
    answer::{Answerer, Path},
    body_budget::{BodyBudget, Refusal},
    callers::Callers,
    connections::RequestGuard,
    lifecycle::Lifecycle,
    metrics::Metrics,
};

/// Name in the client's certificate of a connection, if any.
#[derive(Clone, Debug, Default)]
pub struct Client(pub Option<String>);

/// State that the handlers share.
#[derive(Clone)]
pub struct App {
    /// Answers reviews.
    pub answerer: Arc<Answerer>,
    /// Readiness.
    pub life: Arc<Lifecycle>,
    /// Name that a client's certificate must have.
    pub client_name: Option<Arc<str>>,
    /// The accepted callers.
    pub callers: Callers,
    intake: Arc<BodyBudget>,
}

impl App {
    /// State for these callers. With a `client_name`, only clients with a certificate of this name
    /// are answered.
    #[must_use]
    pub fn new(
        answerer: Arc<Answerer>,
        life: Arc<Lifecycle>,
        client_name: Option<&str>,
        callers: Callers,
    ) -> Self {
        Self {
            answerer,
            life,
            client_name: client_name.map(Into::into),
            callers,
            intake: Arc::default(),
        }
    }
}

#[derive(Deserialize)]
struct Granted {
    timeout: Option<String>,
}

/// The routes of the webhook.
pub fn webhook(app: App) -> Router {
    let reviews = Router::new()
        .route("/validate", post(validate))
        .route("/validate/{secret}", post(validate))
        .route("/mutate", post(mutate))
        .route("/mutate/{secret}", post(mutate))
        .route_layer(middleware::from_fn_with_state(app.clone(), known));
    Router::new()
        .merge(reviews)
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(app)
}

/// The route of the metrics, on a separate port. Probes are answered here too, so that an
/// overload of the webhook's port does not affect them.
pub fn metrics(
    metrics: Arc<Metrics>,
    life: Arc<Lifecycle>,
    refresh: impl Fn() + Clone + Send + Sync + 'static,
) -> Router {
    let render = async move || {
        refresh();
        (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            metrics.render(),
        )
    };
    Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || readiness(&life)))
}

/// Refuses callers that do not know the path or lack the required certificate, before anything of
/// the request is read. The answer is the same as for a path that does not exist.
async fn known(State(app): State<App>, request: Request, next: Next) -> Response {
    let shown = request
        .extensions()
        .get::<Client>()
        .and_then(|client| client.0.as_deref());
    let is_client = app
        .client_name
        .as_deref()
        .is_none_or(|wanted| shown == Some(wanted));
    if !is_client || !app.callers.may_ask(request.uri().path()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    next.run(request).await
}

async fn validate(
    State(app): State<App>,
    Query(granted): Query<Granted>,
    request: Request,
) -> Response {
    review(Path::Validate, app, granted, request).await
}

async fn mutate(
    State(app): State<App>,
    Query(granted): Query<Granted>,
    request: Request,
) -> Response {
    review(Path::Mutate, app, granted, request).await
}

async fn review(path: Path, app: App, granted: Granted, request: Request) -> Response {
    let is_json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(';').next().map(str::trim) == Some("application/json"));
    if !is_json || request.headers().contains_key(header::CONTENT_ENCODING) {
        return refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "an AdmissionReview must be application/json without content encoding",
        );
    }
    let size = axum::body::HttpBody::size_hint(request.body())
        .upper()
        .and_then(|bytes| usize::try_from(bytes).ok());
    if size.is_some_and(|bytes| bytes > MAX_REVIEW_BYTES) {
        return refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the review is larger than 7 MiB",
        );
    }
    let visit = request.extensions().get::<Arc<RequestGuard>>().cloned();
    let body = match app.intake.take(request.into_body()).await {
        Ok(body) => body,
        Err(refusal) => return refused(refusal),
    };
    if let Some(visit) = visit {
        visit.arrived();
    }
    match app
        .answerer
        .answer(path, &body.bytes, granted.timeout.as_deref())
        .await
    {
        Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn refused(refusal: Refusal) -> Response {
    let (status, reason) = match refusal {
        Refusal::TooLarge => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "the review is larger than 7 MiB",
        ),
        Refusal::TooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "the body was not received in time",
        ),
        Refusal::NoRoom => (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many reviews are in memory at the moment",
        ),
        Refusal::Broken => (StatusCode::BAD_REQUEST, "the body is incomplete"),
    };
    refuse(status, reason)
}

async fn ready(State(app): State<App>) -> Response {
    readiness(&app.life)
}

fn readiness(life: &Lifecycle) -> Response {
    let (ready, text) = life.report();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, text).into_response()
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    (status, format!("milvus-guard: {reason}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tower::ServiceExt;

    use axum::body::Body;

    use super::*;
    use crate::server::{
        answer::{FailurePolicies, FailurePolicy},
        state_source::{Files, StateSource},
    };
    use milvus_guard_core::{
        admission::review_state::Accounts, evidence::Facts, milvus::NamespaceState,
        policy::PolicySet,
    };

    fn app(client_name: Option<&str>) -> App {
        let files = Files {
            place: Arc::new(NamespaceState::default()),
            facts: Facts::default(),
            policies: PolicySet::default(),
            accounts: Accounts::default(),
            catalogue: crate::server::data::Data::default(),
            decisions: std::sync::Mutex::default(),
        };
        let failure = FailurePolicies {
            release: FailurePolicy::Ignore,
            workload: FailurePolicy::Fail,
        };
        let answerer = Answerer::new(
            StateSource::Files(Box::new(files)),
            Arc::new(Metrics::new()),
            None,
            failure,
        );
        App::new(
            Arc::new(answerer),
            Arc::new(Lifecycle::new(&[])),
            client_name,
            Callers::Anybody,
        )
    }

    async fn status(app: App, path: &str, client: Option<&str>) -> StatusCode {
        let method = if path.starts_with("/v") || path.starts_with("/m") {
            "POST"
        } else {
            "GET"
        };
        let body =
            r#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":"1","operation":"CREATE"}}"#;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json");
        let request = request
            .extension(Client(client.map(str::to_owned)))
            .body(Body::from(body))
            .unwrap();
        webhook(app).oneshot(request).await.unwrap().status()
    }

    #[rstest]
    #[case(None, None, StatusCode::OK)]
    #[case(Some("kube-apiserver"), Some("kube-apiserver"), StatusCode::OK)]
    #[case(Some("kube-apiserver"), Some("someone"), StatusCode::NOT_FOUND)]
    #[case(Some("kube-apiserver"), None, StatusCode::NOT_FOUND)]
    #[tokio::test]
    async fn only_clients_with_the_required_certificate_are_answered(
        #[case] wanted: Option<&str>,
        #[case] shown: Option<&str>,
        #[case] expected: StatusCode,
    ) {
        for path in ["/validate", "/mutate?timeout=5s"] {
            assert_eq!(status(app(wanted), path, shown).await, expected, "{path}");
        }
        assert_eq!(
            status(app(wanted), "/healthz", None).await,
            StatusCode::OK,
            "probes of the kubelet need no certificate"
        );
    }
}
