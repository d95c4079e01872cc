//! The messages of a run that stops, and the Helm command that agrees with the running state.

use crate::engine::{RunLocation, RunSettings, StopMessage};
use milvus_guard_core::{
    milvus::{Build, ImageRef, Release, Topology, catalogue::Catalogue},
    upgrade_path::{PathRequest, plan},
};

use super::{
    context::MigrationData,
    plan::Step,
    settings::{Operation, Settings, StartBy},
};

/// The state of the data and the next command, for a run that stops in this step.
#[must_use]
pub fn stop_message(step: Step, migration: &MigrationData, back: bool) -> StopMessage {
    if back {
        return StopMessage {
            data_state: data_back(step, migration),
            next_command: command(&migration.settings, "-o rollback "),
        };
    }
    let go_on = command(&migration.settings, "");
    let or_back = format!(
        "{go_on} (resumes), or {} (rolls back)",
        command(&migration.settings, "-o rollback ")
    );
    let file = migration.backup_location();
    let (data, next) = match step {
        Step::Check | Step::Record => ("Nothing was changed.".into(), go_on),
        Step::CheckMigrated => ("Nothing was changed.".into(), command(&migration.settings, "--record-only ")),
        Step::Stop | Step::AwaitSessions | Step::Backup => {
            ("Milvus is stopped or stopping; the 2.1 metadata is unchanged.".into(), or_back)
        }
        Step::Migrate | Step::MigrateByTool | Step::Verify => (
            format!(
                "Milvus is stopped; the metadata may be partly migrated, and neither 2.1 nor 2.2 may start on it. The backup is {file}."
            ),
            or_back,
        ),
        Step::RecordEvidence if migration.operation == Operation::Record => (recorded(migration), go_on),
        Step::RecordEvidence | Step::StartByHelm => {
            ("The metadata is that of 2.2, verified; 2.1 must not start on it. Milvus is stopped.".into(), or_back)
        }
        Step::Start(_) | Step::HandOver => {
            ("The metadata is that of 2.2, verified; 2.1 must not start on it. Milvus is being started.".into(), or_back)
        }
        // Also the message at the end of the run.
        Step::CleanUp => (reached(migration), go_on),
    };
    StopMessage {
        data_state: data,
        next_command: next,
    }
}

fn data_back(step: Step, migration: &MigrationData) -> String {
    let file = migration.backup_location();
    match step {
        Step::Migrate | Step::MigrateByTool => {
            format!(
                "Milvus is stopped; the metadata may be partly restored, and neither 2.1 nor 2.2 may start on it. The backup is {file}."
            )
        }
        Step::Verify
        | Step::RecordEvidence
        | Step::StartByHelm
        | Step::Start(_)
        | Step::HandOver
        | Step::CleanUp => {
            "The metadata is still that of 2.2, or being restored; 2.1 must not start on it.".into()
        }
        Step::AwaitSessions | Step::Backup => {
            "Milvus is stopped; the metadata is that of 2.1 again.".into()
        }
        Step::Record | Step::Stop => {
            "The metadata is that of 2.1 again; Milvus is being started as it was.".into()
        }
        // Also the message at the end of a rollback.
        Step::Check | Step::CheckMigrated => taken_back(migration),
    }
}

/// The final message of a run that was rolled back.
fn taken_back(migration: &MigrationData) -> String {
    let Settings {
        run: RunSettings { release, .. },
        source,
        ..
    } = &migration.settings;
    format!(
        "Milvus is restored: it runs with the recorded images and replicas on the metadata of \
         {source}. If Helm upgraded the release in between, roll that back too: helm rollback {} \
         -n {}",
        release.name, release.namespace
    )
}

/// The final message of a run that reached its plan.
fn reached(migration: &MigrationData) -> String {
    let Settings {
        run: RunSettings { release, .. },
        target,
        start,
        ..
    } = &migration.settings;
    let done = format!(
        "{} runs {target}: the metadata is that of 2.2, verified.",
        release.name
    );
    let backup = format!("The backup of 2.1 is {}.", migration.backup_location());
    match start {
        StartBy::Helm => format!("{done} {backup}"),
        StartBy::Run => format!(
            "{done} {backup} Helm's values still have the old image: set the image {} in them, so \
             that a later upgrade does not downgrade Milvus, for example: {}",
            migration.image,
            agree(&migration.release, &migration.settings, &migration.image)
        ),
    }
}

/// The final message of a run that only recorded evidence.
fn recorded(migration: &MigrationData) -> String {
    format!(
        "The metadata of {} is that of 2.2, and the evidence is recorded: milvus-guard allows {} \
         to start on it. Next: {}",
        migration.settings.run.release.name,
        migration.settings.target,
        agree(&migration.release, &migration.settings, &migration.image)
    )
}

/// The message that it is Helm's turn.
#[must_use]
pub fn turn_of_helm(migration: &MigrationData) -> String {
    format!(
        "The metadata is that of 2.2, verified, and Milvus is stopped until Helm starts it. Run: {} and then, to close the run: {}",
        agree(&migration.release, &migration.settings, &migration.image),
        command(&migration.settings, "")
    )
}

/// This command with more flags.
#[must_use]
pub fn command(settings: &Settings, more: &str) -> String {
    let Settings {
        run: RunSettings { release, .. },
        source,
        target,
        ..
    } = settings;
    let root = settings
        .root_path
        .as_deref()
        .map_or_else(String::new, |root| format!(" -r {root}"));
    let start = if settings.start == StartBy::Helm {
        " --start helm"
    } else {
        ""
    };
    let local = match settings.location {
        RunLocation::Job => "",
        RunLocation::Local => " --local",
    };
    format!(
        "milvus-guard migrate {more}-i {} -n {} -s {source} -t {target}{root}{start}{local}",
        release.name, release.namespace
    )
}

/// How to make the source of the release agree with the new image: the `helm upgrade`, or the place
/// where the image must be set.
fn agree(release: &Release, settings: &Settings, image: &str) -> String {
    helm(release, settings, image).unwrap_or_else(|| {
        let alias = release
            .manager
            .alias()
            .map_or_else(String::new, |alias| format!(" below {alias}"));
        format!(
            "set the image {image} in the Helm values{alias}, in the source of the release, with \
             a chart for {}",
            settings.target
        )
    })
}

/// The `helm upgrade` that makes the Helm release agree with the new image; `None` if the release
/// is not made by Helm alone, or if no chart is known.
#[must_use]
pub fn helm(release: &Release, settings: &Settings, image: &str) -> Option<String> {
    let configured = |value: String| release.has_config().then_some(value);
    let journey = PathRequest {
        release: settings.run.release.name.clone(),
        namespace: settings.run.release.namespace.clone(),
        from: Build::of(settings.source),
        to: Build::of(settings.target),
        topology: Topology::Cluster,
        coordinators: Some(release.coordinators()),
        metastore: configured(release.metadata().metastore.value.into_owned()),
        root_path: configured(release.metadata().root_path.value.into_owned()),
        queue: configured(release.queue().kind.value.to_string()),
        woodpecker_storage: None,
        manager: release.manager.clone(),
    };
    let planned = plan(&journey, Catalogue::embedded());
    let command = planned
        .stops
        .first()?
        .commands
        .iter()
        .find(|command| command.starts_with("helm "))?
        .clone();
    let image = ImageRef::parse(image);
    let tag = image.tag.clone().unwrap_or_default();
    let (command, rest) = command
        .split_once(" --set ")
        .map_or((command.as_str(), ""), |(command, values)| {
            (command, values)
        });
    let mut values = vec![
        format!("image.all.repository={}", image.repository),
        format!("image.all.tag={tag}"),
    ];
    values.extend(
        rest.split(',')
            .filter(|value| !value.is_empty() && !value.starts_with("image.all."))
            .map(str::to_owned),
    );
    Some(format!("{command} --set {}", values.join(",")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::engine::EtcdAccess;
    use milvus_guard_core::{milvus::Manager, rules::testing::Fixture};

    pub(crate) fn settings() -> Settings {
        Settings {
            run: RunSettings::sample(),
            source: "2.1.4".parse().unwrap(),
            target: "2.2.16".parse().unwrap(),
            root_path: None,
            image: None,
            tool_image: None,
            etcd: EtcdAccess::default(),
            start: StartBy::Run,
            accept_data_loss: false,
            backup_dir: "/backup".into(),
            backup_claim: None,
            location: RunLocation::Job,
        }
    }

    #[test]
    fn the_helm_command_names_the_image_that_runs() {
        let release = Fixture::cluster("2.1.4")
            .chart("3.2.18")
            .default_yaml("etcd: {rootPath: by-dev}")
            .release();
        let command = helm(&release, &settings(), "registry:5000/milvus:v2.2.16").unwrap();
        assert!(
            command
                .starts_with("helm upgrade my-release zilliztech/milvus -n milvus --version 4.0."),
            "{command}"
        );
        assert!(
            command
                .contains("--set image.all.repository=registry:5000/milvus,image.all.tag=v2.2.16"),
            "{command}"
        );
        assert_eq!(command.matches("image.all.tag").count(), 1);
        let operated = Release {
            manager: Manager::operator("my-release"),
            ..release
        };
        assert_eq!(
            helm(&operated, &settings(), "registry:5000/milvus:v2.2.16"),
            None
        );
    }

    #[test]
    fn the_next_command_has_the_same_flags() {
        let settings = Settings {
            root_path: Some("other".into()),
            start: StartBy::Helm,
            ..settings()
        };
        let expected =
            "milvus-guard migrate -i my-release -n milvus -s 2.1.4 -t 2.2.16 -r other --start helm";
        assert_eq!(command(&settings, ""), expected);
    }
}
