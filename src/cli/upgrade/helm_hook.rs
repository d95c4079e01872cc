//! `upgrade` as a hook of a Helm release that contains the chart `milvus-upgrade`. Before Helm
//! changes anything, the hook judges the change and pauses the components; afterwards they roll in
//! order. It reads the new manifests from Helm's record of the revision in progress.

use tokio::runtime::Runtime;

use milvus_guard_core::{
    admission::acceptance::{ACCEPT, from_label},
    evaluate::Verdict,
    milvus::Release,
    report::Show,
};
use milvus_guard_operations::{
    engine::{End, ReleaseName, RunLocation, release, run_locally},
    rolling_upgrade::{
        Operation, RollingUpgrade,
        through_helm::{HelmCaller, HelmChange, HelmProgress, HelmTurn},
    },
};
use milvus_guard_sources::{
    files::part::Choice,
    kubernetes::{Cluster, HelmRecord},
};

use super::{
    super::{
        exit::{Done, Failure},
        gather::{ClusterArgs, Source, namespace},
        helm_upgrade::{
            Rendered, default_judging, leave_out_order,
            process::RENDERED,
            release::{Question, text, warnings},
        },
        output::Screen,
        running, runtime,
        structured::FormatArg,
    },
    Args,
    flags::HelmHookArg,
    through_helm::{is_begun, refuse},
};

/// How many revisions before the new one to search for the deployed one. Helm keeps ten by
/// default, and the account of the hook may read no others.
const EARLIER: u64 = 9;
/// Status of a revision while Helm runs the hooks before an upgrade.
const PENDING: &str = "pending-upgrade";

/// Runs the hook for the current phase of Helm.
pub(super) fn run(args: &Args, hook: HelmHookArg, format: FormatArg, screen: &Screen) -> Done {
    let name = ReleaseName {
        name: args.instance.clone().unwrap_or_default(),
        namespace: namespace(&args.cluster, args.namespace.as_deref())?,
    };
    let number = args.helm_revision.unwrap_or_default();
    let records = Records::read(&args.cluster, &name, number, hook)?;
    let live = running::look(&args.cluster, async |client| {
        release::read(&client, &name).await.map(|(live, _)| live)
    })?;
    let live = match live {
        Ok(live) => live,
        Err(error) => return refuse(format, &error.to_string(), screen),
    };
    let (revision, deployed) = match &records.deployed {
        Some((revision, deployed)) => (*revision, deployed),
        None => (number, &records.made),
    };
    let change = match records
        .made
        .change(&name, &live, (revision, deployed.manifest()))?
    {
        Ok(change) => change,
        Err(why) => return refuse(format, &why.to_string(), screen),
    };
    let brings_image = brings_image(&live, &change);
    let procedure = procedure(args, &name, hook, change)?;
    let begun = running::look(&args.cluster, async |client| {
        is_begun(&client, &procedure).await
    })?;
    let is_begun = match begun {
        Ok(is_begun) => is_begun,
        Err(end) => return running::say(&end, format, None, screen),
    };
    if hook == HelmHookArg::PreUpgrade && !is_begun {
        let mut report = records.judge(args, &name)?;
        if brings_image {
            leave_out_order(&mut report);
        }
        if report.verdict == Verdict::Deny {
            eprint!("{}", text(&report, Show::Warn, screen));
            return refuse(format, "the rules deny this change", screen);
        }
        eprint!("{}", warnings(&report).unwrap_or_default());
    }
    if !is_begun && (hook != HelmHookArg::PreUpgrade || !brings_image) {
        let end = End::Reached(format!(
            "No component of {} has to wait: there is nothing to do for this hook.",
            name.name
        ));
        return running::say(&end, format, None, screen);
    }
    let end = running::run(
        &args.cluster,
        args.progress,
        screen,
        async |client, history| Box::pin(run_locally(&client, &procedure, history)).await,
    )?;
    running::say(&end, format, args.job.end_file.as_deref(), screen)
}

/// Whether a component gets another image.
fn brings_image(live: &Release, change: &HelmChange) -> bool {
    let mut running = live.components.iter();
    running.any(|one| one.is_running() && one.image().to_string() != change.image)
}

fn procedure(
    args: &Args,
    name: &ReleaseName,
    hook: HelmHookArg,
    change: HelmChange,
) -> Result<RollingUpgrade, Failure> {
    let progress = match hook {
        HelmHookArg::PreUpgrade => HelmProgress::Ahead,
        HelmHookArg::PostUpgrade | HelmHookArg::PostRollback => HelmProgress::Made,
    };
    let mut procedure = args.procedure_with(Some(HelmTurn {
        change,
        progress,
        caller: HelmCaller::User,
    }))?;
    procedure.settings.run.release = name.clone();
    // A person runs the next command outside of this pod, where it makes a Job.
    procedure.settings.location = RunLocation::Job;
    if hook == HelmHookArg::PostRollback {
        procedure.operation = Operation::Rollback;
    }
    Ok(procedure)
}

/// The records of Helm that a hook needs.
struct Records {
    /// The revision that Helm is making.
    made: Rendered,
    /// Rules that the deployer accepts for it.
    accepted: Vec<String>,
    /// The deployed revision, if Helm has not changed anything yet.
    deployed: Option<(u64, Rendered)>,
}

impl Records {
    fn read(
        cluster: &ClusterArgs,
        name: &ReleaseName,
        number: u64,
        hook: HelmHookArg,
    ) -> Result<Self, Failure> {
        let storage = Storage::open(cluster, name)?;
        let made = storage.record(number)?.ok_or_else(|| {
            Failure::no_verdict(format!(
                "Helm has no record of revision {number} of {} in namespace {}, in Secrets or \
                 ConfigMaps. Nothing was changed",
                name.name, name.namespace
            ))
        })?;
        if hook == HelmHookArg::PreUpgrade && made.status() != PENDING {
            return Err(Failure::no_verdict(format!(
                "revision {number} of {} is {}: Helm does not make it at this moment. Nothing was \
                 changed",
                name.name,
                made.status()
            )));
        }
        let accepted = made.labels.get(ACCEPT);
        let accepted = accepted.map_or_else(Vec::new, |value| from_label(value, number));
        let deployed = match hook {
            HelmHookArg::PreUpgrade => storage.deployed_before(number)?,
            // The run has recorded the removed components before Helm's change.
            HelmHookArg::PostUpgrade | HelmHookArg::PostRollback => None,
        };
        let deployed = deployed.map(|(number, record)| Ok((number, Rendered::of(record.json)?)));
        Ok(Self {
            made: Rendered::of(made.json)?,
            accepted,
            deployed: deployed.transpose()?,
        })
    }

    /// Judges as `check` does.
    fn judge(
        &self,
        args: &Args,
        name: &ReleaseName,
    ) -> Result<milvus_guard_core::report::Report, Failure> {
        let judging = default_judging()?;
        let after = Source::Text {
            name: RENDERED,
            text: self.made.printed().into(),
        };
        let question = Question {
            judging: &judging,
            cluster: &args.cluster,
            namespace: &name.namespace,
            after: &after,
            choice: Choice::Seen,
            accepted: &self.accepted,
            helm: None,
        };
        question.against(Some(&Source::Live))
    }
}

/// Helm's storage of one release.
struct Storage<'a> {
    runtime: Runtime,
    cluster: Cluster,
    name: &'a ReleaseName,
}

impl<'a> Storage<'a> {
    fn open(cluster: &ClusterArgs, name: &'a ReleaseName) -> Result<Self, Failure> {
        let runtime = runtime::runtime()?;
        let cluster = runtime
            .block_on(Cluster::connect(&cluster.access()))
            .map_err(Failure::no_verdict)?;
        Ok(Self {
            runtime,
            cluster,
            name,
        })
    }

    fn record(&self, number: u64) -> Result<Option<HelmRecord>, Failure> {
        let ReleaseName { name, namespace } = self.name;
        let record = self.cluster.helm_record(namespace, name, number);
        self.runtime.block_on(record).map_err(Failure::no_verdict)
    }

    /// The deployed revision before this one; the last one if none is.
    fn deployed_before(&self, number: u64) -> Result<Option<(u64, HelmRecord)>, Failure> {
        let mut last = None;
        for earlier in (number.saturating_sub(EARLIER).max(1)..number).rev() {
            let Some(record) = self.record(earlier)? else {
                continue;
            };
            if record.status() == "deployed" {
                return Ok(Some((earlier, record)));
            }
            last.get_or_insert((earlier, record));
        }
        Ok(last)
    }
}
