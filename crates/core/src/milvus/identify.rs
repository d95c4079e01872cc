//! Which containers run Milvus, and which component each of them is. Every door asks here.
//!
//! A container runs Milvus if its command line says so (`milvus run ROLE`, also behind a shell or
//! an entrypoint), if its image is one of Milvus and nothing else is started, or, where no
//! container of the pod does either, if it mounts a Milvus configuration: a wrapper image, whose
//! version is unknown. Names of charts and releases never decide.

use crate::manifest::object::{Container, PodTemplate, Workload};

use super::{component::Component, image::ImageRef, shell::code};

/// A container that runs Milvus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MilvusContainer {
    /// Its position in the pod.
    pub at: ContainerAt,
    /// What it runs.
    pub component: Component,
    /// How that is known.
    pub by: IdentifiedBy,
}

/// The position of a container in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerAt {
    /// Position in `containers`.
    Main(usize),
    /// Position in `initContainers`.
    Init(usize),
}

/// How a container was identified; the first is the surest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IdentifiedBy {
    /// Its command line starts Milvus.
    Command,
    /// Its image is one of Milvus.
    Image,
    /// It mounts a configuration of Milvus: the tag of its image is not a version of Milvus.
    Configuration,
}

impl ContainerAt {
    /// The container.
    #[must_use]
    pub fn of(self, pod: &PodTemplate) -> Option<&Container> {
        match self {
            Self::Main(at) => pod.containers.get(at),
            Self::Init(at) => pod.init_containers.get(at),
        }
    }
}

/// Folders in which images of Milvus keep their configuration: the official one, and bitnami's.
pub const CONFIGURATION_FOLDERS: [&str; 2] = ["/milvus/configs", "/opt/bitnami/milvus/configs"];

/// The variable that names another folder.
pub const CONFIGURATION_VARIABLE: &str = "MILVUSCONF";

/// The containers of a workload that run Milvus, main containers first.
#[must_use]
pub fn milvus_containers(workload: &Workload) -> Vec<MilvusContainer> {
    let pod = &workload.pod;
    let all = || {
        let main = pod
            .containers
            .iter()
            .enumerate()
            .map(|(at, container)| (ContainerAt::Main(at), container));
        main.chain(
            pod.init_containers
                .iter()
                .enumerate()
                .map(|(at, container)| (ContainerAt::Init(at), container)),
        )
    };
    let is_job = matches!(workload.meta.object.kind.as_str(), "Job" | "CronJob");
    let mut known: Vec<MilvusContainer> = Vec::new();
    let mut helpers: Vec<MilvusContainer> = Vec::new();
    for (at, container) in all() {
        let Some((component, by, is_helper)) = by_command_or_image(workload, at, container) else {
            continue;
        };
        let found = MilvusContainer { at, component, by };
        if is_helper {
            helpers.push(found);
        } else {
            known.push(found);
        }
    }
    // Another command next to Milvus itself, or in a job, is a helper; alone it is a wrapper of
    // Milvus.
    let runs_beside = |one: &MilvusContainer| {
        one.by == IdentifiedBy::Command
            && (matches!(one.at, ContainerAt::Main(_))
                || one.at.of(pod).is_some_and(|container| container.restarts))
    };
    if !is_job && !known.iter().any(runs_beside) {
        known.extend(helpers);
        known.sort_by_key(|one| one.at);
    }
    if !known.is_empty() {
        return known;
    }
    let by_mount = all().find(|(at, container)| {
        (matches!(at, ContainerAt::Main(_)) || container.restarts)
            && mounts_configuration(container)
    });
    let found = by_mount.map(|(at, container)| MilvusContainer {
        at,
        component: component_by_name(workload, container),
        by: IdentifiedBy::Configuration,
    });
    found.into_iter().collect()
}

fn by_command_or_image(
    workload: &Workload,
    at: ContainerAt,
    container: &Container,
) -> Option<(Component, IdentifiedBy, bool)> {
    let image = image_kind(&container.image);
    let by_name = || component_by_name(workload, container);
    match Started::by(container, image) {
        Started::Component(component) => Some((component, IdentifiedBy::Command, false)),
        Started::Milvus => Some((by_name(), IdentifiedBy::Command, false)),
        // An init container with Milvus' image and a separate command copies files.
        Started::SomethingElse if matches!(at, ContainerAt::Init(_)) && !container.restarts => None,
        // A helper process of an image of Milvus in a pod that runs something else, such as one
        // that waits.
        Started::SomethingElse
            if image != ImageKind::Milvus || runs_a_tool(container) || is_harmless(container) =>
        {
            None
        }
        Started::SomethingElse => {
            Some((by_name(), IdentifiedBy::Image, is_plain_command(container)))
        }
        Started::Nothing if image == ImageKind::Milvus => {
            Some((by_name(), IdentifiedBy::Image, false))
        }
        Started::Nothing => None,
    }
}

/// Whether a container, seen alone, seems to run Milvus. What it is in its pod may still say
/// otherwise.
#[must_use]
pub fn may_run_milvus(container: &Container) -> bool {
    let image = image_kind(&container.image);
    image == ImageKind::Milvus
        || matches!(
            Started::by(container, image),
            Started::Component(_) | Started::Milvus
        )
        || mounts_configuration(container)
}

/// What a container's command line starts.
enum Started {
    /// A component.
    Component(Component),
    /// Milvus, without a role that is known.
    Milvus,
    /// Another program.
    SomethingElse,
    /// There is no command line: the image decides.
    Nothing,
}

impl Started {
    fn by(container: &Container, image: ImageKind) -> Self {
        if container.command.is_empty() {
            return Self::Nothing;
        }
        let expanded: Vec<String> = container
            .command
            .iter()
            .map(|word| with_variables(word, container))
            .collect();
        let words: Vec<&str> = expanded
            .iter()
            .flat_map(|text| code(text))
            .flat_map(str::split_whitespace)
            .map(bare)
            .collect();
        for (at, word) in words.iter().enumerate() {
            let rest = words.get(at + 1..).unwrap_or_default();
            if is_milvus(word) && rest.first() == Some(&"run") {
                return role(rest).map_or(Self::Milvus, Self::Component);
            }
            if word.ends_with("milvus_server") {
                return Self::Milvus;
            }
        }
        // An entrypoint that is Milvus itself leaves only its arguments: `run proxy` (bitnami).
        let is_entrypoint = words.first() == Some(&"run")
            && (image == ImageKind::Milvus || mounts_configuration(container));
        match role(&words) {
            Some(component) if is_entrypoint => Self::Component(component),
            _ if is_entrypoint => Self::Milvus,
            _ => Self::SomethingElse,
        }
    }
}

/// Whether a word is the program of Milvus.
fn is_milvus(word: &str) -> bool {
    matches!(word.rsplit('/').next(), Some("milvus" | "milvus_server"))
}

/// Whether a command of a shell starts Milvus.
pub(super) fn starts_milvus(command: &str) -> bool {
    let words: Vec<&str> = command.split_whitespace().map(bare).collect();
    words.iter().any(|word| word.ends_with("milvus_server"))
        || words
            .windows(2)
            .any(|pair| matches!(pair, [program, "run"] if is_milvus(program)))
}

/// The role after `run`: the first word that names one, so that flags with values do no harm.
fn role(words: &[&str]) -> Option<Component> {
    let end = words
        .iter()
        .position(|word| matches!(*word, "&&" | "||" | ";" | "|"))
        .unwrap_or(words.len());
    words
        .get(..end)?
        .iter()
        .filter(|word| !word.starts_with('-'))
        .find_map(|word| match *word {
            "mixture" | "mixcoord" => Some(Component::MixCoord),
            "embedded" => Some(Component::Standalone),
            role => role.parse().ok(),
        })
}

/// A word of a shell's command line without quotes and the marks that end a command.
pub(super) fn bare(word: &str) -> &str {
    word.trim_matches(|mark: char| matches!(mark, '"' | '\'' | ';' | '&' | '(' | ')' | '`'))
}

/// Variables that a command line sets for Milvus, before it or by `env` and `export`, each with its
/// value; `None` if a shell makes the value.
#[must_use]
pub fn assignments(container: &Container) -> Vec<(&str, Option<&str>)> {
    assignments_in(container.command.iter().map(String::as_str))
}

/// The same of texts that run one after the other.
pub(super) fn assignments_in<'t>(
    texts: impl Iterator<Item = &'t str>,
) -> Vec<(&'t str, Option<&'t str>)> {
    let words = texts.flat_map(code).flat_map(str::split_whitespace);
    let before = words.take_while(|word| !is_milvus(bare(word)));
    before.filter_map(assignment).collect()
}

fn assignment(word: &str) -> Option<(&str, Option<&str>)> {
    let (name, value) = word
        .trim_start_matches(['"', '\'', '(', '`'])
        .split_once('=')?;
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
    let value = value.trim_end_matches([';', '&', ')']);
    let quoted = ['"', '\'']
        .into_iter()
        .find_map(|mark| value.strip_prefix(mark)?.strip_suffix(mark));
    let plain =
        Some(quoted.unwrap_or(value)).filter(|value| !value.contains(['$', '`', '"', '\'', '\\']));
    is_name.then_some((name, plain))
}

/// A word with the container's own variables put in, in the notations of Kubernetes (`$(A)`) and of
/// shells (`$A`, `${A}`).
fn with_variables(word: &str, container: &Container) -> String {
    if !word.contains('$') {
        return word.to_owned();
    }
    let mut text = word.to_owned();
    for (name, value) in container.env.iter() {
        let Some(value) = value.filter(|value| value.len() <= MAX_VALUE) else {
            continue;
        };
        for form in [
            format!("$({name})"),
            format!("${{{name}}}"),
            format!("${name}"),
        ] {
            if text.contains(&form) {
                text = text.replace(&form, value);
            }
        }
        if text.len() > MAX_WORD {
            return word.to_owned();
        }
    }
    text
}

/// A variable that is longer names no role.
const MAX_VALUE: usize = 256;
/// A command line that grows beyond this is left as it is written.
const MAX_WORD: usize = 64 * 1024;

/// Whether a command line starts a program that only looks at Milvus or prepares for it.
fn runs_a_tool(container: &Container) -> bool {
    let first = container
        .command
        .iter()
        .flat_map(|text| code(text))
        .flat_map(str::split_whitespace)
        .next()
        .map(bare)
        .unwrap_or_default();
    let program = first.rsplit('/').next().unwrap_or_default();
    let is_shell = matches!(program, "sh" | "bash" | "ash" | "dash" | "env" | "exec");
    let is_script = program
        .rsplit_once('.')
        .is_some_and(|(_, extension)| extension == "sh");
    !(is_shell
        || is_script
        || matches!(
            program,
            "tini" | "dumb-init" | "milvus" | "start" | "entrypoint"
        ))
}

/// The text that a shell runs (`sh -c TEXT`) if the command line is that and nothing else.
fn shell_text(container: &Container) -> Option<&str> {
    let words: Vec<&str> = container.command.iter().map(String::as_str).collect();
    let words = match words.as_slice() {
        [
            "tini" | "/tini" | "/sbin/tini" | "dumb-init",
            "--",
            rest @ ..,
        ] => rest,
        all => all,
    };
    let [shell, flags @ .., text] = words else {
        return None;
    };
    let (folder, name) = shell.rsplit_once('/').unwrap_or(("", shell));
    let is_shell = matches!(folder, "" | "/bin" | "/usr/bin")
        && matches!(name, "sh" | "bash" | "ash" | "dash");
    // `-l` and `-i` run files before the text.
    let is_flag = |flag: &&str| {
        flag.strip_prefix('-')
            .is_some_and(|letters| letters.bytes().all(|letter| b"ceux".contains(&letter)))
    };
    let runs_text = flags.iter().all(is_flag) && flags.iter().any(|flag| flag.contains('c'));
    (is_shell && runs_text).then_some(*text)
}

/// Programs that start no other program.
const HARMLESS: [&str; 35] = [
    ":", "[", "cat", "cd", "chmod", "chown", "cmp", "cp", "curl", "date", "df", "diff", "du",
    "echo", "exit", "false", "grep", "head", "hostname", "id", "ls", "mkdir", "mv", "printf",
    "pwd", "rm", "set", "sleep", "stat", "sync", "tail", "test", "true", "wait", "wc",
];

/// Whether a command line is the text of a shell that plainly starts nothing but [`HARMLESS`]
/// programs. Anything that a shell would expand, quote or escape could name another one.
fn is_harmless(container: &Container) -> bool {
    /// Words before a command.
    const BEFORE: [&str; 9] = [
        "while", "until", "if", "then", "elif", "else", "do", "!", "exec",
    ];
    /// Words that end a compound command.
    const ALONE: [&str; 2] = ["done", "fi"];
    let Some(text) = shell_text(container) else {
        return false;
    };
    // These change what a shell or a program's name starts.
    let is_changed = container.env.iter().any(|(name, _)| {
        name.starts_with("BASH_") || name.starts_with("LD_") || matches!(name, "ENV" | "PATH")
    }) || !container.env_from.is_empty();
    let is_plain =
        |letter: char| letter.is_ascii_alphanumeric() || " \t\n;&|/.,:_-=+*<>![]".contains(letter);
    if is_changed || !text.chars().all(is_plain) {
        return false;
    }
    text.split([';', '&', '|', '\n']).all(|command| {
        let mut words = command.split_whitespace().peekable();
        while words.next_if(|word| BEFORE.contains(word)).is_some() {}
        let Some(program) = words.next() else {
            return true;
        };
        if ALONE.contains(&program) {
            return words.next().is_none();
        }
        let (folder, name) = program.rsplit_once('/').unwrap_or(("", program));
        // Milvus under the name of another program still has to be told to run.
        matches!(folder, "" | "/bin" | "/usr/bin")
            && HARMLESS.contains(&name)
            && words.all(|word| word != "run" && (word.contains('/') || !word.contains(['*', '['])))
    })
}

/// Whether a command line names what it starts, and does not leave it to a shell to make the name.
/// Milvus under any name still has to be told to run.
fn is_plain_command(container: &Container) -> bool {
    let is_plain =
        |letter: char| letter.is_ascii_alphanumeric() || " \t\n;&|/.,:_-=+@%<>![]".contains(letter);
    let words = || {
        let texts = container.command.iter();
        texts.flat_map(|text| text.split_whitespace()).map(bare)
    };
    container
        .command
        .iter()
        .all(|text| text.chars().all(is_plain))
        && words().all(|word| !matches!(word, "eval" | "source" | "." | "run"))
}

/// What an image's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ImageKind {
    Milvus,
    Other,
}

/// Words that a build of Milvus may carry in the name of its image.
const BUILD_WORDS: [&str; 18] = [
    "dev",
    "gpu",
    "cpu",
    "arm64",
    "amd64",
    "hardened",
    "secure",
    "fips",
    "ubi",
    "ubi8",
    "ubi9",
    "debian",
    "ubuntu",
    "alpine",
    "custom",
    "patched",
    "standalone",
    "enterprise",
];

/// Whether the name of an image is one of Milvus, so that its tag counts the versions of Milvus.
#[must_use]
pub fn is_milvus_image(image: &str) -> bool {
    image_kind(image) == ImageKind::Milvus
}

/// Whether an image is one of Milvus by the last part of its repository: `milvus`,
/// `milvusdb-milvus` (a mirror without folders), or `milvus-gpu` and similar ones. Tools around
/// Milvus (`milvus-backup`, `milvus-operator`) are not.
fn image_kind(image: &str) -> ImageKind {
    let reference = ImageRef::parse(image);
    let name = reference.name().to_ascii_lowercase();
    let mut words = name
        .split(['-', '_', '.'])
        .filter(|word| !word.is_empty())
        .peekable();
    if words.peek() == Some(&"milvusdb") {
        words.next();
    }
    let is_milvus = words.next() == Some("milvus") && words.all(|word| BUILD_WORDS.contains(&word));
    if is_milvus {
        ImageKind::Milvus
    } else {
        ImageKind::Other
    }
}

/// Whether a container mounts the configuration of Milvus, or says where it lies.
fn mounts_configuration(container: &Container) -> bool {
    let is_configuration = |path: &str| {
        CONFIGURATION_FOLDERS.iter().any(|folder| {
            path.strip_prefix(folder)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    container
        .mounts
        .iter()
        .any(|mount| is_configuration(mount.path.trim_end_matches('/')))
        || container
            .env
            .iter()
            .any(|(name, _)| name == CONFIGURATION_VARIABLE)
}

/// The component that labels and names say; a workload without either runs all in one.
fn component_by_name(workload: &Workload, container: &Container) -> Component {
    let labels = [
        &workload.selector,
        &workload.pod.labels,
        &workload.meta.labels,
    ];
    let by_label = labels.into_iter().find_map(|labels| {
        ["component", "app.kubernetes.io/component"]
            .iter()
            .find_map(|key| component_of_word(labels.get(key)?))
    });
    by_label
        .or_else(|| component_of_word(&container.name))
        .or_else(|| {
            workload
                .meta
                .object
                .name
                .rsplit('-')
                .find_map(component_of_word)
        })
        .unwrap_or(Component::Standalone)
}

/// A component by the names of charts: also `data-node`, `queryNode` and `data-coordinator`
/// (bitnami).
pub(super) fn component_of_word(word: &str) -> Option<Component> {
    let plain: String = word
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_lowercase();
    let plain = plain.strip_suffix("inator").unwrap_or(&plain);
    plain.parse().ok()
}

/// The component that a workload runs, if any; of several the one whose container is the surest.
#[must_use]
pub fn component(workload: &Workload) -> Option<Component> {
    milvus_containers(workload)
        .into_iter()
        .min_by_key(|found| found.by)
        .map(|found| found.component)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::manifest::{Object, Origin, documents};
    use Component::{DataNode, MixCoord, Proxy, QueryNode, Standalone};

    fn workload(kind: &str, pod: &str) -> Workload {
        let indented: String = pod.lines().map(|line| format!("      {line}\n")).collect();
        let spec = match kind {
            "Pod" => format!("spec:\n{indented}"),
            "CronJob" => {
                let deep: String = pod
                    .lines()
                    .map(|line| format!("            {line}\n"))
                    .collect();
                format!("spec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n{deep}")
            }
            _ => format!("spec:\n  template:\n    spec:\n{indented}"),
        };
        let text = format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: vectors}}\n{spec}");
        let document = documents(&text).next().unwrap().unwrap();
        let origin = Origin {
            source: "x".into(),
            document: 1,
            line: 0,
        };
        let Some(Object::Workload(workload)) = Object::read(&document.root, &origin, None) else {
            panic!("{text}")
        };
        Workload::clone(&workload)
    }

    fn found(pod: &str) -> Vec<(ContainerAt, Component, IdentifiedBy)> {
        milvus_containers(&workload("Deployment", pod))
            .into_iter()
            .map(|one| (one.at, one.component, one.by))
            .collect()
    }

    fn one(container: &str) -> Option<(Component, IdentifiedBy)> {
        let found = found(&format!("containers:\n  - {{name: a, {container}}}"));
        assert!(found.len() < 2);
        found.first().map(|(_, component, by)| (*component, *by))
    }

    #[rstest]
    #[case("image: \"x:1\", args: [milvus, run, proxy]", Proxy)]
    #[case(
        "image: \"x:1\", command: [/milvus/tools/run-helm.sh, milvus, run, querynode]",
        QueryNode
    )]
    #[case(
        "image: \"x:1\", command: [/tini, --, /milvus/bin/milvus, run, standalone]",
        Standalone
    )]
    #[case(
        "image: \"x:1\", command: [sh, -c, \"exec milvus run datanode; sleep 1\"]",
        DataNode
    )]
    #[case(
        "image: \"x:1\", command: [sh, -c, \"cd /milvus && ./bin/milvus run 'datanode'\"]",
        DataNode
    )]
    #[case(
        "image: \"x:1\", args: [milvus, run, mixture, -rootcoord, -querycoord]",
        MixCoord
    )]
    #[case("image: \"x:1\", args: [milvus, run, -alias, one, proxy]", Proxy)]
    #[case(
        "image: \"x:1\", args: [milvus, run, --config, /etc/milvus, proxy]",
        Proxy
    )]
    #[case(
        "image: \"x:1\", args: [milvus, run, \"$(ROLE)\"], env: [{name: ROLE, value: proxy}]",
        Proxy
    )]
    #[case(
        "image: \"x:1\", command: [sh, -c, \"milvus run ${ROLE}\"], env: [{name: ROLE, value: proxy}]",
        Proxy
    )]
    #[case(
        "image: \"bitnami/milvus:2.4.5-debian-12-r0\", args: [run, proxy]",
        Proxy
    )]
    #[case(
        "image: \"corp/search:7\", args: [run, proxy], volumeMounts: [{name: c, mountPath: /milvus/configs/user.yaml}]",
        Proxy
    )]
    fn by_command(#[case] container: &str, #[case] component: Component) {
        assert_eq!(one(container), Some((component, IdentifiedBy::Command)));
    }

    #[rstest]
    #[case("[milvus, run, proxy]", &[])]
    #[case("[sh, -c, \"A_B=x exec milvus run proxy\"]", &[("A_B", Some("x"))])]
    #[case("[sh, -c, \"export A='x' B=$C; /milvus/bin/milvus run proxy D=y\"]", &[("A", Some("x")), ("B", None)])]
    #[case("[env, etcd.rootPath=x, milvus, run, proxy]", &[("etcd.rootPath", Some("x"))])]
    #[case("[sh, -c, \"A='x y' milvus run proxy\"]", &[("A", None)])]
    #[case("[sh, -c, \"[ $A == b ] && ./tool --a=b && milvus run proxy --c=d\"]", &[])]
    #[case("[sh, -c, \"A=x /start.sh\"]", &[("A", Some("x"))])]
    fn variables_of_a_command_line(
        #[case] command: &str,
        #[case] expected: &[(&str, Option<&str>)],
    ) {
        let workload = workload(
            "Deployment",
            &format!("containers:\n  - {{name: a, image: x, command: {command}}}"),
        );
        assert_eq!(assignments(&workload.pod.containers[0]), expected);
    }

    #[rstest]
    #[case("image: \"milvusdb/milvus:v2.4.5\"")]
    #[case("image: \"registry.example.com:5000/mirror/milvusdb-milvus:v2.4.5\"")]
    #[case("image: \"milvusdb/milvus:1.1.1-cpu-d061621-330cc6\"")]
    #[case("image: \"corp/milvus-hardened:2.4.5\", command: [/start.sh]")]
    #[case("image: \"milvusdb/milvus:v2.4.5\", command: [bash, /scripts/wait-and-start.sh]")]
    fn by_image(#[case] container: &str) {
        assert_eq!(one(container), Some((Standalone, IdentifiedBy::Image)));
    }

    #[rstest]
    #[case(
        "image: \"corp/vector-database:7\", volumeMounts: [{name: c, mountPath: /milvus/configs/milvus.yaml}]"
    )]
    #[case(
        "image: \"corp/vector-database:7\", volumeMounts: [{name: c, mountPath: /milvus/configs/}]"
    )]
    #[case("image: \"corp/vector-database:7\", env: [{name: MILVUSCONF, value: /conf}]")]
    fn by_configuration(#[case] container: &str) {
        assert_eq!(
            one(container),
            Some((Standalone, IdentifiedBy::Configuration))
        );
    }

    #[rstest]
    #[case("image: \"zilliz/attu:v2.4\"")]
    #[case("image: \"milvusdb/milvus-operator:v1\"")]
    #[case("image: \"milvusdb/milvus-backup:v1\", args: [run, proxy]")]
    #[case("image: \"zilliztech/milvus-backup\", command: [milvus-backup, run, proxy]")]
    #[case("image: \"corp/rag-milvus-app:1\"")]
    #[case("image: \"fluent/fluent-bit:2.1.8\"")]
    #[case("image: \"x:1\", volumeMounts: [{name: c, mountPath: /milvus/configs-of-others}]")]
    #[case("image: \"milvusdb/milvus:v2.4.5\", command: [curl, \"http://milvus:9091/healthz\"]")]
    fn not_milvus(#[case] container: &str) {
        assert_eq!(one(container), None);
    }

    const TEXT: &str = "image: \"milvusdb/milvus:v2.4.5\", command: ";

    #[rstest]
    #[case("[bash, -c, sleep infinity]")]
    #[case("[bash, -ec, exec sleep infinity]")]
    #[case("[/bin/sh, -c, \"while true; do sleep 61; done\"]")]
    #[case("[/tini, --, sh, -c, \"cp -r /milvus/configs /out && ls -l /out > /tmp/log\"]")]
    #[case("[sh, -c, \"until curl -s http://milvus:9091/healthz; do echo waits; sleep 1; done\"]")]
    #[case("[sh], args: [-c, \"tail -f /dev/null\"]")]
    fn a_plain_text_of_a_shell_is_not_milvus(#[case] command: &str) {
        assert_eq!(one(&format!("{TEXT}{command}")), None);
    }

    #[rstest]
    #[case("[bash, /scripts/start.sh]")]
    #[case("[/scripts/start.sh]")]
    #[case("[sh, -c, /scripts/start.sh]")]
    #[case("[sh, -c, \"sleep 5; /scripts/start.sh\"]")]
    #[case("[sh, -c, \"m=mil; ${m}vus run standalone\"]")]
    #[case("[sh, -c, \"m=mil; sleep 1\"]")]
    #[case("[sh, -c, \"eval mil''vus run standalone\"]")]
    #[case("[sh, -c, \"mil''vus run standalone\"]")]
    #[case("[sh, -c, \"mil\\\\vus run standalone\"]")]
    #[case("[sh, -c, \"`cat /start`\"]")]
    #[case("[sh, -c, \"$(cat /start)\"]")]
    #[case("[sh, -c, \"exec /milvus/bin/mil*s run standalone\"]")]
    #[case("[sh, -c, \"cp /milvus/bin/milvus /usr/bin/cat; cat run standalone\"]")]
    #[case("[sh, -c, \"cp /milvus/bin/milvus /tmp/cat; /tmp/cat x\"]")]
    #[case("[sh, -c, \"mkdir /x/run; cd /x; cat r* standalone\"]")]
    #[case("[sh, -c, \"cat /start | sh\"]")]
    #[case("[sh, -c, \". /start.env; sleep 1\"]")]
    #[case("[sh, -c, \"sleep 1\", more]")]
    #[case("[bash, -lc, sleep 1]")]
    #[case("[/x/sh, -c, sleep 1]")]
    #[case("[bash, -c, sleep 1], env: [{name: BASH_ENV, value: /start.sh}]")]
    #[case("[bash, -c, sleep 1], envFrom: [{configMapRef: {name: x}}]")]
    fn any_other_text_may_start_milvus(#[case] command: &str) {
        let expected = Some((Standalone, IdentifiedBy::Image));
        let found = one(&format!("{TEXT}{command}"));
        assert!(
            found == expected || found == Some((Standalone, IdentifiedBy::Command)),
            "{found:?}"
        );
    }

    #[rstest]
    // Beside Milvus a script is a helper; what a shell makes is not known to be one.
    #[case("[bash, /scripts/backup.sh]", 1)]
    #[case("[sh, -c, \"while true; do sleep 61; done\"]", 1)]
    #[case("[sh, -c, \"m=mil; ${m}vus run standalone\"]", 2)]
    #[case("[sh, -c, \"sleep 1; start\"]", 1)]
    #[case("[sh, -c, \"x run standalone\"]", 2)]
    #[case("[sh, -c, \". /x\"]", 2)]
    fn helpers_beside_milvus(#[case] command: &str, #[case] expected: usize) {
        let pod = format!(
            "containers:\n  - {{name: a, image: \"milvusdb/milvus:v2.4.5\", args: [milvus, run, proxy]}}\n  - {{name: b, {TEXT}{command}}}"
        );
        assert_eq!(found(&pod).len(), expected);
        // An init container that ends does not make a helper of what follows it.
        let init = pod
            .replacen("containers", "initContainers", 1)
            .replace("  - {name: b", "containers:\n  - {name: b");
        let main = found(&init)
            .iter()
            .filter(|(at, _, _)| matches!(at, ContainerAt::Main(_)))
            .count();
        assert_eq!(main, usize::from(!command.contains("61")));
    }

    #[rstest]
    #[case("[sh, -c, \"cp -r /milvus/configs /out\"]", false)]
    #[case("[bash, /scripts/backup.sh]", false)]
    #[case("[sh, -c, x]", false)]
    #[case("[sh, -c, \"$START\"]", true)]
    #[case("[milvus, run, standalone]", true)]
    fn jobs(#[case] command: &str, #[case] expected: bool) {
        for kind in ["Job", "CronJob"] {
            let pod = format!("containers:\n  - {{name: a, {TEXT}{command}}}");
            assert_eq!(
                component(&workload(kind, &pod)).is_some(),
                expected,
                "{kind}"
            );
        }
    }

    #[test]
    fn sidecars_and_init_containers_do_not_hide_it() {
        let pod = "initContainers:\n  - {name: config, image: \"milvusdb/milvus-config-tool:v0.1.1\"}\n  - {name: copy, image: \"milvusdb/milvus:v2.2.0\", command: [cp, a, b]}\n  - {name: old, image: \"milvusdb/milvus:v2.1.4\", restartPolicy: Always, args: [milvus, run, proxy]}\ncontainers:\n  - {name: logs, image: \"fluent/fluent-bit:2.1.8\"}\n  - {name: querynode, image: \"busybox:1\"}\n  - {name: main, image: \"milvusdb/milvus:v2.4.5\", args: [milvus, run, proxy]}";
        assert_eq!(
            found(pod),
            [
                (ContainerAt::Main(2), Proxy, IdentifiedBy::Command),
                (ContainerAt::Init(2), Proxy, IdentifiedBy::Command)
            ]
        );
    }

    #[rstest]
    #[case("Deployment")]
    #[case("StatefulSet")]
    #[case("DaemonSet")]
    #[case("ReplicaSet")]
    #[case("ReplicationController")]
    #[case("Job")]
    #[case("CronJob")]
    #[case("Pod")]
    #[case("InstanceSet")]
    #[case("Rollout")]
    fn in_every_kind(#[case] kind: &str) {
        let pod = "containers:\n  - {name: a, image: \"milvusdb/milvus:v2.4.5\", args: [milvus, run, proxy]}";
        assert_eq!(component(&workload(kind, pod)), Some(Proxy));
    }

    #[rstest]
    #[case("data-coordinator", Component::DataCoord)]
    #[case("queryNode", QueryNode)]
    #[case("streaming-node", Component::StreamingNode)]
    fn names_of_other_charts(#[case] word: &str, #[case] component: Component) {
        assert_eq!(component_of_word(word), Some(component));
    }
}
