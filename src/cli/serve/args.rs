//! Flags of `serve`. In a cluster the chart sets them.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, ValueEnum};
use milvus_guard_webhook::server::answer::FailurePolicy;

use crate::cli::{duration::duration, gather::ClusterArgs, hold::HoldArgs};

/// The periodic audit of the running releases.
#[derive(Debug, ClapArgs)]
pub(super) struct AuditArgs {
    /// Time between two audits of the running releases; 0 for none
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub(super) audit_interval: Duration,

    /// Write what the audit finds as Reports of the OpenReports project, where the kind is served
    #[arg(long)]
    pub(super) open_reports: bool,

    /// `ClusterRole` whose removal removes the Reports
    #[arg(long, value_name = "NAME", requires = "open_reports")]
    pub(super) open_reports_owner: Option<String>,
}

/// Arguments of `serve`.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Args {
    /// Address of the webhook (TLS); port 0 lets the system choose
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    pub(super) listen: SocketAddr,

    /// Address of the metrics (no TLS)
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:9090")]
    pub(super) metrics_listen: SocketAddr,

    /// Certificate chain (PEM); reloaded on changes
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key_file",
        help_heading = "Certificate"
    )]
    pub(super) tls_cert_file: Option<PathBuf>,

    /// Key of the certificate (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert_file",
        help_heading = "Certificate"
    )]
    pub(super) tls_key_file: Option<PathBuf>,

    /// Make and rotate the certificate, and keep it in a Secret
    #[arg(long, conflicts_with_all = ["tls_cert_file", "tls_self_signed", "no_cluster"], help_heading = "Certificate")]
    pub(super) tls_managed: bool,

    /// Make a certificate for this process only (development)
    #[arg(long, conflicts_with = "tls_cert_file", help_heading = "Certificate")]
    pub(super) tls_self_signed: bool,

    /// Where --tls-self-signed writes its authority, for clients that check it
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_self_signed",
        help_heading = "Certificate"
    )]
    pub(super) tls_ca_out: Option<PathBuf>,

    /// Secret of --tls-managed
    #[arg(
        long,
        value_name = "NAME",
        default_value = "milvus-guard-tls",
        help_heading = "Certificate"
    )]
    pub(super) tls_secret: String,

    /// Service through which the API server calls
    #[arg(
        long,
        value_name = "NAME",
        default_value = "milvus-guard",
        help_heading = "Certificate"
    )]
    pub(super) service_name: String,

    /// Template of the webhook configurations (YAML), which the leading replica registers;
    /// reloaded on changes
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "no_cluster",
        help_heading = "Registration"
    )]
    pub(super) webhook_registration: Option<PathBuf>,

    /// Name of the validating and the mutating webhook configuration
    #[arg(
        long,
        value_name = "NAME",
        default_value = "milvus-guard",
        help_heading = "Registration"
    )]
    pub(super) webhook_configuration: String,

    /// Cluster role that owns them: if it is deleted, they are deleted too
    #[arg(long, value_name = "NAME", help_heading = "Registration")]
    pub(super) webhook_owner: Option<String>,

    /// Authority that API servers must trust (PEM), for a certificate that the guard does not make;
    /// reloaded on changes
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "tls_managed",
        help_heading = "Registration"
    )]
    pub(super) webhook_ca_file: Option<PathBuf>,

    /// Secret in which the guard keeps the secret part of the webhook's path
    #[arg(
        long,
        value_name = "NAME",
        default_value = "milvus-guard-path",
        help_heading = "Registration"
    )]
    pub(super) path_secret: String,

    /// Time after which another secret path is made
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration, help_heading = "Registration")]
    pub(super) path_lifetime: Duration,

    /// Time that replicas have to learn of a new secret path before it is registered
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration, help_heading = "Registration")]
    pub(super) path_settle: Duration,

    /// Time for which an old secret path is still answered after the new one was registered
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration, help_heading = "Registration")]
    pub(super) path_grace: Duration,

    /// Answer only clients with a certificate of this authority (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Certificate")]
    pub(super) client_ca_file: Option<PathBuf>,

    /// Name that the client's certificate must have
    #[arg(
        long,
        value_name = "NAME",
        default_value = "kube-apiserver",
        requires = "client_ca_file",
        help_heading = "Certificate"
    )]
    pub(super) client_name: String,

    /// Namespace of the guard
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "milvus-guard"
    )]
    pub(super) namespace: String,

    /// The guard's own service account
    #[arg(long, value_name = "NAME", default_value = "milvus-guard")]
    pub(super) service_account: String,

    /// The job's service account
    #[arg(long, value_name = "NAME", default_value = "milvus-guard-job")]
    pub(super) job_service_account: String,

    /// What to do with a Helm release that cannot be checked
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = FailurePolicy::Ignore)]
    pub(super) release_gate_failure_policy: FailurePolicy,

    /// What to do with an object that cannot be checked
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = FailurePolicy::Fail)]
    pub(super) workload_gate_failure_policy: FailurePolicy,

    #[command(flatten)]
    pub(super) audit: AuditArgs,

    /// How long to keep serving after SIGTERM, until no new reviews are sent
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(super) shutdown_delay: Duration,

    /// How long to wait after that for reviews in progress
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub(super) drain_timeout: Duration,

    /// How long a watch lasts before the API server ends it, for tests
    #[arg(long, value_name = "DURATION", default_value = "290s", value_parser = duration, hide = true)]
    pub(super) watch_timeout: Duration,

    /// Serve without a cluster, from files
    #[arg(long, help_heading = "Without a cluster")]
    pub(super) no_cluster: bool,

    /// Current state: a file or a folder
    #[arg(
        long,
        value_name = "IN",
        requires = "no_cluster",
        help_heading = "Without a cluster"
    )]
    pub(super) before: Option<String>,

    /// Additional facts, as YAML or JSON (see docs/schemas/facts.json)
    #[arg(
        long,
        value_name = "FILE",
        requires = "no_cluster",
        help_heading = "Without a cluster"
    )]
    pub(super) facts: Option<PathBuf>,

    /// Policies and exceptions: a file or a folder; may be repeated
    #[arg(
        long,
        value_name = "FILE|DIR",
        requires = "no_cluster",
        help_heading = "Without a cluster"
    )]
    pub(super) policy: Vec<PathBuf>,

    /// File or folder with rows that add to or override the built-in data; reloaded on changes; may
    /// be repeated
    #[arg(long, value_name = "FILE|DIR")]
    pub(super) data: Vec<PathBuf>,

    /// How the log is written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,

    #[command(flatten)]
    pub(super) hold: HoldArgs,

    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
