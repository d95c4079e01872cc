//! How to keep a setting, in the words of anyone who manages the release.
//!
//! Milvus takes variables before files, and the user's file before that of a chart. Advice that
//! names a lower place than the one that moved the setting would have no effect, so what stands
//! above is taken away first, and the rest is judged again.

use crate::{
    change::Upgrade,
    milvus::{
        Release, Version,
        catalogue::{Compare, SettingFact},
        config::{Place, Setting},
        settings::{Conditions, Difference, Effective, Located},
    },
};

use super::{
    advice::{Remedy, public},
    pairs::{pairs, rows},
};

/// The first version whose queue can be switched by its management API [Milvus docs v3.0 on
/// switching the queue].
const CAN_SWITCH: Version = Version::new(3, 0, 0);

/// Places that one advice names. More than one is rare.
const MAX_PLACES: usize = 8;

/// How to keep the setting of a row at its old value; `None` if it must not be shown.
pub(super) fn keep(upgrade: &Upgrade<'_>, row: &SettingFact, old: Option<&str>) -> Remedy {
    if row.compare == Compare::Account {
        return Remedy::words(format!("Keep the current value of {}.", row.key));
    }
    let Some(old) = old else {
        return Remedy::words(format!("Keep {} as the Secret has it.", row.key));
    };
    let above = Above::of(upgrade, row);
    let is_kind = is_queue(row);
    let remedy = match above {
        Above {
            words,
            rest: Rest::Nothing,
            ..
        } => Remedy::words(words.join(" ")),
        Above {
            words,
            rest: Rest::InUserFile { key, value },
            ..
        } => {
            let (key, value) = match value {
                // The type is set under one key, also where the other side uses an older one.
                _ if is_kind => (row.key.clone(), old.to_owned()),
                Some(value) => (key, value),
                None => (key, old.to_owned()),
            };
            let value = match row.compare {
                Compare::Etcd => format!("[{}]", value.replace(',', ", ")),
                _ => value,
            };
            let set = upgrade.advice().configure(&[(&key, &value)]);
            behind(&words, set)
        }
        Above {
            words,
            rest: Rest::InChart,
            after,
        } => {
            let lower = with_after(upgrade, after.as_ref());
            behind(&words, in_chart(&lower, row, old))
        }
    };
    match (row.compare, row.rule.as_deref()) {
        _ if is_kind && upgrade.to_version().is_some_and(|to| to >= CAN_SWITCH) => remedy.and(
            "If the queue was changed by the documented procedure, add --etcd: Milvus stores the \
             new type there.",
        ),
        (Compare::Etcd, Some("MG302")) if row.key == "etcd.endpoints" && !old.is_empty() => {
            remedy.and("To move to another etcd, restore a snapshot, separately from an upgrade.")
        }
        (Compare::Store, _) if !old.is_empty() => remedy.and(
            "If the new address is another name of the same storage, add an UpgradeException for \
             MG303.",
        ),
        _ => remedy,
    }
}

fn is_queue(row: &SettingFact) -> bool {
    row.compare == Compare::Kind && row.rule.as_deref() == Some("MG301")
}

fn behind(words: &[String], remedy: Remedy) -> Remedy {
    if words.is_empty() {
        return remedy;
    }
    // A command that sets values of the chart alone would change nothing.
    Remedy::words(words.join(" ")).and(&remedy.text)
}

fn in_chart(upgrade: &Upgrade<'_>, row: &SettingFact, old: &str) -> Remedy {
    let advice = upgrade.advice();
    if old.is_empty() {
        return Remedy::words(format!("Do not set {}, as now.", row.key));
    }
    match row.compare {
        _ if is_queue(row) => advice.keep_queue(),
        Compare::Brokers | Compare::Pulsar => advice.keep_queue(),
        Compare::Etcd if row.key == "etcd.endpoints" => advice.keep_etcd(),
        Compare::Store => advice.keep_storage(),
        _ if row.key == "woodpecker.storage.type" => advice.keep_log(),
        _ => advice.keep_setting(&row.key, old),
    }
}

fn with_after<'u>(upgrade: &'u Upgrade<'_>, after: Option<&'u Release>) -> Upgrade<'u> {
    let mut other: Upgrade<'u> = upgrade.clone();
    other.after = after.unwrap_or(upgrade.after);
    other
}

/// What stands above the file of the chart and moves a setting.
#[derive(Default)]
struct Above {
    /// Sentences that take it away.
    words: Vec<String>,
    rest: Rest,
    /// The wanted state without it.
    after: Option<Release>,
}

/// What is left to do then.
#[derive(Default)]
enum Rest {
    /// Nothing: the setting has its old value again.
    Nothing,
    /// The user's file decides, and what stands below it is another value.
    InUserFile { key: String, value: Option<String> },
    /// The values of the chart decide, or another file.
    #[default]
    InChart,
}

impl Above {
    fn of(upgrade: &Upgrade<'_>, row: &SettingFact) -> Self {
        let mut above = Self::default();
        // All that belongs to a queue must be as it was.
        let wanted: Vec<&SettingFact> = if is_queue(row) {
            rows(upgrade, "MG301").collect()
        } else {
            vec![row]
        };
        // Keys that are set back at their place.
        let mut back: Vec<String> = Vec::new();
        for _ in 0..MAX_PLACES {
            let lower = with_after(upgrade, above.after.as_ref());
            let Some(moved) = Moved::first(&lower, &wanted, &back) else {
                if !above.words.is_empty() {
                    above.rest = Rest::Nothing;
                }
                return above;
            };
            let Some(place) = moved.places.first() else {
                return above;
            };
            let advice = upgrade.advice();
            if place.is_variable() {
                if let Some(value) = &moved.by_variable {
                    above
                        .words
                        .push(advice.set_variable(place, &moved.components, value));
                    back.push(moved.key);
                    continue;
                }
                let taken = moved.places.iter();
                above
                    .words
                    .extend(taken.map(|place| advice.take_away(place, &moved.components)));
            } else {
                let release = without(lower.after, &moved.key, false);
                let rest = with_after(upgrade, Some(&release));
                let still = Moved::first(&rest, &wanted, &back).is_some_and(|next| {
                    next.key == moved.key || next.row == moved.row && next.places.is_empty()
                });
                if still {
                    above.rest = Rest::InUserFile {
                        key: moved.key,
                        value: moved.before,
                    };
                    return above;
                }
                above.words.push(advice.take_away(place, &moved.components));
            }
            let release = without(lower.after, &moved.key, place.is_variable());
            above.after = Some(release);
        }
        above
    }
}

fn without(release: &Release, key: &str, variables: bool) -> Release {
    let mut rest = release.clone();
    rest.config = release.config.without(key, variables);
    rest
}

/// A setting that is not what it was, and the place above the file of the chart that sets it.
struct Moved {
    row: String,
    /// The key as the wanted state writes it; that of the row where it is not set.
    key: String,
    /// Empty where the file of the chart decides.
    places: Vec<Place>,
    /// Components in which a place sets it, by position.
    components: Vec<usize>,
    /// Its value before, as it may be shown.
    before: Option<String>,
    /// The same, where a variable sets it before.
    by_variable: Option<String>,
}

impl Moved {
    fn first(upgrade: &Upgrade<'_>, rows: &[&SettingFact], back: &[String]) -> Option<Self> {
        let all = pairs(upgrade);
        let mut without_place = None;
        for row in rows {
            for (before, after) in &all {
                let Some(keys) = changed_keys(row, *before, *after) else {
                    continue;
                };
                if keys.iter().any(|key| back.iter().any(|known| known == key)) {
                    continue;
                }
                for key in &keys {
                    let places = after.upper_places(key);
                    if !places.is_empty() {
                        return Some(Self::at(upgrade, row, key, *before, places));
                    }
                }
                without_place.get_or_insert_with(|| Self {
                    row: row.key.clone(),
                    key: keys.first().unwrap_or(&row.key).clone(),
                    places: Vec::new(),
                    components: Vec::new(),
                    before: None,
                    by_variable: None,
                });
            }
        }
        without_place
    }

    fn at(
        upgrade: &Upgrade<'_>,
        row: &SettingFact,
        key: &str,
        before: Located<'_>,
        places: Vec<Place>,
    ) -> Self {
        let mut components: Vec<usize> = upgrade
            .after
            .located()
            .filter(|located| !located.upper_places(key).is_empty())
            .map(|located| located.component())
            .collect();
        components.dedup();
        let old = before.setting(key);
        let shown = |setting: &Setting<'_>| {
            Some(public(*setting).to_owned())
                .filter(|value| !value.is_empty() && !value.contains('@'))
        };
        let is_variable = before.upper_places(key).iter().any(Place::is_variable);
        Self {
            row: row.key.clone(),
            key: key.to_owned(),
            places,
            components,
            before: old.as_ref().and_then(shown),
            by_variable: old.as_ref().filter(|_| is_variable).and_then(shown),
        }
    }
}

/// The keys that decide a row that is not what it was; `None` if it is.
fn changed_keys(row: &SettingFact, before: Located<'_>, after: Located<'_>) -> Option<Vec<String>> {
    let (before, after) = (Conditions::of(before), Conditions::of(after));
    if !before.count(row) || !after.count(row) {
        return None;
    }
    let (old, new) = (
        before.located().effective(row),
        after.located().effective(row),
    );
    if after.located().difference(row, &old, &new) != Some(Difference::Changed) {
        return None;
    }
    let Effective::Known(_, setting) = new else {
        return None;
    };
    let own = setting.map(|setting| setting.key);
    // The port of an address stands on its own.
    let keys = own.into_iter().chain(row.port.as_deref());
    let value =
        |located: Located<'_>, key: &str| located.setting(key).map(|one| one.value.to_owned());
    let is_other = |key: &&str| value(before.located(), key) != value(after.located(), key);
    Some(keys.filter(is_other).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::{
        evidence::Facts,
        milvus::Component::{DataNode, MixCoord, QueryNode, Standalone},
        rules::{
            managers::{found, manager},
            testing::Fixture,
        },
    };

    const QUEUE: &str = "mq: {type: rocksmq}";
    const PLACES: &str = "mq: {type: rocksmq}\netcd: {rootPath: by-dev, endpoints: ['my-release-etcd:2379']}\n\
                          minio: {address: my-release-minio, port: 9000, bucketName: b}\n";

    fn fixture() -> Fixture {
        Fixture::standalone("2.6.22")
            .chart("5.0.14")
            .default_yaml(PLACES)
    }

    fn variables(lines: &str) -> Fixture {
        fixture().container(Standalone, &format!("env: [{lines}]"))
    }

    fn user(text: &str) -> Fixture {
        fixture().user_yaml(text)
    }

    /// The first denial of a rule and its fix.
    fn fix(rule: &str, before: &Fixture, after: &Fixture, name: &str) -> Option<String> {
        let findings = found(before, after, &manager(name), &Facts::default());
        let finding = findings
            .into_iter()
            .find(|finding| finding.rule.id == rule && !finding.not_evaluated)?;
        assert_eq!(finding.fix.command, None);
        Some(finding.fix.text.to_string())
    }

    /// The advice names the place that decides, and the change that follows it passes.
    #[rstest]
    #[case::queue(
        "MG301",
        fixture(),
        variables("{name: MQ_TYPE, value: woodpecker}"),
        fixture(),
        "Remove MQ_TYPE from standalone.extraEnv in the Helm values."
    )]
    #[case::bucket(
        "MG303",
        fixture(),
        variables("{name: MINIO_BUCKET_NAME, value: x}"),
        fixture(),
        "Remove MINIO_BUCKET_NAME from standalone.extraEnv in the Helm values."
    )]
    #[case::port(
        "MG303",
        fixture(),
        variables("{name: MINIO_PORT, value: '1'}"),
        fixture(),
        "Remove MINIO_PORT from standalone.extraEnv in the Helm values. If"
    )]
    #[case::etcd(
        "MG302",
        fixture(),
        variables("{name: ETCD_ENDPOINTS, value: 'other:2379'}"),
        fixture(),
        "Remove ETCD_ENDPOINTS from standalone.extraEnv in the Helm values. To"
    )]
    #[case::default_of_milvus(
        "MG302",
        fixture(),
        variables("{name: ETCD_USE_EMBED, value: 'true'}"),
        fixture(),
        "Remove ETCD_USE_EMBED from standalone.extraEnv in the Helm values."
    )]
    #[case::user_file(
        "MG303",
        fixture(),
        user("minio: {bucketName: x}"),
        fixture(),
        "Remove minio.bucketName from the text user.yaml under extraConfigFiles in the Helm values."
    )]
    #[case::user_file_of_the_queue(
        "MG301",
        fixture(),
        user("mq.type: kafka\nkafka.brokerList: k:9092"),
        user("kafka.brokerList: k:9092"),
        "Remove mq.type from the text user.yaml under extraConfigFiles in the Helm values."
    )]
    #[case::user_file_before_too(
        "MG302",
        user("etcd: {rootPath: prod}"),
        user("etcd: {rootPath: x}"),
        user("etcd: {rootPath: prod}"),
        "Set etcd.rootPath: prod in the text user.yaml under"
    )]
    #[case::brokers_of_the_user(
        "MG302",
        user("etcd: {endpoints: [a:1, b:1]}"),
        user("etcd: {endpoints: [c:1]}"),
        user("etcd: {endpoints: [a:1, b:1]}"),
        "Set etcd.endpoints: [a:1, b:1] in the text user.yaml under"
    )]
    #[case::variable_before_too(
        "MG302",
        variables("{name: ETCD_ROOTPATH, value: prod}"),
        variables("{name: ETCD_ROOTPATH, value: x}"),
        variables("{name: ETCD_ROOTPATH, value: prod}"),
        "Set ETCD_ROOTPATH to prod in standalone.extraEnv in the Helm values."
    )]
    #[case::authorization("MG304", user("common.security.authorizationEnabled: true"),
        user("common.security.authorizationEnabled: true")
            .container(Standalone, "env: [{name: COMMON_SECURITY_AUTHORIZATIONENABLED, value: 'false'}]"),
        user("common.security.authorizationEnabled: true"),
        "Remove COMMON_SECURITY_AUTHORIZATIONENABLED from standalone.extraEnv in the Helm values.")]
    #[case::two_places("MG303", fixture(),
        user("minio: {bucketName: y}").container(Standalone, "env: [{name: MINIO_BUCKET_NAME, value: x}]"),
        fixture(),
        "Remove MINIO_BUCKET_NAME from standalone.extraEnv in the Helm values. Remove minio.bucketName from \
         the text user.yaml under extraConfigFiles in the Helm values.")]
    #[case::then_the_chart("MG303", fixture(),
        variables("{name: MINIO_BUCKET_NAME, value: x}").default_yaml("minio: {address: my-release-minio, port: 9000, bucketName: c}"),
        fixture(),
        "Remove MINIO_BUCKET_NAME from standalone.extraEnv in the Helm values. Set \
         externalS3.bucketName=b in the Helm values")]
    #[case::both_keys_of_a_queue("MG301",
        fixture().default_yaml("mq: {type: kafka}\nkafka: {brokerList: 'a.example.com:9092'}"),
        variables("{name: MQ_TYPE, value: pulsar}, {name: KAFKA_BROKERLIST, value: 'c.example.com:9092'}")
            .default_yaml("mq: {type: kafka}\nkafka: {brokerList: 'a.example.com:9092'}"),
        fixture().default_yaml("mq: {type: kafka}\nkafka: {brokerList: 'a.example.com:9092'}"),
        "Remove MQ_TYPE from standalone.extraEnv in the Helm values. Remove KAFKA_BROKERLIST from \
         standalone.extraEnv in the Helm values.")]
    fn the_place_that_decides_is_named(
        #[case] rule: &str,
        #[case] before: Fixture,
        #[case] after: Fixture,
        #[case] followed: Fixture,
        #[case] begins: &str,
    ) {
        let text = fix(rule, &before, &after, "rendered").unwrap();
        assert!(text.starts_with(begins), "{text}");
        assert_eq!(fix(rule, &before, &followed, "rendered"), None);
    }

    #[rstest]
    #[case(
        "alias",
        "Remove MQ_TYPE from vectors.standalone.extraEnv in the Helm values of the parent chart."
    )]
    #[case(
        "operator",
        "Remove MQ_TYPE from env under spec.components of the Milvus resource milvus-prod."
    )]
    #[case(
        "by hand",
        "Remove MQ_TYPE from the environment of Deployment my-release-milvus-standalone."
    )]
    #[case("bitnami", "Remove MQ_TYPE from the environment of standalone")]
    fn each_manager_has_a_place_for_variables(#[case] name: &str, #[case] begins: &str) {
        let after = variables("{name: MQ_TYPE, value: woodpecker}");
        let text = fix("MG301", &fixture(), &after, name).unwrap();
        assert!(text.starts_with(begins), "{text}");
    }

    #[rstest]
    #[case(
        "operator",
        "Remove spec.config.mq.type from the Milvus resource milvus-prod."
    )]
    #[case(
        "by hand",
        "Remove mq.type from user.yaml of ConfigMap my-release-milvus."
    )]
    #[case(
        "kustomize",
        "Remove mq.type from user.yaml of ConfigMap my-release-milvus, in the kustomize source."
    )]
    fn each_manager_has_a_place_for_the_users_file(#[case] name: &str, #[case] text: &str) {
        let after = user("mq: {type: woodpecker}");
        assert_eq!(fix("MG301", &fixture(), &after, name).unwrap(), text);
    }

    #[test]
    fn components_are_named_one_by_one() {
        let cluster = Fixture::cluster("2.6.22")
            .chart("5.0.14")
            .default_yaml(PLACES);
        let line = "env: [{name: ETCD_ROOTPATH, value: x}]";
        let after = cluster
            .clone()
            .container(DataNode, line)
            .container(QueryNode, line);
        assert_eq!(
            fix("MG302", &cluster, &after, "rendered").unwrap(),
            "Remove ETCD_ROOTPATH from dataNode.extraEnv and queryNode.extraEnv in the Helm values."
        );
    }

    #[test]
    fn a_command_line_and_an_object_are_places_too() {
        let line = "args: [/bin/sh, -c, 'MQ_TYPE=woodpecker milvus run standalone']";
        let text = fix(
            "MG301",
            &fixture(),
            &fixture().container(Standalone, line),
            "rendered",
        );
        assert_eq!(
            text.unwrap(),
            "Remove MQ_TYPE from the command line of standalone."
        );
        let object = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\ndata: {MQ_TYPE: woodpecker}\n";
        let after = fixture()
            .object(object)
            .container(Standalone, "envFrom: [{configMapRef: {name: more}}]");
        let text = fix("MG301", &fixture(), &after, "rendered");
        assert_eq!(text.unwrap(), "Remove MQ_TYPE from ConfigMap more.");
    }

    #[test]
    fn a_default_is_blamed_only_for_a_default() {
        let chosen = variables("{name: MQ_TYPE, value: woodpecker}");
        assert_eq!(fix("MG502", &fixture(), &chosen, "rendered"), None);
        assert_eq!(
            fix(
                "MG502",
                &fixture(),
                &user("mq: {type: woodpecker}"),
                "rendered"
            ),
            None
        );
        let by_value = fixture()
            .default_yaml("mq: {type: woodpecker}")
            .values("standalone: {messageQueue: woodpecker}");
        assert_eq!(fix("MG502", &fixture(), &by_value, "rendered"), None);
        let by_chart = fixture().default_yaml("mq: {type: woodpecker}");
        assert!(fix("MG502", &fixture(), &by_chart, "rendered").is_some());
        assert_eq!(
            fix(
                "MG502",
                &fixture().default_yaml(QUEUE),
                &fixture(),
                "rendered"
            ),
            None
        );
    }

    #[test]
    fn standby_is_set_where_it_is_switched_off() {
        let off = "env: [{name: ROOTCOORD_ENABLEACTIVESTANDBY, value: 'false'}]";
        let two = Fixture::cluster("2.6.5")
            .chart("5.0.14")
            .replicas(MixCoord, 2);
        let after = two.clone().container(MixCoord, off);
        let text = fix("MG202", &two, &after, "rendered").unwrap();
        assert!(
            text.starts_with(
                "Set ROOTCOORD_ENABLEACTIVESTANDBY to true in mixCoordinator.extraEnv in"
            ),
            "{text}"
        );
    }
}
