//! Inputs as the command line names them: files, the running state, Helm's storage, a version.

use std::{path::PathBuf, str::FromStr, sync::Arc};

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use tokio::runtime::Runtime;

use milvus_guard_core::{
    evidence::{Facts, MetadataFact},
    inventory::LastRun,
    manifest::documents,
    milvus::{
        Release, Snapshot,
        catalogue::{Catalogue, Situation, Wanted},
    },
    policy::PolicySet,
    report::InputEntry,
};
use milvus_guard_sources::{
    etcd::{Endpoint, settings},
    files::{
        self, Content, Form, Loaded, Role,
        error::list,
        objects::RawObject,
        part::{self, Choice},
        read_text_file,
    },
    kubernetes::live::SOURCE as CLUSTER,
    kubernetes::{Access, Cluster, ClusterError, Overrides},
};

use super::{
    completion,
    credentials::{Credentials, EtcdLogin},
    exit::Failure,
    runtime,
};

/// One side of a change, as it is written on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file, a directory, or `-`.
    File(String),
    /// A revision in Helm's storage.
    Revision { name: String, revision: Option<u64> },
    /// The running state.
    Live,
    /// What is before, at another version.
    Version(Wanted),
    /// A text that is at hand already: what Helm rendered.
    Text {
        /// What the report calls it.
        name: &'static str,
        text: Arc<str>,
    },
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "live" {
            return Ok(Self::Live);
        }
        if let Some(version) = text.strip_prefix("version:") {
            return version
                .parse()
                .map(Self::Version)
                .map_err(|error| error.to_string());
        }
        if let Some(release) = text.strip_prefix("release:") {
            let (name, revision) = match release.split_once('@') {
                Some((name, revision)) => {
                    let number = revision
                        .parse()
                        .map_err(|_| format!("'{revision}' is not a revision number"))?;
                    (name, Some(number))
                }
                None => (release, None),
            };
            if name.is_empty() {
                return Err("release: needs a name, as in release:my-release or \
                            release:my-release@3"
                    .into());
            }
            return Ok(Self::Revision {
                name: name.to_owned(),
                revision,
            });
        }
        if text.is_empty() {
            Err("an input must not be empty".into())
        } else {
            Ok(Self::File(text.to_owned()))
        }
    }
}

impl Source {
    /// Whether a cluster must be asked.
    pub(super) fn needs_cluster(&self) -> bool {
        matches!(self, Self::Live | Self::Revision { .. })
    }
}

/// Which cluster.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct ClusterArgs {
    /// Kubeconfig file [default: as kubectl finds it]
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub(super) kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: the current one]
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "Cluster",
        add = ArgValueCompleter::new(completion::contexts)
    )]
    pub(super) context: Option<String>,

    /// What Helm was told in addition to the kubeconfig.
    #[arg(skip)]
    pub(super) overrides: Overrides,
}

impl ClusterArgs {
    pub(super) fn access(&self) -> Access {
        Access {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
        }
    }
}

/// Which etcd, and how to get in. Read only.
#[derive(Clone, Debug, Args)]
pub(super) struct EtcdArgs {
    /// Read the format of the metadata from etcd (evidence for MG101), read only
    #[arg(
        short = 'e',
        long = "etcd",
        value_name = "URL[,URL]",
        value_delimiter = ',',
        help_heading = "etcd"
    )]
    endpoints: Vec<String>,

    /// Root path of Milvus in etcd [default: from the running configuration, else by-dev]
    #[arg(
        short,
        long,
        value_name = "PATH",
        requires = "endpoints",
        help_heading = "etcd"
    )]
    root_path: Option<String>,

    /// Path of the metadata below the root path
    #[arg(
        long,
        value_name = "PATH",
        default_value = "meta",
        requires = "endpoints",
        help_heading = "etcd"
    )]
    meta_sub_path: String,

    #[command(flatten)]
    login: EtcdLogin,
}

/// An etcd that `--etcd` names, with how to get in.
pub(super) struct NamedEtcd<'a> {
    args: &'a EtcdArgs,
    credentials: Credentials,
}

impl EtcdArgs {
    /// The etcd that is named, if any.
    ///
    /// # Errors
    /// Flags that contradict each other, or a file that cannot be read.
    pub(super) fn named(&self) -> Result<Option<NamedEtcd<'_>>, Failure> {
        match self.login.given() {
            Some(flag) if self.endpoints.is_empty() => {
                Err(Failure::usage(format!("{flag} needs --etcd")))
            }
            _ if self.endpoints.is_empty() => Ok(None),
            _ => Ok(Some(NamedEtcd {
                args: self,
                credentials: self.login.read()?,
            })),
        }
    }
}

impl NamedEtcd<'_> {
    /// Reads the metadata's format. What cannot be read is itself a fact.
    pub(super) fn inspect(&self, runtime: &Runtime, before: Option<&Release>) -> MetadataFact {
        let endpoint = self.endpoint(before);
        runtime.block_on(milvus_guard_metadata::executor::detect(&endpoint))
    }

    /// Reads the configuration that Milvus itself keeps in etcd and lays it over both sides.
    /// Returns what was read, for the report.
    pub(super) fn configuration(
        &self,
        runtime: &Runtime,
        before: Option<&mut Snapshot>,
        after: &mut Snapshot,
    ) -> InputEntry {
        let running = before
            .as_ref()
            .and_then(|snapshot| match snapshot.releases.as_slice() {
                [only] => Some(only),
                _ => None,
            });
        let endpoint = self.endpoint(running);
        let mut entry = InputEntry {
            role: "etcd".into(),
            source: endpoint.shown(),
            ..InputEntry::default()
        };
        match runtime.block_on(settings(&endpoint)) {
            Ok(settings) => {
                for snapshot in before.into_iter().chain([after]) {
                    snapshot.lay_dynamic(&endpoint.root_path, &settings, "etcd");
                }
                let count = milvus_guard_core::text::count(settings.len(), "setting");
                entry.read.push(format!(
                    "{count} that Milvus stores under {}/config",
                    endpoint.root_path
                ));
            }
            Err(reason) => entry
                .not_read
                .push(format!("the settings that Milvus stores in etcd: {reason}")),
        }
        entry
    }

    fn endpoint(&self, before: Option<&Release>) -> Endpoint {
        let configured = before
            .filter(|release| release.has_config())
            .map(|release| release.metadata().root_path.value.into_owned());
        let root_path = self.args.root_path.clone().or(configured);
        let (user, tls) = self.credentials.clone();
        Endpoint {
            addresses: self.args.endpoints.clone(),
            root_path: root_path.unwrap_or_else(|| "by-dev".into()),
            meta_sub_path: self.args.meta_sub_path.clone(),
            tls,
            user,
            release: before.map(|release| release.name.clone()),
        }
    }
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) before: Option<Snapshot>,
    pub(super) after: Snapshot,
    pub(super) facts: Facts,
    pub(super) inputs: Vec<InputEntry>,
}

/// Reads both sides and adds the facts of the cluster.
pub(super) struct Gatherer<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) cluster: &'a ClusterArgs,
    pub(super) namespace: Option<&'a str>,
    pub(super) instance: Option<&'a str>,
}

/// Objects that a message names.
const MAX_NAMED: usize = 12;

impl Gatherer<'_> {
    /// Reads both sides of a change. `choice` says whether what is wanted is a whole release, where
    /// the user says so.
    pub(super) fn gather(
        &self,
        before: Option<&Source>,
        after: &Source,
        facts: Facts,
        choice: Choice,
        catalogue: &Catalogue,
    ) -> Result<Gathered, Failure> {
        let mut gathered = Gathered {
            facts,
            ..Gathered::default()
        };
        // What is wanted is read first: of the objects that it patches the documents are needed.
        let wanted = match after {
            Source::Version(_) => None,
            source => Some(self.load_source(Role::After, source, Vec::new(), &mut gathered)?),
        };
        let running = match before {
            Some(before) => {
                let patches = wanted
                    .as_ref()
                    .map(|wanted| wanted.content.patches())
                    .unwrap_or_default();
                let loaded = self.load(Role::Before, before, patches, &mut gathered)?;
                gathered.inputs.push(loaded.entry.clone());
                Some((before, loaded))
            }
            None => None,
        };
        let wanted = match (wanted, after) {
            (Some(mut wanted), source) => {
                match &running {
                    Some((_, running)) => {
                        part::settle(running, &mut wanted, choice).map_err(Failure::usage)?;
                    }
                    None => wanted.snapshot = wanted.content.builder().build(),
                }
                Self::readable(source, &mut wanted)?;
                gathered.inputs.push(wanted.entry.clone());
                Some(wanted)
            }
            (None, _) => None,
        };
        if let Some((source, mut loaded)) = running {
            let snapshot = self.only_instance(&mut loaded);
            // Nothing live is a new installation; a file without Milvus is most likely the wrong
            // file, and another version needs a running release.
            let is_needed = *source != Source::Live || matches!(after, Source::Version(_));
            if snapshot.releases.is_empty() && is_needed {
                return Err(self.no_milvus(source, Some("before"), &loaded));
            }
            gathered.before = Some(snapshot).filter(|snapshot| !snapshot.releases.is_empty());
        }
        gathered.after = match (wanted, after) {
            (Some(mut wanted), source) => {
                let snapshot = self.only_instance(&mut wanted);
                if snapshot.releases.is_empty() {
                    return Err(self.no_milvus(source, Some("after"), &wanted));
                }
                snapshot
            }
            (None, Source::Version(wanted)) => Self::at_version(wanted, catalogue, &mut gathered)?,
            (None, _) => Snapshot::default(),
        };
        Ok(gathered)
    }

    /// The running state, with Milvus' images at another version.
    fn at_version(
        wanted: &Wanted,
        catalogue: &Catalogue,
        gathered: &mut Gathered,
    ) -> Result<Snapshot, Failure> {
        let Some(running) = &gathered.before else {
            return Err(Failure::usage(
                "version: needs a running release: give --before, or -i and -n of a release in \
                 the cluster",
            ));
        };
        let (moved, chosen) = at_version(running, wanted, catalogue)?;
        gathered.inputs.push(InputEntry {
            role: Role::After.name().into(),
            source: format!("version:{chosen}"),
            read: vec!["the running manifests with Milvus' images moved".into()],
            ..InputEntry::default()
        });
        Ok(moved)
    }

    /// The running state, for verbs that need nothing else.
    pub(super) fn running(&self, source: &Source, facts: Facts) -> Result<Snapshot, Failure> {
        let mut gathered = Gathered {
            facts,
            ..Gathered::default()
        };
        let mut loaded = self.load(Role::Before, source, Vec::new(), &mut gathered)?;
        let snapshot = self.only_instance(&mut loaded);
        if snapshot.releases.is_empty() {
            return Err(self.no_milvus(source, None, &loaded));
        }
        Ok(snapshot)
    }

    /// The running state, with the facts about it and what was read.
    pub(super) fn state(
        &self,
        source: &Source,
        gathered: &mut Gathered,
    ) -> Result<Snapshot, Failure> {
        let mut loaded = self.load(Role::Before, source, Vec::new(), gathered)?;
        let snapshot = self.only_instance(&mut loaded);
        if snapshot.releases.is_empty() && matches!(source, Source::File(_)) {
            return Err(self.no_milvus(source, None, &loaded));
        }
        gathered.inputs.push(std::mem::take(&mut loaded.entry));
        Ok(snapshot)
    }

    /// Adds the policies and exceptions of the cluster. Where they may not be read, the report says
    /// so.
    pub(super) fn cluster_policies(
        &self,
        policies: &mut PolicySet,
        gathered: &mut Gathered,
    ) -> Result<(), Failure> {
        let (cluster, _) = self.connect()?;
        let mut entry = InputEntry {
            role: "policy".into(),
            source: format!("cluster {}", cluster.server()),
            ..InputEntry::default()
        };
        match self.runtime.block_on(cluster.policies()) {
            Ok((documents, unusable)) => {
                if !documents.is_empty() {
                    let read = format!("{} policies and exceptions", documents.len());
                    entry.read.push(read);
                }
                entry.not_read = unusable;
                for document in documents {
                    policies.add(document);
                }
            }
            Err(error) => entry.not_read.push(error.to_string()),
        }
        match self.runtime.block_on(cluster.holding()) {
            Ok(holding) => {
                if holding.by_default {
                    entry.read.push("where changes are held".into());
                }
                policies.holding = holding;
            }
            Err(error) => entry.not_read.push(error.to_string()),
        }
        if !entry.read.is_empty() || !entry.not_read.is_empty() {
            gathered.inputs.push(entry);
        }
        Ok(())
    }

    /// The releases that `-i` names: by name, by name and alias (`RELEASE/ALIAS`), or with their
    /// namespace.
    fn only_instance(&self, loaded: &mut Loaded) -> Snapshot {
        let Some(instance) = self.instance else {
            return std::mem::take(&mut loaded.snapshot);
        };
        let mut snapshot = loaded.snapshot.clone();
        snapshot
            .releases
            .retain(|release| is_named(release, instance));
        snapshot
    }

    /// Why an input cannot be judged: what it holds instead of Milvus. Without a role there is only
    /// one input.
    fn no_milvus(&self, source: &Source, role: Option<&str>, loaded: &Loaded) -> Failure {
        let named = match source {
            Source::File(path) if path == "-" => "standard input".to_owned(),
            Source::File(path) => path.clone(),
            Source::Revision { name, .. } => format!("release {name}"),
            Source::Live => loaded.entry.source.clone(),
            Source::Version(wanted) => wanted.to_string(),
            Source::Text { name, .. } => (*name).to_owned(),
        };
        let input = match (source, role) {
            (Source::Live, _) => named,
            (_, Some(role)) => format!("the input {role} ({named})"),
            (_, None) => format!("the input ({named})"),
        };
        let content = &loaded.content;
        if let Some(instance) = self.instance
            && !loaded.snapshot.releases.is_empty()
        {
            let all = &loaded.snapshot.releases;
            let message = format!(
                "{input} does not contain a Milvus release '{instance}'. It contains: {}",
                choices(all)
            );
            return if source.needs_cluster() {
                Failure::no_verdict(message)
            } else {
                Failure::usage(message)
            };
        }
        if let Some(namespace) = self.namespace
            && !content.left_out.is_empty()
            && content.objects.is_empty()
        {
            let all: Vec<String> = content
                .left_out
                .iter()
                .take(MAX_NAMED)
                .map(|(namespace, objects)| format!("{namespace} ({objects} objects)"))
                .collect();
            let more = more(content.left_out.len());
            return Failure::usage(format!(
                "{input} does not contain objects in namespace {namespace}. It contains: {}{more}",
                all.join(", ")
            ));
        }
        let mut message = format!(
            "{input} does not contain Milvus: no workload runs 'milvus run' or has a Milvus image"
        );
        if !content.objects.is_empty() {
            let objects: Vec<String> = content
                .metas()
                .take(MAX_NAMED)
                .map(|meta| meta.object.to_string())
                .collect();
            message.push_str(&format!(
                ". It contains: {}{}",
                objects.join(", "),
                more(content.objects.len())
            ));
        }
        if !content.foreign.is_empty() {
            message.push_str(&format!(". {}", list(&content.foreign)));
        }
        for remark in loaded.entry.notes.iter().chain(
            loaded
                .entry
                .not_read
                .iter()
                .filter(|text| text.contains("left out by -n")),
        ) {
            message.push_str(&format!(". {remark}"));
        }
        match source {
            // The cluster was read, and there is nothing to judge: no verdict, not a wrong command
            // line.
            Source::Live | Source::Revision { .. } => Failure::no_verdict(format!(
                "{message}\nnext: milvus-guard audit --all-namespaces"
            )),
            Source::File(_) | Source::Version(_) | Source::Text { .. } => Failure::usage(message),
        }
    }

    fn load(
        &self,
        role: Role,
        source: &Source,
        keep: Vec<(String, String)>,
        gathered: &mut Gathered,
    ) -> Result<Loaded, Failure> {
        let mut loaded = self.load_source(role, source, keep, gathered)?;
        Self::readable(source, &mut loaded)?;
        Ok(loaded)
    }

    /// Sees that every configuration can be read: one that cannot would look like one without
    /// settings.
    fn readable(source: &Source, loaded: &mut Loaded) -> Result<(), Failure> {
        for release in &loaded.snapshot.releases {
            for (origin, reason) in release.config.unreadable() {
                let place = format!(
                    "{origin}: the configuration of {} cannot be read: {reason}",
                    release.label()
                );
                if *source != Source::Live {
                    return Err(Failure::usage(place));
                }
                loaded.entry.not_read.push(place);
            }
        }
        Ok(())
    }

    fn load_source(
        &self,
        role: Role,
        source: &Source,
        keep: Vec<(String, String)>,
        gathered: &mut Gathered,
    ) -> Result<Loaded, Failure> {
        match source {
            Source::File(path) => {
                let how = files::Reading {
                    namespace: self.namespace,
                    keep,
                };
                let loaded = files::load(role, path, &how).map_err(Failure::usage)?;
                if role == Role::Before {
                    files::evidence::complete(&loaded.snapshot, &mut gathered.facts);
                }
                Ok(loaded)
            }
            Source::Text { name, text } => {
                let how = files::Reading {
                    namespace: self.namespace,
                    keep,
                };
                files::load_text(role, name, text, &how).map_err(Failure::usage)
            }
            Source::Live => self.live(role, &keep, gathered),
            Source::Revision { name, revision } => self.revision(role, name, *revision),
            Source::Version(_) => Err(Failure::usage(
                "version: is for the desired state only (--after)",
            )),
        }
    }

    /// The last run of each release. The input of the running state says why they could not be
    /// read.
    pub(super) fn last_runs(&self) -> Result<Vec<LastRun>, Failure> {
        let (cluster, _) = self.connect()?;
        let runs = self.runtime.block_on(cluster.all_runs());
        Ok(LastRun::of_each_release(&runs.unwrap_or_default()))
    }

    fn connect(&self) -> Result<(Cluster, String), Failure> {
        let cluster = self
            .runtime
            .block_on(Cluster::connect_with(
                &self.cluster.access(),
                &self.cluster.overrides,
            ))
            .map_err(Failure::no_verdict)?;
        let namespace = self
            .namespace
            .map_or_else(|| cluster.default_namespace().to_owned(), str::to_owned);
        Ok((cluster, namespace))
    }

    fn live(
        &self,
        role: Role,
        keep: &[(String, String)],
        gathered: &mut Gathered,
    ) -> Result<Loaded, Failure> {
        let (cluster, namespace) = self.connect()?;
        let reading = self
            .runtime
            .block_on(cluster.read(&namespace, true))
            .map_err(Failure::no_verdict)?;
        if role == Role::Before {
            fill(&mut gathered.facts, reading.facts);
        }
        let runs = self.runtime.block_on(cluster.runs());
        let mut not_read: Vec<String> = reading
            .not_read
            .iter()
            .map(|missing| format!("{}: {}", missing.what, missing.reason))
            .collect();
        match runs {
            Ok(runs) if role == Role::Before => fill(&mut gathered.facts, runs),
            Ok(_) => {}
            Err(error) => not_read.push(format!("upgrade runs: {error}")),
        }
        let entry = InputEntry {
            role: role.name().into(),
            source: format!("live, namespace {namespace} at {}", cluster.server()),
            read: reading.read,
            not_read,
            notes: Vec::new(),
        };
        let mut content = Content {
            objects: reading.objects,
            form: Form::Whole,
            ..Content::default()
        };
        if !keep.is_empty() {
            let documents = self
                .runtime
                .block_on(cluster.workload_documents(&namespace, keep))
                .map_err(Failure::no_verdict)?;
            content.raw = documents
                .iter()
                .filter_map(|document| RawObject::live(document, CLUSTER))
                .collect();
        }
        Ok(Loaded {
            content,
            snapshot: reading.snapshot,
            entry,
        })
    }

    /// Whether Helm's storage in the cluster has a deployed revision of a release.
    pub(super) fn is_deployed(&self, name: &str) -> Result<bool, Failure> {
        let (cluster, namespace) = self.connect()?;
        let found = cluster.helm_release(&namespace, name, None);
        match self.runtime.block_on(found) {
            Ok(_) => Ok(true),
            Err(ClusterError::NotFound(_) | ClusterError::NoRelease { .. }) => Ok(false),
            Err(error) => Err(Failure::no_verdict(error)),
        }
    }

    /// The revision that Helm would make next.
    pub(super) fn next_revision(&self, name: &str) -> Result<u64, Failure> {
        let (cluster, namespace) = self.connect()?;
        let newest = cluster.newest_revision(&namespace, name);
        let newest = self.runtime.block_on(newest).map_err(Failure::no_verdict)?;
        Ok(newest.unwrap_or_default() + 1)
    }

    fn revision(&self, role: Role, name: &str, revision: Option<u64>) -> Result<Loaded, Failure> {
        let (cluster, namespace) = self.connect()?;
        let stored = self
            .runtime
            .block_on(cluster.helm_release(&namespace, name, revision))
            .map_err(|error| match error {
                unreadable @ ClusterError::Codec { .. } => Failure::usage(unreadable),
                other => Failure::no_verdict(other),
            })?;
        let source = format!("release:{}@{}", stored.name, stored.revision);
        let budget = milvus_guard_core::manifest::Budget::default();
        let objects = stored
            .objects(stored.namespace.as_deref(), &budget)
            .collect::<Result<Vec<_>, _>>();
        let objects = objects.map_err(|error| Failure::usage(format!("{source}: {error}")))?;
        let entry = InputEntry {
            role: role.name().into(),
            source: format!("{source} ({}) in namespace {namespace}", stored.status),
            read: vec!["Helm's storage".into()],
            ..InputEntry::default()
        };
        let content = Content {
            objects,
            helm: vec![stored],
            form: Form::Whole,
            ..Content::default()
        };
        Ok(Loaded {
            snapshot: content.builder().build(),
            content,
            entry,
        })
    }
}

/// A state with Milvus' images at another version, and that version.
///
/// # Errors
/// A version that the data does not know.
pub(super) fn at_version(
    running: &Snapshot,
    wanted: &Wanted,
    catalogue: &Catalogue,
) -> Result<(Snapshot, String), Failure> {
    let mut chosen: Vec<String> = Vec::new();
    let mut releases = Vec::new();
    for release in &running.releases {
        let from = release.lowest();
        let to = catalogue
            .choose(wanted, from.as_ref(), &Situation::of(release))
            .map_err(Failure::usage)?;
        let shown = match wanted {
            Wanted::Build(_) => to.to_string(),
            Wanted::Line(_) | Wanted::Latest => {
                format!("{to}, the recommended release of {}", to.version.line())
            }
        };
        if !chosen.contains(&shown) {
            chosen.push(shown);
        }
        releases.push(release.at_version(&to));
    }
    let moved = Snapshot {
        releases,
        ..running.clone()
    };
    Ok((moved, chosen.join("; ")))
}

/// Whether a release is the one that `-i` names.
fn is_named(release: &Release, instance: &str) -> bool {
    let Release { name, app_name, .. } = release;
    instance == name
        || instance == release.label()
        || instance == format!("{name}/{app_name}")
        || instance == format!("{}/{app_name}", release.label())
}

/// What `-i` can name: aliases of one umbrella chart with their alias.
pub(super) fn choices(releases: &[Release]) -> String {
    let names = releases.iter().map(|release| {
        let twins = releases
            .iter()
            .filter(|other| other.name == release.name && other.namespace == release.namespace);
        if twins.count() > 1 {
            format!("{}/{}", release.label(), release.app_name)
        } else {
            release.label()
        }
    });
    let shown: Vec<String> = names.take(MAX_NAMED).collect();
    format!("{}{}", shown.join(", "), more(releases.len()))
}

/// How many more there are than a message names.
fn more(all: usize) -> String {
    match all.saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}

/// The namespace that `-n` names, else that of the kubeconfig's context. A cluster that cannot be
/// found is reported by the connection that follows.
pub(super) fn namespace(cluster: &ClusterArgs, named: Option<&str>) -> Result<String, Failure> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let found = runtime::runtime()?.block_on(Cluster::namespace_of(&cluster.access()));
    found.map_err(Failure::no_verdict)
}

/// The namespaces of the cluster.
pub(super) fn namespaces(runtime: &Runtime, cluster: &ClusterArgs) -> Result<Vec<String>, Failure> {
    let cluster = runtime
        .block_on(Cluster::connect(&cluster.access()))
        .map_err(Failure::no_verdict)?;
    runtime
        .block_on(cluster.namespaces())
        .map_err(Failure::no_verdict)
}

/// What is known already stays; what is absent is taken from the cluster.
fn fill(facts: &mut Facts, seen: Facts) {
    facts.kubernetes = facts.kubernetes.or(seen.kubernetes);
    facts.helm = facts.helm.or(seen.helm);
    facts.metadata.extend(seen.metadata);
    facts.migrations = facts.migrations.take().or(seen.migrations);
    facts.rollouts = facts.rollouts.take().or(seen.rollouts);
    facts.runs = facts.runs.take().or(seen.runs);
    facts.autoscalers = facts.autoscalers.take().or(seen.autoscalers);
    facts.room = facts.room.take().or(seen.room);
    facts.deployers = facts.deployers.take().or(seen.deployers);
    facts.drift = facts.drift.take().or(seen.drift);
}

/// Reads `--facts`.
pub(super) fn facts(path: Option<&PathBuf>) -> Result<Facts, Failure> {
    let Some(path) = path else {
        return Ok(Facts::default());
    };
    let text = read_text_file(path).map_err(Failure::usage)?;
    let name = path.display();
    let Some(document) = documents(&text).next() else {
        return Ok(Facts::default());
    };
    let document = document.map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    serde_path_to_error::deserialize(document.root.to_json())
        .map_err(|error| Failure::usage(format!("{name}: {}: {}", error.path(), error.inner())))
}

/// Reads `--data` files over the embedded tables; without any, the embedded ones serve.
pub(super) fn catalogue(paths: &[PathBuf]) -> Result<Option<Catalogue>, Failure> {
    let mut catalogue: Option<Catalogue> = None;
    for path in paths {
        let text = read_text_file(path).map_err(Failure::usage)?;
        let name = path.display().to_string();
        catalogue = Some(match catalogue.take() {
            None => Catalogue::with(&name, &text).map_err(Failure::usage)?,
            Some(mut known) => {
                known.add(&name, &text).map_err(Failure::usage)?;
                known
            }
        });
    }
    Ok(catalogue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        assert_eq!("live".parse(), Ok(Source::Live));
        assert_eq!(
            "release:a@3".parse(),
            Ok(Source::Revision {
                name: "a".into(),
                revision: Some(3)
            })
        );
        assert_eq!(
            "release:a".parse(),
            Ok(Source::Revision {
                name: "a".into(),
                revision: None
            })
        );
        assert_eq!("a.yaml".parse(), Ok(Source::File("a.yaml".into())));
        assert!("release:a@x".parse::<Source>().is_err());
        assert_eq!(
            "version:latest".parse(),
            Ok(Source::Version(Wanted::Latest))
        );
        assert!("version:newest".parse::<Source>().is_err());
        assert!("release:".parse::<Source>().is_err());
    }
}
