//! The configuration file that an init container of Bitnami's chart merges of others before Milvus
//! starts (bitnami/charts `bitnami/milvus/templates/_helpers.tpl`,
//! `milvus.prepareMilvusInitContainer`).
//!
//! It lays every `*.yaml` below one folder over the image's `milvus.yaml`, in the order of their
//! paths, removes or sets a few keys, and fills in templates. A script that does anything else is
//! not followed.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use crate::{
    manifest::object::{
        ConfigMap, Container, Files, Mount, SourceRef, VolumeSource, Workload, normal_path,
    },
    milvus::identify::CONFIGURATION_FOLDERS,
};

use super::{Unknown, folder::below};

/// The folder with the files that are merged.
const SOURCES: &str = "/bitnami/milvus/conf";
/// The folder into which the init container writes.
const RENDERED: &str = "/bitnami/milvus/rendered-conf";
/// Steps between the files that are merged and the one that Milvus reads.
const STEPS: &str = "/bitnami/milvus/rendered-conf/pre-render-config";
/// How yq merges its files, without white space.
const MERGE: &str = ".as$itemireduce({};.*$item)";
/// Files that are followed for one container. The chart mounts four.
const MAX_FILES: usize = 64;

/// How an init container makes the configuration file.
pub(super) struct Rendering<'a> {
    container: &'a Container,
    script: Script,
}

/// What the script does besides merging.
#[derive(Debug, Default, PartialEq)]
struct Script {
    /// Whether it makes the file that Milvus reads.
    renders: bool,
    /// Paths of sections that it removes.
    removed: Vec<String>,
    /// Keys that it sets.
    assigned: Vec<(String, String)>,
}

/// One file that is merged.
pub(super) enum Merged {
    Key(Arc<ConfigMap>, Box<str>),
    Unknown(Unknown),
}

impl<'a> Rendering<'a> {
    /// How the folder of Milvus' configuration on an `emptyDir` is filled; `None` if that is not
    /// known. `mount` is where Milvus sees the folder.
    pub(super) fn of(workload: &'a Workload, mount: &Mount) -> Option<Self> {
        let [_, folder] = CONFIGURATION_FOLDERS;
        if normal_path(&mount.path) != folder {
            return None;
        }
        let inits = &workload.pod.init_containers;
        let (at, script) = inits.iter().enumerate().find_map(|(at, init)| {
            let mut mounts = init.mounts.iter();
            let has_sources = mounts.any(|mount| below(SOURCES, &mount.path).is_some());
            let script = Script::of(&init.command).filter(|script| script.renders)?;
            has_sources.then_some((at, script))
        })?;
        let container = inits.get(at)?;
        // Another one may put the image's own files there first.
        let leaves = |(other, init): (usize, &Container)| {
            let mut mounts = init.mounts.iter().filter(|own| own.volume == mount.volume);
            other == at
                || !mounts.any(|own| own.is_computed || overlap(&own.sub_path, &mount.sub_path))
                || other < at && Script::of(&init.command).is_some_and(|script| !script.renders)
        };
        if !inits.iter().enumerate().all(leaves) {
            return None;
        }
        Some(Self { container, script })
    }

    /// How much is looked at to know.
    pub(super) fn effort(workload: &Workload) -> usize {
        let of = |init: &Container| {
            let words: usize = init.command.iter().map(String::len).sum();
            1 + init.mounts.len() + words
        };
        workload.pod.init_containers.iter().map(of).sum()
    }

    /// The name of the init container.
    pub(super) fn by(&self) -> &'a str {
        &self.container.name
    }

    /// Paths of sections that are not in the file that it makes.
    pub(super) fn removed(&self) -> &[String] {
        &self.script.removed
    }

    /// Keys that it sets above all files.
    pub(super) fn assigned(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.script.assigned.iter();
        all.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The files that it merges, lowest first. `find` knows the objects; `may_look_at` says whether
    /// so many of their keys may be looked at.
    pub(super) fn files<'o>(
        &self,
        workload: &Workload,
        find: impl Fn(&SourceRef) -> Option<&'o Arc<ConfigMap>>,
        may_look_at: impl Fn(usize) -> bool,
    ) -> Vec<Merged> {
        let mut found: BTreeMap<String, Merged> = BTreeMap::new();
        let mounts = self.container.mounts.iter();
        for mount in mounts.filter(|mount| below(SOURCES, &mount.path).is_some()) {
            let path = normal_path(&mount.path);
            let unknown = |what: &str| {
                Merged::Unknown(Unknown::new(format!(
                    "{path} of init container {}, {what}",
                    self.container.name
                )))
            };
            // Behind all files of the same mount.
            let end = format!("{path}/{}", char::MAX);
            let mut volumes = workload.pod.volumes.iter();
            let volume = volumes.find(|volume| volume.name == mount.volume);
            let files = match volume.map(|volume| &volume.source) {
                Some(VolumeSource::Files(files)) if !mount.is_computed => files,
                _ => {
                    found.insert(end, unknown("which is not of a ConfigMap or a Secret"));
                    continue;
                }
            };
            for one in files {
                let Some(object) = find(&one.source) else {
                    let place = format!("{path} of init container {}", self.container.name);
                    let missing =
                        Unknown::missing(&format!("{place} from {}", one.source), &one.source);
                    found.insert(end.clone(), Merged::Unknown(missing));
                    continue;
                };
                if !may_look_at(object.files.len() + one.items.len()) {
                    found.insert(end.clone(), unknown("one of too many files"));
                    continue;
                }
                for (key, at) in placed(object, one, mount) {
                    found.insert(at, Merged::Key(Arc::clone(object), key.into()));
                }
            }
            if found.len() > MAX_FILES {
                return vec![unknown("which has more files than are followed")];
            }
        }
        found.into_values().collect()
    }
}

/// The keys of an object that a mount shows as `*.yaml`, each with its path.
fn placed<'o>(object: &'o ConfigMap, files: &'o Files, mount: &Mount) -> Vec<(&'o str, String)> {
    let path = normal_path(&mount.path);
    let sub_path = normal_path(&mount.sub_path);
    let sub_path = sub_path.trim_matches('/');
    let shown = |(key, inside): (&'o str, &'o str)| {
        let inside = inside.trim_start_matches("./");
        let at = if sub_path.is_empty() {
            format!("{path}/{inside}")
        } else {
            match below(sub_path, inside)? {
                "" => path.clone(),
                rest => format!("{path}/{rest}"),
            }
        };
        let is_yaml = Path::new(&at).extension().is_some_and(|end| end == "yaml");
        (is_yaml && object.file(key).is_some()).then_some((key, at))
    };
    if files.items.is_empty() {
        let keys = object.files.iter().map(|file| file.key.as_str());
        keys.filter_map(|key| shown((key, key))).collect()
    } else {
        let items = files.items.iter();
        items
            .filter_map(|(key, at)| shown((key.as_str(), at.as_str())))
            .collect()
    }
}

/// Whether two folders of a volume have files in common.
fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (normal_path(one), normal_path(other));
    let (one, other) = (one.trim_matches('/'), other.trim_matches('/'));
    one.is_empty() || other.is_empty() || below(one, other).is_some() || below(other, one).is_some()
}

impl Script {
    /// Reads a script; `None` if it does something that is not known.
    fn of(command: &[String]) -> Option<Self> {
        let [shell, options, text] = command else {
            return None;
        };
        let is_shell = matches!(shell.rsplit('/').next(), Some("bash" | "sh"));
        if !is_shell || !options.starts_with('-') || !options.ends_with('c') {
            return None;
        }
        let mut script = Self::default();
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            script.follow(line)?;
        }
        Some(script)
    }

    fn follow(&mut self, line: &str) -> Option<()> {
        let (command, rest) = line.split_once(' ')?;
        let is_plain = !rest.contains([';', '&', '`', '$', '|']);
        let words = || rest.split_whitespace();
        let last = words().next_back()?;
        let is_known = match command {
            "find" => {
                let compact: String = rest.split_whitespace().collect();
                words().next() == Some(SOURCES)
                    && compact.contains(MERGE)
                    && compact.matches(['|', '&', ';', '$', '`']).count() == MERGE_LETTERS
                    && compact.contains("|sort-z|xargs-0yqeval-all")
                    && last.starts_with(STEPS)
            }
            "yq" => return self.edit(rest).filter(|()| last.starts_with(STEPS)),
            "rm" => is_plain && (last == format!("{RENDERED}/*") || last.starts_with(STEPS)),
            "cp" => {
                let [_, image] = CONFIGURATION_FOLDERS;
                let mut from = words().rev().skip(1);
                is_plain
                    && from.next().is_some_and(|from| below(image, from).is_some())
                    && below(RENDERED, last) == Some("")
            }
            "mv" => is_plain && words().all(|word| word.starts_with(STEPS)),
            "chmod" => is_plain && below(RENDERED, last).is_some(),
            "render-template" => {
                let to = rest.split_once('>').map(|(_, to)| to.trim());
                self.renders = true;
                is_plain && to.is_none_or(|to| to == format!("{RENDERED}/milvus.yaml"))
            }
            "echo" => is_plain && !rest.contains(['>', '<']),
            // A password of a file, for the templates.
            "export" => {
                let (name, value) = rest.split_once('=')?;
                let file = value
                    .strip_prefix("\"$(< $")
                    .and_then(|value| value.strip_suffix(")\""))?;
                is_key(name) && is_key(file)
            }
            _ => false,
        };
        is_known.then_some(())
    }

    /// Follows a change of one key: `del(.key)`, or `.key = value`.
    fn edit(&mut self, rest: &str) -> Option<()> {
        let (options, quoted) = rest.split_once('\'')?;
        let (expression, files) = quoted.split_once('\'')?;
        let is_known = options
            .split_whitespace()
            .all(|word| matches!(word, "e" | "eval" | "-i"))
            && files
                .split_whitespace()
                .all(|word| word == ">" || word.starts_with(STEPS) && is_path(word));
        if !is_known {
            return None;
        }
        let removed = expression
            .trim()
            .strip_prefix("del(.")
            .and_then(|rest| rest.strip_suffix(')'));
        if let Some(key) = removed {
            let is_below = |(known, _): &(String, String)| lies_in(known, key);
            self.assigned.retain(|one| !is_below(one));
            self.removed.push(is_key(key).then(|| key.to_owned())?);
            return Some(());
        }
        let (key, value) = expression.trim().strip_prefix('.')?.split_once('=')?;
        let (key, value) = (key.trim(), value.trim());
        let value = match value.strip_prefix('"') {
            Some(quoted) => quoted
                .strip_suffix('"')
                .filter(|inner| !inner.contains(['"', '\\']))?,
            None if is_key(value) => value,
            None => return None,
        };
        let pair = is_key(key).then(|| (key.to_owned(), value.to_owned()))?;
        self.assigned.push(pair);
        Some(())
    }
}

/// Letters with a meaning to a shell in the line that merges: two pipes, and those of the
/// expression.
const MERGE_LETTERS: usize = 5;

/// Whether a key lies in a section, or is it.
pub(super) fn lies_in(key: &str, section: &str) -> bool {
    key.strip_prefix(section)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.'))
}

fn is_path(text: &str) -> bool {
    text.chars()
        .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | '/'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{
        super::{Lookup, Teller, tests::config},
        *,
    };

    /// The script of chart 13, for an external Kafka with TLS and passwords in files.
    const SCRIPT: &str = r#"#!/bin/bash
# Build final milvus.yaml with the sections of the different files
find /bitnami/milvus/conf -type f -name *.yaml -print0 | sort -z | xargs -0 yq eval-all '. as $item ireduce ({}; . * $item )' /bitnami/milvus/rendered-conf/milvus.yaml > /bitnami/milvus/rendered-conf/pre-render-config_00.yaml

export MILVUS_S3_ACCESS_ID="$(< $MILVUS_S3_ACCESS_ID_FILE)"
yq 'del(.pulsar)' /bitnami/milvus/rendered-conf/pre-render-config_00.yaml > /bitnami/milvus/rendered-conf/pre-render-config_01.yaml
yq e -i '.kafka.ssl.enabled = true' /bitnami/milvus/rendered-conf/pre-render-config_01.yaml
yq e -i '.kafka.ssl.tlsCert = "/opt/bitnami/milvus/configs/cert/kafka/client/tls.crt"' /bitnami/milvus/rendered-conf/pre-render-config_01.yaml
yq e -i '.kafka.ssl.tlsKeyPassword = "{{ MILVUS_KAFKA_TLS_KEY_PASSWORD }}"' /bitnami/milvus/rendered-conf/pre-render-config_01.yaml
mv /bitnami/milvus/rendered-conf/pre-render-config_01.yaml /bitnami/milvus/rendered-conf/pre-render-config_02.yaml
yq e '.common.security.tlsMode = 1' /bitnami/milvus/rendered-conf/pre-render-config_02.yaml > /bitnami/milvus/rendered-conf/pre-render-config_03.yaml
render-template /bitnami/milvus/rendered-conf/pre-render-config_03.yaml > /bitnami/milvus/rendered-conf/milvus.yaml
rm /bitnami/milvus/rendered-conf/pre-render-config*
chmod 644 /bitnami/milvus/rendered-conf/milvus.yaml
"#;

    /// What chart 8 does before.
    const COPY: &str = "rm -rf /bitnami/milvus/rendered-conf/*\ncp -r /opt/bitnami/milvus/configs/. /bitnami/milvus/rendered-conf\n";

    fn script(text: &str) -> String {
        serde_json::json!(["bash", "-ec", text]).to_string()
    }

    /// A pod as the chart renders it, with this script and further init containers.
    fn pod(script: &str, more: &str) -> String {
        format!(
            "containers:
  - name: milvus
    image: bitnami/milvus:2.4.5-debian-12-r0
    args: [run, standalone]
    volumeMounts:
      - {{name: empty-dir, mountPath: /opt/bitnami/milvus/configs, subPath: app-rendered-conf-dir}}
      - {{name: empty-dir, mountPath: /tmp, subPath: tmp-dir}}
initContainers:
  - name: wait-for-s3
    image: bitnami/os-shell
    command: [bash, -ec, curl x]
    volumeMounts: [{{name: certs, mountPath: /bitnami/milvus/conf/cert/minio/client}}]
  - name: copy-default-configuration
    image: bitnami/milvus:2.4.5-debian-12-r0
    command: [bash, -ec, \"echo \\\"Copying\\\"\\ncp -r /opt/bitnami/milvus/configs/. /bitnami/milvus/rendered-conf\"]
    volumeMounts: [{{name: empty-dir, mountPath: /bitnami/milvus/rendered-conf, subPath: app-rendered-conf-dir}}]
  - name: prepare-milvus
    image: bitnami/milvus:2.4.5-debian-12-r0
    command: {script}
    volumeMounts:
      - {{name: common, mountPath: /bitnami/milvus/conf/00_default}}
      - {{name: own, mountPath: /bitnami/milvus/conf/03_extra}}
      - {{name: empty-dir, mountPath: /tmp, subPath: tmp-dir}}
      - {{name: empty-dir, mountPath: /bitnami/milvus/rendered-conf/, subPath: app-rendered-conf-dir}}
{more}volumes:
  - {{name: empty-dir, emptyDir: {{}}}}
  - {{name: certs, secret: {{secretName: certs}}}}
  - {{name: common, configMap: {{name: common}}}}
  - {{name: own, configMap: {{name: own}}}}
"
        )
    }

    fn map(name: &str, key: &str, yaml: &str) -> String {
        let data = serde_json::json!({ key: yaml });
        format!("kind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {data}\n---\n")
    }

    const COMMON: &str = "etcd: {rootPath: one, metaSubPath: meta}\npulsar: {address: p}\nmq: {type: kafka}\nminio: {accessKeyID: '{{ MILVUS_S3_ACCESS_ID }}'}";

    fn value(pod: &str, objects: &str, key: &str) -> String {
        let config = config(pod, objects);
        let view = config.views().next().unwrap();
        match view.lookup(key) {
            Lookup::Absent => "absent".into(),
            Lookup::Known(setting) => setting.value.into(),
            Lookup::Unknown(unknown) => format!("unknown: {unknown}"),
        }
    }

    #[rstest]
    #[case("etcd.rootPath", "two")]
    #[case("etcd.metaSubPath", "meta")]
    #[case("mq.type", "kafka")]
    #[case("pulsar.address", "absent")]
    #[case("kafka.ssl.enabled", "true")]
    #[case("common.security.tlsMode", "1")]
    #[case("common.security.authorizationEnabled", "absent")]
    #[case(
        "minio.accessKeyID",
        "unknown: a template that init container prepare-milvus fills in"
    )]
    #[case(
        "kafka.ssl.tlsKeyPassword",
        "unknown: a template that init container prepare-milvus fills in"
    )]
    fn the_merged_file_is_computed(#[case] key: &str, #[case] expected: &str) {
        let objects = map("common", "00_milvus_default.yaml", COMMON)
            + &map("own", "own.yaml", "etcd: {rootPath: two}");
        let pod = pod(&script(&format!("{COPY}{SCRIPT}")), "");
        assert_eq!(value(&pod, &objects, key), expected);
    }

    #[rstest]
    // A later folder wins; names of keys do not matter.
    #[case("zz.yaml", "aa.yaml", "etcd: {rootPath: two}", "two")]
    // Only these files are merged.
    #[case("x.yaml", "x.yml", "etcd: {rootPath: two}", "one")]
    // A value takes the place of a section.
    #[case("x.yaml", "x.yaml", "etcd: text", "absent")]
    #[case("x.yaml", "x.yaml", "etcd: {}", "one")]
    #[case(
        "x.yaml",
        "x.yaml",
        "etcd: {rootPath: '{{ ROOT }}'}",
        "unknown: a template that init container prepare-milvus fills in"
    )]
    #[case(
        "x.yaml",
        "x.yaml",
        "etcd: [",
        "unknown: ConfigMap own, x.yaml: line 2: while parsing a flow node, did not find expected node content"
    )]
    fn files_are_merged_by_their_paths(
        #[case] common: &str,
        #[case] own: &str,
        #[case] yaml: &str,
        #[case] expected: &str,
    ) {
        let objects = map("common", common, COMMON) + &map("own", own, yaml);
        let found = value(&pod(&script(SCRIPT), ""), &objects, "etcd.rootPath");
        if expected.starts_with("unknown: ConfigMap") {
            assert!(
                found.starts_with("unknown: ConfigMap own, x.yaml"),
                "{found}"
            );
        } else {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_source_that_is_not_there_leaves_only_what_is_above_it() {
        let pod = pod(&script(SCRIPT), "");
        let own = map("own", "x.yaml", "etcd: {rootPath: two}");
        assert_eq!(value(&pod, &own, "etcd.rootPath"), "two");
        let found = config(&pod, &own);
        let unknown = found.unknown("etcd.metaSubPath").unwrap();
        assert_eq!(
            unknown.to_string(),
            "/bitnami/milvus/conf/00_default of init container prepare-milvus from ConfigMap common, which the input does not contain"
        );
        assert!(matches!(unknown.teller(), Teller::Object(_)));
        assert_eq!(found.missing().len(), 1);
    }

    #[test]
    fn a_secret_is_compared_and_never_shown() {
        let pod = pod(&script(SCRIPT), "").replace(
            "{name: own, configMap: {name: own}}",
            "{name: own, secret: {secretName: own}}",
        );
        let objects = "kind: Secret\nmetadata: {name: own}\nstringData: {x.yaml: 'etcd: {rootPath: two}'}\n---\n";
        let found = config(&pod, objects);
        let setting = found.get("etcd.rootPath").unwrap();
        assert_eq!((setting.value, setting.is_secret), ("two", true));
    }

    #[rstest]
    #[case::another_edit(SCRIPT.replace("del(.pulsar)", "del(.pulsar, .etcd)"))]
    #[case::an_expression(SCRIPT.replace(".kafka.ssl.enabled = true", ".etcd |= env(E)"))]
    #[case::another_command(format!("{SCRIPT}sed -i s/one/two/ /bitnami/milvus/rendered-conf/milvus.yaml"))]
    #[case::another_output(SCRIPT.replace("> /bitnami/milvus/rendered-conf/milvus.yaml", "> /tmp/milvus.yaml"))]
    #[case::another_source(SCRIPT.replace("find /bitnami/milvus/conf ", "find /tmp "))]
    #[case::two_commands(SCRIPT.replace("chmod 644", "chmod 644 x; sed -i s/one/two/"))]
    #[case::a_pipe(SCRIPT.replace("sort -z |", "sort -zr |"))]
    #[case::nothing_rendered("echo x".to_owned())]
    fn a_script_that_does_more_is_not_followed(#[case] text: String) {
        let objects = map("common", "x.yaml", COMMON) + &map("own", "x.yaml", "{}");
        let found = config(&pod(&script(&text), ""), &objects);
        let unknown = found.unknown("etcd.rootPath").unwrap();
        assert_eq!(*unknown.teller(), Teller::InitContainer);
    }

    #[rstest]
    #[case("app-rendered-conf-dir", false)]
    #[case("app-rendered-conf-dir/cert", false)]
    #[case("", false)]
    #[case("tmp-dir", true)]
    fn another_init_container_that_writes_there_is_not_followed(
        #[case] sub_path: &str,
        #[case] is_known: bool,
    ) {
        let more = format!(
            "  - name: more\n    image: busybox\n    command: [sh, -c, echo x]\n    volumeMounts: [{{name: empty-dir, mountPath: /x, subPath: \"{sub_path}\"}}]\n"
        );
        let objects = map("common", "x.yaml", COMMON) + &map("own", "x.yaml", "{}");
        let found = config(&pod(&script(SCRIPT), &more), &objects);
        assert_eq!(found.unknown("etcd.rootPath").is_none(), is_known);
    }

    #[test]
    fn too_many_files_are_not_followed() {
        let data: serde_json::Map<String, serde_json::Value> = (0..=MAX_FILES)
            .map(|at| (format!("{at}.yaml"), "etcd: {rootPath: x}".into()))
            .collect();
        let objects = format!(
            "kind: ConfigMap\nmetadata: {{name: common}}\ndata: {}\n---\n",
            serde_json::Value::from(data)
        );
        let found = value(&pod(&script(SCRIPT), ""), &objects, "etcd.metaSubPath");
        assert!(found.starts_with("unknown: "), "{found}");
    }
}
