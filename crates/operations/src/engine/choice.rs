//! Which run a command is about: the one that is in progress, one that has ended, or a new one.

use milvus_guard_core::api::{RunKind, RunPhase, UpgradeRun};

use super::{End, ReleaseName, RetryingClient, originals, release};

/// What a command does with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// It starts the run, or resumes it.
    Forward,
    /// It rolls the run back.
    Back,
    /// It ends the run at its current step.
    End,
}

/// What decides which run a command is about.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Kind of the runs that the verb makes.
    pub kind: RunKind,
    /// What the command does with its run.
    pub intent: Intent,
    /// The release.
    pub release: &'a ReleaseName,
    /// The same command with these flags added; the flags end with a space.
    pub command: &'a dyn Fn(&str) -> String,
}

/// Finds the run of a command among the runs of its release, which are sorted by age, the oldest
/// first; `None` if the command starts a new one.
///
/// Repeating a command that has finished does no harm: a client can lose the last response, and a
/// Job can lose its pod after the last write.
///
/// # Errors
/// [`End::Reached`] if an earlier command did what is requested, [`End::Locked`] if a run of
/// another kind is in progress, [`End::Refused`] if there is no such run, or if it moves in the
/// other direction.
pub async fn choose<'a>(
    client: &RetryingClient,
    known: &'a [UpgradeRun],
    request: &Request<'_>,
) -> Result<Option<&'a UpgradeRun>, End> {
    match find(known, request)? {
        Found::New => Ok(None),
        Found::Run(run) => Ok(Some(run)),
        Found::Ended(run)
            if request.intent == Intent::Back && !is_as_recorded(client, run, request).await? =>
        {
            Err(nothing_to(request))
        }
        Found::Ended(run) => Err(End::Reached(format!(
            "Nothing to do: run {} is already {}. {}",
            run.full_name(),
            if request.intent == Intent::Back {
                "rolled back"
            } else {
                "ended"
            },
            run.status.message.as_deref().unwrap_or_default()
        ))),
    }
}

#[derive(Debug)]
enum Found<'a> {
    /// A new run is to be started.
    New,
    /// This run is in progress, or can be rolled back.
    Run(&'a UpgradeRun),
    /// This run has ended in the requested way.
    Ended(&'a UpgradeRun),
}

fn find<'a>(known: &'a [UpgradeRun], request: &Request<'_>) -> Result<Found<'a>, End> {
    if let Some(open) = known.iter().rev().find(|run| run.is_under_way()) {
        return under_way(open, request).map(Found::Run);
    }
    // Only the last run can be rolled back: the state before it no longer exists.
    let last = known
        .iter()
        .rev()
        .find(|run| run.spec.kind == request.kind && run.status.phase != RunPhase::Refused);
    match (request.intent, last) {
        (Intent::Forward, _) => Ok(Found::New),
        (Intent::Back, Some(run)) if run.status.phase == RunPhase::RolledBack => {
            Ok(Found::Ended(run))
        }
        (Intent::Back, Some(run)) if !run.status.originals.is_empty() => Ok(Found::Run(run)),
        (Intent::End, Some(run)) if run.status.phase == RunPhase::Aborted => Ok(Found::Ended(run)),
        (Intent::Back | Intent::End, _) => Err(nothing_to(request)),
    }
}

fn under_way<'a>(open: &'a UpgradeRun, request: &Request<'_>) -> Result<&'a UpgradeRun, End> {
    if open.spec.kind != request.kind {
        let spec = &open.spec;
        let of = format!("{} -n {}", spec.release, spec.namespace);
        let end = match spec.kind {
            RunKind::Migration => format!(
                "milvus-guard migrate -o abort -i {of} -s {} -t {}",
                spec.from, spec.to
            ),
            RunKind::Rolling => format!("milvus-guard upgrade -o abort -i {of}"),
            RunKind::Hold => format!("helm rollback {of}"),
            RunKind::Other => "the version of milvus-guard that started it".to_owned(),
        };
        return Err(End::Locked(format!(
            "Run {} is in progress for this release ({}). Nothing was changed. Next: wait until it \
             ends, or end it with {end}.",
            open.full_name(),
            open.status.phase.name()
        )));
    }
    if request.intent == Intent::Forward && open.status.phase == RunPhase::RollingBack {
        return Err(End::Refused(format!(
            "Run {} is being rolled back. Nothing was changed. Next: {}",
            open.full_name(),
            (request.command)("-o rollback ")
        )));
    }
    Ok(open)
}

/// Whether every workload that the run recorded has the image that the run found.
async fn is_as_recorded(
    client: &RetryingClient,
    run: &UpgradeRun,
    request: &Request<'_>,
) -> Result<bool, End> {
    let live = match release::read(client, request.release).await {
        Ok((live, _)) => live,
        Err(release::SurveyError::Api(error)) => return Err(error.into()),
        Err(_) => return Ok(false),
    };
    let components: Vec<_> = live.components.iter().map(originals::original).collect();
    let recorded = run
        .status
        .originals
        .iter()
        .filter(|original| original.component.is_some() && original.uid.is_some());
    Ok(recorded.into_iter().all(|original| {
        components.iter().any(|one| {
            one.kind == original.kind && one.name == original.name && one.images == original.images
        })
    }))
}

/// The refusal of a command for which there is no run.
fn nothing_to(request: &Request<'_>) -> End {
    let ReleaseName { name, namespace } = request.release;
    End::Refused(format!(
        "There is no run of {namespace}/{name} to {}. Nothing was changed. Next: milvus-guard \
         status -i {name} -n {namespace}",
        if request.intent == Intent::End {
            "end"
        } else {
            "roll back"
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use milvus_guard_core::api::{ObjectMeta, Original, RunSpec};

    fn run(name: &str, kind: RunKind, phase: RunPhase) -> UpgradeRun {
        let spec = RunSpec {
            kind,
            release: "my-release".into(),
            namespace: "milvus".into(),
            from: milvus_guard_core::milvus::Version::new(2, 4, 5),
            to: milvus_guard_core::milvus::Version::new(2, 4, 24),
            plan: Vec::new(),
            plan_hash: String::new(),
            image: None,
            requested_by: None,
        };
        let mut run = UpgradeRun::new(
            ObjectMeta {
                name: name.to_owned(),
                ..ObjectMeta::default()
            },
            spec,
        );
        run.status.phase = phase;
        run.status.originals = vec![Original::default()];
        run
    }

    fn found(known: &[UpgradeRun], intent: Intent) -> Result<String, End> {
        let release = ReleaseName {
            name: "my-release".into(),
            namespace: "milvus".into(),
        };
        let command = |flags: &str| format!("milvus-guard upgrade {flags}...");
        let request = Request {
            kind: RunKind::Rolling,
            intent,
            release: &release,
            command: &command,
        };
        find(known, &request).map(|found| match found {
            Found::New => "new".into(),
            Found::Run(run) => run.metadata.name.clone(),
            Found::Ended(run) => format!("{} has ended", run.metadata.name),
        })
    }

    #[test]
    fn each_phase_of_the_last_run_decides_what_each_command_does() {
        use RunPhase::{
            Aborted, Pending, Refused, RolledBack, RollingBack, Running, Stopped, Succeeded,
        };
        // Phase of the last run, then the result of each intent: forward, back, end. `-`: refused.
        let table = [
            (Pending, "last", "last", "last"),
            (Running, "last", "last", "last"),
            (Stopped, "last", "last", "last"),
            (RollingBack, "-", "last", "last"),
            (Succeeded, "new", "last", "-"),
            (Aborted, "new", "last", "last has ended"),
            (RolledBack, "new", "last has ended", "-"),
            // A refused run changed nothing, so the run before it counts.
            (Refused, "new", "first", "-"),
        ];
        for (phase, forward, back, end) in table {
            let known = [
                run("first", RunKind::Rolling, Succeeded),
                run("last", RunKind::Rolling, phase),
            ];
            for (intent, expected) in [
                (Intent::Forward, forward),
                (Intent::Back, back),
                (Intent::End, end),
            ] {
                let said = found(&known, intent).unwrap_or_else(|end| {
                    assert!(
                        matches!(end, End::Refused(_)),
                        "{phase:?} {intent:?}: {end:?}"
                    );
                    "-".into()
                });
                assert_eq!(said, expected, "{phase:?} {intent:?}");
            }
        }
    }

    #[test]
    fn runs_of_another_kind_block_while_in_progress_and_are_ignored_afterwards() {
        for intent in [Intent::Forward, Intent::Back, Intent::End] {
            let open = [run("migration", RunKind::Migration, RunPhase::Stopped)];
            let Err(End::Locked(said)) = found(&open, intent) else {
                panic!("{intent:?}")
            };
            let command =
                "milvus-guard migrate -o abort -i my-release -n milvus -s 2.4.5 -t 2.4.24.";
            assert!(said.ends_with(command), "{said}");
        }
        let ended = [
            run("roll", RunKind::Rolling, RunPhase::Aborted),
            run("migration", RunKind::Migration, RunPhase::RolledBack),
        ];
        assert_eq!(found(&ended, Intent::Back).unwrap(), "roll");
        assert_eq!(found(&ended, Intent::End).unwrap(), "roll has ended");
    }

    #[test]
    fn a_run_that_recorded_nothing_cannot_be_rolled_back() {
        let mut last = run("last", RunKind::Rolling, RunPhase::Aborted);
        last.status.originals.clear();
        let Err(End::Refused(said)) = found(&[last], Intent::Back) else {
            panic!()
        };
        assert!(
            said.contains("There is no run of milvus/my-release to roll back"),
            "{said}"
        );
    }
}
