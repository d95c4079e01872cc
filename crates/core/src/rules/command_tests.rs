//! Commands in advice: printed where everything in them is known, and quoted for a shell.

use rstest::rstest;

use crate::{
    evidence::Facts,
    milvus::{Component, Manager},
};

use super::{
    advice::command,
    changes::rocksmq,
    managers::{found, manager, managers},
    testing::Fixture,
};

/// The command that a rule advises; `None` if it does not advise one.
fn command_of(before: &Fixture, after: &Fixture, manager: &Manager, rule: &str) -> Option<String> {
    let findings = found(before, after, manager, &Facts::default());
    findings
        .into_iter()
        .find(|finding| finding.rule.id == rule && !finding.not_evaluated)
        .and_then(|finding| finding.fix.command)
}

#[test]
fn a_helm_command_is_printed_where_everything_is_known() {
    let (before, after) = rocksmq();
    let values = "{cluster: {enabled: false}}";
    let (known, wanted) = (before.clone().values(values), after.clone().values(values));
    let plain = Manager::plain_chart();
    let expected = "helm upgrade my-release zilliztech/milvus -n milvus --version 5.0.14 --reset-then-reuse-values --set standalone.messageQueue=rocksmq";
    for rule in ["MG301", "MG502"] {
        assert_eq!(
            command_of(&known, &wanted, &plain, rule).as_deref(),
            Some(expected),
            "{rule}"
        );
    }
    let tagged = after
        .clone()
        .values("{cluster: {enabled: false}, image: {all: {tag: v2.6.22}}}");
    let expected = expected.replace(
        "--set standalone",
        "--set image.all.tag=v2.6.22 --set standalone",
    );
    assert_eq!(command_of(&known, &tagged, &plain, "MG502"), Some(expected));

    let nothing = |before: &Fixture, after: &Fixture, manager: &Manager, why: &str| {
        assert_eq!(command_of(before, after, manager, "MG502"), None, "{why}");
    };
    nothing(&before, &wanted, &plain, "the running values are not known");
    nothing(&known, &after, &plain, "the wanted values are not known");
    let more = after
        .clone()
        .values("{cluster: {enabled: false}, standalone: {resources: {}}}");
    nothing(
        &known,
        &more,
        &plain,
        "a command would drop the values that are new",
    );
    nothing(
        &known,
        &wanted.clone().chart("5.0.99"),
        &plain,
        "the chart is not published",
    );
    nothing(
        &known,
        &wanted
            .clone()
            .default_yaml("mq: {type: woodpecker}\netcd: {rootPath: other}\n"),
        &plain,
        "a denial would be left",
    );
    for (name, manager, ..) in managers().into_iter().filter(|(name, ..)| *name != "chart") {
        nothing(&known, &wanted, &manager, name);
    }
}

#[test]
fn an_ordered_upgrade_keeps_the_wanted_image() {
    let (before, after) = (Fixture::cluster("2.4.24"), Fixture::cluster("2.5.27"));
    let of = |after: &Fixture, name: &str| command_of(&before, after, &manager(name), "MG201");
    let expected = "milvus-guard upgrade -i my-release -n milvus -t 2.5.27";
    assert_eq!(of(&after, "chart").as_deref(), Some(expected));
    let mirror = after
        .clone()
        .repository("registry.example.com/milvusdb/milvus");
    assert_eq!(
        of(&mirror, "chart"),
        Some(format!(
            "{expected} -w registry.example.com/milvusdb/milvus:v2.5.27"
        ))
    );
    assert_eq!(
        of(&mirror.clone().tag("v2.5.27-gpu"), "chart"),
        Some(format!(
            "{expected} -w registry.example.com/milvusdb/milvus:v2.5.27-gpu"
        ))
    );
    // At the workload gate one component changes, and the others wait for their turn.
    let alone = before.clone().tag_of(Component::QueryNode, "v2.5.27");
    assert_eq!(of(&alone, "chart").as_deref(), Some(expected));
    let several = after.clone().tag_of(Component::QueryNode, "v2.5.27-gpu");
    assert_eq!(of(&several, "chart"), None, "the verb sets one image");
    assert_eq!(of(&after, "by hand"), None);
    assert_eq!(of(&after, "alias"), None);
    let (before, after) = (
        Fixture::cluster("2.4.17"),
        Fixture::cluster("2.6.11").chart("5.0.14"),
    );
    assert_eq!(
        command_of(&before, &after, &manager("chart"), "MG201"),
        None,
        "MG102 denies that path"
    );
}

#[test]
fn a_migration_has_a_command_where_the_verb_works() {
    let (before, after) = (Fixture::cluster("2.1.4"), Fixture::cluster("2.2.16"));
    for (name, manager, ..) in managers() {
        let command = command_of(&before, &after, &manager, "MG101");
        let works = manager.is_chart() && manager.alias().is_none_or(|alias| alias == "milvus");
        assert_eq!(command.is_some(), works, "{name}: {command:?}");
    }
    let mirror = after.repository("registry.example.com/milvusdb/milvus");
    let line = command_of(&before, &mirror, &Manager::plain_chart(), "MG101").unwrap();
    assert!(
        line.ends_with("-t 2.2.16 -w registry.example.com/milvusdb/milvus:v2.2.16"),
        "{line}"
    );
    let (before, after) = (Fixture::standalone("2.1.4"), Fixture::standalone("2.2.16"));
    assert_eq!(
        command_of(&before, &after, &Manager::plain_chart(), "MG101"),
        None,
        "the verb is for clusters"
    );
}

#[rstest]
#[case(&["helm", "upgrade", "a"], Some("helm upgrade a"))]
#[case(&["a", "b c"], Some("a 'b c'"))]
#[case(&["a", "$(reboot)"], Some("a '$(reboot)'"))]
#[case(&["a", "it's; reboot"], Some(r"a 'it'\''s; reboot'"))]
#[case(&["a", "b\nc"], None)]
#[case(&["a", ""], None)]
fn words_of_a_command_are_quoted(#[case] words: &[&str], #[case] line: Option<&str>) {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    assert_eq!(command(&words).as_deref(), line);
}
