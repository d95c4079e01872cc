//! `verify`: checks that a release is complete after an upgrade, made with any tool.

use std::{fmt, fs, path::PathBuf, str::FromStr};

use clap::{Args as ClapArgs, ValueEnum};

use milvus_guard_core::{
    milvus::catalogue::Wanted,
    verification::{Outcome, Record, Verification},
};
use milvus_guard_operations::{
    engine::{EtcdAccess, ReleaseName, RetryingClient},
    rolling_upgrade::{AskMilvus, MilvusAccess, SearchedCollections},
    verification::{Probe, Settings, Surveyed, kept, survey, survey::recorded},
};
use milvus_guard_sources::files::read_text_file;

use super::{
    credentials::{EtcdLogin, MilvusLogin},
    exit::{Done, Exit, Failure},
    gather::{ClusterArgs, namespace},
    named_release::Ask,
    output::{Screen, print, tell},
    running,
    structured::FormatArg,
};

const ONE_RELEASE: Ask = Ask {
    why: "every component must run the same one",
    with_build: "",
};

/// Arguments of `verify`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Milvus instance: the name of its Helm release
    #[arg(short, long, value_name = "NAME")]
    instance: String,

    /// Namespace of the release [default: of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Version that every component must run [default: any, but all the same]
    #[arg(short, long, value_name = "VERSION")]
    target_version: Option<Wanted>,

    /// State before the upgrade, as --record-to wrote it [default: what a run has recorded, if any]
    #[arg(long, value_name = "FILE|configmap/NAME")]
    record: Option<RecordPlace>,

    /// Write the current state to a file, or to a `ConfigMap` of the release's namespace, to verify
    /// against it later. While a run is in progress, an earlier record stays
    #[arg(long, value_name = "FILE|configmap/NAME", conflicts_with = "record")]
    record_to: Option<RecordPlace>,

    /// Write, search and drop a small collection, to see that Milvus works
    #[arg(long)]
    probe: bool,

    /// Exit with code 1 at this result of a check or worse
    #[arg(long, value_enum, default_value_t = FailOn::Unknown)]
    fail_on: FailOn,

    /// Addresses of etcd, which is asked for sessions [default: what the release is configured
    /// with]
    #[arg(short, long, value_name = "URL[,URL]", value_delimiter = ',')]
    etcd: Vec<String>,

    /// Address of Milvus, such as localhost:19530; none leaves Milvus itself out [default: the
    /// Service of the release]
    #[arg(long, value_name = "ADDRESS")]
    milvus: Option<String>,

    /// Name in the certificate of Milvus, where it is not the host of its address
    #[arg(long, value_name = "NAME")]
    milvus_server_name: Option<String>,

    /// How to print the result
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    format: FormatArg,

    /// Namespace of the runs [default: the guard's namespace if it is installed, else the
    /// release's]
    #[arg(long, value_name = "NAMESPACE")]
    run_namespace: Option<String>,

    #[command(flatten)]
    login: MilvusLogin,

    #[command(flatten)]
    access: EtcdLogin,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Where a record is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RecordPlace {
    File(PathBuf),
    /// Name of a `ConfigMap` in the namespace of the release.
    ConfigMap(String),
}

impl FromStr for RecordPlace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("configmap/") {
            Some("") => Err("configmap/ needs the name of a ConfigMap after it"),
            Some(name) => Ok(Self::ConfigMap(name.to_owned())),
            None if text.is_empty() => Err("the name of the file is empty"),
            None => Ok(Self::File(text.into())),
        }
    }
}

impl fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::ConfigMap(name) => write!(f, "ConfigMap {name}"),
        }
    }
}

impl RecordPlace {
    /// The text of the record; `None` if there is none.
    async fn read(
        &self,
        client: &RetryingClient,
        of: &ReleaseName,
    ) -> Result<Option<String>, Failure> {
        match self {
            Self::File(path) if !path.exists() => Ok(None),
            Self::File(path) => read_text_file(path).map(Some).map_err(Failure::usage),
            Self::ConfigMap(name) => kept::read(client, of, name)
                .await
                .map_err(Failure::no_verdict),
        }
    }

    async fn write(
        &self,
        client: &RetryingClient,
        of: &ReleaseName,
        record: &Record,
    ) -> Result<(), Failure> {
        match self {
            Self::File(path) => fs::write(path, record.text())
                .map_err(|error| Failure::usage(format!("cannot write {self}: {error}"))),
            Self::ConfigMap(name) => kept::write(client, of, name, record)
                .await
                .map_err(|error| Failure::no_verdict(format!("{self}: {error}"))),
        }
    }

    /// The record of a release; `None` if there is none.
    async fn record(
        &self,
        client: &RetryingClient,
        of: &ReleaseName,
    ) -> Result<Option<Record>, Failure> {
        let wrong = |why: &dyn fmt::Display| Failure::usage(format!("--record {self}: {why}"));
        let text = self.read(client, of).await?;
        let record = text.map(|text| Record::read(&text, &of.name, &of.namespace));
        record.transpose().map_err(|error| wrong(&error))
    }
}

/// `--fail-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Something is wrong
    Failed,
    /// Something is wrong or could not be looked at
    Unknown,
    /// Never
    Never,
}

impl FailOn {
    fn exit(self, result: Outcome) -> Exit {
        let found = match self {
            Self::Failed => result >= Outcome::Failed,
            Self::Unknown => result >= Outcome::Unknown,
            Self::Never => false,
        };
        if found { Exit::Found } else { Exit::Clean }
    }
}

pub(super) fn run(args: &Args, screen: &Screen) -> Done {
    let settings = args.settings()?;
    running::look(&args.cluster, async |client| {
        // The future is large: it holds whole workloads.
        Box::pin(verify(args, &client, settings, screen)).await
    })?
}

async fn verify(
    args: &Args,
    client: &RetryingClient,
    mut settings: Settings,
    screen: &Screen,
) -> Done {
    if let Some(place) = &args.record {
        settings.record = place.record(client, &settings.release).await?;
        if settings.record.is_none() {
            let lacks = format!("--record {place}: there is no record");
            if args.fail_on == FailOn::Unknown {
                return Err(Failure::usage(lacks));
            }
            tell(&lacks);
        }
    }
    // The future is large: it holds whole workloads.
    let surveyed = Box::pin(survey(client, &settings)).await;
    let surveyed = surveyed.map_err(Failure::no_verdict)?;
    args.show(&surveyed.verification, screen)?;
    if let Some(place) = &args.record_to
        && let Err(failure) = keep(place, client, &settings.release, &surveyed).await
    {
        if args.fail_on != FailOn::Never {
            return Err(failure);
        }
        tell(&failure.message);
    }
    Ok(args.fail_on.exit(surveyed.verification.result))
}

/// Records the current state as the state before an upgrade. While an upgrade is in progress, an
/// earlier record is kept.
async fn keep(
    place: &RecordPlace,
    client: &RetryingClient,
    of: &ReleaseName,
    surveyed: &Surveyed,
) -> Result<(), Failure> {
    let unkept =
        |why: &dyn fmt::Display| Failure::no_verdict(format!("the state was not recorded: {why}"));
    if let Some(run) = surveyed.open_run() {
        let in_progress = format!("run {run} is in progress");
        let earlier = place.read(client, of).await?;
        let earlier = earlier.and_then(|text| Record::read(&text, &of.name, &of.namespace).ok());
        let earlier = earlier.ok_or_else(|| unkept(&in_progress))?;
        tell(&format!(
            "{in_progress}: the record of {} in {place} stays",
            earlier.at
        ));
        return Ok(());
    }
    let record = surveyed.record.as_ref().map_err(|why| unkept(why))?;
    place.write(client, of, record).await?;
    tell(&format!("{} in {place}", recorded(record)));
    Ok(())
}

impl Args {
    fn show(&self, verification: &Verification, screen: &Screen) -> Result<(), Failure> {
        match self.format.structured() {
            None => print(&screen.lines(&verification.text())),
            Some(structured) => print(&structured.render(verification)?),
        }
    }

    fn settings(&self) -> Result<Settings, Failure> {
        let target = self.target_version.as_ref();
        let target = target
            .map(|wanted| ONE_RELEASE.release(wanted))
            .transpose()?;
        let (login, tls) = self.login.read()?;
        let (etcd_user, etcd_tls) = self.access.read()?;
        if let Some(RecordPlace::File(path)) = &self.record {
            // Wrong usage is reported without a cluster.
            read_text_file(path).map_err(Failure::usage)?;
        }
        // Last, because wrong usage is reported without a cluster.
        let release = ReleaseName {
            name: self.instance.clone(),
            namespace: namespace(&self.cluster, self.namespace.as_deref())?,
        };
        Ok(Settings {
            release,
            target,
            record: None,
            run_namespace: self.run_namespace.clone(),
            milvus: MilvusAccess {
                ask: AskMilvus::typed_as(self.milvus.as_deref()),
                server_name: self.milvus_server_name.clone(),
                login,
                tls,
                searched: SearchedCollections::Never,
            },
            etcd: EtcdAccess {
                addresses: self.etcd.clone(),
                tls: etcd_tls,
                user: etcd_user,
            },
            probe: if self.probe { Probe::On } else { Probe::Off },
        })
    }
}
