//! What the command line of a container does before it starts Milvus: it may write a configuration
//! file (`sed -i`, `cp`, a redirection), or take variables of a file (`source`). What comes of it is
//! not followed.

use std::borrow::Cow;

use crate::{
    manifest::object::{Container, normal_path},
    milvus::{
        identify::{assignments_in, bare, starts_milvus},
        shell::code,
    },
};

use super::folder::below;

/// Programs that do not change the files they are given.
const READERS: [&str; 30] = [
    "[",
    "[[",
    "awk",
    "cat",
    "cd",
    "chmod",
    "chown",
    "cmp",
    "diff",
    "du",
    "echo",
    "egrep",
    "envsubst",
    "export",
    "grep",
    "head",
    "jq",
    "ls",
    "md5sum",
    "mkdir",
    "printf",
    "sed",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "tail",
    "test",
    "touch",
    "wc",
];
/// Programs that change a file only with an option (`-i`).
const EDITORS: [&str; 3] = ["sed", "yq", "perl"];
/// Programs that write their last argument only.
const COPIERS: [&str; 4] = ["cp", "install", "ln", "rsync"];
/// Words before a command.
const BEFORE: [&str; 13] = [
    "!", "(", "do", "elif", "else", "exec", "if", "nohup", "sudo", "then", "until", "while", "{",
];

/// What the command line of a container runs before Milvus: its own words, and the script of a
/// `ConfigMap` or a Secret that it starts.
pub(super) struct CommandLine<'a> {
    own: &'a [String],
    script: Option<&'a str>,
}

impl<'a> CommandLine<'a> {
    /// The command line of a container; `script` is the text of the script that it starts.
    pub(super) fn of(container: &'a Container, script: Option<&'a str>) -> Self {
        Self {
            own: &container.command,
            script,
        }
    }

    /// Variables that are set for Milvus, as [`assignments_in`] reads them.
    pub(super) fn assignments(&self) -> Vec<(&'a str, Option<&'a str>)> {
        let mut all = assignments_in(self.own.iter().map(String::as_str));
        all.extend(assignments_in(self.script.into_iter()));
        all
    }

    /// Whether the file at this path may be written.
    pub(super) fn writes(&self, path: &str) -> bool {
        self.commands().any(|command| changes(command, path))
    }

    /// The file of which variables for Milvus are taken, as it is written there. `is_known` says of
    /// a file that it is the script itself.
    pub(super) fn sourced(&self, is_known: impl Fn(&&str) -> bool) -> Option<&'a str> {
        self.commands().find_map(|command| {
            let mut words = words_of(command);
            match (words.next()?, words.next()?) {
                ("source" | ".", file) => {
                    (!is_of_the_shell(file) && !is_known(&file)).then_some(file)
                }
                ("eval", text) => Some(text),
                ("export", text) => text.starts_with(['$', '`']).then_some(text),
                _ => None,
            }
        })
    }

    /// Variables that are taken away from Milvus.
    pub(super) fn unset(&self) -> impl Iterator<Item = &'a str> {
        self.commands().flat_map(|command| {
            let mut words = words_of(command);
            let is_unset = words.next() == Some("unset");
            words.filter(move |_| is_unset)
        })
    }

    /// The commands that a shell runs, up to the one that starts Milvus.
    fn commands(&self) -> impl Iterator<Item = &'a str> {
        let own = commands(self.own.iter().map(String::as_str));
        own.chain(commands(self.script.into_iter()))
    }
}

fn commands<'t>(texts: impl Iterator<Item = &'t str>) -> impl Iterator<Item = &'t str> {
    texts
        .filter(|text| text.contains(char::is_whitespace))
        .flat_map(code)
        .flat_map(|line| line.split([';', '&', '|']))
        .take_while(|command| !starts_milvus(command))
}

/// The words of a command, without those before it and without variables that are set for it.
fn words_of(command: &str) -> impl Iterator<Item = &str> {
    let is_before = |word: &&str| {
        let is_variable = word
            .split_once('=')
            .is_some_and(|(name, _)| !name.is_empty() && !name.contains(['/', '-', '.', '[']));
        BEFORE.contains(word) || is_variable
    };
    command
        .split_whitespace()
        .filter(|word| !word.is_empty())
        .skip_while(move |word| is_before(word))
        .map(bare)
}

/// What shells and images bring for themselves.
fn is_of_the_shell(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    file.starts_with("/etc/profile")
        || file.starts_with("/opt/bitnami/")
        || matches!(
            name,
            ".bashrc" | ".profile" | ".bash_profile" | "activate" | "bash.bashrc"
        )
}

fn changes(command: &str, path: &str) -> bool {
    // `> FILE`, `>> FILE` and `>FILE`, behind any program.
    let is_redirected = command.split('>').skip(1).any(|rest| {
        let target = rest.split_whitespace().next();
        target.is_some_and(|target| names(bare(target), path))
    });
    if is_redirected {
        return true;
    }
    let mut words = words_of(command);
    let Some(program) = words.next() else {
        return false;
    };
    let arguments: Vec<&str> = words.collect();
    let is_named = || arguments.iter().any(|word| names(word, path));
    let (folder, name) = program.rsplit_once('/').unwrap_or(("", program));
    if EDITORS.contains(&name) {
        let in_place = |word: &str| match word.strip_prefix('-') {
            Some(long) if long.starts_with("-in") => true,
            Some(long) if long.starts_with('-') => false,
            Some(letters) => letters.contains('i') && letters.len() < MAX_FLAG,
            None => false,
        };
        return arguments.iter().any(|word| in_place(word)) && is_named();
    }
    if COPIERS.contains(&name) {
        return arguments.last().is_some_and(|word| names(word, path));
    }
    // The tools of Milvus' chart merge the files that Milvus reads.
    !READERS.contains(&name) && !folder.starts_with("/milvus/tools") && is_named()
}

/// Letters of a group of short options.
const MAX_FLAG: usize = 6;

/// Whether a word names the file, its folder, or a pattern in it. A path that begins with a variable
/// or with no slash counts by its end.
fn names(word: &str, path: &str) -> bool {
    let word = word.split_once('=').map_or(word, |(_, value)| bare(value));
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    if word.starts_with('/') && !word.contains('$') {
        let own: Cow<'_, str> = normal_path(word).into();
        return own == path
            || below(folder, &own).is_some_and(|rest| rest.is_empty() || rest.contains('*'));
    }
    let last = word.trim_end_matches('/').rsplit('/').next();
    last == Some(file) || last == folder.rsplit('/').next()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::{Lookup, tests::config};

    fn pod(text: &str, more: &str) -> String {
        let command = serde_json::json!(["bash", "-c", text]);
        format!(
            "containers:\n  - name: m\n    image: milvusdb/milvus:v2.5.5\n    command: {command}\n{more}"
        )
    }

    fn root(pod: &str) -> String {
        let objects =
            "kind: ConfigMap\nmetadata: {name: c}\ndata: {user.yaml: 'etcd: {rootPath: known}'}\n";
        let config = config(pod, objects);
        let view = config.views().next().unwrap();
        match view.lookup("etcd.rootPath") {
            Lookup::Absent => "absent".into(),
            Lookup::Known(setting) => setting.value.into(),
            Lookup::Unknown(unknown) => unknown.to_string(),
        }
    }

    #[rstest]
    #[case(
        "sed -i 's/by-dev/prod/' /milvus/configs/milvus.yaml; milvus run standalone",
        "milvus"
    )]
    #[case(
        "sed -Ei s/by-dev/prod/ configs/milvus.yaml && exec milvus run standalone",
        "milvus"
    )]
    #[case(
        "yq e -i '.etcd.rootPath=\"prod\"' /milvus/configs/user.yaml\nmilvus run standalone",
        "user"
    )]
    #[case(
        "cp /tpl/a.yaml /milvus/configs/milvus.yaml && milvus run standalone",
        "milvus"
    )]
    #[case("cp -r /tpl/. /milvus/configs/; milvus run standalone", "user")]
    #[case("cp /tpl/* /milvus/configs && milvus run standalone", "user")]
    #[case(
        "cd /milvus/configs; mv /tpl/user.yaml user.yaml; milvus run standalone",
        "user"
    )]
    #[case(
        "cat > /milvus/configs/user.yaml <<EOF\netcd: {rootPath: prod}\nEOF\nexec milvus run standalone",
        "user"
    )]
    #[case(
        "echo 'etcd: {rootPath: prod}' >>/milvus/configs/user.yaml; milvus run standalone",
        "user"
    )]
    #[case(
        "envsubst < /tpl/m.yaml > \"/milvus/configs/milvus.yaml\" && milvus run standalone",
        "milvus"
    )]
    #[case(
        "envsubst < /tpl/m.yaml | tee $CONF/user.yaml; milvus run standalone",
        "user"
    )]
    #[case(
        "ln -sf /etc/m.yaml /milvus/configs/milvus.yaml; milvus run standalone",
        "milvus"
    )]
    #[case(
        "python3 /render.py --out=/milvus/configs/user.yaml && milvus run standalone",
        "user"
    )]
    fn a_file_that_is_written_is_not_known(#[case] text: &str, #[case] file: &str) {
        let found = root(&pod(text, ""));
        let expected =
            format!("/milvus/configs/{file}.yaml, which the command line of container m writes");
        assert_eq!(found, expected);
        // A variable beats all files.
        let more = "    env: [{name: ETCD_ROOT_PATH, value: known}]\n";
        assert_eq!(root(&pod(text, more)), "known");
    }

    #[rstest]
    #[case("milvus run standalone")]
    #[case("ulimit -n 65536; exec milvus run standalone > /var/log/milvus.log 2>&1")]
    #[case("cat /milvus/configs/milvus.yaml; milvus run standalone")]
    #[case("until [ -f /milvus/configs/user.yaml ]; do sleep 1; done; milvus run standalone")]
    #[case("sed -n 1,5p /milvus/configs/milvus.yaml; milvus run standalone")]
    #[case("cp /milvus/configs/milvus.yaml /tmp/; milvus run standalone")]
    #[case("mkdir -p /var/lib/milvus/logs && milvus run standalone | tee /var/lib/milvus/logs/a")]
    #[case(
        "/milvus/tools/merge -s /tmp/user.yaml -d /milvus/configs/milvus.yaml; milvus run standalone"
    )]
    #[case("cp /tpl/user.yaml /other/user.yaml; milvus run standalone")]
    #[case("source ~/.bashrc; . /etc/profile; milvus run standalone")]
    #[case("export A=b; milvus run standalone --config /milvus/configs")]
    #[case("# export ETCD_ROOT_PATH=prod\nexec milvus run standalone")]
    #[case("#export ETCD_ROOT_PATH=prod\nexec milvus run standalone")]
    #[case("sleep 1 # export ETCD_ROOT_PATH=prod\nexec milvus run standalone")]
    #[case("true;# cp /tpl/a.yaml /milvus/configs/milvus.yaml\nexec milvus run standalone")]
    #[case("echo a # source /vault/env && milvus run proxy\nexec milvus run standalone")]
    fn other_commands_write_nothing(#[case] text: &str) {
        assert_eq!(root(&pod(text, "")), "absent");
    }

    #[test]
    fn what_a_config_map_mounts_cannot_be_written() {
        let more = "    volumeMounts: [{name: c, mountPath: /milvus/configs/user.yaml, subPath: user.yaml}]\nvolumes: [{name: c, configMap: {name: c}}]";
        let text = "cp /tpl/* /milvus/configs/; milvus run standalone";
        assert_eq!(root(&pod(text, more)), "known");
    }

    #[rstest]
    #[case(
        "source /vault/secrets/env && exec milvus run standalone",
        "/vault/secrets/env"
    )]
    #[case(
        "set -a; . \"/etc/milvus/env\"; set +a; milvus run standalone",
        "/etc/milvus/env"
    )]
    #[case(
        "export $(grep -v '^#' /etc/env | xargs); milvus run standalone",
        "$(grep"
    )]
    fn variables_of_a_file_may_set_what_nothing_else_sets(#[case] text: &str, #[case] file: &str) {
        let expected = format!("variables of {}", file.trim_matches('('));
        let found = root(&pod(text, ""));
        assert!(found.starts_with(&expected), "{found}");
        let more = "    env: [{name: ETCD_ROOT_PATH, value: own}]\n";
        assert_eq!(root(&pod(text, more)), "own");
        let set = text.replace("milvus run", "ETCD_ROOT_PATH=set milvus run");
        assert_eq!(root(&pod(&set, more)), "set");
    }

    #[rstest]
    #[case("unset ETCD_ROOT_PATH; exec milvus run standalone", "absent")]
    #[case("unset MINIO_PORT; exec milvus run standalone", "own")]
    fn a_variable_that_is_taken_away_does_not_count(#[case] text: &str, #[case] expected: &str) {
        let more = "    env: [{name: ETCD_ROOT_PATH, value: own}]\n";
        assert_eq!(root(&pod(text, more)), expected);
    }

    #[rstest]
    #[case("[/scripts/start.sh]", "export ETCD_ROOT_PATH=set", "set")]
    #[case("[bash, -e, /scripts/start.sh]", "export ETCD_ROOT_PATH=set", "set")]
    #[case(
        "[sh, -c, \". /scripts/start.sh; milvus run standalone\"]",
        "ETCD_ROOT_PATH=set",
        "set"
    )]
    #[case(
        "[sh, -c, \"sleep 1; exec /scripts/start.sh\"]",
        "# source /x\nunset ETCD_ROOT_PATH",
        "absent"
    )]
    #[case(
        "[/scripts/start.sh]",
        "cp /a.yaml /milvus/configs/user.yaml\nunset ETCD_ROOT_PATH",
        "/milvus/configs/user.yaml, which the command line of container m writes"
    )]
    #[case(
        "[/scripts/start.sh]",
        "exec milvus run standalone\nunset ETCD_ROOT_PATH",
        "own"
    )]
    #[case(
        "[/scripts/start.sh]",
        "unset ETCD_ROOT_PATH; . /etc/env",
        "variables of /etc/env, which the command line of container m reads"
    )]
    #[case("[/scripts/other.sh]", "", "own")]
    #[case("[/missing/start.sh]", "", "own")]
    fn a_script_of_a_config_map_is_read(
        #[case] command: &str,
        #[case] text: &str,
        #[case] expected: &str,
    ) {
        let pod = format!(
            "containers:
  - name: m
    image: milvusdb/milvus:v2.5.5
    command: {command}
    env: [{{name: ETCD_ROOT_PATH, value: own}}]
    volumeMounts: [{{name: s, mountPath: /scripts}}, {{name: d, mountPath: /missing}}]
volumes: [{{name: s, configMap: {{name: s}}}}, {{name: d, configMap: {{name: d}}}}]"
        );
        let data = serde_json::json!({ "start.sh": format!("#!/bin/sh\n{text}\n") });
        let objects = format!("kind: ConfigMap\nmetadata: {{name: s}}\ndata: {data}\n");
        let config = config(&pod, &objects);
        let view = config.views().next().unwrap();
        let found = match view.lookup("etcd.rootPath") {
            Lookup::Absent => "absent".into(),
            Lookup::Known(setting) => setting.value.into(),
            Lookup::Unknown(unknown) => unknown.to_string(),
        };
        assert_eq!(found, expected);
    }
}
