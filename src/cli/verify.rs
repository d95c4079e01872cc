//! `verify`: whether a release is whole after an upgrade, no matter which tool made it.

use std::{fs, path::PathBuf};

use clap::{Args as ClapArgs, ValueEnum};

use milvus_guard_core::verification::{Outcome, Record, Verification};
use milvus_guard_operations::{
    engine::{EtcdAccess, ReleaseName},
    rolling_upgrade::{AskMilvus, MilvusAccess},
    verification::{Probe, Settings, Surveyed, survey, survey::recorded},
};
use milvus_guard_sources::files::read_text_file;

use super::{
    credentials::{EtcdLogin, MilvusLogin},
    exit::{Done, Exit, Failure},
    gather::{ClusterArgs, namespace},
    output::{print, tell},
    running::{self, FormatArg, version},
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
    target_version: Option<String>,

    /// State before the upgrade, as --record-to wrote it [default: what a run has recorded, if any]
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Write the current state to a file, to verify against it later
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    record_to: Option<PathBuf>,

    /// Write, search and drop a small collection, to see that Milvus works
    #[arg(long)]
    probe: bool,

    /// Exit with code 1 at this result of a check or worse
    #[arg(long, value_enum, default_value_t = FailOn::Unknown)]
    fail_on: FailOn,

    /// Addresses of etcd, which is asked for sessions [default: what the release is configured with]
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

pub(super) fn run(args: &Args) -> Done {
    let settings = args.settings()?;
    let surveyed = running::look(&args.cluster, async |client| {
        // Whole workloads are held.
        Box::pin(survey(&client, &settings)).await
    })?;
    let Surveyed {
        verification,
        record,
    } = surveyed.map_err(Failure::no_verdict)?;
    args.show(&verification)?;
    if let Some(path) = &args.record_to {
        let record = record
            .map_err(|why| Failure::no_verdict(format!("the state was not recorded: {why}")))?;
        fs::write(path, record.text())
            .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))?;
        tell(&format!("{} in {}", recorded(&record), path.display()));
    }
    Ok(args.fail_on.exit(verification.result))
}

impl Args {
    fn show(&self, verification: &Verification) -> Result<(), Failure> {
        match self.format {
            FormatArg::Text => print(&verification.text()),
            FormatArg::Json | FormatArg::Yaml => {
                print(&running::structured(verification, self.format)?)
            }
        }
    }

    fn settings(&self) -> Result<Settings, Failure> {
        let target = self.target_version.as_deref().map(version).transpose()?;
        let (login, tls) = self.login.read()?;
        let (etcd_user, etcd_tls) = self.access.read()?;
        let record = self
            .record
            .as_ref()
            .map(|path| Ok::<_, Failure>((path, read_text_file(path).map_err(Failure::usage)?)))
            .transpose()?;
        // Last, because wrong usage is reported without a cluster.
        let release = ReleaseName {
            name: self.instance.clone(),
            namespace: namespace(&self.cluster, self.namespace.as_deref())?,
        };
        let record = record
            .map(|(path, text)| {
                Record::read(&text, &release.name, &release.namespace)
                    .map_err(|why| Failure::usage(format!("--record {}: {why}", path.display())))
            })
            .transpose()?;
        Ok(Settings {
            release,
            target,
            record,
            run_namespace: self.run_namespace.clone(),
            milvus: MilvusAccess {
                ask: AskMilvus::typed_as(self.milvus.as_deref()),
                server_name: self.milvus_server_name.clone(),
                login,
                tls,
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
