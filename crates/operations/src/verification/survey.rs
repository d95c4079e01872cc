//! Queries Kubernetes, etcd and Milvus, and collects the checks.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use tokio::time::timeout;

use crate::{
    engine::{
        ApiError as ClusterError, Home, RetryingClient, RunRecord, RunRecordError,
        home::HomeError,
        release::{self, SurveyError},
    },
    rolling_upgrade::{
        AskMilvus,
        proxy_address::{knock, locate},
        sessions::{SessionsError, reach},
    },
};
use milvus_guard_core::{
    api::UpgradeRun,
    evidence::Facts,
    milvus::Release,
    text::count,
    verification::{Check, Outcome, RECORD_VERSION, Record, Verification},
};
use milvus_guard_metadata::model::sessions::Session;
use milvus_guard_sources::milvus::{
    self as server, ApiError, Loaded, Principals, ProbeFailure, Proxy, probe::PREFIX,
};

use super::{
    checks::{self, COLLECTIONS, PRIVILEGES},
    settings::{Probe, Settings},
};

/// The setting that makes Milvus authenticate its clients.
const AUTHORIZATION: &str = "common.security.authorizationEnabled";
/// The check of Milvus' health.
const MILVUS: &str = "milvus";
/// The scheme of an address with TLS.
const TLS: &str = "https://";
/// Time for etcd and for the first answer of Milvus, so that a command that only reads ends within
/// 10 s if they do not answer.
const ANSWER: Duration = Duration::from_secs(8);

/// The result of a survey.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// The checks.
    pub verification: Verification,
    /// Full name of the run that is in progress.
    open_run: Option<String>,
    /// The record that a later state can be compared with; else why there is none.
    pub record: Result<Record, NoRecord>,
}

impl Surveyed {
    /// The run that is in progress, if any: the state is then no state before a run.
    #[must_use]
    pub fn open_run(&self) -> Option<&str> {
        self.open_run.as_deref()
    }
}

/// What Milvus itself reported.
struct Answers {
    version: String,
    health: Check,
    loaded: Result<Loaded, ApiError>,
    /// `None` if authorization is off.
    principals: Option<Result<Principals, ApiError>>,
}

/// Reads everything once.
///
/// # Errors
/// If the release does not exist or the cluster does not answer. Anything else that cannot be read
/// becomes an unknown check.
pub async fn survey(client: &RetryingClient, settings: &Settings) -> Result<Surveyed, SurveyError> {
    let of = &settings.release;
    let (release, facts) = release::read(client, of).await?;
    let pods = pods(client, &of.namespace)
        .await
        .map_err(SurveyError::from)?;
    let runs = runs(client, settings).await?;
    let (sessions, asked) = tokio::join!(
        sessions(client, &release, settings),
        ask(client, &release, settings)
    );
    let (proxy, asked) = asked?;
    let mut checks = in_kubernetes(&release, &facts, &pods, &runs);
    let said = asked.as_ref().ok().map(|answers| &*answers.version);
    let known = sessions.as_ref().ok().map(Vec::as_slice);
    checks.push(checks::versions(&release, settings.target, said, known));
    checks.push(match &sessions {
        Ok(sessions) => checks::sessions(sessions, &release, &pods)
            .or_else("a session ends with its lease, after a minute at most; then verify again"),
        Err(check) => check.clone(),
    });
    checks.extend(in_milvus(
        &asked,
        settings,
        runs.as_deref().unwrap_or_default(),
    ));
    checks.push(probed(client, settings, proxy.as_ref(), &asked).await);
    let version = checks::common_version(&release);
    let at = Timestamp::now();
    let record = record(settings, at, version.clone(), asked);
    let named = (&*of.name, &*of.namespace);
    let open = runs.iter().flatten().find(|run| run.is_under_way());
    Ok(Surveyed {
        open_run: open.map(UpgradeRun::full_name),
        verification: Verification::new(named, at, version, checks),
        record,
    })
}

fn in_kubernetes(
    release: &Release,
    facts: &Facts,
    pods: &[Pod],
    runs: &Result<Vec<UpgradeRun>, String>,
) -> Vec<Check> {
    let named = release.helm_name();
    let namespace = release.namespace.as_deref().unwrap_or("default");
    let workloads = checks::workloads(release, facts.rollouts.as_deref(), pods)
        .or_else(format!("kubectl get pods -n {namespace}"));
    let run = match runs {
        Ok(runs) => checks::run(runs),
        Err(why) => Check::unknown("run", why),
    };
    let status = format!("milvus-guard status -i {named} -n {namespace}");
    vec![workloads, run.or_else(status)]
}

/// The runs of the release, or why they cannot be read.
async fn runs(
    client: &RetryingClient,
    settings: &Settings,
) -> Result<Result<Vec<UpgradeRun>, String>, SurveyError> {
    let of = &settings.release;
    let home = match Home::find(client, of, settings.run_namespace.as_deref()).await {
        Ok(home) => home,
        // Without the definitions there cannot have been a run.
        Err(HomeError::NoDefinitions) => return Ok(Ok(Vec::new())),
        Err(HomeError::Api(error @ ClusterError::Refused { .. })) => {
            return Ok(Err(error.to_string()));
        }
        Err(HomeError::Api(error)) => return Err(error.into()),
    };
    match RunRecord::runs(client, &home, of).await {
        Ok(runs) => Ok(Ok(runs)),
        Err(RunRecordError::Api(
            error @ (ClusterError::Cancelled { .. } | ClusterError::Away { .. }),
        )) => Err(error.into()),
        Err(error) => Ok(Err(error.to_string())),
    }
}

async fn pods(client: &RetryingClient, namespace: &str) -> Result<Vec<Pod>, ClusterError> {
    let api: Api<Pod> = Api::namespaced(client.kube(), namespace);
    let request = async || api.list(&ListParams::default()).await;
    Ok(client.call("pods", request).await?.items)
}

/// The sessions in etcd. If etcd was not given and cannot be reached, that is not reported, because
/// it usually cannot be reached from outside the cluster.
async fn sessions(
    client: &RetryingClient,
    release: &Release,
    settings: &Settings,
) -> Result<Vec<Session>, Check> {
    const ID: &str = "sessions";
    let read = async {
        let namespace = &settings.release.namespace;
        let registry = reach(client, release, namespace, &settings.etcd).await?;
        let read = registry.read().await;
        read.map_err(SessionsError::Request)
    };
    let why = match timeout(ANSWER, read).await {
        Ok(Ok(all)) => return Ok(all.into_iter().map(|one| one.session).collect()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", ANSWER.as_secs()),
    };
    if settings.etcd.addresses.is_empty() {
        Err(Check::skipped(
            ID,
            format!("etcd is not reached from here ({why}); -e gives its addresses"),
        ))
    } else {
        Err(Check::unknown(
            ID,
            format!("etcd could not be asked: {why}"),
        ))
    }
}

/// The address of Milvus and what it reports; else a check with the reason.
async fn ask(
    client: &RetryingClient,
    release: &Release,
    settings: &Settings,
) -> Result<(Option<Proxy>, Result<Answers, Check>), SurveyError> {
    let namespace = &settings.release.namespace;
    let found = locate(client, release, namespace, &settings.milvus).await;
    let proxy = match found.map_err(|cause| SurveyError::Api(ClusterError::cancelled(cause)))? {
        Ok(proxy) => proxy,
        Err(why) if settings.milvus.ask == AskMilvus::Never => {
            return Ok((None, Err(Check::skipped(MILVUS, why.to_string()))));
        }
        Err(why) => return Ok((None, Err(Check::unknown(MILVUS, why.to_string())))),
    };
    let version = match timeout(ANSWER, knock(&proxy)).await {
        Ok(Ok(version)) => version,
        Ok(Err(error)) => return Ok((None, Err(refused(&error, settings)))),
        Err(_) => {
            let error = ApiError::Unreachable {
                address: proxy.address.clone(),
                reason: format!("no answer within {} s", ANSWER.as_secs()),
            };
            return Ok((None, Err(refused(&error, settings))));
        }
    };
    let is_authorized = release.config.value(AUTHORIZATION) == Some("true");
    let names = async {
        if is_authorized {
            Some(server::principals(&proxy).await)
        } else {
            None
        }
    };
    let (health, loaded, principals) =
        tokio::join!(server::health(&proxy), server::loaded(&proxy), names);
    let health = match health {
        Ok(health) if health.healthy => Check::passed(
            MILVUS,
            format!("Milvus {version} at {} is healthy", proxy.address),
        ),
        Ok(health) => {
            let reasons = if health.reasons.is_empty() {
                vec!["Milvus says that it is not healthy, and no reason".into()]
            } else {
                health.reasons
            };
            Check::of(MILVUS, &reasons, "")
        }
        Err(error @ ApiError::Unimplemented { .. }) => Check::skipped(MILVUS, error.to_string()),
        Err(error) => refused(&error, settings),
    };
    let answers = Answers {
        version,
        health,
        loaded,
        principals,
    };
    Ok((Some(proxy), Ok(answers)))
}

/// The check for a Milvus that did not answer: its state is unknown.
fn refused(error: &ApiError, settings: &Settings) -> Check {
    let next = match error {
        ApiError::Unauthenticated { .. } | ApiError::PermissionDenied { .. } => {
            "give a user with --milvus-user and MILVUS_GUARD_MILVUS_PASSWORD".to_owned()
        }
        ApiError::Unreachable { address, .. } if settings.milvus.ask == AskMilvus::AtService => {
            forwarded(address).unwrap_or_else(|| OTHER_ADDRESS.to_owned())
        }
        _ => OTHER_ADDRESS.to_owned(),
    };
    Check::unknown(MILVUS, error.to_string()).or_else(next)
}

const OTHER_ADDRESS: &str =
    "give another address with --milvus, or --milvus none to leave Milvus itself out";

/// How to reach the Service of an address such as `my-release-milvus.milvus.svc:19530` from outside
/// the cluster.
fn forwarded(address: &str) -> Option<String> {
    let place = address.strip_prefix(TLS).unwrap_or(address);
    let (host, port) = place.rsplit_once(':')?;
    let (service, namespace) = host.strip_suffix(".svc")?.split_once('.')?;
    let flags = if place == address {
        format!("--milvus 127.0.0.1:{port}")
    } else {
        // The certificate names the Service.
        format!("--milvus {TLS}127.0.0.1:{port} --milvus-server-name {host}")
    };
    Some(format!(
        "outside the cluster, run kubectl port-forward -n {namespace} service/{service} {port}, \
         and verify with {flags}; --milvus none leaves Milvus itself out"
    ))
}

/// The checks of what Milvus reported.
fn in_milvus(
    asked: &Result<Answers, Check>,
    settings: &Settings,
    runs: &[UpgradeRun],
) -> Vec<Check> {
    let answers = match asked {
        Ok(answers) => answers,
        Err(check) => {
            let unasked = |id| {
                if check.outcome == Outcome::Skipped {
                    Check::skipped(id, "Milvus is not asked")
                } else {
                    Check::unknown(id, "Milvus did not answer")
                }
            };
            return vec![check.clone(), unasked(COLLECTIONS), unasked(PRIVILEGES)];
        }
    };
    let kept = runs.iter().rev().find_map(|run| {
        let loaded = run.status.loaded.as_ref()?;
        Some((
            format!("the record of run {}", run.full_name()),
            loaded.baseline(),
        ))
    });
    let given = settings.record.as_ref();
    let before = given
        .map(|record| (format!("the record of {}", record.at), record.baseline()))
        .or(kept);
    let collections = match &answers.loaded {
        Ok(loaded) => checks::collections(
            loaded,
            before.as_ref().map(|(name, baseline)| (&**name, baseline)),
        ),
        Err(error) => Check::unknown(COLLECTIONS, error.to_string()),
    };
    let privileges = match &answers.principals {
        Some(Ok(now)) => checks::privileges(now, given),
        Some(Err(error)) => Check::unknown(PRIVILEGES, error.to_string()),
        None => Check::skipped(PRIVILEGES, "authorization is off in the configuration"),
    };
    vec![answers.health.clone(), collections, privileges]
}

/// The write-search-drop probe, if it was requested.
async fn probed(
    client: &RetryingClient,
    settings: &Settings,
    proxy: Option<&Proxy>,
    asked: &Result<Answers, Check>,
) -> Check {
    const ID: &str = "probe";
    if settings.probe == Probe::Off {
        return Check::skipped(
            ID,
            "not asked for; --probe writes, searches and drops a small collection",
        );
    }
    let (Some(proxy), Ok(_)) = (proxy, asked) else {
        return Check::unknown(ID, "Milvus did not answer");
    };
    let name = format!(
        "{PREFIX}{:016x}",
        RandomState::new().build_hasher().finish()
    );
    let halted = async {
        client.cancellation.cancelled().await;
    };
    let outcome = server::probe(proxy, &name, halted).await;
    let mut found = Vec::new();
    let mut seen = String::new();
    match outcome.answer {
        Ok(took) => {
            seen = format!(
                "a collection was created, filled, flushed, indexed, loaded, searched with bounded \
                 consistency and dropped; the answer was right after {:.1} s",
                took.as_secs_f64()
            );
        }
        Err(ProbeFailure::Interrupted) if outcome.dropped.is_ok() => {
            return Check::unknown(ID, "it was interrupted; its collection is dropped");
        }
        Err(failure) => found.push(failure.to_string()),
    }
    if let Err(error) = outcome.dropped {
        found.push(format!(
            "could not drop collection {name}: {error}; drop it by hand"
        ));
    }
    Check::of(ID, &found, seen)
}

/// Why the state cannot be recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRecord {
    /// Milvus was not asked, or did not answer; the messages of that check.
    #[error("{}", .0.join("; "))]
    NotAsked(Vec<String>),
    /// Milvus does not report what is loaded, or which users it has.
    #[error(transparent)]
    NoAnswer(#[from] ApiError),
}

fn record(
    settings: &Settings,
    at: Timestamp,
    version: Option<String>,
    asked: Result<Answers, Check>,
) -> Result<Record, NoRecord> {
    let answers = asked.map_err(|check| NoRecord::NotAsked(check.messages))?;
    let loaded = answers.loaded?;
    let principals = answers.principals.transpose()?;
    let (users, roles) = principals.map(|both| (both.users, both.roles)).unzip();
    Ok(Record {
        schema_version: RECORD_VERSION.into(),
        release: settings.release.name.clone(),
        namespace: settings.release.namespace.clone(),
        at,
        version,
        collections: loaded.baseline().collections,
        users,
        roles,
    })
}

/// A summary of a record.
#[must_use]
pub fn recorded(record: &Record) -> String {
    let users = record.users.as_ref().map_or_else(String::new, |users| {
        format!(" and {}", count(users.len(), "user"))
    });
    format!(
        "{}{users} recorded",
        count(record.collections.len(), "loaded collection")
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::forwarded;

    #[rstest]
    #[case::plain(
        "my-release-milvus.milvus.svc:19530",
        Some(
            "kubectl port-forward -n milvus service/my-release-milvus 19530, and verify with --milvus 127.0.0.1:19530;"
        )
    )]
    #[case::tls(
        "https://m.db.svc:443",
        Some(
            "service/m 443, and verify with --milvus https://127.0.0.1:443 --milvus-server-name m.db.svc;"
        )
    )]
    #[case::not_a_service("10.0.0.7:19530", None)]
    #[case::another_host("https://milvus.example.com:443", None)]
    fn a_service_is_reached_by_a_tunnel(#[case] address: &str, #[case] expected: Option<&str>) {
        let advice = forwarded(address);
        assert_eq!(advice.is_some(), expected.is_some(), "{advice:?}");
        if let Some(part) = expected {
            assert!(advice.as_ref().unwrap().contains(part), "{advice:?}");
        }
    }
}
