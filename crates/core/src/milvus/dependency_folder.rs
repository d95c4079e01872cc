//! The folders in which a dependency keeps its data, by the command line and the variables of its
//! container.

use crate::manifest::object::{Container, normal_path};

use super::{catalogue::ImageFolders, dependency::Family, image::ImageRef};

/// What a container says about the folders of its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataFolders {
    /// Absolute paths.
    Named(Vec<String>),
    /// The program runs without the setting, so it writes into its working folder.
    Unset,
    /// The image, a script or a file decides.
    Unknown,
}

impl DataFolders {
    /// Reads them from a container that runs the system itself. Without a word there, they are
    /// those of its image, if `defaults` knows it.
    #[must_use]
    pub fn of(family: Family, container: &Container, defaults: &[ImageFolders]) -> Self {
        let own = Self::set(family, container);
        if own != Self::Unknown || !is_bare(container) {
            return own;
        }
        let image = ImageRef::parse(&container.image);
        match defaults.iter().find(|row| row.describes(&image)) {
            Some(row) if row.folders.is_empty() => Self::Unset,
            Some(row) => Self::Named(row.folders.clone()),
            None => Self::Unknown,
        }
    }

    /// What the command line and the variables say.
    fn set(family: Family, container: &Container) -> Self {
        let words = words(container);
        match family {
            Family::Etcd => by_flag(container, &words, Some("ETCD_DATA_DIR"), "etcd"),
            Family::Tikv => by_flag(container, &words, None, "tikv-server"),
            Family::Minio | Family::Silo => of_server(container, &words),
            Family::Kafka => {
                let value = ["KAFKA_LOG_DIRS", "KAFKA_CFG_LOG_DIRS"]
                    .iter()
                    .find_map(|name| variable(container, name)?.1);
                value.map_or(Self::Unknown, |folders| Self::named(folders.split(',')))
            }
            _ => Self::Unknown,
        }
    }

    fn named<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        let paths: Vec<&str> = paths
            .map(|path| path.trim_matches(['"', '\'', ' ']))
            .filter(|path| !path.is_empty())
            .collect();
        let is_plain = |path: &&str| path.starts_with('/') && !path.contains(['$', '{', '*']);
        if paths.is_empty() || !paths.iter().all(is_plain) {
            return Self::Unknown;
        }
        Self::Named(paths.into_iter().map(normal_path).collect())
    }
}

/// Whether a container leaves everything to its image: no command line, no imported variables, and
/// no variable that could name a folder or a file.
fn is_bare(container: &Container) -> bool {
    let may_name = |name: &str| {
        ["DIR", "VOLUMES", "CONFIG_FILE", "CONF_FILE"]
            .iter()
            .any(|part| name.contains(part))
    };
    container.command.is_empty()
        && container.env_from.is_empty()
        && !container.env.iter().any(|(name, _)| may_name(name))
}

/// The words of the command line; those of a script one by one.
fn words(container: &Container) -> Vec<&str> {
    container
        .command
        .iter()
        .flat_map(|line| line.split_whitespace())
        .collect()
}

/// A variable with its value, which is absent if it comes from elsewhere.
fn variable<'a>(container: &'a Container, name: &str) -> Option<(&'a str, Option<&'a str>)> {
    container.env.iter().find(|(other, _)| *other == name)
}

/// `--data-dir`, or the variable; the flag wins.
fn by_flag(
    container: &Container,
    words: &[&str],
    name: Option<&str>,
    program: &str,
) -> DataFolders {
    let flag = |word: &str| {
        let word = word.trim_start_matches(['"', '\'']);
        word.strip_prefix("--")
            .or_else(|| word.strip_prefix('-'))
            .and_then(|word| word.strip_prefix("data-dir"))
            .map(str::to_owned)
    };
    let numbered = words.iter().enumerate();
    for (at, word) in numbered {
        match flag(word).as_deref() {
            Some("") => return DataFolders::named(words.get(at + 1).copied().into_iter()),
            Some(rest) if rest.starts_with('=') => {
                return DataFolders::named(rest.strip_prefix('=').into_iter());
            }
            _ => {}
        }
    }
    if let Some((_, value)) = name.and_then(|name| variable(container, name)) {
        return value.map_or(DataFolders::Unknown, |value| {
            DataFolders::named(std::iter::once(value))
        });
    }
    let reads_a_file = words
        .iter()
        .any(|word| word.trim_start_matches('-').starts_with("config"))
        || variable(container, "ETCD_CONFIG_FILE").is_some()
        || !container.env_from.is_empty();
    let runs_itself = container
        .command
        .first()
        .is_some_and(|first| first.rsplit('/').next() == Some(program));
    if runs_itself && !reads_a_file {
        DataFolders::Unset
    } else {
        DataFolders::Unknown
    }
}

/// Options of `minio server` without a value.
const SWITCHES: [&str; 8] = [
    "quiet",
    "q",
    "json",
    "anonymous",
    "compat",
    "no-compat",
    "insecure",
    "help",
];

/// The folders that `minio server` gets.
fn of_server(container: &Container, words: &[&str]) -> DataFolders {
    let mut rest = words
        .iter()
        .copied()
        .skip_while(|word| *word != "server")
        .skip(1);
    let mut folders = Vec::new();
    while let Some(word) = rest.next() {
        if matches!(word, "&" | "&&" | "|" | "||" | ";") {
            break;
        }
        match word.strip_prefix('-') {
            Some(option) => {
                let option = option.trim_start_matches('-');
                if !option.contains('=') && !SWITCHES.contains(&option) {
                    rest.next();
                }
            }
            None => folders.push(word),
        }
    }
    if folders.is_empty() {
        let value = ["MINIO_VOLUMES", "MINIO_DATA_DIR"]
            .iter()
            .find_map(|name| variable(container, name)?.1);
        return value.map_or(DataFolders::Unknown, |value| {
            DataFolders::named(value.split_whitespace())
        });
    }
    DataFolders::named(folders.into_iter())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::DataFolders;
    use crate::{
        milvus::{catalogue::Catalogue, dependency::Family},
        rules::testing::Fixture,
    };

    fn read(family: Family, fields: &str) -> DataFolders {
        let label = match family {
            Family::Kafka => "app.kubernetes.io/name: kafka",
            Family::Etcd => "app.kubernetes.io/name: etcd",
            _ => "app: minio",
        };
        let release = Fixture::cluster("2.5.16")
            .object(&format!(
                "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-x}}\nspec:\n  selector:\n    matchLabels: {{{label}, app.kubernetes.io/instance: my-release, release: my-release}}\n  template:\n    spec:\n      containers: [{{image: x, name: x, {fields}}}]\n"
            ))
            .release();
        let found = release
            .dependencies
            .first()
            .expect("the dependency is seen");
        let defaults = &Catalogue::embedded().dependencies.data_folders;
        DataFolders::of(family, found.containers()[0], defaults)
    }

    #[rstest]
    #[case(Family::Etcd, "command: [etcd, --data-dir=/d/]", Some("/d"))]
    #[case(Family::Etcd, "command: [etcd], args: [-data-dir, /d]", Some("/d"))]
    #[case(
        Family::Etcd,
        "command: [sh, -c, \"exec etcd --data-dir /d\"]",
        Some("/d")
    )]
    #[case(
        Family::Etcd,
        "command: [etcd], env: [{name: ETCD_DATA_DIR, value: /d}]",
        Some("/d")
    )]
    #[case(
        Family::Etcd,
        "command: [etcd, --data-dir=/d], env: [{name: ETCD_DATA_DIR, value: /e}]",
        Some("/d")
    )]
    #[case(Family::Etcd, "command: [etcd, \"--data-dir=$(DIR)\"]", None)]
    #[case(Family::Etcd, "command: [etcd, --config-file=/c]", None)]
    #[case(Family::Etcd, "env: [{name: X, value: y}]", None)]
    #[case(
        Family::Etcd,
        "command: [/usr/local/bin/etcd, --name=a]",
        Some("unset")
    )]
    #[case(
        Family::Minio,
        "args: [server, /data, --console-address, \":9001\"]",
        Some("/data")
    )]
    #[case(
        Family::Minio,
        "args: [server, --address, \":9000\", /data]",
        Some("/data")
    )]
    #[case(
        Family::Minio,
        "command: [/bin/sh, -ce, \"minio -S /certs/ server --quiet /export && true\"]",
        Some("/export")
    )]
    #[case(Family::Minio, "args: [server, /a, /b]", Some("/a /b"))]
    #[case(Family::Minio, "args: [server, \"http://m-{0...3}.m/export\"]", None)]
    #[case(
        Family::Minio,
        "env: [{name: MINIO_VOLUMES, value: /data}]",
        Some("/data")
    )]
    #[case(Family::Minio, "args: [gateway, gcs, acme]", None)]
    #[case(
        Family::Kafka,
        "env: [{name: KAFKA_LOG_DIRS, value: \"/k/a,/k/b\"}]",
        Some("/k/a /k/b")
    )]
    #[case(
        Family::Etcd,
        "image: \"bitnami/etcd:3.5.9\"",
        Some("/bitnami/etcd/data")
    )]
    #[case(
        Family::Etcd,
        "image: \"registry.example.com/mirror/milvusdb/etcd:3.5.25-r1\"",
        Some("/bitnami/etcd/data")
    )]
    #[case(Family::Etcd, "image: \"quay.io/coreos/etcd:v3.5.18\"", Some("unset"))]
    #[case(
        Family::Etcd,
        "image: \"bitnami/etcd:3.5.9\", env: [{name: ETCD_DATA_DIR, value: /d}]",
        Some("/d")
    )]
    #[case(
        Family::Etcd,
        "image: \"bitnami/etcd:3.5.9\", env: [{name: ETCD_CONF_FILE, value: /c}]",
        None
    )]
    #[case(
        Family::Etcd,
        "image: \"bitnami/etcd:3.5.9\", envFrom: [{configMapRef: {name: c}}]",
        None
    )]
    #[case(
        Family::Etcd,
        "image: \"bitnami/etcd:3.5.9\", command: [/run.sh]",
        None
    )]
    #[case(Family::Etcd, "image: \"mybitnami/etcd:3.5.9\"", None)]
    #[case(
        Family::Minio,
        "image: \"bitnami/minio:2023.3.24\"",
        Some("/bitnami/minio/data /data")
    )]
    fn folders(#[case] family: Family, #[case] fields: &str, #[case] expected: Option<&str>) {
        let seen = match read(family, fields) {
            DataFolders::Named(paths) => Some(paths.join(" ")),
            DataFolders::Unset => Some("unset".to_owned()),
            DataFolders::Unknown => None,
        };
        assert_eq!(seen.as_deref(), expected);
    }
}
