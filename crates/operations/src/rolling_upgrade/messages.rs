//! The messages of a run that stops, and the Helm command that agrees with what runs.

use crate::engine::{ReleaseName, RunLocation, RunSettings, StopMessage, display::took};
use milvus_guard_core::{
    milvus::{ImageRef, Release},
    rules::advice::{CHART, command as shell},
};

use milvus_guard_sources::etcd::connect::public;

use super::{
    context::UpgradeData,
    plan::{MoveKind, Rollout, Templates},
    settings::{AskMilvus, SearchedCollections, SessionHelp, Settings},
    step::Step,
    through_helm::HelmCaller,
};

/// The state of the data and the next command, for a run that stops in this step.
#[must_use]
pub fn stop_message(step: &Step, upgrade: &UpgradeData, back: bool) -> StopMessage {
    let Rollout { from, to, .. } = &upgrade.rollout;
    let go_back = command(&upgrade.settings, "-o rollback ");
    if back {
        let data = match step {
            // Also the message at the end of a rollback.
            Step::Check | Step::Record => back_at_the_beginning(upgrade),
            _ => format!("The rollback is not complete: components may run {to} or {from}."),
        };
        return StopMessage {
            data_state: data,
            next_command: go_back,
        };
    }
    let go_on = again(upgrade);
    let or_back = format!("{go_on} (resumes), or {go_back} (rolls back)");
    let name = &upgrade.settings.run.release.name;
    let (data, next) = match step {
        Step::Check | Step::Record => ("Nothing was changed.".into(), go_on),
        Step::Helm => (
            format!(
                "Every pod of {name} runs {from}: the components that Helm changes are paused."
            ),
            or_back,
        ),
        Step::Configure => (
            format!("{name} runs {from}; its ConfigMap may have active-standby turned on."),
            or_back,
        ),
        Step::Move(_, one) => {
            let place = upgrade
                .rollout
                .moves
                .iter()
                .position(|other| other == one)
                .unwrap_or(0);
            let (done, rest) = upgrade.rollout.moves.split_at(place);
            let list = |moves: &[super::plan::Move]| {
                let mut names: Vec<&str> = moves.iter().map(|one| one.component.name()).collect();
                names.dedup();
                names.join(", ")
            };
            let done = if done.is_empty() {
                String::new()
            } else {
                format!("On {to}: {}. ", list(done))
            };
            let waiting = rest.get(1..).filter(|rest| !rest.is_empty());
            let waiting =
                waiting.map_or_else(String::new, |rest| format!(" Untouched: {}.", list(rest)));
            (
                format!("{done}Under way: {}.{waiting}", one.component),
                or_back,
            )
        }
        Step::HandOver => (format!("{name} runs {to}."), go_on),
        // Also the message at the end of the run.
        Step::CleanUp | Step::DeleteLeaving => (reached(upgrade), go_on),
    };
    StopMessage {
        data_state: data,
        next_command: next,
    }
}

/// The command that resumes the run.
fn again(upgrade: &UpgradeData) -> String {
    match upgrade.rollout.templates {
        Templates::FromRun => command(&upgrade.settings, ""),
        Templates::FromHelm if is_hook(&upgrade.settings) => {
            format!(
                "the same helm upgrade of {} again",
                upgrade.settings.run.release.name
            )
        }
        // The values of the release, which may be secret, are not repeated.
        Templates::FromHelm => format!(
            "the same command again, with its helm upgrade of {}",
            upgrade.settings.run.release.name
        ),
    }
}

fn is_hook(settings: &Settings) -> bool {
    let turn = settings.helm.as_ref();
    turn.is_some_and(|turn| turn.caller == HelmCaller::User)
}

/// Whose turn it is after everything was paused.
#[must_use]
pub fn turn_of_helm(upgrade: &UpgradeData) -> String {
    let Rollout { from, .. } = &upgrade.rollout;
    format!(
        "Every component of {} that Helm changes is paused on {from}. It is the turn of helm \
         upgrade. Next: {}, or {} (rolls back)",
        upgrade.settings.run.release.name,
        again(upgrade),
        command(&upgrade.settings, "-o rollback ")
    )
}

/// Why a run is not rolled back before Helm is, and the command for that.
#[must_use]
pub fn helm_goes_back_first(upgrade: &UpgradeData, changed: &[String], revision: u64) -> String {
    let release = &upgrade.settings.run.release;
    format!(
        "Helm has changed the templates of {}, and only Helm can bring the old ones back. First \
         run: helm rollback {} {revision} -n {}. What is paused does not roll by that",
        changed.join(", "),
        release.name,
        release.namespace
    )
}

fn back_at_the_beginning(upgrade: &UpgradeData) -> String {
    let release = &upgrade.settings.run.release;
    let from = &upgrade.rollout.from;
    format!(
        "{} runs {from} with the images and strategies that were recorded. Helm's release agrees \
         with it as it is.",
        release.name
    )
}

/// The final message of a run that reached its plan.
fn reached(upgrade: &UpgradeData) -> String {
    let release = &upgrade.settings.run.release;
    let pace = upgrade.pace.worst().map_or_else(String::new, |worst| {
        format!(
            " Longest time between a component that was ready and the next: {}.",
            took(worst)
        )
    });
    let agree = match upgrade.rollout.templates {
        Templates::FromRun => agree(&upgrade.release, &upgrade.rollout),
        Templates::FromHelm => format!(
            "Helm's release agrees with it. Next: milvus-guard verify -i {} -n {}",
            release.name, release.namespace
        ),
    };
    format!(
        "{} runs {}, every component of it.{pace}\n{agree}",
        release.name, upgrade.rollout.to
    )
}

/// How to make the source of the release agree with the running images, after a run that changed
/// them.
#[must_use]
pub fn agree(release: &Release, rollout: &Rollout) -> String {
    let why = "The values of the release do not agree yet: a later upgrade would go back.";
    agree_because(why, release, rollout)
}

/// The same if nothing was changed: whether the values agree is not known.
#[must_use]
pub fn agree_if_needed(release: &Release, rollout: &Rollout) -> String {
    let why = "If the values of the release are others, a later upgrade would go back.";
    agree_because(why, release, rollout)
}

fn agree_because(why: &str, release: &Release, rollout: &Rollout) -> String {
    let manager = &release.manager;
    let path = |path: &str| {
        manager
            .alias()
            .map_or_else(|| path.to_owned(), |alias| format!("{alias}.{path}"))
    };
    let yaml: Vec<String> = values(rollout)
        .iter()
        .map(|(name, value)| format!("  {}={value}", path(name)))
        .collect();
    let next = match helm(release, rollout) {
        Some(command) => format!(
            "Next: {command}\nWith the chart that is installed nothing rolls again; another chart may change pods, so let milvus-guard \
             check judge it first."
        ),
        None => "Next: set them in the source of the release, with the chart version that is \
                 installed."
            .to_owned(),
    };
    format!(
        "{why} These agree with what runs:\n{}\n{next}",
        yaml.join("\n")
    )
}

/// The `helm upgrade` that makes Helm's release agree with what runs. It keeps the installed chart.
/// `None` if the chart is unknown, or if the release is not made by Helm alone.
#[must_use]
pub fn helm(release: &Release, rollout: &Rollout) -> Option<String> {
    let chart = release
        .chart
        .as_ref()
        .filter(|_| release.manager.takes_helm_commands())?;
    let set: Vec<String> = values(rollout)
        .iter()
        .map(|(path, value)| format!("{path}={value}"))
        .collect();
    let ReleaseName { name, namespace } = &rollout.release;
    let mut words = ["helm", "upgrade", name, CHART, "-n", namespace, "--version"]
        .map(str::to_owned)
        .to_vec();
    words.extend([
        chart.version.to_string(),
        "--reset-then-reuse-values".to_owned(),
        "--set".to_owned(),
        set.join(","),
    ]);
    shell(&words)
}

/// Helm values that agree with the end of the plan.
#[must_use]
pub fn values(rollout: &Rollout) -> Vec<(&'static str, String)> {
    let image = ImageRef::parse(&rollout.image);
    let tag = match (&image.tag, &image.digest) {
        (Some(tag), Some(digest)) => format!("{tag}@{digest}"),
        (Some(tag), None) => tag.clone(),
        (None, digest) => digest.clone().unwrap_or_default(),
    };
    let mut values = vec![
        ("image.all.repository", image.repository),
        ("image.all.tag", tag),
    ];
    let any = |kind| rollout.moves.iter().any(|one| one.kind == kind);
    if any(MoveKind::Create) {
        values.extend([
            ("streaming.enabled", "true".to_owned()),
            ("streamingNode.replicas", "1".to_owned()),
        ]);
    }
    if any(MoveKind::Remove) {
        values.push(("indexNode.enabled", "false".into()));
    }
    values
}

/// This command with more flags.
#[must_use]
pub fn command(settings: &Settings, more: &str) -> String {
    if more.is_empty() && is_hook(settings) {
        return "the same helm upgrade again".to_owned();
    }
    if settings.helm.is_some() && more.is_empty() {
        return "the same command again".to_owned();
    }
    let Settings {
        run: RunSettings { release, .. },
        target,
        milvus: milvus_access,
        ..
    } = settings;
    let milvus = match &milvus_access.ask {
        AskMilvus::At(address) => format!(" --milvus {address}"),
        // The Service is the default, and `none` need not be repeated.
        AskMilvus::AtService | AskMilvus::Never => String::new(),
    };
    let searched: String = match &milvus_access.searched {
        // The same applies here.
        SearchedCollections::Never => String::new(),
        searched => {
            let flag = |name: String| format!(" --probe-collection {name}");
            searched.typed().into_iter().map(flag).collect()
        }
    };
    let etcd = match &settings.etcd.addresses[..] {
        [] => String::new(),
        addresses => {
            let shown: Vec<String> = addresses.iter().map(|address| public(address)).collect();
            format!(" -e {}", shown.join(","))
        }
    };
    let help = match settings.session_help {
        SessionHelp::On => "",
        SessionHelp::Off => " --no-session-help",
    };
    let place = match settings.location {
        RunLocation::Job => "",
        RunLocation::Local => " --local",
    };
    let order = settings
        .candidate_order
        .as_ref()
        .map_or_else(String::new, |id| format!(" --candidate-order {id}"));
    let target = target.map_or_else(String::new, |version| format!(" -t {version}"));
    let image = settings
        .image
        .as_ref()
        .map_or_else(String::new, |image| format!(" -w {image}"));
    format!(
        "milvus-guard upgrade {more}-i {} -n {}{target}{image}{milvus}{searched}{etcd}{help}{order}{place}",
        release.name, release.namespace
    )
}
