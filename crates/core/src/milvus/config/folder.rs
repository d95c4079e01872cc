//! Where a container looks for its configuration: the folder, and which files in it count.

use crate::{
    manifest::object::{Container, Workload, normal_path},
    milvus::{
        build::Build,
        identify::{CONFIGURATION_FOLDERS, CONFIGURATION_VARIABLE, assignments},
        version::Version,
    },
};

/// The first version that reads `default.yaml` and `user.yaml` directly; charts 3.3.2 to 4.1.36
/// merge them into `milvus.yaml` for older ones with an init container (milvus-helm README, chart
/// 4.2.0).
const READS_ALL_FILES: Version = Version::new(2, 4, 0);
/// Below this version nothing is known about how files are read, so nothing is left out.
const FIRST_WITH_FILES: Version = Version::new(2, 0, 0);

/// Where a container looks for its configuration.
pub(super) struct Folder {
    pub(super) path: String,
    /// A single file in place of `milvus.yaml`.
    pub(super) lowest: Option<String>,
}

impl Folder {
    /// `--config` and `MILVUSCONF` name another folder or file; bitnami's image has another one.
    pub(super) fn of(container: &Container) -> Self {
        let [official, bitnami] = CONFIGURATION_FOLDERS;
        let is_mounted = |folder: &str| {
            container
                .mounts
                .iter()
                .any(|mount| below(folder, &mount.path).is_some())
        };
        let default = if is_mounted(bitnami) && !is_mounted(official) {
            bitnami
        } else {
            official
        };
        let variable = container
            .env
            .iter()
            .filter(|(name, _)| *name == CONFIGURATION_VARIABLE)
            .last()
            .and_then(|(_, value)| value);
        let assigned = assignments(container)
            .into_iter()
            .rfind(|(name, _)| *name == CONFIGURATION_VARIABLE);
        let variable = assigned.map_or(variable, |(_, value)| {
            Some(value.unwrap_or("a folder that a shell names"))
        });
        let named = flag(container).or(variable
            .filter(|value| !value.is_empty())
            .map(str::to_owned));
        match named {
            Some(path)
                if path
                    .rsplit_once('.')
                    .is_some_and(|(_, extension)| matches!(extension, "yaml" | "yml")) =>
            {
                let folder = path
                    .rsplit_once('/')
                    .map_or(default, |(folder, _)| folder)
                    .to_owned();
                Self {
                    path: normal_path(&folder),
                    lowest: Some(normal_path(&path)),
                }
            }
            Some(path) => Self {
                path: normal_path(&path),
                lowest: None,
            },
            None => Self {
                path: default.to_owned(),
                lowest: None,
            },
        }
    }
}

/// The value of `--config`, in the forms that Go's flags take. Of several the last counts.
fn flag(container: &Container) -> Option<String> {
    let words: Vec<&str> = container
        .command
        .iter()
        .flat_map(|text| text.split_whitespace())
        .collect();
    words.iter().enumerate().rev().find_map(|(at, word)| {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
        match name.split_once('=') {
            Some(("config", value)) => Some(value.to_owned()),
            None if name == "config" => words.get(at + 1).map(|value| (*value).to_owned()),
            _ => None,
        }
    })
}

/// The rest of a path below a folder; `None` if it lies elsewhere. The folder itself has an empty
/// rest.
pub(crate) fn below<'a>(folder: &str, path: &'a str) -> Option<&'a str> {
    let folder = folder.trim_end_matches('/');
    let rest = path.strip_prefix(folder)?;
    if rest.is_empty() {
        Some("")
    } else {
        rest.strip_prefix('/').map(|rest| rest.trim_matches('/'))
    }
}

/// Whether all three files count: the version reads them, or something merges them before it
/// starts.
pub(super) fn reads_all_files(
    workload: &Workload,
    container: &Container,
    build: Option<&Build>,
) -> bool {
    let merges = |word: &String| {
        word.contains("/milvus/tools/") || word.contains("run-helm.sh") || word.contains("merge")
    };
    build.is_none_or(|build| build.version >= READS_ALL_FILES || build.version < FIRST_WITH_FILES)
        || container.command.iter().any(merges)
        || workload.pod.init_containers.iter().any(|init| init.image.contains("config-tool") || init.command.iter().any(merges))
        // Without any mount the input is not complete.
        || container.mounts.is_empty()
}
