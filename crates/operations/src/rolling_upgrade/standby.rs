//! Active-standby of the coordinators: a new coordinator waits while the old one runs, and takes
//! over when it has ended. Milvus reads the setting from its configuration files.

use serde_json::Value;

use milvus_guard_core::{
    manifest::{
        Origin, Tree, documents,
        node::Kind,
        object::{ConfigFile, SourceKind},
    },
    milvus::{
        Component, Release, Version,
        config::{EffectiveConfig, FileSettings, Layer},
    },
};

/// Sections of the coordinators in Milvus' configuration. A mixed coordinator reads the same four.
const SECTIONS: [&str; 4] = ["rootCoord", "dataCoord", "indexCoord", "queryCoord"];
/// The setting in each section.
const SETTING: &str = "enableActiveStandby";
/// From this version on a mixed coordinator always uses active-standby [milvus#46456].
const ALWAYS: Version = Version::new(2, 6, 8);

/// Whether coordinators of the target hand over by active-standby, and whether the configuration
/// must be changed for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standby {
    /// There are no separate coordinators, or the configuration cannot be read: their strategy is
    /// not changed.
    Unknown,
    /// They hand over by active-standby.
    On,
    /// They hand over by active-standby after a change of the configuration.
    Off,
}

/// Whether coordinators of a release that is upgraded to `target` use active-standby.
#[must_use]
pub fn of(release: &Release, target: Version) -> Standby {
    let coordinators = release
        .components
        .iter()
        .any(|one| one.component.is_coordinator() && one.is_running());
    if !coordinators || !release.has_config() {
        return Standby::Unknown;
    }
    let always = target >= ALWAYS && release.has(Component::MixCoord);
    if always || lacking(&release.config).is_empty() {
        Standby::On
    } else {
        Standby::Off
    }
}

/// The settings that are not true.
fn lacking(config: &EffectiveConfig) -> Vec<String> {
    SECTIONS
        .iter()
        .map(|section| format!("{section}.{SETTING}"))
        .filter(|key| !config.is_true(key))
        .collect()
}

/// A setting in the environment that turns active-standby off: it overrides every file.
#[must_use]
pub fn forbidden(release: &Release) -> Option<String> {
    let keys = lacking(&release.config).into_iter();
    keys.filter_map(|key| release.config.get(&key))
        .find(|set| set.layer == Layer::Environment)
        .map(|set| set.key.to_owned())
}

/// Why active-standby cannot be turned on in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The file is not valid YAML.
    #[error("line {line}: {message}")]
    Unreadable {
        /// The line, from 1.
        line: u32,
        /// What is wrong there.
        message: String,
    },
    /// The file contains something else than settings.
    #[error("it is not a mapping")]
    NotAMapping,
    /// A section in it contains something else than settings.
    #[error("{0} is not a mapping")]
    SectionNotAMapping(&'static str),
    /// A change of these settings would change others.
    #[error("it could not be written again without changing something else")]
    ChangesOthers,
}

/// A configuration file with active-standby on. Nothing else changes, except that comments are
/// lost. The same text always gives the same result.
///
/// # Errors
/// If the file cannot be read, or cannot be written again without changing something else.
pub fn merge(text: &str) -> Result<String, MergeError> {
    let root = match documents(text).next() {
        None => None,
        Some(document) => Some(
            document
                .map_err(|error| MergeError::Unreadable {
                    line: error.line,
                    message: error.message,
                })?
                .root,
        ),
    };
    let mut sections = match root.filter(|root| !root.is_null()).map(|root| root.kind) {
        None => Vec::new(),
        Some(Kind::Mapping(sections)) => sections,
        Some(_) => return Err(MergeError::NotAMapping),
    };
    for name in SECTIONS {
        let at = sections
            .iter()
            .position(|(known, _)| &**known == name)
            .unwrap_or_else(|| {
                sections.push((name.into(), null()));
                sections.len() - 1
            });
        let section = &mut sections[at].1;
        if section.is_null() {
            section.kind = Kind::Mapping(Vec::new());
        }
        let Kind::Mapping(settings) = &mut section.kind else {
            return Err(MergeError::SectionNotAMapping(name));
        };
        settings.retain(|(known, _)| &**known != SETTING);
        settings.push((
            SETTING.into(),
            Tree {
                line: 0,
                kind: Kind::Scalar {
                    text: "true".into(),
                    plain: true,
                },
            },
        ));
    }
    let mut merged = String::new();
    write(
        &Tree {
            line: 0,
            kind: Kind::Mapping(sections),
        },
        0,
        &mut merged,
    );
    if settings(&merged) == expected(text) {
        Ok(merged)
    } else {
        Err(MergeError::ChangesOthers)
    }
}

fn null() -> Tree<'static> {
    Tree {
        line: 0,
        kind: Kind::Scalar {
            text: "".into(),
            plain: true,
        },
    }
}

/// Writes a tree in block style. Scalars keep their spelling, because the meaning of `0777` and
/// `1.10` depends on the reader.
fn write(node: &Tree<'_>, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match &node.kind {
        Kind::Mapping(entries) => {
            for (key, value) in entries {
                out.push_str(&format!("{pad}{}:", scalar(key, is_word(key))));
                below(value, indent, out);
            }
        }
        Kind::Sequence(items) => {
            for item in items {
                out.push_str(&format!("{pad}-"));
                below(item, indent, out);
            }
        }
        Kind::Scalar { text, plain } => out.push_str(&format!("{pad}{}\n", scalar(text, *plain))),
    }
}

fn below(value: &Tree<'_>, indent: usize, out: &mut String) {
    match &value.kind {
        Kind::Scalar { text, plain } => out.push_str(&format!(" {}\n", scalar(text, *plain))),
        Kind::Mapping(entries) if entries.is_empty() => out.push_str(" {}\n"),
        Kind::Sequence(items) if items.is_empty() => out.push_str(" []\n"),
        _ => {
            out.push('\n');
            write(value, indent + 2, out);
        }
    }
}

/// A scalar as it was, or as a JSON string, which is valid YAML too.
fn scalar(text: &str, plain: bool) -> String {
    if plain {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

fn is_word(key: &str) -> bool {
    key.starts_with(|first: char| first.is_ascii_alphabetic())
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        && !matches!(
            &*key.to_ascii_lowercase(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        )
}

fn settings(text: &str) -> Vec<(String, String)> {
    let file = ConfigFile {
        key: "user.yaml".into(),
        text: Ok(text.into()),
        line: 0,
    };
    let origin = Origin {
        source: "".into(),
        document: 0,
        line: 0,
    };
    let files = FileSettings::read(&file, text, &origin, SourceKind::ConfigMap).unwrap_or_default();
    let mut settings: Vec<_> = files
        .pairs()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    settings.sort();
    settings
}

fn expected(text: &str) -> Vec<(String, String)> {
    let mut expected = settings(text);
    for name in SECTIONS {
        let key = format!("{name}.{SETTING}");
        // A section without any value is replaced by its first setting.
        expected.retain(|(known, _)| *known != key && known != name);
        expected.push((key, "true".into()));
    }
    expected.sort();
    expected
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use milvus_guard_core::rules::testing::Fixture;

    #[rstest]
    #[case::empty("")]
    #[case::comment("# nothing here\n")]
    #[case::others("proxy:\n  http:\n    enabled: true\n    port: 8080\nlog:\n  level: \"info\"\n")]
    #[case::sections(
        "rootCoord:\n  enableActiveStandby: false\n  maxDatabaseNum: 64\nqueryCoord:\ndataCoord: {segment: {maxSize: 512}}\n"
    )]
    #[case::odd_scalars(
        "a: {quoted: \"true\", octal: 0777, version: 1.10, long: 12345678901234567890123, empty: \"\", nothing: ~}\n"
    )]
    fn only_the_four_settings_change(#[case] text: &str) {
        let merged = merge(text).unwrap();
        assert_eq!(settings(&merged), expected(text), "{merged}");
        assert_eq!(
            merge(&merged).unwrap(),
            merged,
            "merging again changes nothing"
        );
        assert!(
            settings(&merged).contains(&("indexCoord.enableActiveStandby".into(), "true".into()))
        );
    }

    #[rstest]
    #[case("- a\n", "it is not a mapping")]
    #[case("rootCoord: 1\n", "rootCoord is not a mapping")]
    #[case("rootCoord: {\n", "line ")]
    fn files_that_cannot_be_merged_are_refused(#[case] text: &str, #[case] why: &str) {
        let said = merge(text).unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    }

    #[test]
    fn a_change_is_needed_only_if_coordinators_do_not_use_active_standby() {
        let target = |text: &str| text.parse().unwrap();
        let off = Fixture::cluster("2.4.5").default_yaml("etcd: {rootPath: by-dev}");
        assert_eq!(of(&off.release(), target("2.5.12")), Standby::Off);
        let on = off.user_yaml(&merge("").unwrap());
        assert_eq!(of(&on.release(), target("2.5.12")), Standby::On);
        let new = Fixture::cluster("2.6.8").default_yaml("etcd: {rootPath: by-dev}");
        assert_eq!(of(&new.release(), target("2.6.11")), Standby::On);
        assert_eq!(
            of(&Fixture::standalone("2.4.5").release(), target("2.5.12")),
            Standby::Unknown
        );
    }
}
